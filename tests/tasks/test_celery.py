"""Limits of Celery tasks, with a real worker."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Retry
from celery.signals import setup_logging
from kombu.exceptions import OperationalError
from tests.redis_servers import RedisServer

from awx_ratelimit import BackendUnavailable, Concurrency, Limiter, MemoryBackend, Plan, Rate, RateLimited
from awx_ratelimit.adapters.celery import limit
from awx_ratelimit.testing import ManualClock

# A page of the docs defines the same task each time it runs, and Celery gives it to the apps of all tests.
pytestmark = pytest.mark.filterwarnings("ignore::celery.exceptions.DuplicateTaskNameWarning")
#: The wait for the next run is 60 ms of real time.
FAST = Rate("fast", 1, 60)
SETTINGS = {
    "broker_transport_options": {"polling_interval": 0.005},
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_enable_remote_control": False,
    "task_publish_retry": False,
}


class Failing(MemoryBackend):
    """A backend whose first decision fails."""

    failures = 1

    def acquire(self, subject: str, plan: Plan, cost: int) -> Any:
        if self.failures:
            self.failures -= 1
            raise BackendUnavailable("no server")
        return super().acquire(subject, plan, cost)


@pytest.fixture(scope="module")
def app() -> Celery:
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(SETTINGS)
    return app


@pytest.fixture(scope="module")
def tasks(app: Celery) -> dict[str, Any]:  # noqa: C901  # one function per task
    """Limited tasks, by name. The worker knows only tasks that exist when it starts."""
    limiter = Limiter(MemoryBackend())
    ran: list[Any] = []

    @app.task(shared=False)
    @limit(FAST, limiter=limiter)
    def below(number: int) -> int:
        ran.append(number)
        return number

    @app.task(shared=False, bind=True, max_retries=0)
    @limit(FAST, limiter=limiter, subject=lambda number: f"user_{number}")
    def below_bound(self: Any, number: int) -> tuple[int, int]:
        return number, self.request.retries

    @limit(FAST, limiter=limiter)
    @app.task(shared=False, bind=True, max_retries=0)
    def above_bound(self: Any, number: int) -> tuple[int, int]:
        return number, self.request.retries

    @limit(FAST, limiter=limiter)
    @app.task(shared=False, autoretry_for=(KeyError,), max_retries=0)
    def above(number: int) -> int:
        return number

    @app.task(shared=False)
    @limit(Plan("p", (), Concurrency(1)), limiter=limiter)
    def slot(number: int) -> int:
        if number == 2:
            raise KeyError(number)
        return number

    @app.task(shared=False)
    @limit("100/minute", limiter=Limiter(Failing()))
    def unlucky() -> str:
        return "done"

    @app.task(shared=False)
    def double(number: int) -> int:
        return 2 * number

    @limit("1/minute", limiter=limiter)
    def helper() -> None: ...

    @app.task(shared=False)
    def caller() -> int:
        helper()
        helper()
        return 1

    return {**locals(), "ran": ran}


@setup_logging.connect
def _keep_logging(**_: Any) -> None:
    """Prevent Celery from setting the level and the handlers of the root logger, also for the tests that follow."""


@pytest.fixture(scope="module", autouse=True)
def worker(app: Celery, tasks: dict[str, Any]) -> Iterator[Any]:
    with start_worker(app, perform_ping_check=False, pool="threads", concurrency=2, shutdown_timeout=20) as worker:
        yield worker


@pytest.mark.parametrize("name", ["below", "above"])
def test_refused_tasks(name: str, tasks: dict[str, Any]) -> None:
    """Refused tasks run later. No task is lost, and none counts as failed."""
    sent = [tasks[name].delay(number) for number in range(6)]

    assert [result.get(timeout=30) for result in sent] == list(range(6))


@pytest.mark.parametrize("name", ["below_bound", "above_bound"])
def test_retries_of_a_task(name: str, tasks: dict[str, Any]) -> None:
    """A refusal uses up none of the retries of a task, not even of one that allows none."""
    sent = [tasks[name].delay(7) for _ in range(4)]

    assert [list(result.get(timeout=30)) for result in sent] == [[7, 0]] * 4


def test_callbacks_of_a_task(tasks: dict[str, Any]) -> None:
    """What follows a task in a chain follows it once, also after a refusal."""
    sent = [(tasks["below"].s(number) | tasks["double"].s()).delay() for number in range(4)]

    assert [result.get(timeout=30) for result in sent] == [0, 2, 4, 6]


def test_slot_of_a_task(tasks: dict[str, Any]) -> None:
    """The slot is held while the task runs, and comes back when it fails."""
    sent = [tasks["slot"].delay(number) for number in (1, 2, 3)]

    assert sent[0].get(timeout=30) == 1
    assert isinstance(sent[1].get(timeout=30, propagate=False), KeyError)
    assert sent[2].get(timeout=30) == 3


def test_outage(tasks: dict[str, Any]) -> None:
    """A task runs later if the backend cannot decide."""
    assert tasks["unlucky"].delay().get(timeout=30) == "done"


def test_limited_function_in_a_task(tasks: dict[str, Any]) -> None:
    """A limited function that a task calls raises RateLimited: the task has already begun."""
    error = tasks["caller"].delay().get(timeout=30, propagate=False)

    assert type(error).__name__ == "RateLimited"
    assert "Too many calls of helper" in str(error)


def test_arguments_are_checked(tasks: dict[str, Any]) -> None:
    """Celery still checks the arguments of a limited task before it sends it."""
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        tasks["below"].delay()


def new_task(**options: Any) -> Any:
    """A limited task of another app, which has one run and no worker. The frozen clock lets no other run follow."""
    app = Celery("alone", broker="memory://", set_as_current=False)
    limiter = Limiter(MemoryBackend(clock=ManualClock()))

    @app.task(shared=False, **options)
    @limit("1/minute", limiter=limiter)
    def once() -> int:
        return 1

    return once


def test_direct_call() -> None:
    """A refused call outside a worker raises RateLimited."""
    once = new_task()

    assert once() == 1
    with pytest.raises(RateLimited) as caught:
        once()
    assert caught.value.retry_after_ms == 60_000


def test_eager_task() -> None:
    """A refused task that runs at once raises RateLimited: nothing could run it later."""
    once = new_task()

    assert once.apply().get() == 1
    with pytest.raises(RateLimited):
        once.apply().get()


class Sent(list[Any]):
    """Takes the place of `signature_from_request`, and records what is sent."""

    failure: Exception | None = None

    def __call__(self, request: Any, **options: Any) -> Any:
        self.append(options)
        return self

    def apply_async(self) -> None:
        if self.failure is not None:
            raise self.failure


def run_in_worker(task: Any, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call `task` as a worker does, and return the exception."""
    monkeypatch.setattr(task, "signature_from_request", sent)
    task.push_request(called_directly=False, is_eager=False, retries=2)
    monkeypatch.setattr("awx_ratelimit.adapters.celery.celery.current_task", task)
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # the caller looks at it
            task.run()
    finally:
        task.pop_request()
    return caught.value


