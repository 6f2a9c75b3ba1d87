"""How fast `pull` is against the fastest bare ways of reading the same rows, and what it holds and reads anew.

A Postgres that is started here holds 91 days of flights, 21 columns. `pull` takes 90 of them into a snapshot: rows are
checked, cut by day, sorted, hashed and written as Parquet. Beside it the same SELECT is read by ADBC and written as a
Parquet file a day, as one would by hand; and it is read into memory, and that is all: by ADBC, by COPY, by connectorx
(into Arrow or Polars), and by pandas. Each is a process of its own, in turn, --times times; the medians are told, and
the peak of resident memory. Then a day is added to the window.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import results
from contenders import VENVS, free_port, make_venv
from pull_once import COLUMNS, COUNTS, DAYS, NUMBERS, START

HERE = Path(__file__).resolve().parent

ONCE, BARE, USER = HERE / "pull_once.py", HERE / "peers" / "bare_pull.py", "postgres"
BINARIES = Path("/usr/lib/postgresql")
MORE = 2  # days after the 90: before their label is there, and the one to come
BY_HAND = "parts"
WAYS = (BY_HAND, "adbc", "copy", "connectorx", "pandas")
FAST = WAYS[1:4]
NAMED = {
    "pull": "pull: checked, hashed Parquet parts", BY_HAND: "adbc into Parquet parts, by hand",
    **{way: f"{way}, into memory" for way in WAYS[1:]},
}  # fmt: skip


def main() -> None:
    """Measure each size, and print what goes into RESULTS.md."""
    options = _parser().parse_args()
    make_venv("connectorx")
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-pull-") as folder, postgres(Path(folder)) as url:
        found = {rows: measure(Path(folder), url, rows, options) for rows in options.rows}
    text = _told(found)
    print(text)
    if options.write:
        results.write("Pull", text)


# ---------------------------------------------------------------- the database


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a database of its own, ended with the block. Postgres refuses to be root's."""
    binaries = max(BINARIES.glob("*/bin"), key=lambda path: int(path.parent.name))
    data, port = folder / "postgres", free_port()
    folder.chmod(0o755)
    data.mkdir()
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user:
        os.chown(data, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    settings = {"port": port, "unix_socket_directories": data, "fsync": "off", "max_wal_size": "8GB",
                "shared_buffers": "512MB", "listen_addresses": "127.0.0.1"}  # fmt: skip
    flags = " ".join(f"-c {name}={value}" for name, value in settings.items())
    control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(data / "log")]
    quiet = {"check": True, "cwd": "/", "stdout": subprocess.DEVNULL}
    subprocess.run([*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "evergreen"], **quiet)
    subprocess.run([*control, "-o", flags, "start"], **quiet)
    try:
        yield f"postgresql://evergreen@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def fill(url: str, rows: int) -> None:
    """So many rows in 90 days, and as many a day in the days after, with an index on the time."""
    import psycopg2

    whole = rows * (DAYS + MORE) // DAYS
    columns = [
        "'f' || n AS id", f"timestamp '{START:%Y-%m-%d}' + n * interval '{DAYS} days' / {rows} AS at",
        "(array['AA','UA','DL','B6'])[1 + n % 4] AS carrier", "'N' || (n % 3000) AS tail",
        *(f"(random() * 1000)::float8 AS {name}" for name in NUMBERS),
        *(f"(random() * 300)::int AS {name}" for name in COUNTS), "(random() < 0.3)::int AS late",
    ]  # fmt: skip
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS flights")
        cursor.execute(f"CREATE TABLE flights AS SELECT {', '.join(columns)} FROM generate_series(0, {whole - 1}) n")  # noqa: S608
        cursor.execute("CREATE INDEX ON flights (at)")
        cursor.execute("VACUUM ANALYZE flights")
    connection.close()


# ---------------------------------------------------------------- measuring


def measure(folder: Path, url: str, rows: int, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """What each way needs, one dict a repetition: seconds, rows, peak_mb."""
    print(f"{rows:,} rows: filling the table", flush=True)
    fill(url, rows)
    found: dict[str, list[dict[str, float]]] = {}
    for turn in range(options.times):
        store = folder / f"store-{rows}-{turn}"
        found.setdefault("pull", []).append(_evergreen(store, url, DAYS, options.lateness))
        for way in WAYS:
            if way != "pandas" or (turn == 0 and rows <= options.pandas):
                found.setdefault(way, []).append(_bare(way, url))
        found.setdefault("a day more", []).append(_evergreen(store, url, DAYS + 1, options.lateness))
        shutil.rmtree(store)
        print(f"{rows:,} rows, {turn + 1} of {options.times}:", {w: _short(all_[-1]) for w, all_ in found.items()})
    return found


def _bare(way: str, url: str) -> dict[str, float]:
    end = START + timedelta(days=DAYS, microseconds=-1)
    query = f"SELECT {', '.join(COLUMNS)} FROM flights WHERE at >= '{START:%F}' AND at <= '{end:%F %T.%f}' ORDER BY at"  # noqa: S608
    python = VENVS / way / "bin" / "python" if way == "connectorx" else sys.executable
    return _run([str(python), str(BARE), way, url, query])


def _evergreen(store: Path, url: str, days: int, lateness: str) -> dict[str, float]:
    return _run([sys.executable, str(ONCE), str(store), url, str(days), lateness])


def _run(command: Sequence[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]}\n{done.stderr[-3000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


# ---------------------------------------------------------------- telling


def _told(found: dict[int, dict[str, list[dict[str, float]]]]) -> str:
    lines = [line for rows, ways in found.items() for line in _lines(rows, ways)]
    told = ("rows", "way", "s", "rows/s", "peak MB", "speed to parts by hand", "to the fastest into memory")
    return "\n\n".join([results.measured(), results.table(told, lines)])


def _lines(rows: int, ways: dict[str, list[dict[str, float]]]) -> Iterator[tuple[str, ...]]:
    fastest = max(_speed(ways[way]) for way in FAST)
    for way, tries in ways.items():
        seconds, peak = _median(tries, "seconds"), max(one["peak_mb"] for one in tries)
        shares = (f"{_speed(tries) / other:.2f}" for other in (_speed(ways[BY_HAND]), fastest))
        if way == "a day more":
            shares = (f"{seconds / _median(ways['pull'], 'seconds'):.1%} of the time of pull", "")
        yield f"{rows:,}", NAMED.get(way, way), f"{seconds:.2f}", f"{_speed(tries):,.0f}", f"{peak:,.0f}", *shares


def _speed(tries: Sequence[dict[str, float]]) -> float:
    return _median(tries, "rows") / _median(tries, "seconds")


def _median(tries: Sequence[dict[str, float]], what: str) -> float:
    return statistics.median(one[what] for one in tries)


def _short(one: dict[str, float]) -> str:
    return f"{one['seconds']:.2f} s {one['peak_mb']:.0f} MB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000], help="of the 90 days")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured")
    parser.add_argument("--lateness", default="1d", help="source.lateness; the default of a spec is 7d")
    parser.add_argument("--pandas", type=int, default=1_000_000, help="the most rows that pandas is given")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    return parser


if __name__ == "__main__":
    main()
