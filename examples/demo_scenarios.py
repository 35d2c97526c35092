"""The scenarios of the demo: each sends the traffic of one row and returns what it showed, or raises Broken."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import httpx2
from examples.demo_keys import KeyManager, NoKey
from examples.demo_rows import Row
from examples.demo_slots import finish, hang_up, listen, pay_nothing
from examples.demo_traffic import AGENTS, QUOTE, TRANSFER, Answer, Broken, Key, Sent, sleep_until
from websockets.exceptions import WebSocketException

SCENARIO_SECONDS = 25.0
#: The last request that must be refused is sent this long before the plan allows it.
_EARLY_SECONDS = 0.4
_BETWEEN_TRIES_SECONDS = 0.5
#: A revocation takes effect in every process within this time.
_REVOKED_SECONDS = 1
#: After this many consecutive refusals on new connections, every process has been asked.
_REFUSALS = 24
#: Slow enough that a second of admitted requests does not use up the minute.
_BETWEEN_ASKS_SECONDS = 0.03
_FAILURES = (Broken, NoKey, httpx2.HTTPError, WebSocketException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The traffic of one row. Each row has its own API key, so that no row uses up what another one needs."""

    name: str
    tier: str
    traffic: str
    play: Callable[[Key], Awaitable[str]]

    async def run(self, http: httpx2.AsyncClient, key_manager: KeyManager, row: Row, begin_at: float) -> None:
        """Send the traffic and write the verdict to `row`. Any failure is a broken promise."""
        row.reason = "waiting for its turn"
        await sleep_until(begin_at)
        row.reason = "sending"
        try:
            made = await key_manager.create(self.name)
            async with asyncio.timeout(SCENARIO_SECONDS), Key(http, made, key_manager, row) as key:
                row.reason = await self.play(key)
                row.kept = True
        except* _FAILURES as group:
            row.reason = _first_of(group)
            row.kept = False


def _first_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or f"no answer in time ({type(error).__name__})"


async def spend(key: Key, *, burst: int, per_second: float, request: Sent = AGENTS, at_once: int = 4) -> str:
    """Use the whole burst, be refused, return too early, and then return after Retry-After."""
    begun = time.monotonic()
    await key.burst(burst, at_once, request)
    early = None
    while early is None:
        refusal = await _first_refusal(key, request, lambda now: burst + per_second * (now - begun))
        admitted = key.row.admitted
        if admitted < burst:
            raise Broken(f"{admitted} were admitted; the plan allows {burst}")
        if refusal.wait_seconds > math.ceil(1 / per_second):
            raise Broken(f"Retry-After: {refusal.wait_seconds}, and the plan refills one every {1 / per_second:g} s")
        # A token bucket admits `burst + per_second * t` in any time t: the next one not before this moment.
        early = await _too_early(key, request, refusal, allowed_at=begun + (admitted + 1 - burst) / per_second)
    await _come_back(key, request, refusal)
    return f"{_counted(admitted, burst)} admitted, then refused{early}; admitted after {refusal.wait_seconds} s"


def _counted(admitted: int, burst: int) -> str:
    return f"{burst} (and {admitted - burst} refilled)" if admitted > burst else str(burst)


async def _first_refusal(key: Key, request: Sent, most: Callable[[float], float]) -> Answer:
    while (answer := await key.send(request)).admitted:
        if key.row.admitted > most(answer.received_at):
            raise Broken(f"{key.row.admitted} were admitted; the plan allows {most(answer.received_at):.0f} by now")
    key.row.promised_seconds = answer.wait_seconds
    return answer


async def _too_early(key: Key, request: Sent, refusal: Answer, allowed_at: float) -> str | None:
    """Ask every half second until the plan allows a request: refusals cost nothing. Returns a text for the verdict.

    Returns None if an answer came too late to tell, on a busy machine.
    """
    moment = allowed_at - _EARLY_SECONDS
    tries = max(0, math.ceil((moment - time.monotonic()) / _BETWEEN_TRIES_SECONDS))
    for tries_left in reversed(range(tries)):
        key.row.reason = f"asking repeatedly, {allowed_at - time.monotonic():.0f} s too early"
        await sleep_until(moment - tries_left * _BETWEEN_TRIES_SECONDS)
        answer = await key.send(request)
        if answer.admitted and answer.received_at >= allowed_at:
            return None
        if answer.admitted:
            waited = answer.received_at - refusal.received_at
            raise Broken(f"admitted {waited:.1f} s after a refusal that promised {refusal.wait_seconds} s")
    return f", again {moment - refusal.received_at:.1f} s later" if tries else ""


async def _come_back(key: Key, request: Sent, refusal: Answer) -> None:
    key.row.reason = "waiting for Retry-After"
    await sleep_until(refusal.received_at + refusal.wait_seconds)
    answer = await key.send(request)
    key.row.proven_seconds = answer.sent_at - refusal.received_at
    if not answer.admitted:
        raise Broken(f"refused again after the {refusal.wait_seconds} s of its Retry-After")


