"""What the prediction log writes: frames that say who answers, then rows, predictions and ids as they lie in memory.

source   1, msgpack: number, model, version, release, bundle, arm, features     once a segment, before its rows
rows     2, numbers and sizes, msgpack of keys and unseen categories (empty where there are none), float32 matrix,
         float32 predictions, 16 bytes an id
truth    3, msgpack: model, [id, label, at, caller], …
metrics  4, msgpack: model, [name, value, at, caller], …
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from evergreen.core.records import LoggedBy, LoggedFeature, LoggedRows, Truth, UserMetric
from evergreen.serving.log.segments import Damaged, framed

if TYPE_CHECKING:
    import numpy as np

    from evergreen.serving.protocols.endpoint import Asked

_SOURCE, _ROWS, _TRUTH, _METRICS = b"\x01", b"\x02", b"\x03", b"\x04"
_SIZES = struct.Struct("<cIIII")  # kind, source, rows, outputs, bytes of keys and unseen
_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


# ---------------------------------------------------------------- written by workers


def source(number: int, by: LoggedBy) -> bytes:
    """Who makes the rows that name this number."""
    features = [(feature.name, feature.categories) for feature in by.features]
    return framed(_SOURCE + _encode((number, by.model, by.version, by.release_id, by.bundle, by.arm, features)))


def rows(
    number: int, matrices: Sequence[np.ndarray], predictions: np.ndarray, ids: Sequence[str], details: bytes
) -> bytes:
    """One predict call: float32 matrices, one below the other; float32 predictions, one or several a row."""
    outputs = predictions.shape[1] if predictions.ndim > 1 else 0
    sizes = _SIZES.pack(_ROWS, number, len(ids), outputs, len(details))
    packed = bytes.fromhex("".join(ids).replace("-", ""))
    try:
        return framed(b"".join((sizes, details, *matrices, predictions, packed)))  # type: ignore[arg-type]
    except (BufferError, TypeError, ValueError):  # not in the order of C
        return framed(b"".join((sizes, details, *(one.tobytes() for one in matrices), predictions.tobytes(), packed)))


def details(asked: Sequence[Asked], hidden: frozenset[str]) -> bytes:
    """Keys and unseen categories of the requests, without those of hidden features; empty where there are none."""
    for one in asked:
        if one.key or one.unseen:
            return _details(asked, hidden)
    return b""


def _details(asked: Sequence[Asked], hidden: frozenset[str]) -> bytes:
    keys: list[tuple[int, str]] = []  # rows, key
    unseen: list[tuple[int, str, str]] = []
    begin = 0
    for one in asked:
        keys.append((len(one.matrix), one.key))
        unseen += [(begin + u.row, u.feature, u.value) for u in one.unseen if u.feature not in hidden]
        begin += len(one.matrix)
    return _encode((keys if any(key for _, key in keys) else (), unseen))


def truth(model: str, records: Sequence[Truth]) -> bytes:
    """What turned out to be true."""
    return framed(_TRUTH + _encode((model, [(one.inference_id, one.label, one.at, one.caller) for one in records])))


def metrics(model: str, records: Sequence[UserMetric]) -> bytes:
    """Values of users' metrics."""
    return framed(_METRICS + _encode((model, [(one.name, one.value, one.at, one.caller) for one in records])))


# ---------------------------------------------------------------- read by the supervisor


def read(payloads: Iterable[bytes]) -> Iterator[LoggedRows | tuple[str, list[Truth] | list[UserMetric]]]:
    """Rows, truths and users' metrics with their model, in the order in which they were written. Raises Damaged."""
    sources: dict[int, LoggedBy] = {}
    for payload in payloads:
        kind = payload[:1]
        if kind == _ROWS:
            yield _read_rows(payload, sources)
        elif kind == _SOURCE:
            number, model, version, release, bundle, arm, features = _decode(payload[1:])
            named = (LoggedFeature(name, tuple(known) if known is not None else None) for name, known in features)
            sources[number] = LoggedBy(model, version, release, bundle, arm, tuple(named))
        elif kind == _TRUTH:
            model, records = _decode(payload[1:])
            yield model, [Truth(*record) for record in records]
        elif kind == _METRICS:
            model, records = _decode(payload[1:])
            yield model, [UserMetric(*record) for record in records]
        else:
            raise Damaged(f"a frame of kind {kind!r}; allowed: 1, 2, 3, 4")


def _read_rows(payload: bytes, sources: dict[int, LoggedBy]) -> LoggedRows:
    _, number, count, outputs, details_size = _SIZES.unpack_from(payload)
    by = sources.get(number)
    if by is None:
        raise Damaged(f"rows of source {number}, which no frame before names")
    begin = _SIZES.size + details_size
    keys, unseen = _read_details(payload[_SIZES.size : begin]) if details_size else ((), ())
    matrix_end = begin + count * len(by.features) * 4
    predictions_end = matrix_end + count * (outputs or 1) * 4
    if predictions_end + count * 16 != len(payload):
        raise Damaged(f"{len(payload)} bytes for {count} rows of {len(by.features)} features")
    return LoggedRows(
        by,
        ids=payload[predictions_end:],
        matrix=payload[begin:matrix_end],
        predictions=payload[matrix_end:predictions_end],
        outputs=outputs,
        keys=keys,
        unseen=unseen,
    )


def _read_details(data: bytes) -> tuple[tuple[str, ...], tuple[tuple[int, str, str], ...]]:
    keys: Any
    unseen: Any
    keys, unseen = _decode(data)
    return tuple(key for rows, key in keys for _ in range(rows)), tuple((row, name, told) for row, name, told in unseen)
