"""`RateLimitMiddleware` and `WsgiRateLimitMiddleware` build their gate, and own the backend that they open."""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sanic import Sanic
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.redis_servers import RedisServer
from tornado.web import Application
from werkzeug.test import Client as WerkzeugClient

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Decision,
    Gate,
    InvalidLimit,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    RateLimitMiddleware,
    RefusalLog,
    Request,
    Rule,
    StaticKeys,
    WsgiRateLimitMiddleware,
)
from awx_ratelimit.adapters import aiohttp, grpc, sanic, tornado
from awx_ratelimit.adapters.asgi import middleware as asgi
from awx_ratelimit.adapters.wsgi import middleware as wsgi
from awx_ratelimit.backends.redis.backend import AsyncRedisBackend

KEYS = {"awx_example_key": "starter"}
KEY = {"X-API-Key": "awx_example_key"}
ONE = Plan.of("one", per_minute=1)
LIMITER = Limiter(MemoryBackend())
GATE: dict[str, Any] = {"plans": PlanTable.default(), "identify": StaticKeys(KEYS)}


async def ok(_: StarletteRequest) -> PlainTextResponse:
    return PlainTextResponse("ok")


def wsgi_app(_: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"ok"]


def asgi_statuses(*headers: dict[str, str], **arguments: Any) -> list[int]:
    """The statuses of requests to an app behind the ASGI facade."""
    client = TestClient(RateLimitMiddleware(Starlette(routes=[Route("/{path:path}", ok)]), **arguments))
    return [client.get("/", headers=each).status_code for each in headers]


def wsgi_statuses(*headers: dict[str, str], **arguments: Any) -> list[int]:
    """The statuses of requests to an app behind the WSGI facade."""
    client = WerkzeugClient(WsgiRateLimitMiddleware(wsgi_app, **arguments))
    return [client.get("/", headers=each).status_code for each in headers]


both = pytest.mark.parametrize("statuses", [asgi_statuses, wsgi_statuses], ids=["asgi", "wsgi"])


@both
def test_keys_alone(statuses: Any) -> None:
    """Keys are enough: requests without a key get a 401, and a known key has its plan."""
    assert statuses({}, KEY, {"X-API-Key": "awx_other"}, keys=KEYS) == [401, 200, 401]


@both
def test_keys_with_an_own_plan(statuses: Any) -> None:
    """The plan of a key may be a Plan."""
    assert statuses(KEY, KEY, keys={"awx_example_key": ONE}) == [200, 429]


@both
def test_keys_as_an_identifier(statuses: Any) -> None:
    """An identifier such as StaticKeys serves as `keys` as well."""
    assert statuses({}, KEY, keys=StaticKeys(KEYS)) == [401, 200]


@both
def test_plans_as_a_list(statuses: Any) -> None:
    """The first of several plans is the default."""
    plans = [ONE, Plan.of("two", per_minute=2)]

    assert statuses({}, {}, identify=lambda _: "alice", plans=plans) == [200, 429]


@both
def test_plans_as_one_plan(statuses: Any) -> None:
    """A single plan is the default."""
    assert statuses({}, {}, identify=lambda _: "alice", plans=ONE) == [200, 429]


@both
@pytest.mark.parametrize("kind", [str, Path])
def test_plans_as_a_file(statuses: Any, kind: Any, tmp_path: Path) -> None:
    """The path of a plan table is read, and watched."""
    path = tmp_path / "plans.toml"
    path.write_text('default = "one"\n[plans.one]\nper_minute = 1\n')

    assert statuses({}, {}, identify=lambda _: "alice", plans=kind(path)) == [200, 429]


@both
def test_addresses_alone(statuses: Any) -> None:
    """With `anonymous` alone every client is limited by its address, whatever key it sends."""
    assert statuses({}, KEY, anonymous=ONE) == [200, 429]


@both
def test_rules_and_options(statuses: Any) -> None:
    """Rules and the other options reach the gate."""
    assert statuses({}, {}, keys=KEYS, rules=[Rule("/", exempt=True)], headers="none") == [200, 200]


