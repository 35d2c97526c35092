"""Decide in PostgreSQL, compared with a bare UPDATE of one row: ``python -m benchmarks.bench_postgres``.

The servers share the machine with their clients. Calls that are compared take turns, because the machine is never
quiet. Each time is that of a clock, and that of the processors: the client's thread, and the server's process. A
figure is the median of its rounds, with their minimum and maximum.
"""

import asyncio
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psycopg
from benchmarks.postgres_floor import BARE, STATEMENTS, Prepared, set_up
from psycopg_pool import ConnectionPool
from pyrate_limiter import Duration, PostgresBucket
from pyrate_limiter import Limiter as PyrateLimiter
from pyrate_limiter import Rate as PyrateRate
from tests.postgres_servers import running_postgres
from tests.redis_servers import running_redis

from awx_ratelimit import Plan
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend
from awx_ratelimit.backends.redis import AsyncRedisBackend

PLAN = Plan.of("bench", per_minute=1_000_000, per_day=10_000_000, concurrent=1_000)
ROUNDS, CALLS, TASKS = 15, 200, 100
#: Calls of each task in a round.
BATCHED, SINGLE, PYRATE = 50, 10, 3
CONNECTIONS = 10
TIMEOUT_MS = 20_000
MAX_RATIO, MIN_TIMES_PYRATE = 1.3, 10


class Cost(NamedTuple):
    """The median duration of a call, and the mean times of the processors of its client and its server, in us."""

    p50: float
    client: float
    server: float


def main() -> None:
    """Print the figures."""
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as redis:
        url = server.url(server.new_database())
        set_up(url)
        with psycopg.connect(url) as connection:
            version = connection.info.server_version // 10_000
        print(f"\n## PostgreSQL\n\nPostgreSQL {version}, psycopg {psycopg.__version__}, CPython ", end="")
        print(f"{platform.python_version()}. Medians of {ROUNDS} rounds that took turns (least to most).")
        print_single(url)
        asyncio.run(print_task(url))
        asyncio.run(print_many(url, redis.socket_url, lambda: [*server.pids(), redis.pid]))


def print_single(url: str) -> None:
    """One caller: a claim that also releases the lease before it, and statements that do less."""
    with single_calls(url) as (calls, pids):
        rounds = [measured(calls, pids) for _ in range(ROUNDS + 1)][1:]
    bare = [costs[1] for costs in rounds]
    print("\n| one call of one thread | p50 us | client's processor us | server's processor us | p50, of psycopg's |")
    print("| --- | --- | --- | --- | --- |")
    for number, name in enumerate(calls):
        own = [costs[number] for costs in rounds]
        ratios = [mine.p50 / other.p50 for mine, other in zip(own, bare, strict=True)]
        figures = (spread([cost[at] for cost in own]) for at in range(3))
        print(f"| {name} | {' | '.join(figures)} | {spread(ratios, 2)} |")
    ratios = [costs[0].p50 / costs[1].p50 for costs in rounds]
    processors = [(costs[0].client + costs[0].server) / (costs[1].client + costs[1].server) for costs in rounds]
    print(f"\nA claim of a thread takes {spread(ratios, 2)} of the bare UPDATE at p50,")
    print(f"and {spread(processors, 2)} of its processor time.")


