"""What a serving process says of its own memory, on its metrics page."""

from __future__ import annotations

import http.client
import re
from urllib.parse import urlsplit

from evergreen.core.errors import RehearsalFailed, SlotUnavailable

FAMILY = "evergreen_memory_peak_bytes"
PATIENCE = 10.0  # seconds
_SAMPLE = re.compile(rf"^{FAMILY}(?:{{[^}}]*}})? (\S+)$", re.MULTILINE)


def peak_mb(what: str, url: str) -> float:
    """The highest resident memory of a worker so far, in MB.

    Raises RehearsalFailed where nothing answers, SlotUnavailable where the page does not tell.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise RehearsalFailed(f"{what}: {url}/metrics did not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    found = [float(value) for value in _SAMPLE.findall(page)]
    if not found:
        raise SlotUnavailable(
            f"{what}: {url}/metrics does not tell {FAMILY}: the slot runs another release of Evergreen. Build the "
            "images and make the slots anew: `make up`."
        )
    return max(found) / 1e6
