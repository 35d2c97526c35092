"""What limiters return before there is an answer: objects that cannot be mistaken for a Decision or a bool.

A coroutine is true in every condition, so ``if limiter.acquire(...)`` without ``await`` would admit every request. The
objects here raise TypeError in a condition.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import describe

_new = object.__new__
_Method = TypeVar("_Method", bound=Callable[..., Coroutine[Any, Any, Any]])
_AnyMethod = TypeVar("_AnyMethod", bound=Callable[..., Any])
_NO_DECISION = "hold(...) is not a decision; write `{} limiter.hold(...) as decision:` and look at `decision.allowed`"
_Release = Callable[[Decision], Any]


class PendingDecision:
    """A coroutine that raises TypeError when it is used as a condition. It works wherever a coroutine works."""

    # `await` finds the coroutine's own `__await__` in this slot and runs no code of this class.
    __slots__ = ("__await__", "_coroutine")
    __await__: Callable[[], Generator[Any, Any, Decision]]
    _coroutine: Any

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __bool__(self) -> bool:
        # From Python 3.12 on, the repr of a task tests its coroutine; in 3.12, asyncio.run needs that repr.
        if sys._getframe(1).f_globals.get("__name__") == "asyncio.base_tasks":  # noqa: SLF001  # no public way
            return True
        raise self.not_awaited_error()

    def not_awaited_error(self) -> TypeError:
        """The error to raise where a decision is needed."""
        if inspect.getcoroutinestate(self._coroutine) == inspect.CORO_CREATED:
            # Prevents Python's warning about a coroutine that was never awaited: the error says the same.
            self._coroutine.close()
        return TypeError(self._message())

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("cr_", "__")):
            # Debuggers and event loops read these.
            return getattr(self._coroutine, name)
        raise AttributeError(self._message())

    def _message(self) -> str:
        method = self._coroutine.__name__
        return f"{method}(...) was not awaited; write `await limiter.{method}(...)`"


Coroutine.register(PendingDecision)


def with_keywords(method: _AnyMethod) -> _AnyMethod:
    """Show the parameters after `_misplaced` as keyword-only. Pass what `_misplaced` gets to `check_keywords`."""
    parameters = [*inspect.signature(method).parameters.values()]
    at = [parameter.name for parameter in parameters].index("_misplaced")
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters[at + 1 :]]
    signature = inspect.signature(method).replace(parameters=[*parameters[:at], *keywords])
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def check_keywords(misplaced: Any) -> None:
    """Raise TypeError for an argument after the cost that is not a keyword argument."""
    if misplaced is not None:
        raise TypeError(
            f"acquire: expected keyword arguments after cost, got {describe(misplaced)}; write scope=... or also=[...]"
        )


def must_be_awaited(method: _Method) -> _Method:
    """Make a coroutine method return a PendingDecision."""

    @wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        pending = _new(PendingDecision)
        pending._coroutine = coroutine = method(*args, **options)  # noqa: SLF001  # created here
        pending.__await__ = coroutine.__await__
        return pending

    return cast(_Method, mark_coroutine_function(call))


def mark_coroutine_function(function: Any) -> Any:
    """Mark a function that returns an awaitable, so that `iscoroutinefunction` is true: mocks and asgiref use it."""
    if hasattr(inspect, "markcoroutinefunction"):
        return inspect.markcoroutinefunction(function)
    # Python 3.11 has only this private mark.
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return function


def check_is_decision(decision: object, call: str) -> None:
    """Raise TypeError unless `decision` is a Decision. `call` is the correct call."""
    if isinstance(decision, PendingDecision):
        raise decision.not_awaited_error()
    if not isinstance(decision, Decision):
        raise TypeError(f"decision: expected what `acquire` returned, got {describe(decision)}; write {call}")


_Acquired = TypeVar("_Acquired", Decision, Awaitable[Decision])


class _BaseHold(Generic[_Acquired]):
    """The common part of Hold and AsyncHold. `_with` is the keyword of their block."""

    __slots__ = ("_acquire", "_decision", "_release")
    _with: ClassVar[str]
    _acquire: Callable[[], _Acquired]

    def __init__(self, acquire: Callable[[], _Acquired], release: _Release) -> None:
        self._acquire = acquire
        self._release = release
        self._decision: Decision | None = None

    def _check_unused(self) -> None:
        if self._decision is not None:
            raise RuntimeError("this hold(...) is already in use; call hold(...) again for a nested block")

    def _release_once(self) -> None:
        decision, self._decision = self._decision, None
        if decision is not None:
            self._release(decision)

    # Frees the slot of a block that is never left, such as one in an ExitStack that nobody closes.
    __del__ = _release_once

    def __bool__(self) -> NoReturn:
        raise TypeError(_NO_DECISION.format(self._with))

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_NO_DECISION.format(self._with))


class Hold(_BaseHold[Decision]):
    """The block of `Limiter.hold`: acquires on entry and releases on exit."""

    __slots__ = ()
    _with = "with"

    def __enter__(self) -> Decision:
        self._check_unused()
        self._decision = decision = self._acquire()
        return decision

    def __exit__(self, *_: object) -> None:
        self._release_once()

    def __aenter__(self) -> NoReturn:
        raise TypeError("Limiter.hold(...) is not asynchronous; write `with limiter.hold(...) as decision:`")

    # Python looks up both methods before it calls the first, which raises the error.
    __aexit__ = __aenter__


class AsyncHold(_BaseHold[Awaitable[Decision]]):
    """The block of `AsyncLimiter.hold`. See Hold."""

    __slots__ = ()
    _with = "async with"

    async def __aenter__(self) -> Decision:
        self._check_unused()
        self._decision = decision = await self._acquire()
        return decision

    async def __aexit__(self, *_: object) -> None:
        self._release_once()

    def __enter__(self) -> NoReturn:
        raise TypeError("AsyncLimiter.hold(...) is asynchronous; write `async with limiter.hold(...) as decision:`")

    __exit__ = __enter__
