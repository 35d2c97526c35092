"""The scenarios of the demo that fill the slots of a plan. Each returns what it showed, or raises Broken."""

import asyncio
import time

import httpx2
from examples.demo_traffic import AGENTS, Answer, Broken, Key


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
