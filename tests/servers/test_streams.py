"""Slots under bodies that stay open, break off, or are left by their clients."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

import pytest
from tests.servers.harness import ASGI, SPECS, WSGI, Server, on, on_named
from tests.servers.limits import SLOTS, api_key
from tests.servers.wire import Connection

TAKEN = b"%d\n" % (SLOTS - 1)


class Stream:
    """A body that was begun and stays open until it is let end; `first` is its first chunk, or the refusal."""

    def __init__(self, server: Server, subject: str, path: str = "/stream") -> None:
        self._server = server
        self._name = server.new_name()
        self.connection = Connection(server.port)
        self.connection.send_request("GET", f"{path}/{self._name}", api_key(subject))
        answer = self.connection.begun()
        self.first = self.connection.chunk() if answer.status == 200 else answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.connection.close()

    def end(self) -> None:
        """Let the body end."""
        self._server.let_end(self._name)

    def rest(self) -> list[bytes]:
        """The chunks up to the end."""
        return list(iter(self.connection.chunk, b""))


@on(SPECS, without="gunicorn-sync", everywhere=True)
def test_an_open_body_holds_its_slot(server: Server) -> None:
    """With every slot held by an open body the next request is refused; a body that ends frees its own slot alone."""
    subject = server.new_subject("slots")

    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(server, subject)) for _ in range(SLOTS)]
        refused = server.request("GET", "/plain", subject)
        streams[0].end()
        after_one = server.free_becomes(subject, 1)
        admitted = server.request("GET", "/plain", subject)
    seen = [stream.first for stream in streams]
    assert seen == [b"2\n", b"1\n", b"0\n"]
    assert refused.status == 429
    assert after_one == 1
    assert admitted.status == 200
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(SPECS, everywhere=True)
def test_the_slot_is_held_up_to_the_end_and_no_longer(server: Server) -> None:
    """As long as a body runs it sees its own slot taken, and when it has ended the slot is free."""
    subject = server.new_subject("slots")

    with Stream(server, subject) as stream:
        begun = [stream.first, stream.connection.chunk(), stream.connection.chunk()]
        stream.end()
        rest = stream.rest()
    assert {*begun, *rest} == {TAKEN}
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(SPECS, without="gunicorn-sync")
def test_the_next_request_of_a_connection_finds_the_slot_free(server: Server) -> None:
    """On a connection that is kept, the slot of an answered request is free before the next request is decided."""
    subject = server.new_subject("slots")

    with Connection(server.port) as connection:
        answers = [connection.request("GET", "/plain", api_key(subject)) for _ in range(20)]
    limits = [(answer.header("ratelimit") or "")[-2:] for answer in answers]
    assert limits == [f"={SLOTS - 1}"] * 20


@on_named(*map(str, ASGI), "gunicorn-sync")
def test_the_next_connection_finds_the_slot_free(server: Server) -> None:
    """Without racing threads, the slot of a finished request is free when its client opens a new connection."""
    # With threads of a WSGI server it need not be: it closes a body after the last byte was sent.
    subject = server.new_subject("slots")

    limits = [(server.request("GET", "/plain", subject).header("ratelimit") or "")[-2:] for _ in range(20)]
    assert limits == [f"={SLOTS - 1}"] * 20


@on_named("gunicorn-sync")
def test_one_worker_of_gunicorn_sync_lets_the_next_wait(server: Server) -> None:
    """Where a server takes one request after the other, the next one waits for the open body and is admitted."""
    subject = server.new_subject("slots")

    with Stream(server, subject) as stream, Connection(server.port) as waiting:
        waiting.send_request("GET", "/plain", api_key(subject))
        stream.end()
        answer = waiting.answer()
    assert stream.first == TAKEN
    assert answer.status == 200
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(SPECS, everywhere=True)
@pytest.mark.parametrize("leave", [Connection.close, Connection.reset], ids=["close", "reset"])
def test_a_client_that_hangs_up_gives_its_slot_back_once(server: Server, leave: Callable[[Connection], None]) -> None:
    """If clients disconnect in the middle of a body, every slot is released exactly once."""
    subject = server.new_subject("slots")

    # The one worker of gunicorn-sync has one body open at a time.
    streams = [Stream(server, subject) for _ in range(1 if server.name == "gunicorn-sync" else SLOTS)]
    for stream in streams:
        leave(stream.connection)
    after = server.free_becomes(subject, SLOTS)
    admitted = server.request("GET", "/plain", subject).status
    assert streams[0].first == TAKEN
    assert after == SLOTS
    assert admitted == 200
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(ASGI, everywhere=True)
def test_a_client_that_leaves_a_silent_body_is_noticed(server: Server) -> None:
    """On ASGI the slot is released when the client disconnects, even if the body sends nothing."""
    subject = server.new_subject("slots")

    stream = Stream(server, subject, "/silent")
    while_open = server.free(subject)
    stream.connection.close()
    assert while_open == SLOTS - 1
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(WSGI, without="gunicorn-sync", everywhere=True)
def test_a_client_that_leaves_a_silent_body_is_noticed_when_it_ends(server: Server) -> None:
    """On WSGI nobody notices a disconnect until the body sends or ends; then the slot is released."""
    subject = server.new_subject("slots")

    stream = Stream(server, subject, "/silent")
    stream.connection.close()
    unnoticed = server.free(subject)
    stream.end()
    assert unnoticed == SLOTS - 1
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(ASGI)
def test_a_background_task_holds_no_slot(server: Server) -> None:
    """The slot is released with the last chunk, not after the task that follows it, and only once."""
    subject = server.new_subject("slots")
    name = server.new_name()

    with Connection(server.port) as connection:
        answer = connection.request("GET", f"/background/{name}", api_key(subject))
        meanwhile = server.free_becomes(subject, SLOTS)
        server.let_end(name)
        # The same connection answers after the task.
        connection.request("GET", "/health")
    assert answer.status == 200
    assert meanwhile == SLOTS
    assert server.free(subject) == SLOTS


@on(SPECS, everywhere=True)
@pytest.mark.parametrize(("path", "status"), [("/raises/before", 500), ("/raises/during", 200)])
def test_an_app_that_raises_gives_the_slot_back(server: Server, path: str, status: int) -> None:
    """An exception of the app, before or during its response, reaches the server, and the slot is released."""
    subject = server.new_subject("slots")

    statuses = [server.request("GET", path, subject).status for _ in range(SLOTS + 1)]
    assert statuses == [status] * (SLOTS + 1)
    assert server.free_becomes(subject, SLOTS) == SLOTS
