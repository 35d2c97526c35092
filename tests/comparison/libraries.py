"""The libraries of the comparison: this one, and those that people use today."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.comparison import accounts, functions, routes, views
from tests.comparison.subject import Build


class Library(NamedTuple):
    """A library, and how it is asked."""

    name: str
    title: str
    #: The distribution, the package that is imported, and its repository.
    package: str
    module: str
    url: str
    build: Build
    #: None if it knows one caller of a request.
    account: accounts.Build | None
    has_costs: bool = True
    #: Whether it limits functions, and has no responses.
    is_of_functions: bool = False

    @property
    def version(self) -> str:
        """The version that is installed."""
        return version(self.package)


_GITHUB = "https://github.com"
OURS = Library("awx_ratelimit", "awx_ratelimit", "awx-ratelimit", "awx_ratelimit", "", routes.awx, accounts.awx)
PEERS = (
    Library(
        "slowapi", "slowapi", "slowapi", "slowapi", f"{_GITHUB}/laurentS/slowapi", routes.slowapi, accounts.slowapi
    ),
    Library(
        "flask_limiter",
        "Flask-Limiter",
        "flask-limiter",
        "flask_limiter",
        f"{_GITHUB}/alisaifee/flask-limiter",
        routes.flask_limiter,
        accounts.flask_limiter,
    ),
    Library(
        "fastapi_limiter",
        "fastapi-limiter",
        "fastapi-limiter",
        "fastapi_limiter",
        f"{_GITHUB}/long2ice/fastapi-limiter",
        routes.fastapi_limiter,
        accounts.fastapi_limiter,
        has_costs=False,
    ),
    Library(
        "django_ratelimit",
        "django-ratelimit",
        "django-ratelimit",
        "django_ratelimit",
        f"{_GITHUB}/jsocol/django-ratelimit",
        views.django_ratelimit,
        views.django_ratelimit_account,
        has_costs=False,
    ),
    Library(
        "drf",
        "DRF throttling",
        "djangorestframework",
        "rest_framework",
        f"{_GITHUB}/encode/django-rest-framework",
        views.drf,
        views.drf_account,
        has_costs=False,
    ),
    Library(
        "limits",
        "limits",
        "limits",
        "limits",
        f"{_GITHUB}/alisaifee/limits",
        functions.limits,
        accounts.limits,
        is_of_functions=True,
    ),
    Library(
        "throttled",
        "throttled-py",
        "throttled-py",
        "throttled",
        f"{_GITHUB}/ZhuoZhuoCrayon/throttled-py",
        functions.throttled,
        accounts.throttled,
    ),
    Library(
        "pyrate",
        "pyrate-limiter",
        "pyrate-limiter",
        "pyrate_limiter",
        f"{_GITHUB}/vutran1710/PyrateLimiter",
        functions.pyrate,
        accounts.pyrate,
        is_of_functions=True,
    ),
    Library(
        "asgi_ratelimit",
        "asgi-ratelimit",
        "asgi-ratelimit",
        "ratelimit",
        f"{_GITHUB}/abersheeran/asgi-ratelimit",
        routes.asgi_ratelimit,
        None,
        has_costs=False,
    ),
    Library(
        "redis_sdk",
        "fastapi-redis-sdk",
        "fastapi-redis-sdk",
        "redis_fastapi",
        f"{_GITHUB}/redis/fastapi-redis-sdk",
        routes.redis_sdk,
        accounts.redis_sdk,
    ),
)
LIBRARIES = (OURS, *PEERS)


def folder_of(library: Library) -> Path:
    """The folder of its source."""
    spec = find_spec(library.module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _trees(library: Library) -> Iterator[ast.Module]:
    for path in sorted(folder_of(library).rglob("*.py")):
        yield ast.parse(path.read_text())


@cache
def defined_names(library: Library) -> frozenset[str]:
    """The names of its classes, functions and arguments, in lower case."""
    names = set()
    for tree in _trees(library):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name.lower())
            elif isinstance(node, ast.arg):
                names.add(node.arg.lower())
    return frozenset(names)


@cache
def imported_modules(library: Library) -> frozenset[str]:
    """The modules that it imports, by their whole names."""
    names: set[str] = set()
    for tree in _trees(library):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return frozenset(names)


@cache
def has_coroutines(library: Library) -> bool:
    """Whether a function of its source is a coroutine."""
    return any(isinstance(node, ast.AsyncFunctionDef) for tree in _trees(library) for node in ast.walk(tree))
