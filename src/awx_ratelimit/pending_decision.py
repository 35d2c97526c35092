"""What the verbs of a limiter return before there is a decision. It cannot be mistaken for the decision.

A coroutine is true in every condition, so ``if limiter.acquire(...)`` without ``await`` would admit everybody. The
objects here raise TypeError in a condition.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import describe

_new = object.__new__
_Verb = TypeVar("_Verb", bound=Callable[..., Coroutine[Any, Any, Decision]])
_NO_DECISION = "hold(...) is not a decision; write `{} limiter.hold(...) as decision:` and look at `decision.allowed`"
_Release = Callable[[Decision], Any]


class PendingDecision:
    """A coroutine that refuses to be a condition. Whatever takes a coroutine takes it."""

    # A slot for the coroutine's own `__await__`: an `await` then runs no code of this class.
    __slots__ = ("__await__", "_coroutine")
    __await__: Callable[[], Generator[Any, Any, Decision]]
    _coroutine: Any

    def send(self, value: Any) -> Any:
        """See Coroutine."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """See Coroutine."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """See Coroutine."""
        self._coroutine.close()

    def __bool__(self) -> NoReturn:
        raise self.refused()

    def refused(self) -> TypeError:
        """The error of something that needs the decision."""
        if inspect.getcoroutinestate(self._coroutine) == inspect.CORO_CREATED:
            # The error below says that it was not awaited; Python need not warn of it as well.
            self._coroutine.close()
        return TypeError(self._not_awaited())

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("cr_", "__")):
            # What debuggers and event loops look at.
            return getattr(self._coroutine, name)
        raise AttributeError(self._not_awaited())

    def _not_awaited(self) -> str:
        verb = self._coroutine.__name__
        return f"{verb}(...) was not awaited; write `await limiter.{verb}(...)`"


Coroutine.register(PendingDecision)


def must_be_awaited(verb: _Verb) -> _Verb:
    """`verb`, whose coroutine refuses to be a condition."""

    @wraps(verb)
    def call(self: Any, subject: Any, plan: Any, cost: Any = 1) -> Any:
        undecided = _new(PendingDecision)
        undecided._coroutine = coroutine = verb(self, subject, plan, cost)  # noqa: SLF001  # it is made here
        undecided.__await__ = coroutine.__await__
        return undecided

    return cast(_Verb, mark_coroutine_function(call))


def mark_coroutine_function(function: Any) -> Any:
    """`function`, which returns an awaitable, marked for `iscoroutinefunction`: mocks and asgiref ask it."""
    if hasattr(inspect, "markcoroutinefunction"):
        return inspect.markcoroutinefunction(function)
    # Before Python 3.12 this is the only mark there is.
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return function


def check_is_decision(decision: object, verb: str) -> None:
    """Raise TypeError unless `decision` is a Decision."""
    if isinstance(decision, PendingDecision):
        raise decision.refused()
    if not isinstance(decision, Decision):
        raise TypeError(f"decision is {describe(decision)}; pass what `acquire` returned: {verb}(decision)")


_Acquired = TypeVar("_Acquired", Decision, Awaitable[Decision])


class _Block(Generic[_Acquired]):
    """What both kinds of `hold` share. `_with` is how the block is entered."""

    __slots__ = ("_acquire", "_decision", "_release")
    _with: ClassVar[str]
    _acquire: Callable[[], _Acquired]

    def __init__(self, acquire: Callable[[], _Acquired], release: _Release) -> None:
        self._acquire = acquire
        self._release = release
        self._decision: Decision | None = None

    def _check_unused(self) -> None:
        if self._decision is not None:
            raise RuntimeError("this hold(...) is in use; call hold(...) once more for a block inside it")

    def _give_back(self) -> None:
        decision, self._decision = self._decision, None
        if decision is not None:
            self._release(decision)

    # A block that is never left, such as one in an ExitStack that nobody closes.
    __del__ = _give_back

    def __bool__(self) -> NoReturn:
        raise TypeError(_NO_DECISION.format(self._with))

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_NO_DECISION.format(self._with))


class Hold(_Block[Decision]):
    """The block of `Limiter.hold`: it acquires when it is entered and gives the slot back when it is left."""

    __slots__ = ()
    _with = "with"

    def __enter__(self) -> Decision:
        self._check_unused()
        self._decision = decision = self._acquire()
        return decision

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def __aenter__(self) -> NoReturn:
        raise TypeError("Limiter.hold(...) is not asynchronous; write `with limiter.hold(...) as decision:`")

    def __aexit__(self, *_: object) -> NoReturn:
        """Needed for the sentence of `__aenter__`: Python looks at both first."""
        raise NotImplementedError


class AsyncHold(_Block[Awaitable[Decision]]):
    """The block of `AsyncLimiter.hold`. See Hold."""

    __slots__ = ()
    _with = "async with"

    async def __aenter__(self) -> Decision:
        self._check_unused()
        self._decision = decision = await self._acquire()
        return decision

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def __enter__(self) -> NoReturn:
        raise TypeError("AsyncLimiter.hold(...) is asynchronous; write `async with limiter.hold(...) as decision:`")

    def __exit__(self, *_: object) -> NoReturn:
        """Needed for the sentence of `__enter__`: Python looks at both first."""
        raise NotImplementedError
