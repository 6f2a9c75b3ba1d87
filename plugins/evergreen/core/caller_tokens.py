"""Callers' tokens: how one is made, what it looks like, and the digest that is kept in its place."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "evg_"  # so that a scanner for leaked secrets can tell what it has found
_RANDOM_BYTES = 32


def new_token() -> str:
    """A token with 256 random bits: no salt or slow hash is needed, nobody can guess what a digest was made from."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(token: str) -> str:
    """The sha256 of a token in hexadecimal digits: what the ledger and serving keep."""
    return hashlib.sha256(token.encode()).hexdigest()
