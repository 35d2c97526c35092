"""A child process replaces what it inherited before it uses any of it, whether or not Python heard of the fork."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.processes import FORK_PARAMETERS, FORKS, in_child

from awx_ratelimit import Caller, Limiter, MemoryBackend, Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.observability.listeners import RefusalLog
from awx_ratelimit.runtime.forks import (
    SAME_PROCESS,
    PidMark,
    ProcessMark,
    process_mark,
    register_after_fork,
    register_first_decision,
    renew_if_forked,
)

FORK_IN_C = FORKS["c"]


class Part:
    """Counts how often it was renewed."""

    def __init__(self) -> None:
        self.renewals = 0
        register_after_fork(self.renew)

    def renew(self) -> None:
        """Use what checks the process, as renewals do."""
        renew_if_forked()
        self.renewals += 1


class Broken(Part):
    """Cannot be renewed."""

    def renew(self) -> None:
        raise OSError("no descriptors left")


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
@pytest.mark.parametrize("make", [process_mark, PidMark], ids=["page", "pid"])
def test_mark_is_false_in_a_child(make: Callable[[], ProcessMark], fork: Callable[[], int]) -> None:
    """The mark is false in a child until the child sets it; the parent's mark does not change."""
    mark = make()
    mark.value = 1

    def marked_anew() -> bool:
        before = bool(mark)
        mark.value = 1
        return not before and bool(mark) and mark.value == 1

    assert in_child(fork, marked_anew)
    assert mark


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_renewed_once_per_process(fork: Callable[[], int]) -> None:
    """Concurrent threads find everything renewed exactly once, in the child and in its child."""
    part = Part()

    def renewed_once(times: int) -> bool:
        seen: list[int] = []
        barrier = threading.Barrier(4)

        def come() -> None:
            barrier.wait(5)
            renew_if_forked()
            seen.append(part.renewals)

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return seen == [times] * 4

    assert in_child(fork, lambda: renewed_once(1) and in_child(fork, lambda: renewed_once(2)))
    assert part.renewals == 0


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_failing_renewal(fork: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a renewal is logged, and the next renewal runs."""
    broken, part = Broken(), Part()

    def others_were_renewed() -> bool:
        renew_if_forked()
        said = any(record.levelno == logging.ERROR for record in caplog.records)
        return said and part.renewals == 1

    assert in_child(fork, others_were_renewed)
    assert broken.renewals == 0


class Deciding:
    """Counts the first decisions of a child process."""

    def __init__(self) -> None:
        self.firsts = 0
        register_first_decision(self.first)

    def first(self) -> None:
        self.firsts += 1


@pytest.mark.parametrize("fork", FORK_PARAMETERS)
def test_first_decision(fork: Callable[[], int]) -> None:
    """It is announced once in each child process that decides, not at the fork, and not in the first process."""
    part, limiter, plan = Deciding(), Limiter(MemoryBackend()), Plan.of("p", per_minute=60)
    limiter.acquire("s", plan)

    def announced_once() -> bool:
        before = part.firsts
        for _ in range(3):
            limiter.acquire("s", plan)
        return before == 0 and part.firsts == 1

    assert in_child(fork, announced_once)
    assert part.firsts == 0


@pytest.mark.own_process
def test_lock_held_during_a_fork_in_c(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal log and a watched table work in a child although their locks were held during the fork."""
    path = tmp_path / "plans.toml"
    path.write_text("[plans.one]\nper_minute = 1\n")
    table, log = PlanTable.watch(path), RefusalLog()
    refused = [Limiter(MemoryBackend()).acquire("s", Plan.of("none", per_minute=1)) for _ in range(2)][-1]
    limiter = Limiter(MemoryBackend())
    limiter.acquire("s", refused.plan)
    refusal = limiter.acquire("s", refused.plan)

    def both_work() -> bool:
        path.write_text("[plans.two]\nper_minute = 1\n[plans.one]\nper_minute = 1\n")
        table._file.check_at_s = 0.0  # type: ignore[attr-defined]
        table.resolve(Caller("s", "one"))
        log(refusal)
        return len(table.plans) == 2 and "refused" in caplog.text

    with log._lock.current, table._file._lock.current:  # type: ignore[attr-defined]
        assert in_child(FORK_IN_C, both_work)


def test_renewed_after_gevent_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """If gevent patches Python after the fork, the first decision renews everything once more."""
    monkeypatch.setattr("awx_ratelimit.runtime.forks._renewed_for", [(os.getpid(), threading.Lock)])
    part, seen = Part(), []

    for lock in (threading.Lock, threading.RLock, threading.RLock):
        monkeypatch.setattr("threading.Lock", lock)
        SAME_PROCESS.value = 0
        renew_if_forked()
        seen.append(part.renewals)

    assert seen == [0, 1, 1]
