"""Thousands of values that clients choose leave only bounded state, in number and in size."""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import pytest
from tests.costs.front_doors import Door, Sent, opened
from tests.processor_time import cpu_ratio
from tests.selection import parameters

MANY = 6_000
ALL = range(MANY)
#: At four blocks each, more than a full cache.
ADDRESSES_SENT = 5_000
LONG = 60_000
#: Of 60 kB each: if kept, they would take 3 MB.
MANY_LONG = 50
MAX_BYTES = 1_500_000
#: These fill every cache before the tests, so that no test pays for an empty one, in whatever order they run.
OTHERS = range(MANY, MANY + 5_000)
#: The values would leave twice as many without a bound. What else is allocated at the time is at most 5,000.
MAX_BLOCKS = MANY
#: Of the addresses.
MAX_BLOCKS_OF_CACHES = 16_384
#: An address that has used some of its limit is kept until the limit has refilled.
MAX_BLOCKS_PER_ADDRESS = 8
MAX_RATIO = 8.0
GATES = [
    "static key",
    "static key unknown",
    "no key",
    "bearer key unknown",
    "another's bearer",
    "anonymous",
    "preflight",
]
APPS = ["API with a wrong token", "console without a page"]
Odd = Callable[..., Iterable[Sent]]


@pytest.fixture(scope="module", params=["asgi", pytest.param("wsgi", marks=pytest.mark.full)])
def doors(request: pytest.FixtureRequest) -> Iterator[dict[str, Door]]:
    """Every entry point."""
    with opened(request.param) as doors:
        for odd, name in (*LOOKED_AT, *LOOKED_AT_AGAIN):
            doors[name].send(SHORT[odd](doors[name], OTHERS))
        for guesses in (False, True):
            door = doors[_door_for_addresses(guesses=guesses)]
            door.send(_from_addresses(door, "one /64", OTHERS, guesses=guesses))
        yield doors


def _sent(door: Door, numbers: Iterable[int], **fields: Callable[[int], Any]) -> Iterator[Sent]:
    return (door.request(**{name: of(number) for name, of in fields.items()}) for number in numbers)


def _long(number: int) -> str:
    return f"{number:x}".ljust(LONG, "a")


def _header(name: bytes, value: Callable[[int], str]) -> Callable[[int], Any]:
    return lambda number: [(name, value(number).encode())]


SHORT: dict[str, Odd] = {
    "methods": lambda door, numbers=ALL: _sent(door, numbers, method=lambda number: f"M{number:x}"),
    "paths": lambda door, numbers=ALL: _sent(door, numbers, path=lambda number: f"/v1/{number}".ljust(199, "a")),
    "keys": lambda door, numbers=ALL: _sent(door, numbers, lines=_header(b"x-api-key", lambda number: f"awx_{number}")),
    "bearers": lambda door, numbers=ALL: _sent(
        door, numbers, lines=_header(b"authorization", lambda number: f"Bearer awx_{number}")
    ),
    "forwarded for": lambda door, numbers=ALL: _sent(
        door, numbers, lines=_header(b"x-forwarded-for", lambda number: f"10.0.0.1,{number}".ljust(64, "0"))
    ),
}
LONG_ONES: dict[str, Odd] = {
    "methods": lambda door: _sent(door, range(MANY_LONG), method=lambda number: _long(number).upper()),
    "paths": lambda door: _sent(door, range(MANY_LONG), path=lambda number: f"/{_long(number)}"),
    "keys": lambda door: _sent(door, range(MANY_LONG), lines=_header(b"x-api-key", _long)),
    "bearers": lambda door: _sent(
        door, range(MANY_LONG), lines=_header(b"authorization", lambda number: f"Bearer {_long(number)}")
    ),
    "origins": lambda door: _sent(
        door, range(MANY_LONG), lines=_header(b"origin", lambda number: f"https://{_long(number)}")
    ),
    "forwarded for": lambda door: _sent(door, range(MANY_LONG), lines=_header(b"x-forwarded-for", _long)),
}
#: Where each of them is looked at.
LOOKED_AT = [
    ("methods", "no key"), ("paths", "no key"), ("keys", "static key unknown"), ("bearers", "bearer key unknown"),
    ("forwarded for", "anonymous"),
]  # fmt: skip
#: The same values at another door.
LOOKED_AT_AGAIN = [("keys", "bearer key unknown"), ("forwarded for", "static key unknown")]
EVERYWHERE = [*LOOKED_AT, *(pytest.param(*each, marks=pytest.mark.full) for each in LOOKED_AT_AGAIN)]