@both
def test_backend_url(statuses: Any, tmp_path: Path) -> None:
    """Limits in a file are shared by the middlewares that open it."""
    arguments = {"identify": lambda _: "alice", "plans": ONE, "backend": f"host://{tmp_path}/limits"}

    assert statuses({}, **arguments) + statuses({}, **arguments) == [200, 429]


@both
def test_backend_object(statuses: Any) -> None:
    """A backend of the program is used as it is."""
    backend = MemoryBackend()

    assert statuses({}, plans=ONE, identify=lambda _: "a", backend=backend) == [200]
    assert statuses({}, plans=ONE, identify=lambda _: "a", backend=backend) == [429]


@both
def test_listeners(statuses: Any) -> None:
    """Listeners are called with every decision."""
    heard: list[Decision] = []

    statuses({}, {}, plans=ONE, identify=lambda _: "alice", listeners=[heard.append])

    assert [decision.allowed for decision in heard] == [True, False]


@pytest.mark.parametrize(
    "facade",
    [
        partial(aiohttp.RateLimit, web.Application()),
        partial(sanic.RateLimit, Sanic("listens")),
        partial(tornado.RateLimit, Application()),
        grpc.AsyncRateLimitInterceptor,
        grpc.RateLimitInterceptor,
    ],
    ids=["aiohttp", "sanic", "tornado", "grpc.aio", "grpc"],
)
def test_listeners_of_frameworks(facade: Any) -> None:
    """The ways into frameworks with their own interface take listeners too."""
    made = facade(keys=KEYS, listeners=[print])

    assert made.gate.parts[0].listeners == (print,)


def test_gate_alone() -> None:
    """A gate of the program replaces every other argument."""
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys(KEYS))
    wsgi_gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys(KEYS))

    assert asgi_statuses({}, KEY, gate=gate) == [401, 200]
    assert wsgi_statuses({}, KEY, gate=wsgi_gate) == [401, 200]


@both
@pytest.mark.parametrize(
    "more", [{"keys": KEYS}, {"plans": ONE}, {"backend": "memory://"}, {"rules": []}, {"listeners": []}]
)
def test_gate_with_more(statuses: Any, more: dict[str, Any]) -> None:
    """Arguments that the gate would ignore are a TypeError that names them."""
    made = Gate if statuses is wsgi_statuses else AsyncGate
    limiter: Any = Limiter(MemoryBackend()) if made is Gate else AsyncLimiter(MemoryBackend())
    gate = made(limiter, plans=PlanTable.default(), identify=StaticKeys(KEYS))

    with pytest.raises(TypeError, match=f"gate: expected no other options beside it, got {next(iter(more))}"):
        statuses({}, gate=gate, **more)


@both
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "keys, identify, anonymous: expected one of them, got none"),
        ({"keys": KEYS, "identify": lambda _: "a"}, "keys, identify: expected one of them, got both"),
        ({"keys": "awx_example_key"}, "StaticKeys"),
        (
            {"keys": KEYS, "plans": {"p": ONE}},
            "plans: expected the path of a plan table, a PlanTable or a list of Plans",
        ),
        ({"keys": KEYS, "plans": 5}, "plans: expected the path"),
        ({"keys": KEYS, "plans": ["starter"]}, "a Plan"),
        ({"keys": KEYS, "rule": []}, "got the unknown option 'rule'; write rules"),
        ({"keys": KEYS, "backend": 5}, "backend"),
        ({"keys": KEYS, "backend": LIMITER}, r"got a Limiter; write gate=Gate\(limiter, "),
        ({"keys": KEYS, "backend": Gate(LIMITER, **GATE)}, "got a Gate; write gate=gate"),
        ({"keys": KEYS, "listeners": [RefusalLog]}, r"listeners\[0\]: expected .* write RefusalLog\(\)"),
    ],
)
def test_wrong_arguments(statuses: Any, arguments: dict[str, Any], error: str) -> None:
    """A wrong argument is one TypeError that names it."""
    with pytest.raises(TypeError, match=error):
        statuses({}, **arguments)


