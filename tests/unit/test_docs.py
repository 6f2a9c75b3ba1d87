"""What README and docs promise: commands that exist and parse, links that lead somewhere, and CI that runs each one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evergreen.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\.venv/bin/)?evergreen (.+?)(?:\s{2,}#.*|\s{2,}\S.*)?$")
LINK = re.compile(r"\]\(([^)#]*)(?:#[^)]*)?\)")


def documented() -> list[list[str]]:
    """The command lines of all code blocks."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            lines = (COMMAND.match(line.strip()) for line in block.splitlines())
            found += [shlex.split(match[1]) for match in lines if match]
    return found


def test_the_docs_do_show_commands() -> None:
    assert {words[0] for words in documented()} >= {"up", "status", "rollback", "approve", "reject", "hold", "new"}


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_a_documented_command_parses(words: list[str]) -> None:
    if "--help" in words:
        assert CliRunner().invoke(app, words).exit_code == 0
    else:
        commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        commands[words[0]].make_context(words[0], list(words[1:]))


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_ci_runs_a_documented_command(words: list[str]) -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert f"evergreen {words[0]}" in script or f"make {words[0]}" in script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if target and not target.startswith("http")]
    assert [target for target in targets if not (page.parent / target).exists()] == []
