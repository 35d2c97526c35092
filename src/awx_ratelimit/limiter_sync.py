"""`Limiter`: decides claims with any backend.

Generated from `limiter.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from awx_ratelimit.backends.base import Backend, Flushes, RenewsLeases, checks_claims
from awx_ratelimit.backends.validation import checked_backend
from awx_ratelimit.core.claim import check_claim, check_subject
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.function_limit import EVERY_CALL, FunctionLimit
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.limited_functions import Function, limited
from awx_ratelimit.limiter import _ONE
from awx_ratelimit.observability.listeners import Listener, ShadowCounts, checked_listeners, notify
from awx_ratelimit.pending_decision import Hold, check_is_decision


class Limiter:
    """Decides claims against plans, from any thread.

    A refusal is a value, not an exception. `listeners` are called with every Decision of `acquire`; the exceptions they
    raise are logged and go no further.

    Raises TypeError for an asynchronous backend.
    """

    def __init__(self, backend: Backend, *, listeners: Iterable[Listener] = ()) -> None:
        self.backend = checked_backend(backend)
        self.listeners = checked_listeners(listeners)
        self._checks = not checks_claims(self.backend)
        #: Counts the refusals of shadow limits, for `health`.
        self.shadow = ShadowCounts()

    def acquire(self, subject: str, plan: Plan, cost: int = 1) -> Decision:
        """Charge `cost` tokens of every rate of `plan` and take a slot, in one atomic step: all of it or nothing.

        Buckets belong to a subject and the name of a limit. Two plans that have a limit of the same name share that
        bucket. For separate limits use another subject, such as ``login:user_1``.

        Call `release` when the work is done; it frees the slot. Raises ValueError unless `cost` is an int of at least
        1, ImpossibleClaim if it is above a burst, TypeError for a subject that is not a non-empty string or a plan
        that is not a Plan, and BackendUnavailable if the backend cannot decide.
        """
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost is not _ONE:
            plan.check(cost)
        decision = self.backend.acquire(subject, plan, cost)
        if plan.shadowed and decision.exceeded:
            self.shadow.count(decision)
        if self.listeners:
            notify(self.listeners, decision, self.backend.release)
        return decision

    def claim(self, subject: str, plan: Plan, cost: int) -> Decision:
        """`acquire` for gates, whose rules may ask for a slot without tokens (`cost=0`)."""
        if self._checks and (subject.__class__ is not str or not subject or plan.__class__ is not Plan):
            check_claim(subject, plan)
        if cost and cost is not _ONE:
            plan.check(cost)
        decision = self.backend.acquire(subject, plan, cost)
        if plan.shadowed and decision.exceeded:
            self.shadow.count(decision)
        if self.listeners:
            notify(self.listeners, decision, self.backend.release)
        return decision

    def peek(self, subject: str, plan: Plan, cost: int = 1) -> Decision:
        """The decision that `acquire` would make now. Charges nothing and takes no slot. Raises as `acquire` does."""
        check_claim(subject, plan)
        plan.check(cost)
        return self.backend.peek(subject, plan, cost)

    def release(self, decision: Decision) -> None:
        """Free the slot of `decision`, if it has one. A second call does nothing.

        It never waits and never raises for a Decision. Raises TypeError for anything else.
        """
        try:
            self.backend.release(decision)
        except (AttributeError, TypeError, ValueError):
            check_is_decision(decision, "release")
            raise

    def give_back(self, decision: Decision) -> None:
        """Synchronous `release`, for finalizers and cancelled requests."""
        self.backend.release(decision)

    def hold(self, subject: str, plan: Plan, cost: int = 1) -> Hold:
        """Acquire for the duration of a `with` block. Check `allowed` inside it. Raises as `acquire` does."""
        return Hold(partial(self.acquire, subject, plan, cost), self.backend.release)

    def limited(
        self,
        plan: str | Rate | Plan,
        *,
        subject: str | Callable[..., str] = EVERY_CALL,
        cost: int | Callable[..., int] = 1,
        scope: str | None = None,
    ) -> Callable[[Function], Function]:
        """Limit a function, in its own buckets: a decorator for functions and generators.

        See FunctionLimit for the arguments. A refused call raises RateLimited and does not run the function. A slot is
        held until the function returns or the generator ends. A generator is limited when its first value is asked
        for. Several limits of one function are decided together: a refused call is charged by none of them.
        """
        return partial(limited, self, FunctionLimit(plan, subject=subject, cost=cost, scope=scope))

    def refund(self, decision: Decision) -> None:
        """Give back the charged tokens, less what has refilled since; once for each decision.

        Use it for work that was not done. A calendar rate gives nothing back after the end of its period. The slot
        stays taken until `release`. A refusal has nothing to refund. Raises TypeError for anything but a Decision, and
        BackendUnavailable.
        """
        check_is_decision(decision, "refund")
        self.backend.refund(decision)

    def reset(self, subject: str) -> None:
        """Clear the debts of `subject`; its leases stay. Raises TypeError as `acquire` does, and BackendUnavailable."""
        check_subject(subject)
        self.backend.reset(subject)

    def renew_leases(self) -> None:
        """Renew every open lease now. Backends whose leases expire also renew them in the background.

        Raises BackendUnavailable.
        """
        if isinstance(self.backend, RenewsLeases):
            self.backend.renew_leases()

    def flush(self) -> None:
        """Send what waits to be sent, such as released slots, in the time that a decision may take. It never raises.

        Call it before you return the response, on platforms that freeze a process between requests. A normal exit
        flushes by itself. The memory and host backends send nothing.
        """
        if isinstance(self.backend, Flushes):
            self.backend.flush()

    def health(self) -> Mapping[str, Any]:
        """The status of the backend: ``state`` (``ok`` or what is wrong), ``backend``, and counters. It never raises.

        ``shadow_refusals`` counts, by plan and limit, the claims in this process that a limit in shadow would have
        refused. The key is absent while there are none.
        """
        return self.shadow.added_to(self.backend.health())

    def close(self) -> None:
        """Release every lease and close the backend. A second call does nothing."""
        self.backend.close()
