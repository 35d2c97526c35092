"""The rate limit headers, and the numbers in them."""

import pytest

from awx_ratelimit import Concurrency, Limiter, MemoryBackend, Plan, Rate
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(86_400_000 + 1_500)


@pytest.fixture
def limiter(clock: ManualClock) -> Limiter:
    return Limiter(MemoryBackend(clock=clock))


def _lines(limiter: Limiter, plan: Plan, cost: int = 1) -> list[str]:
    return [value.decode() for _, value in limit_headers.headers(limiter.acquire("s", plan, cost))]


def test_headers(limiter: Limiter, clock: ManualClock) -> None:
    """The example of the wire contract, byte for byte."""
    plan = Plan("p", (Rate("minute", 60, 60_000), Rate("day", 10_000, 86_400_000)), Concurrency(5))
    spent = [limiter.acquire("s", plan, 19) for _ in range(2)]
    limiter.release(spent[0])

    assert _lines(limiter, plan) == [
        '"minute";q=60;w=60, "day";q=10000;w=86400, "concurrent";q=5;qu="concurrent-requests"',
        '"minute";r=21;t=21, "day";r=9961;t=86064, "concurrent";r=3',
    ]


def test_burst(limiter: Limiter) -> None:
    """`awx-burst` is there only if the burst differs from `q`, and `t` is the refill time of the tokens left."""
    plan = Plan("p", (Rate("minute", 60, 60_000, burst=100), Rate("second", 7, 400)))

    assert _lines(limiter, plan) == [
        '"minute";q=60;w=60;awx-burst=100, "second";q=7;w=1',
        '"minute";r=99;t=99, "second";r=6;t=1',
    ]


def test_calendar_rate(limiter: Limiter) -> None:
    """`t` of a calendar rate is the time to its boundary, with or without debt."""
    plan = Plan("p", (Rate("day", 2, 86_400_000, refill="calendar"), Rate("minute", 1, 60_000)))
    first, second = _lines(limiter, plan)[1], _lines(limiter, plan)[1]

    assert first == '"day";r=1;t=86399, "minute";r=0;t=60'
    assert second == '"day";r=1;t=86399, "minute";r=0;t=60'


def test_next_token(limiter: Limiter, clock: ManualClock) -> None:
    """With no tokens left, `t` is the wait for the next one."""
    plan = Plan.of("p", per_minute=5, per_day=100, concurrent=9)
    lines = [_lines(limiter, plan)[1] for _ in range(5)]
    clock.advance(500)

    assert lines[3] == '"minute";r=1;t=12, "day";r=96;t=82944, "concurrent";r=5'
    assert lines[4] == '"minute";r=0;t=12, "day";r=95;t=82080, "concurrent";r=4'
    assert _lines(limiter, plan)[1].startswith('"minute";r=0;t=12, "day"')
    assert limiter.acquire("s", plan).retry_after_ms == 11_500


def test_shadow_limits(limiter: Limiter) -> None:
    """Shadow limits are not shown; a plan with only such limits sends no headers."""
    shadow = Rate("minute", 1, 60_000, shadow=True)

    assert _lines(limiter, Plan("p", (shadow, Rate("day", 9, 86_400_000)))) == [
        '"day";q=9;w=86400',
        '"day";r=8;t=76800',
    ]
    assert limit_headers.headers(limiter.acquire("s", Plan("q", (shadow,)))) == []


@pytest.mark.parametrize(("wait_ms", "says"), [(1, b"1 second."), (1_000, b"1 second."), (1_001, b"2 seconds.")])
def test_retry_after(clock: ManualClock, limiter: Limiter, wait_ms: int, says: bytes) -> None:
    """Retry-After is in whole seconds, rounded up, at least 1, and the same as in the message."""
    plan = Plan("p", (Rate("x", 1, 5_000),))
    limiter.acquire("s", plan)
    clock.advance(5_000 - wait_ms)

    reply = limit_headers.refusal(limiter.acquire("s", plan))
    assert dict(reply.headers)[b"retry-after"] + b" second" in reply.body
    assert says in reply.body


@pytest.mark.parametrize("code", ["api_key_missing", "invalid_api_key", "api_key_expired", "api_key_revoked"])
def test_401_body(code: str) -> None:
    """Each 401 has the three keys and a challenge, as RFC 9110 requires."""
    reply = error_responses.unauthorized(code)

    assert reply.body.startswith(b'{"code":"%s","type":"authentication_error","message":"' % code.encode())
    assert b"www-authenticate" in dict(reply.headers)
