"""Without the package of an extra, its names are an error that names the package and the command that installs it."""

import json
import subprocess
import sys
from functools import cache

import pytest

#: What the base installation has.
_BASE = ("awx_ratelimit", "deprecated", "limits", "packaging", "pkg_resources", "typing_extensions", "wrapt")
#: A name, what needs what, and the command that installs it.
NAMES = [
    ("awx_ratelimit:RedisBackend", "the Redis backend needs redis", "awx-ratelimit[redis]"),
    ("awx_ratelimit:AsyncRedisBackend", "the Redis backend needs redis", "awx-ratelimit[redis]"),
    ("awx_ratelimit:PostgresBackend", "the PostgreSQL backend needs psycopg", "awx-ratelimit[postgres]"),
    ("awx_ratelimit:AsyncPostgresBackend", "the PostgreSQL backend needs psycopg", "awx-ratelimit[postgres]"),
    ("awx_ratelimit:JwtSubject", "access tokens need PyJWT", "awx-ratelimit[keys]"),
    ("awx_ratelimit:UsageHistory", "UsageHistory needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.keys:KeyStore", "KeyStore needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.keys:KeyService", "KeyService needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.keys:KeyVerifier", "KeyVerifier needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.keys:UsageExport", "UsageExport needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.management:ManagementApi", "ManagementApi needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.management:OperatorApi", "OperatorApi needs SQLAlchemy", "awx-ratelimit[keys]"),
    ("awx_ratelimit.management:AccessTokens", "AccessTokens needs PyJWT", "awx-ratelimit[keys]"),
    ("awx_ratelimit.console:Console", "Console needs PyJWT", "awx-ratelimit[console]"),
    ("awx_ratelimit.console:OperatorConsole", "OperatorConsole needs PyJWT", "awx-ratelimit[console]"),
    (
        "awx_ratelimit.observability.prometheus:PrometheusMetrics",
        "PrometheusMetrics needs prometheus-client",
        "awx-ratelimit[prometheus]",
    ),
    (
        "awx_ratelimit.observability.opentelemetry:OpenTelemetryMetrics",
        "OpenTelemetryMetrics needs opentelemetry-api",
        "awx-ratelimit[opentelemetry]",
    ),
    ("awx_ratelimit.adapters.django:limit", "limit needs Django", "awx-ratelimit[django]"),
    ("awx_ratelimit.adapters.django:RateLimitMiddleware", "RateLimitMiddleware needs Django", "awx-ratelimit[django]"),
    ("awx_ratelimit.adapters.fastapi:limit", "limits of FastAPI's routes need fastapi", "awx-ratelimit[fastapi]"),
    ("awx_ratelimit.adapters.flask:RateLimit", "limits of Flask's views need flask", "awx-ratelimit[flask]"),
    ("awx_ratelimit.adapters.aiohttp:RateLimit", "limits of aiohttp's handlers need aiohttp", "aiohttp"),
    ("awx_ratelimit.adapters.sanic:RateLimit", "limits of Sanic's handlers need sanic", "sanic"),
    ("awx_ratelimit.adapters.tornado:RateLimit", "limits of Tornado's handlers need tornado", "tornado"),
    ("awx_ratelimit.adapters.litestar:limit", "limits of Litestar's routes need litestar", "litestar"),
    ("awx_ratelimit.adapters.quart:limit", "limits of Quart's views need quart", "quart"),
    ("awx_ratelimit.adapters.drf:Throttle", "throttles need django", "djangorestframework"),
    ("awx_ratelimit.adapters.ninja:Throttle", "throttles need asgiref", "django-ninja"),
    ("awx_ratelimit.adapters.grpc:RateLimitInterceptor", "limits of RPCs need grpcio", "grpcio"),
    ("awx_ratelimit.adapters.celery:limit", "limits of tasks need celery", "celery"),
    ("awx_ratelimit.adapters.arq:limit", "limits of jobs need arq", "arq"),
    ("awx_ratelimit.testing:BackendContract", "BackendContract needs pytest", "pytest"),
    ("awx_ratelimit.testing:fake_redis", "the Redis backend needs redis", "awx-ratelimit[redis]"),
]
_PROGRAM = """
import json, sys
from importlib import import_module

class OnlyBase:
    def find_spec(self, name, path=None, target=None):
        # A compiled wheel has a module of its own, "..._mypyc", for what its modules share.
        top = name.partition(".")[0]
        if top not in base and top not in sys.stdlib_module_names and not top.endswith("__mypyc"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

base = json.loads(sys.argv[1])
sys.meta_path.insert(0, OnlyBase())
said = {}
for each in json.loads(sys.argv[2]):
    module, _, name = each.partition(":")
    try:
        getattr(import_module(module), name)
    except ImportError as error:
        said[each] = str(error)
names = {}
exec("from awx_ratelimit import *", names)
from awx_ratelimit.adapters import starlette
starlette.RateLimitMiddleware
try:
    starlette.limit("1/minute")
except ImportError as error:
    said["starlette"] = str(error)
print(json.dumps({"said": said, "names": sorted(names)}))
"""


@cache
def _bare() -> dict[str, dict[str, str]]:
    """What a program without extras sees: the errors, and the names of ``import *``."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(_BASE), json.dumps([name for name, *_ in NAMES])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, dict[str, str]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(("name", "needs", "install"), NAMES, ids=[name for name, *_ in NAMES])
def test_missing(name: str, needs: str, install: str) -> None:
    """The error has one form: what needs which package, and the command."""
    quoted = f"'{install}'" if "[" in install else install

    assert _bare()["said"].get(name) == f"{needs}; install it with: pip install {quoted}"


def test_limit_of_starlette() -> None:
    """The middleware for Starlette needs nothing; a limit of an endpoint names the extra."""
    expected = "limits of Starlette's endpoints need starlette; install it with: pip install 'awx-ratelimit[starlette]'"

    assert _bare()["said"]["starlette"] == expected


def test_import_star() -> None:
    """``from awx_ratelimit import *`` works without extras, and gives the names that need none."""
    names = _bare()["names"]

    assert {"RateLimitMiddleware", "Limiter", "StoredKeys", "QuotaWarnings", "open_backend", "settle"} <= set(names)
    assert "JwtSubject" not in names
