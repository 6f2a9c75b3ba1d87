"""The charts: valid SVG, the same bytes each time, with both series and readable text."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from tests.judgements import make_judgement

from evergreen.adapters.evidence_charts import _days, draw
from evergreen.core import evidence as ev
from evergreen.core.metrics import Task

COMMON = {"by_period.svg", "calibration.svg", "shifts.svg", "slices.svg"}
BY_TASK = {
    Task.BINARY: COMMON | {"roc.svg", "pr.svg"},
    Task.MULTICLASS: (COMMON | {"confusion.svg"}),
    Task.REGRESSION: COMMON | {"residuals.svg"},
}


@cache
def drawn(task: Task = Task.BINARY, *, champion: bool = True) -> dict[str, bytes]:
    """The charts of a judgement: a second of work, so each once."""
    return draw(ev.evidence_of(make_judgement(task, champion=champion)))


def texts(svg: bytes) -> str:
    """All text of a picture."""
    return " ".join(
        "".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    )


@pytest.mark.parametrize("task", Task)
def test_each_task_has_its_charts_with_both_series(task):
    charts = drawn(task)
    assert set(charts) == BY_TASK[task]
    for name in BY_TASK[task] - {"shifts.svg"}:
        assert "candidate, version 2" in texts(charts[name])
        assert "champion, version 1" in texts(charts[name])
    assert "carrier" in texts(charts["shifts.svg"])
    assert all(len(svg) < 150_000 for svg in charts.values())


@pytest.mark.parametrize("task", Task)
def test_without_a_champion_there_is_one_series(task):
    charts = drawn(task, champion=False)
    assert set(charts) == BY_TASK[task]
    assert not any("champion" in texts(svg) for svg in charts.values())


def test_the_same_evidence_gives_the_same_bytes_and_leaves_no_state():
    before = dict(mpl.rcParams)
    assert draw(ev.evidence_of(make_judgement())) == drawn()
    assert dict(mpl.rcParams) == before


def test_the_picture_of_the_approval_says_what_it_shows():
    svg = drawn()["by_period.svg"]
    told = texts(svg)
    assert "auc by period (higher is better), 2013" in told
    assert "288 rows" in told
    assert "gate: 0.6" in told
    assert float(re.search(rb'width="([\d.]+)pt"', svg)[1]) * 96 / 72 == pytest.approx(700, abs=5)


def test_nothing_in_a_picture_runs_or_is_fetched():
    for svg in drawn().values():
        root = ElementTree.fromstring(svg)
        assert not [node for node in root.iter() if node.tag.endswith(("}script", "}image", "}foreignObject"))]
        links = [v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")]
        assert all(link.startswith("#") for link in links)


def test_one_class_and_markup_in_a_value():
    judgement = make_judgement()
    fresh = judgement.fresh.with_columns(pl.col("carrier").fill_null('<script>"&'))
    scored = replace(judgement.scored, label=np.zeros(judgement.scored.rows))
    charts = draw(ev.evidence_of(replace(judgement, fresh=fresh, scored=scored)))
    assert set(charts) == COMMON  # a curve needs both classes
    assert "auc by period" in texts(charts["by_period.svg"])
    assert '<script>"&' in texts(charts["slices.svg"])  # parsed as text


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        ("2013-11-17", "2013-11-17", "17 Nov"),
        ("2013-11-17", "2013-11-18", "17–18 Nov"),
        ("2013-11-30", "2013-12-01", "30 Nov –\n1 Dec"),
    ],
)
def test_days_are_short(first, last, shown):
    assert _days(first, last) == shown
