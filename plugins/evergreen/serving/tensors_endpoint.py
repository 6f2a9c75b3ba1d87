"""The Open Inference Protocol, version 2, with JSON tensors: one input tensor a feature."""

from __future__ import annotations

from typing import Any

import msgspec

from evergreen.serving.answer import Answer, answer
from evergreen.serving.body import decode
from evergreen.serving.encoder import Encoder
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, shown, some

LIKE = '{"inputs": [{"name": "<feature>", "shape": [<rows>], "datatype": "FP64", "data": […]}, …]}'
OUTPUT = "prediction"

_FLOATS = ("FP16", "FP32", "FP64")
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_VALUES: dict[str, frozenset[type]] = {
    **dict.fromkeys(_FLOATS, frozenset({int, float, type(None)})),
    **dict.fromkeys(_INTEGERS, frozenset({int, type(None)})),
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
}


class Tensor(msgspec.Struct):
    """One input tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class RequestedOutput(msgspec.Struct):
    """An output that the caller asks for by name."""

    name: str


class InferRequest(msgspec.Struct):
    """The body of POST /v2/models/{name}/infer; parameters are read by nobody."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None


_DECODER = msgspec.json.Decoder(InferRequest)
_ENCODER = msgspec.json.Encoder()


def infer(model: LoadedModel, body: bytes) -> tuple[Answer, bytes]:
    """Answer a body. Raises RequestRefused."""
    request = decode(body, _DECODER, LIKE)
    problems = Problems()
    _check_outputs(request, problems)
    rows = _rows(request)
    columns = _columns(request, model.encoder, rows, problems)
    answered = answer(model, model.encoder.encode(columns, rows, problems))
    return answered, _ENCODER.encode(_as_json(request, answered))


def metadata(model: LoadedModel) -> dict[str, Any]:
    """The body of GET /v2/models/{name}."""
    return {
        "name": model.name,
        "versions": [str(model.release.version)],
        "platform": "evergreen_xgboost",
        "inputs": [
            {"name": f.name, "datatype": "BYTES" if f.kind == "category" else "FP32", "shape": [-1]}
            for f in model.schema.features
        ],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": _output_shape(model)}],
    }


def _output_shape(model: LoadedModel) -> list[int]:
    return [-1, model.schema.classes] if model.schema.classes else [-1]


def _check_outputs(request: InferRequest, problems: Problems) -> None:
    for output in request.outputs or []:
        if output.name != OUTPUT:
            found = shown(output.name)
            problems.add(lambda found=found: Problem("outputs", found, f"'{OUTPUT}'", "Ask for that output."))


def _rows(request: InferRequest) -> int:
    """The number of rows: the first dimension of the first tensor."""
    first = request.inputs[0] if request.inputs else None
    rows = first.shape[0] if first and first.shape else 0
    if rows < 1 or (first and rows > len(first.data)):
        raise refuse(
            422,
            f"input '{first.name[:60]}'" if first else "inputs",
            found=f"shape {first.shape} with {len(first.data)} values" if first else "no tensor",
            allowed="one tensor a feature, of shape [rows] or [rows, 1], with at least one row",
            do="Send one value a row in each tensor.",
        )
    return rows


def _columns(request: InferRequest, encoder: Encoder, rows: int, problems: Problems) -> dict[str, list[Any]]:
    """One column a feature. What is wrong is told in `problems`, and reads as missing."""
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        if tensor.name not in encoder.names:
            problems.add(lambda tensor=tensor: _unknown(tensor.name, encoder.names))
        elif tensor.name in columns:
            problems.add(lambda tensor=tensor: _twice(tensor.name))
        else:
            columns[tensor.name] = _values(tensor, rows, problems)
    for name in encoder.names:
        if name not in columns:
            problems.add(lambda name=name: _absent(name))
            columns[name] = [None] * rows
    return columns


def _values(tensor: Tensor, rows: int, problems: Problems) -> list[Any]:
    """The tensor's values, flat; booleans as 1 and 0, because the caller declared them."""
    data = tensor.data
    if tensor.shape == [rows, 1] and all(type(value) is list and len(value) == 1 for value in data):
        data = [value[0] for value in data]
    problem = _shape_problem(tensor, len(data), rows) or _type_problem(tensor, data)
    if problem:
        problems.add(lambda: problem)
        return [None] * rows
    return [None if value is None else int(value) for value in data] if tensor.datatype == "BOOL" else data


def _shape_problem(tensor: Tensor, values: int, rows: int) -> Problem | None:
    if tensor.shape in ([rows], [rows, 1]) and values == rows:
        return None
    return Problem(
        f"input '{tensor.name}'",
        f"shape {tensor.shape} with {values} values",
        f"shape [{rows}] or [{rows}, 1] with {rows} values, as the first tensor",
        "Send one value a row in each tensor.",
    )


def _type_problem(tensor: Tensor, data: list[Any]) -> Problem | None:
    kinds = _VALUES.get(tensor.datatype)
    if kinds is None:
        found = f"datatype {shown(tensor.datatype)}"
        return Problem(f"input '{tensor.name}'", found, some(tuple(_VALUES)), "Use one of these datatypes.")
    if set(map(type, data)) <= kinds:
        return None
    row, value = next((row, value) for row, value in enumerate(data) if type(value) not in kinds)
    return Problem(
        f"row {row}, feature '{tensor.name}'",
        shown(value),
        f"values of datatype {tensor.datatype}, or null",
        "Declare the datatype that the values have.",
    )


def _unknown(name: str, names: tuple[str, ...]) -> Problem:
    do = f"{did_you_mean(name, names)}Leave out what the model does not use."
    return Problem(f"input '{name[:60]}'", "no such feature", some(names), do)


def _twice(name: str) -> Problem:
    return Problem(f"input '{name}'", "it twice", "one tensor a feature", "Send it once.")


def _absent(name: str) -> Problem:
    return Problem(f"feature '{name}'", "no such tensor", "one tensor a feature", "Send null for missing values.")


def _as_json(request: InferRequest, answered: Answer) -> dict[str, Any]:
    """The answer. The protocol's parameters hold no lists: ids are joined by commas, unseen categories by '; '."""
    parameters = {"inference_ids": ",".join(answered.inference_ids)}
    if answered.unseen:
        told = (f"row {u.row}, {u.feature}: {u.value}" for u in answered.unseen)
        parameters["unseen_categories"] = "; ".join(told)
    output = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": list(answered.predictions.shape),
        "data": answered.predictions.ravel().tolist(),
    }
    return {
        "model_name": answered.model.name,
        "model_version": str(answered.model.release.version),
        **({"id": request.id} if request.id is not None else {}),
        "parameters": parameters,
        "outputs": [output],
    }
