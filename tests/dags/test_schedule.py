"""What starts a run: cron lines, the source's asset, both or none."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_letters, digits

import pytest
from airflow.sdk import Asset, AssetOrTimeSchedule, MultipleCronTriggerTimetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from evergreen.orchestration.dag_factory import build_dag, schedule_of
from evergreen.orchestration.watchers import SourceWatcher, asset_name, asset_of
from records import make_spec

NEW_DATA = {"new_data": {"min_rows": 5}}
NIGHTLY = {"schedule": "0 3 * * *"}
MONDAYS = {"schedule": "30 6 * * 1"}


@pytest.mark.parametrize(
    ("triggers", "kind"),
    [
        ([], type(None)),
        ([NIGHTLY], MultipleCronTriggerTimetable),
        ([NIGHTLY, MONDAYS], MultipleCronTriggerTimetable),
        ([NEW_DATA], list),
        ([NEW_DATA, NIGHTLY], AssetOrTimeSchedule),
    ],
)
def test_the_schedule_is_what_the_triggers_say(triggers: list[dict[str, object]], kind: type) -> None:
    assert isinstance(schedule_of(make_spec(triggers=triggers)), kind)


def test_all_cron_lines_are_kept() -> None:
    schedule = schedule_of(make_spec(triggers=[NIGHTLY, MONDAYS]))
    assert [one.expression for one in schedule.timetables] == ["0 3 * * *", "30 6 * * 1"]


@pytest.mark.parametrize("triggers", [[{"schedule": "* * * * *"}], [{"schedule": "* * * * *"}, NEW_DATA]])
def test_a_new_model_has_its_first_run_when_its_time_comes_next(triggers: list[dict[str, object]]) -> None:
    stored = DagSerialization.to_dict(build_dag(make_spec(triggers=triggers)))
    timetable = DagSerialization.from_dict(stored).timetable
    now = datetime.now(UTC)
    first = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest=None, latest=None, catchup=False)
    )
    assert first.run_after > now


def test_models_of_one_source_share_their_watcher() -> None:
    one, two = make_spec(name="one").source, make_spec(name="two").source
    first, second = asset_of(one), asset_of(two)
    assert first == second
    assert isinstance(first, Asset)
    assert first.watchers[0].trigger.serialize() == second.watchers[0].trigger.serialize()


def test_a_watcher_is_made_again_from_what_it_is_stored_as() -> None:
    trigger = asset_of(make_spec().source).watchers[0].trigger
    path, arguments = trigger.serialize()
    assert path == "evergreen.orchestration.watchers.SourceWatcher"
    assert SourceWatcher(**arguments).serialize() == (path, arguments)


def test_files_get_a_readable_name_of_their_own() -> None:
    urls = ["s3://bucket/flights/2013/*.parquet", "s3://bucket/flights/2014/*.parquet", "data/*.csv"]
    sources = [make_spec(source={"files": url, "event_time": "at", "key": "id"}).source for url in urls]
    names = [asset_name(source) for source in sources]
    assert len(set(names)) == 3
    assert names[0].startswith("files/s3-bucket-flights-2013-parquet-")
    assert all(set(name) <= set(ascii_letters + digits + "-/") for name in names)
    path, arguments = asset_of(sources[0]).watchers[0].trigger.serialize()
    assert SourceWatcher(**arguments).serialize() == (path, arguments)
    assert "source:files" in build_dag(make_spec(source=sources[0].model_dump(exclude_none=True))).tags


def test_a_query_gets_a_short_name_of_its_own() -> None:
    queries = ["SELECT * FROM a", "SELECT * FROM b"]
    described = [make_spec(source={"connection": "w", "query": q, "event_time": "at", "key": "id"}) for q in queries]
    names = [asset_name(spec.source) for spec in described]
    assert len(set(names)) == 2
    assert all(name.startswith("w/query-") and name.endswith("/at") and len(name) < 40 for name in names)