@contextmanager
def single_calls(url: str) -> Iterator[tuple[dict[str, Callable[[], Any]], list[list[int]]]]:
    """What is measured, by name, and the server's processes that work for it."""
    backend = PostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS)
    prepared = Prepared(url)
    with psycopg.connect(url, autocommit=True) as connection:

        def claim() -> None:
            backend.release(backend.acquire("subject", PLAN, 1))

        def update() -> None:
            connection.execute(BARE, (1,)).fetchone()

        for _ in range(10):
            claim()
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'awx-ratelimit' AND datname = current_database()"
        )
        own = [int(pid) for (pid,) in found.fetchall()]
        calls: dict[str, Callable[[], Any]] = {"a claim and a release": claim, "psycopg: the bare UPDATE": update}
        calls |= {f"libpq: {name}": prepared.call(name) for name in STATEMENTS}
        pids = [own, [connection.info.backend_pid], *[[prepared.connection.backend_pid]] * len(STATEMENTS)]
        yield calls, pids
        charged = backend.peek("subject", PLAN, 1).usages[1]
        (used,) = connection.execute("SELECT used FROM bare WHERE id = 1").fetchone() or (0,)
    backend.close()
    assert charged.remaining < charged.capacity
    assert used == 3 * CALLS * (ROUNDS + 1)


def measured(calls: dict[str, Callable[[], Any]], pids: list[list[int]]) -> list[Cost]:
    """The cost of each call, in one round in which they take turns."""
    durations: list[list[float]] = [[] for _ in calls]
    clients, servers = [0.0] * len(calls), [0.0] * len(calls)
    for _ in range(CALLS):
        for number, call in enumerate(calls.values()):
            server_us, client_ns = sum(map(processor_us, pids[number])), time.thread_time_ns()
            begin_ns = time.perf_counter_ns()
            call()
            durations[number].append((time.perf_counter_ns() - begin_ns) / 1_000)
            clients[number] += (time.thread_time_ns() - client_ns) / 1_000
            servers[number] += sum(map(processor_us, pids[number])) - server_us
    return [
        Cost(median(durations[number]), clients[number] / CALLS, servers[number] / CALLS)
        for number in range(len(calls))
    ]


async def print_task(url: str) -> None:
    """One task, and the same UPDATE by one task with psycopg."""
    backend = AsyncPostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def claim() -> None:
            backend.release(await backend.acquire("subject", PLAN, 1))

        async def update() -> None:
            await (await connection.execute(BARE, (1,))).fetchone()

        rounds = [await in_turns(claim, update) for _ in range(ROUNDS + 1)][1:]
    await backend.close()
    ratios = [claim_us / update_us for claim_us, update_us in rounds]
    verdict = "met" if median(ratios) <= MAX_RATIO else "NOT met"
    print(f"\nOne task: a claim and a release take {spread([claim_us for claim_us, _ in rounds])} us at p50,")
    print(f"which is {spread(ratios, 2)} of the bare UPDATE (target: at most {MAX_RATIO}, {verdict}).")


async def in_turns(*calls: Callable[[], Awaitable[None]]) -> list[float]:
    """The median duration of each call, in us."""
    durations: list[list[float]] = [[] for _ in calls]
    for _ in range(CALLS):
        for number, call in enumerate(calls):
            begin_ns = time.perf_counter_ns()
            await call()
            durations[number].append((time.perf_counter_ns() - begin_ns) / 1_000)
    return list(map(median, durations))


