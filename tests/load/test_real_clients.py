"""Clients that others wrote, unmodified, against a real replica; what its OpenAPI says; and HTTP that lies."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pandas
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tests import bundles, client_programs
from tests.bundles import ROW, answer_of
from tests.serving_process import Serving, serving

ROWS = [ROW, {"distance": 700.5, "hour": 3, "carrier": "UA"}]
EXPECTED = [answer_of(1, row) for row in ROWS]
PREDICT, INFER, TRUTH, METRICS = (
    "/models/flight-delay/predict",
    "/v2/models/flight-delay/infer",
    "/models/flight-delay/ground-truth",
    "/models/flight-delay/metrics",
)
NEAR = pytest.approx(EXPECTED, abs=1e-6)


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("replica")) as started:
        bundles.release(started.ledger, started.store, version=1)
        started.start()
        started.await_version(1)
        yield started
        assert started.process.poll() is None
        assert "Traceback" not in started.log()


# ------------------------------------------------------------ Open Inference Protocol


def test_tritonclient(replica: Serving) -> None:
    found = client_programs.run("ask_by_tritonclient.py", f"localhost:{replica.port}")
    assert found["live"] is True
    assert found["ready"] == [True, True, True, False]
    assert found["server"]["extensions"] == ["binary_tensor_data"]
    assert [metadata["versions"] for metadata in found["metadata"]] == [["1"], ["1"]]
    for kind, answer in found["answers"].items():
        assert answer["predictions"] == NEAR, kind
        response = answer["response"]
        assert (response["model_name"], response["model_version"], response["id"]) == ("flight-delay", "1", "42"), kind
        assert len(response["parameters"]["inference_ids"].split(",")) == 2
        assert ("data" in response["outputs"][0]) is (kind in ("JSON", "binary in, JSON out"))
    for kind, told in {
        "a tensor missing": "422 feature 'carrier': found no such tensor",
        "no such model": "404 model 'flight-dely': found no such model here; allowed: 'flight-delay'",
        "another version": "404 version '2' of model 'flight-delay'",
        "no such output": "422 outputs: found the string 'shap'",
        "classification": "422 outputs, parameter 'classification'",
        "compressed": "415 header Content-Encoding: found the string 'gzip'",
    }.items():
        assert told in found["refusals"][kind].replace("[", "").replace("]", "")


def test_kserve(replica: Serving) -> None:
    found = client_programs.run("ask_by_kserve.py", f"http://localhost:{replica.port}")
    assert (found["ready"], found["model"]) == ([True, True], True)
    for answer in found["answers"].values():
        assert answer["predictions"] == pytest.approx(EXPECTED[:1], abs=1e-6)
        assert (answer["id"], answer["model"]) == ("42", "flight-delay")
        assert len(answer["parameters"]["inference_ids"]) == 36
    assert found["refusal"].startswith("422 feature 'hour': found no such tensor")


# ------------------------------------------------------------ MLflow


def test_mlflows_own_client(replica: Serving) -> None:
    client = ScoringServerClient("127.0.0.1", replica.port)
    answer = client.invoke(pandas.DataFrame(ROWS))
    assert answer.get_predictions()[0].tolist() == NEAR


@pytest.mark.parametrize(
    "path", ["/invocations", "/invocations?model=flight-delay", "/models/flight-delay/invocations"]
)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", {"dataframe_split": pandas.DataFrame(ROWS).to_dict(orient="split")}),
        ("application/json; charset=utf-8", {"dataframe_records": ROWS}),
        ("application/json", {"instances": ROWS}),
        ("application/json", {"inputs": pandas.DataFrame(ROWS).to_dict(orient="list")}),
        ("application/json", {"inputs": [list(row.values()) for row in ROWS]}),
        ("text/csv", pandas.DataFrame(ROWS).to_csv(index=False)),
    ],
)
def test_mlflows_documented_payloads(replica: Serving, path: str, kind: str, body: Any) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    status, headers, answer = posted(replica, path, content.encode(), {"content-type": kind})
    assert (status, json.loads(answer)) == (200, {"predictions": NEAR})
    assert headers["x-model-version"] == "1"
    assert len(headers["x-inference-ids"].split(",")) == 2


# ------------------------------------------------------------ OpenAPI


def test_schemathesis_finds_no_fault_and_no_undocumented_status(replica: Serving) -> None:
    """Everything but whether a good-looking body is taken: JSON Schema cannot say that tensors fit together."""
    url = f"http://127.0.0.1:{replica.port}/openapi.json"
    left_out = "positive_data_acceptance,negative_data_rejection"
    options = ["--exclude-checks", left_out, "--max-examples", "30", "--seed", "1", "--no-color"]
    command = [client_programs.venv() / "schemathesis", "run", url, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=replica.home)
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"Tested: 15\b", done.stdout), done.stdout


def test_the_examples_work_as_they_are(replica: Serving) -> None:
    _, document = replica.ask("GET", "/openapi.json")
    asked = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            status, _, _ = posted(replica, path, b"") if method == "post" else (replica.ask("GET", path)[0], {}, b"")
            assert str(status) in operation["responses"], path
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                if (example := media.get("example")) is not None:
                    content = example if isinstance(example, str) else json.dumps(example)
                    status, _, answer = posted(replica, path, content.encode(), {"content-type": kind})
                    assert status in (200, 202), (path, answer)
                    asked.add((path, kind))
    assert len(asked) == 9


def test_the_examples_of_the_docs_work_as_they_are(replica: Serving) -> None:
    page = (client_programs.ROOT / "docs/serving.md").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{replica.port}")
    examples = re.findall(r"```(bash|python)\n(.*?)```", page, re.DOTALL)
    for kind, code in examples:
        command = ["bash", "-euo", "pipefail", "-c"] if kind == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*command, code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (code, done.stdout, done.stderr)
        assert re.search(r"prediction|accepted", done.stdout), code
    assert len(examples) == 7


# ------------------------------------------------------------ HTTP that lies


@pytest.mark.parametrize("path", [PREDICT, INFER, "/invocations"])
@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        ("Content-Length: 3000000\r\n", {413}),
        ("Content-Length: 99999999999999999999999\r\n", {400, 413}),
        ("Content-Length: -1\r\n", {400}),
        ("Content-Length: abc\r\n", {400}),
        ("Content-Length: 2\r\nContent-Length: 3\r\n", {400}),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", {400}),
        ("Transfer-Encoding: chunked\r\n", {400}),
        ("Content-Length: 2\r\nContent-Encoding: gzip\r\n", {415}),
        ("Content-Length: 2\r\nContent-Type: text/csv\r\nContent-Type: application/json\r\n", {400, 415, 422}),
        (
            "Content-Length: 2\r\nInference-Header-Content-Length: 1\r\nInference-Header-Content-Length: 2\r\n",
            {400, 422},
        ),
        ("Content-Length: 2\r\n no name\r\n", {400, 422}),
    ],
)
def test_headers_that_lie_get_an_answer(replica: Serving, path: str, head: str, statuses: set[int]) -> None:
    found = raw(replica, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n{{}}\r\n")
    assert found in statuses


def test_a_body_shorter_than_announced_is_no_request(replica: Serving) -> None:
    with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{{}}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in connection.recv(1000)
    assert replica.answer(ROW)[0] == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
@pytest.mark.parametrize("path", [PREDICT, INFER, TRUTH, METRICS, "/invocations"])
def test_another_method_is_405_that_says_which(replica: Serving, method: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    assert (response.status, response.headers["allow"]) == (405, "POST")
    connection.close()


def posted(
    replica: Serving, path: str, content: bytes, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
    try:
        connection.request("POST", path, content, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def raw(replica: Serving, request: str) -> int:
    """The status that these bytes are answered with."""
    with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
        connection.sendall(request.encode())
        return int(connection.recv(1000).split()[1])
