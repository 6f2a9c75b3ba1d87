"""POST /models/{name}/predict: JSON, or Arrow streams where the headers say so."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked, Headers, Written
from evergreen.serving.protocols.records_endpoint import RecordsEndpoint

ARROW = "application/vnd.apache.arrow.stream"
_STREAM = b"application/vnd.apache.arrow.stream"


class PredictEndpoint(RecordsEndpoint):
    """Content-Type says how the request is read, Accept how it is answered; errors are JSON."""

    def read(self, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        """The rows. Raises RequestRefused, naming all that is wrong."""
        if _media_type(headers.get(b"content-type", b"")) == _STREAM:
            asked: Asked = _arrow().read(model, body, headers)
            return asked
        return super().read(model, body, headers)

    def write(self, asked: Asked, answer: Answer, headers: Headers) -> Written:
        """The answer: Arrow for who accepts it, else JSON."""
        if any(_media_type(accepted) == _STREAM for accepted in headers.get(b"accept", b"").split(b",")):
            written: Written = _arrow().write(answer)
            return written
        return super().write(asked, answer, headers)


def _media_type(text: bytes) -> bytes:
    return text.partition(b";")[0].strip().lower()


@cache
def _arrow() -> ModuleType:
    """With the first Arrow request: 30 ms and some megabytes that no other request needs."""
    return import_module("evergreen.serving.protocols.arrow_endpoint")
