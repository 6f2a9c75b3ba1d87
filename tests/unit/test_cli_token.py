"""`evergreen token`: made once, listed without secrets, revoked for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.caller_tokens import digest
from evergreen.core.ports import Ledger
from spec_project import make_project

GIVEN = "a-token-that-make-up-has-generated-for-us"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_SERVING_TOKEN", GIVEN)
    return root


def the_ledger() -> Ledger:
    return wiring.ledger(wiring.Settings.load())


def test_every_help_fits_and_teaches(run: Any) -> None:
    for arguments in ((), ("add",), ("list",), ("revoke",)):
        told = run("token", *arguments, "--help")
        assert told.status == 0
        assert max(map(len, told.out.splitlines())) <= 80
        assert "..." not in told.out.replace("[OPTIONS] COMMAND [ARGS]...", "")
    assert "To rotate a caller's token" in run("token", "--help").out
    assert "token" in run("--help").out


def test_a_token_is_printed_once_and_only_its_digest_is_kept(run: Any, project: Path) -> None:
    made = run("token", "add", "web-shop", "--reason", "the shop's new search")
    token = made.out.strip()
    assert (made.status, token.startswith("evg_"), len(token)) == (0, True, 47)
    assert token not in made.err
    (kept,) = the_ledger().tokens.active()
    assert (kept.caller, kept.sha256, kept.reason) == ("web-shop", digest(token), "the shop's new search")
    listed = run("token", "list")
    assert max(map(len, listed.out.splitlines())) <= 80
    assert [part for part in (kept.id, "web-shop", kept.created_by, "the shop's new") if part not in listed.out] == []
    told = listed.out + run("token", "list", "--all", "--json").out
    assert token not in told
    assert kept.sha256 not in told
    assert run("token", "add", "web-shop", "--json").json["token"] != token


def test_rotation_and_revocation(run: Any) -> None:
    old, _ = (run("token", "add", "web-shop", "--json").json for _ in range(2))
    told = run("token", "revoke", old["id"])
    assert told.status == 0
    assert f"Token {old['id']} of web-shop is revoked" in told.out
    assert "1 more of web-shop valid." in told.out
    again = run("token", "revoke", old["id"], "--json")
    assert (again.status, again.json["id"]) == (0, old["id"])
    assert [token["id"] for token in run("token", "list", "--json").json] != [old["id"]]
    ends = {token["id"]: token["revoked_at"] for token in run("token", "list", "--all", "--json").json}
    assert (len(ends), ends[old["id"]]) == (2, again.json["revoked_at"])
    (left,) = run("token", "list", "--json").json
    assert "web-shop has no token any more." in run("token", "revoke", left["id"]).out
    assert run("token", "list").out == "No token is valid. `evergreen token add <caller>` makes one.\n"


def test_wrong_names_and_ids_are_told(run: Any) -> None:
    refused = run("token", "add", "Web Shop")
    assert refused.status == 2
    assert "found 'Web Shop'; allowed: small letters, digits" in refused.err
    assert run("token", "list").status == 1  # no ledger was made for it
    kept = run("token", "add", "web-shop", "--json").json
    unknown = run("token", "revoke", "nobody")
    assert unknown.status == 1
    assert f"token 'nobody': found no such id; allowed: {kept['id']} (web-shop)." in unknown.err


def test_a_token_from_outside_is_kept_once_and_not_printed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("token", "add", "platform", "--from-env", "EVERGREEN_SERVING_TOKEN")
    first, again = run(*command), run(*command)
    assert (first.status, again.out) == (0, first.out)
    assert GIVEN not in first.out + first.err
    (kept,) = the_ledger().tokens.all()
    assert (kept.caller, kept.sha256) == ("platform", digest(GIVEN))
    other = run("token", "add", "web-shop", "--from-env", "EVERGREEN_SERVING_TOKEN")
    assert (other.status, f"found the token of platform ({kept.id})" in other.err) == (1, True)
    run("token", "revoke", kept.id)
    revoked = run(*command)
    assert (revoked.status, f"found a token that was revoked ({kept.id})" in revoked.err) == (1, True)
    for weak in ("", "short", "x" * 20 + " " + "y" * 20):
        monkeypatch.setenv("EVERGREEN_SERVING_TOKEN", weak)
        told = run(*command)
        assert told.status == 1
        assert "allowed: at least 32 characters of ASCII without spaces" in told.err
        assert not weak or weak not in told.err
