"""What a backend guarantees: every claim is decided in one atomic step.

`Backend` and `AsyncBackend` have the same methods. A backend can have more abilities: each is a Protocol here, and the
library looks for it with `isinstance`.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import JointClaim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import ActualCost
from awx_ratelimit.errors import BackendUnavailable

#: The usage of one record that was decided without the backend: the record, the plan, the debt for each rate in the
#: rates' units, and the times at which its open leases were granted.
LocalUsage: TypeAlias = tuple[Record, Plan, Sequence[int], Sequence[int]]


#: AsyncLimiter calls a synchronous backend in its event loop if that backend never waits longer than this.
MAX_EVENT_LOOP_WAIT_MS: Final = 50


@runtime_checkable
class Backend(Protocol):
    """Decides claims, from any thread.

    `release` may be called from cancelled tasks, finalizers and signal handlers. So it must not wait, raise, or take a
    lock that its own thread could hold.
    """

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        """Decide and charge in one step: every limit or none. Raises BackendUnavailable if it cannot decide."""

    def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        """The decision that `acquire` would make now. Charges nothing and takes no lease. Raises BackendUnavailable."""

    def release(self, decision: Decision) -> None:
        """Free the slot before the subject's next decision. A second call does nothing. Never waits, never raises."""

    def acquire_joint(self, claim: JointClaim) -> Decision:
        """`acquire` for a JointClaim: every limit of every budget, or none."""

    def peek_joint(self, claim: JointClaim) -> Decision:
        """`peek` for a JointClaim."""

    def refund(self, decision: Decision) -> bool:
        """Settle at a cost of 0. Returns and raises as `settle` does."""

    def settle(self, decision: Decision, actual: ActualCost) -> bool:
        """Charge what `decision` cost more, or give back what it cost less and has not refilled yet.

        The first call of `settle` or `refund` for a decision counts. Returns whether this one does: False for a later
        one, and for a decision that this backend has not allowed. Raises BackendUnavailable; then call it again: the
        decision is settled once.
        """

    def reset(self, subject: str, scope: str | None = None) -> bool:
        """Clear the debts of `subject` in `scope`, or in every scope; its leases stay. Raises BackendUnavailable.

        Returns whether a debt was left: False for a subject that this backend does not know, that has refilled, or
        that only has leases. A backend that cannot know when a calendar period ended, such as one that counts
        on a server, may return True for a debt of it as long as it keeps that.
        """

    def health(self) -> Mapping[str, Any]:
        """The status: ``state`` (``ok`` or what is wrong), ``backend``, and counters."""

    def close(self) -> None:
        """Close everything that this backend has opened. A second call does nothing."""


class AsyncBackend(Protocol):
    """Backend for the tasks of one event loop, with the same promises.

    If `acquire` is cancelled, what it was granted is given back.
    """

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision: ...

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision: ...

    def release(self, decision: Decision) -> None:
        """Synchronous, so that a cancellation cannot interrupt it."""

    async def acquire_joint(self, claim: JointClaim) -> Decision: ...

    async def peek_joint(self, claim: JointClaim) -> Decision: ...

    async def refund(self, decision: Decision) -> bool: ...

    async def settle(self, decision: Decision, actual: ActualCost) -> bool: ...

    async def reset(self, subject: str, scope: str | None = None) -> bool: ...

    async def health(self) -> Mapping[str, Any]: ...

    async def close(self) -> None: ...


@runtime_checkable
class BoundsWaits(Protocol):
    """No method of this backend waits longer than `longest_wait_ms`. Without this it may wait for a network."""

    longest_wait_ms: int


@runtime_checkable
class ChecksClaims(Protocol):
    """If `checks_claims` is True, the backend raises TypeError or ValueError for malformed claims itself."""

    checks_claims: bool


@runtime_checkable
class RenewsLeases(Protocol):
    """The leases of this backend expire. It renews them in the background; `renew_leases` renews them now."""

    def renew_leases(self) -> Any:
        """Renew every open lease; awaitable in an AsyncBackend. Raises BackendUnavailable."""


