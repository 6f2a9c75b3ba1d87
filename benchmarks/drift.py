"""How soon drift is seen whose begin is known, and how often there is none: Evergreen's monitor beside its peers.

    python benchmarks/drift.py                  50 seeds; the peers take an hour
    python benchmarks/drift.py --write          … and the tables go into RESULTS.md
    python benchmarks/drift.py --seeds 3 --only Evergreen

Needs, the first time, a network: the peers are installed into benchmarks/.venvs in the versions of peers/*.txt.

A world of a seed (benchmarks/drifts.py): flights in random order, 40,000 of them train flight-delay's model; 5 clean
periods follow, and for each kind of drift 10 that have it. Labels of a period come in the next one. All see the same
rows, each with its own defaults; each period is judged by itself, as `for: 1`. A drift is seen by an alarm about the
feature that has it, the predictions, or quality: one about another feature is a false one. No limit was chosen by
looking at these seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from contenders import PEERS, VENVS, make_venv
from drifts import CLEAN, CLEAN_STREAM, CREEP, DRIFTED, FLIPPED, SCALE, lay_out
from results import measured, table, write

from evergreen.core.monitoring import drift as drift_metrics
from evergreen.core.monitoring import names
from evergreen.core.monitoring.bins import CategoryBins
from evergreen.core.monitoring.reference import from_bytes
from evergreen.core.monitoring.tally import Labels, Layout, Rows, add_labels, add_rows
from evergreen.core.monitoring.window_metrics import metrics_of

TITLE = "Drift whose begin is known, against its peers"
OURS, EVIDENTLY, NANNYML = "Evergreen", "Evidently", "NannyML"
PEER = {EVIDENTLY: "evidently", NANNYML: "nannyml"}
KINDS = ("scaled feature", "category swap", "label flip", "missing sensor", "slow creep")
LIMITS = {  # of our rules, for all features alike
    f"{names.MISSING}.{names.MAX}": 0.1,  # models/_defaults.yaml
    f"{names.PSI}.{names.MAX}": 0.1,  # under it a change is small (Siddiqi)
    f"{names.UNSEEN}.{names.MAX}": 0.01,
    names.PREDICTION_PSI: 0.1,
    f"{names.ESTIMATED_LOSS}.auc": 0.03,
    f"{names.REALISED_LOSS}.auc": 0.06,
}


@dataclass(frozen=True)
class Period:
    """What a monitor said of one. `alarms`: metric, what it is about, whether it needs labels."""

    seed: int
    stream: str
    number: int
    seconds: float
    alarms: Sequence[dict[str, Any]]


def main() -> None:
    """Measure and tell."""
    options = _options()
    chosen = [name for name in (OURS, EVIDENTLY, NANNYML) if name.startswith(tuple(options.only or ("",)))]
    for name in chosen:
        if name in PEER:
            make_venv(PEER[name])
    found: dict[str, list[Period]] = {name: [] for name in chosen}
    about: dict[tuple[int, str], str] = {}
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory(prefix="evergreen-drift-") as folder:
            lay_out(Path(folder), seed, options.rows)
            about |= {
                (seed, kind): what for kind, what in json.loads((Path(folder) / "about.json").read_text()).items()
            }
            for name in chosen:
                found[name] += _of_peer(name, Path(folder), seed) if name in PEER else _ours(Path(folder), seed)
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    text = _told(found, about, options)
    print(text)
    if options.write:
        write(TITLE, text)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rows", type=int, default=1000, help="of a period: about a day of flights")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="monitors whose name begins so")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    return parser.parse_args()


# ---------------------------------------------------------------- monitors


def _of_peer(name: str, folder: Path, seed: int) -> Iterator[Period]:
    """A process of its own venv; its imports are no part of the seconds."""
    command = [str(VENVS / PEER[name] / "bin" / "python"), str(PEERS / f"{PEER[name]}_drift.py"), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    for line in done.stdout.splitlines():
        told = json.loads(line)
        if "stream" in told:
            yield Period(seed, told["stream"], told["period"], told["seconds"], told["alarms"])


def _ours(folder: Path, seed: int) -> Iterator[Period]:
    """From the rows as serving logs them to what is beyond its limit."""
    layout = Layout(from_bytes((folder / "reference.json").read_bytes()))
    label = json.loads((folder / "columns.json").read_text())["label"]
    for (stream, number), rows in pl.read_parquet(folder / "periods.parquet").group_by(
        "stream", "period", maintain_order=True
    ):
        began = time.perf_counter()
        vector = _counted(layout, rows, label)
        alarms = list(_alarms(layout, vector))
        yield Period(seed, str(stream), int(number), time.perf_counter() - began, alarms)  # type: ignore[call-overload]


def _counted(layout: Layout, rows: pl.DataFrame, label: str) -> np.ndarray:
    vectors, group = np.zeros((1, layout.size)), np.zeros(rows.height, dtype=np.int64)
    features = {bins.name: _values(bins, rows[bins.name]) for bins in layout.reference.features}
    said = rows["prediction"].to_numpy()
    add_rows(layout, Rows(features, said, group), vectors)
    add_labels(layout, Labels(said, rows[label].to_numpy().astype(np.float64), np.ones(rows.height), group), vectors)
    return vectors[0]


def _values(bins: Any, values: pl.Series) -> np.ndarray:
    if not isinstance(bins, CategoryBins):
        return values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    known, size = pl.Enum(bins.categories), len(bins.categories)
    codes = values.cast(known, strict=False).to_physical().cast(pl.Int64)
    told = pl.select(pl.when(values.is_null()).then(size + 1).otherwise(codes.fill_null(size))).to_series()
    return told.to_numpy()


def _alarms(layout: Layout, vector: np.ndarray) -> Iterator[dict[str, Any]]:
    """A rule on the worst feature alarms where any feature's value is beyond: then it is told which."""
    usual = {bins.name: drift_metrics.missing_at_training(bins) for bins in layout.reference.features}
    for name, value, *_ in metrics_of(layout, vector, min_rows=500):
        family, _, feature = name.rpartition(".")
        limit = LIMITS.get(name) or LIMITS.get(f"{family}.{names.MAX}" if feature in usual else "", np.inf)
        beyond = value - usual[feature] if family == names.MISSING and feature in usual else value
        if beyond > limit and feature != names.MAX:
            about = feature if feature in usual else "prediction" if name == names.PREDICTION_PSI else "quality"
            metric = f"{family}.{names.MAX}" if feature in usual else name
            yield {"metric": metric, "about": about, "labels": family == names.REALISED_LOSS}


