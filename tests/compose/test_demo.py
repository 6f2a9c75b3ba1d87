"""The demo's story against the running stack, and that nothing had to be restarted for it."""

from __future__ import annotations

import subprocess

from compose_stack import ROOT, ComposeStack


def test_the_story_plays_and_nothing_had_to_be_restarted(stack: ComposeStack) -> None:
    done = subprocess.run(["make", "demo-compose"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " 0 failed." in done.stdout
    for one in stack.containers().values():
        assert (one["RestartCount"], one["State"]["OOMKilled"]) == (0, False), one["Name"]
