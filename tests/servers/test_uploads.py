"""Uploads that are refused before they are read, and uploads that are interrupted."""

from collections.abc import Callable

import pytest
from tests.servers.harness import SPECS, Server, on, on_named
from tests.servers.limits import BURST, SLOTS, api_key
from tests.servers.wire import CLOSED, Connection, head

UPLOAD_BYTES = 1_000_000


def _upload(subject: str, size: int, *lines: str) -> bytes:
    return head("POST /upload HTTP/1.1", f"X-API-Key: {api_key(subject)}", f"Content-Length: {size}", *lines)


def _refused_upload(server: Server, size: int, *lines: str) -> bytes:
    subject = server.new_subject("burst")
    for _ in range(BURST):
        server.request("GET", "/plain", subject)
    return _upload(subject, size, *lines)


@on_named("uvicorn-httptools", "uvicorn-h11", "granian-asgi", "granian-wsgi")
def test_a_refused_upload_is_never_asked_for(server: Server) -> None:
    """A refused upload with Expect: 100-continue gets its 429 at once, without '100 Continue'."""
    upload = _refused_upload(server, UPLOAD_BYTES, "Expect: 100-continue")

    with Connection(server.port) as connection:
        connection.send(upload)
        assert connection.answer().status == 429


@on_named("hypercorn", "gunicorn-sync", "gunicorn-gthread", "gunicorn-preload")
def test_a_refused_upload_is_not_waited_for(server: Server) -> None:
    """Where a server says '100 Continue' before it asks the app, the 429 still comes without the body."""
    upload = _refused_upload(server, UPLOAD_BYTES, "Expect: 100-continue")

    with Connection(server.port) as connection:
        connection.send(upload)
        assert connection.begun().status == 100
        assert connection.answer().status == 429


@on_named("waitress")
def test_waitress_reads_an_upload_before_it_is_refused(server: Server) -> None:
    """Waitress reads the whole body before it calls the app, so the 429 comes after the body."""
    upload = _refused_upload(server, UPLOAD_BYTES, "Expect: 100-continue")

    with Connection(server.port) as connection:
        connection.send(upload)
        interim = connection.begun().status
        connection.send(bytes(UPLOAD_BYTES))
        assert interim == 100
        assert connection.answer().status == 429


@on(SPECS, everywhere=True)
def test_an_admitted_upload_is_asked_for(server: Server) -> None:
    """The server requests an admitted upload with Expect: 100-continue, and it arrives whole."""
    with Connection(server.port) as connection:
        connection.send(_upload(server.new_subject("burst"), UPLOAD_BYTES, "Expect: 100-continue"))
        interim = connection.begun().status
        connection.send(bytes(UPLOAD_BYTES))
        answer = connection.answer()
        assert interim == 100
        assert answer.status == 200
        assert answer.body == b"%d" % UPLOAD_BYTES


@on(SPECS, everywhere=True)
def test_a_refused_body_is_never_taken_for_a_request(server: Server) -> None:
    """The body of a refused upload is never executed as a request, although the app did not read it."""
    hidden = server.new_subject("burst")
    body = head("GET /plain HTTP/1.1", f"X-API-Key: {api_key(hidden)}")
    upload = _refused_upload(server, len(body))

    with Connection(server.port) as connection:
        connection.send(upload + body)
        refused = connection.answer().status
        following = connection.request("GET", "/health")
    untouched = server.request("GET", "/plain", hidden).header("ratelimit")
    assert refused == 429
    assert following.body in (b"healthy", b"")
    assert following.status in (200, CLOSED)
    assert untouched == '"minute";r=9;t=54, "concurrent";r=49'


@on(SPECS)
@pytest.mark.parametrize("leave", [Connection.close, Connection.reset], ids=["close", "reset"])
def test_an_upload_that_is_left_gives_its_slot_back(server: Server, leave: Callable[[Connection], None]) -> None:
    """If the client disconnects in the middle of its upload, the slot is released."""
    subject = server.new_subject("slots")

    connection = Connection(server.port)
    connection.send(_upload(subject, UPLOAD_BYTES) + b"the beginning")
    # waitress has not asked the app yet, and the one worker of gunicorn-sync cannot be asked.
    taken = SLOTS if server.name == "waitress" else SLOTS - 1
    meanwhile = taken if server.name == "gunicorn-sync" else server.free_becomes(subject, taken)
    leave(connection)
    assert meanwhile == taken
    assert server.free_becomes(subject, SLOTS) == SLOTS
