"""Apps of frameworks that read paths differently, each behind a gate with the same rules."""

import os
import warnings
from pathlib import Path
from typing import Any

from flask import Flask
from litestar import Litestar, get
from quart import Quart
from werkzeug.middleware.proxy_fix import ProxyFix

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, Plan, PlanTable, Rule, StaticKeys
from awx_ratelimit.adapters import starlette, werkzeug

with warnings.catch_warnings():
    # It imports `cgi` and `pkg_resources`, which are deprecated.
    warnings.simplefilter("ignore")
    from pyramid.config import Configurator

KEY = "awx_test_paths"
PLANS = PlanTable([Plan.of("ample", per_day=10_000)])
KEYS = StaticKeys({KEY: "ample"})
ROOT_PATH = "/api"


def rules(root: str = "") -> list[Rule]:
    """The rules of every app, below `root`."""
    return [
        Rule(f"{root}/health", exempt=True),
        Rule(f"{root}/memory", exempt=True),
        Rule(f"{root}/static/**", exempt=True),
        Rule(f"{root}/v1/transfers", cost=5),
        Rule(f"{root}/login", methods=["POST"], budget="login", plan=Plan.of("login", per_day=2)),
    ]


def _gate() -> Gate:
    return Gate(Limiter(MemoryBackend()), plans=PLANS, identify=KEYS, rules=rules())


def _async_gate(root: str = "") -> AsyncGate:
    return AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=KEYS, rules=rules(root))


_quart = Quart(__name__, static_folder=None)


@_quart.get("/health")
@_quart.get("/v1/secret")
@_quart.post("/login")
async def _answer() -> str:
    return "reached"


quart_app = starlette.RateLimitMiddleware(_quart, gate=_async_gate())


@get(["/health", "/v1/secret", "/static/{rest:path}"], sync_to_thread=False)
def _litestar() -> str:
    return "reached"


litestar_app = starlette.RateLimitMiddleware(Litestar([_litestar]), gate=_async_gate(ROOT_PATH))

_flask = Flask(__name__, static_folder=None)


@_flask.get("/health")
@_flask.get("/v1/secret")
def _view() -> str:
    return "reached"


_flask.wsgi_app = werkzeug.RateLimitMiddleware(_flask.wsgi_app, gate=_gate())  # type: ignore[method-assign]
flask_app = ProxyFix(_flask, x_prefix=1)


class _Root(dict[str, Any]):
    pass


class _Folder(dict[str, Any]):
    pass


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _pyramid() -> Any:
    root = _Root(v1=_Folder())
    with Configurator(root_factory=lambda request: root) as config:
        for kind, name in ((_Root, "health"), (_Folder, "secret"), (_Folder, "transfers")):
            config.add_view(lambda context, request: "reached", context=kind, name=name, renderer="string")
        config.add_view(
            lambda context, request: str(_resident_bytes()), context=_Root, name="memory", renderer="string"
        )
        return config.make_wsgi_app()


pyramid_app = werkzeug.RateLimitMiddleware(_pyramid(), gate=_gate())