async def rotate(key: Key, *, burst: int, per_second: float) -> str:
    """Use half of the burst, rotate, and use the rest with both keys in turns: they share one burst."""
    begun = time.monotonic()
    await key.burst(burst // 2, 4, AGENTS)
    key.row.reason = "rotating; both keys work for a minute"
    await key.rotate(grace_seconds=60)
    refusal = await _first_refusal(key, AGENTS, lambda now: burst + per_second * (now - begun))
    admitted = key.row.admitted
    if admitted < burst:
        raise Broken(f"{admitted} were admitted; the plan allows {burst}")
    await _come_back(key, AGENTS, refusal)
    return f"{_counted(admitted, burst)} admitted for both keys together"


async def revoke(key: Key) -> str:
    """Use the key and revoke it. Within a second every process of the server refuses it."""
    for _ in range(_REFUSALS // 2):
        if not await key.is_accepted():
            raise Broken("a new key was refused")
    await key.revoke()
    revoked_at = last_admitted_at = time.monotonic()
    key.row.promised_seconds, key.row.reason = _REVOKED_SECONDS, "asking until every process refuses"
    refusals = 0
    while refusals < _REFUSALS:
        refusals += 1
        await asyncio.sleep(_BETWEEN_ASKS_SECONDS)
        if await key.is_accepted():
            refusals, last_admitted_at = 0, time.monotonic()
        if last_admitted_at > revoked_at + _REVOKED_SECONDS:
            raise Broken(f"a revoked key was admitted after {last_admitted_at - revoked_at:.1f} s")
    key.row.proven_seconds = last_admitted_at - revoked_at
    when = "at once" if last_admitted_at == revoked_at else "within a second"
    return f"deleted, and refused {when}, on {refusals} connections in a row"


async def limit_a_route(key: Key, *, burst: int, per_second: float, refusals: int) -> str:
    """Use up the limit of a route, and be refused by it many times: the plan is not charged for the refused ones."""
    before, begun = await key.day_left(), time.monotonic()
    refusal = await _first_refusal(key, QUOTE, lambda now: 1 + burst + per_second * (now - begun))
    quotes = key.row.admitted - 1
    if quotes < burst:
        raise Broken(f"{quotes} were admitted; the route allows {burst}")
    if '"quote.minute";r=0' not in refusal.limits:
        raise Broken(f"a refusal does not report the route's limit: RateLimit: {refusal.limits}")
    while key.row.refused < refusals:
        # On a slow machine the route refills meanwhile. The wait of the last refusal is the one that counts.
        answer = await key.send(QUOTE)
        quotes += answer.admitted
        refusal = refusal if answer.admitted else answer
    key.row.promised_seconds = refusal.wait_seconds
    used = before - await key.day_left() - 1
    # A few of the day may have refilled meanwhile.
    if used > quotes:
        raise Broken(f"{quotes} were admitted, and {used} charged to the day: refusals were charged")
    await _come_back(key, QUOTE, refusal)
    return f"{_counted(quotes, burst)} admitted; {key.row.refused} refused, and not charged to the plan"


async def outlive(key: Key, *, requests: int, replace: Callable[[], Awaitable[None]]) -> str:
    """Use some of the day and replace all processes: what was used still counts."""
    await key.burst(requests - 1, 1, AGENTS)
    before = await key.day_left()
    key.row.reason = "every process is being replaced"
    await replace()
    after = await key.day_left()
    # This request uses one, and a few refill meanwhile.
    if not before - 1 <= after < before + requests // 2:
        raise Broken(f"{before} of the day were left, and {after} after all processes were replaced")
    return f"{requests} of the day were used, and still are after all processes were replaced"


SCENARIOS = (
    Scenario("minute", "starter", "60 requests a minute", partial(spend, burst=60, per_second=1)),
    Scenario(
        "transfers", "starter", "transfers, cost 5 each", partial(spend, burst=12, per_second=0.2, request=TRANSFER)
    ),
    Scenario("minute", "growth", "300 requests a minute", partial(spend, burst=300, per_second=5, at_once=8)),
    Scenario("minute", "enterprise", "120 in a burst, then 10/s", partial(spend, burst=120, per_second=10, at_once=8)),
    Scenario("reports", "starter", "5 reports at once", partial(finish, slots=5)),
    Scenario("reports", "growth", "25 reports at once", partial(hang_up, slots=25)),
    Scenario("feed", "starter", "a WebSocket and 4 reports", partial(listen, slots=5)),
    Scenario("rotation", "starter", "a key and its successor", partial(rotate, burst=60, per_second=1)),
    Scenario("revocation", "starter", "a key that is revoked", revoke),
    Scenario(
        "quotes", "starter", "a route's own limit", partial(limit_a_route, burst=10, per_second=1 / 6, refusals=20)
    ),
    Scenario("refused", "starter", "20 more than 5 at once", partial(pay_nothing, slots=5, burst=60, refusals=20)),
)
#: Runs after all others if there are several processes. Its traffic needs the server.
RESTART = Scenario("restart", "starter", "all processes replaced", partial(spend, burst=60, per_second=1))
