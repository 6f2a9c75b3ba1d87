"""The OpenAPI description of what this worker serves: each model's paths with its own features, and examples.

Kept by hand and held to the server by schemathesis (tests/load/test_real_clients.py): every status that an operation
can answer is listed. Examples are made up from the schema: golden rows are real people's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evergreen.serving.encoder import FeatureSchema
from evergreen.serving.invocations_endpoint import FORMS, IDS_TOLD
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.predict_endpoint import ARROW
from evergreen.serving.tensor_columns import DATATYPES
from evergreen.serving.tensors_endpoint import OUTPUT, metadata

_FLOAT32 = 3.4028235677973362e38  # the largest number that a feature may have: more is infinite
_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_STATUSES = {
    400: "No request: broken JSON, or bytes that are none of the protocol's",
    401: "No valid token, where tokens are asked for",
    403: "Not from here: a server without tokens takes ground truth on loopback alone",
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
_ASKED = (400, 401, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)
_LOOKED_UP = (400, 401, 404, 405, 429, 500, 503)

Json = dict[str, Any]


def document(models: Iterable[LoadedModel], version: str) -> Json:
    """The document, for these models. `version` is the server's."""
    served = sorted(models, key=lambda model: model.name)
    paths: Json = {**_server_paths(served)}
    for model in served:
        paths |= _model_paths(model)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Evergreen serving", "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, **{f"{model.name}.record": _record(model) for model in served}},
            "responses": {f"{kind}{status}": _error(kind, status) for kind in _ERRORS for status in _STATUSES},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


_ABOUT = (
    "Ask models for predictions. Every answer names the version that made it, and an inference id a row. Where tokens "
    "are asked for, send `Authorization: Bearer <token>`."
)


# ------------------------------------------------------------ paths


def _server_paths(served: list[LoadedModel]) -> Json:
    ready: Json = {"200": _json("Ready", _ref("Ready")), "503": _json("Not ready, and why", _ref("Ready"))}
    paths: Json = {
        "/": _get("What is served, and where to ask", {"200": _json("The list", {"type": "object"})}),
        "/v2": _get("The server's metadata", {"200": _json("Name, version, extensions", {"type": "object"})}),
        "/v2/health/live": _get(
            "Whether the process answers", {"200": _json("It does", {"type": "object"})}, open_=True
        ),
        "/v2/health/ready": _get("Whether every released model is loaded", ready, open_=True),
    }
    if served:
        name = {"name": "model", "in": "query", "schema": {"enum": [model.name for model in served]}}
        operation = _invocations(served[0])
        operation["parameters"] = [{**name, "required": len(served) > 1, "example": served[0].name}]
        paths["/invocations"] = {"post": operation}
    return paths


def _model_paths(model: LoadedModel) -> Json:
    plain, oip = f"/models/{model.name}", f"/v2/models/{model.name}"
    versioned, looked_up = f"{oip}/versions/{model.version}", {"200": _json("Metadata", _ref("Metadata"))}
    ready = {"200": _json("Ready", {"type": "object"}), "503": _json("Not ready, and why", {"type": "object"})}
    return {
        f"{plain}/predict": {"post": _predict(model)},
        f"{plain}/invocations": {"post": _invocations(model)},
        f"{plain}/ground-truth": {"post": _ground_truth(model)},
        **{base: _get("Metadata, Open Inference Protocol", looked_up, _LOOKED_UP) for base in (oip, versioned)},
        **{f"{base}/ready": _get("Whether it answers as released", ready, _LOOKED_UP) for base in (oip, versioned)},
        **{f"{base}/infer": {"post": _infer(model)} for base in (oip, versioned)},
    }


def _predict(model: LoadedModel) -> Json:
    example = {"records": [_example(model)]}
    answer = _json("Predictions", _ref("Predictions"), _ANSWERED)
    answer["content"][ARROW] = {"schema": {}}
    body = {"application/json": {"schema": _predict_body(model), "example": example}, ARROW: {"schema": {}}}
    return _post(f"Ask {model.name}: records or columns", body, {"200": answer}, "Detailed", _ASKED)


def _predict_body(model: LoadedModel) -> Json:
    records = {"type": "array", "minItems": 1, "items": _ref(f"{model.name}.record")}
    values: Json = _record(model)["properties"]
    columns = {name: {"type": "array", "minItems": 1, "items": value} for name, value in values.items()}
    return {"oneOf": [_object(records=records), _object(columns=_object(**columns))]}


def _invocations(model: LoadedModel) -> Json:
    row = _example(model)
    split = {"columns": list(row), "data": [list(row.values())]}
    form = {"type": ["array", "object"]}
    body = {
        "application/json": {
            "schema": {"type": "object", "properties": {**dict.fromkeys(FORMS, form), "params": {"type": "object"}}},
            "example": {"dataframe_split": split},
        },
        "text/csv": {"schema": {"type": "string"}, "example": _csv(row)},
    }
    headers = {**_ANSWERED, "x-inference-ids": _header(f"A UUID a row, by commas; left out over {IDS_TOLD} rows")}
    schema = _object(predictions={"type": "array"})
    answer = {"200": _json("Predictions", schema, headers)}
    return _post(f"Ask {model.name} as MLflow's scoring server is asked", body, answer, "Mlflow", _ASKED)


