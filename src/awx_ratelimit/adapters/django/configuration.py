"""`AWX_RATELIMIT` in the settings of Django: its check, and the gates that it describes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from awx_ratelimit.adapters.django.users import DjangoUser
from awx_ratelimit.adapters.gate_arguments import (
    OPTIONS,
    check_only_gate,
    checked_not_limiter,
    gate_arguments,
    listeners_in,
)
from awx_ratelimit.adapters.limited_once import counts_by
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES, checked_drain_bytes
from awx_ratelimit.backends.base import Backend, NonBlocking
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.open import open_async_backend, open_backend, open_to_look
from awx_ratelimit.core.option_names import unknown_options
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import AwxRateLimitError
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.identity.static_keys import StaticKeys
from awx_ratelimit.http.validation import checked_rules
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter

NAME = "AWX_RATELIMIT"
_KEYS = (*OPTIONS, "max_drain_bytes")
#: Their values may be dotted paths. Texts in `plans` are paths of files, and those in `backend` URLs.
_IMPORTABLE = ("keys", "identify", "gate", "rules", "anonymous", "service", "on_refused", "listeners")
#: Plans that have no name in the plan table.
_PLANS = ("anonymous", "service")


class Configuration:
    """The gates of a mapping such as ``AWX_RATELIMIT``, over one backend. `listeners` are those of their limiters.

    Raises ImproperlyConfigured for anything that is wrong in it.
    """

    def __init__(self, mapping: Any) -> None:
        with one_error():
            values = _checked(mapping)
            self.max_drain_bytes = checked_drain_bytes(values.pop("max_drain_bytes", MAX_DRAIN_BYTES))
            self._gate = values.pop("gate", None)
            self.backend = values.pop("backend", None)
            keys, identify, plans = (values.pop(name, None) for name in ("keys", "identify", "plans"))
            self.counts_by = counts_by(keys, identify, self._gate)
            if self._gate is None:
                self._arguments = gate_arguments(keys, identify, plans, values)  # type: ignore[arg-type]
                self.listeners = listeners_in(values)  # type: ignore[arg-type]
                checked_not_limiter(self.backend)
            else:
                check_only_gate(keys=keys, identify=identify, plans=plans, backend=self.backend, **values)

    @property
    def plans(self) -> Any:
        """The plan table. Raises ImproperlyConfigured if there is only a gate, which does not show its plans."""
        self._refuse_gate("plans")
        return self._arguments["plans"]

    @property
    def parts(self) -> GateParts:
        """What a gate of it consists of, without the limiter: to look at callers opens no backend."""
        with one_error():
            plans, given, rules = self.plans, self._arguments, checked_rules(self._arguments.get("rules", ()))
        return GateParts(None, given["identify"], plans, given.get("anonymous"), tuple(rules), given.get("service"))

    @property
    def makes_gates(self) -> bool:
        """Whether it makes the gates itself, instead of using one that the project has made."""
        return self._gate is None

    @property
    def identifies_users(self) -> bool:
        """Whether the callers are users of Django."""
        return self._gate is None and isinstance(self._arguments["identify"], DjangoUser)

    @cached_property
    def gate(self) -> Gate:
        """The gate of synchronous requests."""
        with one_error():
            if self._gate is not None:
                return _checked_gate(self._gate, Gate, "WSGI")  # type: ignore[no-any-return]
            identify = self._arguments["identify"]
            if iscoroutinefunction(identify):
                identify = async_to_sync(identify)
            return Gate(self.limiter, **self._arguments | {"identify": identify})

    @cached_property
    def async_gate(self) -> AsyncGate:
        """The gate of requests in an event loop. A plain `identify` of the project's own runs in a thread."""
        with one_error():
            if self._gate is not None:
                return _checked_gate(self._gate, AsyncGate, "ASGI")  # type: ignore[no-any-return]
            identify = self._arguments["identify"]
            if _may_query(identify):
                identify = _InThread(identify)
            backend = self.backend
            if isinstance(backend, str):
                shared = never_waits(self.limiter.backend)
                backend = self.limiter.backend if shared else open_async_backend(backend)
            elif backend is None:
                backend = self.limiter.backend
            limiter = AsyncLimiter(backend, listeners=self.listeners)
            return AsyncGate(limiter, **self._arguments | {"identify": identify})

    @cached_property
    def limiter(self) -> Limiter:
        """The limiter of synchronous requests and of the command. Raises ImproperlyConfigured for a wrong backend."""
        with one_error():
            backend = self.backend
            opened = open_backend(backend) if isinstance(backend, str) else backend or MemoryBackend()
            return Limiter(opened, listeners=self.listeners)

    @contextmanager
    def opened_to_look(self) -> Iterator[Limiter]:
        """A limiter for commands, which see no fallback for a server that does not answer.

        Raises ImproperlyConfigured for limits in the memory of the server's processes, and if there is only a gate.
        """
        self._refuse_gate("backend")
        url = self.backend or "memory://"
        if not isinstance(url, str):
            yield self.limiter
            return
        with one_error():
            limiter = Limiter(open_to_look(url, "in 'backend'"))
        try:
            yield limiter
        finally:
            limiter.close()

    def _refuse_gate(self, expected: str) -> None:
        if self._gate is not None:
            raise ImproperlyConfigured(
                f"{NAME}: expected {expected!r}, got 'gate'; write plans, keys and backend instead"
            )


