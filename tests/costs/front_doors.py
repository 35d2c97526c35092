"""Every entry point that an unauthenticated client can reach, without a server: gates, the REST API and the console."""

import asyncio
import atexit
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from io import BytesIO
from typing import Any, NamedTuple

import jwt
import pytest

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
    Rule,
    StaticKeys,
    StoredKeys,
)
from awx_ratelimit.adapters import asgi, starlette, werkzeug, wsgi
from awx_ratelimit.adapters.asgi import middleware as asgi_middleware
from awx_ratelimit.adapters.wsgi import middleware as wsgi_middleware
from awx_ratelimit.console import Console, Owner
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.management import AccessTokens, ManagementApi
from awx_ratelimit.testing import ManualClock

Lines = Sequence[tuple[bytes, bytes]]
KEY = b"awx_example_key"
ISSUER, AUDIENCE = "https://login.example.com", "wallet-api"
SECRET = "a secret of the tests that is long enough for HS256"
AMPLE = Plan.of("p", per_minute=10**9)
SCARCE = Plan.of("p", per_minute=1)
ADAPTERS = (asgi.app, asgi_middleware, wsgi_middleware, wsgi.app)


class Sent(NamedTuple):
    """One request."""

    lines: Lines
    method: str
    path: str
    client: str


Send = Callable[[Iterable[Sent]], list[int]]


class Door(NamedTuple):
    """An entry point: an app, how to send requests to it, and a request that it answers with `status`."""

    send: Send
    lines: Lines
    status: int
    method: str = "GET"
    path: str = "/v1/agents"

    def request(self, lines: Lines | None = None, **fields: Any) -> Sent:
        """The door's request, but for these fields."""
        return Sent(
            **{"lines": self.lines if lines is None else lines, "method": self.method, "path": self.path}
            | {"client": "192.0.2.1"}
            | fields
        )


def _send_asgi(app: Any, requests: Iterable[Sent]) -> list[int]:
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def all_of_them() -> None:
        for lines, method, path, client in requests:
            scope = {"type": "http", "method": method, "path": path, "client": (client, 1), "headers": list(lines)}
            await app(scope, receive, send)

    _runner().run(all_of_them())
    return statuses


