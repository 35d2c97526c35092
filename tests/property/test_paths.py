"""No spelling of a path is charged less than the route that a framework chooses for it."""

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.property import routed
from tests.selection import EXAMPLES
from werkzeug.middleware.proxy_fix import ProxyFix

from awx_ratelimit import Gate, Limiter, MemoryBackend, Plan, PlanTable, Rule
from awx_ratelimit.adapters.asgi.scope import request_of as request_of_scope
from awx_ratelimit.adapters.wsgi.environ import request_of as request_of_environ

PLAN = Plan.of("p", per_minute=1_000)
LOGIN = Plan.of("login", per_minute=5)
EXEMPT = {"health", "static"}

NOISE = [
    "/", "//", "/.", "/..", "/./", "/../", "/x/../", "/x/..;/", ";", ";x=1", "/;x/", "\\", "/..\\", "\n", "\r", "\t",
    " ", "\0", "%", "%2e", "%2E%2e", "%2f", "%252f", "%00", "@@", "/@@", ".", "...", "?", "#", "\ufffd", "\xff",
    "\u00e9", "/static", "/static/", "/static/x", "/health", "/api", "/api/", "api", "http://x", "http:", "x:", "//x",
    "*", "/v1", "/v1/agents", "/login",
]  # fmt: skip
TARGETS = [
    "/health",
    "/static/a.css",
    "/static/v1/secret",
    "/v1/transfers",
    "/login",
    "/v1/secret",
    "/v1/agents/7",
    "/",
]
PREFIXES = [
    "",
    "/static",
    "/static/",
    "static",
    "/v1",
    "/x",
    "/api",
    "/health",
    "/v1/agents",
    "/static, /x",
    '"/static"',
    "//static",
    "/login",
]
HEADERS = ["X-Forwarded-Prefix", "X-Script-Name", "Script-Name", "X-Vhm-Root", "X-Other"]


