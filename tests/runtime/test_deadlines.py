"""Deadlines of a process that may be late: what has arrived is taken, and no wait lasts longer than it must."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit.backends.redis.thread_transport import DeadlineSocket
from awx_ratelimit.runtime.deadlines import Deadline, TaskDeadline


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of deadlines: a list of one number."""
    now = [100.0]
    monkeypatch.setattr("awx_ratelimit.runtime.deadlines.time.monotonic", lambda: now[0])
    return now


def waited(deadline: Deadline, seconds: list[float], *late_s: float) -> bool:
    """Wait in parts that bring nothing, each of which ends so late. Whether it is over then."""
    over = False
    for late in late_s:
        seconds[0] += deadline.wait_s() + late
        over = deadline.is_over()
    return over


def test_wait_without_delays(seconds: list[float]) -> None:
    """A wait without delays ends after five parts and a last look."""
    deadline = Deadline(100.05)

    assert not waited(deadline, seconds, 0, 0, 0, 0, 0)
    assert waited(deadline, seconds, 0)
    assert seconds[0] == pytest.approx(100.05)


def test_longest_delay_is_added(seconds: list[float]) -> None:
    """A wait with delays of 80 ms and 10 ms ends 80 ms later."""
    deadline = Deadline(100.05)

    assert not waited(deadline, seconds, 0.08)
    while not waited(deadline, seconds, 0.01):
        pass
    assert seconds[0] == pytest.approx(100.13, abs=0.021)


def test_all_delays_are_added(seconds: list[float]) -> None:
    """With `all_delays` every delay is added."""
    deadline = Deadline(100.05, all_delays=True)

    assert not waited(deadline, seconds, 0.08, 0.01, 0.01, 0.01, 0.01)
    assert waited(deadline, seconds, 0.01)


def test_steps_have_separate_delays(seconds: list[float]) -> None:
    """Each step of a call adds its own longest delay."""
    deadline = Deadline(100.05)
    for _ in range(4):
        assert not waited(deadline, seconds, 0.1)
        deadline.resume()

    assert deadline.left_s() > 0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_late_reader_gets_the_reply(ends: tuple[socket.socket, socket.socket]) -> None:
    """A reply in the socket is read even after the deadline."""
    ends[1].sendall(b"answer")

    assert DeadlineSocket(ends[0], Deadline(time.monotonic() - 1)).receive() == b"answer"


def test_no_reply(ends: tuple[socket.socket, socket.socket]) -> None:
    """Without a reply the wait ends with TimeoutError."""
    with pytest.raises(TimeoutError):
        DeadlineSocket(ends[0], Deadline(time.monotonic() - 1)).receive()


class LateSender:
    """A socket beneath: its thread gets no turn for 80 ms after it has sent."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.sent: list[bytes] = []

    def fileno(self) -> int:
        return 0

    def settimeout(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass

    def recv(self, _: int) -> bytes:
        raise TimeoutError

    def sendall(self, sent: bytes) -> None:
        self.sent.append(sent)
        self.seconds[0] += 0.08


def test_late_after_sending(seconds: list[float]) -> None:
    """A thread that returns late from sending still waits for the reply."""
    deadline = Deadline(100.05)
    DeadlineSocket(LateSender(seconds), deadline).send(b"call")

    assert deadline.wait_s() == pytest.approx(0.01)
    assert deadline.until_s == pytest.approx(100.13, abs=0.001)


def test_late_before_sending(seconds: list[float]) -> None:
    """A late thread still sends; a deadline that has passed without delays is a TimeoutError."""
    sender = LateSender(seconds)
    socket_of_late_thread = DeadlineSocket(sender, Deadline(100.05))
    seconds[0] += 0.08

    socket_of_late_thread.send(b"call")

    assert sender.sent == [b"call"]


def test_task_deadline() -> None:
    """The error is a TimeoutError, and the task has no pending cancellation."""

    async def hanging() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError), TaskDeadline(0.02):
            await asyncio.Event().wait()
        return task.cancelling()

    assert asyncio.run(hanging()) == 0


def test_cancelled_task() -> None:
    """A deadline does not turn another cancellation into a timeout."""

    async def waiting() -> None:
        with TaskDeadline(10.0):
            await asyncio.Event().wait()

    async def cancelled() -> bool:
        task = asyncio.ensure_future(waiting())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_nested_deadlines() -> None:
    """An inner deadline ends only its own block."""

    async def nested() -> str:
        with TaskDeadline(10.0):
            try:
                with TaskDeadline(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "inner"
        return "none"

    assert asyncio.run(nested()) == "inner"
