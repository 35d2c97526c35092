"""What a backend guarantees: one atomic step for each claim.

Two Protocols of the same verbs, and `NonBlocking`, by which a synchronous backend that waits briefly serves async code.
`release` is an enqueue in both: it is called from cancelled tasks, from finalizers and from signal handlers, so
it must neither wait nor raise nor take a lock that its own thread could be holding.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plans import Plan

#: What a subject owes of each rate of a plan, in the rates' units, and when each of its open leases was granted.
Owed: TypeAlias = tuple[str, Plan, Sequence[int], Sequence[int]]


#: The longest wait of a synchronous backend that an AsyncLimiter accepts: an event loop stands still for so long.
MOST_LOOP_WAIT_MS: Final = 50


class Clock(Protocol):
    """Milliseconds since the Unix epoch. It may step either way; the laws say what happens then."""

    def now_ms(self) -> int:
        """The time now."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Decides claims, from any thread. The Limiter has validated what it hands down.

    A backend that an AsyncLimiter may call in its event loop says ``longest_wait_ms: ClassVar[int]``: the longest time
    in milliseconds for which any of its verbs waits, at most `MOST_LOOP_WAIT_MS`. Without it a backend may wait for a
    network.
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

    async def health(self) -> Mapping[str, Any]:
        """See Backend."""
        return self.backend.health()

    async def close(self) -> None:
        """See Backend."""
        self.backend.close()


def _is_async(backend: object) -> TypeGuard[AsyncBackend]:
    return inspect.iscoroutinefunction(getattr(backend, "acquire", None))


def fits_event_loop(backend: object) -> bool:
    """Whether an event loop may call `backend`: it says that it waits for at most `MOST_LOOP_WAIT_MS`.

    ``never_waits``, the name before, is accepted too: True says ``longest_wait_ms = 0``, and False that it may wait.
    """
    never_waits = getattr(backend, "never_waits", None)
    if never_waits is not None:
        return bool(never_waits)
    longest_wait_ms = getattr(backend, "longest_wait_ms", None)
    return longest_wait_ms is not None and longest_wait_ms <= MOST_LOOP_WAIT_MS


def usable_backend(backend: Any) -> Backend:
    """`backend`, where Limiter can call it. Raises TypeError that says what to use instead."""
    if _is_async(backend) or not isinstance(backend, Backend):
        raise TypeError(f"Limiter takes a synchronous backend; {type(backend).__name__} is none: see AsyncLimiter")
    _tell(backend)
    return backend


def usable_async_backend(backend: Any) -> AsyncBackend:
    """`backend`, where AsyncLimiter can await it. Raises TypeError for one that would block the event loop."""
    if _is_async(backend):
        return backend
    if isinstance(backend, Backend) and fits_event_loop(backend):
        _tell(backend)
        return cast(AsyncBackend, NonBlocking(backend))
    raise TypeError(
        f"AsyncLimiter takes an async backend, or one whose longest_wait_ms is at most {MOST_LOOP_WAIT_MS}; "
        f"{type(backend).__name__} would block its loop"
    )


def _tell(backend: Backend) -> None:
    """Tell a backend that wants to know it that it decides for a limiter."""
    decides = getattr(backend, "decides", None)
    if decides is not None:
        decides()
