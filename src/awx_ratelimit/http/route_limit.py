"""`RouteLimit`: a limit of one route, in its own bucket, for the decorators and dependencies of the adapters.

The scope of a bucket is the name of its route. It is written before the names of the limits: ``search.minute``.
"""

import inspect
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, get_args

from awx_ratelimit.core.budget import MAX_SCOPE_LENGTH, checked_scope
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.scope import scope_of, scope_of_function
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.message import Request

__all__ = ["EVERYONE", "BoundLimit", "Per", "RouteLimit", "scope_of", "scope_of_function"]

Per = Literal["caller", "account", "address", "everyone"]
_PERS: Final = get_args(Per)
#: The subject of limits that all clients share.
EVERYONE: Final = "everyone"
#: In a request's scope or environ: the limits that were applied to it, by their scope.
_APPLIED: Final = "awx_ratelimit.route_limits"


class BoundLimit(NamedTuple):
    """A limit with the plan of one route."""

    plan: Plan
    per: Per | Callable[[Request], str]
    cost: int | Callable[[Request], int]

    def cost_of(self, request: Request) -> int:
        """The cost of `request`. Raises TypeError if the function `cost` returns anything but an integer >= 0."""
        cost = self.cost(request) if callable(self.cost) else self.cost
        if not isinstance(cost, int) or isinstance(cost, bool) or cost < 0:
            raise TypeError(f"limit: cost: expected an integer >= 0 as the result, got {describe(cost)}")
        return cost

    def subject_of(self, request: Request, caller: Caller | None, address: Callable[[Request], str]) -> str:
        """The subject to charge; that of the address for a request without a caller.

        Raises TypeError if the function `per` returns anything but a text.
        """
        if callable(self.per):
            subject = self.per(request)
            if not isinstance(subject, str) or not subject:
                raise TypeError(f"limit: per: expected a non-empty string as the result, got {describe(subject)}")
            return subject
        if self.per == "everyone":
            return EVERYONE
        if self.per == "address" or caller is None:
            return address(request)
        return caller.account or caller.subject if self.per == "account" else caller.subject


class RouteLimit:
    """A limit of the routes that it is set on, each with its own bucket.

    `limit` is a notation such as ``30/minute``, a Rate, or a Plan without slots. `per` says who shares a bucket: each
    ``caller`` (the default), ``account`` or ``address``, or ``everyone``; or it is a function that returns the subject
    for a request. `cost` is in tokens, an integer >= 0 or a function of the request. `scope` is the name of the bucket,
    1 to 32 of ``a-z 0-9 _ -``; None is the name of the route. Limits with one `scope` share their buckets.

    Raises InvalidLimit or TypeError for a wrong argument.
    """

    def __init__(
        self,
        limit: str | Rate | Plan,
        *,
        per: Per | Callable[[Request], str] = "caller",
        cost: int | Callable[[Request], int] = 1,
        scope: str | None = None,
    ) -> None:
        self._rates = _rates_of(limit)
        self._shadow = isinstance(limit, Plan) and limit.shadow
        self.per = _checked_per(per)
        self._cost = _checked_cost(cost, min(rate.burst for rate in self._rates))
        self.scope = checked_scope(scope)
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
        applied[scope] = self
        return self._bound(scope)

    def _bind(self, scope: str) -> BoundLimit:
        rates = tuple(replace(rate, name=f"{scope}_{rate.name}"[:32]) for rate in self._rates)
        return BoundLimit(Plan(scope, rates, shadow=self._shadow), self.per, self._cost)


def _rates_of(limit: object) -> tuple[Rate, ...]:
    if isinstance(limit, str):
        return (Rate.parse(limit),)
    if isinstance(limit, Rate):
        return (limit,)
    if not isinstance(limit, Plan):
        raise TypeError(f"limit: expected a notation such as '30/minute', a Rate or a Plan, got {describe(limit)}")
    if limit.concurrency is not None or not limit.rates:
        raise InvalidLimit(f"limit: expected a plan of rates without slots, got {limit!r}")
    return limit.rates


def _checked_per(per: Any) -> Per | Callable[[Request], str]:
    if per in _PERS or (callable(per) and not inspect.iscoroutinefunction(per)):
        return per  # type: ignore[no-any-return]
    raise InvalidLimit(
        f"per: expected one of {', '.join(map(repr, _PERS))}, or a plain function of the request, got {describe(per)}"
    )


def _checked_cost(cost: Any, largest: int) -> int | Callable[[Request], int]:
    if callable(cost) and not inspect.iscoroutinefunction(cost):
        return cost  # type: ignore[no-any-return]
    if not isinstance(cost, int) or isinstance(cost, bool) or cost < 0:
        raise InvalidLimit(f"cost: expected an integer >= 0 or a plain function of the request, got {describe(cost)}")
    if cost > largest:
        raise InvalidLimit(f"cost: expected at most {largest}, the burst of the limit, got {cost}")
    return cost
