"""The wallet APIs of the examples, each under a real server with a key for each test."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.machine import eventually
from tests.test_examples import DEADLINE_SECONDS, client, served
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(2 * DEADLINE_SECONDS)
TRANSFER = {"agent": "agent_atlas", "to": "0x51c0ffee", "amount": "2.50"}
LONG_REPORT = "/v1/reports/stream?chunks=200&pause_ms=100"
REFUSAL = (
    b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 1 second."}'
)
GUNICORN = "gunicorn --threads 8 --graceful-timeout 1 --no-control-socket --bind fd://{fd} examples.flask_app:app"
UVICORN = "uvicorn --timeout-graceful-shutdown 1 --fd {fd} examples.wallet_api:app"
#: Each test uses the limits of a key of its own.
KEYS = ("awx_burst", "awx_transfer", "awx_report", "awx_invalid_report", "awx_websocket")


@pytest.fixture(scope="module", params=[GUNICORN, UVICORN], ids=["flask", "starlette"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a wallet API."""
    with served(request.param, WALLET_API_KEYS=",".join(f"{key}=starter" for key in KEYS)) as url:
        yield url


def test_burst(url: str) -> None:
    """Both wallet APIs admit 60 requests of a starter key and answer the next with the 429 of the contract."""
    with client(url, "awx_burst") as http:
        begun = time.monotonic()
        responses = [http.get("/v1/agents") for _ in range(60)]
        while responses[-1].is_success and len(responses) < 600:
            responses.append(http.get("/v1/agents"))
        elapsed = time.monotonic() - begun
        free = http.get("/health")

    refused = responses[-1]
    day = 10_000 - len(responses) + 1
    sent = {name: refused.headers[name] for name in ("content-type", "cache-control", "retry-after", "content-length")}
    assert len(responses) <= 61 + elapsed
    assert refused.status_code == 429
    assert refused.content == REFUSAL
    assert sent == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "retry-after": "1",
        "content-length": str(len(REFUSAL)),
    }
    assert (
        refused.headers["ratelimit-policy"]
        == '"minute";q=60;w=60, "day";q=10000;w=86400, "concurrent";q=5;qu="concurrent-requests"'
    )
    assert refused.headers["ratelimit"] == f'"minute";r=0;t=1, "day";r={day};t={-(-day * 864 // 100)}, "concurrent";r=5'
    assert free.status_code == 200
    assert "ratelimit" not in free.headers


def test_transfer(url: str) -> None:
    """In both wallet APIs a transfer moves the money and costs five tokens; an invalid order is refused."""
    with client(url, "awx_transfer") as http:
        moved = http.post("/v1/transfers", json=TRANSFER)
        left = http.get("/v1/agents/agent_atlas").json()["balance"]
        wrong = [
            http.post("/v1/transfers", json=order).status_code
            for order in ({}, {**TRANSFER, "amount": "1e9"}, {**TRANSFER, "agent": "x"}, {**TRANSFER, "amount": "9000"})
        ]

    assert moved.status_code == 201
    assert moved.json()["amount"] == "2.50"
    assert moved.headers["ratelimit"][:13] == '"minute";r=55'
    assert left == "1247.50"
    assert wrong == [400, 400, 404, 409]


def test_streamed_report(url: str) -> None:
    """In both wallet APIs a sixth concurrent report is refused until a client disconnects."""
    with client(url, "awx_report") as http, ExitStack() as stack:
        reports = [stack.enter_context(http.stream("GET", LONG_REPORT)) for _ in range(5)]
        refused = http.get("/v1/agents")
        reports[0].close()
        again = eventually(lambda: http.get("/v1/agents").status_code, 200, DEADLINE_SECONDS)

    statuses = [report.status_code for report in reports]
    assert statuses == [200] * 5
    assert refused.status_code == 429
    assert refused.content == REFUSAL
    assert again == 200


def test_invalid_report(url: str) -> None:
    """Both wallet APIs answer a report out of bounds with a 400 with the three keys of the contract."""
    queries = ("chunks=0", "chunks=201", "pause_ms=1001", "pause_ms=-1", "chunks=%C2%B2", "chunks=")
    with client(url, "awx_invalid_report") as http:
        responses = [http.get(f"/v1/reports/stream?{query}") for query in queries]

    assert [response.status_code for response in responses] == [400] * len(queries)
    assert [list(response.json()) for response in responses] == [["code", "type", "message"]] * len(queries)


@pytest.mark.parametrize("url", [UVICORN], ids=["starlette"], indirect=True)
def test_websocket(url: str) -> None:
    """Under uvicorn five feeds tick, and a sixth is refused with a 429 at its handshake until one of them closes."""
    address, headers = f"{url.replace('http', 'ws')}/v1/feed", {"X-API-Key": "awx_websocket"}
    with client(url, "awx_websocket") as http, ExitStack() as stack:

        def ask() -> int:
            try:
                with connect(address, additional_headers=headers, proxy=None) as feed:
                    return 101 if feed.recv(DEADLINE_SECONDS) else 0
            except InvalidStatus as error:
                return error.response.status_code if error.response.body == REFUSAL else 0

        http.get("/health")
        feeds = [stack.enter_context(connect(address, additional_headers=headers, proxy=None)) for _ in range(5)]
        ticks = [bool(feed.recv(DEADLINE_SECONDS)) for feed in feeds for _ in range(2)]
        refused, refused_http = ask(), http.get("/v1/agents").status_code
        feeds[0].close()
        again = eventually(ask, 101, DEADLINE_SECONDS)

    assert ticks == [True] * 10
    assert refused == 429
    assert refused_http == 429
    assert again == 101
