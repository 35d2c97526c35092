"""Other processes of the same host, each with its own HostBackend, that run commands from their standard input.

This module is also the program of such a process: ``host_processes.py PATH``.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from awx_ratelimit import BackendUnavailable, Budget, Concurrency, Decision, Limiter, Plan, Rate
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.testing import ManualClock

DAY = Rate("day", 1_000, 86_400_000, refill="calendar")
SLOTS_3 = Plan("slots", (DAY,), Concurrency(3))
BOUNDED = Plan("bounded", (DAY,), Concurrency(3, max_hold_ms=5_000))
PLANS = {plan.name: plan for plan in (SLOTS_3, BOUNDED)}
START_MS = 1_700_006_400_000


def with_scopes(subjects: Iterable[str], plan: Plan = SLOTS_3) -> list[Budget]:
    """Budgets of these subjects, each in another scope."""
    return [Budget(subject, plan, scope=f"scope-{number}") for number, subject in enumerate(subjects)]


class Process:
    """A running process that waits for commands."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def does(self, verb: str, *args: Any) -> Any:
        """Run a command in the process; its result."""
        self._send(verb, *args)
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def stops_in(self, subject: str) -> None:
        """Stop the process in the middle of a decision about `subject`, and wait until it is stopped."""
        self._send("stop_in", subject)
        os.waitpid(self.pid, os.WUNTRACED)

    def stops_growing(self) -> None:
        """Stop the process while it makes the file larger, and wait until it is stopped."""
        self._send("stop_growing")
        os.waitpid(self.pid, os.WUNTRACED)

    def _send(self, verb: str, *args: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *args]).encode() + b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Kill the process, as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the process, and wait until it is stopped."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        """Continue a stopped process."""
        self._process.send_signal(signal.SIGCONT)


StartProcess: TypeAlias = Callable[..., Process]


@contextmanager
def running(path: Path) -> Iterator[Process]:
    """A process on the file at `path`."""
    command = [sys.executable, "-m", "tests.host_processes", str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield Process(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class _Commands:
    """The commands, one method each. Their results are written as JSON."""

    def __init__(self, path: str) -> None:
        self._clock = ManualClock(START_MS)
        self._limiter = Limiter(HostBackend(path, clock=self._clock))
        self._open: list[Decision] = []

    def acquire(self, subject: str, plan: str = "slots", cost: int = 1) -> Any:
        try:
            decision = self._limiter.acquire(subject, PLANS[plan], cost)
        except BackendUnavailable as error:
            return str(error)
        self._open.append(decision)
        return decision.allowed

    def acquire_with(self, subject: str, *others: str) -> bool:
        """Claim for a subject and, in the scopes ``scope-0`` and so on, for others."""
        self._open.append(self._limiter.acquire(subject, SLOTS_3, also=with_scopes(others)))
        return self._open[-1].allowed

    def reset(self, subject: str) -> None:
        self._limiter.reset(subject)

    def release(self) -> None:
        self._limiter.release(self._open.pop(0))

    def remaining(self, subject: str, plan: str = "slots") -> list[int]:
        return [usage.remaining for usage in self._limiter.peek(subject, PLANS[plan]).usages]

    def advance(self, ms: int) -> None:
        self._clock.advance(ms)

    def stop_in(self, subject: str) -> None:
        session: Any = self._limiter.backend._session  # type: ignore[attr-defined]
        session.run(subject, lambda _: os.kill(os.getpid(), signal.SIGSTOP))

    def stop_growing(self) -> None:
        session: Any = self._limiter.backend._session  # type: ignore[attr-defined]
        session.open().file.growth_lock.run(lambda: os.kill(os.getpid(), signal.SIGSTOP))


def _main(path: str) -> None:
    commands = _Commands(path)
    for line in sys.stdin:
        verb, *args = json.loads(line)
        sys.stdout.write(json.dumps(getattr(commands, verb)(*args)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
