"""What the endpoints that ask a model have in common: a request read for one version's schema, its answer written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evergreen.serving.models.encoder import Unseen
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.refusals import RequestRefused

Headers = Mapping[bytes, bytes]  # by name in small letters


@dataclass(slots=True)
class Asked:
    """One request's rows as the booster takes them: `matrix` is float32, rows by features, in the schema's order.

    `key` names whom the request is about (header x-request-key), empty where nobody said. `echo` is the endpoint's own:
    what it needs to write the answer.
    """

    matrix: np.ndarray
    unseen: Sequence[Unseen]
    key: str = ""
    echo: Any = None


@dataclass(slots=True)
class Written:
    """The body of an answer, and its headers beside those that every answer has."""

    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Endpoint(Protocol):
    """One way to ask a model. Stateless: the same object serves all requests, on the event loop or in a thread."""

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """The request for this version's schema. Raises RequestRefused, naming all that is wrong."""

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """The answer. `headers` are the request's."""

    def refusal(self, refused: RequestRefused) -> bytes:
        """The body of an error, as this protocol has it."""
