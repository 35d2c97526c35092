"""A long header costs as much processor time as the same bytes in an unread header, whatever the response."""

import logging
from collections.abc import Iterator
from functools import partial

import pytest
from tests.costs.front_doors import Door, Lines, ask, opened, recorded
from tests.processor_time import cpu_ratio, cpu_s

from awx_ratelimit.adapters.asgi.scope import request_of
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS

BYTES = 60_000
UNREAD = b"x-nobody-reads"
#: The part above 1 is the cost of parsing a header's first kilobyte, relative to a whole response.
MOST_RATIO = 5.0
#: The duration of one measurement.
MEASURED_S = 0.000_5
#: Repeated content: lists, spaces, credentials, addresses, cookies, and other content that is slow to parse.
REPEATED = [
    b",", b"a,", b" ", b"\t", b"a", b";", b"; ", b"=", b'"', b"(", b"[", b":", b"/", b"%41", b"\xff", b"\xa0",
    b"application/json;q=0.1,", b"*/*;;;;;;;;,", b"bearer awx_,", b",bearer ", b"1.2.3.4,", b"10.0.0.1,", b"::1,",
    b"a=b; ", b"text/html,", b"https://a.", b"eyJ.",
]  # fmt: skip
BEGUN = {
    b"application/problem+json,": [b"a,", b";"],
    b"Bearer ": [b"a", b".", b" ", b"awx_,"],
    b"Bearer awx_": [b"a", b" ", b","],
    b"application/json;": [b" ", b"charset=utf-8;"],
    b"application/x-www-form-urlencoded;": [b" ", b";"],
    b"https://": [b"a", b"[", b"@"],
    b"__Host-awx-console=": [b"a", b";"],
    b"10.0.0.1": [b",10.0.0.2", b" "],
}
VALUES = [(more * BYTES)[:BYTES] for more in REPEATED] + [
    (begun + more * BYTES)[:BYTES] for begun, mores in BEGUN.items() for more in mores
]
#: Headers that must be found, or else the search does not work.
KNOWN = {
    b"accept", b"authorization", b"x-api-key", b"x-forwarded-for", b"origin", b"access-control-request-method",
    b"cookie", b"host", b"content-type", b"sec-fetch-site",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Measure the request without pytest's log capture."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def doors(request: pytest.FixtureRequest) -> Iterator[dict[str, Door]]:
    """Every entry point."""
    with opened(request.param) as doors:
        yield doors


def read_by(door: Door, monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """The headers that are read for this request; some are read only if another one is present."""
    with recorded(monkeypatch) as names:
        ask(door, door.lines)
        for name in sorted(names):
            ask(door, replaced(door.lines, name, b"a"))
    # Without a name, all headers that may carry a path prefix are read.
    return names - {b""} | (PREFIX_HEADERS if b"" in names else set())


def replaced(lines: Lines, name: bytes, *values: bytes) -> Lines:
    return [line for line in lines if line[0] != name] + [(name, value) for value in values]


def test_statuses(doors: dict[str, Door]) -> None:
    """Each entry point responds with its expected status, so responses of all kinds are measured."""
    assert {name: ask(door, door.lines) for name, door in doors.items()} == {
        name: [door.status] for name, door in doors.items()
    }


def test_all_headers_are_found(doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds every header that is known to be read."""
    found = set().union(*(read_by(door, monkeypatch) for door in doors.values()))

    assert found >= KNOWN


def test_long_header(doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    """60 kB in a header that is read take at most a few times the processor time of 60 kB in an unread one."""
    dear = {}
    for door_name, door in doors.items():
        times = max(1, int(MEASURED_S / cpu_s(partial(ask, door, door.lines))))
        for name in sorted(read_by(door, monkeypatch)):
            for value in VALUES:
                lines = replaced(door.lines, name, value)
                control = [*replaced(door.lines, name, value[:100]), (UNREAD, value)]
                ratio = cpu_ratio(partial(ask, door, lines, times), partial(ask, door, control, times), MOST_RATIO)
                if ratio > MOST_RATIO:
                    dear[door_name, name, value[:40]] = round(ratio, 1)

    assert dear == {}


def test_repeated_header(doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 lines of a header that is read cost little more than 5,000 lines of an unread one."""
    dear = {}
    for door_name, door in doors.items():
        for name in sorted(read_by(door, monkeypatch)):
            lines = replaced(door.lines, name, *[b"a"] * 5_000)
            control = [*replaced(door.lines, name, b"a"), *[(UNREAD, b"a")] * 5_000]
            ratio = cpu_ratio(partial(ask, door, lines), partial(ask, door, control), MOST_RATIO)
            if ratio > MOST_RATIO:
                dear[door_name, name] = round(ratio, 1)

    assert dear == {}


def test_many_headers() -> None:
    """With 5,000 headers, reading ten costs little more than reading one."""
    headers = [(b"x-%d" % number, b"a") for number in range(5_000)]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": None}

    def read(times: int) -> None:
        values = request_of(scope).values
        for _ in range(times):
            values(b"accept")

    assert cpu_ratio(lambda: read(10), lambda: read(1), 3) < 3
