"""Measures what one claim costs a process and its server: ``python -m benchmarks.fleet calibrate``.

What is frequent is measured while tasks claim again and again, as those of a fleet do: a single step that is repeated
has warmer caches than it would have there. What is rare is done many times, and its median counts. The figures are
processor time.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from statistics import median
from typing import TypeAlias

from benchmarks.fleet.client_costs import SIZES, SUBJECTS, measure_client, some_subjects
from benchmarks.fleet.costs import Costs, Linear, ServerCosts
from benchmarks.fleet.quiet import Others
from benchmarks.fleet.running import (
    PLAN,
    SERVER,
    RunningServer,
    also_of,
    apart_from,
    limiter_at,
    remote_backend,
    running,
)
from benchmarks.fleet.scenario import Population
from benchmarks.fleet.speed import Watch
from benchmarks.fleet.steady import TASKS, Used, client_line, pauses_s, server_line, spread, usage_of_calls
from benchmarks.fleet.worker import Work, no_full_collections

from awx_ratelimit import Budget, Decision
from awx_ratelimit.backends.base import LocalUsage

_Act: TypeAlias = Callable[[Sequence[str]], Awaitable[None]]

_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """The costs of a kind, and the share of this machine that others used meanwhile."""

    costs: Costs
    others: float


def measure(kind: str, speed: Watch) -> Measured:
    """Measure one of the kinds."""
    no_full_collections()
    with running(kind) as server, apart_from(server):
        others = Others(lambda: sum(os.times()[:4]) + server.total_s())
        return Measured(asyncio.run(_costs(kind, server, speed)), others.share())


async def _costs(kind: str, server: RunningServer, speed: Watch) -> Costs:
    also = also_of(kind)
    # On a cluster, the budget of the service needs its own call.
    is_part = bool(also) and kind.startswith("redis cluster")
    also = () if is_part else also
    work = Work(server.url, 0.0, 0.0, SUBJECTS, 1, service=bool(also))
    many = await usage_of_calls(server, speed, work)
    same = await usage_of_calls(server, speed, replace(work, subjects=1), TASKS[1:])
    alone = replace(work, subjects=1, scope="service")
    part = await usage_of_calls(server, speed, alone, TASKS[1:]) if is_part else []
    locked = await usage_of_calls(server, speed, work, TASKS[-1:], connections=2) if "postgres" in kind else []
    return Costs(
        client=await measure_client(server, speed, also, client_line(many)),
        server=await _server_costs(_RareCalls(server, speed, also), many, same, part, locked),
        pauses_s=await pauses_s(server, speed),
        spread=await spread(server, speed, also),
    )


async def _server_costs(
    rare: "_RareCalls", many: Sequence[Used], same: Sequence[Used], part: Sequence[Used], locked: Sequence[Used]
) -> ServerCosts:
    call, each_s = server_line(many), server_line(same).each_s
    each_s = min(call.each_s, each_s)
    waits_s = [(used.server_s - call(round(used.claims))) / used.claims for used in locked]
    costs = ServerCosts(
        call=Linear(call.fixed_s, each_s),
        record_s=(call.each_s - each_s) / _share_of_subjects(round(many[-1].claims)),
        release=Linear.fit(await rare.used_s(SIZES, rare.release, before=rare.claim)),
        heal_s=Linear.fit(await rare.used_s(SIZES, rare.heal)).each_s,
        connect_s=max(0.0, (await rare.used_s((1,), rare.claim, before=rare.disconnect))[1] - call(1)),
        # Two busy connections wait for each other in every call.
        lock_s=max([0.0, *waits_s]),
        part_s=server_line(part).each_s if part else 0.0,
    )
    await rare.close()
    return costs


def _share_of_subjects(claims: int) -> float:
    """How many subjects so many claims have, for each claim."""
    draw = Population(SUBJECTS).drawer(random.Random(1))  # noqa: S311  # no secret
    return sum(len({draw() for _ in range(claims)}) for _ in range(_ROUNDS)) / claims / _ROUNDS


class _RareCalls:
    """Measures a server by the processor time of its processes."""

    def __init__(self, server: RunningServer, speed: Watch, also: Sequence[Budget]) -> None:
        self._server = server
        self._speed = speed
        self._also = also
        self._limiter = limiter_at(server.url)
        self._held: list[Decision] = []

    async def used_s(self, sizes: Sequence[int], act: _Act, *, before: _Act | None = None) -> dict[float, float]:
        """The processor time of the server for one `act`, by its size, without what it does `before`."""
        numbers = count()

        async def once_s(size: int) -> float:
            subjects = some_subjects(next(numbers), size)
            if before:
                await before(subjects)
            used = self._server.used_s()
            await act(subjects)
            return self._server.used_since_s(used)

        return {size: median(await self._speed.times_s(_ROUNDS, partial(once_s, size), SERVER)) for size in sizes}

    async def claim(self, subjects: Sequence[str]) -> None:
        """Claim, once for each subject."""
        claims = (self._limiter.acquire(subject, PLAN, also=self._also) for subject in subjects)
        self._held += await asyncio.gather(*claims)

    async def release(self, subjects: Sequence[str]) -> None:
        """Release all claims."""
        del subjects
        while self._held:
            await self._limiter.release(self._held.pop())
        await self._limiter.flush()

    async def heal(self, subjects: Sequence[str]) -> None:
        """Report what an outage has left of these subjects."""
        owed: list[LocalUsage] = [(subject, PLAN, [1, 1], []) for subject in subjects]
        await asyncio.to_thread(remote_backend(self._limiter).heal, owed, os.urandom(8))

    async def disconnect(self, subjects: Sequence[str]) -> None:
        """Release all claims, and close the connections."""
        await self.release(subjects)
        await remote_backend(self._limiter)._channels.close()  # noqa: SLF001  # nothing public closes it

    async def close(self) -> None:
        await self.release(())
        await self._limiter.aclose()
