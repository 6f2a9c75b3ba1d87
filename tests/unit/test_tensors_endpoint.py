"""The Open Inference Protocol without a server: JSON and binary tensors, and every way to get them wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from tests.bundles import ROW, answer_of
from tests.loaded import exchange, flights, numeric

from evergreen.serving.protocols.endpoint import Headers
from evergreen.serving.protocols.tensors_endpoint import TensorsEndpoint, metadata
from evergreen.serving.refusals import RequestRefused

ENDPOINT = TensorsEndpoint()
FLIGHTS, NUMERIC = flights(), numeric()
VALUES = {"distance": ("FP32", [500.0, 700.5]), "hour": ("INT16", [9, 3]), "carrier": ("BYTES", ["DL", "UA"])}
EXPECTED = [answer_of(7, ROW), answer_of(7, {"distance": 700.5, "hour": 3, "carrier": "UA"})]
DTYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
          "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "BOOL": "?"}  # fmt: skip


def packed(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in values)
    return np.array(values, DTYPES[datatype]).tobytes()


def binary(tensors: dict[str, tuple[str, list[Any]]], **request: Any) -> tuple[bytes, dict[bytes, bytes]]:
    """A request whose tensors are all binary: body and headers."""
    raws = {name: packed(datatype, values) for name, (datatype, values) in tensors.items()}
    inputs = [
        {"name": n, "shape": [len(v)], "datatype": t, "parameters": {"binary_data_size": len(raws[n])}}
        for n, (t, v) in tensors.items()
    ]
    text = json.dumps({"inputs": inputs, **request}).encode()
    return text + b"".join(raws.values()), {b"inference-header-content-length": b"%d" % len(text)}


def in_json(tensors: dict[str, tuple[str, list[Any]]], **request: Any) -> bytes:
    inputs = [{"name": n, "shape": [len(v)], "datatype": t, "data": v} for n, (t, v) in tensors.items()]
    return json.dumps({"inputs": inputs, **request}).encode()


def refused(body: bytes, headers: Headers | None = None, model: Any = FLIGHTS, status: int = 422) -> str:
    with pytest.raises(RequestRefused) as caught:
        ENDPOINT.read(model, body, headers or {})
    assert caught.value.status == status
    return str(caught.value)


def outputs(body: bytes, headers: Headers | None = None, model: Any = FLIGHTS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(exchange(ENDPOINT, model, body, headers).written.body)
    return found


# ------------------------------------------------------------ good requests


def test_binary_tensors_answer_as_json_ones() -> None:
    body, headers = binary(VALUES, id="42")
    found = outputs(body, headers)
    assert (found["model_name"], found["model_version"], found["id"]) == ("flight-delay", "7", "42")
    assert found["outputs"][0]["data"] == pytest.approx(EXPECTED, abs=1e-6)
    assert found["outputs"][0]["data"] == outputs(in_json(VALUES))["outputs"][0]["data"]


def test_json_and_binary_tensors_mix_in_one_request() -> None:
    body, headers = binary({"hour": VALUES["hour"]})
    length = int(headers[b"inference-header-content-length"])
    request, tail = json.loads(body[:length]), body[length:]
    request["inputs"] += json.loads(in_json({n: VALUES[n] for n in ("carrier", "distance")}))["inputs"]
    text = json.dumps(request).encode()
    found = outputs(text + tail, {b"inference-header-content-length": b"%d" % len(text)})
    assert found["outputs"][0]["data"] == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.parametrize("datatype", DTYPES)
def test_each_datatype_is_read_exactly(datatype: str) -> None:
    values = [True, False] if datatype == "BOOL" else [1, 0]
    tensors = {**VALUES, "hour": (datatype, values)}
    for body, headers in (binary(tensors), (in_json(tensors), {})):
        assert ENDPOINT.read(FLIGHTS, body, headers).matrix[:, 1].tolist() == [1.0, 0.0]


def test_nan_and_an_empty_string_are_missing_in_binary() -> None:
    body, headers = binary({**VALUES, "distance": ("FP64", [np.nan, 700.5]), "carrier": ("BYTES", ["", "UA"])})
    asked = ENDPOINT.read(FLIGHTS, body, headers)
    assert np.isnan(asked.matrix[0, [0, 2]]).all()
    assert list(asked.unseen) == []


def test_an_unseen_category_in_bytes_is_named() -> None:
    body, headers = binary({**VALUES, "carrier": ("BYTES", ["DL", "Zürich"])})
    assert outputs(body, headers)["parameters"]["unseen_categories"] == "row 1, carrier: Zürich"


@pytest.mark.parametrize(
    ("request_", "is_binary"),
    [
        ({}, False),
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "prediction"}], "parameters": {"binary_data_output": True}}, True),
        (
            {"outputs": [{"name": "prediction", "parameters": {"binary_data": False}}],
             "parameters": {"binary_data_output": True}},
            False,
        ),
    ],
)  # fmt: skip
def test_the_output_is_binary_where_that_is_asked_for(request_: dict[str, Any], is_binary: bool) -> None:
    done = exchange(ENDPOINT, FLIGHTS, in_json(VALUES, **request_))
    headers = dict(done.written.headers)
    if not is_binary:
        assert (done.written.media_type, headers) == (b"application/json", {})
        return
    length = int(headers[b"inference-header-content-length"])
    (output,) = json.loads(done.written.body[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert "data" not in output
    assert np.frombuffer(done.written.body[length:], "<f4").tolist() == pytest.approx(EXPECTED, abs=1e-6)
    assert done.written.media_type == b"application/octet-stream"


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT32"])
def test_one_binary_tensor_of_all_features(datatype: str) -> None:
    rows = np.arange(20).reshape(10, 2)
    raw = rows.astype(DTYPES[datatype]).tobytes()
    tensor = {"name": "input-0", "shape": [10, 2], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    for filler in ("", " "):  # so that the numbers begin at an odd byte
        text = (json.dumps({"inputs": [tensor]}) + filler).encode()
        asked = ENDPOINT.read(NUMERIC, text + raw, {b"inference-header-content-length": b"%d" % len(text)})
        assert asked.matrix.dtype == np.float32
        assert asked.matrix.flags.aligned
        assert asked.matrix.flags.c_contiguous
        assert (asked.matrix == rows).all()
        NUMERIC.predict(asked.matrix)


@pytest.mark.parametrize("data", [[[1, None], [3, 4]], [1, None, 3, 4]])
def test_one_json_tensor_of_all_features_nested_or_flat(data: list[Any]) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": data}
    matrix = ENDPOINT.read(NUMERIC, json.dumps({"inputs": [tensor]}).encode(), {}).matrix
    assert np.array_equal(matrix, np.array([[1, np.nan], [3, 4]], np.float32), equal_nan=True)


def test_a_probability_for_each_class_has_two_dimensions() -> None:
    model = numeric(classes=3)
    body = in_json({"distance": ("FP32", [1.0, 90.0]), "hour": ("FP32", [1.0, 90.0])})
    (output,) = outputs(body, model=model)["outputs"]
    assert output["shape"] == [2, 3]
    assert sum(output["data"]) == pytest.approx(2, abs=1e-5)
    assert metadata(model)["outputs"][0]["shape"] == [-1, 3]


def test_the_version_that_answers_may_be_named_and_no_other() -> None:
    assert TensorsEndpoint("7").read(FLIGHTS, in_json(VALUES), {}).matrix.shape == (2, 3)
    with pytest.raises(RequestRefused, match="allowed: version 7") as caught:
        TensorsEndpoint("6").read(FLIGHTS, in_json(VALUES), {})
    assert caught.value.status == 404


# ------------------------------------------------------------ bad requests


@pytest.mark.parametrize("length", ["0", "-1", "x", "1_0", "10000", "9" * 30, "", "²"])
def test_a_header_length_that_lies_is_400(length: str) -> None:
    body, _ = binary(VALUES)
    told = refused(body, {b"inference-header-content-length": length.encode("latin-1")}, status=400)
    assert "header Inference-Header-Content-Length" in told


@pytest.mark.parametrize(
    ("size", "told"),
    [(10**12, "binary_data_size"), (-1, "binary_data_size"), ("8", "binary_data_size"), (1.5, "binary_data_size"),
     (True, "binary_data_size"), (4, "4 bytes that belong to no input")],
)  # fmt: skip
def test_sizes_that_do_not_add_up_are_400(size: Any, told: str) -> None:
    inputs = [{"name": "distance", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}}]
    text = json.dumps({"inputs": inputs}).encode()
    headers = {b"inference-header-content-length": b"%d" % len(text)}
    assert told in refused(text + bytes(8), headers, status=400)


@pytest.mark.parametrize(
    ("tensor", "raw", "told"),
    [
        ({"datatype": "FP32", "shape": [2]}, bytes(7), "7 bytes, not a multiple of 4"),
        ({"datatype": "FP32", "shape": [2]}, bytes(12), "shape [2] with 3 values"),
        ({"datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}, bytes(8), "data and binary_data_size"),
        ({"datatype": "FP33", "shape": [2]}, bytes(8), "datatype the string 'FP33'"),
        ({"datatype": "BYTES", "shape": [2]}, b"\x05\0\0\0abc", "an element of 5 bytes where 3 are left"),
        ({"datatype": "BYTES", "shape": [2]}, b"\x01\0\0\0ab", "1 bytes after the last element"),
        ({"datatype": "BYTES", "shape": [2]}, b"\x01\0\0\0\xff", "invalid start byte"),
        ({"datatype": "BYTES", "shape": [2]}, packed("BYTES", ["9", "3"]), "row 0, feature 'hour': found the string"),
        ({"datatype": "FP32", "shape": [2]}, np.array([np.inf, 1], "<f4").tobytes(), "row 0, feature 'hour'"),
        ({"datatype": "FP64", "shape": [2]}, np.array([1, -1e39], "<f8").tobytes(), "row 1, feature 'hour'"),
    ],
)  # fmt: skip
def test_a_wrong_binary_tensor_is_422_naming_it(tensor: dict[str, Any], raw: bytes, told: str) -> None:
    others = json.loads(in_json({n: VALUES[n] for n in ("distance", "carrier")}))["inputs"]
    one = {"name": "hour", "parameters": {"binary_data_size": len(raw)}, **tensor}
    text = json.dumps({"inputs": [*others, one]}).encode()
    assert told in refused(text + raw, {b"inference-header-content-length": b"%d" % len(text)})


def test_numbers_for_a_category_are_told_value_by_value() -> None:
    body, headers = binary({**VALUES, "carrier": ("FP32", [1.0, 2.0])})
    assert "row 0, feature 'carrier': found the number 1.0; allowed: a category as a string" in refused(body, headers)


def test_a_tensor_of_all_features_where_one_is_a_category() -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    told = refused(json.dumps({"inputs": [tensor]}).encode())
    assert "Send one tensor a feature; 'carrier' as BYTES." in told


@pytest.mark.parametrize(
    ("shape", "data", "told"),
    [
        ([2, 2], [1, 2, 3], "shape [2, 2] with 3 values"),
        ([0, 2], [], "shape [0, 2] with 0 values"),
        ([-1, 2], [1, 2], "shape [-1, 2] with 2 values"),
        ([1, 2], [1, "2"], "row 0, feature 'x': found the string '2'"),
        ([2, 2], [[1, 2], [3]], "found the array [1, 2]"),
        ([1, 2], [1, 1e300], "row 0, feature 'hour'"),
        ([1, 3], [1, 2, 3], "input 'x': found no such feature"),
        ([1000000000000, 2], [1, 2], "shape [1000000000000, 2] with 2 values"),
        ([2] * 5000, [1, 2], "input 'x': found no such feature"),
        ([], [], "shape [] with 0 values"),
    ],
)
def test_a_wrong_tensor_of_all_features_is_422(shape: list[int], data: list[Any], told: str) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
    found = refused(json.dumps({"inputs": [tensor]}).encode(), model=NUMERIC)
    assert told in found
    assert len(found) < 2000


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"outputs": [{"name": "shap"}]}, "allowed: 'prediction'"),
        ({"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]}, "parameter 'classification'"),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": "yes"}}]}, "allowed: true or false"),
        ({"parameters": {"binary_data_output": 1}}, "allowed: true or false"),
    ],
)
def test_outputs_that_are_not_there_are_422(request_: dict[str, Any], told: str) -> None:
    assert told in refused(in_json(VALUES, **request_))


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = refused(in_json({"distance": ("FP32", ["x", 1]), "Hour": ("FP32", [1, 2])}, outputs=[{"name": "shap"}]))
    for part in ("outputs", "row 0, feature 'distance'", "input 'Hour'", "feature 'hour'", "feature 'carrier'"):
        assert part in told
    assert json.loads(ENDPOINT.refusal(RequestRefused(422, [])))["error"] == ""
