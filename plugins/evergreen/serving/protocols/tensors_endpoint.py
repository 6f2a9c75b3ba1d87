"""The Open Inference Protocol, version 2, over REST: one input tensor a feature, or one of all features.

Tensors are JSON, or binary behind the JSON (serving.binary_tensors). The classification and shared-memory extensions of
other servers are refused in words.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.binary_tensors import SIZE, split
from evergreen.serving.protocols.body import decode
from evergreen.serving.protocols.endpoint import Asked, Headers, Written
from evergreen.serving.protocols.records_endpoint import KEY
from evergreen.serving.protocols.tensor_columns import Tensor, encode
from evergreen.serving.refusals import Problem, Problems, RequestRefused, refuse, shown

LIKE = '{"inputs": [{"name": "<feature>", "shape": [<rows>], "datatype": "FP64", "data": […]}, …]}'
OUTPUT = "prediction"
EXTENSIONS = ("binary_tensor_data",)
_NOT_DONE = ("classification", "shared_memory_region")


class RequestedOutput(msgspec.Struct):
    """An output that the caller asks for by name."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """The body of POST /v2/models/{name}/infer. Parameters that the protocol does not name are read by nobody."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


class Echo(msgspec.Struct):
    """What of a request comes back: its id, and the form that it wants the output in."""

    id: str | None
    is_binary: bool


_DECODER = msgspec.json.Decoder(InferRequest)
_ENCODER = msgspec.json.Encoder()


class TensorsEndpoint:
    """POST /v2/models/{name}/infer, or /v2/models/{name}/versions/{version}/infer with the version that it names."""

    def __init__(self, version: str = "") -> None:
        self._version = version

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """The rows. Raises RequestRefused, naming all that is wrong; 400 for bytes that are no request at all."""
        check_version(model.name, model.release.version, self._version)
        text, raw = split(body, headers)
        request = decode(text, _DECODER, LIKE)
        problems = Problems()
        is_binary = _wants_binary(request, problems)
        encoded = encode(request.inputs, raw, model.encoder, problems)
        key = headers.get(KEY, b"").decode("latin-1")
        return Asked(encoded.matrix, encoded.unseen, key, Echo(request.id, is_binary))

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """The answer: JSON, with the output's bytes behind it where the request wants that."""
        echo: Echo = asked.echo
        if not echo.is_binary:
            return Written(_ENCODER.encode(_as_json(echo, answer, {"data": answer.predictions.ravel().tolist()})))
        raw = np.ascontiguousarray(answer.predictions, "<f4").tobytes()
        text = _ENCODER.encode(_as_json(echo, answer, {"parameters": {SIZE: len(raw)}}))
        told = (b"inference-header-content-length", b"%d" % len(text))
        return Written(text + raw, b"application/octet-stream", (told,))

    def refusal(self, refused: RequestRefused) -> bytes:
        """The error as the protocol has it."""
        return _ENCODER.encode({"error": str(refused)})


def check_version(model: str, answering: int, version: str) -> None:
    """Raises RequestRefused (404) for another version than the one that answers; none named is any."""
    if version not in ("", str(answering)):
        raise refuse(
            404,
            f"version '{version[:20]}' of model '{model}'",
            found="it does not answer",
            allowed=f"version {answering}",
            do="Name that version, or leave /versions/… out of the path to get the one that is released.",
        )


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


def server_metadata(version: str) -> dict[str, Any]:
    """The body of GET /v2."""
    return {"name": "evergreen", "version": version, "extensions": list(EXTENSIONS)}


def _output_shape(model: LoadedModel) -> list[int]:
    return [-1, model.schema.classes] if model.schema.classes else [-1]


def _wants_binary(request: InferRequest, problems: Problems) -> bool:
    """What the output says, else what the request says for all outputs, else JSON."""
    wanted = _flag(request.parameters, "binary_data_output", "parameters", problems)
    for output in request.outputs or []:
        if output.name != OUTPUT:
            found = shown(output.name)
            problems.add(Problem, "outputs", found, f"'{OUTPUT}'", "Ask for that output.")
        for name in _NOT_DONE:
            if name in (output.parameters or {}):
                problems.add(_not_done, name)
        said = _flag(output.parameters, "binary_data", f"output '{output.name[:60]}'", problems)
        wanted = wanted if said is None else said
    return bool(wanted)


def _flag(parameters: dict[str, Any] | None, name: str, where: str, problems: Problems) -> bool | None:
    value = (parameters or {}).get(name)
    if value is None or type(value) is bool:
        return value
    problems.add(Problem, f"{where}, {name}", shown(value), "true or false", "Send a boolean.")
    return None


def _not_done(name: str) -> Problem:
    return Problem(f"outputs, parameter '{name}'", "it", f"the extensions {', '.join(EXTENSIONS)}", "Leave it out.")


def _as_json(echo: Echo, answer: Answer, values: dict[str, Any]) -> dict[str, Any]:
    """The answer. The protocol's parameters hold no lists: ids are joined by commas, unseen categories by '; '."""
    parameters = {"inference_ids": ",".join(answer.inference_ids)}
    if answer.unseen:
        told = (f"row {u.row}, {u.feature}: {u.value}" for u in answer.unseen)
        parameters["unseen_categories"] = "; ".join(told)
    output = {"name": OUTPUT, "datatype": "FP32", "shape": list(answer.predictions.shape), **values}
    return {
        "model_name": answer.model.name,
        "model_version": str(answer.model.release.version),
        **({"id": echo.id} if echo.id is not None else {}),
        "parameters": parameters,
        "outputs": [output],
    }
