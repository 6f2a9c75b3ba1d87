"""How long Airflow needs for many models: specs read, their DAGs parsed and serialised; and a task of one of them.

    python benchmarks/many_models.py                   10, 100 and 1,000 models
    python benchmarks/many_models.py --write           ... and the table goes into RESULTS.md
    python benchmarks/many_models.py --models 1000 --times 1

The peer is a file that makes as many DAGs of seven tasks by hand in a loop, with nothing else to do: parsed and
serialised by the same calls of Airflow's dag-processor, in the same run. Each way is a process of its own, as in the
dag-processor (a new one for each file and pass), with its peak memory; the processor itself forks it, so that what
Airflow's own imports take is not in the seconds, and is in the memory. The specs are generated: owners, sources,
triggers and features differ.

*first* reads specs that no process has read before; *again* is what the dag-processor does for as long as they stay as
they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from results import measured, table, write

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Many models in Airflow"
RATIO, TASK_SECONDS = 2.5, 1.0  # of the raw loop, and for a task to be defined, with 1,000 models (issue 8)
SUITES, SOURCES, OWNERS = 20, 10, 25
PREAMBLE = """
import json, resource, sys, time
started = time.time()
import airflow.sdk, airflow.providers.standard.operators.hitl, airflow.providers.standard.decorators.python
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
def told(**found):
    print(json.dumps(found | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
file, folder = sys.argv[1:3]
begun = time.perf_counter()
lap = lambda: time.perf_counter() - begun
"""
PARSE = """
bag = BundleDagBag(dag_folder=file, bundle_path=folder, bundle_name="dags", load_op_links=False)
assert not bag.import_errors, bag.import_errors
parsed = lap()
data = [DagSerialization.to_dict(dag) for dag in bag.dags.values()]
serialised = lap()
told(dags=len(data), parse=parsed, serialise=serialised - parsed, kb=len(json.dumps(data)) / 1000)
"""
CATALOG = """
sys.path.insert(0, folder + "/plugins")
from pathlib import Path
from evergreen.core.catalog import load_catalog
begun = time.perf_counter()
found = load_catalog(Path(folder), kept=Path(folder) / ".evergreen" / "specs.json")
assert not found.problems, found.problems[:3]
told(dags=len(found.specs), parse=lap())
"""
TASK = """
import airflow.sdk.execution_time.task_runner
begun = time.perf_counter()
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
with _airflow_parsing_context_manager(dag_id=sys.argv[3], task_id="train"):
    bag = BundleDagBag(dag_folder=file, bundle_path=folder, bundle_name="dags", load_op_links=False)
task = bag.dags[sys.argv[3]].task_dict["train"]
told(dags=len(bag.dags), parse=lap())
"""
RAW = '''
"""Airflow DAGs made in a loop."""
from airflow.sdk import DAG, chain, task

TASKS = ("admit", "pull", "validate", "train", "judge", "approve", "roll_out")

def work():
    return 1

for number in range({models}):
    with DAG(dag_id=f"raw-{{number:04}}", schedule="0 3 * * *", catchup=False, default_args={{"owner": "ops"}}) as dag:
        chain(*(task(task_id=name)(work)() for name in TASKS))
    globals()[dag.dag_id] = dag
'''


def project(folder: Path, models: int) -> None:
    """A project with so many models, none like another, and the file of the peer beside it."""
    for name in ("dags", "plugins"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "raw").mkdir()
    (folder / "raw" / "raw.py").write_text(RAW.format(models=models))
    (folder / "models").mkdir()
    (folder / "models" / "_defaults.yaml").write_text((ROOT / "models" / "_defaults.yaml").read_text())
    (folder / "expectations").mkdir()
    suite = json.loads((ROOT / "expectations" / "flight-delay.json").read_text())
    for at in range(SUITES):
        text = json.dumps(suite | {"name": f"suite-{at}"}, indent=2)
        (folder / "expectations" / f"suite-{at}.json").write_text(text)
    spec = yaml.safe_load((ROOT / "models" / "flight-delay" / "model.yaml").read_text())
    for at in range(models):
        (folder / "models" / f"model-{at:04}").mkdir()
        text = yaml.safe_dump(varied(spec, at), sort_keys=False)
        (folder / "models" / f"model-{at:04}" / "model.yaml").write_text(text)


def varied(spec: dict[str, Any], at: int) -> dict[str, Any]:
    """A spec like flight-delay's."""
    triggers: list[dict[str, Any]] = [{"schedule": f"{at % 60} {at % 24} * * *"}]
    if at % 2:
        triggers.append({"new_data": {"min_rows": 1000 + at}})
    if at % 3 == 0:
        triggers.append({"metric": {"name": "drift.psi.max", "above": 0.2, "for": 3}})
    return spec | {
        "name": f"model-{at:04}",
        "owner": f"team-{at % OWNERS}@example.com",
        "source": spec["source"] | {"table": f"flights_{at % SOURCES}"},
        "validation": {"suite": f"suite-{at % SUITES}"},
        "triggers": triggers,
    }


def once(code: str, file: Path, folder: Path, *more: str) -> dict[str, float]:
    """What a process of its own tells."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "AIRFLOW"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each process compiles Evergreen anew
    home = folder / ".evergreen" / "airflow"
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": str(folder / "plugins"),
        "EVERGREEN_PROJECT": str(folder),
        "EVERGREEN_HOME": str(folder / ".evergreen"),
    }
    command = [sys.executable, "-c", PREAMBLE + code, str(file), str(folder), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(models: int, times: int) -> dict[str, dict[str, float]]:
    """The median of each way, in turn; `first` can be once only."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as name:
        folder = Path(name)
        project(folder, models)
        file, raw = folder / "dags" / "retraining.py", folder / "raw" / "raw.py"
        once(PARSE, raw, folder)  # Airflow writes its configuration
        found = {"first": once(PARSE, file, folder)}
        assert found["first"]["dags"] == models
        ways = {
            "raw": lambda: once(PARSE, raw, folder),
            "again": lambda: once(PARSE, file, folder),
            "specs": lambda: once(CATALOG, file, folder),
            "task": lambda: once(TASK, file, folder, f"model-{models // 2:04}"),
        }
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(times):
            for way, run in ways.items():
                taken[way].append(run())
        return found | {way: _median(runs) for way, runs in taken.items()}


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def told(found: dict[int, dict[str, dict[str, float]]]) -> str:
    """A line for each number of models."""
    head = ["models", "raw loop: parse + serialise", "Evergreen, first", "again", "ratio, first", "again",
            "specs alone", "a task's DAG", "peak: raw", "Evergreen"]  # fmt: skip
    lines = []
    for models, ways in found.items():
        raw = ways["raw"]["parse"] + ways["raw"]["serialise"]
        ratios = [(ways[way]["parse"] + ways[way]["serialise"]) / raw for way in ("first", "again")]
        lines.append([
            f"{models:,}", *(_both(ways[way]) for way in ("raw", "first", "again")), *(f"{one:.2f}" for one in ratios),
            f"{ways['specs']['parse']:.2f} s", f"{ways['task']['parse']:.2f} s",
            *(f"{ways[way]['peak_mb']:.0f} MB" for way in ("raw", "again")),
        ])  # fmt: skip
    limit = f"Limits for 1,000 models: {RATIO} of the raw loop, {TASK_SECONDS:g} s until a task's DAG is there."
    return f"{measured()}; medians. {limit}\n\n{table(head, lines)}"


def _both(way: dict[str, float]) -> str:
    return f"{way['parse']:.2f} + {way['serialise']:.2f} s"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--times", type=int, default=3, help="each way, in turn")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    text = told({models: measure(models, options.times) for models in options.models})
    print(text)
    if options.write:
        write(TITLE, text)


if __name__ == "__main__":
    main()
