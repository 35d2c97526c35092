"""The share of a plan that one process decides by itself while the backend is unavailable.

With W processes, each gets 1/W of every limit, rounded up, so together they exceed a limit by at most one token each.
The burst of a share holds at least the largest claim, or that claim could never be allowed. It never exceeds the burst
of the plan. Clients may choose what a claim costs, so it grows in steps: powers of two up to a 64th of the smallest
burst, and then multiples of that. So a plan has 128 different shares at most. The plan of every budget of a claim has a
share.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeGuard

from awx_ratelimit.core.decision import Decision, joint_decision
from awx_ratelimit.core.joint_claim import JointClaim, cost_by_measure, shape_of
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Plan
from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.core.validation import set_fields
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.clock import WallClock

#: So many equal steps lead to the burst of a plan, after the powers of two. The layouts of shares are never freed.
_STEPS: Final = 64


class Share(Plan):
    """A share of the plan `whole`. It is the plan of a guard's own decisions; `shares` belongs to that guard."""

    __slots__ = ("shares", "whole")
    shares: "Shares"
    whole: Plan


class Shares:
    """The shares of one guard in a process that is one of `workers`. Any thread may use it.

    A share holds the largest claim that the guard has seen under its plan. Least recently added plans are evicted.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._known: OrderedDict[Plan, tuple[Mapping[str, int], Share]] = OrderedDict()

    def of(self, plan: Plan, cost: int) -> Share:
        """The share of `plan`, which holds claims of `cost` tokens and all earlier ones."""
        return self._of(plan, {REQUESTS: cost})

    def of_claim(self, claim: JointClaim) -> JointClaim:
        """`claim` with the shares of its plans."""
        whole = claim.shape
        costs = cost_by_measure(whole.cost)
        plans = tuple(self._of(plan, costs) for plan in whole.plans)
        charges = tuple(charge._replace(plan=self._of(charge.plan, costs)) for charge in whole.charges)
        return claim._replace(shape=shape_of(plans, whole.scopes, whole.cost, charges, whole.shares))

    def _of(self, plan: Plan, costs: Mapping[str, int]) -> Share:
        known = self._known.get(plan)
        if known is not None and all(costs.get(measure, 1) <= largest for measure, largest in known[0].items()):
            return known[1]
        before = known[0] if known else {}
        # By the measures of the plan: a client may name any others.
        costs = {
            measure: max(_in_steps(costs.get(measure, 1), burst), before.get(measure, 1))
            for measure, burst in _bursts(plan).items()
        }
        share = self._new(plan, costs)
        while len(self._known) >= MAX_CACHED_PLANS:
            with suppress(KeyError):  # another thread may remove it at the same time
                self._known.popitem(last=False)
        self._known[plan] = costs, share
        return share

    def owns(self, plan: Plan) -> TypeGuard[Share]:
        """Whether `plan` is a share of this guard."""
        return plan.__class__ is Share and plan.shares is self

    def _new(self, plan: Plan, costs: Mapping[str, int]) -> Share:
        slots = plan.concurrency
        share = Share(
            plan.name,
            tuple(_rate(rate, self._workers, costs[rate.measure]) for rate in plan.rates),
            slots and replace(slots, slots=max(1, slots.slots // self._workers)),
            shadow=plan.shadow,
            is_unlimited=plan.is_unlimited,
        )
        set_fields(share, shares=self, whole=plan)
        return share


class OpenShares(Shares):
    """Allows everything, under whole plans. They are shares, because metrics recognize a guard's decisions by that."""

    def __init__(self) -> None:
        super().__init__(1)

    def allowed(self, subject: str, plan: Plan, cost: int) -> Decision:
        """A decision that charges nothing and takes no slot."""
        share = self.of(plan, cost)
        return Decision(subject, share, cost, WallClock.now_ms(), 0, [0, 0] * len(plan.rates), 0, 0, None, 0)

    def allowed_jointly(self, claim: JointClaim) -> Decision:
        """`allowed` for a JointClaim."""
        claim = self.of_claim(claim)
        states = [(0, [0, 0] * len(charge.plan.rates), 0, 0) for charge in claim.shape.charges]
        return joint_decision(claim, WallClock.now_ms(), states, 0, None)


def _bursts(plan: Plan) -> dict[str, int]:
    """The smallest burst of each measure."""
    bursts: dict[str, int] = {}
    for rate in plan.rates:
        bursts[rate.measure] = min(rate.burst, bursts.get(rate.measure, rate.burst))
    return bursts


def _in_steps(cost: int, burst: int) -> int:
    step, power = -(-burst // _STEPS), 1 << (cost - 1).bit_length()
    return power if power < step else -(-cost // step) * step


def _rate(rate: Rate, workers: int, cost: int) -> Rate:
    burst = min(rate.burst, max(cost, -(-rate.burst // workers)))
    if rate.calendar:
        # The tokens of a calendar rate are its burst.
        return replace(rate, tokens=burst, burst=burst)
    try:
        return replace(rate, period_ms=rate.period_ms * workers, burst=burst)
    except InvalidLimit:
        # The longer period cannot be counted exactly. Divide the tokens instead, rounded up.
        return replace(rate, tokens=-(-rate.tokens // workers), burst=burst)
