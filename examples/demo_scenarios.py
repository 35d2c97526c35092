"""The scenarios of the demo: each sends the traffic of one row and returns how its promise held, or raises Broken."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import httpx2
from examples.demo_keys import Desk, NoKey
from examples.demo_rows import Row
from examples.demo_traffic import AGENTS, TRANSFER, Answer, Broken, Key, Sent, sleep_until
from websockets.exceptions import WebSocketException

SCENARIO_SECONDS = 25.0
#: So long before the first moment that the plan allows, the last request is sent that must be refused.
_EARLY_SECONDS = 0.4
_BETWEEN_TRIES_SECONDS = 0.5
#: How long a process may take to hear that a key was revoked in another one.
_REVOKED_SECONDS = 1
#: Refusals in a row, each on a connection of its own, after which every process has been asked.
_REFUSALS = 24
#: So slowly that a second of being let in still does not spend the minute.
_BETWEEN_ASKS_SECONDS = 0.03
_FAILURES = (Broken, NoKey, httpx2.HTTPError, WebSocketException, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The traffic of one row, sent with an API key of its own, so that no row spends what another one counts on."""

    name: str
    tier: str
    traffic: str
    play: Callable[[Key], Awaitable[str]]

    async def run(self, http: httpx2.AsyncClient, desk: Desk, row: Row, begin_at: float) -> None:
        """Send the traffic and write the verdict into `row`; whatever goes wrong is a broken promise."""
        row.reason = "waiting its turn"
        await sleep_until(begin_at)
        row.reason = "sending"
        try:
            made = await desk.create(self.name)
            async with asyncio.timeout(SCENARIO_SECONDS), Key(http, made, desk, row) as key:
                row.reason = await self.play(key)
                row.held = True
        except* _FAILURES as group:
            row.reason = _first_of(group)
            row.held = False


def _first_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or f"not answered in time ({type(error).__name__})"


async def spend(key: Key, *, burst: int, per_second: float, request: Sent = AGENTS, at_once: int = 4) -> str:
    """Spend the whole burst, be refused, come back too early, and then when Retry-After says."""
    begun = time.monotonic()
    await key.burst(burst, at_once, request)
    early = None
    while early is None:
        refusal = await _first_refusal(key, request, lambda now: burst + per_second * (now - begun))
        admitted = key.row.admitted
        if admitted < burst:
            raise Broken(f"{admitted} were let in; the plan has {burst}")
        if refusal.wait_seconds > math.ceil(1 / per_second):
            raise Broken(f"Retry-After: {refusal.wait_seconds}, and the plan gives one back every {1 / per_second:g} s")
        # A token bucket lets in `burst + per_second * t` in any time t: the next one not before this moment.
        early = await _too_early(key, request, refusal, allowed_at=begun + (admitted + 1 - burst) / per_second)
    await _come_back(key, request, refusal)
    regained = f" + {admitted - burst} regained" if admitted > burst else ""
    return f"{burst}{regained} let in, then refused{early}; let in after {refusal.wait_seconds} s"


async def _first_refusal(key: Key, request: Sent, most: Callable[[float], float]) -> Answer:
    while (answer := await key.send(request)).admitted:
        if key.row.admitted > most(answer.received_at):
            raise Broken(f"{key.row.admitted} were let in; the plan allows {most(answer.received_at):.0f} by now")
    key.row.promised_seconds = answer.wait_seconds
    return answer


async def _too_early(key: Key, request: Sent, refusal: Answer, allowed_at: float) -> str | None:
    """Be refused every half second for as long as the plan has nothing: asking costs nothing. What to say of it.

    None where the answer came so late that nobody can tell: this machine was busy.
    """
    moment = allowed_at - _EARLY_SECONDS
    tries = max(0, math.ceil((moment - time.monotonic()) / _BETWEEN_TRIES_SECONDS))
    for tries_left in reversed(range(tries)):
        key.row.reason = f"asking again and again, {allowed_at - time.monotonic():.0f} s too early"
        await sleep_until(moment - tries_left * _BETWEEN_TRIES_SECONDS)
        answer = await key.send(request)
        if answer.admitted and answer.received_at >= allowed_at:
            return None
        if answer.admitted:
            waited = answer.received_at - refusal.received_at
            raise Broken(f"let in {waited:.1f} s after a refusal that promised {refusal.wait_seconds} s")
    return f", again {moment - refusal.received_at:.1f} s later" if tries else ""


async def _come_back(key: Key, request: Sent, refusal: Answer) -> None:
    key.row.reason = "waiting as long as Retry-After says"
    await sleep_until(refusal.received_at + refusal.wait_seconds)
    answer = await key.send(request)
    key.row.proven_seconds = answer.sent_at - refusal.received_at
    if not answer.admitted:
        raise Broken(f"refused again after the {refusal.wait_seconds} s of its Retry-After")


