"""A signal handler that raises leaves nothing behind that only the interrupted code would take back."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.interruptions import Interruption

from awx_ratelimit.backends.redis.cluster import Cluster
from awx_ratelimit.backends.redis.endpoint import Endpoint
from awx_ratelimit.runtime.background_thread import BackgroundThread
from awx_ratelimit.runtime.forks import SAME_PROCESS, renew_if_forked
from awx_ratelimit.runtime.watched_file import WatchedFile


def file(folder: Path) -> tuple[Callable[[], Any], Any]:
    path = folder / "plans.toml"
    path.touch()
    watched = WatchedFile(path, lambda _: "loaded")
    return watched.check, watched._lock.current


def cluster(_: Path) -> tuple[Callable[[], Any], Any]:
    known = Cluster((), Endpoint(1.0), timeout_s=1.0, permissions="")
    known._read_from_any = lambda: None  # type: ignore[method-assign]
    return known._read, known._reading


@pytest.mark.parametrize("made", [file, cluster])
def test_interrupted_locks(made: Any, tmp_path: Path) -> None:
    """Wherever `WatchedFile.check` and the reading of a slot map are interrupted, their lock is free afterwards."""
    taken, number, interruption = [], 0, None
    while interruption is None or interruption.happened:
        number += 1
        act, lock = made(tmp_path)
        interruption = Interruption(number, at_instructions=True)
        with interruption.raising():
            act()
        if lock.locked():
            taken.append(number)

    assert number > 4
    assert taken == []


def test_an_interrupted_first_decision() -> None:
    """Wherever the check for a fork is interrupted, the next decision finds that this is its process."""
    unsure, number, interruption = [], 0, None
    while interruption is None or interruption.happened:
        number += 1
        SAME_PROCESS.value = 0
        interruption = Interruption(number, at_instructions=True)
        with interruption.raising():
            renew_if_forked()
        renew_if_forked()
        if not SAME_PROCESS:
            unsure.append(number)

    assert number > 2
    assert unsure == []


def test_an_interrupted_start_of_a_thread() -> None:
    """Wherever it is interrupted, the thread runs, or the next `start` runs it."""
    missing, number, interruption = [], 0, None
    while interruption is None or interruption.happened:
        number += 1
        thread, ran = BackgroundThread("tested"), threading.Event()
        interruption = Interruption(number, at_instructions=True)
        with interruption.raising():
            thread.start(ran.set)
        thread.start(ran.set)
        if not ran.wait(10):
            missing.append(number)

    assert number > 2
    assert missing == []
