"""The demo's story against the running stack, and that nothing had to be restarted for it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

from compose_stack import ROOT, ComposeStack


def test_the_story_plays_and_nothing_had_to_be_restarted(stack: ComposeStack) -> None:
    done = subprocess.run(["make", "demo-compose"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " 0 failed." in done.stdout
    assert "version 2 is in canary: it answers 50 % of callers" in done.stdout
    answer = re.search(r"evergreen trace ([0-9a-f-]{36})", done.stdout)
    assert answer
    told = stack.evergreen("trace", answer[1], "--json")
    assert (told["model"], told["version"], told["arm"]) == ("flight-delay", 2, "canary")
    for one in stack.containers().values():
        assert (one["RestartCount"], one["State"]["OOMKilled"]) == (0, False), one["Name"]


def test_the_version_that_answers_is_traced_back_to_all_that_it_was_made_from(stack: ComposeStack) -> None:
    told = stack.evergreen("trace", "flight-delay", "--json")
    links = {one["kind"]: one for one in links_of(told)}
    assert {"release", "approval", "verdict", "version", "run", "snapshot", "suite", "spec", "code", "image"} <= set(
        links
    )
    assert [one["kind"] for one in links_of(told) if one.get("recorded") is False] == []
    assert links["version"]["bundle"] == links["release"]["bundle"]
    assert links["run"]["url"].endswith(links["run"]["id"].replace(":", "%3A").replace("+", "%2B"))


def links_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node and all below it."""
    yield node
    for one in node["below"]:
        yield from links_of(one)
