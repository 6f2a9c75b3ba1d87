"""When rules open alerts, ask for retrains and close: each move of its own, and what is true whatever comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from evergreen.core import alert_notices
from evergreen.core.monitoring import alert_texts
from evergreen.core.monitoring.rules import (
    Ask,
    Close,
    Facts,
    Move,
    Nothing,
    Open,
    asked,
    cooldown_of,
    dedupe_key,
    judge_rule,
    key_of,
    orphans,
    worst_of,
)
from evergreen.core.records import Alert, NoticeKind, RuleState, Severity
from evergreen.core.spec_monitoring import MetricRule, MetricTrigger
from evergreen.fakes.ledger import in_memory_ledger
from records import NOW

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Measured:
    """A value as the monitor's pass has it."""

    value: float
    rows: int = 12_000


FINE, BROKEN = Measured(0.1), Measured(0.3)


def trigger(**changes: Any) -> MetricTrigger:
    return MetricTrigger.model_validate({"name": "drift.psi.max", "above": 0.2, **changes})


def teller(**changes: Any) -> MetricRule:
    return MetricRule.model_validate({"name": "drift.psi.max", "above": 0.2, **changes})


class Passes:
    """A rule over passes, with what the ledger would keep of it."""

    def __init__(self, watched: MetricRule, slice: str = "") -> None:
        self.rule, self.slice = watched, slice
        self.state = RuleState("m", key_of(watched, slice))
        self.alert: Alert | None = None
        self.now, self.opened = NOW, 0
        self.asks: list[str] = []

    def look(self, value: Measured | None, **facts: Any) -> Move:
        """One pass, whose moves are made."""
        known = Facts(**{"now": self.now, "version": 4, "window": "1d", "new_id": f"a{self.opened}", **facts})
        move = judge_rule(self.rule, self.state, value, self.alert, replace(known, slice=self.slice))
        self.state = move.state
        match move:
            case Open(alert, _, asks):
                assert self.alert is None
                self.alert, self.opened = alert, self.opened + 1
                if asks:
                    self.ask()
            case Ask():
                self.ask()
            case Close():
                self.alert = None
        return move

    def ask(self) -> None:
        assert self.alert
        self.asks.append(dedupe_key(self.state, self.alert.id))
        self.state = asked(self.state, self.now)

    def many(self, values: Sequence[Measured | None], every: timedelta = 5 * MINUTE) -> list[str]:
        """The moves that are none of Nothing, each with the number of its pass."""
        told = []
        for number, value in enumerate(values):
            move = self.look(value)
            told += [] if isinstance(move, Nothing) else [f"{number}:{type(move).__name__}"]
            self.now += every
        return told


# ---------------------------------------------------------------- keys


def test_a_key_says_the_metric_the_limit_and_the_slice() -> None:
    auc = MetricRule.model_validate({"name": "quality.realised.auc", "below": 0.62, "slice": "carrier"})
    assert key_of(trigger()) == "drift.psi.max>0.2"
    assert key_of(auc, "carrier=UA") == "quality.realised.auc<0.62[carrier=UA]"
    assert key_of(auc) == "quality.realised.auc<0.62[carrier]"
    assert key_of(teller(above=5)) == "drift.psi.max>5"
    assert key_of(teller(above=1234567.25)) != key_of(teller(above=1234567.5))


def test_a_long_key_is_cut_and_stays_its_own() -> None:
    auc = MetricRule.model_validate({"name": "quality.realised.auc", "below": 0.62, "slice": "carrier"})
    one, other = (key_of(auc, f"carrier={'x' * 400}{end}") for end in "ab")
    assert (len(one), len(other), one == other) == (250, 250, False)
    assert one.startswith("quality.realised.auc<0.62[carrier=xxx")


# ---------------------------------------------------------------- opening and closing


def test_an_alert_opens_after_so_many_breaches_in_a_row_and_closes_after_as_many_without() -> None:
    passes = Passes(teller(**{"for": 3}))
    values = [BROKEN, BROKEN, FINE, BROKEN, BROKEN, BROKEN, FINE, FINE, BROKEN, FINE, FINE, FINE]
    assert passes.many(values) == ["5:Open", "11:Close"]
    assert (passes.alert, passes.state.alert_id, len(passes.state.changes)) == (None, "", 2)


