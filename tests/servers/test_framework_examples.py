"""The examples of frameworks on real servers: limits, the 401, an exemption, and slots of streams."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.machine import eventually
from tests.processes import answering, free_port
from tests.servers.wire import Answer, Connection
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
REFUSAL = b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after '
COMMANDS = {
    "sanic": "-m sanic examples.sanic_app:app --host 127.0.0.1 --port {port} --single-process --no-motd",
    "tornado": "-m examples.tornado_app",
    "aiohttp": "-m aiohttp.web -H 127.0.0.1 -P {port} examples.aiohttp_app:create_app",
    "quart": "-m hypercorn examples.quart_app:app --bind 127.0.0.1:{port}",
    "litestar": "-m uvicorn examples.litestar_app:app --port {port} --timeout-graceful-shutdown 1",
}

#: In a log: exceptions that were lost, and requests without a decision.
COMPLAINTS = ("Exception ignored", "never retrieved", "never awaited", "no decision for")


class Example:
    """A running example."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    def get(self, path: str, key: str | None = "awx_demo_growth") -> Answer:
        """The response to a GET."""
        with Connection(self.port) as connection:
            return connection.request("GET", path, *([] if key is None else [key]))

    def streaming(self, path: str, key: str) -> Connection:
        """A connection on which a stream has begun."""
        connection = Connection(self.port)
        connection.send_request("GET", path, key)
        assert connection.begun().status == 200
        assert connection.chunk() != b""
        return connection


@pytest.fixture(scope="module", params=COMMANDS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """One process serves all tests of an example."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "log.txt"
    command = [sys.executable, *COMMANDS[request.param].format(port=port).split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PORT": str(port)}
    with answering(command, log, lambda: _is_up(port), START_SECONDS, cwd=ROOT, env=environment):
        yield Example(request.param, port)
    said = log.read_text(errors="replace")
    assert [words for words in COMPLAINTS if words in said] == [], said


def _is_up(port: int) -> bool:
    with suppress(OSError), Connection(port, timeout_seconds=1.0) as connection:
        return connection.request("GET", "/health").status == 200
    return False


def test_limit_of_a_route(example: Example) -> None:
    """The sixth search of a minute is refused with the gate's own bytes, and other paths are admitted."""
    answers = [example.get("/v1/search") for _ in range(6)]

    refused = answers[-1]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert refused.body.startswith(REFUSAL)
    assert refused.header("content-type") == "application/json"
    assert refused.header("cache-control") == "no-store"
    assert refused.header("content-length") == str(len(refused.body))
    assert int(refused.header("retry-after") or 0) in range(1, 13)
    assert (refused.header("ratelimit") or "").startswith('"search.minute";r=0;t=')
    assert example.get("/v1/nothing").status == 404


def test_headers(example: Example) -> None:
    """An admitted response reports the plan, also a 404."""
    policy = '"minute";q=300;w=60, "day";q=100000;w=86400, "concurrent";q=25;qu="concurrent-requests"'

    assert example.get("/v1/nothing").header("ratelimit-policy") == policy


def test_exempt(example: Example) -> None:
    """A path that is exempt needs no key and reports no limits."""
    answer = example.get("/health", None)

    assert answer.status == 200
    assert answer.header("ratelimit") is None


@pytest.mark.parametrize("key", [None, "awx_wrong"])
def test_unauthorized(example: Example, key: str | None) -> None:
    """Without a known key a request is a 401, and the app is not called."""
    answer = example.get("/v1/search", key)

    assert answer.status == 401
    assert answer.body.startswith(b'{"code":"api_key_missing"' if key is None else b'{"code":"invalid_api_key"')
    assert answer.header("www-authenticate") is not None


def test_key_twice(example: Example) -> None:
    """A key header that was sent twice is a 401."""
    with Connection(example.port) as connection:
        assert connection.request("GET", "/v1/search", "awx_demo_growth", "awx_demo_growth").status == 401


def test_streams(example: Example) -> None:
    """Streams hold their slots: a sixth request is refused until a client disconnects."""
    with ExitStack() as stack:
        streams = [example.streaming("/v1/stream", "awx_demo_starter") for _ in range(5)]
        for connection in streams:
            stack.callback(connection.close)
        refused = example.get("/v1/nothing", "awx_demo_starter")
        streams[0].reset()
        again = eventually(lambda: example.get("/v1/nothing", "awx_demo_starter").status, 404)

    assert refused.status == 429
    assert refused.body.startswith(REFUSAL)
    assert '"concurrent";r=0' in (refused.header("ratelimit") or "")
    assert again == 404


def test_websockets(example: Example) -> None:
    """A WebSocket reports the limits and holds its slot until it closes; a sixth is refused with the 429."""
    url, headers = f"ws://127.0.0.1:{example.port}/v1/feed", {"X-API-Key": "awx_demo_starter"}

    def opened() -> ClientConnection:
        return connect(url, additional_headers=headers, proxy=None)

    def status() -> int:
        try:
            with opened():
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert eventually(lambda: free_slots(example), "4") == "4"
    with ExitStack() as stack:
        feeds = [stack.enter_context(opened()) for _ in range(5)]
        ticks = [feed.recv(10) for feed in feeds]
        reported = feeds[0].response
        refused = status()
        feeds[0].close()
        again = eventually(status, 101)

    assert ticks == ["tick"] * 5
    assert reported is not None
    # Sanic has no public way to add headers to the handshake.
    assert ("ratelimit" in reported.headers) is (example.name != "sanic")
    assert refused == 429
    assert again == 101


def free_slots(example: Example) -> str:
    """How many of the five slots are free, while this request has one."""
    return (example.get("/v1/nothing", "awx_demo_starter").header("ratelimit") or "").rpartition("r=")[2]
