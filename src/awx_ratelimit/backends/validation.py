"""Checks of the backends and clocks that users pass. Errors never show a URL, which may contain a password."""

import inspect
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final, TypeGuard, cast

from awx_ratelimit.backends.base import (
    MAX_EVENT_LOOP_WAIT_MS,
    AsyncBackend,
    Backend,
    NonBlocking,
    WarnsOnUse,
    fits_event_loop,
)
from awx_ratelimit.backends.schemes import url_of_file
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.validation import describe, exact_ms, type_name
from awx_ratelimit.runtime.clock import Clock, WallClock

_METHODS: Final = [name for name in vars(Backend) if not name.startswith("_")]


def checked_backend(backend: Any, user: str = "Limiter") -> Backend:
    """Return `backend` if the class named `user` can call it. Raises TypeError that says what to use instead."""
    if _is_async(backend):
        got = f"{_class_name(backend)}, which is async"
        raise TypeError(f"backend: expected a synchronous backend, got {got}; write Async{user}(backend)")
    _check_instance(backend, user, "open_backend")
    _check_methods(backend)
    if not isinstance(backend, Backend):
        raise _wrong_backend(backend, user, "MemoryBackend()")
    _announce_use(backend)
    return backend


def checked_async_backend(backend: Any, user: str = "AsyncLimiter") -> AsyncBackend:
    """Return an async form of `backend`. Raises TypeError for a backend that would block the event loop."""
    _check_instance(backend, user, "open_async_backend")
    _check_methods(backend)
    if _is_async(backend):
        return backend
    if isinstance(backend, Backend) and fits_event_loop(backend):
        _announce_use(backend)
        return cast(AsyncBackend, NonBlocking(backend))
    raise TypeError(
        f"backend: expected an async backend, or one whose longest_wait_ms is at most {MAX_EVENT_LOOP_WAIT_MS}, got "
        f"{_class_name(backend)}, which would block the event loop; write {user}(open_async_backend(url))"
    )


def checked_clock(clock: Any) -> Clock:
    """Return `clock` if it has a method `now_ms`; else raise TypeError."""
    if isinstance(clock, type) or not callable(getattr(clock, "now_ms", None)):
        raise TypeError(f"clock: expected an object with now_ms() -> int, got {type_name(clock)}; write ManualClock()")
    return cast(Clock, clock)


def check_joint_claim(claim: object) -> None:
    """Raise TypeError unless `claim` is a JointClaim."""
    if claim.__class__ is not JointClaim:
        raise TypeError(f"claim: expected a JointClaim, got {describe(claim)}; write joint_claim(budgets, cost)")


def now_ms_of(clock: Clock) -> Callable[[], int]:
    """The `now_ms` of a clock. It raises TypeError if a user's clock returns something else than an int."""
    return clock.now_ms if type(clock) is WallClock else lambda: exact_ms(clock.now_ms())


def _is_async(backend: object) -> TypeGuard[AsyncBackend]:
    return inspect.iscoroutinefunction(getattr(backend, "acquire", None))


def _class_name(backend: Any) -> str:
    return backend.__name__ if isinstance(backend, type) else type(backend).__name__


def _check_instance(backend: Any, user: str, opener: str) -> None:
    """Raise TypeError for a class, a URL, a path and a limiter."""
    if isinstance(backend, type):
        name = backend.__name__
        call = f"{name}.from_url(url)" if hasattr(backend, "from_url") else f"{name}({_required_arguments(backend)})"
        raise _wrong_backend(backend, user, call)
    if isinstance(backend, str | PurePath):
        url = repr(url_of_file(backend)) if isinstance(backend, PurePath) else "url"
        raise _wrong_backend(backend, user, f"{opener}({url})")
    if hasattr(backend, "give_back"):
        # Limiters have this method and all methods of a backend.
        raise _wrong_backend(backend, user, "MemoryBackend()")


def _check_methods(backend: Any) -> None:
    """Raise TypeError for a backend that has some methods of one and not all, such as one for an earlier version."""
    missing = [name for name in _METHODS if not callable(getattr(backend, name, None))]
    if missing and hasattr(backend, "acquire"):
        raise TypeError(
            f"backend: expected the methods of a Backend, got {type_name(backend)} without {', '.join(missing)}; "
            "write them too, and test it with BackendContract"
        )


def _wrong_backend(backend: object, user: str, argument: str) -> TypeError:
    return TypeError(f"backend: expected a backend, got {type_name(backend)}; write {user}({argument})")


def _required_arguments(backend: type) -> str:
    parameters = inspect.signature(backend).parameters.values()
    return ", ".join(
        one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    )


def _announce_use(backend: Backend) -> None:
    if isinstance(backend, WarnsOnUse):
        backend.used_by_limiter()
