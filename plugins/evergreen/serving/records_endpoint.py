"""The plain endpoint: records in, predictions out."""

from __future__ import annotations

from typing import Any

import msgspec

from evergreen.serving.answer import Answer, answer
from evergreen.serving.body import decode
from evergreen.serving.encoder import Encoder
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, some

LIKE = '{"records": [{"<feature>": <value or null>, …}, …]}'


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /models/{name}/predict."""

    records: list[dict[str, Any]]


class PredictAnswer(msgspec.Struct, omit_defaults=True):
    """Its answer. `unseen_categories` is left out where there are none."""

    model: str
    version: int
    predictions: list[Any]
    inference_ids: list[str]
    unseen_categories: list[dict[str, Any]] = []


_DECODER = msgspec.json.Decoder(PredictRequest)
_ENCODER = msgspec.json.Encoder()


def predict(model: LoadedModel, body: bytes) -> tuple[Answer, bytes]:
    """Answer a body. Raises RequestRefused."""
    records = decode(body, _DECODER, LIKE).records
    if not records:
        raise refuse(422, "records", found="no record", allowed="at least one", do="Send a record.")
    problems = Problems()
    check_names(records, model.encoder, problems)
    columns = {name: [record.get(name) for record in records] for name in model.encoder.names}
    answered = answer(model, model.encoder.encode(columns, len(records), problems))
    return answered, _ENCODER.encode(_as_json(answered))


def check_names(records: list[dict[str, Any]], encoder: Encoder, problems: Problems) -> None:
    """Every record has every feature and nothing else."""
    known = set(encoder.names)
    for row, record in enumerate(records):
        if record.keys() == known:
            continue
        for name in encoder.names:
            if name not in record:
                problems.add(lambda row=row, name=name: _absent(row, name))
        for name in record.keys() - known:
            problems.add(lambda row=row, name=name: _unknown(row, name, encoder.names))


def _absent(row: int, name: str) -> Problem:
    do = "Send null where the value is not known."
    return Problem(f"row {row}, feature '{name}'", "no such key", "a value or null", do)


def _unknown(row: int, name: str, names: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, names)}Leave out what the model does not use."
    return Problem(f"row {row}, key '{name[:60]}'", "no such feature", some(names), do)


def _as_json(answered: Answer) -> PredictAnswer:
    return PredictAnswer(
        model=answered.model.name,
        version=answered.model.release.version,
        predictions=answered.predictions.tolist(),
        inference_ids=answered.inference_ids,
        unseen_categories=[{"row": u.row, "feature": u.feature, "value": u.value} for u in answered.unseen],
    )
