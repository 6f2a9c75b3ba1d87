"""The embedded shape: Airflow, MLflow and serving as processes of one machine.

`up` prepares the state in `<home>`, starts a keeper in the background, and returns when everything answers. The
keeper starts each component in a POSIX session of its own, restarts what dies, and writes `<home>/stack.json`.
`down` ends them all, and finds what is left by session id: also when the keeper itself was killed.
"""

from __future__ import annotations

from evergreen.supervisor.lifecycle import down, up
from evergreen.supervisor.stack import Stack, running

__all__ = ["Stack", "down", "running", "up"]
