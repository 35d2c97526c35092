"""Deadlines of a process that may be late: what has arrived is taken, and no wait lasts longer than it must."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit.backends.redis.transport import _Socket
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


def test_a_wait_in_a_process_that_is_in_time_ends_in_time(seconds: list[float]) -> None:
    """It is over after five parts and a last look, at its end."""
    deadline = Deadline(100.05)

    assert not waited(deadline, seconds, 0, 0, 0, 0, 0)
    assert waited(deadline, seconds, 0)
    assert seconds[0] == pytest.approx(100.05)


def test_a_wait_ends_later_by_its_longest_delay(seconds: list[float]) -> None:
    """A process that was late by 80 ms, and by 10 again and again, waits for 80 ms more in all."""
    deadline = Deadline(100.05)

    assert not waited(deadline, seconds, 0.08)
    while not waited(deadline, seconds, 0.01):
        pass
    assert seconds[0] == pytest.approx(100.13, abs=0.021)


def test_a_wait_that_ends_with_another_ends_later_by_all_delays(seconds: list[float]) -> None:
    """Each part lasts as long as it lasts, and there are five of them and a last look."""
    deadline = Deadline(100.05, all_delays=True)

    assert not waited(deadline, seconds, 0.08, 0.01, 0.01, 0.01, 0.01)
    assert waited(deadline, seconds, 0.01)


def test_each_step_of_a_call_has_a_delay_of_its_own(seconds: list[float]) -> None:
    """A greenlet that opens a connection waits for its turn again and again, while the server answers at once."""
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


def test_what_lies_in_the_socket_is_an_answer_however_late(ends: tuple[socket.socket, socket.socket]) -> None:
    """The time is over before the thread comes to read, and the server has long answered."""
    ends[1].sendall(b"answer")
    buffer = bytearray(16)

    received = _Socket(ends[0], Deadline(time.monotonic() - 1)).recv_into(buffer)

    assert buffer[:received] == b"answer"


def test_a_socket_without_an_answer_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """It was looked at, and the time was over."""
    with pytest.raises(TimeoutError):
        _Socket(ends[0], Deadline(time.monotonic() - 1)).recv_into(bytearray(16))


class LateSender:
    """A socket beneath: its thread gets no turn for 80 ms after it has sent."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.sent: list[bytes] = []

    def fileno(self) -> int:
        return 0

    def settimeout(self, _: float) -> None:
        pass

    def recv_into(self, _: Any) -> int:
        raise TimeoutError

    def sendall(self, sent: bytes) -> None:
        self.sent.append(sent)
        self.seconds[0] += 0.08


def test_a_thread_that_comes_back_late_from_sending_waits_for_the_answer(seconds: list[float]) -> None:
    """The call may have left only now, so what the server has to answer in is still to come."""
    deadline = Deadline(100.05)
    _Socket(LateSender(seconds), deadline).sendall(b"call")

    assert deadline.wait_s() == pytest.approx(0.01)
    assert deadline.until_s == pytest.approx(100.13, abs=0.001)


def test_a_thread_that_comes_late_to_send_still_sends(seconds: list[float]) -> None:
    """What it did before needed nobody else; its time is over only if it was not late."""
    sender = LateSender(seconds)
    socket_of_late_thread = _Socket(sender, Deadline(100.05))
    seconds[0] += 0.08

    socket_of_late_thread.sendall(b"call")

    assert sender.sent == [b"call"]


def test_a_task_has_its_time_and_no_more() -> None:
    """The error is a TimeoutError, and nothing of the cancellation is left in the task."""

    async def hanging() -> int:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError), TaskDeadline(0.02):
            await asyncio.Event().wait()
        return task.cancelling()

    assert asyncio.run(hanging()) == 0


def test_a_task_that_somebody_cancels_is_cancelled() -> None:
    """A deadline does not turn the cancellation of a caller into a time-out."""

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


def test_a_deadline_within_another_ends_its_own_part() -> None:
    """The inner time-out is seen inside, and the outer one goes on."""

    async def nested() -> str:
        with TaskDeadline(10.0):
            try:
                with TaskDeadline(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "inner"
        return "none"

    assert asyncio.run(nested()) == "inner"
