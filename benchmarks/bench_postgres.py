"""Decide in PostgreSQL, compared with a bare UPDATE of one row: ``python -m benchmarks.bench_postgres``.

The server shares the machine with its clients. Rounds are short and alternate. A figure is the median of its rounds,
with their minimum and maximum.
"""

import asyncio
import platform
import time
from collections.abc import Callable
from statistics import median

import psycopg
from tests.postgres_servers import running_postgres

from awx_ratelimit import Plan
from awx_ratelimit.backends.postgres import AsyncPostgresBackend, PostgresBackend

PLAN = Plan.of("bench", per_minute=1_000_000, per_day=10_000_000, concurrent=1_000)
ROUNDS, CALLS, TASKS, CLAIMS, SUBJECTS = 7, 500, 100, 10_000, 1_000
TIMEOUT_MS = 20_000
TARGET = 1.3
BARE = "UPDATE bare SET used = used + 1 WHERE id = %s RETURNING used"


def main() -> None:
    """Print the figures."""
    with running_postgres() as server:
        url = server.url(server.new_database())
        alone = one_at_a_time(url)
        rates = [asyncio.run(many_tasks(url, subjects)) for subjects in (SUBJECTS, 1)]
        with psycopg.connect(url) as connection:
            version = connection.info.server_version // 10_000
    print(
        f"\n## PostgreSQL\n\nPostgreSQL {version}, psycopg {psycopg.__version__}, CPython {platform.python_version()}."
    )
    print("Medians of rounds that took turns (least to most).\n")
    print("| what | measured | target |\n| --- | --- | --- |")
    ours, bare, ratios = alone
    print(f"| one thread, p50 of a claim and a release | {spread(ours, 'us')} | - |")
    print(f"| bare UPDATE ... RETURNING, prepared by psycopg, p50 | {spread(bare, 'us')} | - |")
    met = "met" if median(ratios) <= TARGET else "NOT met"
    print(f"| their ratio | {spread(ratios, '')} | at most {TARGET} ({met}) |")
    for subjects, rounds in zip((SUBJECTS, 1), rates, strict=True):
        print(f"| {TASKS} tasks, {subjects} subjects | {spread(rounds, 'decisions/s')} | - |")


def one_at_a_time(url: str) -> tuple[list[float], list[float], list[float]]:
    """The medians of the rounds in us: of a claim with its release, of the bare statement, and their ratios."""
    backend = PostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE UNLOGGED TABLE bare (id integer PRIMARY KEY, used bigint) WITH (fillfactor = 50)")
        connection.execute("INSERT INTO bare VALUES (1, 0)")

        def claim() -> None:
            backend.release(backend.acquire("subject", PLAN, 1))

        def update() -> None:
            connection.execute(BARE, (1,)).fetchone()

        rounds = [p50s_us(claim, update) for _ in range(ROUNDS)]
        (used,) = connection.execute("SELECT used FROM bare").fetchone() or (0,)
    charged = backend.peek("subject", PLAN, 1).usages[1]
    backend.close()
    assert used == ROUNDS * CALLS
    assert charged.remaining < charged.capacity
    return [ours for ours, _ in rounds], [bare for _, bare in rounds], [ours / bare for ours, bare in rounds]


def p50s_us(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """The median durations of two calls that take turns, so that other programs disturb both alike."""
    durations = [(duration_us(first), duration_us(second)) for _ in range(CALLS)]
    return median(one for one, _ in durations), median(other for _, other in durations)


def duration_us(call: Callable[[], None]) -> float:
    """How long a call takes."""
    begin_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin_ns) / 1_000


async def many_tasks(url: str, subjects: int) -> list[float]:
    """Decisions a second in each round."""
    backend = AsyncPostgresBackend.from_url(url, timeout_ms=TIMEOUT_MS)

    async def decide(task: int) -> int:
        allowed = 0
        for number in range(CLAIMS // TASKS):
            decision = await backend.acquire(f"subject {(task * 7_919 + number) % subjects}", PLAN, 1)
            allowed += decision.allowed
            backend.release(decision)
        return allowed

    rates = []
    for _ in range(ROUNDS + 1):
        begin_s = time.perf_counter()
        allowed = sum(await asyncio.gather(*map(decide, range(TASKS))))
        rates.append(CLAIMS / (time.perf_counter() - begin_s))
        assert allowed == CLAIMS
    await backend.close()
    # The first round makes the records.
    return rates[1:]


def spread(rounds: list[float], unit: str) -> str:
    """The median with the least and the most."""
    digits = 2 if median(rounds) < 100 and not unit else 0
    return f"{median(rounds):,.{digits}f} {unit} ({min(rounds):,.{digits}f} to {max(rounds):,.{digits}f})".replace(
        "  ", " "
    )


if __name__ == "__main__":
    main()
