"""Arrow IPC streams on POST /models/{name}/predict, for large batches: a column a feature, by its name.

Imported with the first such request: no other needs arro3. Nulls are missing values, and so are NaNs. Errors are the
JSON of the records endpoint.
"""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import Any

import msgspec
import numpy as np
from arro3.core import Array, DataType, Field, Schema, Table, fixed_size_list_array
from arro3.io import write_ipc_stream

from evergreen.serving.models.encoder import Encoded, Encoder, FeatureSchema
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.arrow_stream import Stream
from evergreen.serving.protocols.arrow_types import Field as Column
from evergreen.serving.protocols.endpoint import Asked, Headers, Written
from evergreen.serving.protocols.predict_endpoint import ARROW
from evergreen.serving.protocols.records_endpoint import KEY
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, some

_NUMERIC = "a column of floats, integers or booleans, nulls allowed"
_TEXTUAL = "a column of strings, dictionary-encoded or not, nulls allowed"


def read(model: LoadedModel, body: bytes, headers: Headers) -> Asked:
    """The rows. Raises RequestRefused, naming all columns that are wrong; 400 for what is no stream."""
    encoded = _encode(body, model.encoder)
    return Asked(encoded.matrix, encoded.unseen, headers.get(KEY, b"").decode("latin-1"))


def write(answer: Answer) -> Written:
    """Columns `prediction` and `inference_id`; the schema's metadata says model and version, and unseen categories."""
    predictions = np.ascontiguousarray(answer.predictions, np.float32)
    values: Any = Array.from_numpy(predictions.ravel())
    if predictions.ndim == 2:
        values = fixed_size_list_array(values, predictions.shape[1])
    ids = Array(answer.inference_ids, DataType.string())
    told = {"model": answer.model.name, "version": str(answer.model.release.version)}
    if answer.unseen:
        unseen = [{"row": u.row, "feature": u.feature, "value": u.value} for u in answer.unseen]
        told["unseen_categories"] = msgspec.json.encode(unseen).decode()
    fields = [Field("prediction", values.type), Field("inference_id", ids.type)]
    stream = BytesIO()
    write_ipc_stream(Table.from_arrays([values, ids], schema=Schema(fields, metadata=told)), stream, compression=None)
    return Written(stream.getvalue(), ARROW.encode())


def _encode(body: bytes, encoder: Encoder) -> Encoded:
    try:
        stream = Stream(body)
        _check(stream.fields, encoder)
        rows, columns = stream.columns()
    except ValueError as error:
        raise refuse(
            400,
            "body",
            found=f"no Arrow stream ({error})" if body else "nothing",
            allowed="an Arrow IPC stream without compression",
            do="Send what pyarrow.ipc.new_stream or polars' write_ipc_stream writes by default.",
        ) from error
    if not rows:
        raise refuse(422, "body", found="no row", allowed="at least one", do="Send a row.")
    by_name = {field.name: column for field, column in zip(stream.fields, columns, strict=True)}
    nulls = {field.name for field in stream.fields if field.kind == "Null"}
    found = {name: [None] * rows if name in nulls else by_name[name] for name in encoder.names}
    return encoder.encode(found, rows, Problems())


def _check(fields: list[Column], encoder: Encoder) -> None:
    """Every feature has a column of its own, of a type that fits. Raises RequestRefused, naming all that have not."""
    problems, by_name = Problems(), {field.name: field for field in fields}
    for name, times in Counter(field.name for field in fields).items():
        if name not in encoder.names:
            problems.add(_unknown, name, encoder.names)
        elif times > 1:
            problems.add(Problem, f"column '{name}'", "it twice", "each once", "Send it once.")
    for feature in encoder.features:
        _check_type(feature, by_name.get(feature.name), problems)
    problems.raise_if_any()


def _check_type(feature: FeatureSchema, field: Column | None, problems: Problems) -> None:
    where, is_number = f"feature '{feature.name}'", feature.kind == "number"
    if field is None:
        do = "Send a column of nulls where no value is known."
        problems.add(Problem, where, "no such column", "one column a feature", do)
    elif not (field.is_numeric if is_number else field.is_textual):
        found = f"a {'dictionary' if field.dictionary is not None else 'column'} of type {field.kind}"
        allowed = _NUMERIC if is_number else _TEXTUAL
        problems.add(Problem, where, found, allowed, "Cast the column before it is sent.")


def _unknown(name: str, names: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, names)}Leave out what the model does not use."
    return Problem(f"column '{name[:60]}'", "no such feature", some(names), do)
