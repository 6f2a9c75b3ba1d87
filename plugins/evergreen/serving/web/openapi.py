"""The OpenAPI description of what this worker serves: each model's paths with its own features, and examples.

Kept by hand and held to the server by schemathesis (tests/load/test_real_clients.py): every status that an operation
can answer is listed. Examples are made up from the schema: golden rows are real people's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evergreen.serving.models.encoder import FeatureSchema
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.invocations_endpoint import FORMS, IDS_TOLD
from evergreen.serving.protocols.predict_endpoint import ARROW
from evergreen.serving.protocols.tensors_endpoint import metadata
from evergreen.serving.web.openapi_parts import (
    ANSWERED,
    RESPONSES,
    SCHEMAS,
    Json,
    as_json,
    get,
    header,
    post,
    record_of,
    ref,
)

_FLOAT32 = 3.4028235677973362e38  # the largest number that a feature may have: more is infinite
_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_ASKED = (400, 401, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)
_TOLD = (*_ASKED, 403)
_LOOKED_UP = (400, 401, 404, 405, 429, 500, 503)


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
            "schemas": {**SCHEMAS, **{f"{model.name}.record": _record(model) for model in served}},
            "responses": RESPONSES,
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
    ready: Json = {"200": as_json("Ready", ref("Ready")), "503": as_json("Not ready, and why", ref("Ready"))}
    paths: Json = {
        "/": get("What is served, and where to ask", {"200": as_json("The list", {"type": "object"})}),
        "/v2": get("The server's metadata", {"200": as_json("Name, version, extensions", {"type": "object"})}),
        "/v2/health/live": get(
            "Whether the process answers", {"200": as_json("It does", {"type": "object"})}, open_=True
        ),
        "/v2/health/ready": get("Whether every released model is loaded", ready, open_=True),
    }
    if served:
        name = {"name": "model", "in": "query", "schema": {"enum": [model.name for model in served]}}
        operation = _invocations(served[0])
        operation["parameters"] = [{**name, "required": len(served) > 1, "example": served[0].name}]
        paths["/invocations"] = {"post": operation}
    return paths


def _model_paths(model: LoadedModel) -> Json:
    plain, oip = f"/models/{model.name}", f"/v2/models/{model.name}"
    versioned, looked_up = f"{oip}/versions/{model.version}", {"200": as_json("Metadata", ref("Metadata"))}
    ready = {"200": as_json("Ready", {"type": "object"}), "503": as_json("Not ready, and why", {"type": "object"})}
    return {
        f"{plain}/predict": {"post": _predict(model)},
        f"{plain}/invocations": {"post": _invocations(model)},
        f"{plain}/ground-truth": {"post": _ground_truth(model)},
        f"{plain}/metrics": {"post": _metrics(model)},
        **{base: get("Metadata, Open Inference Protocol", looked_up, _LOOKED_UP) for base in (oip, versioned)},
        **{f"{base}/ready": get("Whether it answers as released", ready, _LOOKED_UP) for base in (oip, versioned)},
        **{f"{base}/infer": {"post": _infer(model)} for base in (oip, versioned)},
    }


def _predict(model: LoadedModel) -> Json:
    example = {"records": [_example(model)]}
    answer = as_json("Predictions", ref("Predictions"), ANSWERED)
    answer["content"][ARROW] = {"schema": {}}
    body = {"application/json": {"schema": _predict_body(model), "example": example}, ARROW: {"schema": {}}}
    return post(f"Ask {model.name}: records or columns", body, {"200": answer}, "Detailed", _ASKED)


def _predict_body(model: LoadedModel) -> Json:
    records = {"type": "array", "minItems": 1, "items": ref(f"{model.name}.record")}
    values: Json = _record(model)["properties"]
    columns = {name: {"type": "array", "minItems": 1, "items": value} for name, value in values.items()}
    return {"oneOf": [record_of(records=records), record_of(columns=record_of(**columns))]}


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
    headers = {**ANSWERED, "x-inference-ids": header(f"A UUID a row, by commas; left out over {IDS_TOLD} rows")}
    schema = record_of(predictions={"type": "array"})
    answer = {"200": as_json("Predictions", schema, headers)}
    return post(f"Ask {model.name} as MLflow's scoring server is asked", body, answer, "Mlflow", _ASKED)


def _infer(model: LoadedModel) -> Json:
    inputs = [
        {"name": tensor["name"], "shape": [1], "datatype": tensor["datatype"], "data": [value]}
        for tensor, value in zip(metadata(model)["inputs"], _example(model).values(), strict=True)
    ]
    body = {
        "application/json": {"schema": ref("InferRequest"), "example": {"inputs": inputs}},
        "application/octet-stream": {"schema": {}},
    }
    answer = as_json("Outputs", ref("InferAnswer"), ANSWERED)
    answer["content"]["application/octet-stream"] = {"schema": {}}
    length = {"name": "Inference-Header-Content-Length", "in": "header", "schema": {"type": "integer", "minimum": 1}}
    about = "Bytes of JSON before binary tensors; left out where there are none"
    operation = post(f"Ask {model.name}: Open Inference Protocol", body, {"200": answer}, "Plain", _ASKED)
    return {**operation, "parameters": [{**length, "description": about}]}


def _ground_truth(model: LoadedModel) -> Json:
    record = {"inference_id": _ID, "label": 1.0, "at": "2013-06-01T12:00:00Z"}
    body = {"application/json": {"schema": ref("GroundTruth"), "example": {"records": [record]}}}
    accepted = as_json("Kept, for later", record_of(accepted={"type": "integer"}))
    summary = f"Tell what turned out to be true of answers of {model.name}"
    return post(summary, body, {"202": accepted}, "Detailed", _TOLD)


def _metrics(model: LoadedModel) -> Json:
    example = {"metrics": [{"name": "revenue_per_call", "value": 1.2}]}
    body = {"application/json": {"schema": ref("UserMetrics"), "example": example}}
    accepted = as_json("Kept, for rules on user.<name>", record_of(accepted={"type": "integer"}))
    return post(f"Post values of metrics of your own about {model.name}", body, {"202": accepted}, "Detailed", _TOLD)


# ------------------------------------------------------------ a model's features


def _record(model: LoadedModel) -> Json:
    refuses = model.schema.unknown_category == "refuse"
    return record_of(**{feature.name: _feature(feature, refuses) for feature in model.schema.features})


def _feature(feature: FeatureSchema, refuses: bool) -> Json:
    if feature.kind == "number":
        return {"type": ["number", "null"], "minimum": -_FLOAT32, "maximum": _FLOAT32}
    categories = feature.categories or []
    if refuses:
        return {"enum": [*categories, None]}
    return {"type": ["string", "null"], "examples": categories[:20], "description": "Others are answered as missing"}


def _example(model: LoadedModel) -> Json:
    """A record that the model answers, made up."""
    return {feature.name: _value(feature) for feature in model.schema.features}


def _value(feature: FeatureSchema) -> Any:
    if feature.kind == "number":
        return 1.0
    return feature.categories[0] if feature.categories else None


def _csv(row: Mapping[str, Any]) -> str:
    return "\n".join(",".join(f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in line) for line in _lines(row))


def _lines(row: Mapping[str, Any]) -> list[list[Any]]:
    return [list(row), list(row.values())]
