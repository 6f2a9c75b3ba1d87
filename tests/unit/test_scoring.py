"""Batch scoring: the answers and refusals of serving, on real Parquet files with real boosters."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from tests.bundles import CARRIERS, frame, put, release, release_bundle

from evergreen import wiring
from evergreen.adapters.xgboost_trainer import XGBoostTrainer
from evergreen.core import bundle as bundles
from evergreen.core.errors import BundleRefused, EvergreenError
from evergreen.core.ports import Ledger, Store
from evergreen.scoring import Order, Scored, score
from evergreen.scoring.tables import Tables
from evergreen.scoring.version import NoVersion, version_of
from evergreen.serving.models.encoder import Encoder
from evergreen.serving.models.loaded_model import load
from evergreen.serving.refusals import Problems, RequestRefused
from evergreen.serving.state import Released

MODEL = "flight-delay"
FEATURES = ["distance", "hour", "carrier"]


class World:
    """A home with a ledger and a store, and a folder for files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = wiring.Settings(home, home, f"sqlite:///{home / 'ledger.db'}", str(home / "store"), "")
        self.ledger: Ledger = wiring.ledger(self.settings)
        self.store: Store = wiring.store(self.settings)

    def put(self, rows: pl.DataFrame | pa.Table, name: str = "in.parquet", **how: Any) -> str:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(rows.to_arrow() if isinstance(rows, pl.DataFrame) else rows, path, **how)
        return str(path)

    def score(self, place: str, output: str | None = None, **order: Any) -> Scored:
        asked = Order(order.pop("model", MODEL), place, output or self.out, **order)
        return score(asked, self.ledger, self.store, by="ada", act=uuid.uuid4().hex)

    def scored(self, rows: pl.DataFrame | pa.Table, **order: Any) -> pl.DataFrame:
        self.score(self.put(rows), force=True, **order)
        return pl.read_parquet(self.out)

    def refusal(self, rows: pl.DataFrame | pa.Table, **order: Any) -> str:
        with pytest.raises(EvergreenError) as refused:
            self.score(self.put(rows), **order)
        assert self.leftovers() == []
        return str(refused.value)

    def leftovers(self) -> list[str]:
        """The output and what was to become it."""
        return [file.name for file in self.home.iterdir() if "out.parquet" in file.name]

    @property
    def out(self) -> str:
        return str(self.home / "out.parquet")

    def online(self, rows: pl.DataFrame) -> tuple[np.ndarray, list[str]]:
        """What serving answers to the same rows as JSON has them, and which values it has not seen."""
        release_id = self.ledger.releases.champion(MODEL).release_id
        assert release_id
        live = self.ledger.releases.get(release_id)
        folder = self.home / "online" / live.bundle
        folder.mkdir(parents=True, exist_ok=True)
        for key in self.store.keys(f"bundles/{live.bundle}/"):
            (folder / Path(key).name).write_bytes(self.store.get(key))
        model = load(folder, MODEL, Released(live.version, live.id, live.bundle, 1))
        columns = {name: [_json(value) for value in rows[name].to_list()] for name in FEATURES}
        encoded = Encoder(model.schema).encode(columns, rows.height, Problems())
        return model.predict(encoded.matrix), [one.value for one in encoded.unseen]


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    release(world.ledger, world.store, version=1)
    return world


def many(rows: int = 3_000, seed: int = 5) -> pl.DataFrame:
    """Rows with gaps of both kinds, whole numbers beyond float32, and carriers that training did not see."""
    rng = np.random.default_rng(seed)
    hours = [None if hour == 3 else int(hour) for hour in rng.integers(0, 24, rows)]
    hours[7] = 2**53 + 2**29 + 1  # rounded twice, as a number of JSON is
    return pl.DataFrame(
        {
            "flight_id": np.arange(rows),
            "distance": np.where(rng.random(rows) < 0.1, np.nan, rng.uniform(100, 2500, rows)),
            "hour": hours,
            "carrier": [None if c == "none" else c for c in rng.choice([*CARRIERS, "ZZ", "none"], rows).tolist()],
        }
    )


# ---------------------------------------------------------------- as online


