"""WebSockets: one request at the handshake, one slot until the socket closes."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from tests.servers.harness import ASGI, Server, on
from tests.servers.limits import SLOTS, api_key
from tests.servers.wire import HOST, Answer, Connection, head
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

POLICY = '"minute";q=10000;w=60, "concurrent";q=3;qu="concurrent-requests"'
REFUSED_BODY = (
    b'{"code":"rate_limit_exceeded","type":"rate_limit_error","message":"Rate limit exceeded. Retry after 1 second."}'
)
REFUSED_HEADERS = [
    ("cache-control", "no-store"),
    ("content-length", str(len(REFUSED_BODY))),
    ("content-type", "application/json"),
    ("ratelimit", '"minute";r=9997;t=60, "concurrent";r=0;t=1'),
    ("ratelimit-policy", POLICY),
    ("retry-after", "1"),
]
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _opened(server: Server, subject: str) -> ClientConnection:
    url = f"ws://{HOST}:{server.port}/ws/echo"
    return connect(url, additional_headers={"X-API-Key": api_key(subject)}, proxy=None, close_timeout=2)


def _handshake(connection: Connection, path: str, *lines: str) -> Answer:
    connection.send(head(f"GET {path} HTTP/1.1", *UPGRADE, *lines))
    return connection.begun()


def _refused(server: Server, path: str, *lines: str) -> Answer:
    """The whole answer to a handshake that does not become a WebSocket; its headers sorted, without the server's."""
    with Connection(server.port) as connection:
        answer = _handshake(connection, path, *lines)
        body = connection.read(int(answer.header("content-length") or 0))
    # granian leaves its half of the handshake in a refusal.
    own = ("upgrade", "sec-websocket-accept")
    return Answer(answer.status, sorted(pair for pair in answer.ours() if pair[0] not in own), body)


@on(ASGI, everywhere=True)
def test_a_socket_holds_a_slot_until_the_client_closes(server: Server) -> None:
    """An open WebSocket holds one slot, and releases it when the client closes."""
    subject = server.new_subject("slots")

    with _opened(server, subject) as socket:
        for text in ("a", "b"):
            socket.send(text)
        echoed = [socket.recv(), socket.recv()]
        while_open = server.free(subject)
    assert echoed == ["a", "b"]
    assert while_open == SLOTS - 1
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(ASGI, everywhere=True)
@pytest.mark.parametrize("last_word", ["close", "raise"])
def test_a_socket_that_the_server_ends_gives_its_slot_back(server: Server, last_word: str) -> None:
    """A WebSocket that the app closes, or in which it raises, releases its slot exactly once."""
    subject = server.new_subject("slots")

    with _opened(server, subject) as socket:
        while_open = server.free(subject)
        socket.send(last_word)
        with pytest.raises(ConnectionClosed):
            socket.recv()
        after = server.free_becomes(subject, SLOTS)
    assert while_open == SLOTS - 1
    assert after == SLOTS
    assert server.free(subject) == SLOTS


@on(ASGI, everywhere=True)
@pytest.mark.parametrize("leave", [Connection.close, Connection.reset], ids=["close", "reset"])
def test_a_socket_that_breaks_off_gives_its_slot_back(server: Server, leave: Callable[[Connection], None]) -> None:
    """WebSockets whose TCP connection ends without a closing frame release their slots exactly once."""
    subject = server.new_subject("slots")

    connections = [Connection(server.port) for _ in range(SLOTS)]
    key = f"X-API-Key: {api_key(subject)}"
    statuses = [_handshake(connection, "/ws/echo", key).status for connection in connections]
    while_open = server.free(subject)
    for connection in connections:
        leave(connection)
    assert statuses == [101] * SLOTS
    assert while_open == 0
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(ASGI, everywhere=True)
def test_a_handshake_over_the_limit_is_a_429(server: Server) -> None:
    """With every slot held by a WebSocket a handshake gets the 429 with headers and body, and a request does too."""
    subject = server.new_subject("slots")

    with ExitStack() as stack:
        for _ in range(SLOTS):
            stack.enter_context(_opened(server, subject))
        refused = _refused(server, "/ws/echo", f"X-API-Key: {api_key(subject)}")
        request = server.request("GET", "/plain", subject)
    assert refused == Answer(429, REFUSED_HEADERS, REFUSED_BODY)
    assert request.status == 429
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(ASGI, everywhere=True)
def test_a_client_library_sees_the_refusal(server: Server) -> None:
    """A WebSocket library can read the status, Retry-After and body of a refused handshake."""
    subject = server.new_subject("slots")

    with ExitStack() as stack:
        for _ in range(SLOTS):
            stack.enter_context(_opened(server, subject))
        with pytest.raises(InvalidStatus) as refused:
            _opened(server, subject)
    response = refused.value.response
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"
    assert response.body == REFUSED_BODY


@on(ASGI, everywhere=True)
@pytest.mark.parametrize("lines", [[], ["X-API-Key: unknown"]], ids=["no key", "unknown key"])
def test_a_handshake_without_a_key_is_a_401(server: Server, lines: list[str]) -> None:
    """A handshake without a valid key gets the same 401 as a request."""
    server.forgive()
    with Connection(server.port) as connection:
        connection.send(head("GET /plain HTTP/1.1", *lines))
        request = connection.answer()

    assert _refused(server, "/ws/echo", *lines) == Answer(401, sorted(request.ours()), request.body)


@on(ASGI, everywhere=True)
def test_an_accepted_socket_says_how_the_limits_stand(server: Server) -> None:
    """The response to an accepted handshake carries RateLimit and RateLimit-Policy."""
    with _opened(server, server.new_subject("slots")) as socket:
        headers = socket.response.headers if socket.response else {}

    said = (headers.get("RateLimit-Policy"), headers.get("RateLimit"))
    # granian sends none of the headers of websocket.accept.
    expected = (None, None) if server.name == "granian-asgi" else (POLICY, '"minute";r=9999;t=60, "concurrent";r=2')
    assert said == expected


@on(ASGI, everywhere=True)
@pytest.mark.parametrize(("path", "status"), [("/ws/rejects", 403), ("/ws/denies", 418), ("/ws/nobody", 403)])
def test_a_socket_that_the_app_refuses_holds_no_slot(server: Server, path: str, status: int) -> None:
    """A handshake that the app rejects keeps the app's response, and its slot is released."""
    subject = server.new_subject("slots")

    answer = _refused(server, path, f"X-API-Key: {api_key(subject)}")
    assert answer.status == status
    assert server.free_becomes(subject, SLOTS) == SLOTS
