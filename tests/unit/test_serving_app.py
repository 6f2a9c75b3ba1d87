"""The endpoints, asked without a network: good answers, and every bad request of rule 13."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.bundles import ROW, answer_of, make_bundle, put

from evergreen.serving.limits import Limits
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.replica.local_bundles import LocalBundles
from evergreen.serving.state import STATE, STATUS, WORKERS, PoolState, Reason, Released, Status, write
from evergreen.serving.web.app import ServingApp
from evergreen.wiring import Settings, store

PREDICT, INFER = "/models/flight-delay/predict", "/v2/models/flight-delay/infer"
MISSING, REFUSING = "flight-delay", "strict"


class Client:
    """Asks an app whose models are loaded from a folder."""

    def __init__(self, folder: Path) -> None:
        (folder / WORKERS).mkdir(parents=True)
        self.folder = folder
        self.table = ModelTable(folder, "0", Metrics())
        self._app = ServingApp(self.table, Limits(max_body=10_000))

    def serve(self, models: dict[str, Released]) -> None:
        """Write the state file, and apply it."""
        write(self.folder / STATE, PoolState(1, models))
        asyncio.run(self.table.refresh())

    def ask(self, method: str, path: str, **kind: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://serving") as client:
                return await client.request(method, path, **kind)

        return asyncio.run(asked())

    def predict(self, *records: Any, model: str = MISSING) -> httpx.Response:
        return self.ask("POST", f"/models/{model}/predict", json={"records": list(records)})

    def problems(self, *records: Any, model: str = MISSING) -> list[dict[str, str]]:
        response = self.predict(*records, model=model)
        assert response.status_code == 422, response.text
        found: list[dict[str, str]] = response.json()["error"]["problems"]
        return found

    def post(self, path: str, content: bytes) -> tuple[int, str]:
        response = self.ask("POST", path, content=content)
        error = response.json()["error"]
        return response.status_code, error if isinstance(error, str) else error["message"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two models: one answers unseen categories as missing, one refuses them."""
    folder = tmp_path_factory.mktemp("serving")
    files = store(Settings(folder, folder, "", str(folder / "store"), ""))
    asking = Client(folder / "default")
    models = {}
    for version, (name, unknown) in enumerate({MISSING: "missing", REFUSING: "refuse"}.items(), 1):
        bundle, made = make_bundle(name, seed=version, unknown_category=unknown)
        put(files, bundle, made)
        LocalBundles(folder / "default" / "bundles").fetch(bundle, files)
        models[name] = Released(version, f"release-{version}", bundle, 1)
    asking.serve(models)
    return asking


def tensors(**columns: tuple[str, list[Any]]) -> dict[str, Any]:
    """An infer request of one row, with these tensors changed."""
    values = {"distance": ("FP64", [500.0]), "hour": ("INT32", [9]), "carrier": ("BYTES", ["DL"]), **columns}
    return {
        "inputs": [{"name": n, "shape": [len(data)], "datatype": t, "data": data} for n, (t, data) in values.items()]
    }


# ------------------------------------------------------------ good answers


def test_predict_answers_with_version_and_ids(client: Client) -> None:
    response = client.predict(ROW, {**ROW, "hour": None, "carrier": None})
    found = response.json()
    assert response.status_code == 200
    assert (found["model"], found["version"]) == ("flight-delay", 1)
    other = answer_of(1, {**ROW, "hour": None, "carrier": None})
    assert found["predictions"] == pytest.approx([answer_of(1), other], abs=1e-6)
    assert len(set(found["inference_ids"])) == 2
    assert "unseen_categories" not in found
    assert response.headers["x-model-version"] == "1"
    assert response.headers["x-request-id"]