# ---------------------------------------------------------------- what is told


def _seen_at(periods: Iterable[Period], about: str) -> tuple[int, list[str]] | None:
    """In which period of a drift it was seen, and by what; none where it was not."""
    found: dict[int, list[str]] = {}
    for one in periods:
        for alarm in one.alarms:
            if alarm["about"] in {"prediction", "quality", "late", "*", about or "quality"}:
                found.setdefault(one.number + alarm["labels"], []).append(alarm["metric"])
    return min(found.items()) if found and min(found) <= DRIFTED else None


def _told(found: dict[str, list[Period]], about: dict[tuple[int, str], str], options: Any) -> str:
    lines, by_what = [], []
    for name, periods in found.items():
        clean = [one for one in periods if one.stream == CLEAN_STREAM]
        cells, seen_by = [name], {}
        for kind in KINDS:
            cell, seen_by[kind] = _cell(periods, about, kind)
            cells.append(cell)
        false = sum(bool(one.alarms) for one in clean) / len(clean)
        lines.append([*cells, f"{false:.1%}", f"{1000 * statistics.median(one.seconds for one in periods):,.1f} ms"])
        by_what += [f"- *{name}*: {_first(seen_by)}. False: {_counts(_metrics(clean), len(clean))}."]
    head = ["monitor", *KINDS, "false alarms: clean periods that have one", "a period takes"]
    return "\n\n".join(
        [_about(options), table(head, lines), "\n".join(["First seen by (share of the worlds):", "", *by_what])]
    )


def _cell(periods: list[Period], about: dict[tuple[int, str], str], kind: str) -> tuple[str, Counter[str]]:
    seen, by = [], Counter[str]()
    worlds = [seed for seed, what in about if what == kind]
    for seed in worlds:
        of_world = [one for one in periods if one.stream == kind and one.seed == seed]
        if hit := _seen_at(of_world, about[seed, kind]):
            seen.append(hit[0])
            by.update({_short(metric) for metric in hit[1]})
    delays = sorted(seen + [DRIFTED + 1] * (len(worlds) - len(seen)))
    middle = statistics.median_low(delays)
    median = f"{middle}" if middle <= DRIFTED else f"> {DRIFTED}"
    return f"{median}, {len(seen) / len(worlds):.0%}", Counter({name: at / len(worlds) for name, at in by.items()})  # type: ignore


def _short(metric: str) -> str:
    """Without the feature that a peer names."""
    return metric if metric in {"drift of late", "drift of prediction", "drift prediction"} else metric.split(" of ")[0]


def _metrics(periods: Iterable[Period]) -> Counter[str]:
    return Counter(metric for one in periods for metric in {_short(alarm["metric"]) for alarm in one.alarms})


def _first(seen_by: dict[str, Any]) -> str:
    return "; ".join(
        f"{kind}: " + (", ".join(f"{name} {share:.0%}" for name, share in by.most_common(3)) or "nothing")
        for kind, by in seen_by.items()
    )


def _counts(counts: Counter[str], of: int) -> str:
    return ", ".join(f"{name} {count / of:.1%}" for name, count in counts.most_common(5)) or "none"


def _about(options: Any) -> str:
    limits = ", ".join(f"{name} {limit:g}" for name, limit in LIMITS.items())
    return (
        f"{measured()}; {options.seeds} worlds. Flights of April to June in random order: 40,000 train flight-delay's "
        f"model, then {CLEAN} clean periods of {options.rows:,} rows, and {DRIFTED} drifted: one number x {SCALE:g}; "
        f"two large carriers swapped; {FLIPPED:.0%} of the labels flipped; a sensor of one airport silent (a third of "
        f"the rows); one number {CREEP:g} standard deviations more each period. Features from the seed. Labels come a "
        f"period later. Cells: median of the period in which it was seen (1: the first), share seen within {DRIFTED}. "
        f"Our limits (above): {limits}. The peers with their defaults: Evidently's DataDriftPreset (by column; the "
        "label is one, when it comes), NannyML's univariate drift, missing values, CBPE and realised auc."
    )


if __name__ == "__main__":
    main()
