"""`evergreen ground-truth`: a file's labels, posted in requests of bounded size to a server that takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest

from commands import Run
from evergreen import wiring
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core import logged_parts as parts
from evergreen.core.records import LoggedBy, LoggedFeature, LoggedRows, Replica
from evergreen.serving.log.ground_truth import read
from evergreen.serving.refusals import RequestRefused
from spec_project import make_project
from watched import NOON, id_at

IDS = [id_at(NOON + timedelta(seconds=at), at) for at in range(2_500)]


class Server(HTTPServer):
    """Takes ground truth as serving does, and remembers it, request by request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[tuple[str, list[Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert len(body) < 1_000_000
        try:
            records = read(body, "", datetime(2026, 3, 9, tzinfo=UTC))
            self.server.told.append((self.path, records))
            self._answer(202, {"accepted": len(records)})
        except RequestRefused as refused:
            self._answer(refused.status, {"error": refused.as_json()})

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    """With a replica that lives, and a log of answers to keys."""
    root = make_project(tmp_path, "delay")
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    settings = wiring.Settings.load()
    settings.home.mkdir()
    replica = Replica("default", "r", f"http://127.0.0.1:{server.server_port}")
    wiring.ledger(settings).replicas.beat(replica, datetime.now(UTC))
    return root


def logged(keys: list[str], *, at: datetime = NOON, first: int = 0) -> list[str]:
    """Answers to these keys, all of one moment, in the store."""
    ids = [id_at(at, first + number) for number in range(len(keys))]
    by = LoggedBy("delay", 1, "release", "bundle", "champion", (LoggedFeature("distance"),))
    packed = b"".join(bytes.fromhex(one.replace("-", "")) for one in ids)
    zeros = np.zeros(len(ids), np.float32).tobytes()
    data = ArrowParts().predictions([LoggedRows(by, packed, zeros, zeros, keys=tuple(keys))])
    key = parts.part_key(parts.PREDICTIONS, "delay", date(2026, 3, 2), f"{first:032x}")
    wiring.store(wiring.Settings.load()).put(key, data)
    return ids


def records_of(server: Server) -> list[Any]:
    return [record for _, records in server.told for record in records]


def test_a_file_is_posted_in_requests_of_bounded_size(run: Run, server: Server) -> None:
    labels = [None if at == 7 else float(at % 2) for at in range(len(IDS))]
    pl.DataFrame({"inference_id": IDS, "label": labels, "other": 1}).write_parquet("in.parquet")
    told = run("ground-truth", "delay", "--input", "in.parquet")
    assert told.status == 0, told.err
    assert told.err == ""  # no bar where nobody looks
    first, second = told.out.splitlines()
    assert first.startswith("delay: 2,499 labels told, of 2,500 rows, in ")
    assert second == "Left out: 1 rows without a label."
    assert {path for path, _ in server.told} == {"/models/delay/ground-truth"}
    assert [len(records) for _, records in server.told] == [1000, 1000, 499]
    assert [one.inference_id for one in records_of(server)] == [one for one in IDS if one != IDS[7]]


def test_csv_has_numbers_names_and_times(run: Run, server: Server) -> None:
    Path("in.csv").write_text(
        f"label,at,inference_id\n1,2026-03-03 12:00:00,{IDS[0]}\n0.5,2026-03-03T12:00:00+01:00,{IDS[1]}\n,,{IDS[2]}\n"
    )
    assert run("ground-truth", "delay", "--input", "in.csv").status == 0
    first, second = records_of(server)
    assert (first.label, second.label) == (1.0, 0.5)
    assert first.at - second.at == 3_600_000, "UTC where no zone is named"
    Path("names.csv").write_text(f"inference_id,label\n{IDS[0]},late\n{IDS[1]},1\n")
    assert run("ground-truth", "delay", "--input", "names.csv", "--json").json["posted"] == 2
    assert [one.label for one in records_of(server)[2:]] == ["late", "1"]


def test_labels_by_key_are_of_the_answers_to_it(run: Run, server: Server) -> None:
    ids = logged(["b1", "0042", "batch", "batch"])
    again = logged(["b1"], at=NOON + timedelta(minutes=1), first=9)
    Path("in.csv").write_text("key,label\nb1,1\n0042,0\nbatch,1\nnobody,1\n")
    told = run("ground-truth", "delay", "--input", "in.csv", "--json").json
    del told["seconds"]
    assert told == {"rows": 4, "posted": 3, "without_label": 0, "unknown": 1, "ambiguous": 1}
    assert {one.inference_id: one.label for one in records_of(server)} == {ids[0]: 1.0, ids[1]: 0.0, again[0]: 1.0}


def test_where_no_key_is_known_the_command_says_so(run: Run, server: Server) -> None:
    logged(["b1"])
    pl.DataFrame({"key": [4711], "label": [1]}).write_parquet("in.parquet")
    told = run("ground-truth", "delay", "--input", "in.parquet")
    assert told.status == 1
    assert "Is 'key' what callers send as x-request-key?" in told.err
    assert server.told == []


def test_another_address_may_be_named_and_what_serving_refuses_is_told(run: Run, server: Server) -> None:
    Path("in.csv").write_text(f"inference_id,label\n{IDS[0]},{'x' * 300}\n")
    told = run("ground-truth", "delay", "--input", "in.csv")
    assert told.status == 1
    assert "was answered with 422" in told.err
    told = run("ground-truth", "delay", "--input", "in.csv", "--url", "http://127.0.0.1:9")
    assert "at 127.0.0.1:9 did not answer" in told.err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("in.csv", "inference_id,label\n7,1\n", "row 0, column 'inference_id': found '7'"),
        ("in.csv", f"inference_id,label,at\n{IDS[0]},1,soon\n", "row 0, column 'at': found 'soon'"),
        ("in.csv", f"inference_id,label\n{IDS[0]},inf\n", "row 0, column 'label': found 'inf'"),
        ("in.csv", "id,label\n7,1\n", "found id, label; allowed: 'label', and 'inference_id' or 'key'"),
        ("in.csv", "key,inference_id,label\n7,1,1\n", "allowed: 'label', and 'inference_id' or 'key'"),
        ("in.csv", "", "what cannot be read"),
        ("in.parquet", "key,label", "what cannot be read"),
        ("in.txt", "key,label", "a file that ends in .csv or .parquet"),
    ],
)
def test_a_file_that_is_wrong_is_told_and_nothing_posted(
    run: Run, server: Server, name: str, text: str, told: str
) -> None:
    Path(name).write_text(text)
    found = run("ground-truth", "delay", "--input", name)
    assert found.status == 1
    assert told in found.err
    assert server.told == []


def test_a_model_or_a_file_or_a_replica_that_is_not_there(run: Run, server: Server) -> None:
    assert "no such file" in run("ground-truth", "delay", "--input", "no.csv").err
    Path("in.csv").write_text("key,label\n7,1\n")
    assert "model 'dela'" in run("ground-truth", "dela", "--input", "in.csv").err
    old = Replica("default", "r", f"http://127.0.0.1:{server.server_port}")
    wiring.ledger(wiring.Settings.load()).replicas.beat(old, datetime(2026, 1, 1, tzinfo=UTC))
    assert "no replica that lives" in run("ground-truth", "delay", "--input", "in.csv").err