def test_an_alert_tells_what_was_measured() -> None:
    by_carrier = MetricRule.model_validate(
        {"name": "quality.realised.auc", "below": 0.62, "slice": "carrier", "severity": "critical"}
    )
    move = Passes(by_carrier, "carrier=UA").look(Measured(0.58, 900))
    assert isinstance(move, Open)
    assert move.alert == Alert(
        id="a0", model="m", rule="quality.realised.auc<0.62[carrier=UA]", metric="quality.realised.auc",
        slice="carrier=UA", severity=Severity.CRITICAL, version=4, value=0.58, limit=0.62, direction="below",
        window="1d", rows=900, opened_at=NOW, worst=0.58,
    )  # fmt: skip
    assert (move.state.alert_id, move.state.changes, move.asks) == ("a0", (NOW,), False)


@pytest.mark.parametrize(
    ("value", "version"), [(None, 4), (Measured(math.nan), 4), (Measured(math.inf), 4), (BROKEN, None), (FINE, None)]
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_pass_that_cannot_judge_changes_nothing(value: Measured | None, version: int | None, is_open: bool) -> None:
    passes = Passes(trigger(cooldown="0s"))
    if is_open:
        passes.look(BROKEN)
    before, alert = passes.state, passes.alert
    assert passes.look(value, version=version) == Nothing(before)
    assert (passes.state, passes.alert) == (before, alert)


def test_at_its_limit_a_metric_does_not_break_it() -> None:
    assert isinstance(Passes(teller()).look(Measured(0.2)), Nothing)
    below = MetricRule.model_validate({"name": "volume.rows", "below": 0.2})
    assert isinstance(Passes(below).look(Measured(0.2)), Nothing)
    assert isinstance(Passes(below).look(Measured(0.1999)), Open)


def test_an_alert_that_comes_and_goes_stays_open_and_is_told_once_each_time_it_would_close() -> None:
    passes = Passes(teller(**{"for": 2}))
    assert passes.many([BROKEN, BROKEN, FINE, FINE, BROKEN, BROKEN]) == ["1:Open", "3:Close", "5:Open"]
    told = [passes.look(FINE) for _ in range(4)]
    assert [move.flapping for move in told if isinstance(move, Nothing)] == [False, True, False, False]
    passes.now += 25 * HOUR
    assert isinstance(passes.look(FINE), Close)


def test_the_worst_is_the_farthest_from_the_limit() -> None:
    move = Passes(teller()).look(BROKEN)
    assert isinstance(move, Open)
    found = [worst_of(move.alert, Measured(value)) for value in (0.1, 0.5, math.nan)]
    assert found == [0.3, 0.5, 0.3]
    below = replace(move.alert, direction="below")
    assert [worst_of(below, Measured(value)) for value in (0.1, 0.5)] == [0.1, 0.3]


def test_an_alert_whose_rule_is_gone_is_an_orphan() -> None:
    one, sliced = Passes(teller()), Passes(teller(slice="carrier"), "carrier=UA")
    for passes in (one, sliced):
        passes.look(BROKEN)
    alerts = [one.alert, sliced.alert]
    assert orphans(alerts, [teller(severity="info", **{"for": 9}), teller(slice="carrier")]) == []
    assert orphans(alerts, [teller()]) == [sliced.alert]
    assert orphans(alerts, [teller(slice="carrier")]) == [one.alert]
    assert orphans(alerts, [teller(slice="carr"), teller(above=0.3)]) == alerts


def test_a_new_champion_is_counted_anew_but_for_what_is_no_versions() -> None:
    passes = Passes(teller(**{"for": 3}))
    passes.many([BROKEN, BROKEN])
    released = passes.now
    passes.now += MINUTE
    for _ in range(2):
        assert isinstance(passes.look(BROKEN, version=5, since=released), Nothing)
        passes.now += MINUTE
    assert isinstance(passes.look(BROKEN, version=5, since=released), Open)
    assert isinstance(passes.look(FINE, version=5, since=released), Nothing)
    assert isinstance(passes.look(FINE, version=5, since=released), Nothing)
    passes.now += MINUTE
    back = passes.now  # it is rolled back: three passes of the version before
    moves = []
    for _ in range(3):
        passes.now += MINUTE
        moves.append(type(passes.look(FINE, since=back)))
    assert moves == [Nothing, Nothing, Close]
    ages = Passes(MetricRule.model_validate({"name": "age.data_hours", "above": 0.2, "for": 2}))
    ages.look(BROKEN)
    ages.now += HOUR
    assert isinstance(ages.look(BROKEN, since=ages.now - MINUTE), Open)


# ---------------------------------------------------------------- asking


def test_a_trigger_asks_when_it_opens_and_again_after_its_cooldown() -> None:
    passes = Passes(trigger(cooldown="10m"))
    assert passes.many([BROKEN] * 5) == ["0:Open", "2:Ask", "4:Ask"]
    assert len(set(passes.asks)) == 3


def test_it_asks_for_nothing_while_a_retrain_is_on_its_way_nor_on_a_pass_without_a_breach() -> None:
    passes = Passes(trigger(cooldown="0s", **{"for": 2}))
    passes.many([BROKEN, BROKEN])
    assert isinstance(passes.look(BROKEN, waiting=True), Nothing)
    assert isinstance(passes.look(FINE), Nothing)
    assert isinstance(passes.look(BROKEN), Ask)


def test_its_cooldown_outlives_an_alert() -> None:
    passes = Passes(trigger(cooldown="1h"))
    assert passes.many([BROKEN, FINE, BROKEN]) == ["0:Open", "1:Close", "2:Open"]
    assert len(passes.asks) == 1
    passes.now += HOUR
    assert isinstance(passes.look(BROKEN), Ask)


def test_a_rule_that_only_tells_people_never_asks() -> None:
    passes = Passes(teller())
    assert passes.many([BROKEN] * 9, every=DAY) == ["0:Open"]
    assert passes.asks == []


def test_a_pass_that_is_killed_after_it_asked_asks_for_the_same() -> None:
    passes = Passes(trigger())
    passes.look(BROKEN)
    assert passes.alert
    before = replace(passes.state, asked_at=None)  # as kept with the alert; then it was killed
    move = judge_rule(passes.rule, before, BROKEN, passes.alert, Facts(NOW + MINUTE, 4, "1d", "a1"))
    assert isinstance(move, Ask)
    assert dedupe_key(move.state, passes.alert.id) == passes.asks[0]
    assert dedupe_key(asked(move.state, NOW), passes.alert.id) != passes.asks[0]


def test_a_dedupe_key_fits_the_ledgers_column() -> None:
    longest = RuleState("m", "x" * 250, asked_at=NOW)
    assert len(dedupe_key(longest, "a" * 36)) <= 400


def test_retrains_that_do_not_help_are_asked_for_ever_more_seldom() -> None:
    rule = trigger(cooldown="6h")
    hours = [cooldown_of(rule, unhelpful) / HOUR for unhelpful in (0, 1, 2, 3, 4, 5, 6, 99)]
    assert hours == [6, 6, 12, 24, 48, 96, 168, 168]
    assert [cooldown_of(trigger(cooldown="0s"), n) / HOUR for n in (1, 2, 3)] == [0, 2, 4]
    assert cooldown_of(trigger(cooldown="30d"), 9) == timedelta(days=30)
    assert cooldown_of(trigger(cooldown="36500d"), 10**9) == timedelta(days=36500)


def test_a_rule_that_backs_off_says_until_when() -> None:
    passes = Passes(trigger(cooldown="6h"))
    passes.look(BROKEN)
    passes.now += 6 * HOUR
    assert passes.look(BROKEN, unhelpful=2) == Nothing(passes.state, backs_off_until=NOW + 12 * HOUR)
    assert passes.look(BROKEN, unhelpful=2, waiting=True) == Nothing(passes.state)
    passes.now += 6 * HOUR
    assert isinstance(passes.look(BROKEN, unhelpful=2), Ask)


# ---------------------------------------------------------------- what people read


def an_alert(**changes: Any) -> Alert:
    move = Passes(teller(severity="critical", slice="carrier"), "carrier=UA").look(Measured(0.3125))
    assert isinstance(move, Open)
    return replace(move.alert, **changes)


def test_an_alert_reads_with_all_its_facts() -> None:
    assert alert_texts.title(an_alert()) == "critical: m: drift.psi.max is 0.3125, above 0.2 where carrier is UA"
    told = alert_texts.sentence(an_alert(request_id="r7"))
    assert told.startswith(
        "drift.psi.max where carrier is UA is 0.3125, above 0.2, over 1d and 12,000 rows of version 4; "
        "the alert (critical) is open since 2025-03-01 12:00 UTC. A retrain was asked for (request r7). "
    )
    assert "`evergreen retrain m`" in told
    assert "No retrain was asked for." in alert_texts.sentence(an_alert())


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("volume.rows", "callers"),
        ("requests.error_rate", "`evergreen rollback m`"),
        ("missing.temp", "who fills the column"),
        ("unseen.max", "categories are new"),
        ("quality.realised.auc", "worst slices"),
        ("labels.fraction", "where labels come from"),
        ("age.champion_hours", "`evergreen status m`"),
        ("age.data_hours", "still gets rows"),
        ("user.bags", "whoever posts"),
    ],
)
def test_each_kind_of_metric_has_its_next_act(metric: str, told: str) -> None:
    assert told in alert_texts.what_next(an_alert(metric=metric))


