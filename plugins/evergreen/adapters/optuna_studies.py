"""Studies in Optuna, in the ledger's own database. Optuna's tables there are its own, `alembic_version` among them.

A trial of Optuna's is one of ours; what Optuna has no column for (kind, scores by fold, ...) is one user attribute. The
untuned trial is recorded with the spec's values, moved within the bounds, so that the sampler learns from it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from threading import Lock
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from sqlalchemy import event, make_url
from sqlalchemy.exc import SQLAlchemyError

from evergreen.core.ports.tuning import Study
from evergreen.core.spec_tuning import Space, Span, Value
from evergreen.core.tuning import Trial, TrialKind, TrialState

FACTS, INDEX, KIND, LEFT = "evergreen", "index", "kind", "left"
RANDOM_FIRST, PRUNES_AFTER = 6, 4  # trials: before the sampler has something to learn from, and the pruner to compare
_TRIES, _PAUSE = 5, 0.2
_STATES = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}
_OURS = {ours: theirs for theirs, ours in _STATES.items()}
Result = TypeVar("Result")


class OptunaStudies:
    """Studies behind a SQLAlchemy URL, SQLite or Postgres. Implements core.ports.tuning.Studies."""

    def __init__(self, url: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if not sqlite:
            parsed = parsed.set(drivername="postgresql+psycopg2")
        options = {"connect_args": {"timeout": 20}} if sqlite else {"pool_pre_ping": True}
        text = parsed.render_as_string(hide_password=False)
        self._storage = _again(lambda: optuna.storages.RDBStorage(text, engine_kwargs=options))
        if sqlite:
            event.listen(self._storage.engine, "connect", _sync_less)
            self._storage.engine.dispose()

    def open(
        self, name: str, space: Space, first: Sequence[tuple[TrialKind, Mapping[str, Value]]], *, seed: int
    ) -> Study:
        """See Studies."""
        study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNES_AFTER),
        )
        _end_what_was_left(study)
        return OptunaStudy(study, {name: _distribution(values) for name, values in sorted(space.items())}, first, seed)

    def forget(self, begin: str, but: str) -> None:
        """See Studies."""
        for name in optuna.get_all_study_names(self._storage):
            if name.startswith(begin) and name != but:
                optuna.delete_study(study_name=name, storage=self._storage)


class OptunaStudy:
    """Implements core.ports.tuning.Study."""

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, BaseDistribution],
        first: Sequence[tuple[TrialKind, Mapping[str, Value]]],
        seed: int,
    ) -> None:
        self._study, self._space, self._first, self._seed = study, dict(space), first, seed
        self._running: dict[int, optuna.Trial] = {}
        self._turn = Lock()  # trials run at a time: each is asked for with the places of the others known

    def trials(self) -> list[Trial]:
        """See Study."""
        ended = (trial for trial in self._study.get_trials(deepcopy=False) if trial.state in _STATES)
        return [_trial(trial) for trial in ended if not _left(trial)]

    def ask(self) -> Trial:
        """See Study.

        A sampler of its own for each trial, seeded by the trial's place: one that went through the whole study has a
        state that is lost with its process (Optuna's FAQ, "How can I save and resume studies?").
        """
        with self._turn:
            known = [trial for trial in self._study.get_trials(deepcopy=False) if not _left(trial)]
            there, taken = ({trial.user_attrs.get(name) for trial in known} for name in (KIND, INDEX))
            for kind, params in [one for one in self._first if one[0] not in there][:1]:
                self._study.enqueue_trial(dict(params), user_attrs={KIND: str(kind)})
            index = next(place for place in count() if place not in taken)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(self._seed + index) % 2**31, n_startup_trials=RANDOM_FIRST, multivariate=True
            )
            trial = self._study.ask(self._space)
            trial.set_user_attr(INDEX, index)
            self._running[index] = trial
        kind = TrialKind(trial.user_attrs.get(KIND, TrialKind.SAMPLED))
        return Trial(index, kind, {} if kind is TrialKind.UNTUNED else dict(trial.params))

    def is_hopeless(self, trial: Trial, gains: Sequence[float]) -> bool:
        """See Study. By the median rule (Golovin et al., "Google Vizier", KDD 2017, 3.5): worse, at its best fold so
        far, than half of the others were after as many folds."""
        running = self._running[trial.number]
        running.report(sum(gains) / len(gains), len(gains))
        return trial.kind is not TrialKind.UNTUNED and running.should_prune()

    def tell(self, trial: Trial, gain: float | None) -> None:
        """See Study."""
        running = self._running.pop(trial.number)
        facts = {"scores": trial.scores, "rounds": trial.rounds, "seconds": trial.seconds, "why": trial.why}
        running.set_user_attr(FACTS, facts)
        complete = trial.state is TrialState.COMPLETE
        self._study.tell(running, gain if complete else None, None if complete else _OURS[trial.state])

    def importances(self) -> dict[str, float]:
        """See Study. PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023)."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return dict(get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator()))
        except (ValueError, RuntimeError, ZeroDivisionError):  # too few trials, or all as good as each other
            return {}


def _sync_less(connection: Any, _: object) -> None:
    """The ledger is in WAL mode: a commit that is not flushed survives a killed process, and costs a tenth."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _distribution(values: Span | Sequence[Value]) -> BaseDistribution:
    if not isinstance(values, Span):
        return CategoricalDistribution(list(values))
    if values.int:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _end_what_was_left(study: optuna.Study) -> None:
    """Trials of a process that is gone fail, and are done again by the seed of their place, or as the first ones.

    One that was left twice at the same place stays failed, for it may be what kills; the untuned one is needed.
    """
    known = study.get_trials(deepcopy=False)
    before = {trial.user_attrs.get(INDEX) for trial in known if _left(trial)}
    for trial in known:
        if trial.state is not OptunaState.RUNNING:
            continue
        kind, place = trial.user_attrs.get(KIND), trial.user_attrs.get(INDEX)
        if place in before and place is not None and kind != TrialKind.UNTUNED:
            facts = {"scores": [], "rounds": [], "seconds": 0.0, "why": "its process was killed twice"}
            study._storage.set_trial_user_attr(trial._trial_id, FACTS, facts)
        else:
            study._storage.set_trial_user_attr(trial._trial_id, LEFT, True)
        study.tell(trial.number, state=OptunaState.FAIL)


def _left(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(LEFT))


def _trial(trial: FrozenTrial) -> Trial:
    facts: dict[str, Any] = trial.user_attrs.get(FACTS, {})
    kind = TrialKind(trial.user_attrs.get(KIND, TrialKind.SAMPLED))
    found = Trial(
        number=trial.user_attrs.get(INDEX, trial.number),
        kind=kind,
        params={} if kind is TrialKind.UNTUNED else dict(trial.params),
        state=_STATES[trial.state],
    )
    lists = {name: tuple(facts.get(name, ())) for name in ("scores", "rounds")}
    return replace(found, **lists, seconds=facts.get("seconds", 0.0), why=facts.get("why", ""))


def _again(act: Callable[[], Result]) -> Result:
    """Two processes that make Optuna's tables at the same time get in each other's way, once."""
    for attempt in range(1, _TRIES + 1):
        try:
            return act()
        except SQLAlchemyError:
            if attempt == _TRIES:
                raise
            time.sleep(_PAUSE * attempt)
    raise AssertionError("unreachable")
