"""Servers and frameworks that read a path differently: the rule of the route that they choose applies."""

from collections.abc import Iterator

import pytest
from tests.servers.harness import Server, Spec, running
from tests.servers.path_apps import KEY, ROOT_PATH
from tests.servers.wire import Answer, Connection, head

_HYPERCORN = "hypercorn --bind {host}:{port} --workers 1 --graceful-timeout 1"
_UVICORN = "uvicorn --host {host} --port {port} --http h11 --timeout-graceful-shutdown 1"
_GUNICORN = "gunicorn --bind {host}:{port} --workers 1 --graceful-timeout 1"
_APPS = "tests.servers.path_apps"

QUART = [
    Spec("quart-hypercorn", "asgi", f"{_HYPERCORN} {_APPS}:quart_app"),
    Spec("quart-uvicorn-h11", "asgi", f"{_UVICORN} {_APPS}:quart_app"),
]
LITESTAR = [Spec("litestar-hypercorn", "asgi", f"{_HYPERCORN} --root-path {ROOT_PATH} {_APPS}:litestar_app")]
FLASK = [Spec("flask-gunicorn", "wsgi", f"{_GUNICORN} {_APPS}:flask_app")]
PYRAMID = [
    Spec("pyramid-gunicorn", "wsgi", f"{_GUNICORN} {_APPS}:pyramid_app"),
    Spec("pyramid-waitress", "wsgi", f"waitress --listen {{host}}:{{port}} {_APPS}:pyramid_app"),
]


def on(specs: list[Spec]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("site", specs, indirect=True, ids=str)


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The running server of this test."""
    with running(request.param, tmp_path_factory.mktemp(request.param.name)) as started:
        yield started
    assert started.complaints() == []


def sent(site: Server, line: str, *lines: str) -> Answer:
    """The answer to a request with these lines."""
    with Connection(site.port) as connection:
        connection.send(head(f"{line} HTTP/1.1", "Content-Length: 0", *lines))
        return connection.answer()


@on(QUART)
def test_an_absolute_target_is_charged_to_the_budget_of_its_path(site: Server) -> None:
    """A POST to http://x/login reaches the view of /login, twice, as its budget allows."""
    answers = [sent(site, "POST http://x/login", f"X-API-Key: {KEY}") for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[0].body == b"reached"


@on(QUART)
def test_an_absolute_target_needs_a_key(site: Server) -> None:
    """An absolute target is never exempt."""
    assert sent(site, "GET http://x/health").status == 401
    assert sent(site, "GET /health").status == 200


@on(LITESTAR)
def test_a_root_path_that_occurs_again_exempts_nothing(site: Server) -> None:
    """Litestar cuts the root path out of /static/api/v1/secret and serves /v1/secret: the request needs a key."""
    assert sent(site, "GET /static/api/v1/secret").status == 401
    assert sent(site, "GET /static/api/v1/secret", f"X-API-Key: {KEY}").body == b"reached"
    assert sent(site, "GET /static/a.css").status == 200


@on(FLASK)
@pytest.mark.parametrize("prefix", ["/static", '"/static"', '"/st\\atic"', 'x, "/static/a,b"'])
def test_a_prefix_that_the_client_sends_exempts_nothing(site: Server, prefix: str) -> None:
    """ProxyFix makes X-Forwarded-Prefix part of the path, and /v1/secret still needs a key."""
    assert sent(site, "GET /v1/secret", f"X-Forwarded-Prefix: {prefix}").status == 401
    assert sent(site, "GET /v1/secret", f"X-Forwarded-Prefix: {prefix}", f"X-API-Key: {KEY}").body == b"reached"
    assert sent(site, "GET /health").status == 200


@on(PYRAMID)
@pytest.mark.parametrize("path", ["/static/../v1/secret", "/static/%2e%2e/v1/secret", "/static/x/..//../v1/./secret"])
def test_dot_segments_exempt_nothing(site: Server, path: str) -> None:
    """Traversal resolves dot segments, and the view that it reaches needs a key."""
    assert sent(site, f"GET {path}").status == 401
    assert sent(site, f"GET {path}", f"X-API-Key: {KEY}").body == b"reached"


@on(PYRAMID)
@pytest.mark.parametrize("path", ["/v1/transfers", "/./v1/transfers", "/v1/%2E/transfers", "/v1/@@transfers"])
def test_a_path_costs_what_the_path_that_it_resolves_to_costs(site: Server, path: str) -> None:
    """A transfer costs five tokens in every spelling that traversal takes for it."""
    before = sent(site, "GET /v1/secret", f"X-API-Key: {KEY}")
    after = sent(site, f"GET {path}", f"X-API-Key: {KEY}")

    assert after.body == b"reached"
    assert left_in(before) - left_in(after) == 5


def left_in(answer: Answer) -> int:
    """The rest of the day's tokens, from a response."""
    return int((answer.header("ratelimit") or "").partition(";r=")[2].partition(";")[0])


@on([PYRAMID[1]])
def test_a_prefix_of_pyramids_own_exempts_nothing(site: Server) -> None:
    """Traversal puts X-Vhm-Root before the path, so that /health reaches another view: it needs a key."""
    assert sent(site, "GET /health", "X-Vhm-Root: /v1/secret").status == 401
    assert sent(site, "GET /health", "X-Vhm-Root: /v1/secret", f"X-API-Key: {KEY}").body == b"reached"


@on([PYRAMID[1]])
def test_methods_of_any_length_leave_nothing_behind(site: Server) -> None:
    """Three hundred methods of 60,000 letters leave less in the server's memory than half of their bytes."""
    for number in range(100):
        sent(site, f"M{number} /x")
    before = resident_bytes(site)
    for number in range(300):
        assert sent(site, f"{'M' * 60_000}{number} /x").status == 401

    assert resident_bytes(site) - before < 9_000_000


def resident_bytes(site: Server) -> int:
    """The memory of the server."""
    return int(sent(site, "GET /memory").body)
