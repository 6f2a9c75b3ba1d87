"""Arrow streams without a server: every type that fits, the strict checks, and bytes that are no stream."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import ipc
from tests.bundles import CARRIERS, ROW, answer_of
from tests.loaded import exchange, flights, numeric

from evergreen.serving.protocols.predict_endpoint import PredictEndpoint
from evergreen.serving.refusals import RequestRefused

ENDPOINT = PredictEndpoint()
FLIGHTS = flights()
KIND = b"application/vnd.apache.arrow.stream"
HEADERS = {b"content-type": KIND}
VALUES: dict[str, Any] = {"distance": [500.0, None, 700.5], "hour": [9, 3, None], "carrier": ["DL", None, "ZZ"]}
EXPECTED = np.array([[500, 9, 1], [np.nan, 3, np.nan], [700.5, np.nan, np.nan]], np.float32)


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema, **options) as writer:
        for batch in table.to_batches(max_chunksize=2):
            writer.write_batch(batch)
    return sink.getvalue()


def table(**columns: Any) -> pa.Table:
    made = {name: pa.array(values) for name, values in VALUES.items()} | columns
    return pa.table({name: column for name, column in made.items() if column is not None})


def matrix(body: bytes) -> np.ndarray:
    return ENDPOINT.read(FLIGHTS, body, HEADERS).matrix


def refused(body: bytes, status: int = 422) -> str:
    with pytest.raises(RequestRefused) as caught:
        ENDPOINT.read(FLIGHTS, body, HEADERS)
    assert caught.value.status == status
    return str(caught.value)


# ------------------------------------------------------------ good streams


@pytest.mark.parametrize(
    "carrier",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
     pa.dictionary(pa.uint8(), pa.large_string())],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    "hour", [pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()], ids=str
)
def test_columns_of_every_type_that_fits(carrier: pa.DataType, hour: pa.DataType) -> None:
    body = stream(table(carrier=pa.array(VALUES["carrier"]).cast(carrier), hour=pa.array(VALUES["hour"], hour)))
    assert np.array_equal(matrix(body), EXPECTED, equal_nan=True)


def test_booleans_null_columns_and_columns_in_another_order() -> None:
    made = table(hour=pa.array([True, None, False]), distance=pa.nulls(3), carrier=pa.nulls(3))
    found = matrix(stream(made.select(["carrier", "hour", "distance"])))
    assert np.array_equal(found[:, 1], np.array([1, np.nan, 0], np.float32), equal_nan=True)
    assert np.isnan(found[:, [0, 2]]).all()


def test_slices_nans_and_many_batches() -> None:
    rng = np.random.default_rng(0)
    distance = [None if i % 7 == 0 else float(v) for i, v in enumerate(rng.uniform(1, 9, 1000))]
    made = pa.table({"distance": pa.array(distance, pa.float32()), "hour": rng.integers(0, 24, 1000),
                     "carrier": pa.array(rng.choice(CARRIERS, 1000)).dictionary_encode()}).slice(3, 777)  # fmt: skip
    found = matrix(stream(made))
    wanted = np.array([np.nan if v is None else v for v in distance[3:780]], np.float32)
    assert np.array_equal(found[:, 0], wanted, equal_nan=True)
    assert [CARRIERS[int(code)] for code in found[:, 2]] == made["carrier"].to_pylist()


def test_what_polars_writes() -> None:
    data = pl.DataFrame(VALUES).with_columns(pl.col("carrier").cast(pl.Categorical))
    sink = io.BytesIO()
    data.write_ipc_stream(sink)
    assert np.array_equal(matrix(sink.getvalue()), EXPECTED, equal_nan=True)


def test_the_answer_is_arrow_for_who_accepts_it() -> None:
    headers = {**HEADERS, b"accept": b"text/html, " + KIND + b";q=0.9"}
    done = exchange(ENDPOINT, FLIGHTS, stream(table()), headers)
    assert done.written.media_type == KIND
    found = ipc.open_stream(done.written.body).read_all()
    assert found["inference_id"].to_pylist() == done.answer.inference_ids
    assert found["prediction"].to_pylist()[0] == pytest.approx(answer_of(7, {**ROW, "hour": 9}), abs=1e-6)
    told = {name.decode(): value.decode() for name, value in found.schema.metadata.items()}
    assert (told["model"], told["version"]) == ("flight-delay", "7")
    assert json.loads(told["unseen_categories"]) == [{"row": 2, "feature": "carrier", "value": "ZZ"}]


def test_the_answer_is_json_for_all_others_and_arrow_for_json_that_asks_for_it() -> None:
    found = json.loads(exchange(ENDPOINT, FLIGHTS, stream(table()), HEADERS).written.body)
    assert found["unseen_categories"] == [{"row": 2, "feature": "carrier", "value": "ZZ"}]
    body = json.dumps({"records": [ROW]}).encode()
    done = exchange(ENDPOINT, FLIGHTS, body, {b"content-type": b"application/json", b"accept": KIND})
    assert ipc.open_stream(done.written.body).read_all().num_rows == 1


def test_a_probability_for_each_class_is_a_list_of_fixed_size() -> None:
    made = pa.table({"distance": [1.0, 2.0], "hour": [1, 2]})
    done = exchange(ENDPOINT, numeric(classes=3), stream(made), {**HEADERS, b"accept": KIND})
    found = ipc.open_stream(done.written.body).read_all()["prediction"]
    assert found.type.list_size == 3
    assert np.allclose(found.to_pylist(), done.answer.predictions)


# ------------------------------------------------------------ bad streams


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hour": pa.array(["9", "3", None])}, "feature 'hour': found a column of type Utf8; allowed: a column of fl"),
        ({"hour": pa.array([1, 2, 3], pa.timestamp("us"))}, "feature 'hour': found a column of type Timestamp"),
        ({"hour": pa.array(["9", "3", None]).dictionary_encode()}, "feature 'hour'"),
        ({"hour": pa.array([[1], [2], [3]])}, "feature 'hour'"),
        ({"carrier": pa.array([1, 2, 3])}, "feature 'carrier': found a column of type Int64; allowed: a column of st"),
        ({"carrier": pa.array([1, 2, 3]).dictionary_encode()}, "feature 'carrier'"),
        ({"carrier": pa.array([b"DL", b"UA", None])}, "feature 'carrier'"),
        ({"hour": None}, "feature 'hour': found no such column"),
        ({"huor": pa.array([1, 2, 3])}, "column 'huor': found no such feature; allowed: 'distance', 'hour', 'carrier'"),
        ({"hour": pa.array([1.0, np.inf, None])}, "row 1, feature 'hour'"),
        ({"hour": pa.array([1.0, 1e39, 2])}, "row 1, feature 'hour'"),
    ],
)  # fmt: skip
def test_a_wrong_column_is_422_naming_it(changed: dict[str, Any], told: str) -> None:
    assert told in refused(stream(table(**changed)))


def test_a_column_twice_and_no_rows() -> None:
    made = table()
    assert "column 'hour': found it twice" in refused(stream(made.append_column("hour", made["hour"])))
    assert "found no row" in refused(stream(made.slice(0, 0)))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "nothing"),
        (b"\xff\xff\xff\xff", "no Arrow stream"),
        (b'{"records": []}', "no message at byte 0"),
        (b"ARROW1\0\0", "an Arrow file"),
    ],
)
def test_bytes_that_are_no_stream_are_400(body: bytes, told: str) -> None:
    assert told in refused(body, status=400)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_streams_are_400_before_they_are_unpacked(codec: str) -> None:
    body = stream(table(), options=ipc.IpcWriteOptions(compression=codec))
    assert "compressed buffers" in refused(body, status=400)


def test_rows_that_no_byte_stands_for_are_400() -> None:
    made = pa.table({name: pa.nulls(10_000_000) for name in VALUES})
    sink = io.BytesIO()
    with ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    assert "10000000 rows of 3 columns" in refused(sink.getvalue(), status=400)


def test_a_broken_stream_is_refused_and_never_more() -> None:
    """Cut at every byte, and with bytes changed: read, or refused. (arro3 aborts the process at these.)"""
    chance, broken = random.Random(0), []
    for kind in (pa.dictionary(pa.int8(), pa.string()), pa.large_string(), pa.string_view()):
        body = stream(table(carrier=pa.array([*VALUES["carrier"][:2], "a long name of a carrier"]).cast(kind)))
        broken += [body[:end] for end in range(len(body))]
        for _ in range(1500):
            changed = bytearray(body)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(body))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            broken.append(bytes(changed))
    statuses = []
    for one in broken:
        try:
            ENDPOINT.read(FLIGHTS, one, HEADERS)
            statuses.append(200)
        except RequestRefused as error:
            statuses.append(error.status)
    assert set(statuses) == {200, 400, 422}


def test_arro3_comes_with_the_first_arrow_request_alone() -> None:
    code = (
        "import sys; from evergreen.serving import worker\n"
        "from evergreen.serving.protocols.predict_endpoint import _arrow\n"
        "assert not any(name.startswith('arro3') for name in sys.modules); _arrow(); assert 'arro3.core' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