def test_what_rests_on_no_rows_names_none() -> None:
    assert "over 1d, of version 4;" in alert_texts.sentence(an_alert(metric="requests.error_rate", slice=""))
    assert "while version 4 answers;" in alert_texts.sentence(an_alert(metric="age.data_hours", slice=""))


def test_a_closed_alert_says_why_and_how_bad_it_was() -> None:
    why = alert_texts.recovered(5, NOW + HOUR)
    alert = an_alert(slice="", worst=0.5, closed_at=NOW + 3 * HOUR, closed_why=why, closed_value=0.05)
    assert alert_texts.closed_title(alert) == "m: drift.psi.max is 0.05 again (above 0.2 was an alert)"
    assert alert_texts.closed_sentence(alert) == (
        "The alert was closed after 3 h: it is back within its limit with version 5, which it asked for, released at "
        "2025-03-01 13:00 UTC. It was 0.3125 when the alert opened, and 0.5 at worst."
    )
    gone = replace(alert, closed_value=None, closed_why=alert_texts.NO_RULE)
    assert alert_texts.closed_title(gone) == "m: drift.psi.max is closed (above 0.2 was an alert)"


def test_each_thing_about_an_alert_is_told_once() -> None:
    ledger, alert = in_memory_ledger(), an_alert()
    until = NOW + DAY
    for is_new in (True, False):
        assert alert_notices.opened(ledger, alert, "link", NOW) is is_new
        assert alert_notices.flaps(ledger, alert, "link", NOW) is is_new
        assert alert_notices.backs_off(ledger, alert, 2, until, "link", NOW) is is_new
        assert alert_notices.closed(ledger, alert, "link", NOW) is is_new
    assert alert_notices.backs_off(ledger, alert, 3, until, "link", NOW)
    kinds = [notice.kind for notice in ledger.notices.latest(9)]
    assert kinds.count(NoticeKind.ALERT) == 4
    assert kinds.count(NoticeKind.ALERT_CLOSED) == 1
    last = ledger.notices.latest(1)[0]
    assert last.title == "m: retrains do not mend drift.psi.max where carrier is UA"
    assert "The last 3 retrains" in last.text
    assert "after 2025-03-02 12:00 UTC at the earliest" in last.text