def _infer(model: LoadedModel) -> Json:
    inputs = [
        {"name": tensor["name"], "shape": [1], "datatype": tensor["datatype"], "data": [value]}
        for tensor, value in zip(metadata(model)["inputs"], _example(model).values(), strict=True)
    ]
    body = {
        "application/json": {"schema": _ref("InferRequest"), "example": {"inputs": inputs}},
        "application/octet-stream": {"schema": {}},
    }
    answer = _json("Outputs", _ref("InferAnswer"), _ANSWERED)
    answer["content"]["application/octet-stream"] = {"schema": {}}
    length = {"name": "Inference-Header-Content-Length", "in": "header", "schema": {"type": "integer", "minimum": 1}}
    about = "Bytes of JSON before binary tensors; left out where there are none"
    operation = _post(f"Ask {model.name}: Open Inference Protocol", body, {"200": answer}, "Plain", _ASKED)
    return {**operation, "parameters": [{**length, "description": about}]}


def _ground_truth(model: LoadedModel) -> Json:
    record = {"inference_id": _ID, "label": 1.0, "at": "2013-06-01T12:00:00Z"}
    body = {"application/json": {"schema": _ref("GroundTruth"), "example": {"records": [record]}}}
    accepted = _json("Kept, for later", _object(accepted={"type": "integer"}))
    summary = f"Tell what turned out to be true of answers of {model.name}"
    return _post(summary, body, {"202": accepted}, "Detailed", (*_ASKED, 403))


# ------------------------------------------------------------ parts of operations


def _get(summary: str, answers: Json, statuses: tuple[int, ...] = (401, 405, 500), *, open_: bool = False) -> Json:
    errors = {str(status): _response("Plain", status) for status in statuses if str(status) not in answers}
    return {"get": {"summary": summary, "responses": {**answers, **errors}, **({"security": []} if open_ else {})}}


def _post(summary: str, body: Json, answers: Json, kind: str, statuses: tuple[int, ...]) -> Json:
    errors = {str(status): _response(kind, status) for status in sorted(statuses)}
    return {"summary": summary, "requestBody": {"required": True, "content": body}, "responses": {**answers, **errors}}


def _json(description: str, schema: Json, headers: Json | None = None) -> Json:
    content = {"application/json": {"schema": schema}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def _error(kind: str, status: int) -> Json:
    headers = {429: {"retry-after": _header("Seconds")}, 401: {"www-authenticate": _header("Bearer")}}.get(status)
    return _json(_STATUSES[status], _ref(f"{kind}Error"), headers)


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _response(kind: str, status: int) -> Json:
    return {"$ref": f"#/components/responses/{kind}{status}"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


# ------------------------------------------------------------ a model's features


def _record(model: LoadedModel) -> Json:
    refuses = model.schema.unknown_category == "refuse"
    return _object(**{feature.name: _feature(feature, refuses) for feature in model.schema.features})


def _feature(feature: FeatureSchema, refuses: bool) -> Json:
    if feature.kind == "number":
        return {"type": ["number", "null"], "minimum": -_FLOAT32, "maximum": _FLOAT32}
    categories = feature.categories or []
    if refuses:
        return {"enum": [*categories, None]}
    return {"type": ["string", "null"], "examples": categories[:20], "description": "Others are answered as missing"}


def _example(model: LoadedModel) -> Json:
    """A record that the model answers, made up."""
    return {f.name: (f.categories or [None])[0] if f.kind == "category" else 1.0 for f in model.schema.features}


def _csv(row: Mapping[str, Any]) -> str:
    return "\n".join(",".join(f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in line) for line in _lines(row))


def _lines(row: Mapping[str, Any]) -> list[list[Any]]:
    return [list(row), list(row.values())]


# ------------------------------------------------------------ schemas that all models share

_TEXT: Json = {"type": "string"}
_PROBLEM = _object(where=_TEXT, found=_TEXT, allowed=_TEXT, do=_TEXT)
_DETAILS = _object(message=_TEXT, problems={"type": "array", "items": _PROBLEM}, total={"type": "integer"})
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
_OUTPUTS: Json = {"type": "array", "items": _object(name={"const": OUTPUT}) | {"additionalProperties": True}}
_SCHEMAS: Json = {
    "PlainError": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "DetailedError": _object(error={"anyOf": [_DETAILS, _TEXT]}),
    "MlflowError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error_code": _TEXT, "message": _TEXT, "error": _TEXT},
    },
    "Ready": _object(ready={"type": "boolean"}, reasons={"type": "array", "items": _TEXT}),
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
    "GroundTruth": _object(
        records={
            "type": "array",
            "minItems": 1,
            "items": {
                **_object(
                    inference_id={"type": "string", "format": "uuid"},
                    label={"type": ["number", "string"]},
                    at={"type": "string", "format": "date-time"},
                ),
                "required": ["inference_id", "label"],
            },
        }
    ),
}
_ANSWERED = {
    "x-model-version": _header("The version that answered"),
    "x-request-id": _header("The caller's, or a new one"),
}
_ERRORS = ("Plain", "Detailed", "Mlflow")
