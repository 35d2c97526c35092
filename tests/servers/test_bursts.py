"""Bursts over the limit, from one client and from many at once, over every way into the app."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.servers.harness import SPECS, Server, on
from tests.servers.limits import BURST, MANY_SLOTS, api_key
from tests.servers.wire import Answer, Connection

REFUSED_BODY = (
    b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 6 seconds."}'
)
REFUSED_HEADERS = [
    ("cache-control", "no-store"),
    ("content-length", str(len(REFUSED_BODY))),
    ("content-type", "application/json"),
    ("ratelimit", '"minute";r=0;t=6, "concurrent";r=50'),
    ("ratelimit-policy", '"minute";q=10;w=60, "concurrent";q=50;qu="concurrent-requests"'),
    ("retry-after", "6"),
]
CLIENTS = 40


def _spent(server: Server) -> str:
    subject = server.new_subject("burst")
    statuses = [server.request("GET", "/plain", subject).status for _ in range(BURST)]
    # A WSGI server's thread closes a body after sending its last byte; the client may be back already.
    assert statuses == [200] * BURST
    assert server.free_becomes(subject, MANY_SLOTS) == MANY_SLOTS
    return subject


@on(SPECS, everywhere=True)
def test_a_burst_is_admitted_up_to_the_plan(server: Server) -> None:
    """Exactly the plan's number of requests is admitted, and each response says how many remain."""
    subject = server.new_subject("burst")

    answers = [server.request("GET", "/plain", subject) for _ in range(BURST + 3)]
    said = [(answer.status, (answer.header("ratelimit") or "").split(";")[1]) for answer in answers]
    assert said == [(200, f"r={left}") for left in reversed(range(BURST))] + [(429, "r=0")] * 3


@on(SPECS)
def test_the_refusal_is_the_429_of_the_contract(server: Server) -> None:
    """A refused request gets the contract's headers and body and nothing else, whatever the server."""
    subject = _spent(server)

    # Sorted: waitress sorts what it sends.
    answer = server.request("GET", "/plain", subject)
    assert answer.status == 429
    assert sorted(answer.ours()) == REFUSED_HEADERS
    assert answer.body == REFUSED_BODY


@on(SPECS)
def test_retry_after_is_honest(server: Server) -> None:
    """A client that waits for Retry-After is admitted; a millisecond earlier it is refused with 1 second."""
    subject = _spent(server)

    refused = server.request("GET", "/plain", subject)
    server.advance(int(refused.header("retry-after") or 0) * 1000 - 1)
    early = server.request("GET", "/plain", subject)
    server.advance(1)
    admitted = server.request("GET", "/plain", subject)
    assert early.status == 429
    assert early.header("retry-after") == "1"
    assert admitted.status == 200


@on(SPECS)
def test_a_burst_from_many_clients_at_once(server: Server) -> None:
    """Many concurrent connections with one key get exactly the plan's number, and every slot is released."""
    subject = server.new_subject("burst")

    answers = _burst_at_once(server, subject)
    statuses = sorted(answer.status for answer in answers)
    fewest_free = min(int((answer.header("ratelimit") or "").rpartition("r=")[2]) for answer in answers)
    in_flight_together = fewest_free < MANY_SLOTS - 1
    # The one worker of gunicorn-sync takes one request after the other.
    expected_together = server.name != "gunicorn-sync"
    assert statuses == [200] * BURST + [429] * (CLIENTS - BURST)
    assert in_flight_together == expected_together
    assert server.free_becomes(subject, MANY_SLOTS) == MANY_SLOTS


def _burst_at_once(server: Server, subject: str) -> list[Answer]:
    barrier = Barrier(CLIENTS)

    def one(_: int) -> Answer:
        with Connection(server.port) as connection:
            barrier.wait()
            return connection.request("GET", "/dwell", api_key(subject))

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(CLIENTS)))


@on(SPECS)
def test_every_router_shares_the_budget(server: Server) -> None:
    """Included routers, mounted apps, blueprints and unknown paths share one budget."""
    subject = server.new_subject("burst")
    included = "/fastapi/router/plain" if server.kind == "asgi" else "/blueprint/plain"
    paths = ("/plain", included, "/mounted/plain", "/nobody")

    answers = [server.request("GET", paths[number % 4], subject) for number in range(BURST)]
    refused = [server.request("GET", path, subject).status for path in paths]
    assert [answer.status for answer in answers] + refused == [200, 200, 200, 404] * 2 + [200, 200] + [429] * 4


@on(SPECS)
def test_head_gets_the_headers_alone(server: Server) -> None:
    """A refused HEAD has the headers of a refused GET and no body, and its connection stays open."""
    subject = _spent(server)

    with Connection(server.port) as connection:
        refused = connection.request("HEAD", "/plain", api_key(subject))
        following = connection.request("GET", "/health")
    # gunicorn-sync keeps no connection.
    expected = (0, b"") if server.name == "gunicorn-sync" else (200, b"healthy")
    assert refused.status == 429
    assert sorted(refused.ours()) == REFUSED_HEADERS
    assert (following.status, following.body) == expected
