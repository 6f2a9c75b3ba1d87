"""Windows are counted back from as_of."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from evergreen.core.window import window


def test_holdout_gap_and_training_window_are_counted_back_from_as_of() -> None:
    spec = SimpleNamespace(
        window=SimpleNamespace(lengths=[timedelta(days=90)], holdout=SimpleNamespace(length=timedelta(days=14))),
        label=SimpleNamespace(arrives_after=timedelta(days=1)),
    )
    found = window(spec, datetime(2013, 3, 31, 4, tzinfo=UTC))  # type: ignore[arg-type]
    assert found.holdout_start == datetime(2013, 3, 17, 4, tzinfo=UTC)
    assert found.train_end == datetime(2013, 3, 16, 4, tzinfo=UTC)
    assert found.start == datetime(2012, 12, 16, 4, tzinfo=UTC)
