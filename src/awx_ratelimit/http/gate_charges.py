"""The part of a gate that charges several budgets together, and corrects charges when requests have ended."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from awx_ratelimit.backends.base import SettlesSoon
from awx_ratelimit.core.budget import ScopedSubject
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost, checked_cost, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.settlement import NOTHING, ActualCost
from awx_ratelimit.errors import BackendUnavailable, ImpossibleClaim
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import Admission, AnyRule, Policy
from awx_ratelimit.http.request_claims import route_claim
from awx_ratelimit.http.route_limit import BoundLimit
from awx_ratelimit.http.settling import actual_cost, depends_on_status
from awx_ratelimit.limiter import AsyncLimiter


class AsyncCharges:
    """Charges and corrects, at a gate's limiter."""

    _limiter: AsyncLimiter
    _policy: Policy

    async def _decide_jointly(
        self, request: Request, rule: AnyRule, caller: Caller, plan: Plan, cost: Cost
    ) -> Decision:
        """Decide all budgets of a request together. If its rule says so, the request may wait for room."""
        policy = self._policy
        claim = policy.claims.claim(request[:2], request, caller, plan, policy.shared.service, rule.price, cost)
        return await self._limiter.claim_jointly(claim, rule.wait_ms, rule.queues)

    async def _charge_route(
        self, request: Request, record: ScopedSubject, limit: BoundLimit, cost: Cost, *, is_settled: bool
    ) -> Admission:
        """Decide a route's own limit, in the buckets of `record`."""
        decision: Decision | None = None
        try:
            claim = route_claim(record, limit, cost, is_settled=is_settled)
            decision = await self._limiter.claim_jointly(claim, limit.wait_ms, limit.queues)
            if decision.allowed:
                return Admission(None, self._policy.headers(decision), decision)
            return self._policy.denied(request, decision)
        except (ImpossibleClaim, BackendUnavailable) as error:
            return self._policy.undecided(request, [(limit.scope, limit.plan)], cost, record.subject, error)
        except BaseException:
            self.drop(decision)
            raise

    def drop(self, decision: Any) -> None:
        """Free the slot of a decision that nobody gets, because a signal handler has raised.

        Does nothing if `decision` is not one yet.
        """
        if isinstance(decision, Decision):
            self._limiter.give_back(decision)

    async def give_back(self, decision: Decision, refusal: Decision | None) -> None:
        """Refund a decision whose request a route's own limit has refused, by `refusal`. It never raises."""
        if refusal is not None:
            self._limiter.observers.report("overruled", decision, refusal)
        nothing = dict.fromkeys(cost_by_measure(decision.cost), 0)
        if self._settle_soon(decision, NOTHING, nothing, partial(self._policy.not_refunded, decision)):
            return
        try:
            await self._limiter.refund(decision)
        except BackendUnavailable as error:
            self._policy.not_refunded(decision, error)

    async def settle(self, decision: Decision, status: int | None, noted: Mapping[str, int]) -> None:
        """Correct the charge of a request that has ended with `status` (None: unknown). It never raises.

        `noted` is what the request has cost, as the application says, by measure.
        """
        cost = actual_cost(decision, status, noted)
        actual = cost_by_measure(checked_cost(cost))
        # A claim that a limit of the route might have refused costs what it was charged: nobody has corrected it.
        reported = cost if noted or depends_on_status(decision) else None
        if self._settle_soon(decision, actual, reported, partial(self._policy.not_settled, decision)):
            return
        try:
            if await self._limiter.backend.settle(decision, actual):
                self._report_settled(decision, reported)
        except BackendUnavailable as error:
            self._policy.not_settled(decision, error)

    def _settle_soon(
        self, decision: Decision, actual: ActualCost, cost: Cost | None, failed: Callable[[BackendUnavailable], None]
    ) -> bool:
        """Settle with a later call of the backend, so that no response waits. Whether that is possible."""
        backend = self._limiter.backend
        counts = backend.settle_soon(decision, actual, failed) if isinstance(backend, SettlesSoon) else None
        if counts:
            self._report_settled(decision, cost)
        return counts is not None

    def _report_settled(self, decision: Decision, cost: Cost | None) -> None:
        """Report that `decision` turned out to cost `cost`; None if that was no news."""
        if cost is not None:
            self._limiter.observers.report("settled", decision, cost)

    def expect_route_limit(self, request: Request, limit: BoundLimit | None) -> None:
        """From now on, the claims of such requests can be given back exactly: their route may refuse them.

        `limit` is the route's, if this gate decides it.
        """
        if self._policy.claims.expect_route_limit(request, limit) and limit is not None:
            self._policy.shared_buckets.warn(limit, lambda: self._policy.matching_rules(request))
