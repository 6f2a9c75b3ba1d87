"""A request whose source did not answer at first gets its watermark later."""

from __future__ import annotations

from datetime import timedelta, timezone

from evergreen.core.ports import Ledger
from records import AS_OF, NOW, WATERMARK, make_request_args


def test_watermark_and_as_of_can_be_noted_later_and_moved(ledger: Ledger) -> None:
    row = ledger.requests.open(**make_request_args(watermark=None, as_of=None))
    assert ledger.requests.newest_watermark(model="m") is None
    berlin = WATERMARK.astimezone(timezone(timedelta(hours=1)))
    ledger.requests.mark(row.id, now=NOW, watermark=berlin, as_of=AS_OF)
    marked = ledger.requests.get(row.id)
    assert (marked.watermark, marked.as_of, marked.state) == (WATERMARK, AS_OF, row.state)
    assert marked.watermark.utcoffset() == timedelta(0)
    assert ledger.requests.newest_watermark(model="m") == WATERMARK
    moved = ledger.requests.mark(row.id, now=NOW, as_of=AS_OF - timedelta(days=9))
    assert (moved.watermark, moved.as_of) == (WATERMARK, AS_OF - timedelta(days=9))
