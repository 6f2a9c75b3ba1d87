"""What every cluster keeps: Dask's on this machine, and its twin."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from distributed import get_worker
from distributed.comm import get_address_host_port

from clustered import command_of, wait_for
from evergreen.adapters.dask_cluster import DaskCluster
from evergreen.core.errors import ClusterFailed, TrainingRefused
from evergreen.core.ports.cluster import BrokenOff, Cluster, Place
from evergreen.fakes.cluster import OneProcess


@pytest.fixture(params=["dask", "fake"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return DaskCluster.here(workers=2, threads=3, memory_mb=1000) if request.param == "dask" else OneProcess()


def meet(host: str, count: int) -> tuple[str, int, int]:
    return host, count, os.getpid()


def answer(terms: tuple[str, int, int], place: Place) -> tuple[int, int, bool, tuple[str, int, int]]:
    """Its number, of how many, whether it runs in the process of `begin`, and what that said."""
    place.tell("work")
    return place.number, place.count, os.getpid() == terms[2], terms


def refuse(terms: object, place: Place) -> None:
    raise TrainingRefused("m", found="one class", allowed="two", do="Wait.")


def refuse_last(terms: object, place: Place) -> None:
    """One that cannot go on breaks off the others, who may notice it first."""
    if place.number < place.count - 1:
        raise BrokenOff("nobody there")
    time.sleep(0.2)
    refuse(terms, place)


def break_off(folder: Path, terms: tuple[str, int, int], place: Place) -> int:
    """Ends well once the folder holds two tries, each as '<number>-<pid of the first worker>'."""
    place.tell("work")
    if place.number == 0:
        Path(folder, f"{len(list(folder.iterdir()))}-{terms[2]}").touch()
    wait_for(lambda: any(folder.glob(f"*-{terms[2]}")), 30)
    if len(list(folder.iterdir())) < 2:
        raise BrokenOff("nobody there")
    return place.number


def never(terms: object, place: Place) -> None:
    raise BrokenOff("nobody there")


def test_all_workers_are_given_what_the_first_began_with(cluster: Cluster) -> None:
    answers = cluster.together(meet, answer, what="a test")
    count = len(answers)
    assert [found[:2] for found in answers] == [(number, count) for number in range(count)]
    assert [together for _, _, together, _ in answers] == [True] + [False] * (count - 1)
    assert {terms for *_, terms in answers} == {("127.0.0.1", count, answers[0][3][2])}


@pytest.mark.parametrize("work", [refuse, refuse_last])
def test_what_the_work_raises_is_raised(cluster: Cluster, work: Callable[[object, Place], None]) -> None:
    with pytest.raises(TrainingRefused, match="one class"):
        cluster.together(meet, work, what="a test")


def test_what_breaks_off_is_begun_anew(cluster: Cluster, tmp_path: Path) -> None:
    answers = cluster.together(meet, partial(break_off, tmp_path), what="a test")
    assert answers == list(range(len(answers)))
    assert len(list(tmp_path.iterdir())) == 2


def look_around(terms: object, place: Place) -> tuple[str, set[str], str]:
    """The scheduler's address, at which addresses this process listens, and what a stranger there is answered."""
    address = get_worker().scheduler.address
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(get_address_host_port(address), timeout=10) as plain:
            answer = repr(stranger.wrap_socket(plain).recv(1))
    except ssl.SSLError as error:
        answer = error.reason
    return address, _listens(), answer


def _listens() -> set[str]:
    return {one.laddr.ip for one in psutil.Process().net_connections() if one.status == psutil.CONN_LISTEN}


def meet_and_listen(host: str, count: int) -> set[str]:
    return _listens()


def test_it_lets_nobody_else_in() -> None:
    """Who gets to a port of Dask's runs code here."""
    cluster = DaskCluster.here(memory_mb=1000)
    for address, listens, answer in cluster.together(meet_and_listen, look_around, what="a test"):
        assert address.startswith("tls://127.0.0.1:")
        assert listens == {"127.0.0.1"}
        assert answer == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_what_never_gets_done_is_given_up(cluster: Cluster) -> None:
    with pytest.raises(ClusterFailed, match=r"4 times|4 tries"):
        cluster.together(meet, never, what="a test")
    assert not [one for one in psutil.Process().children(recursive=True) if "dask" in command_of(one)]
