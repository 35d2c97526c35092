"""`RouteLimit`: a limit of one route, in its own bucket, for the decorators and dependencies of the adapters.

The scope of a bucket is the name of its route. It is written before the names of the limits: ``search.minute``.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.budget import MAX_SCOPE_LENGTH, checked_own_scope
from awx_ratelimit.core.given_limit import plan_of_limit
from awx_ratelimit.core.joint_claim import Cost, Shape, checked_cost, cost_by_measure
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_cache import CostCache
from awx_ratelimit.core.rate import EXACT_MAX, REQUESTS, Rate
from awx_ratelimit.core.scope import scope_of, scope_of_function
from awx_ratelimit.core.validation import describe, exact_int, type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.owners import Owner, Per, checked_per
from awx_ratelimit.http.queues import checked_queue
from awx_ratelimit.http.settling import Statuses, checked_statuses
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.waiting.lines import Queue

__all__ = ["BoundLimit", "Per", "RouteLimit", "SetLimit", "scope_of", "scope_of_function"]

#: In a request's scope or environ: the limits that were applied to it, by their scope.
_APPLIED: Final = "awx_ratelimit.route_limits"
#: On a function with limits: the limits, the first of which decides first.
_SET: Final = "awx_ratelimit_limits"
RouteCost = Cost | Callable[[Request], Cost]


class History:
    """The shapes of the claims of a limit by their cost, and whether the route has more limits, which may refuse."""

    __slots__ = ("is_followed", "shapes")

    def __init__(self) -> None:
        self.shapes: CostCache[Shape] = CostCache()
        self.is_followed = False


class BoundLimit(NamedTuple):
    """A limit of one route, with what is known of its claims."""

    scope: str
    plan: Plan
    per: Owner
    cost: RouteCost
    charge_on: Statuses | None
    wait_ms: int
    queues: tuple[Queue, ...]
    history: History
    middleware: str

    def cost_of(self, request: Request) -> Cost:
        """The cost of `request`. Raises TypeError if the function `cost` returns anything but a cost."""
        cost = self.cost(request) if callable(self.cost) else self.cost
        try:
            return checked_cost(cost)
        except ValueError:
            raise TypeError(
                "limit: cost: expected an integer >= 0 or a mapping such as {'tokens': 800} as the result, "
                f"got {describe(cost)}"
            ) from None

    def check_alone(self) -> None:
        """Raise RuntimeError if something must be done when a request has ended, which only a middleware knows."""
        if self.plan.concurrency is not None or self.charge_on is not None:
            what = "charge_on" if self.charge_on is not None else "a plan with slots"
            raise RuntimeError(
                f"limit: {what} needs the middleware around the app, which knows when a request has ended; "
                f"write {self.middleware}"
            )


class RouteLimit:
    """A limit of the routes that it is set on, each with its own bucket.

    `limit` is a notation such as ``30/minute``, a Rate, or a Plan. `per` says who shares a bucket: each ``caller`` (the
    default), ``account`` or ``address``, or ``everyone``; or it is a function that returns the subject for a request.
    `cost` is in tokens, an integer >= 0, a mapping such as ``{"requests": 1, "tokens": 800}``, or a function of the
    request. `scope` is the name of the bucket, 1 to 32 of ``a-z 0-9 _ -``; None is the name of the route. Limits with
    one `scope` share their buckets.

    With `charge_on`, the limit is charged only if the response has one of these statuses, such as ``{401, 403}`` for
    failed logins. It is charged before the request and given back after it.

    A request without room waits up to `wait_ms` for it, 0 to 86,400,000, while fewer than `max_waiting` others wait for
    this limit of the route in this process, 1 to 10,000. Otherwise it is refused at once.

    A plan with slots and `charge_on` need the middleware around the app, which knows when a request has ended.
    `middleware` is how it is written in the user's framework, for the error without one.

    Raises InvalidLimit or TypeError for a wrong argument.
    """

    def __init__(
        self,
        limit: str | Rate | Plan,
        *,
        per: Owner = "caller",
        cost: RouteCost = 1,
        scope: str | None = None,
        charge_on: Iterable[int] | None = None,
        wait_ms: int = 0,
        max_waiting: int = 100,
        middleware: str = "RateLimitMiddleware(app, ...)",
    ) -> None:
        self._middleware = middleware
        self._plan = _plan_of(limit)
        self.per = checked_per(per)
        self._cost = _checked_cost(cost, self._plan)
        self.scope = checked_own_scope(scope)
        self._charge_on = checked_statuses(charge_on)
        checked_queue(wait_ms, max_waiting)
        self._wait_ms, self._max_waiting = wait_ms, max_waiting
        # Bounded by the number of routes.
        self._bound = lru_cache(maxsize=None)(self._bind)

    def route_of(self, function: Any) -> str:
        """The scope of the route that `function` answers. Raises TypeError if it has no name, such as a partial."""
        if self.scope is None and callable(function) and not hasattr(function, "__qualname__"):
            raise TypeError(f"scope: {type_name(function)} has no name, so it may share a bucket; write scope='...'")
        return self.scope or scope_of_function(function)

    def bound(self, route: str, source: MutableMapping[str, Any]) -> BoundLimit | None:
        """This limit on `route` for the request with `source`, its scope or environ; None if it was applied already.

        A second limit on the same route gets another scope.
        """
        applied: dict[str, RouteLimit] = source.setdefault(_APPLIED, {})
        scope = name = self.scope or route
        number = 1
        while scope in applied:
            if applied[scope] is self:
                return None
            number += 1
            scope = f"{name[: MAX_SCOPE_LENGTH - 4]}-{number}"
        for earlier, limit in applied.items():
            limit._bound(earlier).history.is_followed = True  # noqa: SLF001  # of this class
        applied[scope] = self
        return self._bound(scope)

    def _bind(self, scope: str) -> BoundLimit:
        plan = Plan(scope, self._plan.rates, self._plan.concurrency, shadow=self._plan.shadow)
        queues = (checked_queue(self._wait_ms, self._max_waiting),)
        rest = (self._charge_on, self._wait_ms, queues, History(), self._middleware)
        return BoundLimit(scope, plan, self.per, self._cost, *rest)


class SetLimit(NamedTuple):
    """A limit as it is set on an endpoint. `gate` decides it; None: that of the middleware.

    `route_for` returns the name of the route for the class that has the endpoint, or for None.
    """

    limit: RouteLimit
    route_for: Callable[[Any], str]
    gate: Any


def note_limit(limited: Any, endpoint: Any, limit: SetLimit) -> None:
    """Let `limits_on` find `limit` on `limited`, which was made of `endpoint`. Decorators that use `wraps` copy it."""
    setattr(limited, _SET, (limit, *limits_on(endpoint)))


def limits_on(endpoint: Any) -> tuple[SetLimit, ...]:
    """The limits that were set on a function, in the order in which they decide."""
    return getattr(endpoint, _SET, ())


def _plan_of(limit: object) -> Plan:
    variable = f"the Request; see {page('route-limits', 'a-limit-that-depends-on-the-caller')}"
    plan = plan_of_limit(limit, "limit", "limit", "@limit", variable)
    if plan.is_unlimited or plan.account is not None:
        raise InvalidLimit(f"limit: expected a plan with limits and without an account, got {limit!r}")
    return plan


def _checked_cost(cost: Any, plan: Plan) -> RouteCost:
    if callable(cost) and not inspect.iscoroutinefunction(cost):
        return cost  # type: ignore[no-any-return]
    try:
        checked = checked_cost(cost) if isinstance(cost, Mapping) else cost
    except ValueError as error:
        raise InvalidLimit(str(error)) from None
    if not isinstance(checked, Mapping) and (not isinstance(checked, int) or isinstance(checked, bool) or checked < 0):
        raise InvalidLimit(f"cost: expected an integer >= 0 or a plain function of the request, got {describe(cost)}")
    checked = checked if isinstance(checked, Mapping) else exact_int(checked)
    for measure, tokens in cost_by_measure(checked).items():
        if measure not in (REQUESTS, *(rate.measure for rate in plan.rates)):
            counted = " or ".join(sorted({repr(rate.measure) for rate in plan.rates})) or "no measure"
            raise InvalidLimit(f"cost: expected {counted}, which the limit counts, got {measure!r}")
        largest = plan.max_costs.get(measure, EXACT_MAX)
        if tokens > largest:
            raise InvalidLimit(f"cost: expected at most {largest}, the burst of the limit, got {tokens}")
    return checked
