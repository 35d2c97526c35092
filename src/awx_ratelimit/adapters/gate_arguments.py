"""Builds gates from plain arguments: keys, plans and the URL of a backend. The facades of all adapters share it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, TypedDict

from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.schemes import url_of_file
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.notation import is_rate
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
from awx_ratelimit.http.validation import called_for_plans
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.observability.listeners import Listener, checked_listeners

#: API keys: a mapping of keys to plans, or an identifier such as StoredKeys.
Keys = Mapping[str, str | Plan | Caller] | Callable[[Request], Any]
#: Plans: the path of a plan table, a PlanTable, or Plans, of which the first is the default.
Plans = str | PurePath | PlanTable | Plan | Iterable[Plan]

#: What a backend is not, and what to write instead.
_NO_BACKENDS: Final[Mapping[type, str]] = {
    AsyncLimiter: "gate=AsyncGate(limiter, plans=..., identify=...)",
    Limiter: "gate=Gate(limiter, plans=..., identify=...)",
    AsyncGate: "gate=gate",
    Gate: "gate=gate",
}


class GateOptions(TypedDict, total=False):
    """The other options of a gate; see AsyncGate. `listeners` are those of its limiter."""

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
    service: Plan | None
    listeners: Iterable[Listener]


#: The options of every way in.
OPTIONS: Final = ("keys", "identify", "plans", "backend", "gate", *GateOptions.__annotations__)


class OwnedGate:
    """An AsyncGate, and the limiter of a backend that was given as a URL. See RateLimitMiddleware for the arguments.

    Such a backend is closed by `aclose`, and `reopen` opens it again. Raises as RateLimitMiddleware does.
    """

    def __init__(
        self,
        keys: Keys | None,
        identify: AsyncIdentify | None,
        plans: Plans | None,
        backend: str | AsyncBackend | Backend | None,
        gate: AsyncGate | None,
        options: GateOptions,
    ) -> None:
        self._url = backend if isinstance(backend, str) else None
        self._limiter: AsyncLimiter | None = None
        if gate is None:
            self._arguments = gate_arguments(keys, identify, plans, options)
            self._listeners = listeners_in(options)
            gate = AsyncGate(self._open(backend), **self._arguments)
        else:
            check_only_gate(keys=keys, identify=identify, plans=plans, backend=backend, **options)
        self.gate = gate

    def reopen(self) -> None:
        """Make a new gate if `aclose` has closed the backend, and open again what the app has closed."""
        if self._url is not None and self._limiter is None:
            self.gate = AsyncGate(self._open(self._url), **self._arguments)
        self.gate.parts.reopen()

    async def aclose(self) -> None:
        """Close the backend if it was opened from a URL. A second call does nothing."""
        if self._url is not None and self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            await limiter.aclose()

    def _open(self, backend: str | AsyncBackend | Backend | None) -> AsyncLimiter:
        if isinstance(backend, str):
            from awx_ratelimit.backends.open import open_async_backend

            backend = open_async_backend(backend)
        own = MemoryBackend() if backend is None else checked_not_limiter(backend)
        self._limiter = AsyncLimiter(own, listeners=self._listeners)
        return self._limiter


class OwnedSyncGate:
    """A Gate, and the limiter of a backend that was given as a URL, which `close` closes. See OwnedGate."""

    def __init__(
        self,
        keys: Keys | None,
        identify: Identify | None,
        plans: Plans | None,
        backend: str | Backend | None,
        gate: Gate | None,
        options: GateOptions,
    ) -> None:
        self._limiter: Limiter | None = None
        if gate is None:
            arguments = gate_arguments(keys, identify, plans, options)
            gate = Gate(self._open(backend, listeners_in(options)), **arguments)
        else:
            check_only_gate(keys=keys, identify=identify, plans=plans, backend=backend, **options)
        self.gate = gate

    def close(self) -> None:
        """Close the backend if it was opened from a URL."""
        if self._limiter is not None:
            self._limiter.close()

    def _open(self, backend: str | Backend | None, listeners: Sequence[Listener]) -> Limiter:
        if isinstance(backend, str):
            from awx_ratelimit.backends.open import open_backend

            self._limiter = Limiter(open_backend(backend), listeners=listeners)
            return self._limiter
        own = MemoryBackend() if backend is None else checked_not_limiter(backend)
        return Limiter(own, listeners=listeners)


def gate_arguments(
    keys: Keys | None, identify: AsyncIdentify | None, plans: Plans | None, options: GateOptions
) -> dict[str, Any]:
    """The arguments of a gate besides its limiter. Raises TypeError and InvalidLimit for wrong ones."""
    others = {name: value for name, value in options.items() if name != "listeners"}
    return {"plans": _plan_table(plans), "identify": _identifier(keys, identify, options.get("anonymous")), **others}


def listeners_in(options: GateOptions) -> tuple[Listener, ...]:
    """The listeners of the limiter. Raises TypeError for a wrong one."""
    return checked_listeners(options.get("listeners", ()))


def checked_not_limiter(backend: Any) -> Any:
    """Return `backend`. Raises TypeError if it is a limiter, a gate or a path."""
    if isinstance(backend, PurePath):
        got, remedy = type_name(backend), f"backend={url_of_file(backend)!r}"
        raise TypeError(f"backend: expected a URL or a backend, got {got}; write {remedy}")
    for kind, remedy in _NO_BACKENDS.items():
        if isinstance(backend, kind):
            raise TypeError(f"backend: expected a URL or a backend, got {type_name(backend)}; write {remedy}")
    return backend


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
    if isinstance(plans, str | PurePath) and not is_rate(plans):
        return PlanTable.watch(plans)
    listed = [plans] if isinstance(plans, Plan) else plans
    if isinstance(listed, Mapping | str | bytes) or not isinstance(listed, Iterable):
        raise TypeError(
            "plans: expected the path of a plan table, a PlanTable or a list of Plans, "
            f"got {type_name(plans)}; write {_remedy_of_plans(plans)}"
        )
    listed = list(listed)
    default = listed[0].name if listed and isinstance(listed[0], Plan) else None
    return PlanTable(listed, default=default)


def _remedy_of_plans(plans: Any) -> str:
    if isinstance(plans, Mapping):
        return 'plans=PlanTable.from_mapping({"plans": ...}), or plans=[plan] for Plans'
    if isinstance(plans, str):
        return f"plans=[Plan('default', (Rate.parse({plans!r}),))] for a plan of this rate"
    if isinstance(plans, type) or not callable(plans):
        return "plans=[Plan.of('default', per_minute=60)]"
    return called_for_plans(plans)


def check_only_gate(**others: Any) -> None:
    """Raise TypeError if another argument was given beside `gate`."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        remedy = "give these to the gate instead"
        if given == ["listeners"]:
            remedy = "give them to the limiter of the gate: AsyncLimiter(backend, listeners=[...])"
        raise TypeError(f"gate: expected no other options beside it, got {', '.join(given)}; {remedy}")