def test_mistake_under_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake is logged when a server makes the middleware, because uvicorn hides what is raised then."""
    app = Starlette()
    app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter", "awx_other_key": "glod"})
    with pytest.raises(InvalidLimit), TestClient(app):
        pass

    assert "RateLimitMiddleware: StaticKeys: key 2: plan: there is no plan 'glod'" in caplog.text


def test_unknown_option_under_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the middleware once, also if the error names it itself."""
    app = Starlette()
    options: dict[str, Any] = {"rulse": []}
    app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter"}, **options)
    with pytest.raises(TypeError), TestClient(app):
        pass

    assert "RateLimitMiddleware: got the unknown option 'rulse'; write rules" in caplog.messages


def test_path_as_backend() -> None:
    """A path instead of a URL is an error that shows the URL."""
    backend: Any = Path("/dev/shm/limits")
    with pytest.raises(TypeError, match="got a PosixPath; write backend='host:///dev/shm/limits'"):
        RateLimitMiddleware(Starlette(), keys=KEYS, backend=backend)


@both
def test_plan_that_is_not_in_the_table(statuses: Any) -> None:
    """A key with a plan that does not exist is found at the start."""
    with pytest.raises(InvalidLimit, match="there is no plan 'gold'"):
        statuses({}, keys={"awx_example_key": "gold"})


@both
def test_wrong_url(statuses: Any) -> None:
    """A wrong URL is found at the start."""
    with pytest.raises(ValueError, match="backend URL"):
        statuses({}, keys=KEYS, backend="http://127.0.0.1")


def test_a_request_takes_the_way_of_the_plain_middleware() -> None:
    """The facades add nothing to a request: they have its `__call__`."""
    assert RateLimitMiddleware.__call__ is asgi.RateLimitMiddleware.__call__
    assert WsgiRateLimitMiddleware.__call__ is wsgi.RateLimitMiddleware.__call__


def test_backend_lives_as_long_as_the_app(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend from a URL is closed at the end of a lifespan, and opened again for the next."""
    closed: list[int] = []
    close = AsyncRedisBackend.close

    async def noted_close(backend: AsyncRedisBackend) -> None:
        closed.append(id(backend))
        await close(backend)

    monkeypatch.setattr(AsyncRedisBackend, "close", noted_close)
    app = Starlette(routes=[Route("/", ok)])
    # Enough time that a busy machine does not decide without the server.
    backend = f"{redis_server.url}?budget_ms=5000"
    app.add_middleware(
        RateLimitMiddleware, plans=Plan.of("p", per_minute=3), identify=lambda _: "life", backend=backend
    )
    statuses = []

    for _ in range(2):
        with TestClient(app) as client:
            statuses += [client.get("/").status_code for _ in range(2)]

    assert statuses == [200, 200, 200, 429]
    assert len(set(closed)) == 2


def test_wsgi_backend_can_be_closed(redis_server: RedisServer) -> None:
    """`close` closes a backend from a URL, and nothing else."""
    middleware = WsgiRateLimitMiddleware(wsgi_app, plans=ONE, identify=lambda _: "closing", backend=redis_server.url)
    assert WerkzeugClient(middleware).get("/").status_code == 200

    middleware.close()
    WsgiRateLimitMiddleware(wsgi_app, keys=KEYS).close()


@pytest.mark.parametrize("package", ["fastapi", "flask"])
def test_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its framework, an adapter is an ImportError that names the extra to install."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"awx_ratelimit.adapters.{package}", raising=False)

    with pytest.raises(
        ImportError, match=rf"need {package}; install it with: pip install 'awx-ratelimit\[{package}\]'"
    ):
        import_module(f"awx_ratelimit.adapters.{package}")


@pytest.mark.parametrize("statuses", [asgi_statuses, wsgi_statuses])
def test_service(statuses: Any) -> None:
    """`service` is a plan that all callers share."""
    plans = [Plan.of("many", per_minute=9)]

    def identify(request: Request) -> Caller:
        return Caller(request.header("x-name") or "nobody")

    assert statuses({"x-name": "a"}, {"x-name": "b"}, identify=identify, plans=plans, service=ONE) == [200, 429]
