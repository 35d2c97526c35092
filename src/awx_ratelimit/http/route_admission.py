"""Applies a route's own limit to a request, together with the gate that has admitted the request, if there is one.

A refusal of one limit gives back what the gate and the other limits of the route have charged.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.limit_headers import merged
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import EXEMPT, Admission
from awx_ratelimit.http.route_limit import RouteLimit

#: In a scope or an environ: the gates that have decided the request, and their decisions.
CHARGED: Final = "awx_ratelimit.charged"


_REPORTED: Final = "awx_ratelimit.reported"


def _reporting_all(admission: Admission, source: MutableMapping[str, Any]) -> Admission:
    """`admission` with the headers of all limits of its request, which take them from the admission before it."""
    before, headers = source.get(_REPORTED), admission.headers
    if before:
        headers = merged(before, headers)
        before.clear()
        admission = admission._replace(headers=headers)
    source[_REPORTED] = headers
    return admission


class AsyncOuter(Protocol):
    """What a middleware knows of a request: its gate, and the gate's decision; None if it did not limit the request.

    `caller` is whose request it is.
    """

    @property
    def gate(self) -> AsyncGate:
        """The gate."""

    @property
    def decision(self) -> Decision | None:
        """Its decision."""

    @property
    def caller(self) -> Caller | None:
        """The caller that it has found."""


class AsyncCharge(NamedTuple):
    """A gate, and what it has decided for a request; None for a request that it did not limit."""

    gate: AsyncGate
    decision: Decision | None
    caller: Caller | None = None


async def async_admit_to_route(
    limit: RouteLimit,
    route: str,
    request: Request,
    source: MutableMapping[str, Any],
    gate: AsyncGate,
    outer: Sequence[AsyncOuter],
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
    admission = await gate.admit_to_route(request, bound, caller, is_settled=bool(outer))
    try:
        charged: list[AsyncCharge] = source.setdefault(CHARGED, [])
        if admission.reply is None:
            charged.append(AsyncCharge(gate, admission.decision))
            return admission if outer else _reporting_all(admission, source)
    except BaseException:
        gate.drop(admission.decision)
        raise
    for each in (*outer, *charged):
        if each.decision is not None:
            await each.gate.give_back(each.decision, admission.decision)
    charged.clear()
    return admission
