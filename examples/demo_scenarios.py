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
from examples.demo_traffic import AGENTS, TRANSFER, Answer, Broken, Key, Sent, sleep_until
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


async def finish(key: Key, *, slots: int) -> str:
    """Fill every slot with reports and be refused one more. When a report ends, the next one is admitted."""
    await _hold(key, slots - 1)
    answer, report = await key.open_report(chunks=30, pause_ms=100)
    _must_be_admitted(answer, slots)
    refusal = await _one_too_many(key, slots)
    key.row.reason = "one report is ending"
    await report.aread()
    await _admitted_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused; one report ended, and the next was admitted"


async def hang_up(key: Key, *, slots: int) -> str:
    """Fill every slot with reports and be refused one more. When a client disconnects, the next one is admitted."""
    reports = await _hold(key, slots)
    refusal = await _one_too_many(key, slots)
    await reports[0].aclose()
    await _admitted_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused; one client left, and the next was admitted"


async def listen(key: Key, *, slots: int) -> str:
    """Fill one slot with a WebSocket and the others with reports; the WebSocket holds its slot until it closes."""
    answer, feed = await key.open_feed()
    _must_be_admitted(answer, 1)
    assert feed is not None
    await _hold(key, slots - 1)
    refusal = await _one_too_many(key, slots)
    second, _ = await key.open_feed()
    if second.admitted:
        raise Broken(f"a WebSocket was admitted with {slots} connections open; the plan allows {slots}")
    key.row.reason = "reading the feed, which holds its slot"
    for _ in range(3):
        await feed.recv()
    await feed.close()
    await _admitted_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused, HTTP or WebSocket, until the feed closed"


async def pay_nothing(key: Key, *, slots: int, burst: int, refusals: int) -> str:
    """Be refused for lack of a slot many times: all tokens of the minute remain."""
    reports = await _hold(key, slots)
    for _ in range(refusals):
        refusal = await _one_too_many(key, slots)
    for report in reports:
        await report.aclose()
    await _admitted_again(key, time.monotonic(), refusal)
    refused = key.row.refused
    await key.burst(burst - key.row.admitted, 1, AGENTS)
    if key.row.refused > refused:
        raise Broken(f"of {burst} a minute {key.row.admitted} were admitted; refusals were charged")
    return f"{refused} refusals for lack of a slot cost nothing: all {burst} were admitted"


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


async def _hold(key: Key, reports: int) -> list[httpx2.Response]:
    held = []
    for number in range(1, reports + 1):
        answer, report = await key.open_report()
        _must_be_admitted(answer, number)
        held.append(report)
    return held


def _must_be_admitted(answer: Answer, number: int) -> None:
    if not answer.admitted:
        raise Broken(f"connection {number} was refused; the plan has room for it")


async def _one_too_many(key: Key, slots: int) -> Answer:
    answer, _ = await key.open_report()
    if answer.admitted:
        raise Broken(f"{slots + 1} concurrent connections were admitted; the plan allows {slots}")
    key.row.promised_seconds = answer.wait_seconds
    # Nobody knows when a connection will end.
    key.row.estimated = True
    return answer


async def _admitted_again(key: Key, ended_at: float, refusal: Answer) -> None:
    """Be admitted within the promised wait, counted from `ended_at`."""
    while not (answer := (await key.open_report())[0]).admitted:
        if answer.sent_at > ended_at + refusal.wait_seconds:
            raise Broken(f"no slot was free within the promised {refusal.wait_seconds} s")
        await asyncio.sleep(0.05)
    key.row.proven_seconds = answer.received_at - ended_at


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
    Scenario("refused", "starter", "20 more than 5 at once", partial(pay_nothing, slots=5, burst=60, refusals=20)),
)
#: Runs after all others if there are several processes. Its traffic needs the server.
RESTART = Scenario("restart", "starter", "all processes replaced", partial(spend, burst=60, per_second=1))
