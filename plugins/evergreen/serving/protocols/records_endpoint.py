"""The plain endpoint: records or columns in, predictions out."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from evergreen.serving.models.encoder import Encoded, Encoder
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.body import decode
from evergreen.serving.protocols.endpoint import Asked, Headers, Written
from evergreen.serving.refusals import Problem, Problems, RequestRefused, did_you_mean, refuse, some

LIKE = '{"records": [{"<feature>": <value or null>, …}, …]} or {"columns": {"<feature>": [<value or null>, …], …}}'
KEY = b"x-request-key"


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /models/{name}/predict: one of the two."""

    records: list[dict[str, Any]] | UnsetType = UNSET
    columns: dict[str, list[Any]] | UnsetType = UNSET


class PredictAnswer(msgspec.Struct, omit_defaults=True):
    """Its answer. `unseen_categories` is left out where there are none."""

    model: str
    version: int
    predictions: list[Any]
    inference_ids: list[str]
    unseen_categories: list[dict[str, Any]] = []


_DECODER = msgspec.json.Decoder(PredictRequest)
_ENCODER = msgspec.json.Encoder()


class RecordsEndpoint:
    """POST /models/{name}/predict."""

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """The rows. Raises RequestRefused, naming all that is wrong."""
        key = headers.get(KEY, b"").decode("latin-1")
        matrix = model.rows.read(body)
        if matrix is not None:
            return Asked(matrix, (), key)
        encoded = read_strictly(model.encoder, body)
        return Asked(encoded.matrix, encoded.unseen, key)

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """The answer as JSON."""
        return Written(_ENCODER.encode(_as_json(answer)))

    def refusal(self, refused: RequestRefused) -> bytes:
        """The error, with every problem on its own."""
        return _ENCODER.encode({"error": refused.as_json()})


def read_strictly(encoder: Encoder, body: bytes) -> Encoded:
    """Any body, by the rules and with their texts: the slow path. Raises RequestRefused."""
    asked = decode(body, _DECODER, LIKE)
    problems = Problems()
    if asked.columns is UNSET:
        if asked.records is UNSET:
            raise _wrong_form("Object missing required field `records`, or `columns`")
        return encode_records(asked.records, encoder, problems)
    if asked.records is not UNSET:
        raise _wrong_form("both `records` and `columns`")
    return encode_columns(asked.columns, encoder, problems)


def encode_records(records: list[dict[str, Any]], encoder: Encoder, problems: Problems) -> Encoded:
    """Every record has every feature and nothing else. Raises RequestRefused."""
    if not records:
        raise refuse(422, "records", found="no record", allowed="at least one", do="Send a record.")
    check_names(records, encoder, problems)
    columns = {name: [record.get(name) for record in records] for name in encoder.names}
    return encoder.encode(columns, len(records), problems)


def encode_columns(columns: dict[str, list[Any]], encoder: Encoder, problems: Problems) -> Encoded:
    """Every feature has a column of the same length, and nothing else has."""
    rows = max(map(len, columns.values()), default=0)
    for name in columns.keys() - set(encoder.names):
        problems.add(_unknown, f"column '{name[:60]}'", name, encoder.names)
    found = {name: columns.get(name) for name in encoder.names}
    for name, values in found.items():
        if values is None or len(values) != rows:
            problems.add(_other_length, name, values, rows)
            found[name] = [None] * rows
    if not rows and all(values == [] for values in columns.values()):
        raise refuse(422, "columns", found="no row", allowed="at least one", do="Send a value in each column.")
    return encoder.encode(found, rows, problems)  # type: ignore[arg-type]


def check_names(records: list[dict[str, Any]], encoder: Encoder, problems: Problems) -> None:
    """Every record has every feature and nothing else."""
    known = set(encoder.names)
    for row, record in enumerate(records):
        if record.keys() == known:
            continue
        for name in encoder.names:
            if name not in record:
                problems.add(_absent, row, name)
        for name in record.keys() - known:
            problems.add(_unknown, f"row {row}, key '{name[:60]}'", name, encoder.names)


def _absent(row: int, name: str) -> Problem:
    do = "Send null where the value is not known."
    return Problem(f"row {row}, feature '{name}'", "no such key", "a value or null", do)


def _other_length(name: str, values: list[Any] | None, rows: int) -> Problem:
    found = "no such column" if values is None else f"{len(values)} values"
    do = "Send one value a row in each column, null where it is not known."
    return Problem(f"feature '{name}'", found, f"a column of {rows} values, as the longest", do)


def _unknown(where: str, name: str, names: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, names)}Leave out what the model does not use."
    return Problem(where, "no such feature", some(names), do)


def _wrong_form(found: str) -> RequestRefused:
    return refuse(422, "body", found=found, allowed=LIKE, do="Correct the form of the body.")


def _as_json(answered: Answer) -> PredictAnswer:
    return PredictAnswer(
        answered.model.name,
        answered.model.release.version,
        answered.predictions.tolist(),
        answered.inference_ids,
        [{"row": u.row, "feature": u.feature, "value": u.value} for u in answered.unseen],
    )
