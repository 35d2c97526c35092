"""Hypothesis strategies for what users and clients may send."""

from math import gcd
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, NamedTuple
from zlib import crc32

from hypothesis import HealthCheck, reject, settings
from hypothesis import strategies as st
from tests.selection import EXAMPLES

from awx_ratelimit import Concurrency, InvalidLimit, Plan, Rate
from awx_ratelimit.core.rate import EXACT_MAX, Refill

BASE62 = digits + ascii_uppercase + ascii_lowercase
names = st.sampled_from(["minute", "day", "second"])
refills: st.SearchStrategy[Refill] = st.sampled_from(("continuous", "continuous", "calendar"))


rarely = st.integers(0, 5).map(lambda number: number == 0)


@st.composite
def rates(draw: st.DrawFn, name: str) -> Rate:
    """A rate of any proportion that can be counted exactly."""
    tokens = draw(st.integers(1, 50))
    refill = draw(refills)
    burst = tokens if refill == "calendar" else draw(st.integers(1, 60))
    period_ms = draw(st.sampled_from([1, 7, 1_000, 60_000, 86_400_000]))
    return Rate(name, tokens, period_ms, burst, refill=refill, shadow=draw(rarely))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of up to three rates whose names it shares with other plans, and perhaps slots; it may have no limit."""
    chosen = draw(st.lists(names, max_size=3, unique=True))
    slots = draw(st.none() | st.integers(1, 4))
    if not chosen and slots is None:
        return Plan.unlimited("p")
    concurrency = Concurrency(slots, shadow=draw(rarely)) if slots else None
    return Plan("p", tuple(draw(rates(name)) for name in chosen), concurrency, shadow=draw(rarely))


times_ms = st.integers(0, 5) | st.integers(-100, 70_000) | st.sampled_from([-90_000_000, 86_400_000, -60_000])
#: Whole periods, plus and minus one millisecond.
periods_ms = st.builds(
    lambda period_ms, off, sign: sign * period_ms + off,
    st.sampled_from([1, 7, 1_000, 60_000, 86_400_000]),
    st.integers(-1, 1),
    st.sampled_from([-1, 1]),
)


def with_examples(number: int, **more: Any) -> settings:
    """A quarter of `number` of examples; `make test-full` makes twice `number`."""
    # Examples share a server, but each writes the state that it reads.
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=number * EXAMPLES // 4, deadline=None, suppress_health_check=checks, **more)


#: Numbers up to 2**53, most of them near a power of two.
magnitudes = st.builds(
    lambda power, off: min(max(1, 2**power + off), EXACT_MAX), st.integers(0, 53), st.integers(-2, 2)
)


@st.composite
def extreme_rates(draw: st.DrawFn, name: str) -> Rate:
    """A rate whose numbers are as large as can be counted exactly."""
    tokens, period_ms = draw(magnitudes), draw(magnitudes | st.sampled_from([1, 60_000, 2**60]))
    most = EXACT_MAX // (period_ms // gcd(tokens, period_ms))
    burst = draw(
        st.integers(0, 2).map(lambda less: max(1, most - less)) | magnitudes.map(lambda burst: min(burst, most))
    )
    try:
        if draw(rarely):
            return Rate(name, burst, period_ms, refill="calendar", shadow=draw(rarely))
        return Rate(name, tokens, period_ms, burst, shadow=draw(rarely))
    except InvalidLimit:
        reject()


@st.composite
def extreme_plans(draw: st.DrawFn) -> Plan:
    """A plan of one to three such rates, and perhaps slots with a bound on each lease."""
    chosen = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    rates_of_any_size = tuple(draw(extreme_rates(name) | rates(name)) for name in chosen)
    return Plan("x", rates_of_any_size, draw(st.none() | slots()), shadow=draw(rarely))


@st.composite
def slots(draw: st.DrawFn) -> Concurrency:
    """A few slots, with lives of any length."""
    return Concurrency(
        draw(st.integers(1, 4)),
        ttl_ms=draw(st.sampled_from([1_000, 30_000, 2**32 - 1, 2**40])),
        max_hold_ms=draw(st.none() | st.sampled_from([1, 5_000, 100_000, 2**60])),
        shadow=draw(rarely),
    )


@st.composite
def api_keys(draw: st.DrawFn) -> str:
    """A key with one of several prefixes, built by hand according to the format."""
    prefix = draw(st.sampled_from(["awx_", "awx_test_", "awx_eu_live_"]))
    body = prefix + draw(st.text(BASE62, min_size=32, max_size=32))
    return body + base62(crc32(body.encode()), 6)


def base62(number: int, characters: int) -> str:
    """`number` written in `characters` digits of base62."""
    return base62(number // 62, characters - 1) + BASE62[number % 62] if characters else ""


class ScheduledRequest(NamedTuple):
    """One request in a schedule for the load tester's audit; times in milliseconds."""

    key: int
    gap_ms: int
    deciding_ms: int
    answering_ms: int
    hold_ms: int
    releasing_ms: int
    hung_up: bool
    cost: int


short_ms = st.integers(0, 3) | st.integers(0, 200)
scheduled_requests = st.builds(
    ScheduledRequest,
    key=st.integers(0, 1),
    gap_ms=st.integers(0, 2) | st.integers(0, 3_000),
    deciding_ms=short_ms,
    answering_ms=short_ms,
    hold_ms=st.just(0) | st.integers(1, 2_000),
    releasing_ms=st.integers(0, 200),
    hung_up=st.booleans(),
    cost=st.integers(1, 2),
)


@st.composite
def audited_plans(draw: st.DrawFn) -> Plan:
    """A plan whose limits a schedule of a few seconds reaches."""
    refill = draw(refills)
    tokens, period_ms = draw(st.integers(2, 8)), draw(st.sampled_from([1_000, 4_000]))
    burst = tokens if refill == "calendar" else draw(st.integers(2, 8))
    slots = draw(st.none() | st.integers(1, 4))
    first = Rate("first", tokens, period_ms, burst, refill=refill)
    return Plan("audited", (first, Rate("day", 20, 86_400_000)), Concurrency(slots) if slots else None)


@st.composite
def audited_account_plans(draw: st.DrawFn) -> Plan:
    """A plan whose keys share limits that a schedule of a few seconds reaches."""
    of_key, of_account = draw(audited_plans()), draw(audited_plans())
    return Plan(of_key.name, of_key.rates, of_key.concurrency, of_account)