@pytest.mark.parametrize(("odd", "name"), EVERYWHERE)
def test_thousands_of_values(doors: dict[str, Door], odd: str, name: str) -> None:
    """Values that clients choose take no more memory than caches of a fixed size."""
    assert grown_blocks(doors[name], SHORT[odd]) < MAX_BLOCKS


@pytest.mark.parametrize("odd", LONG_ONES)
def test_long_values(doors: dict[str, Door], odd: str) -> None:
    """Fifty values of 60 kB each are in no cache of any app."""
    chosen = [doors[name] for name in (*GATES, *APPS)]
    for door in chosen:
        door.send([door.request()])
    gc.collect()
    tracemalloc.start()
    try:
        for door in chosen:
            door.send(LONG_ONES[odd](door))
        gc.collect()
        grown_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert grown_bytes < MAX_BYTES


ADDRESSES = {
    "IPv4": lambda number: f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}",
    "IPv6": lambda number: f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1",
    "one /64": lambda number: f"2001:db8:ffff:ffff:{number >> 16:x}:{number & 0xFFFF:x}::1",
}


@pytest.mark.parametrize("family", parameters(ADDRESSES.keys(), full=("IPv6",)))
@pytest.mark.parametrize("guesses", [False, True], ids=["anonymous", "guessing"])
def test_addresses(doors: dict[str, Door], family: str, guesses: bool) -> None:
    """Each address takes a few objects until its limits have refilled, and all addresses of a /64 count as one."""
    door = doors[_door_for_addresses(guesses=guesses)]
    requests = partial(_from_addresses, family=family, numbers=range(ADDRESSES_SENT), guesses=guesses)

    kept = 0 if family == "one /64" else ADDRESSES_SENT
    assert grown_blocks(door, requests) < MAX_BLOCKS_OF_CACHES + kept * MAX_BLOCKS_PER_ADDRESS


def _door_for_addresses(*, guesses: bool) -> str:
    return "bearer key unknown" if guesses else "anonymous"


def _from_addresses(door: Door, family: str, numbers: Iterable[int], *, guesses: bool) -> Iterator[Sent]:
    """Requests from the addresses with these numbers: the connection's, or those that a proxy forwards."""
    of = ADDRESSES[family]
    lines = (lambda _: door.lines) if guesses else _header(b"x-forwarded-for", of)
    client = of if guesses else (lambda _: "192.0.2.1")
    return _sent(door, numbers, lines=lines, client=client)


@pytest.mark.parametrize(("odd", "name"), EVERYWHERE)
def test_processor_time(doors: dict[str, Door], odd: str, name: str) -> None:
    """An uncached value costs at most a few times as much as a cached one."""
    door, some = doors[name], list(islice(SHORT[odd](doors[name]), 300))
    cached = some[:1] * len(some)

    assert cpu_ratio(partial(door.send, some), partial(door.send, cached), MAX_RATIO) < MAX_RATIO


def grown_blocks(door: Door, odd: Odd) -> int:
    """The number of memory blocks of up to 512 bytes that the requests leave allocated."""
    door.send([door.request()])
    gc.collect()
    before = sys.getallocatedblocks()
    door.send(odd(door))
    gc.collect()
    return sys.getallocatedblocks() - before
