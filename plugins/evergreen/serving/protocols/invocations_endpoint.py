"""MLflow's scoring protocol: the bodies that `mlflow models serve` documents for POST /invocations, answered alike.

JSON: dataframe_split, dataframe_records, instances, inputs. Rows without names (`[[…], …]`) hold the features in the
schema's order. CSV: a line of names, then a line a row; an empty field is a missing value. Other than MLflow, and like
the other endpoints here: an absent or unknown feature is refused and named. The body {"predictions": […]} is fixed, so
version and inference ids are in headers.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from evergreen.serving.models.encoder import Encoded, Encoder
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.body import decode
from evergreen.serving.protocols.endpoint import Asked, Headers, Written
from evergreen.serving.protocols.records_endpoint import KEY, encode_columns, encode_records
from evergreen.serving.refusals import Problem, Problems, RequestRefused, refuse, shown, some

LIKE = '{"dataframe_split": {"columns": ["<feature>", …], "data": [[<value or null>, …], …]}}'
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
IDS_TOLD = 100  # inference ids that fit into a header: proxies take about 4 kB of headers
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TYPES = "application/json, text/csv"


class Split(msgspec.Struct):
    """What pandas writes with orient='split'; `index` is read by nobody."""

    columns: list[str]
    data: list[list[Any]]
    index: Any = None


class Invocation(msgspec.Struct, forbid_unknown_fields=True):
    """The body: one of the four forms. `params` are for models that take some; these take none."""

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, list[Any]] | None = None
    params: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(Invocation)
_ENCODER = msgspec.json.Encoder()


class InvocationsEndpoint:
    """POST /invocations and POST /models/{name}/invocations."""

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """The rows. Raises RequestRefused: 415 for a content type that MLflow's server does not take either."""
        encoder = model.encoder
        encoded = _from_csv(body, encoder) if _is_csv(headers) else _from_json(body, encoder)
        return Asked(encoded.matrix, encoded.unseen, headers.get(KEY, b"").decode("latin-1"))

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """The predictions; the inference ids as a header, unless there are too many for one."""
        body = _ENCODER.encode({"predictions": answer.predictions.tolist()})
        ids = answer.inference_ids
        told = ((b"x-inference-ids", ",".join(ids).encode()),) if len(ids) <= IDS_TOLD else ()
        return Written(body, headers=told)

    def refusal(self, refused: RequestRefused) -> bytes:
        """The error, in the two words that MLflow's clients look for."""
        code = "RESOURCE_DOES_NOT_EXIST" if refused.status == 404 else "BAD_REQUEST"
        code = "TEMPORARILY_UNAVAILABLE" if refused.status in (429, 503) else code
        return _ENCODER.encode({"error_code": code, "message": str(refused), "error": str(refused)})


def model_asked(served: Sequence[str], query: Mapping[str, str], headers: Headers) -> str:
    """Which model POST /invocations is about: named by ?model= or x-model, else the only one. Raises RequestRefused."""
    named = query.get("model") or headers.get(b"x-model", b"").decode("latin-1")
    if named:
        return named
    if len(served) == 1:
        return served[0]
    raise refuse(
        400 if served else 404,
        "POST /invocations",
        found=f"no name of a model, and {len(served)} models served",
        allowed=some(sorted(served)) or "none: nothing is released yet",
        do="Say which by ?model=<name> or the header x-model, or ask POST /models/<name>/invocations.",
    )


def _is_csv(headers: Headers) -> bool:
    given = headers.get(b"content-type", b"application/json").decode("latin-1")
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    if kind not in ("application/json", "text/csv"):
        raise _other_type(shown(given), _TYPES)
    charsets = {part.partition("=")[2].strip('"') for part in parameters if part.startswith("charset=")}
    if not charsets <= {"utf-8", "utf8"}:
        raise _other_type(shown(given), "charset utf-8")
    return kind == "text/csv"


def _from_json(body: bytes, encoder: Encoder) -> Encoded:
    asked = decode(body, _DECODER, LIKE)
    given = [form for form in FORMS if getattr(asked, form) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of the forms"
        raise refuse(422, "body", found=found, allowed=f"one of {some(FORMS)}", do=f"Send {LIKE}.")
    if asked.params:
        raise refuse(422, "params", found=shown(asked.params), allowed="none", do="Leave it out: no model takes any.")
    if asked.dataframe_split is not None:
        return _from_rows(asked.dataframe_split.columns, asked.dataframe_split.data, "dataframe_split", encoder)
    if isinstance(asked.inputs, dict):
        return encode_columns(asked.inputs, encoder, Problems())
    (form,) = given
    return _from_list(getattr(asked, form), form, encoder)


def _from_list(rows: list[Any], form: str, encoder: Encoder) -> Encoded:
    """Records, or rows without names: the features in the schema's order."""
    kinds = set(map(type, rows))
    if kinds <= {dict}:
        return encode_records(rows, encoder, Problems())
    if kinds == {list}:
        return _from_rows(list(encoder.names), rows, form, encoder)
    row = next(row for row in rows if type(row) is not type(rows[0]) or type(row) not in (dict, list))
    raise refuse(
        422,
        form,
        found=shown(row),
        allowed="records, or rows of values, and not both",
        do=f"Send {LIKE}.",
    )


def _from_rows(names: list[str], rows: list[list[Any]], form: str, encoder: Encoder) -> Encoded:
    if not rows:
        raise refuse(422, form, found="no row", allowed="at least one", do="Send a row.")
    problems = Problems()
    for name in (name for name, times in Counter(names).items() if times > 1):
        problems.add(Problem, f"column '{name[:60]}'", "it twice", "each once", "Send it once.")
    for row, values in enumerate(rows):
        if len(values) != len(names):
            problems.add(_other_width, row, len(values), names)
    problems.raise_if_any()
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if names else {}
    return encode_columns(columns, encoder, problems)


def _from_csv(body: bytes, encoder: Encoder) -> Encoded:
    """Raises RequestRefused: 400 for what is no CSV in UTF-8."""
    do = "Send what pandas.DataFrame.to_csv(index=False) writes."
    try:
        lines = list(filter(None, csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise refuse(400, "body", found=f"no CSV ({error})", allowed="CSV in UTF-8", do=do) from error
    if not lines:
        raise refuse(400, "body", found="nothing", allowed="CSV that begins with a line of names", do=do)
    names, *rows = lines
    numeric = [feature.name for feature in encoder.features if feature.kind == "number"]
    parsers = [_number if name in numeric else _text for name in names]
    values = [[parse(field) for parse, field in zip(parsers, row, strict=False)] for row in rows]
    return _from_rows(names, [v if len(v) == len(r) else r for v, r in zip(values, rows, strict=True)], "body", encoder)


def _number(field: str) -> float | str | None:
    """A number, none for an empty field; any other text as it is, for the encoder to name."""
    return float(field) if _NUMBER.fullmatch(field) else field or None


def _text(field: str) -> str | None:
    return field or None


def _other_width(row: int, found: int, names: list[str]) -> Problem:
    return Problem(f"row {row}", f"{found} values", f"{len(names)}: {some(names)}", "Send one value a column.")


def _other_type(found: str, allowed: str) -> RequestRefused:
    return refuse(415, "header Content-Type", found=found, allowed=allowed, do="Send the body in one of these forms.")
