"""`JointClaim`: a claim of several budgets, of a scope, of several measures, or whose cost is settled afterwards."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from awx_ratelimit.core.budget import Budget, Record, scoped_name, subject_of
from awx_ratelimit.core.claim import check_claim
from awx_ratelimit.core.plan import MAX_CACHED_PLANS, Pair, Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.core.rate import CONCURRENT, EXACT_MAX, REQUESTS
from awx_ratelimit.core.state_layout import Layout
from awx_ratelimit.core.validation import check_bool, describe, exact_int, short_repr

#: Tokens of every rate that counts requests, or tokens by measure.
Cost: TypeAlias = int | Mapping[str, int]
#: The tokens that each rate of a plan is charged; None for a rate that the cost does not name.
Costs: TypeAlias = tuple[int | None, ...]
#: The most budgets of a claim, with any backend.
MAX_BUDGETS: Final = 32
#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__


class Charge(NamedTuple):
    """What a claim asks of one record: `costs` of its rates. None: `cost` tokens of each rate that counts requests."""

    plan: Plan
    cost: int
    costs: Costs | None

    def tokens(self, number: int) -> int:
        """The tokens of the rate with this number; 0 if it is not charged."""
        if self.costs is not None:
            return self.costs[number] or 0
        return self.cost if self.plan.rates[number].measure == REQUESTS else 0


#: The plan, its layout, the cost, its pair for that cost, the number of slots, and whether there are any.
PlainCharge: TypeAlias = tuple[Plan, Layout, int, Pair | None, int, int]


class Share(NamedTuple):
    """The part of a record that belongs to one budget: the record's number, and the numbers of the budget's rates."""

    record: int
    rates: range


class Shape(NamedTuple):
    """All of a claim but its subjects. Claims of the same plans, scopes and cost share it.

    `charges` has one for each record, `plans`, `scopes` and `shares` one for each budget.
    """

    plans: tuple[Plan, ...]
    scopes: tuple[str | None, ...]
    cost: Cost
    charges: tuple[Charge, ...]
    shares: tuple[Share, ...]
    has_slots: bool
    #: The rest is for fast paths; the defaults are always right, and slow.
    has_shadow: bool = True
    #: Whether the budgets of a claim of this shape cannot share a record, because no two have the same scope.
    are_separate: bool = False
    #: For each record, if the cost is a plain one and no slot has a bound. See "Several budgets" in docs/hot-path.md.
    plain_charges: tuple[PlainCharge, ...] | None = None


class JointClaim(NamedTuple):
    """All budgets ask for a cost together. `records` has each once. A `declared` one may cost less: see OpenClaims."""

    records: tuple[Record, ...]
    shape: Shape
    declared: bool

    @property
    def budgets(self) -> list[Budget]:
        """The budgets of the claim."""
        shape = self.shape
        parts = zip(shape.plans, shape.scopes, shape.shares, strict=True)
        return [Budget(subject_of(self.records[share.record]), plan, scope) for plan, scope, share in parts]


#: By the cost, the first plan and the kinds of the other budgets. An entry keeps the plan, so its id is not used again.
_shapes: CostCache[Shape] = CostCache()
_kind = attrgetter("kind")
_record = attrgetter("record")


def acquired_jointly(subject: Any, plan: Any, cost: Any, scope: Any, also: Any, settle: Any = False) -> JointClaim:
    """The claim of these arguments of `Limiter.acquire`. Raises as `acquire` does."""
    if scope is None and type(cost) is int and type(subject) is str and subject and type(settle) is bool:
        # Nearly every claim. Its shape was checked when it was made.
        try:
            if type(also) is list and len(also) == 2:
                second, third = also
                shape = _shapes.get((cost, id(plan), second.kind, third.kind))
                records: tuple[Record, ...] = (subject, second.record, third.record)
            elif type(also) is list and len(also) == 1:
                (second,) = also
                shape = _shapes.get((cost, id(plan), second.kind))
                records = subject, second.record
            else:
                also = tuple(also) if isinstance(also, Iterator) else also
                shape = _shapes.get((cost, id(plan), *map(_kind, also)))
                records = (subject, *map(_record, also))
        except (AttributeError, TypeError):
            shape = None
        if shape is not None and (shape.are_separate or len(set(records)) == len(records)):
            return _new(JointClaim, (records, shape, settle))
    check_claim(subject, plan)
    cost = cost if isinstance(cost, Mapping) else plan.check(cost)
    check_bool(settle, "settle")
    return joint_claim((Budget(subject, plan, scope), *_checked_budgets(also)), cost, declared=settle)


def joint_claim(budgets: tuple[Budget, ...], cost: Cost, *, declared: bool = False) -> JointClaim:
    """The claim of `cost` for all `budgets`.

    Raises ValueError for more than 32 budgets, if two limits have the same name with its scope, and for a wrong cost;
    ImpossibleClaim for a cost above a burst.
    """
    if len(budgets) > MAX_BUDGETS:
        raise ValueError(f"also: expected at most {MAX_BUDGETS - 1} budgets, got {len(budgets) - 1}; claim for fewer")
    cost = checked_cost(cost)
    plans, scopes = tuple(budget.plan for budget in budgets), tuple(budget.scope for budget in budgets)
    shares = _separate_shares(tuple(zip(plans, scopes, strict=True)))
    records = tuple(budget.record for budget in budgets)
    if len(set(records)) < len(records):
        records, charged, shares = _merged(budgets)
    else:
        charged = plans
    charges = tuple(Charge(plan, *_costs(plan, cost)) for plan in charged)
    shape = shape_of(plans, scopes, cost, charges, shares)
    if isinstance(cost, int) and scopes[0] is None and charged is plans:
        _shapes.keep((cost, id(plans[0]), *(budget.kind for budget in budgets[1:])), shape, cost)
    return JointClaim(records, shape, declared)


def shape_of(
    plans: tuple[Plan, ...],
    scopes: tuple[str | None, ...],
    cost: Cost,
    charges: tuple[Charge, ...],
    shares: tuple[Share, ...],
) -> Shape:
    """The shape of claims with these fields."""
    plain = all(charge.costs is None and not charge.plan.max_hold_ms for charge in charges)
    return Shape(
        plans,
        scopes,
        cost,
        charges,
        shares,
        has_slots=any(plan.slot_bit for plan in plans),
        has_shadow=any(plan.shadowed for plan in plans),
        are_separate=len(set(scopes)) == len(scopes),
        plain_charges=tuple(_plain_charge(charge) for charge in charges) if plain else None,
    )


def _plain_charge(charge: Charge) -> PlainCharge:
    plan, cost, _ = charge
    pair = plan.pair
    if pair is not None:
        pair = (pair[0] * cost, *pair[1:3], pair[3] * cost, *pair[4:])
    return plan, plan.layout, cost, pair, plan.slots, plan.slot_bit


def _checked_budgets(also: Any) -> tuple[Budget, ...]:
    budgets = tuple(also) if isinstance(also, Iterable) and not isinstance(also, str) else None
    wrong = [each for each in budgets or () if not isinstance(each, Budget)]
    if wrong or budgets is None:
        got = f"one with {describe(wrong[0])}" if wrong else describe(also)
        write = "write also=[Budget('acme', plan, scope='account')]"
        raise TypeError(f"also: expected a list of Budgets, got {got}; {write}")
    return budgets


def checked_cost(cost: Any, name: str = "cost") -> Cost:
    """`cost` as an int or a dict. Raises ValueError unless it counts from 0 to 2**53 tokens of one or more measures."""
    if _is_number(cost):
        return exact_int(cost)
    if isinstance(cost, Mapping):
        costs = {str(measure): tokens for measure, tokens in cost.items() if isinstance(measure, str)}
        if costs and len(costs) == len(cost) and all(_is_number(tokens) for tokens in costs.values()):
            return {measure: exact_int(tokens) for measure, tokens in costs.items()}
    got = short_repr(cost) if isinstance(cost, Mapping) else describe(cost)
    raise ValueError(
        f"{name}: expected an int from 0 to 2**53, or one for each measure such as "
        f"{{'requests': 1, 'tokens': 800}}, got {got}"
    )


def cost_by_measure(cost: Cost) -> Mapping[str, int]:
    """`cost` as tokens by measure."""
    return {REQUESTS: cost} if isinstance(cost, int) else cost


def _is_number(tokens: object) -> bool:
    return isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= exact_int(tokens) <= EXACT_MAX


def _costs(plan: Plan, cost: Cost) -> tuple[int, Costs | None]:
    """The fields `cost` and `costs` of a Charge. A cost of 0 is like one that is not named."""
    if not plan.is_plain:
        return 0, _costs_by_measure(plan, cost_by_measure(cost))
    requests = cost if isinstance(cost, int) else cost.get(REQUESTS, 0)
    if 1 <= requests <= plan.max_cost:
        return requests, None
    if requests:
        raise plan.impossible(requests, REQUESTS)
    return 0, (None,) * len(plan.rates)


def _costs_by_measure(plan: Plan, cost: Mapping[str, int]) -> Costs:
    for measure, burst in plan.max_costs.items():
        if cost.get(measure, 0) > burst:
            raise plan.impossible(cost[measure], measure)
    return tuple([cost.get(rate.measure) or None for rate in plan.rates])


@lru_cache(MAX_CACHED_PLANS)
def _separate_shares(plans: tuple[tuple[Plan, str | None], ...]) -> tuple[Share, ...]:
    """The shares of budgets that have a record each. Raises ValueError if two of their limits have the same name."""
    names: set[str] = set()
    for plan, scope in plans:
        limits = [*(rate.name for rate in plan.rates), *((CONCURRENT,) if plan.concurrency else ())]
        for name in (scoped_name(scope, limit) for limit in limits):
            if name in names:
                raise ValueError(
                    f"also: expected limits with different names, got two named {name!r}; write Budget(..., scope=...)"
                )
            names.add(name)
    return tuple(Share(number, range(len(plan.rates))) for number, (plan, _) in enumerate(plans))


def _merged(budgets: tuple[Budget, ...]) -> tuple[tuple[Record, ...], tuple[Plan, ...], tuple[Share, ...]]:
    """Each record once, the limits of all its budgets as one plan, and where the limits of each budget are."""
    plans: dict[Record, Plan] = {}
    shares = []
    for budget in budgets:
        before = plans.get(budget.record)
        first = len(before.rates) if before else 0
        plans[budget.record] = budget.plan if before is None else before.merged_with(budget.plan)
        shares.append(Share([*plans].index(budget.record), range(first, first + len(budget.plan.rates))))
    return tuple(plans), tuple(plans.values()), tuple(shares)