@st.composite
def paths(draw: st.DrawFn) -> str:
    """The path of a route with up to three odd pieces inserted anywhere."""
    path = draw(st.sampled_from(TARGETS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(
            st.sampled_from([0, len(path), *(place for place, letter in enumerate(path) if letter == "/")])
            | st.integers(0, len(path))
        )
        path = path[:at] + draw(st.sampled_from(NOISE)) + path[at:]
    return path


def rules(mount: str = "", below: str = "") -> list[Rule]:
    """The rules of the routes under `mount`; `below` adds what a framework answers below a route's path."""
    return [
        Rule(f"{mount}/health", exempt=True),
        Rule(f"{mount}/static/**", exempt=True),
        Rule(f"{mount}/v1/transfers{below}", cost=5),
        Rule(f"{mount}/login{below}", budget="login", plan=LOGIN),
    ]


def is_charged(rule: Any, chosen: str) -> bool:
    """Whether a request pays at least for the chosen route, to which `rule` belongs."""
    if chosen in EXEMPT:
        return True
    if chosen == "transfers":
        return rule is not None and rule.cost >= 5
    if chosen == "login":
        return rule is not None and [(budget.scope, budget.plan) for budget in rule.price.budgets] == [("login", LOGIN)]
    return rule is not None and rule.cost >= 1


@cache
def _rule_of(mount: str, below: str) -> Callable[[Any], Any]:
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=lambda _: None, rules=rules(mount, below))
    return gate._policy.rule_for


many = settings(max_examples=38 * EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def _asgi(name: str) -> Any:
    return routed.ASGI[name]()


@cache
def _wsgi(name: str) -> Any:
    return routed.WSGI[name]()


def _receive() -> Any:
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        # A client that has sent everything and waits.
        return messages.pop() if messages else await asyncio.Event().wait()

    return receive


async def _send(_: Any) -> None: ...


def _root_path_of(header: bytes) -> Callable[[Any], Any]:
    """A middleware that takes the root path from a header, as in many apps behind proxies."""

    def around(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            sent = dict(scope["headers"]).get(header)
            await app(scope if sent is None else {**scope, "root_path": sent.decode()}, receive, send)

        return middleware

    return around


ASGI_AROUND: dict[str, Callable[[Any], Any]] = {
    "bare": lambda app: app,
    "forwarded": _root_path_of(b"x-forwarded-prefix"),
    "script-name": _root_path_of(b"x-script-name"),
}


@pytest.mark.parametrize("framework", routed.ASGI)
@given(
    path=paths(),
    root=st.sampled_from(["", "/api"]),
    whole=st.booleans(),
    outside=st.sampled_from([*sorted(ASGI_AROUND), "other"]),
    inside=st.sampled_from(sorted(ASGI_AROUND)),
    headers=st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(PREFIXES) | paths(), max_size=2),
)
@example(path="http://x/login", root="", whole=False, outside="bare", inside="bare", headers={})
@example(path="/static/api/v1/secret", root="/api", whole=False, outside="bare", inside="bare", headers={})
@example(path="http://x/api/login", root="/api", whole=False, outside="bare", inside="bare", headers={})
@example(
    path="/static/v1/secret", root="", whole=False, outside="bare", inside="script-name",
    headers={"X-Script-Name": "/static"},
)  # fmt: skip
@example(
    path="/v1/transfers", root="", whole=False, outside="forwarded", inside="bare",
    headers={"X-Forwarded-Prefix": "/static, /x"},
)  # fmt: skip
@many
def test_asgi_frameworks(
    framework: str, path: str, root: str, whole: bool, outside: str, inside: str, headers: dict[str, str]
) -> None:
    """For any root path, also one that the path repeats, a request pays for the chosen route."""
    if (outside, inside) != ("bare", "bare"):
        # A root path of the server and one from a header are not combined.
        root = ""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": root + path if whole else path, "raw_path": b"/", "root_path": root, "query_string": b"",
        "headers": [(b"host", b"x"), *((name.lower().encode(), value.encode()) for name, value in headers.items())],
        "client": ("192.0.2.1", 1), "server": ("x", 80), "extensions": {}, "state": {},
    }  # fmt: skip
    found: list[Any] = []

    async def gated(scope: Any, receive: Any, send: Any) -> None:
        found.append(_rule_of(root, "")(request_of_scope(dict(scope))))
        await ASGI_AROUND[inside](_asgi(framework))(scope, receive, send)

    around = {**ASGI_AROUND, "other": _root_path_of(b"x-other")}
    chosen = _chosen_asgi(around[outside](gated), scope)
    assert is_charged(found[0], chosen), (scope["path"], headers, outside, inside, found[0], chosen)


def _chosen_asgi(app: Any, scope: Any) -> str:
    routed.CHOSEN.clear()
    # A framework that fails at a path reaches no route.
    with suppress(ValueError, IndexError):
        routed.run(app(scope, _receive(), _send))
    return routed.CHOSEN[-1] if routed.CHOSEN else "health"


def _reverse_proxied(app: Any) -> Any:
    """The middleware of many Flask apps, which removes a prefix in a header from the path."""

    def middleware(environ: Any, start_response: Any) -> Any:
        prefix = environ.get("HTTP_X_SCRIPT_NAME", "")
        if prefix:
            environ["SCRIPT_NAME"] = prefix
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(prefix)
        return app(environ, start_response)

    return middleware


def _moved(header: str) -> Callable[[Any], Any]:
    def around(app: Any) -> Any:
        def middleware(environ: Any, start_response: Any) -> Any:
            environ["SCRIPT_NAME"] = environ.get(header, "")
            return app(environ, start_response)

        return middleware

    return around


OUTSIDE: dict[str, Callable[[Any], Any]] = {
    "bare": lambda app: app,
    "proxy-fix": lambda app: ProxyFix(app, x_prefix=1),
    "reverse-proxied": _reverse_proxied,
    "script-name": _moved("HTTP_SCRIPT_NAME"),
    "other": _moved("HTTP_X_OTHER"),
}
INSIDE: dict[str, Callable[[Any], Any]] = {"bare": lambda app: app, "reverse-proxied": _reverse_proxied}


@pytest.mark.parametrize("framework", routed.WSGI)
@given(
    path=paths(),
    outside=st.sampled_from(sorted(OUTSIDE)),
    inside=st.sampled_from(sorted(INSIDE)),
    headers=st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(PREFIXES) | paths(), max_size=2),
)
@example(path="/static/../v1/secret", outside="bare", inside="bare", headers={})
@example(path="/./v1/transfers", outside="bare", inside="bare", headers={})
@example(path="/v1/secret", outside="proxy-fix", inside="bare", headers={"X-Forwarded-Prefix": "/static"})
@example(path="/v1/secret", outside="proxy-fix", inside="bare", headers={"X-Forwarded-Prefix": '"/static"'})
@example(path="/health", outside="bare", inside="bare", headers={"X-Vhm-Root": "/v1/secret"})
@example(
    path="/static/v1/secret", outside="script-name", inside="reverse-proxied",
    headers={"X-Script-Name": "/static", "Script-Name": "/static"},
)  # fmt: skip
@example(path="./v1/transfers", outside="other", inside="bare", headers={"X-Other": "/static"})
@example(path="/v1/transfers", outside="other", inside="bare", headers={"X-Vhm-Root": "/static", "X-Other": "/v1"})
@many
def test_wsgi_frameworks(framework: str, path: str, outside: str, inside: str, headers: dict[str, str]) -> None:
    """For any prefix that a client sends and any middleware that moves it, a request pays for the chosen route."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path.encode().decode("latin-1"), "SCRIPT_NAME": ""}
    environ |= {
        f"HTTP_{name.upper().replace('-', '_')}": value.encode().decode("latin-1") for name, value in headers.items()
    }
    found: list[Any] = []
    below = "/**" if framework == "pyramid-traversal" else ""

    def gated(environ: Any, start_response: Any) -> Any:
        found.append(_rule_of("", below)(request_of_environ(environ)))
        return INSIDE[inside](_wsgi(framework))(environ, start_response)

    routed.CHOSEN.clear()
    # A framework that fails at a path reaches no route.
    with suppress(UnicodeError, ValueError):
        OUTSIDE[outside](gated)(environ, lambda *_: None)
    chosen = routed.CHOSEN[-1] if routed.CHOSEN else "health"
    assert is_charged(found[0], chosen), (path, headers, outside, inside, found[0], chosen)
