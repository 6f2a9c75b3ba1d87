"""Killed with SIGKILL after each write that a run makes, and run again: one version, one approval, one release."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from evergreen.fakes.registry import FakeRegistry
from ledgers import KINDS, POSTGRES, url_of
from recovery import World, done, killed_after, outside, writes_of
from recovery_stories import STORIES, Story, consistent, never_without_a_champion


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: a ledger that waits for a disk at each write takes minutes here."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def twins() -> Iterator[tuple[Any, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the fork server looks nowhere else for what it imports
        with outside() as (registry, runs):
            yield registry, runs


class Stage:
    """Makes worlds that are as before the story."""

    def __init__(self, kind: str, story: Story, twins: tuple[Any, Any], folder: Path) -> None:
        self._kind, self._story, self._folder = kind, story, folder
        self._registry, self._runs = twins
        self._prepared: dict[str, Any] | None = None

    def world(self, name: str) -> World:
        """A copy of the one that was prepared."""
        folder, first = self._folder / name, self._folder / "prepared"
        self._runs.become_empty()
        if self._prepared is None:
            first.mkdir()
            self._registry.become(vars(FakeRegistry()))
            done(self._story.prepare, self._at(first, url_of(self._kind, first)))
            self._prepared = self._registry.state()
        self._registry.become(self._prepared)
        shutil.copytree(first, folder)
        url = f"sqlite:///{folder / 'ledger.db'}" if self._kind == "sqlite" else copied(str(POSTGRES))
        return self._at(folder, url)

    def _at(self, folder: Path, url: str) -> World:
        return World(folder, url, self._registry, self._runs)


SESSIONS = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :name")


def copied(url: str) -> str:
    """The URL of a copy of this database, on the same server; the copy of before is gone."""
    source = make_url(url)
    server = create_engine(source.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS killed WITH (FORCE)"))
        for _ in range(100):  # a session outlives the process that it was for by a moment
            if not connection.scalar(SESSIONS, {"name": source.database}):
                break
            time.sleep(0.05)
        connection.execute(text(f'CREATE DATABASE killed TEMPLATE "{source.database}"'))
        connection.execute(text("ALTER DATABASE killed SET synchronous_commit = off"))  # clients are killed, no server
    return source.set(database="killed").render_as_string(hide_password=False)


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
def test_a_kill_after_any_write_is_survived(kind: str, name: str, twins: tuple[Any, Any], folder: Path) -> None:
    story = STORIES[name]
    stage = Stage(kind, story, twins, folder)
    unharmed = stage.world("unharmed")
    writes = writes_of(story.act, unharmed)
    consistent(unharmed)
    story.whole(unharmed)
    places = [number for number in killed_at(writes, story.until) if kind == "sqlite" or _in_ledger(writes, number)]
    assert len(places) > 5, writes
    print(f"{name}: killed at {len(places)} places")
    for number in places:
        world = stage.world(str(number))
        assert killed_after(number, story.act, world), number
        never_without_a_champion(world.ports().ledger)
        done(story.act, world)  # the retry
        try:
            consistent(world)
            story.whole(world)
        except AssertionError as error:
            raise AssertionError(f"killed after write {number} of {writes}: {error}") from error


def _in_ledger(writes: list[str], number: int) -> bool:
    """Whether it is killed just after a write of the ledger, or before any: a write of another port changes no row."""
    return number == 0 or writes[number - 1].startswith("ledger.")


def killed_at(writes: list[str], until: str) -> list[int]:
    """The numbers of the writes after which it is killed, 0 for before the first; of equal ones in a row the last."""
    end = writes.index(until) if until else len(writes)
    return [0, *(at for at, (this, following) in enumerate(pairwise([*writes[:end], ""]), 1) if this != following)]
