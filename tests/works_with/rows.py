"""The rows of the table "works with": every framework and server that passes the same tests over real HTTP.

The tests are parametrised with these rows, and tools/works_with.py writes the table of README.md from them.
"""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

Kind = Literal["ASGI", "WSGI"]


class Ask(NamedTuple):
    """A request without its key."""

    method: str
    path: str
    headers: tuple[str, ...] = ()
    body: bytes = b""


class Traffic(NamedTuple):
    """The requests that a framework's app answers."""

    plain: Ask
    #: Its answer goes on until the test lets it end.
    stream: Ask


def _posted(path: str, content: dict[str, Any], *headers: str) -> Ask:
    body = json.dumps(content).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return Ask("POST", path, lines, body)


def _tool(name: str) -> Ask:
    call = {"name": name, "arguments": {}, "_meta": {"progressToken": 1}}
    content = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = "Accept: application/json, text/event-stream"
    return _posted("/mcp", content, accept, "MCP-Protocol-Version: 2025-06-18")


_HTTP = Traffic(Ask("GET", "/plain"), Ask("GET", "/stream"))
_MCP = Traffic(_tool("plain"), _tool("stream"))
_GRAPHQL = Traffic(
    _posted("/graphql/", {"query": "{ plain }"}),
    _posted("/graphql/", {"query": "subscription { stream }"}, "Accept: text/event-stream"),
)


@dataclass(frozen=True)
class Framework:
    """A framework, and the module in tests/works_with/apps with its app."""

    name: str
    package: str
    kind: Kind
    module: str
    traffic: Traffic = _HTTP
    #: Whether an app can know that its client has hung up.
    hears_hang_ups: bool = True


@dataclass(frozen=True)
class Server:
    """A server in one of its modes. `command` follows ``python -m``."""

    name: str
    package: str
    kind: Kind
    command: str
    mode: str = ""
    #: Answers one request after the other.
    is_serial: bool = False
    speaks_http2: bool = False

    @property
    def slug(self) -> str:
        """The name and mode as a test's id."""
        return f"{self.name} {self.mode}".strip().lower().replace(" ", "-").replace("/", "")


@dataclass(frozen=True)
class Row:
    """A framework on a server. Only `make test-full` runs it if it `is_full`."""

    framework: Framework
    server: Server
    is_full: bool

    def __str__(self) -> str:
        return f"{self.framework.kind}-{self.framework.name}-{self.server.slug}".lower().replace(" ", "-")


FRAMEWORKS = (
    Framework("Starlette", "starlette", "ASGI", "starlette_app"),
    Framework("FastAPI", "fastapi", "ASGI", "fastapi_app"),
    Framework("Litestar", "litestar", "ASGI", "litestar_app"),
    Framework("Quart", "quart", "ASGI", "quart_app"),
    Framework("Sanic", "sanic", "ASGI", "sanic_app", hears_hang_ups=False),
    Framework("Django", "django", "ASGI", "django_asgi"),
    Framework("Falcon", "falcon", "ASGI", "falcon_asgi"),
    Framework("BlackSheep", "blacksheep", "ASGI", "blacksheep_app"),
    Framework("Connexion", "connexion", "ASGI", "connexion_asgi"),
    Framework("FastMCP", "fastmcp", "ASGI", "fastmcp_app", _MCP),
    Framework("MCP SDK", "mcp", "ASGI", "mcp_app", _MCP),
    Framework("Strawberry", "strawberry-graphql", "ASGI", "strawberry_app", _GRAPHQL),
    Framework("Flask", "flask", "WSGI", "flask_app"),
    Framework("Django", "django", "WSGI", "django_wsgi"),
    Framework("Falcon", "falcon", "WSGI", "falcon_wsgi"),
    Framework("Bottle", "bottle", "WSGI", "bottle_app"),
    Framework("Pyramid", "pyramid", "WSGI", "pyramid_app"),
    Framework("Connexion", "connexion", "WSGI", "connexion_wsgi"),
)
_HYPERCORN = "hypercorn {app} --bind {host}:{port} --workers 1 --graceful-timeout 1"
_GUNICORN = "gunicorn {app} --bind {host}:{port} --workers 1 --graceful-timeout 1"
_GRANIAN = "granian {app} --host {host} --port {port} --workers 1 --workers-kill-timeout 1"
_UWSGI = "uwsgi --http-socket {host}:{port} --module {app} --need-app"