@pytest.mark.parametrize(
    "changed",
    [
        lambda rows: rows,
        lambda rows: rows.with_columns(pl.col("carrier").cast(pl.Categorical)),
        lambda rows: rows.with_columns(pl.col("distance").cast(pl.Float32), pl.col("hour").cast(pl.Float64)),
        lambda rows: rows.with_columns(hour=pl.lit(None)),
        lambda rows: rows.with_columns(carrier=pl.lit(None)),
    ],
    ids=["as it comes", "dictionary", "other numbers", "no number", "no category"],
)
def test_predictions_are_bit_by_bit_those_of_serving(world: World, changed: Any) -> None:
    rows = changed(many())
    answers, unseen = world.online(rows)
    done = world.score(world.put(rows))
    assert pl.read_parquet(world.out)["prediction"].to_numpy().tobytes() == answers.tobytes()
    assert answers.dtype == np.float32
    assert (done.unseen["carrier"].rows if done.unseen else 0) == len(unseen)


WRONG: dict[str, Any] = {
    "infinite": {"distance": [1.0, math.inf, 3.0, -math.inf]},
    "beyond float32": {"distance": [1.0, 1e39, None, -1e39]},
    "unseen": {"carrier": ["AA", "ZZ", None, "aa"]},
    "both": {"carrier": ["AA", "ZZ", None, "aa"], "distance": [1.0, math.inf, 3.0, 4.0]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_value_is_refused_where_serving_refuses_it(world: World, changes: dict[str, list[Any]]) -> None:
    release(world.ledger, world.store, version=2, unknown_category="refuse")
    rows = many().with_columns(carrier=pl.lit("AA")).head(4)
    rows = rows.with_columns(pl.Series(name, values) for name, values in changes.items())
    with pytest.raises(RequestRefused) as online:
        world.online(rows)
    told = world.refusal(rows)
    found = set(re.findall(r"row (\d+), feature '(\w+)': found (.*?);", told))
    expected = {re.search(r"row (\d+), feature '(\w+)'", one.where).groups() for one in online.value.problems}  # type: ignore[union-attr]
    assert {(row, name) for row, name, _ in found} == expected
    assert {what for *_, what in found} == {one.found for one in online.value.problems}
    assert "Nothing was written" in told


def test_a_row_is_named_by_its_number_in_its_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.scoring.tables.BATCH_ROWS", 1_000)
    world.put(many(), "rows/a.parquet")
    rows = many().with_columns(distance=pl.when(pl.col("flight_id") == 2_345).then(math.inf).otherwise(1.0))
    second = world.put(rows, "rows/b.parquet")
    with pytest.raises(EvergreenError, match=re.escape(f"{second}, row 2345, feature 'distance'")):
        world.score(str(world.home / "rows"))


def test_an_unseen_value_is_told_with_its_first_place(world: World) -> None:
    place = world.put(pl.DataFrame({"distance": 1.0, "hour": 1, "carrier": ["AA", "ZZ", "YY", None, "ZZ"]}))
    found = world.score(place).unseen["carrier"]
    assert (found.rows, found.first, found.where) == (3, "ZZ", f"{place}, row 1")


# ---------------------------------------------------------------- columns


def test_columns_that_do_not_fit_are_named_of_all_files_before_a_row_is_scored(world: World) -> None:
    one = many().rename({"distance": "distanc"}).with_columns(hour=pl.lit("noon"))
    first, second = world.put(one, "rows/a.parquet"), world.put(many().with_columns(carrier=1.5), "rows/b.parquet")
    with pytest.raises(EvergreenError) as refused:
        world.score(str(world.home / "rows" / "*.parquet"))
    told = str(refused.value).splitlines()
    assert len(told) == 3
    assert told[0].startswith(f"{first}, column 'distance': found no such column;")
    assert "Did you mean 'distanc'?" in told[0]
    assert told[1].startswith(f"{first}, column 'hour': found type large_string; allowed: numbers")
    assert told[2].startswith(f"{second}, column 'carrier': found type double; allowed: text, such as 'AA', 'DL', 'UA'")
    assert world.leftovers() == []


def test_other_columns_are_kept_and_what_is_kept_can_be_named(world: World) -> None:
    rows = many().with_columns(note=pl.lit("x"))
    everything = world.scored(rows)
    assert everything.columns == [*rows.columns, "prediction", "version"]
    assert everything.select(rows.columns).equals(rows)
    assert everything["version"].to_list() == [1] * rows.height
    few = world.scored(rows, keep=("note", "flight_id"))
    assert few.columns == ["note", "flight_id", "prediction", "version"]
    assert few["prediction"].equals(everything["prediction"])


@pytest.mark.parametrize(
    ("changes", "order", "told"),
    [
        ({}, {"keep": ("flight_it",)}, "found no column 'flight_it'; allowed: flight_id, distance"),
        ({"prediction": 1.0}, {}, "column 'prediction': found one in the input"),
    ],
)
def test_what_cannot_be_kept_is_told(world: World, changes: Any, order: Any, told: str) -> None:
    rows = many(10).with_columns(**{name: pl.lit(value) for name, value in changes.items()})
    assert told in world.refusal(rows, **order)


def test_types_that_only_a_table_has_are_read_as_training_read_them(world: World) -> None:
    rng = np.random.default_rng(3)
    rows = pl.DataFrame(
        {
            "gate": rng.integers(-2, 9, 500),
            "early": rng.random(500) < 0.5,
            "price": [Decimal(int(cents)).scaleb(-2) for cents in rng.integers(1, 10**6, 500)],
            "held": rng.random(500) < 0.5,
        },
        schema_overrides={"price": pl.Decimal(12, 2)},
    )
    gates = sorted({str(gate) for gate in rows["gate"] if gate != 4})
    kinds: list[dict[str, Any]] = [{"name": "gate", "kind": "category", "categories": gates}]
    kinds += [{"name": "early", "kind": "category", "categories": ["false", "true"]}]
    kinds += [{"name": name, "kind": "number"} for name in ("price", "held")]
    matrix = rows.select(
        pl.col("gate").cast(pl.String).cast(pl.Enum(gates), strict=False),
        pl.col("early").cast(pl.String).cast(pl.Enum(["false", "true"])),
        pl.col("price", "held").cast(pl.Float32),
    )
    labels = (rows["gate"] + rows["held"].cast(pl.Int64) > 3).cast(pl.Int8).to_numpy()
    fitted = xgb.train({"seed": 0}, xgb.QuantileDMatrix(matrix, label=labels, enable_categorical=True), 10)
    golden = matrix.head(5).with_columns(pl.col("gate", "early").cast(pl.String)).to_dicts()
    answers = fitted.predict(xgb.DMatrix(matrix.head(5), enable_categorical=True)).tolist()
    files = {
        bundles.MODEL: bytes(fitted.save_raw("ubj")),
        bundles.SCHEMA: bundles.canonical_json({"task": "regression", "features": kinds}),
        bundles.GOLDEN: bundles.canonical_json({"rows": golden, "predictions": answers}),
    }
    sealed, files = bundles.seal(files, model="gates", train_key="k", snapshot="none")
    put(world.store, sealed, files)
    release_bundle(world.ledger, sealed, version=1, model="gates")
    judged = XGBoostTrainer(lambda *_: {}, lambda *_: {}, lambda *_: ()).predict(files, rows)
    assert (world.scored(rows, model="gates")["prediction"].to_numpy() == judged).all()


@pytest.mark.parametrize("kind", [pl.Int64, pl.Boolean])
def test_they_are_refused_where_training_saw_other_values(world: World, kind: Any) -> None:
    assert "'carrier': found type" in world.refusal(many(10).with_columns(carrier=pl.lit(1).cast(kind)))


def test_probabilities_of_classes_are_a_list(world: World) -> None:
    data, classes = frame(1), np.random.default_rng(0).integers(0, 3, 400)
    params = {"objective": "multi:softprob", "num_class": 3, "seed": 0}
    fitted = xgb.train(params, xgb.QuantileDMatrix(data, label=classes, enable_categorical=True), 5)
    expected = fitted.predict(xgb.DMatrix(data, enable_categorical=True))
    kinds: list[dict[str, Any]] = [{"name": name, "kind": "number"} for name in ("distance", "hour")]
    kinds += [{"name": "carrier", "kind": "category", "categories": CARRIERS}]
    files = {
        bundles.MODEL: bytes(fitted.save_raw("ubj")),
        bundles.SCHEMA: bundles.canonical_json({"task": "multiclass_classification", "features": kinds, "classes": 3}),
        bundles.GOLDEN: bundles.canonical_json({"rows": data.head(5).to_dicts(), "predictions": expected[:5].tolist()}),
    }
    sealed, files = bundles.seal(files, model="kinds", train_key="k", snapshot="none")
    put(world.store, sealed, files)
    release_bundle(world.ledger, sealed, version=1, model="kinds")
    assert world.scored(data, model="kinds")["prediction"].to_list() == expected.tolist()
    assert world.scored(data.clear(), model="kinds").height == 0


# ---------------------------------------------------------------- files


def test_a_folder_a_pattern_and_a_url_name_the_same_rows_in_order(world: World) -> None:
    rows = many().with_columns(pl.when(pl.col("hour") < 24).then("hour"))
    world.put(rows.head(1_000), "rows/a.parquet")
    world.put(rows.tail(2_000).with_columns(pl.col("hour").cast(pl.Float64)), "rows/b.parquet")
    world.put(rows, "rows/_set_aside.parquet")
    expected = world.scored(rows)
    for place in ("rows", "rows/[a-b].parquet"):
        done = world.score(str(world.home / place), force=True)
        assert (done.files, done.rows) == (2, 3_000)
        found = pl.read_parquet(world.out)
        assert found.select("flight_id", "prediction").equals(expected.select("flight_id", "prediction"))
        assert found["hour"].dtype == pl.Float64
    memory = fsspec.filesystem("memory")
    memory.pipe("/lake/a.parquet", Path(world.put(rows)).read_bytes())
    world.score("memory://lake/*.parquet", "memory://lake/scores/out.parquet")
    with memory.open("/lake/scores/out.parquet") as file:
        assert pl.read_parquet(file).equals(expected)


def test_files_with_other_columns_or_types_are_told_and_no_value_is_changed(world: World) -> None:
    world.put(many(), "rows/a.parquet")
    second = world.put(many().with_columns(pl.col("hour").cast(pl.Float64)), "rows/b.parquet")
    with pytest.raises(EvergreenError, match="column 'hour': found values that are no double"):
        world.score(str(world.home / "rows"))  # 2**53 + … is no float64
    world.put(many().rename({"flight_id": "id"}), "rows/b.parquet")
    with pytest.raises(EvergreenError, match=re.escape(f"{second}: found other columns than in")):
        world.score(str(world.home / "rows"))
    world.put(many().with_columns(flight_id=pl.lit("x")), "rows/b.parquet")
    with pytest.raises(EvergreenError, match="a column of several types"):
        world.score(str(world.home / "rows"))
    assert world.leftovers() == []
    assert world.score(str(world.home / "rows"), keep=("distance",)).rows == 6_000


def test_an_empty_file_gives_an_empty_file(world: World) -> None:
    found = world.scored(many().clear())
    assert (found.height, found.columns[-2:]) == (0, ["prediction", "version"])


def test_what_is_no_parquet_file_and_what_is_not_there_is_told(world: World) -> None:
    (world.home / "a.parquet").write_text("id,distance")
    for place, told in (("a.parquet", "no readable Parquet"), ("b.parquet", "no file"), ("store", "no file")):
        with pytest.raises(EvergreenError, match=told):
            world.score(str(world.home / place))
    with pytest.raises(EvergreenError, match="--input 'lake://x'"):
        world.score("lake://x")


def test_rows_in_memory_are_bounded_where_they_are_wide(world: World) -> None:
    narrow, wide = many(100), many(100).with_columns(text=pl.lit("x" * 100_000))
    assert Tables(world.put(narrow)).batch_rows == 65_536
    assert Tables(world.put(wide, use_dictionary=False)).batch_rows == 1_024


# ---------------------------------------------------------------- the output


def test_an_output_is_replaced_only_by_force_and_never_by_half(world: World) -> None:
    world.scored(many())
    before = Path(world.out).read_bytes()
    place = world.put(many().with_columns(distance=math.inf))
    with pytest.raises(EvergreenError, match="Replace it by --force"):
        world.score(place)
    with pytest.raises(EvergreenError, match="a finite 32-bit number"):
        world.score(place, force=True)
    assert Path(world.out).read_bytes() == before
    assert world.leftovers() == ["out.parquet"]


def test_an_output_is_no_folder_and_none_of_the_inputs(world: World) -> None:
    place = world.put(many())
    with pytest.raises(EvergreenError, match="one of the input's files"):
        world.score(place, place, force=True)
    with pytest.raises(EvergreenError, match="found a folder"):
        world.score(place, str(world.home), force=True)
    (world.home / "file").write_text("")
    with pytest.raises(EvergreenError, match=r"out\.parquet.*allowed: a place that can be written"):
        world.score(place, str(world.home / "file" / "out.parquet"))


KILLED = """
import os, sys
from pathlib import Path
from evergreen import wiring
from evergreen.scoring import Order, score
home, place, output = sys.argv[1:]
settings = wiring.Settings(Path(home), Path(home), f"sqlite:///{home}/ledger.db", f"{home}/store", "")
order = Order("flight-delay", place, output)
die = lambda *_: os.kill(os.getpid(), 9)
score(order, wiring.ledger(settings), wiring.store(settings), by="x", act="x", progress=die)
"""


def test_a_run_that_is_killed_leaves_nothing_half_and_the_next_one_cleans_up(world: World) -> None:
    place = world.put(many())
    done = subprocess.run([sys.executable, "-c", KILLED, str(world.home), place, world.out], check=False)
    assert done.returncode == -9
    assert world.leftovers() == [".out.parquet.writing"]
    assert world.ledger.events.history(MODEL) == []
    world.score(place)
    assert world.leftovers() == ["out.parquet"]
    assert pl.read_parquet(world.out).height == 3_000


def test_two_runs_do_not_write_the_same_output(world: World) -> None:
    place, tried = world.put(many()), []

    def meanwhile(done: int, rows: int) -> None:
        with pytest.raises(EvergreenError, match="another run that is writing it"):
            world.score(place)
        tried.append(done)

    score(Order(MODEL, place, world.out), world.ledger, world.store, by="ada", act="1", progress=meanwhile)
    assert tried == [3_000]
    assert pl.read_parquet(world.out).height == 3_000


# ---------------------------------------------------------------- which version


def test_the_champion_scores_or_the_version_that_is_named(world: World) -> None:
    first = world.scored(many())
    release(world.ledger, world.store, version=2)
    second = world.scored(many())
    assert second["version"].unique().to_list() == [2]
    assert not second["prediction"].equals(first["prediction"])
    assert world.scored(many(), version=1).equals(first)


def test_a_model_without_champion_and_a_version_that_is_not_there_are_told(world: World) -> None:
    with pytest.raises(NoVersion, match="model 'other': found no champion"):
        version_of(world.ledger, world.store, "other", None)
    with pytest.raises(NoVersion, match="version 7: found no such version; allowed: 1"):
        version_of(world.ledger, world.store, MODEL, 7)


def test_a_bundle_that_was_changed_does_not_score(world: World) -> None:
    (key,) = [key for key in world.store.keys("bundles/") if key.endswith(bundles.MODEL)]
    world.store.put(key, world.store.get(key)[:-1] + b"x")
    with pytest.raises(BundleRefused, match="sha256"):
        world.score(world.put(many()))
    assert world.leftovers() == []


def test_ledger_and_output_say_which_version_scored_what(world: World) -> None:
    place = world.put(many())
    done = world.score(place)
    (event,) = world.ledger.events.history(MODEL)
    assert (event.what, event.by) == ("scored", "ada")
    assert event.detail == f"version 1: 3,000 rows of {place} to {world.out}"
    about = pq.read_schema(world.out).metadata
    assert about[b"evergreen.model"] == MODEL.encode()
    assert about[b"evergreen.version"] == b"1"
    assert about[b"evergreen.bundle"] == done.bundle.encode()
