"""Applies a route's own limit to a request, together with the gate that has admitted the request, if there is one.

Generated from `route_admission.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import EXEMPT, Admission
from awx_ratelimit.http.route_admission import CHARGED, _reporting_all
from awx_ratelimit.http.route_limit import RouteLimit


class Outer(Protocol):
    """What a middleware knows of a request: its gate, and the gate's decision; None if it did not limit the request.

    `caller` is whose request it is.
    """

    @property
    def gate(self) -> Gate:
        """The gate."""

    @property
    def decision(self) -> Decision | None:
        """Its decision."""

    @property
    def caller(self) -> Caller | None:
        """The caller that it has found."""


class Charge(NamedTuple):
    """A gate, and what it has decided for a request; None for a request that it did not limit."""

    gate: Gate
    decision: Decision | None
    caller: Caller | None = None


def admit_to_route(
    limit: RouteLimit,
    route: str,
    request: Request,
    source: MutableMapping[str, Any],
    gate: Gate,
    outer: Sequence[Outer],
) -> Admission:
    """Decide `limit` with `gate`, for a request that the gates in `outer` have admitted.

    `source` is the scope or the environ of the request, which lives as long as the request. `route` is the scope of
    the bucket. Raises as `admit_to_route` does, and RuntimeError if the limit needs a middleware and there is none.
    """
    bound = limit.bound(route, source)
    if bound is None:
        return EXEMPT
    if not outer:
        bound.check_alone()
    caller = None
    for charge in outer:
        is_own = charge.gate is gate
        charge.gate.expect_route_limit(request, bound if is_own else None)
        if is_own:
            caller = charge.caller
    admission = gate.admit_to_route(request, bound, caller, is_settled=bool(outer))
    try:
        charged: list[Charge] = source.setdefault(CHARGED, [])
        if admission.reply is None:
            charged.append(Charge(gate, admission.decision))
            return admission if outer else _reporting_all(admission, source)
    except BaseException:
        gate.drop(admission.decision)
        raise
    for each in (*outer, *charged):
        if each.decision is not None:
            each.gate.give_back(each.decision, admission.decision)
    charged.clear()
    return admission