SERVERS = (
    Server(
        "uvicorn",
        "uvicorn",
        "ASGI",
        "uvicorn {app} --host {host} --port {port} --timeout-graceful-shutdown 1",
    ),
    Server("Hypercorn", "hypercorn", "ASGI", _HYPERCORN, "HTTP/1.1"),
    Server("Hypercorn", "hypercorn", "ASGI", _HYPERCORN, "HTTP/2", speaks_http2=True),
    Server("Hypercorn", "hypercorn", "ASGI", f"{_HYPERCORN} --worker-class trio", "Trio"),
    Server("Granian", "granian", "ASGI", f"{_GRANIAN} --interface asgi"),
    Server("Daphne", "daphne", "ASGI", "daphne --bind {host} --port {port} {app}"),
    Server(
        "gunicorn", "gunicorn", "ASGI", f"{_GUNICORN} --worker-class uvicorn_worker.UvicornWorker", "uvicorn worker"
    ),
    Server("gunicorn", "gunicorn", "WSGI", f"{_GUNICORN} --worker-class sync", "sync", is_serial=True),
    Server("gunicorn", "gunicorn", "WSGI", f"{_GUNICORN} --threads 8", "gthread"),
    Server("gunicorn", "gunicorn", "WSGI", f"{_GUNICORN} --worker-class gevent", "gevent"),
    Server("gunicorn", "gunicorn", "WSGI", f"{_GUNICORN} --worker-class gevent --preload", "gevent preload"),
    Server("waitress", "waitress", "WSGI", "waitress --listen {host}:{port} --threads 8 {app}"),
    Server("Cheroot", "cheroot", "WSGI", "cheroot --bind {host}:{port} {app}"),
    Server("Granian", "granian", "WSGI", f"{_GRANIAN} --interface wsgi --blocking-threads 8"),
    Server("uWSGI", "uwsgi", "WSGI", f"{_UWSGI} --enable-threads --threads 8", "threads"),
    Server("uWSGI", "uwsgi", "WSGI", _UWSGI, "default mode", is_serial=True),
    # Its configuration is a file: see processes.py.
    Server("mod_wsgi", "", "WSGI", "apache2"),
)
#: On which server `make test` runs the frameworks of a kind: the ones that start fastest.
_USUAL = {"ASGI": "uvicorn", "WSGI": "waitress"}
#: Libraries with an interface of their own: name, package, and the file of their tests.
OWN_INTERFACES = (
    ("aiohttp.web", "aiohttp", "tests/adapters/test_aiohttp.py"),
    ("Tornado", "tornado", "tests/adapters/test_tornado.py"),
    ("Django MIDDLEWARE", "django", "tests/adapters/test_django_middleware.py"),
    ("Sanic's own server", "sanic", "tests/adapters/test_sanic.py"),
    ("gRPC", "grpcio", "tests/adapters/test_grpc.py"),
    ("Celery", "celery", "tests/tasks/test_celery.py"),
    ("arq", "arq", "tests/tasks/test_arq.py"),
)
#: Frameworks in which a route can have a limit: name, and the module in awx_ratelimit/adapters.
ROUTE_LIMITS = (
    ("Starlette", "starlette"),
    ("FastAPI", "fastapi"),
    ("Litestar", "litestar"),
    ("Quart", "quart"),
    ("Flask", "flask"),
    ("Django", "django"),
    ("aiohttp", "aiohttp"),
    ("Tornado", "tornado"),
    ("Sanic", "sanic"),
    ("Django REST framework", "drf"),
    ("django-ninja", "ninja"),
)


def rows() -> list[Row]:
    """Return every framework on every server of its kind.

    `make test` runs each framework on the server that starts fastest, `make test-full` all rows.
    """
    return [
        Row(framework, server, is_full=server.name != _USUAL[framework.kind])
        for framework, server in product(FRAMEWORKS, SERVERS)
        if framework.kind == server.kind and not _fails_alone(framework, server)
    ]


def _fails_alone(framework: Framework, server: Server) -> bool:
    """Whether a framework does not run on a server, with or without the limiter."""
    if server.mode == "Trio":
        return framework.name != "Starlette"
    if server.name == "Daphne":
        # Daphne sends no lifespan events, which these wait for.
        return framework.name in {"FastMCP", "MCP SDK", "Sanic"}
    if framework.name == "Connexion":
        # Its WSGI app is a generator, whose status and headers Granian loses. Its thread does not survive a fork.
        return server.kind == "WSGI" and (server.name == "Granian" or "preload" in server.mode)
    return False
