"""Decide on Redis, compared with redis-py's one call per decision and with peers: ``python -m benchmarks.bench_redis``.

The server shares the machine with its clients. Rounds are short and alternate. A figure is the median of its rounds,
with their minimum and maximum.
"""

import asyncio
import platform
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import redis
from benchmarks.peers.redis_deciders import DECIDERS, MOST_CONNECTIONS, client
from benchmarks.redis_load import Asked, Both, Load, Side, asking, spread
from benchmarks.redis_script import BYTES_TARGET, ONE, TARGET, bytes_with_a_lease, served, table
from benchmarks.redis_sides import PLAN, TIMEOUT_MS, awx_tasks, awx_threads, bare_tasks, bare_threads
from tests.redis_servers import RedisServer, running_redis

from awx_ratelimit import AsyncLimiter, Limiter
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.redis.scripts import ACQUIRE

ROUNDS = 5
TASKS = (10, 100, 1_000)
THREADS = (8, 32)
#: As many calls as last about 0.2 s.
OURS, BARE, PEERS, ALONE = 6_000, 1_000, 500, 250
_BARE_OUTSIDE = "of redis-py: making the arguments, reading the reply"


class Row(NamedTuple):
    """One row of the targets."""

    what: str
    measured: str
    target: str
    met: bool
    outside: str


def main() -> None:
    """Print the targets, and then what they were taken from."""
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server, server.client() as told:
        told.script_load(ACQUIRE.text)
        rows, tables = asyncio.run(_in_tasks(server, told))
        more_rows, more_tables = _in_threads(server)
        rows, tables = [*rows, *more_rows, *_of_the_script(told, tables)], [*tables, *more_tables]
        version = told.info("server")["redis_version"]
    print(f"\n## Redis\n\nRedis {version}, redis-py {redis.__version__}, CPython {platform.python_version()}.")
    print("Medians of rounds that took turns (least to most).\n")
    print("| what | measured | target | | outside of the timed region |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.what} | {row.measured} | {row.target} | {'met' if row.met else 'NOT met'} | {row.outside} |")
    for line in tables:
        print(line)


def _of_the_script(told: "redis.Redis", tables: list[str]) -> list[Row]:
    measured = served(told)
    tables += table(measured)
    one, used = measured[ONE], bytes_with_a_lease(told)
    us = f"{one.us:.1f} us, {one.times:.1f} times a script that does nothing"
    outside = "reading the command, writing the reply"
    return [
        Row("server time, 2 rates and a slot", us, f"at most {TARGET} times", one.times <= TARGET, outside),
        Row("2 rates and an open lease", f"{used} bytes", f"at most {BYTES_TARGET}", used <= BYTES_TARGET, "-"),
    ]


async def _in_tasks(server: RedisServer, told: "redis.Redis") -> tuple[list[Row], list[str]]:
    limiter = AsyncLimiter(AsyncRedisBackend.from_url(server.socket_url, timeout_ms=TIMEOUT_MS))
    bare = client(server.socket_url)
    ours, theirs = awx_tasks(limiter), bare_tasks(bare)
    rows = await _round_trips(told, limiter, ours)
    measured = {1: await _turns(Load(1), ours, theirs, (ALONE, ALONE), 3 * ROUNDS)}
    for tasks in TASKS:
        calls = max(OURS, 10 * tasks), max(BARE, 2 * tasks)
        measured[tasks] = await _turns(Load(tasks), ours, theirs, calls, ROUNDS)
    peers = await _peers(server, ours)
    rows += [_alone_row("one task", measured[1], 0.6), _hundred_row(measured[100])]
    rows += [_peer_row(name, peers[name]) for name in list(DECIDERS)[:2]]
    await limiter.aclose()
    await bare.aclose()
    return rows, [*_callers_table("tasks", measured), *await _over_tcp(server), *_peers_table(peers)]


async def _round_trips(told: "redis.Redis", limiter: AsyncLimiter, ours: Side) -> list[Row]:
    """By INFO commandstats. One task gives its leases back when its calls have been counted: they go in batches."""
    calls = 200
    await limiter.acquire("first", PLAN)
    told.config_resetstat()
    held = [await limiter.acquire("counted", PLAN) for _ in range(calls)]
    one = told.info("commandstats")["cmdstat_evalsha"]["calls"] / calls
    for decision in held:
        await limiter.release(decision)
    told.config_resetstat()
    await Load(100).in_tasks(ours, OURS)
    many = told.info("commandstats")["cmdstat_evalsha"]["calls"] / OURS
    return [
        Row("round trips for a decision, one task", f"{one:.2f}", "1", one == 1, "-"),
        Row("the same with 100 tasks, releases included", f"{many:.3f}", "at most 1", many <= 1, "-"),
    ]


async def _turns(load: Load, ours: Side, theirs: Side, calls: tuple[int, int], rounds: int) -> Both:
    measured = [(await load.in_tasks(ours, calls[0]), await load.in_tasks(theirs, calls[1])) for _ in range(rounds + 1)]
    # The first round opened the connections.
    return Both.of(measured[1:])


async def _peers(server: RedisServer, ours: Side) -> dict[str, Both]:
    load = Load(100)
    sides = [_peer_side(name, made(server)) for name, made in DECIDERS.items()]
    for side in sides:
        await load.in_tasks(side, PEERS)
    rounds = []
    for _ in range(ROUNDS):
        our = await load.in_tasks(ours, OURS)
        rounds.append([(our, await load.in_tasks(side, PEERS)) for side in sides])
    return {side.name: Both.of(list(measured)) for side, measured in zip(sides, zip(*rounds, strict=True), strict=True)}


