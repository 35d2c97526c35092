"""Every framework and server of the table "works with" passes the same tests over real HTTP."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.machine import eventually
from tests.works_with.clients import Stream
from tests.works_with.limits import ADMITTED, BURST_KEY, HELD, STREAM_KEY
from tests.works_with.processes import App, running
from tests.works_with.rows import Ask, rows

HEALTH = Ask("GET", "/health")


@pytest.fixture(
    scope="session",
    params=[pytest.param(row, id=str(row), marks=[pytest.mark.full] * row.is_full) for row in rows()],
)
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    """The app of a row, in a process of its own."""
    with running(request.param) as started:
        yield started


def _status(app: App) -> int:
    return app.client.ask(app.row.framework.traffic.plain, STREAM_KEY).status


def test_burst(app: App) -> None:
    """Exactly the plan's number is admitted, and then the 429 has the headers and the three keys."""
    answers = [app.client.ask(app.row.framework.traffic.plain, BURST_KEY) for _ in range(ADMITTED + 1)]

    refused = answers.pop()
    left = [(answer.header("ratelimit") or "").split(";")[1] for answer in answers]
    assert [answer.status for answer in answers] == [200] * ADMITTED
    assert left == [f"r={number}" for number in reversed(range(ADMITTED))]
    assert refused.status == 429
    assert refused.header("ratelimit-policy") == f'"day";q={ADMITTED};w=86400'
    assert refused.header("ratelimit") == f'"day";r=0;t={refused.header("retry-after")}'
    assert refused.header("cache-control") == "no-store"
    assert list(json.loads(refused.body)) == ["code", "type", "message"]


def test_missing_key(app: App) -> None:
    """A request without a key is a 401 that reports no limits."""
    answer = app.client.ask(app.row.framework.traffic.plain)

    assert answer.status == 401
    assert json.loads(answer.body)["code"] == "api_key_missing"
    assert answer.header("ratelimit") is None


def test_exemption(app: App) -> None:
    """An exempt path needs no key and reports no limits."""
    answer = app.client.ask(HEALTH)

    assert answer.status == 200
    assert answer.header("ratelimit") is None


def _open(app: App, stack: ExitStack) -> Stream:
    """Return a stream that holds the slot, until the test lets it end."""
    app.keep_open()
    opened: list[Stream] = []

    def is_held() -> bool:
        # A server's thread may return the slot of the request before a moment after its client has the answer.
        opened[:] = [stack.enter_context(app.client.open(app.row.framework.traffic.stream, STREAM_KEY))]
        return opened[0].reads(HELD)

    assert eventually(is_held, expected=True)
    return opened[0]


def test_stream(app: App) -> None:
    """A streamed body holds its slot until it ends, and no longer."""
    with ExitStack() as stack:
        _open(app, stack)
        during = None if app.row.server.is_serial else _status(app)
        app.let_end()
        after = eventually(lambda: _status(app), 200)

    assert during in {429, None}
    assert after == 200


def test_hang_up(app: App) -> None:
    """A client that hangs up in the middle of a stream returns its slot, at the latest when the body ends."""
    with ExitStack() as stack:
        _open(app, stack).hang_up()
        if not app.row.framework.hears_hang_ups:
            app.let_end()
        after = eventually(lambda: _status(app), 200)

    assert after == 200
