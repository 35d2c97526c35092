"""Refused uploads behind a real nginx: the client gets the refusal, not a 502."""

import pytest
from tests.servers.harness import ASGI, REPEATS, UWSGI, WSGI, Server, on, on_named
from tests.servers.limits import BURST, LARGE_DRAIN_BYTES, api_key
from tests.servers.nginx import Nginx
from tests.servers.wire import Connection, head

SERVERS = (*ASGI, *(spec for spec in WSGI if not spec.name.endswith("preload")), UWSGI)
WAYS = ("buffered", "length"), ("buffered", "chunked"), ("streamed", "length"), ("streamed", "chunked")
UWSGI_WAYS = *WAYS[:3], ("uwsgi", "length"), ("uwsgi", "chunked")
TRIES = 5
#: A server may have taken all of an unread upload before it closes the connection, so not each of them is lost.
MAX_CONTROL_TRIES = 100
CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


def _spent(server: Server) -> str:
    subject = server.new_subject("burst")
    for _ in range(BURST):
        server.request("GET", "/plain", subject)
    return f"X-API-Key: {api_key(subject)}"


def _status(nginx: Nginx, path: str, size: int, *lines: str, framing: str = "length", method: str = "POST") -> int:
    if framing == "length":
        lines, body = (*lines, f"Content-Length: {size}"), bytes(size)
    else:
        lines, body = (*lines, "Transfer-Encoding: chunked"), CHUNK * -(-size // 0x10000) + b"0\r\n\r\n"
    with Connection(nginx.port) as connection:
        connection.send(head(f"{method} {path} HTTP/1.1", *lines) + body)
        return connection.answer().status


@pytest.mark.parametrize(
    ("server", "way", "framing"),
    [
        pytest.param(spec, *way, marks=[pytest.mark.full] * (spec.name in REPEATS))
        for spec in SERVERS
        for way in (UWSGI_WAYS if spec is UWSGI else WAYS)
    ],
    indirect=["server"],
    ids=str,
)
def test_a_refused_upload_is_a_429_behind_nginx(server: Server, nginx: Nginx, way: str, framing: str) -> None:
    """Up to 1 MiB the client gets its 429, whether nginx buffers the body or not, with a length or in chunks."""
    key, path = _spent(server), nginx.path(way, server, "/upload")

    for size in (20_000, 60_000, 900_000):
        assert [_status(nginx, path, size, key, framing=framing) for _ in range(TRIES)] == [429] * TRIES


@on(SERVERS)
def test_a_refused_upload_is_a_429_behind_an_nginx_that_speaks_http_1_0(server: Server, nginx: Nginx) -> None:
    """By default nginx speaks HTTP/1.0 to servers, and granian calls that version 1."""
    key, path = _spent(server), nginx.path("http-1.0", server, "/upload")

    assert [_status(nginx, path, 900_000, key) for _ in range(TRIES)] == [429] * TRIES


@on(SERVERS)
def test_the_bound_is_an_option(server: Server, nginx: Nginx) -> None:
    """With a larger bound an upload of 3 MB gets its 429 too."""
    key = _spent(server)

    for way in ("buffered", "streamed"):
        path = nginx.path(way, server, "/large/plain")
        assert LARGE_DRAIN_BYTES > 3_000_000
        assert [_status(nginx, path, 3_000_000, key) for _ in range(TRIES)] == [429] * TRIES


@on(SERVERS)
def test_an_upload_without_a_caller_is_a_401_behind_nginx(server: Server, nginx: Nginx) -> None:
    """Refusals without a key and with an unknown key arrive too."""
    path = nginx.path("buffered", server, "/upload")

    assert [_status(nginx, path, 900_000) for _ in range(TRIES)] == [401] * TRIES
    assert [_status(nginx, path, 900_000, "X-API-Key: awx_wrong") for _ in range(TRIES)] == [401] * TRIES
    server.forgive()


@on(SERVERS)
def test_what_the_management_api_does_not_read_arrives_behind_nginx(server: Server, nginx: Nginx) -> None:
    """A body that is too large is a 413, and an ignored body does not change the response."""
    path = nginx.path("buffered", server, "/api/v1/api-keys")
    one = nginx.path("buffered", server, "/api/v1/api-keys/key_1")

    assert [_status(nginx, path, 900_000) for _ in range(TRIES)] == [413] * TRIES
    assert [_status(nginx, one, 900_000, method="DELETE") for _ in range(TRIES)] == [401] * TRIES


@on_named("uvicorn-httptools", "granian-asgi", "gunicorn-gthread", "granian-wsgi")
def test_an_unread_upload_is_a_502_behind_nginx(server: Server, nginx: Nginx) -> None:
    """The control: if an app responds without reading the body, nginx answers 502."""
    path = nginx.path("buffered", server, "/unread/")

    assert any(_status(nginx, path, 3_000_000) == 502 for _ in range(MAX_CONTROL_TRIES))


@on((UWSGI,))
def test_uwsgi_cannot_read_chunks_over_http(server: Server, nginx: Nginx) -> None:
    """UWSGI gives an app no chunked body over HTTP, so even an app that reads everything is a 502."""
    path = nginx.path("streamed", server, "/read/")

    assert any(_status(nginx, path, 900_000, framing="chunked") == 502 for _ in range(MAX_CONTROL_TRIES))


@on(ASGI)
def test_a_stalled_upload_is_answered(server: Server) -> None:
    """A refused client that sends part of its body and waits gets its response, and the server's task is freed."""
    with Connection(server.port) as connection:
        connection.send(head("POST /upload HTTP/1.1", "Content-Length: 1000000") + bytes(1_000))
        assert connection.answer().status == 401


@on((*WSGI, UWSGI))
def test_a_stalled_upload_that_is_left_frees_the_worker(server: Server) -> None:
    """When a refused client leaves in the middle of its body, the server answers others."""
    connection = Connection(server.port)
    connection.send(head("POST /upload HTTP/1.1", "Content-Length: 1000000") + bytes(1_000))
    connection.close()

    assert server.request("GET", "/health").status == 200