def _peer_side(name: str, decide: Callable[[str], Awaitable[bool]]) -> Side:
    """It has the same subjects in each round, for some make an object of each."""

    def ready(subject: str, calls: int) -> Callable[[], Awaitable[Asked]]:
        known = subject.rpartition(", ")[2]
        return asking(lambda: decide(known), calls)

    return Side(name, ready, all)


async def _over_tcp(server: RedisServer) -> list[str]:
    limiter = AsyncLimiter(AsyncRedisBackend.from_url(server.url, timeout_ms=TIMEOUT_MS))
    bare = client(server.url)
    ours, theirs = awx_tasks(limiter), bare_tasks(bare)
    measured = {1: await _turns(Load(1), ours, theirs, (ALONE, ALONE), ROUNDS)}
    measured[100] = await _turns(Load(100), ours, theirs, (OURS, BARE), 3)
    await limiter.aclose()
    await bare.aclose()
    return _callers_table("tasks, over TCP on the loopback", measured)


def _in_threads(server: RedisServer) -> tuple[list[Row], list[str]]:
    limiter = Limiter(RedisBackend.from_url(server.socket_url, timeout_ms=TIMEOUT_MS))
    pool = redis.BlockingConnectionPool.from_url(server.socket_url, max_connections=max(THREADS), timeout=20)
    with redis.Redis(connection_pool=pool) as bare:
        ours, theirs = awx_threads(limiter), bare_threads(bare)
        measured = {1: _thread_turns(Load(1), ours, theirs, (ALONE, ALONE), 3 * ROUNDS)}
        for threads in THREADS:
            measured[threads] = _thread_turns(Load(threads), ours, theirs, (OURS // 2, BARE), ROUNDS)
    limiter.close()
    pool.disconnect()
    rows = [_alone_row("one thread", measured[1], 0.7), _threads_row(measured[THREADS[-1]])]
    return rows, _callers_table("threads", measured)


def _thread_turns(load: Load, ours: Side, theirs: Side, calls: tuple[int, int], rounds: int) -> Both:
    measured = [(load.in_threads(ours, calls[0]), load.in_threads(theirs, calls[1])) for _ in range(rounds + 1)]
    return Both.of(measured[1:])


def _alone_row(who: str, both: Both, target: float) -> Row:
    ratio, outside = both.times_their_p50, f"of ours: release, an enqueue; {_BARE_OUTSIDE}"
    return Row(
        f"{who}, p50 by that of a bare EVALSHA", str(ratio), f"at most {target}", ratio.middle <= target, outside
    )


def _threads_row(both: Both) -> Row:
    ratio = both.times_theirs
    what = f"{THREADS[-1]} threads, times redis-py's one call each"
    return Row(what, str(ratio), "at least 4", ratio.middle >= 4, _BARE_OUTSIDE)


def _hundred_row(both: Both) -> Row:
    ratio = both.times_theirs
    ours, theirs = (median(one.p99_us for one in rounds) for rounds in (both.ours, both.theirs))
    measured = f"{ratio}, p99 {ours / 1000:.1f} to {theirs / 1000:.1f} ms"
    met = ratio.middle >= 15 and ours < theirs
    return Row("100 tasks, times redis-py's one call each", measured, "at least 15, p99 below it", met, _BARE_OUTSIDE)


def _peer_row(name: str, both: Both) -> Row:
    ratio = both.times_theirs
    return Row(f"100 tasks, times {name}", str(ratio), "at least 25", ratio.middle >= 25, "nothing")


def _callers_table(who: str, measured: dict[int, Both]) -> list[str]:
    lines = ["", f"### {who[0].upper()}{who[1:]}", ""]
    lines.append("A release follows each decision, within the time of the round and not of the call.")
    lines.append(
        f"redis-py has a BlockingConnectionPool, of {MOST_CONNECTIONS} connections for tasks and 32 for threads."
    )
    lines += ["", f"| {who} | side | decisions a second | p50 us | p99 us | times redis-py |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for callers, both in measured.items():
        for side, rounds, times in (
            ("awx_ratelimit", both.ours, str(both.times_theirs)),
            ("redis-py, one call each", both.theirs, ""),
        ):
            figures = [spread([each[index] for each in rounds]) for index in range(3)]
            lines.append(f"| {callers:,} | {side} | {' | '.join(map(str, figures))} | {times} |")
    return lines


def _peers_table(peers: dict[str, Both]) -> list[str]:
    lines = ["", "### Peers, 100 tasks", ""]
    lines.append("Nothing is outside of the timed region. Of all of them ours alone takes a slot, and gives it back.")
    lines += ["", "| who | decisions a second | p99 us | ours is times that |", "| --- | --- | --- | --- |"]
    ours = next(iter(peers.values())).ours
    measured = {"awx_ratelimit: 2 rates and a slot": (ours, "")}
    measured |= {name: (both.theirs, str(both.times_theirs)) for name, both in peers.items()}
    for name, (rounds, times) in measured.items():
        a_second, p99 = spread([one.a_second for one in rounds]), spread([one.p99_us for one in rounds])
        lines.append(f"| {name} | {a_second} | {p99} | {times} |")
    return lines


if __name__ == "__main__":
    main()
