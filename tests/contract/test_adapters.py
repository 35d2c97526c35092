"""Both adapters under the whole contract: the same requests, the same bytes."""

from typing import Any

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter
from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.testing import AdapterContract
from awx_ratelimit.testing.drivers import AsgiDriver, Driver, WsgiDriver


class TestStarletteAdapter(AdapterContract):
    def driver(self, backend: Any, **gate: Any) -> Driver:
        made = AsyncGate(AsyncLimiter(backend), **gate)
        return AsgiDriver(lambda app: starlette.RateLimitMiddleware(app, gate=made))


class TestWerkzeugAdapter(AdapterContract):
    def driver(self, backend: Any, **gate: Any) -> Driver:
        made = Gate(Limiter(backend), **gate)
        return WsgiDriver(lambda app: werkzeug.RateLimitMiddleware(app, gate=made))
