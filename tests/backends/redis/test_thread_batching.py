"""Batching for threads: few calls, and every result reaches its caller."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from awx_ratelimit import BackendUnavailable
from awx_ratelimit.backends.remote.sent import SentCalls
from awx_ratelimit.backends.remote.thread_batching import ThreadBatching

TIMEOUT_S = 20.0
LOST = 1_000_000


class Batch(SentCalls):
    """Numbers in the place of claims and of calls. They are `unanswered` if it fails."""

    def __init__(self, unanswered: list[int], claims: list[Any]) -> None:
        super().__init__(claims)
        self.unanswered = unanswered

    def fail(self, error: BaseException) -> None:
        self.unanswered += self.calls


class Server:
    """Answers a batch on demand, and records what was sent, abandoned and left unanswered."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.batches: list[list[int]] = []
        self.until_s: list[float] = []
        self.abandoned: list[int] = []
        self.unanswered: list[int] = []
        self.sended = threading.Semaphore(0)
        self.free = threading.Semaphore(0)
        self.lost = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.commit: ThreadBatching[int, int] = ThreadBatching(
            self.run, partial(Batch, self.unanswered), self.abandoned.append, timeout_s=timeout_s
        )

    def run(self, claims: Any, until_s: float) -> list[int]:
        self.batches.append(claims)
        self.until_s.append(until_s)
        self.sended.release()
        (self.lost if claims == [LOST] else self.free).acquire()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [-claim for claim in claims]

    def waiting(self, number: int) -> None:
        """Until so many wait behind the batch that is under way."""
        while len(self.commit._queue.waiting) < number:
            threading.Event().wait(0.001)


