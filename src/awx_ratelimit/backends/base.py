"""What a backend guarantees: one atomic step for each claim.

Two Protocols of the same verbs, and `NonBlocking`, by which a synchronous backend that waits briefly serves async code.
`release` is an enqueue in both: it is called from cancelled tasks, from finalizers and from signal handlers, so
it must neither wait nor raise nor take a lock that its own thread could be holding.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.runtime.clock import Clock

#: What a subject owes of each rate of a plan, in the rates' units, and when each of its open leases was granted.
LocalUsage: TypeAlias = tuple[str, Plan, Sequence[int], Sequence[int]]


#: The longest wait of a synchronous backend that an AsyncLimiter accepts: an event loop stands still for so long.
MAX_EVENT_LOOP_WAIT_MS: Final = 50


@runtime_checkable
class Backend(Protocol):
    """Decides claims, from any thread. The Limiter has validated what it hands down.

    A backend that an AsyncLimiter may call in its event loop says ``longest_wait_ms: ClassVar[int]``: the longest time
    in milliseconds for which any of its verbs waits, at most `MAX_EVENT_LOOP_WAIT_MS`. Without it a backend may wait
    for a network. With ``checks_claims = True`` it raises TypeError or ValueError for malformed claims itself, which
    then are not checked twice.
    """

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """Decide and charge in one step: every limit or none. Raises BackendUnavailable where there is no decision."""
        ...

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """What `acquire` would decide now, with nothing charged and no lease taken. Raises BackendUnavailable."""
        ...

    def release(self, decision: Decision) -> None:
        """Free the slot before the subject's next decision. Harmless twice; it never waits and never raises."""
        ...

    def refund(self, decision: Decision) -> None:
        """Give back what the decision charged and time has not given back yet; once. Raises BackendUnavailable."""
        ...

    def reset(self, subject: str) -> None:
        """Forget the debts of `subject`, never its live leases. Raises BackendUnavailable."""
        ...

    def health(self) -> Mapping[str, Any]:
        """How it is, for a status page: ``state`` (``ok`` or what is wrong), ``backend``, and what it counts."""
        ...

    def close(self) -> None:
        """Let go of what was opened. Harmless twice."""
        ...


class AsyncBackend(Protocol):
    """The same guarantees, for the tasks of one event loop. What a cancelled `acquire` was granted is given back."""

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        ...

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        ...

    def release(self, decision: Decision) -> None:
        """See Backend: an enqueue, so that no cancellation can split it."""
        ...

    async def refund(self, decision: Decision) -> None:
        """See Backend."""
        ...

    async def reset(self, subject: str) -> None:
        """See Backend."""
        ...

    async def health(self) -> Mapping[str, Any]:
        """See Backend."""
        ...

    async def close(self) -> None:
        """See Backend."""
        ...


class NonBlocking:
    """An AsyncBackend around a Backend that an event loop may call: see `fits_event_loop`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.release = backend.release
        self.checks_claims = checks_claims(backend)

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        return self.backend.acquire(subject, plan, cost)

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """See Backend."""
        return self.backend.peek(subject, plan, cost)

    async def refund(self, decision: Decision) -> None:
        """See Backend."""
        self.backend.refund(decision)

    async def reset(self, subject: str) -> None:
        """See Backend."""
        self.backend.reset(subject)

    async def renew_leases(self) -> None:
        """Where leases lapse, renew those that are open."""
        renew = getattr(self.backend, "renew_leases", None)
        if renew is not None:
            renew()

    async def flush(self) -> None:
        """Send what waits, where something does."""
        flush = getattr(self.backend, "flush", None)
        if flush is not None:
            flush()

    async def health(self) -> Mapping[str, Any]:
        """See Backend."""
        return self.backend.health()

    async def close(self) -> None:
        """See Backend."""
        self.backend.close()


def _is_async(backend: object) -> TypeGuard[AsyncBackend]:
    return inspect.iscoroutinefunction(getattr(backend, "acquire", None))


def fits_event_loop(backend: object) -> bool:
    """Whether an event loop may call `backend`: it says that it waits for at most `MAX_EVENT_LOOP_WAIT_MS`.

    ``never_waits``, the name before, is accepted too: True says ``longest_wait_ms = 0``, and False that it may wait.
    """
    never_waits = getattr(backend, "never_waits", None)
    if never_waits is not None:
        return bool(never_waits)
    longest_wait_ms = getattr(backend, "longest_wait_ms", None)
    return longest_wait_ms is not None and longest_wait_ms <= MAX_EVENT_LOOP_WAIT_MS


def checks_claims(backend: object) -> bool:
    """Whether `backend` checks claims itself."""
    return bool(getattr(backend, "checks_claims", False))


def checked_backend(backend: Any, user: str = "Limiter") -> Backend:
    """`backend`, if `user` can call it. Raises TypeError that says what to use instead."""
    if _is_async(backend):
        raise TypeError(f"{user} takes a synchronous backend; {_name(backend)} is none: use Async{user}")
    _check_made(backend, user, "open_backend")
    if not isinstance(backend, Backend):
        raise TypeError(f"{user} takes a backend, not {type_name(backend)}; write {user}(MemoryBackend())")
    _tell(backend)
    return backend


def checked_async_backend(backend: Any, user: str = "AsyncLimiter") -> AsyncBackend:
    """`backend`, if `user` can await it. Raises TypeError for one that would block the event loop."""
    _check_made(backend, user, "open_async_backend")
    if _is_async(backend):
        return backend
    if isinstance(backend, Backend) and fits_event_loop(backend):
        _tell(backend)
        return cast(AsyncBackend, NonBlocking(backend))
    raise TypeError(
        f"{user} takes an async backend, or one whose longest_wait_ms is at most {MAX_EVENT_LOOP_WAIT_MS}; "
        f"{_name(backend)} would block its loop; use open_async_backend(url), or a class such as AsyncRedisBackend"
    )


def _name(backend: Any) -> str:
    return backend.__name__ if isinstance(backend, type) else type(backend).__name__


def _check_made(backend: Any, user: str, opening: str) -> None:
    """Raise TypeError for a class, and for the URL or the path of a backend, which may hold a password."""
    if isinstance(backend, type):
        name = backend.__name__
        made = f"{name}.from_url(url)" if hasattr(backend, "from_url") else f"{name}({_needed_by(backend)})"
        raise TypeError(f"backend is {type_name(backend)}; write {user}({made})")
    if isinstance(backend, str | PurePath):
        raise TypeError(f"backend is {type_name(backend)}; write {user}({opening}(url))")
    if hasattr(backend, "give_back"):
        # A limiter has all the verbs of a backend.
        raise TypeError(f"{user} takes a backend, not {type_name(backend)}; write {user}(MemoryBackend())")


def _needed_by(backend: type) -> str:
    """The names of the arguments that `backend` cannot be made without."""
    parameters = inspect.signature(backend).parameters.values()
    return ", ".join(
        one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    )


def checked_clock(clock: Any) -> Clock:
    """`clock`, if it has the time; else TypeError."""
    if isinstance(clock, type) or not callable(getattr(clock, "now_ms", None)):
        raise TypeError(f"clock is {type_name(clock)}; use an object with now_ms() -> int, such as ManualClock()")
    return cast(Clock, clock)


def _tell(backend: Backend) -> None:
    """Tell a backend that wants to know it that it decides for a limiter."""
    decides = getattr(backend, "decides", None)
    if decides is not None:
        decides()