def test_a_request_id_is_sent_back(client: Client) -> None:
    response = client.ask("POST", PREDICT, json={"records": [ROW]}, headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"


def test_infer_answers_the_open_inference_protocol(client: Client) -> None:
    asked = {"id": "42", "outputs": [{"name": "prediction"}], **tensors()}
    found = client.ask("POST", INFER, json=asked).json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("flight-delay", "1", "42")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("prediction", "FP32", [1])
    assert output["data"] == pytest.approx([answer_of(1)], abs=1e-6)
    assert len(found["parameters"]["inference_ids"].split(",")) == 1


def test_infer_takes_columns_of_one_and_declared_booleans(client: Client) -> None:
    asked = tensors(hour=("BOOL", [True]))
    for tensor in asked["inputs"]:
        tensor["shape"], tensor["data"] = [1, 1], [tensor["data"]]
    found = client.ask("POST", INFER, json=asked).json()
    assert found["outputs"][0]["data"] == pytest.approx([answer_of(1, {**ROW, "hour": 1})], abs=1e-6)


def test_an_unseen_category_is_named_in_the_answer_and_counted(client: Client) -> None:
    found = client.predict(ROW, {**ROW, "carrier": "ZZ"}).json()
    assert found["unseen_categories"] == [{"row": 1, "feature": "carrier", "value": "ZZ"}]
    assert found["predictions"][1] == pytest.approx(answer_of(1, {**ROW, "carrier": None}), abs=1e-6)
    found = client.ask("POST", INFER, json=tensors(carrier=("BYTES", ["ZZ"]))).json()
    assert found["parameters"]["unseen_categories"] == "row 0, carrier: ZZ"
    page = client.ask("GET", "/metrics").text
    assert 'evergreen_unseen_categories_total{model="flight-delay",feature="carrier",worker="0"} 2' in page


def test_a_large_body_is_answered_off_the_event_loop_alike(client: Client) -> None:
    found = client.predict(*[ROW] * 180).json()  # over the size that is answered inline
    assert found["predictions"] == pytest.approx([answer_of(1)] * 180, abs=1e-6)


def test_the_read_only_pages(client: Client) -> None:
    assert client.ask("GET", "/v2/health/live").json() == {"live": True}
    metadata = client.ask("GET", "/v2/models/flight-delay").json()
    assert metadata["versions"] == ["1"]
    assert [(i["name"], i["datatype"]) for i in metadata["inputs"]] == [
        ("distance", "FP32"), ("hour", "FP32"), ("carrier", "BYTES"),
    ]  # fmt: skip
    assert client.ask("GET", "/v2/models/flight-delay/ready").json()["ready"] is True
    assert [m["name"] for m in client.ask("GET", "/").json()["models"]] == ["flight-delay", "strict"]
    page = client.ask("GET", "/metrics").text
    assert 'evergreen_model_version{model="strict"} 2' in page
    assert page.count("# TYPE evergreen_model_version gauge") == 1


def test_requests_are_counted_by_outcome_and_time(client: Client) -> None:
    client.predict(ROW)
    client.predict({})
    client.predict(ROW, model="nobody")
    page = client.ask("GET", "/metrics").text
    for label in (
        'model="flight-delay",version="1",outcome="ok"',
        'model="flight-delay",version="1",outcome="refused"',
        'model="(unknown)",version="",outcome="refused"',
    ):
        assert f"evergreen_requests_total{{{label}" in page
    assert 'evergreen_request_seconds_bucket{model="flight-delay",version="1",arm="champion",le="+Inf"' in page
    for model, reason in (("flight-delay", "invalid"), ("(unknown)", "unknown_model")):
        assert f'evergreen_request_errors_total{{model="{model}",reason="{reason}",worker="0"}}' in page


# ------------------------------------------------------------ bad requests


@pytest.mark.parametrize(
    "content",
    [
        b"", b"  ", b"records", b'{"records": [', b"\xff\xfe", b"[" * 100_000, b'"\xc3\x28"',
        b'{"records": [{"distance": NaN}]}', b'{"records": [{"distance": Infinity}]}',
        b'{"records": [{"distance": -Infinity}]}', b'{"records": [{"carrier": "\\ud800"}]}',
        b'[] and more', b'{"records": [{"distance": 1e999, "hour": NaN}]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_what_is_no_json_is_400(client: Client, path: str, content: bytes) -> None:
    status, error = client.post(path, content[:9_000])
    assert status == 400
    assert "JSON as {" in error


def test_nan_token_is_told_how_to_send_a_missing_value(client: Client) -> None:
    _, error = client.post(PREDICT, b'{"records": [{"distance": NaN}]}')
    assert "A missing value is null" in error


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `records`"),
        (b'{"records": 1}', "Expected `array`, got `int`"),
        (b'{"records": [1]}', "$.records[0]"),
        (b'{"records": []}', "no record"),
        (b'{"records": [], "instances": []}', "unknown field `instances`"),
    ],
)
def test_json_of_another_form_is_422(client: Client, content: bytes, told: str) -> None:
    status, error = client.post(PREDICT, content)
    assert status == 422
    assert told in error


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e39", "9" * 400])
def test_infinity_is_422_and_names_the_feature(client: Client, number: str) -> None:
    text = json.dumps({"records": [ROW]}).replace("500.0", number)
    status, error = client.post(PREDICT, text.encode())
    assert status == 422
    assert "row 0, feature 'distance'" in error
    text = json.dumps(tensors()).replace("500.0", number)
    status, error = client.post(INFER, text.encode())
    assert status == 422
    assert "row 0, feature 'distance'" in error


def test_absent_unknown_and_mistyped_features_are_told_together(client: Client) -> None:
    found = client.problems(ROW, {"distnace": 1.0, "hour": "9", "carrier": "DL"})
    assert [p["where"] for p in found] == [
        "row 1, feature 'distance'", "row 1, key 'distnace'", "row 1, feature 'hour'",
    ]  # fmt: skip
    assert found[0]["found"] == "no such key"
    assert found[1]["do"].startswith("Did you mean 'distance'?")
    assert found[2]["found"] == "the string '9'"


def test_an_unseen_category_is_422_where_the_spec_says_refuse(client: Client) -> None:
    (found,) = client.problems({**ROW, "carrier": "ZZ"}, model=REFUSING)
    assert found["where"] == "row 0, feature 'carrier'"
    assert "which training did not see" in found["found"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hour": ("FP64", ["9"])}, "row 0, feature 'hour': found the string '9'"),
        ({"hour": ("INT64", [1.5])}, "allowed: values of datatype INT64"),
        ({"hour": ("BYTES", ["9"])}, "row 0, feature 'hour': found the string '9'"),
        ({"hour": ("INT7", [1])}, "datatype the string 'INT7'"),
        ({"hour": ("INT64", [1, 2])}, "shape [2] with 2 values; allowed: shape [1] or [1, 1]"),
        ({"carrier": ("FP32", [1.0])}, 'Send it as a string: "1.0".'),
        ({"Hour": ("INT64", [1])}, "input 'Hour': found no such feature"),
        ({"distance": ("FP64", [])}, "shape [0] with 0 values"),
    ],
)
def test_a_wrong_tensor_is_422_naming_it(client: Client, changed: dict[str, Any], told: str) -> None:
    status, error = client.post(INFER, json.dumps(tensors(**changed)).encode())
    assert status == 422
    assert told in error


