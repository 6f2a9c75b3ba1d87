"""GET /docs: how to ask, in a browser, without the internet.

The page is the same for everyone and tells nothing of the models, so it is open like health. What it shows of them it
asks /openapi.json for, which wants a token where tokens are asked for; the page keeps the token in its memory alone.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

PAGE = Path(__file__).with_name("docs_page.html").read_bytes()


def _policy() -> str:
    """The page's own script and styles, requests to this server, and nothing else."""
    script = re.search(rb"<script>(.*)</script>", PAGE, re.DOTALL)
    assert script is not None
    allowed = b64encode(sha256(script[1]).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


HEADERS = {"content-security-policy": _policy(), "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
