"""`python -m evergreen.serving`: one replica of a serving pool."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from urllib.parse import urlsplit

from evergreen.core.errors import EvergreenError, ServiceFailed
from evergreen.core.records import Release
from evergreen.serving.replica.fixed import FORM, parse_only
from evergreen.serving.replica.supervisor import Options, serve

AUTH = "EVERGREEN_SERVING_AUTH"


def main() -> int:
    """Parse the options, serve, and tell an expected failure in one line."""
    given = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s serving %(levelname)s %(message)s")
    for noisy in ("alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        serve(Options(**vars(given), tokens=_asks_for_tokens()))
    except EvergreenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evergreen.serving",
        description=__doc__,
        epilog=f"@FILE reads arguments from a file, one a line. {AUTH}=tokens answers only callers with a token "
        "(`evergreen token`); none, the default, answers everyone. With --only there are no tokens.",
        fromfile_prefix_chars="@",  # a container's command is fixed when it is made, a file is not
    )
    parser.add_argument("--pool", default="default", type=_pool, help="name of the serving pool")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=8000, type=int, help="port to listen on; 0 for any free one")
    parser.add_argument("--advertise", type=_url, metavar="URL", help="where others reach it; default: host and port")
    parser.add_argument("--workers", default=1, type=_positive, help="worker processes")
    parser.add_argument("--max-body", default=1_000_000, type=_positive, help="largest request body, in bytes")
    parser.add_argument("--max-rows", default=10_000, type=_positive, help="most rows of a request")
    queue = "most requests under way in a worker; more are refused with 429"
    parser.add_argument("--max-queue", default=512, type=_positive, help=queue)
    connections = "most open connections of a worker; more are answered with 503 and closed"
    parser.add_argument("--max-connections", default=2000, type=_positive, help=connections)
    memory = "MB of models that a worker keeps loaded; others are loaded when they are asked"
    parser.add_argument("--model-memory", default=256, type=_positive, metavar="MB", help=memory)
    drain = "seconds of answering on after SIGTERM, not ready any more (a second SIGTERM ends it)"
    parser.add_argument("--drain-seconds", default=0, type=_seconds, metavar="S", help=drain)
    seconds = "seconds after which logged rows can be shipped to the store"
    parser.add_argument("--log-seconds", default=10, type=_positive, metavar="N", help=seconds)
    backlog = "MB of logged rows that may wait here for the store; more are dropped and counted"
    parser.add_argument("--log-backlog", default=1000, type=_positive, metavar="MB", help=backlog)
    parser.add_argument("--only", type=_only, metavar=FORM, help="serve this from the store; open no ledger")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input is closed")
    return parser


def _asks_for_tokens() -> bool:
    """Raises ServiceFailed for a word that is neither: a slip must not open serving to everyone."""
    found = os.environ.get(AUTH, "none")
    if found not in ("tokens", "none"):
        raise ServiceFailed(f"{AUTH}: found {found!r}; allowed: tokens, none. Correct it, or unset it (none).")
    return found == "tokens"


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: http://host:port")
    return text.rstrip("/")


def _only(text: str) -> Release:
    try:
        return parse_only(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pool(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: small letters, digits and '-'")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: seconds, below 1000")
    return float(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
