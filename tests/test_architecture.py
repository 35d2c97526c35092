"""What import-linter cannot say of the house."""

import ast
import inspect
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import awx_ratelimit
from awx_ratelimit import backends

SRC = Path(awx_ratelimit.__file__).parent
MODULES = sorted(SRC.rglob("*.py"))


@pytest.mark.parametrize(
    "path",
    [*SRC.glob("core/*.py"), SRC / "http/limit_headers.py", SRC / "http/error_responses.py"],
    ids=lambda path: path.name,
)
def test_the_core_and_the_renderer_know_no_event_loop(path: Path) -> None:
    """There is no `async def` and no `await` where everything is pure."""
    tree = ast.parse(path.read_text())

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_the_page_on_architecture_names_modules_that_exist() -> None:
    """A reader finds every module and folder where ARCHITECTURE.md says it is."""
    page = (SRC.parent.parent / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", page))

    assert len(named) > 20
    assert [
        name for name in sorted(named) if not (SRC / name).exists() and not (SRC.parent.parent / name).exists()
    ] == []


def test_no_module_is_a_drawer() -> None:
    """Each module has one idea, which its name says."""
    assert not {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_every_module_states_its_law(path: Path) -> None:
    """Each module begins with a docstring, and is small enough to be read in one sitting."""
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 250


def test_headers_and_statuses_are_spelled_in_the_renderer_alone() -> None:
    """No other module of the library spells a header name or a status of the wire contract.

    The audit of the contract spells them once more: who audits must not share a mistake.
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
        and path.name not in ("limit_headers.py", "error_responses.py", "errors.py", "contract.py")
    ]
    code = {path: "".join(ast.unparse(_without_docstrings(path)).lower()) for path in shipped}

    assert not [(path.name, text) for path in shipped for text in spelled if text in code[path]]


#: The modules that may name a third-party package. Packages outside this table have modules of their own.
_STORE = ("engine", "migrations", "queries", "schema", "sqlite", "store", "unit_of_work")
_COMMANDS = ("app", "key_commands", "loadtest_command", "scan_command", "server_commands")
THIRD_PARTIES = {
    "limits": {"core/rate.py"},
    # A dependency of limits, and so installed.
    "packaging": {"runtime/extras.py"},
    "sqlalchemy": {"keys/accounts.py"} | {f"keys/storage/{name}.py" for name in _STORE},
    "psycopg": {"keys/storage/engine.py"},
    "jinja2": {"console/rendering.py"},
    "jwt": {"management/auth/signing.py"},
    "typer": {f"cli/{name}.py" for name in _COMMANDS},
    "locust": {f"loadtest/load/{name}.py" for name in ("driver", "profile", "workers")},
    "gevent": {f"loadtest/load/{name}.py" for name in ("client", "driver", "http_client", "profile", "workers")},
    "geventhttpclient": {"loadtest/load/http_parser.py"},
    "rich": {"cli/live_view.py", "cli/output.py"},
}
WITH_MODULES_OF_THEIR_OWN = {"hiredis", "pytest", "redis"}


def test_a_third_party_package_appears_in_the_module_made_for_it() -> None:
    """What may be exchanged one day is named in one place."""
    ours = {"awx_ratelimit"} | set(sys.stdlib_module_names)
    named = {(name, str(path.relative_to(SRC))) for path in MODULES for name in _imported(path) - ours}

    elsewhere = {(name, path) for name, path in named if path not in THIRD_PARTIES.get(name, set())}
    assert {name for name, _ in elsewhere} == WITH_MODULES_OF_THEIR_OWN


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


#: What gevent replaces, and a module that has taken a name from there keeps: one that blocks all greenlets.
_PATCHED = {"queue", "select", "socket", "ssl", "subprocess", "threading"}
_PATCHED_NAMES = {("time", "sleep"), ("os", "fork")}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if "loadtest" not in path.relative_to(SRC).parts],
    ids=lambda path: str(path.relative_to(SRC)),
)
def test_what_gevent_replaces_is_looked_up_when_it_is_used(path: Path) -> None:
    """Locks, queues, threads and sockets come from their modules, which may be patched after they were imported."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    taken = {(node.module, alias.name) for node in nodes for alias in node.names}

    assert not [name for name in taken if name[0] in _PATCHED or name in _PATCHED_NAMES]


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
