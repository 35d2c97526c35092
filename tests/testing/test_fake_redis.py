"""Redis without a server, for the tests of apps."""

import asyncio
import math
import struct
import subprocess
import sys
import threading
from typing import Any

import pytest
from fakeredis import FakeServer
from hypothesis import given
from hypothesis import strategies as st
from lupa.lua51 import LuaRuntime
from redis.exceptions import ResponseError

from awx_ratelimit import (
    AsyncGuardedBackend,
    AsyncLimiter,
    BackendUnavailable,
    Concurrency,
    Decision,
    GuardedBackend,
    Limiter,
    Plan,
    Rate,
)
from awx_ratelimit.testing import ManualClock, fake_redis
from awx_ratelimit.testing.lua_scripts import _STRUCT, LuaScripts

TWO = Plan.of("two", per_minute=2)


def test_shared_server() -> None:
    """Backends with one server and one prefix share their limits; another prefix and another server do not."""
    server = FakeServer()
    limiters = [
        Limiter(fake_redis(server=server)),
        Limiter(fake_redis(server=server)),
        Limiter(fake_redis(server=server, prefix="other")),
        Limiter(fake_redis()),
    ]
    remaining = [limiter.acquire("s", TWO).usages[0].remaining for limiter in limiters]
    for limiter in limiters:
        limiter.close()

    assert remaining == [1, 0, 1, 1]


def test_frozen_clock() -> None:
    """The time of a manual clock decides, to the millisecond."""
    clock = ManualClock(1_700_006_400_000)
    limiter = Limiter(fake_redis(clock=clock))
    decisions = [limiter.acquire("s", TWO) for _ in range(3)]
    clock.advance(29_999)
    early = limiter.acquire("s", TWO)
    clock.advance(1)
    on_time = limiter.acquire("s", TWO)
    limiter.close()

    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert decisions[2].retry_after_ms == 30_000
    assert early.allowed is False
    assert on_time.allowed is True


def test_time_of_the_machine() -> None:
    """Without a clock, the time of this machine decides."""
    limiter = Limiter(fake_redis())
    decision = limiter.acquire("s", TWO)
    health = limiter.health()
    limiter.close()

    assert decision.decided_at_ms > 1_700_000_000_000
    assert health["state"] == "ok"


def test_outage() -> None:
    """A server that is not connected is an outage, and the limits are still there after it."""
    server = FakeServer()
    limiter = Limiter(fake_redis(server=server))
    limiter.acquire("s", TWO)
    server.connected = False
    with pytest.raises(BackendUnavailable, match="redis at fakeredis"):
        limiter.acquire("s", TWO)
    server.connected = True
    decision = limiter.acquire("s", TWO)
    limiter.close()

    assert decision.usages[0].remaining == 0


def test_outage_of_a_guarded_backend() -> None:
    """A guard decides during the outage, in threads and in event loops."""
    server = FakeServer()
    server.connected = False
    guarded = Limiter(GuardedBackend(fake_redis(server=server)))
    asynchronous = AsyncLimiter(AsyncGuardedBackend(fake_redis(server=server, is_async=True)))

    async def decide() -> bool:
        decision = await asynchronous.acquire("s", TWO)
        await asynchronous.aclose()
        return decision.allowed

    assert guarded.acquire("s", TWO).allowed is True
    assert asyncio.run(decide()) is True
    guarded.close()


def test_threads() -> None:
    """Threads never get more slots together than there are."""
    limiter = Limiter(fake_redis())
    plan, start = Plan("p", (Rate.parse("1000/minute"),), Concurrency(5)), threading.Barrier(8)
    granted: list[Decision] = []

    def take() -> None:
        start.wait()
        granted.extend(limiter.acquire("s", plan) for _ in range(4))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limiter.close()

    assert len(granted) == 32
    assert sum(decision.allowed for decision in granted) == 5


def test_missing_package() -> None:
    """Without lupa, the error names the command that installs it."""
    code = (
        "import sys; sys.modules['lupa.lua51'] = None\n"
        "try:\n    from awx_ratelimit.testing import fake_redis\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert said == "fake_redis needs lupa; install it with: pip install 'fakeredis[lua]'\n"


@pytest.fixture(scope="module")
def lua_struct() -> Any:
    """The library `struct` of the scripts."""
    return LuaRuntime(encoding=None).execute(_STRUCT)


@given(number=st.floats())
def test_doubles(lua_struct: Any, number: float) -> None:
    """The library `struct` writes and reads every double as Python does."""
    packed = struct.pack("<d", number)
    read, after = lua_struct[b"unpack"](b"<d", packed)

    assert after == 9
    assert math.isnan(read) if math.isnan(number) else read == number
    assert lua_struct[b"pack"](b"<d", number) == packed or math.isnan(number)


@given(number=st.integers(-(2**53), 2**53), size=st.integers(1, 8), signed=st.booleans())
def test_integers(lua_struct: Any, number: int, size: int, signed: bool) -> None:  # hypothesis
    """The library `struct` writes and reads integers of each size as Python does, up to 2^53."""
    packed = (number % 2 ** (8 * size)).to_bytes(size, "little")
    value = int.from_bytes(packed, "little", signed=signed)
    name = f"<{'i' if signed else 'I'}{size}".encode()

    assert lua_struct[b"pack"](name, number) == packed
    if abs(value) <= 2**53:
        assert lua_struct[b"unpack"](name, packed)[0] == value


def test_texts_and_positions(lua_struct: Any) -> None:
    """`c0` writes a whole text, reading starts where it is told, and text that is too short is an error."""
    packed = lua_struct[b"pack"](b"<c0I2Bc3", b"head", 258, 7, b"abcd")

    assert packed == b"head\x02\x01\x07abc"
    assert lua_struct[b"unpack"](b"<I2B", packed, 5) == (258, 7, 8)
    with pytest.raises(Exception, match="data string too short"):
        lua_struct[b"unpack"](b"<I8", packed, 5)


def test_error_of_a_script() -> None:
    """A script that fails is an error of the server, and the next one runs."""
    scripts = LuaScripts(lambda *_: b"OK")

    with pytest.raises(ResponseError, match="no such thing"):
        scripts.eval(b"error('no such thing')", b"0")
    with pytest.raises(ResponseError, match="near"):
        scripts.eval(b"this is no Lua", b"0")
    assert scripts.eval(b"#!lua flags=allow-oom\nreturn #KEYS + ARGV[1]", b"1", b"key", b"2") == 3
