"""The parameters of a run: what is taken, what is left out, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evergreen.core.run_params import BadRunParameter, RunParams, form, given, table


def test_nothing_asked_for() -> None:
    left_out = {"reason": None, "force": None, "window_end": "", "window_train": None, "requested_by": ""}
    for conf in ({}, left_out, {"user": "ada", "triggered_by": "ui", "force": False}):
        assert RunParams.of(conf) == RunParams()
        assert given(conf).keys() <= {"user", "triggered_by"}


def test_all_of_them() -> None:
    conf = {"reason": "repaired", "force": True, "window_end": "2013-12-01T01:00+01:00", "window_train": "120d"}
    assert RunParams.of({**conf, "requested_by": "ada"}) == RunParams(
        reason="repaired",
        force=True,
        window_end=datetime(2013, 12, 1, tzinfo=UTC),
        window_train=timedelta(days=120),
        requested_by="ada",
    )
    assert given(conf) == conf
    assert RunParams.of({"dry_run": True}).dry_run
    assert RunParams.of({"override": 7, "reason": "Easter"}).override == 7


@pytest.mark.parametrize("text", ["2013-12-01T00:00:00.000Z", "2013-12-01 00:00:00+00:00", "2013-12-01T00:00Z"])
def test_times_as_the_form_and_as_people_write_them(text: str) -> None:
    assert RunParams.of({"window_end": text}).window_end == datetime(2013, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"force": "yes"}, ("'force'", "found 'yes'", "true or false")),
        ({"force": 1}, ("'force'", "found 1", "true or false")),
        ({"reason": 7}, ("'reason'", "found 7", "a text of up to 1000 characters")),
        ({"requested_by": "a" * 201}, ("'requested_by'", "found 'aaa", "up to 200")),
        ({"window_end": "2013-12-01"}, ("'window_end'", "found '2013-12-01'", "2013-12-01T00:00:00Z", "zone")),
        ({"window_end": "2013-12-01T00:00:00"}, ("'window_end'", "with its zone")),
        ({"window_end": "2013-02-31T00:00:00Z"}, ("'window_end'", "2013-02-31")),
        ({"window_end": "0001-01-01T00:00:00+10:00"}, ("'window_end'",)),
        ({"window_end": 5}, ("'window_end'", "found 5")),
        ({"window_train": "3 months"}, ("'window_train'", "found '3 months'", "90d")),
        ({"window_train": "0d"}, ("'window_train'", "longer than 0s")),
        ({"windowtrain": "90d"}, ("'windowtrain'", "no such parameter", "Did you mean 'window_train'?")),
        ({"dryrun": True}, ("'dryrun'", "window_train, dry_run, tune, override, requested_by", "'dry_run'")),
        ({"nothing": 1}, ("'nothing'", "no such parameter", "Leave it out.")),
        ({"judge_again": 7}, ("'judge_again'", "no such parameter")),
        ({"dry_run": "no"}, ("'dry_run'", "found 'no'", "true or false")),
        ({"override": "7", "reason": "x"}, ("'override'", "found '7'", "the number of a version")),
        ({"override": 0, "reason": "x"}, ("'override'", "found 0", "the number of a version")),
        ({"override": 7}, ("'override'", "found no reason", "Say in 'reason'")),
        ({"override": 7, "reason": "  "}, ("'override'", "found no reason")),
        ({"override": 7, "reason": "x", "force": True, "dry_run": True}, ("'override'", "force and dry_run", "Leave")),
    ],
)
def test_what_cannot_be_is_told_with_the_field(conf: dict[str, Any], told: tuple[str, ...]) -> None:
    with pytest.raises(BadRunParameter) as raised:
        RunParams.of(conf)
    assert not raised.value.retryable
    for words in told:
        assert words in str(raised.value)


def test_the_form_and_the_docs_name_them_all() -> None:
    assert list(form()) == list(RunParams.model_fields)
    assert all(field["title"] and field["description"] and field["type"][1] == "null" for field in form().values())
    assert all(f"| `{name}` |" in table() for name in RunParams.model_fields)