# ---------------------------------------------------------------- whatever comes


class Rules(RuleBasedStateMachine):
    """A rule over passes of any outcome, and beside it one that only sees those that could be judged."""

    @initialize(passes=st.integers(1, 4), cooldown=st.sampled_from(["0s", "10m", "6h", "30d"]), asks=st.booleans())
    def a_rule(self, passes: int, cooldown: str, asks: bool) -> None:
        watched = trigger(**{"for": passes}, cooldown=cooldown) if asks else teller(**{"for": passes})
        self.seen, self.twin = Passes(watched), Passes(watched)
        self.judged: list[bool] = []  # whether each judged pass was a breach
        self.opened: list[Any] = []
        self.asked: list[tuple[Any, int]] = []

    @rule(
        broken=st.booleans(),
        times=st.integers(1, 6),
        every=st.sampled_from([MINUTE, 5 * MINUTE, HOUR, 7 * HOUR]),
        unhelpful=st.integers(0, 6),
        waiting=st.booleans(),
    )
    def passes_that_judge(self, broken: bool, times: int, every: timedelta, unhelpful: int, waiting: bool) -> None:
        for _ in range(times):
            self.time_goes_on(every)
            self.judge(broken, unhelpful, waiting)

    @rule(times=st.integers(2, 12), every=st.sampled_from([MINUTE, 20 * MINUTE]), gaps=st.booleans())
    def it_comes_and_goes(self, times: int, every: timedelta, gaps: bool) -> None:
        """Each time for as long as the rule needs. `gaps`: between two passes there is one that cannot judge."""
        for swing in range(times):
            for _ in range(self.seen.rule.passes):
                if gaps:
                    self.passes_that_cannot(1, every, has_champion=True)
                self.time_goes_on(every)
                self.judge(swing % 2 == 0, unhelpful=0, waiting=False)

    def judge(self, broken: bool, unhelpful: int, waiting: bool) -> None:
        seen, asks_before = self.seen, len(self.seen.asks)
        was_open, need = seen.alert is not None, seen.rule.passes
        facts = {"unhelpful": unhelpful, "waiting": waiting}
        value = BROKEN if broken else FINE
        move = seen.look(value, **facts)
        assert move == self.twin.look(value, **facts), "passes that could not judge made a difference"
        self.judged.append(broken)
        if isinstance(move, Open):
            assert not was_open
            assert len(self.judged) >= need
            assert all(self.judged[-need:])
            self.opened.append(seen.now)
        elif not was_open:
            assert not all(self.judged[-need:]) or len(self.judged) < need, "an alert that should have opened"
        if isinstance(move, Close):
            assert not any(self.judged[-need:])
        if isinstance(move, Ask | Open) and len(seen.asks) > asks_before:
            assert not waiting
            self.asked.append((seen.now, unhelpful if isinstance(move, Ask) else 0))

    @rule(times=st.integers(1, 4), every=st.sampled_from([MINUTE, HOUR]), has_champion=st.booleans())
    def passes_that_cannot(self, times: int, every: timedelta, has_champion: bool) -> None:
        for _ in range(times):
            self.time_goes_on(every)
            before = self.seen.state
            nothing = self.seen.look(None if has_champion else BROKEN, version=4 if has_champion else None)
            assert nothing == Nothing(before)

    def time_goes_on(self, by: timedelta) -> None:
        self.seen.now += by
        self.twin.now += by

    @invariant()
    def an_alert_is_open_where_the_state_says_so(self) -> None:
        assert self.seen.state.alert_id == (self.seen.alert.id if self.seen.alert else "")

    @invariant()
    def never_more_than_four_alerts_a_day(self) -> None:
        for start in self.opened[-20:]:
            assert len([one for one in self.opened if start <= one < start + DAY]) <= 4

    @invariant()
    def never_two_asks_within_the_cooldown(self) -> None:
        if self.asked:
            assert isinstance(self.seen.rule, MetricTrigger)
            for (before, _), (after, unhelpful) in zip(self.asked, self.asked[1:], strict=False):
                assert after - before >= cooldown_of(self.seen.rule, unhelpful) >= self.seen.rule.cooldown
            assert len(set(self.seen.asks)) == len(self.seen.asks), "one dedupe key for two asks"

    @invariant()
    def what_is_kept_stays_small(self) -> None:
        assert len(self.seen.state.changes) <= 8

    def teardown(self) -> None:
        """After two quiet days no alert is open, whatever was before."""
        if not hasattr(self, "seen"):
            return
        for _ in range(60):
            self.time_goes_on(HOUR)
            self.judge(False, 0, False)
        assert self.seen.alert is None


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