def test_tensors_absent_twice_or_with_a_shape_that_lies(client: Client) -> None:
    asked = tensors()
    _, error = client.post(INFER, json.dumps({"inputs": asked["inputs"][:2]}).encode())
    assert "feature 'carrier': found no such tensor" in error
    _, error = client.post(INFER, json.dumps({"inputs": [*asked["inputs"], asked["inputs"][0]]}).encode())
    assert "input 'distance': found it twice" in error
    asked["inputs"][0]["shape"] = [1_000_000_000]
    _, error = client.post(INFER, json.dumps(asked).encode())
    assert "shape [1000000000] with 1 values" in error
    assert client.post(INFER, b'{"inputs": []}')[0] == 422
    _, error = client.post(INFER, json.dumps({**tensors(), "outputs": [{"name": "shap"}]}).encode())
    assert "allowed: 'prediction'" in error


def test_a_body_over_the_limit_is_413(client: Client) -> None:
    status, error = client.post(PREDICT, b" " * 10_001)
    assert status == 413
    assert "at most 10000 bytes" in error


@pytest.mark.parametrize("path", ["/models/flight-dely/predict", "/v2/models/flight-dely/infer"])
def test_an_unknown_model_is_404_naming_those_served(client: Client, path: str) -> None:
    status, error = client.post(path, b"{}")
    assert status == 404
    assert "'flight-delay', 'strict'" in error
    assert "Did you mean 'flight-delay'?" in error


def test_unknown_paths_and_methods_are_json_too(client: Client) -> None:
    assert client.ask("GET", "/nothing").json()["error"].startswith("GET /nothing: Not Found.")
    assert client.ask("GET", PREDICT).status_code == 405


# ------------------------------------------------------------ readiness


def test_ready_before_the_first_list_of_releases_and_with_none_released(tmp_path: Path) -> None:
    client = Client(tmp_path / "default")
    response = client.ask("GET", "/v2/health/ready")
    assert response.status_code == 503
    assert "No list of releases yet" in response.json()["reasons"][0]
    client.serve({})
    write(client.folder / STATUS, Status([], heard_at=2e9 * 10))
    assert client.ask("GET", "/v2/health/ready").json() == {"ready": True, "reasons": []}
    assert "none: nothing is released yet" in client.predict(ROW).text


def test_a_released_model_that_cannot_be_loaded_is_503_with_the_reason(tmp_path: Path) -> None:
    client = Client(tmp_path / "default")
    client.serve({"flight-delay": Released(1, "r1", "0" * 64, 1)})
    assert client.ask("GET", "/v2/health/ready").status_code == 503
    response = client.predict(ROW)
    assert response.status_code == 503
    assert "no file manifest.json" in response.text
    assert client.ask("GET", "/v2/models/flight-delay/ready").status_code == 503


def test_a_silent_ledger_is_told_and_does_not_block(client: Client) -> None:
    write(client.folder / STATUS, Status([], heard_at=1.0))
    response = client.ask("GET", "/v2/health/ready")
    assert response.status_code == 200
    assert "has not answered for" in response.json()["reasons"][0]
    assert "evergreen_ledger_up 0" in client.ask("GET", "/metrics").text
    write(client.folder / STATUS, Status([Reason("x version 2 is refused", "x", blocks=True)], heard_at=1.0))
    assert client.ask("GET", "/v2/health/ready").status_code == 503


def test_a_state_file_of_another_form_leaves_the_models(client: Client) -> None:
    (client.folder / STATE).write_text('{"models": 3}')
    with pytest.raises(ValueError, match=r"state\.json"):
        asyncio.run(client.table.refresh())
    assert client.predict(ROW).status_code == 200