@runtime_checkable
class Flushes(Protocol):
    """This backend sends in the background; `flush` sends what waits now."""

    def flush(self) -> Any:
        """Send what waits, in the time that a decision may take; awaitable in an AsyncBackend. Never raises."""


@runtime_checkable
class HasServers(Protocol):
    """The records of this backend are spread over servers that can fail separately."""

    def home(self, record: Record) -> object:
        """The server of `record`, as a hashable value."""


@runtime_checkable
class TakesLocalUsage(Protocol):
    """This backend can charge what was decided without it during an outage."""

    def heal(self, owed: Sequence[LocalUsage], heal_id: bytes) -> Any:
        """Charge `owed`, at most once for each `heal_id`. Returns a Decision for each; raises BackendUnavailable."""


@runtime_checkable
class SettlesLate(Protocol):
    """An asynchronous backend that a thread can settle decisions in, after an outage."""

    def settle_late(self, decision: Decision, actual: ActualCost) -> object:
        """`settle` that may wait. A decision is settled once, even if a `settle` before it raised. See Backend."""


@runtime_checkable
class SettlesSoon(Protocol):
    """This backend can settle with its next call, so that nobody waits for a settlement."""

    def settle_soon(
        self, decision: Decision, actual: ActualCost, failed: Callable[[BackendUnavailable], None]
    ) -> bool | None:
        """`settle` that neither waits nor raises. None: not done, use `settle`.

        If the backend may not have it in the end, `failed` gets the reason, from any thread; then settle again. It must
        not raise.
        """


@runtime_checkable
class KnowsSettled(Protocol):
    """This backend knows without a call whether a decision can be settled."""

    def can_settle(self, decision: Decision) -> bool:
        """Whether this process has allowed `decision`, and has not settled it. It never waits or raises."""


@runtime_checkable
class WarnsOnUse(Protocol):
    """This backend wants to know that a limiter uses it, so that it can warn about its deployment."""

    def used_by_limiter(self) -> None:
        """Called by a limiter when it gets this backend."""


#: The methods of backends that are not as often called as `acquire`, `peek` and `release`.
OTHER_VERBS: Final = (
    "acquire_joint", "peek_joint", "refund", "settle", "reset", "health", "close", "renew_leases", "flush",
)  # fmt: skip


class NonBlocking:
    """An AsyncBackend that calls a synchronous backend in the event loop. See `fits_event_loop`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.release = backend.release
        self.settle_late = backend.settle
        self.checks_claims = checks_claims(backend)
        for name in OTHER_VERBS:
            if hasattr(backend, name) and not hasattr(NonBlocking, name):
                setattr(self, name, _awaitable(getattr(backend, name)))

    async def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        # Written out, because `*args` would cost every decision 100 ns, and after such a call a signal handler can take
        # the decision away.
        return self.backend.acquire(subject, plan, cost)

    async def acquire_joint(self, claim: JointClaim) -> Decision:
        return self.backend.acquire_joint(claim)

    async def peek(self, subject: str, plan: Plan, cost: int) -> Decision:
        return self.backend.peek(subject, plan, cost)


def _awaitable(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any) -> Any:
        return method(*args)

    return call


def fits_event_loop(backend: object) -> bool:
    """Whether `backend` bounds its waits to `MAX_EVENT_LOOP_WAIT_MS`."""
    return isinstance(backend, BoundsWaits) and backend.longest_wait_ms <= MAX_EVENT_LOOP_WAIT_MS


def checks_claims(backend: object) -> bool:
    """Whether `backend` checks claims itself."""
    return isinstance(backend, ChecksClaims) and backend.checks_claims


class Finding(NamedTuple):
    """One thing that limits depend on, as the examination of a server or a file has found it."""

    what: str
    mark: Literal["ok", "warning", "wrong"]
    said: str
    #: What to do; empty if there is nothing to do.
    remedy: str = ""

    @classmethod
    def of_error(cls, what: str, error: Exception, remedy: str = "") -> "Finding":
        """What an error says, before a semicolon, and what to do, after it; `remedy` if the error has none."""
        said, _, advice = str(error).partition("; ")
        return cls(what, "wrong", said, advice or remedy)
