"""The claim of a request for several budgets: the caller's, its account's, the service's and those of rules.

All of a claim but its subjects depends on the plan, the service and the rule, so it is made once for each of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.budget import ACCOUNT_SCOPE, SERVICE_SCOPE, SERVICE_SUBJECT, Budget, Record, ScopedSubject
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.joint_claim import Cost, JointClaim, Shape, joint_claim
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.owners import Owner, account_record, exact, owned_record
from awx_ratelimit.http.route_limit import BoundLimit
from awx_ratelimit.http.settling import Statuses, charged_on, check_measures, names_more_than_requests, with_statuses
from awx_ratelimit.runtime.looking import is_looking

#: See "Creating tuples" in docs/hot-path.md.
_new = tuple.__new__
#: Clients choose paths.
_MAX_PATHS: Final = 4_096
_MAX_PATH_LENGTH: Final = 200
_SERVICE_RECORD: Final = ScopedSubject(SERVICE_SUBJECT, SERVICE_SCOPE)


class RuleBudget(NamedTuple):
    """A budget of a rule: its scope, its plan, whose it is, and the statuses on which it is charged (None: all)."""

    scope: str
    plan: Plan
    per: Owner
    charge_on: Statuses | None


class Price(NamedTuple):
    """What a rule adds to the claim of a request. `charge_on` are the statuses on which the whole claim is charged."""

    budgets: tuple[RuleBudget, ...]
    charge_on: Statuses | None


class _Blueprint(NamedTuple):
    """The claims of one plan, service, price and cost. It keeps them, so that their ids are not used again."""

    shape: Shape
    is_declared: bool
    has_account: bool
    has_service: bool
    budgets: tuple[RuleBudget, ...]
    made_of: tuple[Plan, Plan | None, Price]


class RequestClaims:
    """Makes the claims of a gate. `address` returns the subject of a request's address."""

    def __init__(self, address: Callable[[Request], str]) -> None:
        self._address = address
        self._blueprints: CostCache[_Blueprint] = CostCache()
        #: By the methods and paths of recent requests: the limits of their routes that the gate decides, by scope.
        self.limited_paths: dict[tuple[str, str], dict[str, BoundLimit]] = {}

    def expect_route_limit(self, request: Request, limit: BoundLimit | None) -> bool:
        """Declare the claims of such requests from now on, so that a refusal of their route gives them back exactly.

        `limit` is remembered for explanations. None: another gate decides it. Whether `limit` is new for them.
        """
        known = self.limited_paths.get(request[:2])
        if known is None:
            # A command chooses the path itself, and needs no other.
            if len(request.method) + len(request.path) > _MAX_PATH_LENGTH and not is_looking():
                return False
            if len(self.limited_paths) >= _MAX_PATHS:
                self.limited_paths.clear()
            known = self.limited_paths.setdefault(request[:2], {})
        if limit is None or limit.scope in known:
            return False
        known[limit.scope] = limit
        return True

    def claim(
        self,
        method_and_path: tuple[str, str],
        request: Any,
        caller: Caller,
        plan: Plan,
        service: Plan | None,
        price: Price,
        cost: Cost,
    ) -> JointClaim:
        """The claim of a request. Raises ImpossibleClaim for a cost above a burst, and what the function `per` raises.

        `plan` is that of the caller, and `service` the one that everybody shares. `request` may be None
        for a price without budgets.
        """
        blueprint = self._blueprint(plan, service, price, cost)
        records: list[Record] = [exact(caller.subject)]
        if blueprint.has_account:
            records.append(account_record(caller, ACCOUNT_SCOPE))
        if blueprint.has_service:
            records.append(_SERVICE_RECORD)
        for scope, _, per, _ in blueprint.budgets:
            records.append(owned_record(per, scope, request, caller, self._address))
        is_declared = blueprint.is_declared or method_and_path in self.limited_paths
        return _new(JointClaim, (tuple(records), blueprint.shape, is_declared))

    def _blueprint(self, plan: Plan, service: Plan | None, price: Price, cost: Cost) -> _Blueprint:
        key = cost if cost.__class__ is int else tuple(cost.items())  # type: ignore[union-attr]  # else a mapping
        blueprint = self._blueprints.get((id(plan), id(service), id(price), key))
        return self._made(plan, service, price, cost, key) if blueprint is None else blueprint

    def _made(self, plan: Plan, service: Plan | None, price: Price, cost: Cost, key: Any) -> _Blueprint:
        check_measures(cost)
        parts = parts_of(plan, service, price)
        shape = shape_of(parts, cost)
        is_declared = _depends_on_status(price) or names_more_than_requests(cost)
        made_of = plan, service, price
        blueprint = _Blueprint(
            shape, is_declared, plan.account is not None, service is not None, price.budgets, made_of
        )
        return self._blueprints.keep((id(plan), id(service), id(price), key), blueprint, cost)


def parts_of(plan: Plan, service: Plan | None, price: Price) -> list[tuple[str | None, Plan]]:
    """The plans of a claim with their scopes, in the order of its budgets."""
    shared = [(None, plan), (ACCOUNT_SCOPE, plan.account), (SERVICE_SCOPE, service)]
    parts = [(scope, charged_on(each, price.charge_on)) for scope, each in shared if each is not None]
    return [*parts, *((budget.scope, charged_on(budget.plan, budget.charge_on)) for budget in price.budgets)]


def shape_of(parts: Sequence[tuple[str | None, Plan]], cost: Cost) -> Shape:
    """The shape of a claim of `parts`, whose scopes differ. Raises ImpossibleClaim for a cost above a burst."""
    budgets = tuple(Budget("any", plan, scope) for scope, plan in parts)
    return joint_claim(budgets, with_statuses(cost, [plan for _, plan in parts])).shape._replace(cost=cost)


def _depends_on_status(price: Price) -> bool:
    return price.charge_on is not None or any(budget.charge_on for budget in price.budgets)


def route_claim(record: ScopedSubject, limit: BoundLimit, cost: Cost, *, is_settled: bool) -> JointClaim:
    """The claim of a route's own limit. Raises ImpossibleClaim for a cost above a burst.

    `is_settled`: something settles it when the request has ended.
    """
    key = cost if cost.__class__ is int else tuple(cost.items())  # type: ignore[union-attr]  # else a mapping
    history = limit.history
    shape = history.shapes.get(key)
    if shape is None:
        check_measures(cost)
        shape = history.shapes.keep(key, shape_of([(limit.scope, charged_on(limit.plan, limit.charge_on))], cost), cost)
    may_cost_less = limit.charge_on is not None or history.is_followed or names_more_than_requests(cost)
    return _new(JointClaim, ((record,), shape, is_settled and may_cost_less))
