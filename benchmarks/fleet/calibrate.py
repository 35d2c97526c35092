"""Measures what one claim costs a process and its server: ``python -m benchmarks.fleet calibrate``.

A round is a batch of claims that begin together, on a real server. Processor time is measured, so a busy machine
changes little. A figure is the lowest tenth of many rounds of each size, in turn.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.fleet.client_costs import SIZES, Stamps, claim_together, low, measure_client, some_subjects
from benchmarks.fleet.costs import Costs, Linear, ServerCosts
from benchmarks.fleet.quiet import Others
from benchmarks.fleet.running import PLAN, RunningServer, also_of, limiter_at, remote_backend, running

from awx_ratelimit import AsyncLimiter, Budget
from awx_ratelimit.backends.base import LocalUsage

#: Many short rounds: in some of them no other program ran.
_ROUNDS, _RARE_ROUNDS = 80, 16
_CLAIMS = 60
#: Longer than releases wait for claims that can carry them.
_PATIENCE_S = 0.06
_IDLE_S = 1.0


def measure(kind: str) -> tuple[Costs, float]:
    """The costs of one of the kinds, and the share of this machine that other programs used meanwhile."""
    also = also_of(kind)
    with running(kind) as server:
        # On a cluster, the budget of the service is a call of its own.
        is_part = bool(also) and kind.startswith("redis cluster")
        others = Others(lambda: time.process_time() + sum(server.used_s().values()))
        client = asyncio.run(measure_client(server, () if is_part else also))
        costs, wire_s = asyncio.run(_ServerCosts(server, () if is_part else also).measure(is_part))
        share = others.share()
    return Costs(client, costs, wire_s), share


class _ServerCosts:
    """Measures a server by the processor time of its processes."""

    def __init__(self, server: RunningServer, also: Sequence[Budget]) -> None:
        self._server = server
        self._also = also
        self._stamps = Stamps()
        self._limiter: AsyncLimiter

    async def measure(self, is_part: bool) -> tuple[ServerCosts, float]:
        """The costs, and the time of a message on this machine."""
        self._limiter = limiter_at(self._server.url)
        call, wire_s = await self._calls()
        same = Linear.fit(await self._used(SIZES[1:], self._claim_same))
        part = Linear.fit(await self._used(SIZES[1:], self._claim_service)) if is_part else None
        idle_s = await self._idle_s()
        release = Linear.fit(await self._releases((1, 16, 48), idle_s))
        heal = Linear.fit(await self._used((1, 16, 48), self._heal))
        connect = await self._used((1,), self._connect)
        await self._limiter.aclose()
        costs = ServerCosts(
            call=Linear(call.fixed_s, min(same.each_s, call.each_s)),
            record_s=max(0.0, call.each_s - same.each_s),
            release=release,
            heal_s=heal.each_s,
            connect_s=max(0.0, connect[1] - call(1)),
            part_s=part.each_s if part else 0.0,
        )
        return costs, wire_s

    async def _calls(self) -> tuple[Linear, float]:
        waits: list[float] = []

        async def timed(number: int, size: int) -> None:
            begin_s, used_s = time.perf_counter(), time.thread_time()
            await self._claim(number, size)
            if size == 1:
                waits.append(time.perf_counter() - begin_s - (time.thread_time() - used_s))

        points = await self._used(SIZES, timed)
        call = Linear.fit(points)
        # Half of a wait, without the server's part.
        return call, max(0.0, (low(waits) - points[1]) / 2)

    async def _used(self, sizes: Sequence[int], act: Callable[[int, int], Awaitable[None]]) -> dict[int, float]:
        """The processor time of the server for one `act`, by size."""
        points: dict[int, list[float]] = {size: [] for size in sizes}
        for number in range(_ROUNDS):
            for size in sizes:
                count = max(2, _CLAIMS // size // (6 if size == 1 else 1))
                before = self._server.used_s()
                for each in range(count):
                    await act(number * 7 + each, size)
                points[size].append(self._server.used_since_s(before) / count)
        return {size: low(each) for size, each in points.items()}

    async def _claim(self, number: int, size: int) -> None:
        await claim_together(self._limiter, some_subjects(number, size), self._also, self._stamps)

    async def _claim_same(self, number: int, size: int) -> None:
        subjects = some_subjects(number, 1) * size
        await claim_together(self._limiter, subjects, self._also, self._stamps)

    async def _claim_service(self, number: int, size: int) -> None:
        del number
        await claim_together(self._limiter, ["all"] * size, (), self._stamps, scope="service")

    async def _heal(self, number: int, size: int) -> None:
        owed: list[LocalUsage] = [(subject, PLAN, [1, 1], []) for subject in some_subjects(number, size)]
        await asyncio.to_thread(remote_backend(self._limiter).heal, owed, os.urandom(8))

    async def _connect(self, number: int, size: int) -> None:
        await remote_backend(self._limiter)._channels.close()  # noqa: SLF001  # nothing public closes it
        await self._claim(number, size)

    async def _idle_s(self) -> float:
        """What the server uses in a second without calls."""
        before = self._server.used_s()
        await asyncio.sleep(_IDLE_S)
        return self._server.used_since_s(before) / _IDLE_S

    async def _releases(self, sizes: Sequence[int], idle_s: float) -> dict[int, float]:
        points: dict[int, list[float]] = {size: [] for size in sizes}
        for number in range(_RARE_ROUNDS):
            for size in sizes:
                held = [
                    await self._limiter.acquire(subject, PLAN, also=self._also)
                    for subject in some_subjects(number, size)
                ]
                await asyncio.sleep(0)
                before, begin_s = self._server.used_s(), time.perf_counter()
                for decision in held:
                    await self._limiter.release(decision)
                await asyncio.sleep(_PATIENCE_S)
                elapsed_s = time.perf_counter() - begin_s
                points[size].append(max(1e-6, self._server.used_since_s(before) - idle_s * elapsed_s))
        return {size: low(each) for size, each in points.items()}
