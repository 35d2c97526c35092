"""Applies a route's own limit in an ASGI app, for the `limit` of each framework. It imports no framework."""

from collections.abc import Awaitable, MutableMapping
from functools import cache
from typing import Any

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES, Exchange
from awx_ratelimit.adapters.asgi.scope import Scope, request_of
from awx_ratelimit.adapters.gate_arguments import gate_arguments
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.policy import EXEMPT, Admission
from awx_ratelimit.http.route_admission import async_admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit
from awx_ratelimit.limiter import AsyncLimiter


@cache
def default_gate() -> AsyncGate:
    """The gate of limits with neither a middleware nor a gate: by address, in this process."""
    unlimited = Plan.unlimited("anonymous")
    return AsyncGate(AsyncLimiter(MemoryBackend()), **gate_arguments(None, None, unlimited, {"anonymous": unlimited}))


def admit(limit: RouteLimit, route: str, scope: Scope, gate: AsyncGate | None) -> Awaitable[Admission]:
    """Decide `limit` for the request of `scope`, with `gate`, else with that of the innermost middleware.

    `route` is the scope of the bucket. A refusal has a reply. Otherwise the headers are those that the response still
    needs; a middleware adds its own.
    """
    return admit_request(limit, route, request_of(scope), scope, gate)


async def admit_request(
    limit: RouteLimit, route: str, request: Request, source: MutableMapping[str, Any], gate: AsyncGate | None
) -> Admission:
    """As `admit`, for a request that was already read. `source` lives as long as the request."""
    exchanges: tuple[Exchange, ...] = source.get(EXCHANGES, ())
    used = gate or (exchanges[-1].gate if exchanges else default_gate())
    admission = await async_admit_to_route(limit, route, request, source, used, exchanges)
    if admission.reply is not None:
        for exchange in exchanges:
            exchange.drop_headers()
    elif exchanges:
        try:
            exchanges[-1].merge_headers(admission.headers)
            exchanges[-1].add_route(used, admission.decision)
        except BaseException:
            used.drop(admission.decision)
            raise
        return EXEMPT
    return admission