def test_exact_countdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The countdown is exactly the wait, and the number of retries stays."""
    once, sent = new_task(), Sent()
    once()
    error = run_in_worker(once, sent, monkeypatch)

    assert sent == [{"countdown": 60.0, "retries": 2}]
    assert isinstance(error, Retry)
    assert error.when == 60.0


@pytest.mark.parametrize("acks_late", [False, True])
def test_broker_outage(acks_late: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # parametrized
    """If the task cannot be sent again, it goes back to its queue if it may, and fails in plain sight if not."""
    once, sent = new_task(acks_late=acks_late), Sent()
    sent.failure = OperationalError("no broker")
    once()
    error = run_in_worker(once, sent, monkeypatch)

    assert type(error).__name__ == ("Reject" if acks_late else "OperationalError")
    assert getattr(error, "requeue", None) is (True if acks_late else None)


def test_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait longer than a broker keeps a task is split."""
    app, sent = Celery("alone", broker="memory://", set_as_current=False), Sent()

    @app.task(shared=False)
    @limit("1/day", limiter=Limiter(MemoryBackend(clock=ManualClock())))
    def daily() -> None: ...

    daily()
    run_in_worker(daily, sent, monkeypatch)

    assert sent == [{"countdown": 900.0, "retries": 2}]


def test_wrong_limiter() -> None:
    """A URL or an AsyncLimiter in place of a Limiter is an error at once."""
    with pytest.raises(TypeError, match="limiter: expected a Limiter, got a str"):
        limit("1/minute", limiter="redis://host")  # type: ignore[arg-type]


def test_async_task() -> None:
    """Celery does not run coroutine functions, and neither does the limit."""

    async def send() -> None: ...

    with pytest.raises(TypeError, match="send is async"):
        limit("1/minute", limiter=Limiter(MemoryBackend()))(send)


@pytest.mark.full
def test_redis_broker(redis_server: RedisServer) -> None:
    """Refused tasks run later with Redis as the broker."""
    app = Celery("redis", broker=redis_server.url, backend="cache+memory://", set_as_current=False)
    app.conf.update({**SETTINGS, "broker_transport_options": {}})
    ran = threading.Event()

    @app.task(shared=False)
    @limit(FAST, limiter=Limiter(MemoryBackend()))
    def send(number: int) -> int:
        ran.set()
        return number

    with start_worker(app, perform_ping_check=False, pool="solo", shutdown_timeout=20):
        sent = [send.delay(number) for number in range(4)]
        got = [result.get(timeout=60) for result in sent]

    assert got == [0, 1, 2, 3]


@pytest.mark.parametrize("above", [True, False])
def test_two_limits(above: bool) -> None:
    """A task with two limits has a bucket for each, and a refused call is charged by none of them."""
    clock = ManualClock(1_000_000_000)
    app, limiter = Celery("two"), Limiter(MemoryBackend(clock=clock))
    inner, outer = limit("1/minute", limiter=limiter), limit("2/hour", limiter=limiter)

    def counted() -> int:
        return 1

    task = app.task(shared=False)
    counting = outer(inner(task(counted))) if above else task(outer(inner(counted)))
    assert counting() == 1
    for _ in range(3):
        with pytest.raises(RateLimited):
            counting()
    clock.advance(60_000)

    assert counting() == 1
