"""The shortest way in: middlewares that build their gate, limiter and backend from plain arguments.

    app.add_middleware(RateLimitMiddleware, keys={"awx_example_key": "starter"})

A request takes the same way as through a gate of your own: these classes only add a constructor.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, TypedDict, Unpack

from awx_ratelimit.adapters.asgi import middleware as asgi
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES
from awx_ratelimit.adapters.wsgi import middleware as wsgi
from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.identifiers import AsyncIdentify, Identify
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.limit_headers import Dialect
from awx_ratelimit.http.message import OnRefused, Request
from awx_ratelimit.http.policy import WebSocketRefusal
from awx_ratelimit.http.rules.rule import Rule
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter

#: API keys: a mapping of keys to plans, or an identifier such as StoredKeys.
Keys = Mapping[str, str | Plan | Caller] | Callable[[Request], Any]
#: Plans: the path of a plan table, a PlanTable, or Plans, of which the first is the default.
Plans = str | PurePath | PlanTable | Plan | Iterable[Plan]


class GateOptions(TypedDict, total=False):
    """The other options of a gate; see AsyncGate."""

    rules: Iterable[Rule]
    headers: Dialect
    expose: bool
    anonymous: Plan | None
    trusted_proxies: Iterable[str]
    websocket_refusal: WebSocketRefusal
    preflights: bool
    on_refused: OnRefused | None
    address_header: str
    ipv6_prefix: int


class RateLimitMiddleware(asgi.RateLimitMiddleware):
    """Limits the requests and WebSockets of an ASGI app.

    `keys` are API keys with their plans, or an identifier such as ``StoredKeys(...)``; `identify` is a function of the
    request instead. Without either, `anonymous` limits every client by its address. `plans` is the path of a plan
    table, which is read again when it changes, a PlanTable, or a list of Plans whose first is the default; None is
    starter and growth. `backend` is a URL or a backend; None keeps the limits in this process. `options` are those of
    AsyncGate. With `gate`, which has all of these, nothing else may be given.

    A backend that is given as a URL is closed at the end of the app's lifespan, and opened again for the next one.

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
        self._url = backend if isinstance(backend, str) else None
        self._limiter: AsyncLimiter | None = None
        if gate is None:
            self._arguments = _gate_arguments(keys, identify, plans, options)
            gate = AsyncGate(self._open(backend), **self._arguments)
        else:
            _check_only_gate(keys=keys, identify=identify, plans=plans, backend=backend, **options)
        super().__init__(app, gate=gate, max_drain_bytes=max_drain_bytes)

    def begin_lifespan(self) -> None:
        """Open the backend again if the last lifespan has closed it."""
        if self._url is not None and self._limiter is None:
            self.gate = AsyncGate(self._open(self._url), **self._arguments)

    async def end_lifespan(self) -> None:
        """Send what is pending, and close the backend if this middleware has opened it."""
        await super().end_lifespan()
        if self._url is not None and self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            await limiter.aclose()

    def _open(self, backend: str | AsyncBackend | Backend | None) -> AsyncLimiter:
        if isinstance(backend, str):
            from awx_ratelimit.backends.open import open_async_backend

            backend = open_async_backend(backend)
        self._limiter = AsyncLimiter(MemoryBackend() if backend is None else backend)
        return self._limiter


class WsgiRateLimitMiddleware(wsgi.RateLimitMiddleware):
    """Limits the requests of a WSGI app. The arguments are those of RateLimitMiddleware; `gate` is a Gate.

    An orderly exit of the process gives the slots back. `close` closes a backend that was given as a URL.
    """

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
        self._limiter: Limiter | None = None
        if gate is None:
            arguments = _gate_arguments(keys, identify, plans, options)
            gate = Gate(self._open(backend), **arguments)
        else:
            _check_only_gate(keys=keys, identify=identify, plans=plans, backend=backend, **options)
        super().__init__(app, gate=gate, max_drain_bytes=max_drain_bytes)

    def close(self) -> None:
        """Close the backend if this middleware has opened it from a URL."""
        if self._limiter is not None:
            self._limiter.close()

    def _open(self, backend: str | Backend | None) -> Limiter:
        if isinstance(backend, str):
            from awx_ratelimit.backends.open import open_backend

            self._limiter = Limiter(open_backend(backend))
            return self._limiter
        return Limiter(MemoryBackend() if backend is None else backend)


def _gate_arguments(
    keys: Keys | None, identify: AsyncIdentify | None, plans: Plans | None, options: GateOptions
) -> dict[str, Any]:
    return {"plans": _plan_table(plans), "identify": _identifier(keys, identify, options.get("anonymous")), **options}


def _identifier(keys: Keys | None, identify: AsyncIdentify | None, anonymous: Plan | None) -> Any:
    if keys is not None and identify is not None:
        raise TypeError("keys, identify: expected one of them, got both; write the keys, or a function of the request")
    if keys is not None:
        return StaticKeys(keys) if isinstance(keys, Mapping) or not callable(keys) else keys
    if identify is None and anonymous is None:
        raise TypeError(
            "keys, identify, anonymous: expected one of them, got none; write keys={'awx_example_key': 'starter'}, or "
            "anonymous=Plan.of('anonymous', per_minute=60) to limit clients by their address"
        )
    return _nobody if identify is None else identify


def _nobody(_: Request) -> None:
    """Every client is limited by its address."""


def _plan_table(plans: Any) -> PlanTable:
    if plans is None:
        return PlanTable.default()
    if isinstance(plans, PlanTable):
        return plans
    if isinstance(plans, str | PurePath):
        return PlanTable.watch(plans)
    listed = [plans] if isinstance(plans, Plan) else plans
    if isinstance(listed, Mapping) or not isinstance(listed, Iterable):
        raise TypeError(
            "plans: expected the path of a plan table, a PlanTable or a list of Plans, "
            f"got {type_name(plans)}; write PlanTable.from_mapping(...) for a mapping"
        )
    listed = list(listed)
    default = listed[0].name if listed and isinstance(listed[0], Plan) else None
    return PlanTable(listed, default=default)


def _check_only_gate(**others: Any) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise TypeError(f"gate: expected it alone, got also {', '.join(given)}; give these to the gate instead")
