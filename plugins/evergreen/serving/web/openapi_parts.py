"""Parts of the OpenAPI description that are the same for every model: responses, and schemas of all protocols."""

from __future__ import annotations

from typing import Any

from evergreen.serving.log.user_metrics import MOST
from evergreen.serving.protocols.tensor_columns import DATATYPES
from evergreen.serving.protocols.tensors_endpoint import OUTPUT

_STATUSES = {
    400: "No request: broken JSON, or bytes that are none of the protocol's",
    401: "No valid token, where tokens are asked for",
    403: "Not from here: a server without tokens takes ground truth and metrics on loopback alone",
    404: "No such model or version here; the text names those served",
    405: "Another method",
    408: "The request came too slowly",
    413: "Too many bytes or rows; the text says how many are allowed",
    415: "Another content type; the text names those allowed",
    422: "Features that are absent, unknown or mistyped, each named",
    429: "Too many requests under way; ask again after Retry-After",
    500: "A fault of the server's",
    503: "The model is released and cannot be answered now; the text says why",
    504: "It took too long",
}

Json = dict[str, Any]


def get(summary: str, answers: Json, statuses: tuple[int, ...] = (401, 405, 500), *, open_: bool = False) -> Json:
    """A GET operation; what it can answer beside `answers` are the statuses of errors."""
    errors = {str(status): _response("Plain", status) for status in statuses if str(status) not in answers}
    return {"get": {"summary": summary, "responses": {**answers, **errors}, **({"security": []} if open_ else {})}}


def post(summary: str, body: Json, answers: Json, kind: str, statuses: tuple[int, ...]) -> Json:
    """A POST operation; `kind` is the form of its errors (Plain, Detailed, Mlflow)."""
    errors = {str(status): _response(kind, status) for status in sorted(statuses)}
    return {"summary": summary, "requestBody": {"required": True, "content": body}, "responses": {**answers, **errors}}


def as_json(description: str, schema: Json, headers: Json | None = None) -> Json:
    """A response of JSON."""
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def _error(kind: str, status: int) -> Json:
    headers = {429: {"retry-after": header("Seconds")}, 401: {"www-authenticate": header("Bearer")}}.get(status)
    return as_json(_STATUSES[status], ref(f"{kind}Error"), headers)


def header(description: str) -> Json:
    """A header of text."""
    return {"description": description, "schema": {"type": "string"}}


def ref(name: str) -> Json:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _response(kind: str, status: int) -> Json:
    return {"$ref": f"#/components/responses/{kind}{status}"}


def record_of(**properties: Json) -> Json:
    """An object with these properties, all of them, and no others."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


_TEXT: Json = {"type": "string"}
_PROBLEM = record_of(where=_TEXT, found=_TEXT, allowed=_TEXT, do=_TEXT)
_DETAILS = record_of(message=_TEXT, problems={"type": "array", "items": _PROBLEM}, total={"type": "integer"})
_TENSOR: Json = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        "datatype": {"enum": list(DATATYPES)},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_OUTPUTS: Json = {"type": "array", "items": record_of(name={"const": OUTPUT}) | {"additionalProperties": True}}
SCHEMAS: Json = {
    "PlainError": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "DetailedError": record_of(error={"anyOf": [_DETAILS, _TEXT]}),
    "MlflowError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error_code": _TEXT, "message": _TEXT, "error": _TEXT},
    },
    "Ready": record_of(ready={"type": "boolean"}, reasons={"type": "array", "items": _TEXT}),
    "Predictions": {
        "type": "object",
        "required": ["model", "version", "predictions", "inference_ids"],
        "properties": {
            "model": _TEXT,
            "version": {"type": "integer"},
            "predictions": {"type": "array"},
            "inference_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
            "unseen_categories": {"type": "array", "items": {"type": "object"}},
        },
    },
    "Metadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {"name": _TEXT, "versions": {"type": "array", "items": _TEXT}, "platform": _TEXT},
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
            "outputs": _OUTPUTS,
        },
    },
    "InferAnswer": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": _TENSOR},
        },
    },
    "GroundTruth": record_of(
        records={
            "type": "array",
            "minItems": 1,
            "items": {
                **record_of(
                    inference_id={"type": "string", "format": "uuid"},
                    label={"type": ["number", "string"]},
                    at={"type": "string", "format": "date-time"},
                ),
                "required": ["inference_id", "label"],
            },
        }
    ),
    "UserMetrics": record_of(
        metrics={
            "type": "array",
            "minItems": 1,
            "maxItems": MOST,
            "items": {
                **record_of(
                    name={"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}$"},
                    value={"type": "number"},
                    time={"type": "string", "format": "date-time"},
                ),
                "required": ["name", "value"],
            },
        }
    ),
}
ANSWERED = {
    "x-model-version": header("The version that answered"),
    "x-request-id": header("The caller's, or a new one"),
}
_ERRORS = ("Plain", "Detailed", "Mlflow")
RESPONSES = {f"{kind}{status}": _error(kind, status) for kind in _ERRORS for status in _STATUSES}