class Thread(threading.Thread):
    """A thread whose result, or the name of what it raised, is kept."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.result: Any = "still waiting"
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:
            self.result = type(error).__name__

    def joined(self) -> Any:
        self.join(10)
        return self.result


def asking(server: Server, *claims: int) -> list[Thread]:
    """Threads that have asked; the first is under way and the others wait behind it, in order."""
    threads = []
    for number, claim in enumerate(claims):
        threads.append(Thread(partial(server.commit.send, claim)))
        server.sended.acquire() if number == 0 else server.waiting(number)
    return threads


def test_claims_queue_while_a_batch_is_in_flight() -> None:
    """The first thread sends its own claim at once; the second leads the batch of the later ones."""
    server = Server()
    threads = asking(server, 1, 2, 3, 4)

    server.free.release(2)

    assert [thread.joined() for thread in threads] == [-1, -2, -3, -4]
    assert server.batches == [[1], [2, 3, 4]]


def test_a_failed_call_fails_the_queue() -> None:
    """Queued claims fail with the batch, and the next claim is sent."""
    server = Server()
    threads = asking(server, 1, 2, 3)

    server.error = BackendUnavailable("no answer")
    server.free.release(2)

    failed = [thread.joined() for thread in threads]
    assert failed == ["BackendUnavailable"] * 3
    assert server.unanswered == [1]
    assert server.commit.send(4) == -4


def test_an_interrupted_leader_passes_the_lead_on() -> None:
    """If a signal handler raises in the leader, a waiting thread sends the claims of the others."""
    server = Server()
    threads = asking(server, 1, 2, 3)

    server.error = SystemExit()
    server.free.release(3)

    stopped = [thread.joined() for thread in threads]
    assert stopped == ["SystemExit", -2, -3]
    assert server.batches == [[1], [2, 3]]
    assert server.commit.send(4) == -4


def test_an_interrupted_leader_is_no_server_failure() -> None:
    """The other claims of its batch fail with `process_was_late`, which no circuit breaker counts."""
    server, said = Server(), []

    def ask(claim: int) -> None:
        try:
            server.commit.send(claim)
        except BackendUnavailable as error:
            said.append(error.process_was_late)

    first = asking(server, 1)[0]
    followers = [Thread(partial(ask, claim)) for claim in (2, 3)]
    server.waiting(2)
    server.free.release()
    server.sended.acquire()
    server.error = SystemExit()
    server.free.release()

    assert [first.joined(), *sorted(str(each.joined()) for each in followers)] == [-1, "None", "SystemExit"]
    assert said == [True]


def test_a_lost_leader_is_replaced() -> None:
    """A thread whose time is up gives up and frees the lead."""
    server = Server(timeout_s=0.05)
    lost, late = asking(server, LOST, 2)

    gave_up = late.joined()
    server.free.release()
    answer = server.commit.send(3)
    server.lost.release()

    assert gave_up == "BackendUnavailable"
    assert answer == -3
    assert lost.joined() == -LOST


def test_results_of_gone_threads_are_abandoned() -> None:
    """A result that arrives after its thread gave up is abandoned; the others of its batch get theirs."""
    server = Server(timeout_s=0.5)
    first, second, third = asking(server, 1, 2, 3)
    server.free.release()
    first.joined()

    gave_up = third.joined()
    server.free.release()

    assert gave_up == "BackendUnavailable"
    assert second.joined() == -2
    assert server.batches == [[1], [2, 3]]
    assert server.abandoned == [-3]


def test_a_late_leader_uses_its_remaining_time() -> None:
    """Its own call ends by the deadline that began when it asked."""
    server = Server()
    asking(server, 1, 2, 3)
    asked_s = time.monotonic()

    server.free.release(2)
    server.sended.acquire()

    assert [until_s - asked_s <= TIMEOUT_S for until_s in server.until_s] == [True, True]


def test_a_leader_without_time_passes_the_lead_on() -> None:
    """A call without time is not sent, because it would fail claims that still have time."""
    server = Server()
    first = asking(server, 1)
    late = Thread(partial(server.commit.send, 2, time.monotonic() + 0.2))
    server.waiting(1)
    other = Thread(partial(server.commit.send, 3))
    server.waiting(2)
    with server.commit._lock:
        # Its time passes between its waking and its lead.
        server.commit._queue.waiting[0].until_s = 0.0

    server.free.release(2)

    assert [first[0].joined(), late.joined(), other.joined()] == [-1, "BackendUnavailable", -3]
    assert server.batches == [[1], [3]]


def test_threads_get_their_own_results() -> None:
    """Under contention each thread gets its own result, in fewer calls than claims."""
    server = Server()
    server.free.release(100_000)

    def ask(start: int) -> bool:
        return all(server.commit.send(number) == -number for number in range(start, start + 300))

    threads = [Thread(partial(ask, start)) for start in range(1, 3_001, 300)]

    assert [thread.joined() for thread in threads] == [True] * 10
    assert sum(map(len, server.batches)) == 3_000


def test_a_thread_leads_only_once() -> None:
    """A replaced leader that returns passes the lead on again before the new leader has started."""
    server = Server()
    threads = asking(server, 1, 2, 3)

    with server.commit._lock:
        # Where the new leader cannot get going yet.
        server.commit._lock, lock = threading.Lock(), server.commit._lock
        server.commit._pass_lead_on()
        server.commit._pass_lead_on()
        server.commit._lock = lock
    server.free.release(3)

    assert sorted(thread.joined() for thread in threads) == [-3, -2, -1]


def test_a_late_failure_fails_the_queue() -> None:
    """The failure of a replaced leader also fails the thread that must lead and has not started."""
    server = Server()
    threads = asking(server, 1, 2, 3)

    with server.commit._lock:
        server.commit._lock, lock = threading.Lock(), server.commit._lock
        server.commit._pass_lead_on()
        server.commit._fail([], BackendUnavailable("no answer"))
        server.commit._lock = lock
    server.free.release(3)

    assert [thread.joined() for thread in threads] == [-1, "BackendUnavailable", "BackendUnavailable"]


def test_a_call_ends_before_its_waiters_time_out() -> None:
    """A call ends 2 % of its timeout early, so no waiting thread takes over the lead."""
    server = Server()
    until_s = time.monotonic() + TIMEOUT_S
    server.free.release()

    server.commit.send(1, until_s)

    assert round(until_s - server.until_s[0], 6) == TIMEOUT_S / 50
