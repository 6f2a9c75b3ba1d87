"""The rows on which the two models disagree most: what a person looks at to see how they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.sampling import Looked
    from evergreen.core.spec import ModelSpec

MOST_ROWS, MOST_FEATURES, MOST_TEXT = 20, 30, 40


def disagreements(spec: ModelSpec, looked: Looked) -> dict[str, Any] | None:
    """{features: names, rows: [{key, at, label, candidate, champion, distance, values: one for each feature}]}.

    None without a champion. The distance is that of the two predictions; for multiclass half the sum over classes
    (total variation), and the predictions are {class, chance} of the likeliest. Texts are cut at 40 characters.
    """
    scored, frame = looked.scored, looked.frame
    if scored.champion is None:
        return None
    distance = _distance(scored.candidate, scored.champion)
    features = [name for name in spec.features.columns if name in frame.columns][:MOST_FEATURES]
    rows = []
    for at in (-distance).argsort(kind="stable")[:MOST_ROWS].tolist():
        row = frame.row(at, named=True)
        rows.append(
            {
                "key": _short(row[spec.source.key]) if spec.source.key in row else None,
                "at": row[spec.source.event_time].isoformat(),
                "label": float(scored.label[at]),
                "candidate": _answer(scored.candidate[at]),
                "champion": _answer(scored.champion[at]),
                "distance": float(distance[at]),
                "values": [_short(row[name]) for name in features],
            }
        )
    return {"features": features, "rows": rows}


def _distance(candidate: np.ndarray, champion: np.ndarray) -> np.ndarray:
    import numpy as np

    apart: np.ndarray = np.abs(candidate - champion)
    return np.sum(apart, axis=1) / 2 if apart.ndim == 2 else apart


def _answer(prediction: np.ndarray) -> Any:
    if prediction.ndim == 0:
        return float(prediction)
    return {"class": int(prediction.argmax()), "chance": float(prediction.max())}


def _short(value: Any) -> Any:
    """A number as it is, anything else as bounded text; none for a missing value."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"
