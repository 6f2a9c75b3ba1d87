"""What every snapshot store does, the one on Parquet and the one in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from evergreen.adapters.file_store import FileStore
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.parquet_snapshots.content_hash import content_hash, content_hashes
from evergreen.core.errors import SourceError
from evergreen.core.ports import Snapshots
from evergreen.core.records import Part
from evergreen.core.retention import VALIDATED, outdated_findings
from evergreen.core.snapshot import schema_hash, snapshot_id
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.store import InMemoryStore

START = datetime(2013, 1, 30, 20, tzinfo=UTC)
FRAME = pl.DataFrame(
    {
        "id": [f"k{n}" for n in range(12)],
        "at": [START + timedelta(hours=n // 2) for n in range(12)],
        "text": ["", None, "ä", *"bcdefghij"],
        "number": [1, None, *range(10)],
        "real": [0.5, None, float("nan"), *range(9)],
        "true": [True, None, *[False] * 10],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC"), "real": pl.Float64},
    strict=False,
)


@pytest.fixture(params=["parquet", "fake"])
def snapshots(request: pytest.FixtureRequest) -> Snapshots:
    return ParquetSnapshots(InMemoryStore()) if request.param == "parquet" else InMemorySnapshots()


def test_one_part_a_day_that_reads_back_in_order(snapshots: Snapshots) -> None:
    parts = snapshots.write("m", FRAME.sample(fraction=1, shuffle=True, seed=3), "at", "id")
    assert [(part.day, part.rows) for part in parts] == [(date(2013, 1, 30), 8), (date(2013, 1, 31), 4)]
    assert all(part.key.startswith(f"snapshots/m/{part.day}-") for part in parts)
    assert snapshots.read(parts[::-1]).equals(FRAME.sort("at", "id"))
    assert snapshots.read(parts, ["number", "id"]).columns == ["number", "id"]


def test_the_same_rows_are_the_same_parts_whatever_their_order_and_chunks(snapshots: Snapshots) -> None:
    first = snapshots.write("m", FRAME, "at", "id")
    chunked = pl.concat([FRAME[7:], FRAME[:3], FRAME[3:7]], rechunk=False)
    assert snapshots.write("m", chunked, "at", "id") == first


def test_rows_of_one_moment_are_in_order_of_their_keys(snapshots: Snapshots) -> None:
    within = pl.concat([FRAME[at : at + 2].reverse() for at in range(0, FRAME.height, 2)])
    assert snapshots.write("m", within, "at", "id") == snapshots.write("m", FRAME, "at", "id")


def test_another_value_changes_its_own_day_only(snapshots: Snapshots) -> None:
    first = snapshots.write("m", FRAME, "at", "id")
    changed = FRAME.with_columns(number=pl.when(pl.col("id") == "k11").then(99).otherwise("number"))
    second = snapshots.write("m", changed, "at", "id")
    assert second[0] == first[0]
    assert second[1].sha256 != first[1].sha256
    assert second[1].key != first[1].key
    assert snapshots.read(first).equals(FRAME.sort("at", "id"))  # the older snapshot stays as it was


def test_each_gives_a_frame_a_day(snapshots: Snapshots) -> None:
    parts = snapshots.write("m", FRAME, "at", "id")
    frames = list(snapshots.each(parts[::-1], ["at", "number"]))
    assert [frame.height for frame in frames] == [8, 4]
    assert pl.concat(frames).equals(FRAME.sort("at", "id").select("at", "number"))


def test_the_first_rows_of_a_part_have_the_types_of_all(snapshots: Snapshots) -> None:
    kinds = FRAME.with_columns(kind=pl.lit("b").cast(pl.Enum(["a", "b"])))
    first, second = snapshots.write("m", kinds, "at", "id")
    assert snapshots.skim(second, rows=1).equals(kinds.sort("at", "id")[8:9])
    assert snapshots.skim(second, rows=1).schema == kinds.schema
    assert snapshots.skim(first, ["number", "id"], rows=3).equals(kinds.sort("at", "id").select("number", "id")[:3])
    assert snapshots.skim(first, ["id"], rows=99).height == 8


def test_each_says_what_is_wrong_with_a_part_once_it_is_its_turn(snapshots: Snapshots) -> None:
    first, _ = snapshots.write("m", FRAME, "at", "id")
    gone = InMemorySnapshots().write("other", FRAME, "at", "id")[1]
    frames = snapshots.each([first, gone])
    assert next(frames).height == first.rows
    with pytest.raises(SourceError, match=gone.key):
        next(frames)


def test_a_part_that_is_gone_is_named(snapshots: Snapshots) -> None:
    (part, *_) = InMemorySnapshots().write("other", FRAME, "at", "id")
    with pytest.raises(SourceError, match=part.key):
        snapshots.read([part])


def test_a_part_is_there_or_not(snapshots: Snapshots) -> None:
    first, _ = snapshots.write("m", FRAME, "at", "id")
    gone = InMemorySnapshots().write("other", FRAME, "at", "id")[1]
    assert snapshots.touch(first)
    assert not snapshots.touch(gone)


def test_keys_have_the_same_hashes_in_whatever_part_they_are(snapshots: Snapshots) -> None:
    first, second = snapshots.write("m", FRAME, "at", "id")
    (other,) = snapshots.write("m", FRAME[2:4].with_columns(id=pl.Series(["k10", "new"])), "at", "id")
    hashes = [snapshots.key_hashes(part, "id").tolist() for part in (first, second, other)]
    assert [len(of_part) for of_part in hashes] == [8, 4, 2]
    assert len({*hashes[0], *hashes[1]}) == FRAME.height
    assert hashes[2][0] == hashes[1][2]  # 'k10'
    assert hashes[2][1] not in hashes[0] + hashes[1]


def test_of_a_part_that_is_gone_there_are_no_hashes(snapshots: Snapshots) -> None:
    (part, *_) = InMemorySnapshots().write("other", FRAME, "at", "id")
    with pytest.raises(SourceError, match=part.key):
        snapshots.key_hashes(part, "id")


def test_quarantine_keeps_the_rows_under_a_key_of_their_content(snapshots: Snapshots) -> None:
    rows = FRAME[:2].with_columns(failed_expectation=pl.lit("expect_x (number)"))
    key = snapshots.quarantine("m", "abc", rows)
    assert key.startswith("quarantine/m/abc-")
    assert snapshots.quarantine("m", "abc", rows) == key


# ---------------------------------------------------------------- Parquet only


def test_a_damaged_or_exchanged_file_is_refused_by_name(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    snapshots = ParquetSnapshots(store)
    first, second = snapshots.write("m", FRAME, "at", "id")
    whole = store.get(first.key)
    for damaged in (whole[: len(whole) // 2], b"", store.get(second.key)):
        store.put(first.key, damaged)
        with pytest.raises(SourceError, match=f"part {first.key}"):
            snapshots.read([first])
    (tmp_path / first.key).unlink()
    with pytest.raises(SourceError, match="no such file"):
        snapshots.read([first])
    snapshots.write("m", FRAME, "at", "id")
    assert snapshots.read([first, second]).equals(FRAME)


@pytest.mark.parametrize("change", [pl.col("id").str.to_uppercase(), pl.lit(1).alias("more")])
def test_a_changed_part_is_named_among_those_read_with_it(tmp_path: Path, change: pl.Expr) -> None:
    store = FileStore(str(tmp_path))
    snapshots = ParquetSnapshots(store)
    first, second = snapshots.write("m", FRAME, "at", "id")
    changed = io.BytesIO()
    pl.read_parquet(io.BytesIO(store.get(second.key))).with_columns(change).write_parquet(changed)
    store.put(second.key, changed.getvalue())
    with pytest.raises(SourceError, match=f"part {second.key}"):
        snapshots.read([first, second])


def test_parts_hash_alike_together_and_alone() -> None:
    alone = [content_hash(rows) for rows in (FRAME[:1], FRAME[1:1], FRAME[1:])]
    assert content_hashes(FRAME, [1, 0, FRAME.height - 1]) == alone


def test_a_file_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    snapshots = ParquetSnapshots(FileStore(str(tmp_path)))
    files = [tmp_path / part.key for part in snapshots.write("m", FRAME, "at", "id")]
    before = [file.stat().st_ino for file in files]
    snapshots.write("m", FRAME, "at", "id")
    assert [file.stat().st_ino for file in files] == before


def note_of(store: InMemoryStore, part: Part) -> str:
    (note,) = (key for key in store.keys(f"{VALIDATED}m/") if str(part.day) in key)
    return note


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-8],
        lambda whole: whole + bytes(8),
        lambda whole: whole[-64:],  # so many hashes, and nothing else
        lambda whole: flipped(whole, 0),
        lambda whole: flipped(whole, len(whole) // 2),
        lambda whole: flipped(whole, len(whole) - 1),
    ],
)
def test_hashes_of_keys_that_are_damaged_are_made_anew(damage: Callable[[bytes], bytes]) -> None:
    store = InMemoryStore()
    snapshots = ParquetSnapshots(store)
    first, _ = snapshots.write("m", FRAME, "at", "id")
    before, whole = snapshots.key_hashes(first, "id").tolist(), store.get(note_of(store, first))
    store.put(note_of(store, first), damage(whole))
    assert snapshots.key_hashes(first, "id").tolist() == before
    assert store.get(note_of(store, first)) == whole


def test_hashes_of_keys_are_kept_and_made_anew_where_they_are_lost_or_those_of_another_part() -> None:
    store = InMemoryStore()
    snapshots = ParquetSnapshots(store)
    first, _ = snapshots.write("m", FRAME, "at", "id")
    later = FRAME[:8].with_columns(pl.col("at") + timedelta(days=9), pl.col("id").str.to_uppercase())
    (other,) = snapshots.write("m", later, "at", "id")
    before, whole = snapshots.key_hashes(first, "id").tolist(), store.get(note_of(store, first))
    store.put(note_of(store, first), store.get(note_of(store, other)))  # as many, and whole
    assert snapshots.key_hashes(first, "id").tolist() == before
    store.remove(note_of(store, first))
    assert snapshots.key_hashes(first, "id").tolist() == before
    assert store.get(note_of(store, first)) == whole
    store.remove(first.key)
    assert snapshots.key_hashes(first, "id").tolist() == before  # from the note alone


def test_no_hashes_are_made_of_a_part_with_another_number_of_rows() -> None:
    store = InMemoryStore()
    snapshots = ParquetSnapshots(store)
    first, second = snapshots.write("m", FRAME, "at", "id")
    store.remove(note_of(store, first))
    store.put(first.key, store.get(second.key))
    with pytest.raises(SourceError, match=f"part {first.key}: found 4 rows; allowed: 8 rows"):
        snapshots.key_hashes(first, "id")


def test_hashes_of_keys_go_with_their_part() -> None:
    store = InMemoryStore()
    first, second = ParquetSnapshots(store).write("m", FRAME, "at", "id")
    files = store.listing(VALIDATED)
    before = min(file.modified for file in files)
    assert outdated_findings(files, [first.key, second.key], before) == []
    (gone,) = outdated_findings(files, [second.key], before)
    assert f"/{first.day}-" in gone.key


def test_quarantined_rows_are_parquet() -> None:
    store = InMemoryStore()
    rows = FRAME[:2].with_columns(failed_expectation=pl.lit("expect_x (number)"))
    key = ParquetSnapshots(store).quarantine("m", "abc", rows)
    assert pl.read_parquet(io.BytesIO(store.get(key))).equals(rows)


def test_the_hash_is_of_values_and_tells_every_difference() -> None:
    """The hash of the whole frame is pinned: it must not move with a library's version."""
    assert content_hash(FRAME) == PINNED
    under_null = pl.Series("number", [7, 7]).set(pl.Series([False, True]), None).to_frame()
    assert content_hash(under_null) == content_hash(pl.DataFrame({"number": [7, None]}))
    different = [
        pl.DataFrame({"a": ["x", "yz"]}),
        pl.DataFrame({"a": ["xy", "z"]}),
        pl.DataFrame({"b": ["x", "yz"]}),
        pl.DataFrame({"a": ["", None]}),
        pl.DataFrame({"a": [None, ""]}),
        pl.DataFrame({"a": [0, None]}),
        pl.DataFrame({"a": [0, 0]}),
        pl.DataFrame({"a": [0.0, 0.0]}),
        pl.DataFrame({"a": [False, False]}),
        pl.DataFrame({"a": [0.0, float("nan")]}),
        pl.DataFrame({"a": [0.0, None]}),
    ]
    assert len({content_hash(frame) for frame in different}) == len(different)


PINNED = "90c3b203747e57a1d6c73625f97d0bd82b22df2614af3fdfa51efa0ffcc969aa"


def test_a_snapshot_is_called_by_its_parts_and_schema() -> None:
    parts = InMemorySnapshots().write("m", FRAME, "at", "id")
    schema = schema_hash({name: str(kind) for name, kind in FRAME.schema.items()})
    assert snapshot_id(parts, schema) == snapshot_id(parts[::-1], schema)
    assert snapshot_id(parts, schema) != snapshot_id(parts[:1], schema)
    assert snapshot_id(parts, schema) != snapshot_id(parts, schema_hash({"id": "String"}))
