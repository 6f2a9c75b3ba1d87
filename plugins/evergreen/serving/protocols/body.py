"""The body of a request: read within a limit, decoded strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request

from evergreen.serving.refusals import RequestRefused, refuse, shown

INLINE_BYTES = 16_000  # of a body that is read on the event loop; more would hold up the others
FEWER = "Send fewer rows a request, or start serving with a higher --max-body."
_T = TypeVar("_T")


async def read_body(request: Request, limit: int, do: str = FEWER) -> bytes:
    """The whole body. Raises RequestRefused (413) as soon as it is over the limit, announced or not; see the next."""
    check_announced(dict(request.scope["headers"]), limit, do)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(f"more than {limit} bytes", limit, do)
    return bytes(body)


def check_announced(headers: Mapping[bytes, bytes], limit: int, do: str = FEWER) -> None:
    """Raises RequestRefused: 413 for a body announced to be over the limit, in bytes; 415 for a compressed one."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > limit:
        raise too_large(f"{announced[:20].decode()} bytes", limit, do)
    if (encoding := headers.get(b"content-encoding", b"identity")) != b"identity":
        raise refuse(
            415,
            "header Content-Encoding",
            found=shown(encoding.decode("latin-1")),
            allowed="a body as it is",
            do="Send it without compression.",
        )


def decode(body: bytes, decoder: msgspec.json.Decoder[_T], like: str) -> _T:
    """The body as the decoder's type. `like` shows a good body in errors.

    Raises RequestRefused: 400 for what is no JSON (a bare NaN token too), 422 for JSON of another form.
    """
    if not body.strip():
        raise refuse(400, "body", found="nothing", allowed=f"JSON as {like}", do="Send a body.")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _other_form(body, decoder.type, like, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, like) from error


def _other_form(body: bytes, kind: type[_T], like: str, error: msgspec.ValidationError) -> _T:
    """JSON of another form, or broken further on, or with 1e999: read as infinity, for the encoder to name it."""
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as broken:
        raise _no_json(broken, like) from broken
    if "out of range" not in str(error):
        raise _wrong_form(error, like) from error
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as found:
        raise _wrong_form(found, like) from found


def _refuse_constant(token: str) -> None:
    raise ValueError(f"the bare token {token}")


def _no_json(error: Exception, like: str) -> RequestRefused:
    return refuse(
        400,
        "body",
        found=f"no JSON ({error})",
        allowed=f"JSON as {like}",
        do="A missing value is null: NaN and Infinity are no JSON.",
    )


def _wrong_form(error: Exception, like: str) -> RequestRefused:
    return refuse(422, "body", found=str(error), allowed=like, do="Correct the form of the body.")


def too_large(found: str, limit: int, do: str = FEWER) -> RequestRefused:
    """The refusal of a body over the limit, in bytes; `do` says how to send less."""
    return refuse(
        413,
        "body",
        found=found,
        allowed=f"at most {limit} bytes",
        do=do,
    )
