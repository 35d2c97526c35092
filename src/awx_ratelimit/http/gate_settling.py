"""The part of a gate that corrects the charges of requests, when they have ended or a route has refused them."""

from collections.abc import Mapping

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.errors import BackendUnavailable
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import Policy
from awx_ratelimit.http.settling import actual_cost
from awx_ratelimit.limiter import AsyncLimiter


class AsyncSettling:
    """Corrects charges, at a gate's limiter."""

    _limiter: AsyncLimiter
    _policy: Policy

    async def give_back(self, decision: Decision) -> None:
        """Refund a decision whose request a route's own limit has refused. It never raises."""
        try:
            await self._limiter.refund(decision)
        except BackendUnavailable as error:
            self._policy.not_refunded(decision, error)

    async def settle(self, decision: Decision, status: int | None, noted: Mapping[str, int]) -> None:
        """Correct the charge of a request that has ended with `status` (None: unknown). It never raises.

        `noted` is what the request has cost, as the application says, by measure.
        """
        try:
            await self._limiter.settle(decision, actual_cost(decision, status, noted))
        except BackendUnavailable as error:
            self._policy.not_settled(decision, error)

    def expect_route_limit(self, request: Request) -> None:
        """From now on, the claims of such requests can be given back exactly: their route may refuse them."""
        self._policy.claims.expect_route_limit(request)
