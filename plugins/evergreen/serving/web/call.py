"""One request for a model on its way through a worker, and what the application asks of those that plug in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from evergreen.serving.limits import too_many_rows
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked, Endpoint, Headers, Written
from evergreen.serving.refusals import RequestRefused


class Reply(NamedTuple):
    """What goes back to the caller."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(slots=True)
class Call:
    """A request for a model, as far as its headers tell. `begun` is on the clock of perf_counter."""

    endpoint: Endpoint
    name: str
    headers: Headers
    id: bytes
    caller: str
    begun: float
    version: str = ""


@dataclass(slots=True)
class Bounded:
    """An endpoint that refuses more rows than this."""

    endpoint: Endpoint
    max_rows: int

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """As the endpoint. Raises RequestRefused (413) too."""
        asked = self.endpoint.read(model, body, headers)
        if len(asked.matrix) > self.max_rows:
            raise too_many_rows(len(asked.matrix), self.max_rows)
        return asked

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """As the endpoint."""
        return self.endpoint.write(asked, answer, headers)

    def refusal(self, refused: RequestRefused) -> bytes:
        """As the endpoint."""
        return self.endpoint.refusal(refused)


class OnTrial(Protocol):
    """A model with a version on trial."""

    async def answer(
        self, endpoint: Endpoint, model: LoadedModel, body: bytes, headers: Headers, key: str
    ) -> tuple[Asked, Answer]:
        """The answer of the arm that the key falls to. Raises RequestRefused."""

    def takes(self, key: str) -> bool:
        """Whether the key falls to the challenger."""

    def saw(self, endpoint: Endpoint, body: bytes, headers: Headers, begun: float, answer: Answer) -> None:
        """An answer of the champion's that `answer` did not ask for."""


class Trials(Protocol):
    """What is on trial now."""

    def of(self, name: str) -> OnTrial | None:
        """The trial of this model, none in the normal case."""


class NoTrials:
    """Nothing is on trial."""

    def of(self, name: str) -> OnTrial | None:
        """None."""
        return None
