"""Limits of arq's jobs, with a real worker and a real server."""

import asyncio
from collections.abc import Callable
from typing import Any

import arq
import pytest
from arq.connections import RedisSettings
from arq.worker import Worker, func
from tests.redis_servers import RedisServer

from awx_ratelimit import AsyncLimiter, BackendUnavailable, Concurrency, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.adapters.arq import limit
from awx_ratelimit.testing import ManualClock

# arq closes its pool with a method that redis-py has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
#: The wait for the next run is 30 ms of real time.
FAST = Rate("fast", 1, 30)


async def in_worker(server: RedisServer, *jobs: Any, calls: list[tuple[Any, ...]]) -> list[Any]:
    """Run a worker until all `calls` are done, and return their results; the error of a job that failed."""
    settings = RedisSettings(unix_socket_path=str(server.socket))
    pool = await arq.create_pool(settings)
    sent = [await pool.enqueue_job(name, *arguments) for name, *arguments in calls]
    worker = Worker(jobs, redis_pool=pool, burst=True, poll_delay=0.005, handle_signals=False, keep_result=60)
    await worker.main()
    results = [await job.result_info() for job in sent if job is not None]
    left = [key async for key in pool.scan_iter(match="arq:retry:*")]
    await worker.close()

    assert left == []
    return [result.result for result in results if result is not None]


def test_refused_jobs(redis_server: RedisServer) -> None:
    """Refused jobs run later, and a refusal is no try: a job with a single try is not lost."""

    @limit(FAST, limiter=AsyncLimiter(MemoryBackend()))
    async def send(ctx: dict[Any, Any], number: int) -> tuple[int, int]:
        return number, ctx["job_try"]

    job = func(send, name="send", max_tries=1)
    got = asyncio.run(in_worker(redis_server, job, calls=[("send", number) for number in range(6)]))

    assert got == [(number, 1) for number in range(6)]


def test_slot_of_a_job(redis_server: RedisServer) -> None:
    """The slot is held while the job runs, and comes back when it fails."""
    limiter = AsyncLimiter(MemoryBackend())
    held: list[int] = []

    @limit(Plan("p", (), Concurrency(1)), limiter=limiter, subject=lambda name, _: name)
    async def slot(ctx: dict[Any, Any], name: str, number: int) -> int:
        held.append((await limiter.health())["leases"])
        if number == 2:
            raise KeyError(number)
        return number

    calls = [("slot", name, number) for number, name in enumerate(["a", "b", "c", "c2"])]
    job = func(slot, name="slot")
    got = asyncio.run(in_worker(redis_server, job, calls=calls))

    assert [type(each) for each in got] == [int, int, KeyError, int]
    assert len(held) == 4
    assert 0 not in held
    assert asyncio.run(limiter.health())["leases"] == 0


def raised(job: Callable[..., Any], ctx: dict[str, Any]) -> Any:
    with pytest.raises(arq.Retry) as caught:
        asyncio.run(job(ctx))
    return caught.value


def frozen_job() -> Any:
    """A job that has used up its limit of one per minute."""

    @limit("1/minute", limiter=AsyncLimiter(MemoryBackend(clock=ManualClock())))
    async def send(ctx: dict[str, Any]) -> None: ...

    asyncio.run(send({}))
    return send


def test_exact_wait() -> None:
    """The job is deferred by exactly its wait. That needs nothing in its context."""
    assert raised(frozen_job(), {}).defer_score == 60_000


def test_redis_failure(caplog: pytest.LogCaptureFixture) -> None:
    """If the try cannot be taken back, the job is still deferred, and the log says so."""
    error = raised(frozen_job(), {"redis": object(), "job_id": "j1"})

    assert error.defer_score == 60_000
    assert "the refusal of job j1 counts as a try" in caplog.text


def test_outage() -> None:
    """If the backend cannot decide, the job runs again a second later."""

    class Failing(MemoryBackend):
        def acquire_joint(self, *_: Any) -> Any:
            raise BackendUnavailable("no server")

    @limit("1/minute", limiter=AsyncLimiter(Failing()))
    async def send(ctx: dict[str, Any]) -> None: ...

    assert raised(send, {}).defer_score == 1_000


def test_wrong_arguments() -> None:
    """A Limiter in place of an AsyncLimiter and a plain function are errors at once."""
    with pytest.raises(TypeError, match="limiter: expected an AsyncLimiter, got a Limiter"):
        limit("1/minute", limiter=Limiter(MemoryBackend()))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="print is not async"):
        limit("1/minute", limiter=AsyncLimiter(MemoryBackend()))(print)


def test_two_limits() -> None:
    """A job with two limits has a bucket for each, and a refused job is charged by none of them."""
    clock = ManualClock(1_000_000_000)
    limiter = AsyncLimiter(MemoryBackend(clock=clock))

    @limit("2/hour", limiter=limiter)
    @limit("1/minute", limiter=limiter)
    async def counted(ctx: dict[str, Any]) -> int:
        return 1

    assert asyncio.run(counted({})) == 1
    for _ in range(3):
        with pytest.raises(arq.Retry):
            asyncio.run(counted({}))
    clock.advance(60_000)

    assert asyncio.run(counted({})) == 1