@cache
def _runner() -> asyncio.Runner:
    """One event loop for all requests: to create one takes longer than a request."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


def _send_wsgi(app: Any, requests: Iterable[Sent]) -> list[int]:
    statuses = []

    def start(status: str, _: Any) -> None:
        statuses.append(int(status[:3]))

    headers: dict[str, str] = {}
    before: Lines | None = None
    for lines, method, path, client in requests:
        if lines is not before:
            # The work of a server is not measured.
            before, headers = lines, _variables(lines)
        environ = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "REMOTE_ADDR": client}
        body = app({**environ, **headers, "wsgi.input": BytesIO()}, start)
        list(body)
        getattr(body, "close", lambda: None)()
    return statuses


def _variables(lines: Lines) -> dict[str, str]:
    joined: dict[str, list[str]] = {}
    for name, value in lines:
        variable = name.decode().upper().replace("-", "_")
        variable = variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"
        joined.setdefault(variable, []).append(str(value, "latin-1"))
    return {name: ",".join(values) for name, values in joined.items()}


async def _asgi_app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def _wsgi_app(_: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def _limited(kind: str, identify: Any, plan: Plan, clock: ManualClock, **fields: Any) -> Send:
    """A gate around an app that answers ok."""
    backend = MemoryBackend(clock=clock)
    fields = {"plans": PlanTable([plan], default="p"), "identify": identify, **fields}
    if kind == "asgi":
        app: Any = starlette.RateLimitMiddleware(_asgi_app, gate=AsyncGate(AsyncLimiter(backend), **fields))
        return partial(_send_asgi, app)
    app = werkzeug.RateLimitMiddleware(_wsgi_app, gate=Gate(Limiter(backend), **fields))
    return partial(_send_wsgi, app)


def _mounted(kind: str, answer: Any) -> Send:
    if kind == "asgi":
        app: Any = asgi.AsgiApp(answer)
        return partial(_send_asgi, app)
    app = wsgi.WsgiApp(answer)
    return partial(_send_wsgi, app)


def gate_doors(kind: str, service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> dict[str, Door]:
    """Each outcome of a gate, with each kind of identifier."""
    static, static_bearer = StaticKeys({KEY.decode(): "p"}), StaticKeys({KEY.decode(): "p"}, bearer=True)
    stored = StoredKeys(verifier, bearer=True)
    key, unknown = service.create("acme", "n").secret.reveal().encode(), KeyFormat().new().reveal().encode()
    proxied: dict[str, Any] = {"anonymous": AMPLE, "trusted_proxies": ["192.0.2.0/24", "10.0.0.0/8"]}
    forwarded = [(b"x-forwarded-for", b"198.51.100.7, 10.0.0.1")]
    preflight = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"GET")]
    dear = [Rule("/v1/transfers", cost=5)]
    rules = [Rule("/login", methods=["POST"], budget="login", plan=SCARCE), Rule("/v1/{name}", cost=1)]

    def made(identify: Any, plan: Plan = AMPLE, **fields: Any) -> Send:
        return _limited(kind, identify, plan, clock, **{"rules": rules, **fields})

    def nobody(_: Request) -> None:
        return None

    return {
        "static key": Door(made(static), [(b"x-api-key", KEY)], 200),
        "static key refused": Door(made(static, SCARCE), [(b"x-api-key", KEY)], 429),
        "static key unknown": Door(made(static), [(b"x-api-key", b"awx_wrong")], 429),
        "static bearer": Door(made(static_bearer), [(b"authorization", b"Bearer " + KEY)], 200),
        "no key": Door(made(static), [], 401),
        "stored key": Door(made(stored), [(b"x-api-key", key)], 200),
        "bearer key": Door(made(stored), [(b"authorization", b"Bearer " + key)], 200),
        "bearer key refused": Door(made(stored, SCARCE), [(b"authorization", b"Bearer " + key)], 429),
        "bearer key unknown": Door(made(stored), [(b"authorization", b"Bearer " + unknown)], 429),
        "another's bearer": Door(made(stored), [(b"authorization", b"Bearer eyJhbGciOi.a.b")], 401),
        "anonymous": Door(made(nobody, **proxied), forwarded, 200),
        "anonymous refused": Door(made(nobody, **{**proxied, "anonymous": SCARCE}), forwarded, 429),
        "a path with a prefix": Door(made(static, rules=dear), [(b"x-api-key", KEY)], 200, "POST", "/api/v1/transfers"),
        "preflight": Door(made(static, preflights=True), preflight, 200, "OPTIONS"),
    }


def app_doors(kind: str, service: KeyService, clock: ManualClock) -> dict[str, Door]:
    """The REST API and the console, for users who are and are not logged in."""
    limiter, plans = Limiter(MemoryBackend(clock=clock)), PlanTable([AMPLE], default="p")
    tokens = AccessTokens(SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, clock=clock)
    api = ManagementApi(service, tokens, limiter=limiter, plans=plans, base="", calls=AMPLE, creations=AMPLE)
    until_s = clock.now_ms() // 1000 + 600
    token = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "exp": until_s}, SECRET).encode()
    bearer, session = [(b"authorization", b"Bearer " + token)], [(b"x-session", b"acme")]

    def who(request: Request) -> Owner | None:
        return Owner("acme", "ann") if request.values(b"x-session") else None

    console = Console(service, who=who, secret=SECRET, limiter=limiter, plans=plans, base="", clock=clock)
    form = [
        *session,
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"origin", b"https://a"),
        (b"host", b"a"),
    ]
    asks, pages = _mounted(kind, api), _mounted(kind, console)
    return {
        "API without a token": Door(asks, [], 401, path="/api-keys"),
        "API with a wrong token": Door(asks, [(b"authorization", b"Bearer a.b.c")], 401, path="/api-keys"),
        "API with a key": Door(asks, [(b"x-api-key", KEY)], 403, path="/api-keys"),
        "API with a token": Door(asks, bearer, 200, path="/api-keys"),
        "API with a body": Door(asks, [*bearer, (b"content-type", b"application/json")], 400, "POST", "/api-keys"),
        "console without a session": Door(pages, [], 403, path="/new"),
        "console": Door(pages, [*session, (b"accept", b"text/html"), (b"host", b"a")], 200, path="/plans"),
        "console without a page": Door(pages, session, 404, path="/nothing"),
        "console with a form": Door(pages, form, 403, "POST", "/new"),
    }


@contextmanager
def opened(kind: str) -> Iterator[dict[str, Door]]:
    """All entry points through the adapter of `kind`, ``asgi`` or ``wsgi``; time stands still."""
    clock = ManualClock(time.time_ns() // 1_000_000)
    with ExitStack() as stack:
        store = KeyStore.open("sqlite://")
        stack.callback(store.close)
        service = KeyService(store, clock=clock)
        service.accounts.create("acme", plan="p")
        verifier = KeyVerifier(store, clock=clock)
        stack.callback(verifier.close)
        doors = {**gate_doors(kind, service, verifier, clock), **app_doors(kind, service, clock)}
        for door in doors.values():
            # A look-up fills the cache, and guessing throttles an address.
            ask(door, door.lines, 25)
        yield doors


def ask(door: Door, lines: Lines, times: int = 1) -> list[int]:
    """Send the entry point's request with other header lines, and return the statuses."""
    return door.send([door.request(lines)] * times)


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[bytes]]:
    """The names of the headers that are read during a block."""
    names: set[bytes] = set()

    def recording(request_of: Callable[[Any], Request]) -> Callable[[Any], Request]:
        def recorded_request_of(sent: Any) -> Request:
            request = request_of(sent)

            def values(name: bytes) -> list[bytes]:
                names.add(name)
                return request.values(name)

            return request._replace(values=values)

        return recorded_request_of

    with monkeypatch.context() as patch:
        for adapter in ADAPTERS:
            patch.setattr(adapter, "request_of", recording(adapter.request_of))
        yield names
