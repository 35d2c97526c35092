"""Measures what one claim costs a process and its server: ``python -m benchmarks.fleet calibrate``.

A round is a batch of claims that begin together, on a real server. For the costs of a server it is such a batch from
each of several connections, and the server finds them all at once, as that of a busy fleet does. Processor time is
measured, so a busy machine changes little. A figure is the lowest tenth of many rounds of each size, in turn.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from signal import SIGCONT, SIGSTOP
from typing import TypeAlias

from benchmarks.fleet.client_costs import SIZES, Stamps, claim_together, low, measure_client, some_subjects
from benchmarks.fleet.costs import Costs, Linear, ServerCosts
from benchmarks.fleet.quiet import Others
from benchmarks.fleet.running import PLAN, RunningServer, also_of, limiter_at, remote_backend, running

from awx_ratelimit import AsyncLimiter, Budget
from awx_ratelimit.backends.base import LocalUsage

_Act: TypeAlias = Callable[[AsyncLimiter, Sequence[str]], Awaitable[None]]

_ROUNDS, _CONNECTIONS = 25, 16
#: In so many turns, tasks have sent their calls.
_TURNS = 6


def measure(kind: str) -> tuple[Costs, float]:
    """The costs of one of the kinds, and the share of this machine that other programs used meanwhile."""
    also = also_of(kind)
    with running(kind) as server:
        # On a cluster, the budget of the service is a call of its own.
        is_part = bool(also) and kind.startswith("redis cluster")
        others = Others(lambda: time.process_time() + server.total_s())
        client = asyncio.run(measure_client(server, () if is_part else also))
        costs, wire_s = asyncio.run(_ServerCosts(server, () if is_part else also).measure(is_part))
        share = others.share()
    return Costs(client, costs, wire_s), share


class _ServerCosts:
    """Measures a server by the processor time of its processes."""

    def __init__(self, server: RunningServer, also: Sequence[Budget]) -> None:
        self._server = server
        self._also = also
        self._limiters: list[AsyncLimiter] = []

    async def measure(self, is_part: bool) -> tuple[ServerCosts, float]:
        """The costs, and the time of a message on this machine."""
        self._limiters = [limiter_at(self._server.url) for _ in range(_CONNECTIONS)]
        call = Linear.fit(await self._used(SIZES, self._claim))
        same = Linear.fit(await self._used(SIZES[1:], self._claim_same))
        part = Linear.fit(await self._used(SIZES[1:], self._claim_service)) if is_part else None
        release = Linear.fit(await self._used(SIZES, self._release, self._hold))
        heal = Linear.fit(await self._used(SIZES, self._heal))
        connect = await self._used((1,), self._claim, self._disconnect)
        costs = ServerCosts(
            call=Linear(call.fixed_s, min(same.each_s, call.each_s)),
            record_s=max(0.0, call.each_s - same.each_s),
            release=release,
            heal_s=heal.each_s,
            connect_s=max(0.0, connect[1] - call(1)),
            part_s=part.each_s if part else 0.0,
        )
        wire_s = await self._wire_s()
        for limiter in self._limiters:
            await limiter.aclose()
        return costs, wire_s

    async def _used(self, sizes: Sequence[int], act: _Act, before: _Act | None = None) -> dict[int, float]:
        """The processor time of the server for one `act` of one limiter, by size, without what it does `before`."""
        points: dict[int, list[float]] = {size: [] for size in sizes}
        for number in range(_ROUNDS):
            for size in sizes:
                if before:
                    await self._everywhere(before, number, size)
                used = self._server.used_s()
                await self._everywhere(act, number, size)
                points[size].append(self._server.used_since_s(used) / _CONNECTIONS)
        return {size: low(each) for size, each in points.items()}

    async def _everywhere(self, act: _Act, number: int, size: int) -> None:
        """Let all limiters act at once. The server goes on when all have sent, so it works without pauses."""
        subjects = [some_subjects(number * 17 + each, size) for each in range(_CONNECTIONS)]
        self._server.signal(SIGSTOP)
        try:
            acting = asyncio.gather(*map(act, self._limiters, subjects))
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        finally:
            self._server.signal(SIGCONT)
        await acting

    async def _claim(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        await claim_together(limiter, subjects, self._also, Stamps())

    async def _claim_same(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        await claim_together(limiter, [subjects[0]] * len(subjects), self._also, Stamps())

    async def _claim_service(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        await claim_together(limiter, ["all"] * len(subjects), (), Stamps(), scope="service")

    async def _hold(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        held = await asyncio.gather(*(limiter.acquire(subject, PLAN, also=self._also) for subject in subjects))
        await limiter.flush()
        for decision in held:
            await limiter.release(decision)

    async def _release(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        del subjects
        await limiter.flush()

    async def _heal(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        owed: list[LocalUsage] = [(subject, PLAN, [1, 1], []) for subject in subjects]
        await asyncio.to_thread(remote_backend(limiter).heal, owed, os.urandom(8))

    async def _disconnect(self, limiter: AsyncLimiter, subjects: Sequence[str]) -> None:
        del subjects
        await remote_backend(limiter)._channels.close()  # noqa: SLF001  # nothing public closes it

    async def _wire_s(self) -> float:
        """Half of what a single call takes besides processor time."""
        limiter, waits = self._limiters[0], list[float]()
        for number in range(_ROUNDS * 8):
            begin_s, used_s, server_s = time.perf_counter(), time.thread_time(), self._server.used_s()
            await self._claim(limiter, some_subjects(number, 1))
            elapsed_s, own_s = time.perf_counter() - begin_s, time.thread_time() - used_s
            waits.append(elapsed_s - own_s - self._server.used_since_s(server_s))
        return max(0.0, low(waits) / 2)