@cache
def configuration() -> Configuration:
    """The configuration in the settings. Raises ImproperlyConfigured if it is missing or wrong."""
    return Configuration(getattr(settings, NAME, None))


def is_configured() -> bool:
    """Whether the settings have ``AWX_RATELIMIT``."""
    return getattr(settings, NAME, None) is not None


class _InThread:
    """An identifier that may query the database, called in a thread by gates in an event loop."""

    def __init__(self, identify: Callable[..., Any]) -> None:
        self._identify = identify
        self.call_async = sync_to_async(identify, thread_sensitive=True)

    def __call__(self, request: Any) -> Any:
        return self._identify(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._identify, name)


class one_error:  # noqa: N801  # a context manager that is used like a function
    """Turns the errors of a wrong configuration into ImproperlyConfigured."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ImproperlyConfigured):
            return
        if isinstance(error, TypeError | ValueError | ImportError | OSError | AwxRateLimitError):
            raise ImproperlyConfigured(f"{NAME}: {error}") from error


def _checked(mapping: Any) -> dict[str, Any]:
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"expected a dictionary, got {type_name(mapping)}; "
            f"write {NAME} = {{'keys': {{'awx_example_key': 'starter'}}}} in the settings"
        )
    problem = unknown_options(map(str, mapping), _KEYS)
    if problem:
        raise TypeError(problem)
    return {name: _imported(name, value) for name, value in mapping.items()}


def _imported(name: str, value: Any) -> Any:
    if name == "listeners" and isinstance(value, list | tuple):
        return [_imported(name, each) for each in value]
    if name not in _IMPORTABLE or not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        if name == "keys":
            # The text may be a key.
            raise TypeError("keys: expected a mapping of keys to plans, or a dotted path of an identifier") from None
        expected, remedy = "a dotted path", ""
        if name in _PLANS:
            expected, remedy = "a Plan or the dotted path of one", f"; write Plan.of({value!r}, per_minute=10)"
        raise ImportError(
            f"{name}: expected {expected}, got {value!r}, which cannot be imported: {error}{remedy}"
        ) from error


def _checked_gate(gate: Any, wanted: type[Any], protocol: str) -> Any:
    if not isinstance(gate, wanted):
        raise TypeError(
            f"gate: expected one of the type {wanted.__name__} for {protocol}, got {type_name(gate)}; "
            "write keys, plans and backend instead, which serve both protocols"
        )
    return gate


def _may_query(identify: Any) -> bool:
    is_async = iscoroutinefunction(identify) or iscoroutinefunction(getattr(identify, "__call__", None))  # noqa: B004
    ours = isinstance(identify, StaticKeys) or getattr(identify, "__module__", "").startswith("awx_ratelimit.")
    return not (is_async or ours or hasattr(identify, "call_async"))


def never_waits(backend: Backend) -> bool:
    """Whether an event loop may call `backend`."""
    try:
        return isinstance(AsyncLimiter(backend).backend, NonBlocking)
    except TypeError:
        return False


def _forget(*, setting: str, **_: Any) -> None:
    if setting == NAME:
        configuration.cache_clear()


# Tests change settings.
setting_changed.connect(_forget, dispatch_uid="awx_ratelimit")