async def rotate(key: Key, *, burst: int, per_second: float) -> str:
    """Spend half of the burst, rotate, and spend the rest with the key and its successor in turns: there is no more."""
    begun = time.monotonic()
    await key.burst(burst // 2, 4, AGENTS)
    key.row.reason = "rotating; both keys are good for a minute"
    await key.rotate(grace_seconds=60)
    refusal = await _first_refusal(key, AGENTS, lambda now: burst + per_second * (now - begun))
    admitted = key.row.admitted
    if admitted < burst:
        raise Broken(f"{admitted} were let in; the plan has {burst}")
    await _come_back(key, AGENTS, refusal)
    return f"{burst} + {admitted - burst} regained let in for both keys together"


async def revoke(key: Key) -> str:
    """Use the key, revoke it, and be refused by every process of the server, at the latest after a second."""
    for _ in range(_REFUSALS // 2):
        if not await key.is_accepted():
            raise Broken("a new key was refused")
    await key.revoke()
    revoked_at = last_let_in_at = time.monotonic()
    key.row.promised_seconds, key.row.reason = _REVOKED_SECONDS, "asking until every process refuses"
    refusals = 0
    while refusals < _REFUSALS:
        refusals += 1
        await asyncio.sleep(_BETWEEN_ASKS_SECONDS)
        if await key.is_accepted():
            refusals, last_let_in_at = 0, time.monotonic()
        if last_let_in_at > revoked_at + _REVOKED_SECONDS:
            raise Broken(f"a revoked key was let in after {last_let_in_at - revoked_at:.1f} s")
    key.row.proven_seconds = last_let_in_at - revoked_at
    when = "at once" if last_let_in_at == revoked_at else "within a second"
    return f"deleted, and refused {when}, on {refusals} connections in a row"


async def finish(key: Key, *, slots: int) -> str:
    """Fill every slot with reports, be refused one more, and again be let in when one has come to its end."""
    await _hold(key, slots - 1)
    answer, report = await key.open_report(chunks=8, pause_ms=100)
    _must_be_let_in(answer, slots)
    refusal = await _one_too_many(key, slots)
    key.row.reason = "one report comes to its end"
    await report.aread()
    await _let_in_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused; one report ended, and the next was let in"


async def hang_up(key: Key, *, slots: int) -> str:
    """Fill every slot with reports, be refused one more, and again be let in when one is broken off."""
    reports = await _hold(key, slots)
    refusal = await _one_too_many(key, slots)
    await reports[0].aclose()
    await _let_in_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused; one client hung up, and the next was let in"


async def listen(key: Key, *, slots: int) -> str:
    """Fill one slot with a WebSocket and the others with reports; the WebSocket holds its slot until it closes."""
    answer, feed = await key.open_feed()
    _must_be_let_in(answer, 1)
    assert feed is not None
    await _hold(key, slots - 1)
    refusal = await _one_too_many(key, slots)
    second, _ = await key.open_feed()
    if second.admitted:
        raise Broken(f"a WebSocket was let in beside {slots} connections; the plan has {slots}")
    key.row.reason = "listening to the feed, which holds its slot"
    for _ in range(3):
        await feed.recv()
    await feed.close()
    await _let_in_again(key, time.monotonic(), refusal)
    return f"the {slots + 1}th was refused, HTTP or WebSocket, until the feed closed"


async def pay_nothing(key: Key, *, slots: int, burst: int, refusals: int) -> str:
    """Be refused by the slots many times: the tokens of the minute are all still there."""
    reports = await _hold(key, slots)
    for _ in range(refusals):
        refusal = await _one_too_many(key, slots)
    for report in reports:
        await report.aclose()
    await _let_in_again(key, time.monotonic(), refusal)
    refused = key.row.refused
    await key.burst(burst - key.row.admitted, 1, AGENTS)
    if key.row.refused > refused:
        raise Broken(f"of {burst} a minute {key.row.admitted} were let in; refusals by the slots have paid")
    return f"{refused} refusals for want of a slot cost nothing: all {burst} were let in"


async def outlive(key: Key, *, requests: int, replace: Callable[[], Awaitable[None]]) -> str:
    """Use some of the day, let all processes be replaced, and find it used still."""
    await key.burst(requests - 1, 1, AGENTS)
    before = await key.day_left()
    key.row.reason = "every process is being replaced"
    await replace()
    after = await key.day_left()
    # One is used now, and a few come back meanwhile.
    if not before - 1 <= after < before + requests // 2:
        raise Broken(f"{before} of the day were left, and after a restart of all processes {after}")
    return f"{requests} of the day were used, and are after a restart of all processes"


async def _hold(key: Key, reports: int) -> list[httpx2.Response]:
    held = []
    for number in range(1, reports + 1):
        answer, report = await key.open_report()
        _must_be_let_in(answer, number)
        held.append(report)
    return held


def _must_be_let_in(answer: Answer, number: int) -> None:
    if not answer.admitted:
        raise Broken(f"connection {number} at once was refused; the plan has room for it")


async def _one_too_many(key: Key, slots: int) -> Answer:
    answer, _ = await key.open_report()
    if answer.admitted:
        raise Broken(f"{slots + 1} connections at once were let in; the plan has {slots}")
    key.row.promised_seconds = answer.wait_seconds
    # No clock knows when a connection ends.
    key.row.estimated = True
    return answer


async def _let_in_again(key: Key, ended_at: float, refusal: Answer) -> None:
    """Be let in, within the promised wait from `ended_at` on."""
    while not (answer := (await key.open_report())[0]).admitted:
        if answer.sent_at > ended_at + refusal.wait_seconds:
            raise Broken(f"no slot came back within the promised {refusal.wait_seconds} s")
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
#: With several processes, after all others; what it plays needs the server.
RESTART = Scenario("restart", "starter", "all processes replaced", partial(spend, burst=60, per_second=1))
