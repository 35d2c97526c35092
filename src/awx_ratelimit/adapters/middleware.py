"""The shortest way in: middlewares that build their gate, limiter and backend from plain arguments.

    app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter"})

A request takes the same way as through a gate of your own: these classes only add a constructor.
"""

from typing import Final, Unpack

from awx_ratelimit.adapters.asgi import middleware as asgi
from awx_ratelimit.adapters.asgi.lifespan import log_error_at_startup
from awx_ratelimit.adapters.gate_arguments import OPTIONS, GateOptions, Keys, OwnedGate, OwnedSyncGate, Plans
from awx_ratelimit.adapters.limited_once import counts_by
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES
from awx_ratelimit.adapters.wsgi import middleware as wsgi
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.core.option_names import check_option_names
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify, Identify

#: The options of these middlewares.
MIDDLEWARE_OPTIONS: Final = (*OPTIONS, "max_drain_bytes")


class RateLimitMiddleware(asgi.RateLimitMiddleware):
    """Limits the requests and WebSockets of an ASGI app.

    `keys` are API keys with their plans, or an identifier such as ``StoredKeys(...)``; `identify` is a function of the
    request instead. Without either, `anonymous` limits every client by its address. `plans` is the path of a plan
    table, which is reloaded when it changes, a PlanTable, or a list of Plans whose first is the default; None is
    starter and growth. `backend` is a URL or a backend; None keeps the limits in this process. `listeners` are called
    with every decision, for example ``[PrometheusMetrics()]``. The other options belong to AsyncGate. With `gate`,
    which has all of these, pass nothing else.

    A backend given as a URL is closed at the end of the app's lifespan, and opened again for the next one.

    Raises TypeError and InvalidLimit for wrong arguments, and the errors of `open_backend` for a wrong URL.
    """

    def __init__(
        self,
        app: asgi.App,
        *,
        keys: Keys | None = None,
        identify: AsyncIdentify | None = None,
        plans: Plans | None = None,
        backend: str | AsyncBackend | Backend | None = None,
        gate: AsyncGate | None = None,
        max_drain_bytes: int = MAX_DRAIN_BYTES,
        **options: Unpack[GateOptions],
    ) -> None:
        try:
            check_option_names("RateLimitMiddleware", options, MIDDLEWARE_OPTIONS)
            self._owned = OwnedGate(keys, identify, plans, backend, gate, options)
            self.counts_by = counts_by(keys, identify, gate)
            super().__init__(app, gate=self._owned.gate, max_drain_bytes=max_drain_bytes)
        except Exception as error:
            log_error_at_startup(error)
            raise

    def begin_lifespan(self) -> None:
        """Open again what the last lifespan has closed: a backend from a URL, and the verifier of keys."""
        self._owned.reopen()
        self.gate = self._owned.gate

    async def end_lifespan(self) -> None:
        """Send what is pending, and close the backend if this middleware has opened it."""
        await super().end_lifespan()
        await self._owned.aclose()


class WsgiRateLimitMiddleware(wsgi.RateLimitMiddleware):
    """Limits the requests of a WSGI app. It takes the arguments of RateLimitMiddleware; `gate` is a Gate.

    An orderly exit of the process gives the slots back. `close` closes a backend that was given as a URL.
    """

    way_in = "WsgiRateLimitMiddleware"

    def __init__(
        self,
        app: wsgi.App,
        *,
        keys: Keys | None = None,
        identify: Identify | None = None,
        plans: Plans | None = None,
        backend: str | Backend | None = None,
        gate: Gate | None = None,
        max_drain_bytes: int = MAX_DRAIN_BYTES,
        **options: Unpack[GateOptions],
    ) -> None:
        check_option_names("WsgiRateLimitMiddleware", options, MIDDLEWARE_OPTIONS)
        self._owned = OwnedSyncGate(keys, identify, plans, backend, gate, options)
        self.counts_by = counts_by(keys, identify, gate)
        super().__init__(app, gate=self._owned.gate, max_drain_bytes=max_drain_bytes)

    def close(self) -> None:
        """Close the backend if this middleware has opened it from a URL."""
        self._owned.close()
