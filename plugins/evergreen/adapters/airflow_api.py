"""Airflow's REST API, as far as Evergreen asks it: runs, their approvals, DAGs and import errors."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from evergreen.core.errors import FoundProblem, ServiceFailed
from evergreen.core.ports import RunState

TIMEOUT = 30.0  # seconds
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})  # states of a task
STUMBLES = (1.0, 2.0, 4.0)  # pauses before Airflow is asked again, seconds


@dataclass(frozen=True)
class Question:
    """What Airflow shows of an approval, and the answer that it holds, if any (`responded_by` none: the timeout)."""

    dag_id: str
    run_id: str
    subject: str
    body: str
    needs_reason: bool  # to approve; a rejection always needs one
    asked_at: datetime
    chosen: tuple[str, ...] = ()
    params: Mapping[str, Any] | None = None
    responded_at: datetime | None = None
    responded_by: Mapping[str, str] | None = None

    def as_event(self) -> dict[str, Any]:
        """The answer as Airflow hands it to the waiting task."""
        return {
            "chosen_options": list(self.chosen),
            "params_input": dict(self.params or {}),
            "responded_at": self.responded_at,
            "responded_by_user": self.responded_by,
        }


class NotAllowed(FoundProblem):
    """Raised when the user who is signed in may not do what was asked of Airflow."""


class AirflowApi:
    """A signed-in client of one Airflow.

    Raises ServiceFailed when it does not answer, NotAllowed when the user may not, FoundProblem when it refuses.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user, self._password = user, password
        no_idle_sockets = httpx.Limits(max_keepalive_connections=0)  # so that there is nothing to close
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, limits=no_idle_sockets)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run now; returns its run id, which makes twice once."""
        run_id = f"manual__{datetime.now(UTC).isoformat()}_{secrets.token_hex(3)}"
        return self._start(dag_id, run_id, conf or {})

    def start(self, model: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """See Runs. Raises FoundProblem where the model's DAG is missing, broken or paused.

        Airflow would take a run of a paused DAG too, and leave it queued: whoever waits would not hear why.
        """
        if self.state(model, run_id) is None:
            self._check_runs(model)
            self._start(model, run_id, conf)

    def state(self, model: str, run_id: str) -> RunState | None:
        """See Runs."""
        address = _run(model, run_id)
        answer = self._signed_in("GET", address, None)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return RunState(_checked("GET", address, answer)["state"])

    def dismiss(self, model: str, run_id: str, reason: str) -> None:
        """See Runs. The approval gets the answer 'Reject', which releases nothing whatever it is taken for.

        A question that was put counts as waiting before its task waits, too: that finds the answer when it does.
        """
        address = f"{_run(model, run_id)}/{_hitl('approve')}"
        answer = self._signed_in("GET", address, None)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        found = _checked("GET", address, answer)
        if found["response_received"] or found["task_instance"]["state"] in ENDED:
            return
        answer = self._signed_in("PATCH", address, {"chosen_options": ["Reject"], "params_input": {"reason": reason}})
        if answer.status_code not in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):  # answered, or cleared, meanwhile
            _checked("PATCH", address, answer)

    def _start(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> str:
        path = f"dags/{quote(dag_id)}/dagRuns"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        answer = self._signed_in("POST", path, body)
        if answer.status_code == httpx.codes.CONFLICT:  # an earlier try did start it
            return run_id
        return str(_checked("POST", path, answer)["dag_run_id"])

    def _check_runs(self, dag_id: str) -> None:
        """Raise FoundProblem where a run of this DAG would not begin."""
        path = f"dags/{quote(dag_id)}"
        answer = self._signed_in("GET", path, None)
        dag = {} if answer.status_code == httpx.codes.NOT_FOUND else _checked("GET", path, answer)
        if not dag or dag["is_stale"]:
            why, do = "no such DAG", "`evergreen check` names what is wrong with specs; a new DAG takes some seconds."
        elif dag["has_import_errors"]:
            why, do = "import errors", "Airflow shows them above its list of DAGs."
        elif dag["is_paused"]:
            why, do = "paused", "Unpause it in Airflow: what waits is started then."
        else:
            return
        raise FoundProblem(f"DAG '{dag_id}' in Airflow", found=why, allowed="a DAG that runs", do=do)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run: state, run_type, triggered_by, triggering_user_name, conf, note and times."""
        return self._ask("GET", _run(dag_id, run_id))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """State by task id."""
        found = self._ask("GET", f"{_run(dag_id, run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    def note(self, dag_id: str, run_id: str, text: str) -> None:
        """Write the run's note, which the UI shows beside it."""
        self._ask("PATCH", f"{_run(dag_id, run_id)}?update_mask=note", {"note": text[:1000]})

    def waiting(self, dag_id: str) -> list[Question]:
        """The approvals of a model that wait for a person, oldest first."""
        found = self._ask("GET", f"{_run(dag_id, '~')}/hitlDetails?state=awaiting_input&limit=100&order_by=created_at")
        return [_question(detail) for detail in found["hitl_details"] if not detail["response_received"]]

    def question(self, dag_id: str, run_id: str, *, task_id: str = "approve") -> Question | None:
        """What the run's approval shows, answered or not; none where it was never asked."""
        address = f"{_run(dag_id, run_id)}/{_hitl(task_id)}"
        answer = self._signed_in("GET", address, None)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _question(_checked("GET", address, answer))

    def approve(self, dag_id: str, run_id: str, option: str, *, reason: str = "", task_id: str = "approve") -> None:
        """Answer a waiting approval with 'Approve' or 'Reject'. Raises FoundProblem where it is answered already."""
        address = f"{_run(dag_id, run_id)}/{_hitl(task_id)}"
        answer = self._signed_in("PATCH", address, {"chosen_options": [option], "params_input": {"reason": reason}})
        if answer.status_code != httpx.codes.CONFLICT:
            _checked("PATCH", address, answer)
        elif not self._is_mine(self.question(dag_id, run_id, task_id=task_id), option, reason):
            raise FoundProblem(
                f"approval of {dag_id}, run {run_id}",
                found="an answer already",
                allowed="one answer; the first stands",
                do=f"`evergreen history {dag_id}` shows who answered, and what came of it.",
            )

    def _is_mine(self, question: Question | None, option: str, reason: str) -> bool:
        """Whether the answer is the one that this user gave: an earlier try has written it."""
        who = (question.responded_by or {}).get("name") if question else None
        return bool(question) and (who, question.chosen, question.params) == (self._user, (option,), {"reason": reason})

    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Run tasks of a run again, with all that follow them."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._ask("POST", f"dags/{quote(dag_id)}/clearTaskInstances", body)

    def dags(self) -> list[str]:
        """The ids of all active DAGs, sorted."""
        return sorted(dag["dag_id"] for dag in self._ask("GET", "dags?limit=1000")["dags"])

    def health(self) -> dict[str, str | None]:
        """Status by component (metadatabase, scheduler, triggerer, dag_processor)."""
        found = self._send("GET", "monitor/health", None).json()
        return {name: (part or {}).get("status") for name, part in found.items()}

    def scheduler_heard_at(self) -> datetime | None:
        """See Runs."""
        found = _checked("GET", "monitor/health", self._send("GET", "monitor/health", None))
        heard = (found.get("scheduler") or {}).get("latest_scheduler_heartbeat")
        return datetime.fromisoformat(heard) if heard else None

    def import_errors(self) -> dict[str, str]:
        """Stack trace by the DAG file that does not load."""
        found = self._ask("GET", "importErrors?limit=1000")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _checked(method, path, self._signed_in(method, path, body))

    def _signed_in(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        """Asked again where Airflow stumbles: on SQLite another writer may hold the lock."""
        answer = self._once(method, path, body)
        for pause in STUMBLES:
            if not answer.is_server_error:
                break
            time.sleep(pause)
            answer = self._once(method, path, body)
        return answer

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            self._sign_in()
        answer = self._send(method, path, body)
        if answer.status_code == httpx.codes.UNAUTHORIZED:  # the token has run out
            self._sign_in()
            answer = self._send(method, path, body)
        if answer.status_code == httpx.codes.FORBIDDEN:
            raise self._forbidden(method, path, answer)
        return answer

    def _forbidden(self, method: str, path: str, answer: httpx.Response) -> NotAllowed:
        return NotAllowed(
            f"Airflow, {method} {path.split('?')[0]}",
            found=f"user '{self._user}', who may not ({_detail(answer)})",
            allowed="a user whose role may; an approval also says who may answer it",
            do="Act as yourself: set EVERGREEN_AIRFLOW_USER and EVERGREEN_AIRFLOW_PASSWORD. An admin gives out roles.",
        )

    def _sign_in(self) -> None:
        answer = self._reach("POST", "/auth/token", {"username": self._user, "password": self._password})
        if not answer.is_success:
            raise FoundProblem(
                f"Airflow, sign-in of '{self._user}'",
                found=f"{answer.status_code} {_detail(answer)}",
                allowed="the user and password of the running Airflow",
                do="`evergreen status` shows where Airflow runs and as whom to sign in; in the compose shape set "
                "EVERGREEN_AIRFLOW_USER and EVERGREEN_AIRFLOW_PASSWORD.",
            )
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        return self._reach(method, f"/api/v2/{path}", body)

    def _reach(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.HTTPError as exc:
            raise ServiceFailed(
                f"Airflow at {self._http.base_url} does not answer ({type(exc).__name__}: {exc}). "
                "Is it running? `evergreen up` starts it, `make up` the compose shape."
            ) from exc


def _checked(method: str, path: str, answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise FoundProblem(
            f"Airflow, {method} {path}",
            found=f"{answer.status_code} {_detail(answer)}",
            allowed="a success",
            do="See the DAG in the Airflow UI: is it there, without an import error, and not paused?",
        )
    result: dict[str, Any] = answer.json()
    return result


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _hitl(task_id: str) -> str:
    return f"taskInstances/{quote(task_id)}/-1/hitlDetails"


def _question(detail: Mapping[str, Any]) -> Question:
    task, answered = detail["task_instance"], detail["responded_at"]
    reason = detail["params"].get("reason", {})
    return Question(
        dag_id=task["dag_id"],
        run_id=task["dag_run_id"],
        subject=detail["subject"],
        body=detail["body"] or "",
        needs_reason=bool(reason.get("schema", {}).get("minLength")),
        asked_at=datetime.fromisoformat(detail["created_at"]),
        chosen=tuple(detail["chosen_options"] or ()),
        params=detail["params_input"],
        responded_at=datetime.fromisoformat(answered) if answered else None,
        responded_by=detail["responded_by_user"],
    )


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", answer.text))[:500]
    except ValueError:
        return answer.text[:500]
