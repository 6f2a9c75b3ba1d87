"""`evergreen token`: who may ask serving. The ledger keeps digests of tokens, never a token."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergreen import wiring
from evergreen.cli.known import existing_ledger, whoever_asks
from evergreen.cli.screen import AsJson, console, print_json
from evergreen.core.caller_tokens import digest, new_token
from evergreen.core.errors import FoundProblem

if TYPE_CHECKING:
    from rich.table import Table

    from evergreen.core.records import CallerToken

_CALLER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SHORTEST = 32  # characters of a token from outside

HELP = """Say who may ask serving: one token or more for each caller.

\b
Where EVERGREEN_SERVING_AUTH=tokens (the compose shape), serving answers only
requests with a token (health needs none), and /metrics counts them by caller.
What is added or revoked here counts in serving after about a second, without
a restart.

\b
To rotate a caller's token: add a second one, let the caller change over,
revoke the first. Both are valid in between.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


class UnknownToken(FoundProblem):
    """Raised for a token's id that the ledger has not."""


class TokenRefused(FoundProblem):
    """Raised for a token from outside that is too weak, revoked, or another caller's."""


@app.command()
def add(
    caller: Annotated[str, typer.Argument(help="Who asks: a program or a team, in small letters.")],
    reason: Annotated[str, typer.Option("--reason", help="What for, in a sentence. Kept in the ledger.")] = "",
    variable: Annotated[str, typer.Option("--from-env", metavar="NAME", help="Take the token from a variable.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token for a caller, and print it this one time.

    \b
    Only its digest is kept: a token that was lost cannot be shown again, only
    replaced. It goes into the header "Authorization: Bearer <token>" of every
    request. Hand it over like a password. With --from-env a token that was made
    elsewhere is kept, and not printed; twice is once.

    \b
    Examples:
      evergreen token add web-shop
      evergreen token add web-shop --reason "rotation of June"
      evergreen token add platform --from-env EVERGREEN_SERVING_TOKEN
    """
    if not _CALLER.fullmatch(caller):
        allowed = "small letters, digits and '-', at most 63, the first no '-'"
        raise typer.BadParameter(f"found {caller!r}; allowed: {allowed}", param_hint="CALLER")
    token = _from_environment(variable) if variable else new_token()
    ledger = wiring.ledger(wiring.Settings.load())
    kept = ledger.tokens.add(caller, digest(token), by=whoever_asks(), now=datetime.now(UTC), reason=reason.strip())
    if kept.caller != caller or kept.revoked_at:
        _refuse_known(variable, caller, kept)
    if as_json:
        print_json({**_as_dict(kept), **({} if variable else {"token": token})})
    elif variable:
        typer.echo(f"{caller} may ask with the token of {variable}. Its id is {kept.id}.")
    else:
        _print_once(token, kept)


def _from_environment(variable: str) -> str:
    token = os.environ.get(variable, "")
    if len(token) < _SHORTEST or not token.isascii() or token.split() != [token]:
        raise TokenRefused(
            f"the variable {variable}",
            found=f"{len(token)} characters" if token else "nothing",
            allowed=f"at least {_SHORTEST} characters of ASCII without spaces",
            do="Set it to a random token, or leave --from-env out: one is made then.",
        )
    return token


def _refuse_known(variable: str, caller: str, kept: CallerToken) -> None:
    raise TokenRefused(
        f"the variable {variable}",
        found=f"a token that was revoked ({kept.id})" if kept.revoked_at else f"the token of {kept.caller} ({kept.id})",
        allowed=f"a token that is new, or one that {caller} has already",
        do="Put a new random token there.",
    )


def _print_once(token: str, kept: CallerToken) -> None:
    """The token alone on stdout, so that a script can take it; the rest on stderr."""
    typer.echo(token)
    typer.echo(f"This is the only time that it is shown. Its id is {kept.id}, its caller {kept.caller}.", err=True)
    typer.echo("Try it:    curl -H 'Authorization: Bearer <token>' <serving's URL>", err=True)
    typer.echo(f"End it:    evergreen token revoke {kept.id}", err=True)


@app.command(name="list")
def list_tokens(
    everything: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the tokens that are valid, and whose they are.

    \b
    Examples:
      evergreen token list
      evergreen token list --all --json | jq -r '.[] | select(.revoked_at)'
    """
    ledger = existing_ledger(wiring.Settings.load())
    tokens = ledger.tokens.all() if everything else ledger.tokens.active()
    if as_json:
        print_json([_as_dict(token) for token in tokens])
    elif tokens:
        console().print(_table(tokens, with_end=everything))
    else:
        typer.echo("No token is valid. `evergreen token add <caller>` makes one.")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `evergreen token list` shows.")],
    as_json: AsJson = False,
) -> None:
    """End a token: serving refuses it after about a second.

    \b
    For good: a revoked token does not come back. Revoking one that is revoked is
    no error: exit status 0.

    \b
    Example:
      evergreen token revoke 3f9c0a417d25
    """
    ledger = existing_ledger(wiring.Settings.load())
    try:
        revoked = ledger.tokens.revoke(token_id, by=whoever_asks(), now=datetime.now(UTC))
    except KeyError:
        valid = ", ".join(f"{token.id} ({token.caller})" for token in ledger.tokens.active()[:5]) or "none is valid"
        do = "`evergreen token list` shows them all."
        raise UnknownToken(f"token '{token_id[:60]}'", found="no such id", allowed=valid, do=do) from None
    if as_json:
        print_json(_as_dict(revoked))
        return
    left = sum(token.caller == revoked.caller for token in ledger.tokens.active())
    typer.echo(f"Token {revoked.id} of {revoked.caller} is revoked, since {revoked.revoked_at:%Y-%m-%d %H:%M} UTC.")
    more = f"{left} more of {revoked.caller} valid." if left else f"{revoked.caller} has no token any more."
    typer.echo(more)


def _as_dict(token: CallerToken) -> dict[str, Any]:
    """Without the digest: nobody needs it."""
    return {
        "id": token.id,
        "caller": token.caller,
        "reason": token.reason,
        "created_at": token.created_at.isoformat(),
        "created_by": token.created_by,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
        "revoked_by": token.revoked_by,
    }


def _table(tokens: list[CallerToken], *, with_end: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    for name, most in (("id", 12), ("caller", 18), ("since", 16), ("by", 10), *([("until", 16)] if with_end else [])):
        table.add_column(name, max_width=most, overflow="fold")
    if not with_end:
        table.add_column("why", overflow="fold")
    for token in tokens:
        end = f"{token.revoked_at:%Y-%m-%d %H:%M}" if token.revoked_at else ""
        cells = [token.id, token.caller, f"{token.created_at:%Y-%m-%d %H:%M}", token.created_by]
        table.add_row(*cells, end if with_end else token.reason)
    return table
