"""Rules of the architecture that import-linter cannot check."""

import ast
import inspect
import pkgutil
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from awx_ratelimit import backends

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "awx_ratelimit"
MODULES = sorted(SRC.rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize(
    "path",
    [*SRC.glob("core/*.py"), SRC / "http/limit_headers.py", SRC / "http/error_responses.py"],
    ids=lambda path: path.name,
)
def test_pure_modules_await_nothing(path: Path) -> None:
    """The core and the modules that write headers and errors contain no `async def` and no `await`."""
    nodes = ast.walk(_tree(path))

    assert not [node for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_modules_of_the_architecture_page() -> None:
    """Every module and folder that ARCHITECTURE.md names exists."""
    page = (SRC.parent.parent / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", page))

    assert len(named) > 20
    assert [
        name for name in sorted(named) if not (SRC / name).exists() and not (SRC.parent.parent / name).exists()
    ] == []


def test_names_of_modules() -> None:
    """No module has a name such as `utils` that says nothing about its content."""
    assert not {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "misc"}


def test_docstrings_of_modules() -> None:
    """Each module begins with a docstring."""
    assert [path for path in MODULES if not ast.get_docstring(_tree(path))] == []


def test_size_of_modules() -> None:
    """Each module has at most 250 lines."""
    assert [path for path in MODULES if path.read_text().count("\n") > 250] == []


def test_headers_and_statuses_are_spelled_in_the_renderer_alone() -> None:
    """No other module of the library spells a header name or a status of the wire contract.

    The audit of the contract spells them again, so that it shares no mistake with the renderer.
    """
    spelled = (
        "ratelimit-policy",
        "retry-after",
        "rate_limit_exceeded",
        'invalid_api_key",',
        "too_many",
        " 429",
        " 401",
    )
    shipped = [
        path
        for path in MODULES
        if "testing" not in path.relative_to(SRC).parts
        and path.name not in ("limit_headers.py", "draft_headers.py", "error_responses.py", "errors.py", "contract.py")
    ]
    # To unparse every module would take a second.
    suspects = [path for path in shipped if any(text in path.read_text().lower().replace("\\", "") for text in spelled)]
    code = {path: ast.unparse(_without_docstrings(path)).lower() for path in suspects}

    assert len(suspects) > 10
    assert not [(path.name, text) for path in suspects for text in spelled if text in code[path]]


#: The modules that may name a third-party package. Packages outside this table have modules of their own.
_POSTGRES = ("address", "connection", "doctor", "hosts", "migration", "task_connection")
_STORE = (
    "engine", "key_tracing", "migrations", "operator_queries", "queries", "schema", "sqlite", "store", "unit_of_work",
    "usage", "usage_queries", "usage_schema", "usage_sealing", "warnings",
)  # fmt: skip
_COMMANDS = (
    "account_commands", "account_views", "app", "explain_command", "find_key_command", "key_commands", "key_stores",
    "callers", "current_usage", "loadtest_command", "metrics_commands", "moments", "options", "scan_command",
    "plan_sources", "server_commands", "stdin_key", "usage_commands",
)  # fmt: skip
_DJANGO_APP = ("apps", "checks", "management/commands/awx_ratelimit")
_DJANGO = ("admission", "configuration", "limits", "messages", "middleware", "users")
THIRD_PARTIES = {
    "aiohttp": {"adapters/aiohttp.py", "adapters/aiohttp_messages.py"},
    "sanic": {"adapters/sanic.py", "adapters/sanic_messages.py"},
    "tornado": {"adapters/tornado.py", "adapters/tornado_messages.py"},
    # A dependency of aiohttp.
    "multidict": {"adapters/aiohttp_messages.py"},
    "limits": {"core/notation.py"},
    # A dependency of limits, so it is always installed.
    "packaging": {"runtime/extras.py"},
    "sqlalchemy": {"keys/accounts.py"} | {f"keys/storage/{name}.py" for name in _STORE},
    "psycopg": {"keys/storage/engine.py"} | {f"backends/postgres/{name}.py" for name in _POSTGRES},
    "jinja2": {"console/rendering.py"},
    "jwt": {"management/auth/signing.py"},
    "typer": {f"cli/{name}.py" for name in _COMMANDS},
    "locust": {f"loadtest/load/{name}.py" for name in ("driver", "patched", "profile", "workers")},
    "gevent": {f"loadtest/load/{name}.py" for name in ("client", "driver", "http_client", "profile", "workers")},
    "geventhttpclient": {"loadtest/load/http_parser.py"},
    "asgiref": {
        f"adapters/django/{name}.py"
        for name in ("admission", "configuration", "limits", "middleware", "trial", "users")
    }
    | {"adapters/ninja.py"},
    "django": {f"adapters/django/{name}.py" for name in (*_DJANGO, *_DJANGO_APP)}
    | {"adapters/drf.py", "adapters/ninja.py"},
    "ninja": {"adapters/ninja.py"},
    "rest_framework": {"adapters/drf.py"},
    "fastapi": {"adapters/fastapi.py"},
    "flask": {"adapters/flask.py"},
    "starlette": {"adapters/fastapi.py", "adapters/starlette.py"},
    "litestar": {"adapters/litestar.py"},
    "quart": {"adapters/quart.py"},
    "arq": {"adapters/arq.py"},
    "celery": {"adapters/celery.py"},
    "grpc": {"adapters/grpc.py", "adapters/grpc_messages.py"},
    "mypy_extensions": {"runtime/mypyc.py"},
    "fakeredis": {"testing/fake_server.py"},
    "lupa": {"testing/lua_scripts.py"},
    "rich": {"cli/live_view.py", "cli/output.py"},
    "prometheus_client": {"observability/prometheus_exporter.py", "observability/prometheus_files.py"},
    "opentelemetry": {"observability/opentelemetry_exporter.py"},
}
WITH_MODULES_OF_THEIR_OWN = {"hiredis", "pytest", "redis"}


def test_source_is_not_compiled() -> None:
    """No compiled module lies in `src`, where an editable installation would import it instead of the source."""
    assert list(SRC.rglob("*.so")) == []


def test_third_party_packages() -> None:
    """A third-party package appears only in the modules that the table below allows."""
    ours = {"awx_ratelimit"} | set(sys.stdlib_module_names)
    named = {(name, str(path.relative_to(SRC))) for path in MODULES for name in _imported(path) - ours}

    elsewhere = {(name, path) for name, path in named if path not in THIRD_PARTIES.get(name, set())}
    assert {name for name, _ in elsewhere} == WITH_MODULES_OF_THEIR_OWN


def _imported(path: Path) -> set[str]:
    names = [alias.name for node in _imports(path) if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module for node in _imports(path) if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]
    return {name.partition(".")[0] for name in names}


#: Modules that gevent patches. A name that was imported from one of these before would block all greenlets.
_PATCHED = {"queue", "select", "socket", "ssl", "subprocess", "threading"}
_PATCHED_NAMES = {("time", "sleep"), ("os", "fork")}


def test_names_that_gevent_patches() -> None:
    """Locks, queues, threads and sockets are looked up in their modules, because gevent may patch these later."""
    paths = [path for path in MODULES if "loadtest" not in path.relative_to(SRC).parts]
    nodes = [(path, node) for path in paths for node in _imports(path) if isinstance(node, ast.ImportFrom)]
    taken = [(path, (node.module, alias.name)) for path, node in nodes for alias in node.names]

    assert [(path, name) for path, name in taken if name[0] in _PATCHED or name in _PATCHED_NAMES] == []


def test_every_backend_is_under_contract() -> None:
    """A class `<Name>Backend` in `backends/` without a contract test is an error.

    A cache of denials relaxes some laws on purpose; it has separate tests.
    """
    contracts = "".join(path.read_text() for path in (Path(__file__).parent / "contract").glob("test_*.py"))
    ours = [
        import_module(module.name)
        for module in pkgutil.walk_packages(backends.__path__, "awx_ratelimit.backends.")
        if "denial_cache" not in module.name
    ]
    found = [
        name
        for module in ours
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Backend") and name not in ("Backend", "AsyncBackend") and cls.__module__ == module.__name__
    ]

    assert found
    assert [name for name in found if f"class Test{name}" not in contracts] == []


def _without_docstrings(path: Path) -> ast.AST:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Pass()
    return tree