def processor_us(pid: int) -> float:
    """How long a process has used a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1_000


async def print_many(url: str, redis_url: str, pids: Callable[[], list[int]]) -> None:
    """Many callers at once, each with a subject of its own, or all with one."""
    postgres = AsyncPostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS)
    redis = AsyncRedisBackend.from_url(redis_url, timeout_ms=TIMEOUT_MS)
    with ConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool, ThreadPoolExecutor(TASKS) as threads:
        connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(CONNECTIONS)]
        peers = [pyrate(pool, f"subject_{number}") for number in range(TASKS)]
        sides: dict[str, Callable[[], Awaitable[int]]] = {
            "PostgreSQL, a subject each": lambda: in_tasks(postgres, "subject {}"),
            "PostgreSQL, one subject": lambda: in_tasks(postgres, "subject"),
            "our Redis backend, a subject each": lambda: in_tasks(redis, "subject {}"),
            f"the bare UPDATE, a row each, {CONNECTIONS} connections": lambda: updates(connections),
            "pyrate-limiter's PostgresBucket, a table each, without slots": lambda: with_pyrate(threads, peers),
        }
        rounds = [[await figures(side, pids) for side in sides.values()] for _ in range(1 + ROUNDS // 3)][1:]
        for connection in connections:
            await connection.close()
    await postgres.close()
    await redis.close()
    print(f"\n| {TASKS} callers at once | decisions a second | processors, us each | our PostgreSQL takes |")
    print("| --- | --- | --- | --- |")
    for number, name in enumerate(sides):
        own = [each[number] for each in rounds]
        shares = [each[0][1] / each[number][1] for each in rounds]
        print(
            f"| {name} | {spread([a for a, _ in own])} | {spread([us for _, us in own])} | {spread(shares, 2)} of it |"
        )
    times = median(each[-1][1] / each[0][1] for each in rounds), median(each[0][0] / each[-1][0] for each in rounds)
    verdict = "met" if times[0] >= MIN_TIMES_PYRATE else "NOT met"
    target = f"target: at least {MIN_TIMES_PYRATE}, {verdict}"
    print("\nWith the same processor time, PostgreSQL (a subject each) makes so many times as many decisions as")
    print(f"pyrate-limiter: {times[0]:.1f} ({target}). By the clock: {times[1]:.1f}.")


async def figures(side: Callable[[], Awaitable[int]], pids: Callable[[], list[int]]) -> tuple[float, float]:
    """How many decisions a second it makes, and the time of all processors for each, in us."""
    servers = pids()
    begin_us = sum(map(processor_us, servers)) + time.process_time_ns() / 1_000
    begin_s = time.perf_counter()
    made = await side()
    took_s = time.perf_counter() - begin_s
    return made / took_s, (sum(map(processor_us, servers)) + time.process_time_ns() / 1_000 - begin_us) / made


async def in_tasks(backend: Any, subject: str) -> int:
    """Claim and release in many tasks; how often."""

    async def decide(name: str) -> int:
        allowed = 0
        for _ in range(BATCHED):
            decision = await backend.acquire(name, PLAN, 1)
            allowed += decision.allowed
            backend.release(decision)
        return allowed

    allowed = sum(await asyncio.gather(*[decide(subject.format(number)) for number in range(TASKS)]))
    assert allowed == TASKS * BATCHED
    return allowed


async def updates(connections: Sequence[psycopg.AsyncConnection[Any]]) -> int:
    """Update in many tasks that share connections; how often."""
    locks = [asyncio.Lock() for _ in connections]

    async def update(number: int) -> None:
        for _ in range(SINGLE):
            async with locks[number % CONNECTIONS]:
                cursor = await connections[number % CONNECTIONS].execute(BARE, (number + 1,))
                assert await cursor.fetchone()

    await asyncio.gather(*map(update, range(TASKS)))
    return TASKS * SINGLE


def pyrate(pool: ConnectionPool, table: str) -> PyrateLimiter:
    """A limiter with two rates."""
    rates = [PyrateRate(1_000_000, Duration.MINUTE), PyrateRate(10_000_000, Duration.DAY)]
    return PyrateLimiter(PostgresBucket(pool, table, rates))


async def with_pyrate(threads: ThreadPoolExecutor, limiters: Sequence[PyrateLimiter]) -> int:
    """Acquire in many threads; how often."""

    def decide(limiter: PyrateLimiter) -> int:
        return sum(bool(limiter.try_acquire("name")) for _ in range(PYRATE))

    loop = asyncio.get_running_loop()
    allowed = sum(await asyncio.gather(*[loop.run_in_executor(threads, decide, limiter) for limiter in limiters]))
    assert allowed == TASKS * PYRATE
    return allowed


def spread(rounds: Sequence[float], digits: int = 0) -> str:
    """The median with the least and the most."""
    return f"{median(rounds):,.{digits}f} ({min(rounds):,.{digits}f} to {max(rounds):,.{digits}f})"


if __name__ == "__main__":
    main()
