"""Applies a route's own limit in a WSGI app, for the `limit` of each framework. It imports no framework."""

from functools import cache

from awx_ratelimit.adapters.gate_arguments import gate_arguments
from awx_ratelimit.adapters.wsgi.environ import Environ, request_of
from awx_ratelimit.adapters.wsgi.middleware import SLOTS, Slot
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.limit_headers import merged
from awx_ratelimit.http.policy import EXEMPT, Admission
from awx_ratelimit.http.route_admission_sync import admit_to_route
from awx_ratelimit.http.route_limit import RouteLimit
from awx_ratelimit.limiter_sync import Limiter


@cache
def default_gate() -> Gate:
    """The gate of limits with neither a middleware nor a gate: by address, in this process."""
    unlimited = Plan.unlimited("anonymous")
    return Gate(Limiter(MemoryBackend()), **gate_arguments(None, None, unlimited, {"anonymous": unlimited}))


def admit(limit: RouteLimit, route: str, environ: Environ, gate: Gate | None) -> Admission:
    """Decide `limit` for the request of `environ`, with `gate`, else with that of the innermost middleware.

    `route` is the scope of the bucket. A refusal has a reply. Otherwise the headers are those that the response still
    needs; a middleware adds its own.
    """
    slots: tuple[Slot, ...] = environ.get(SLOTS, ())
    used = gate or (slots[-1].gate if slots else default_gate())
    admission = admit_to_route(limit, route, request_of(environ), environ, used, slots)
    if admission.reply is not None:
        for slot in slots:
            slot.headers = []
    elif slots:
        try:
            slots[-1].headers = merged(slots[-1].headers, admission.headers)
            slots[-1].add_route(used, admission.decision)
        except BaseException:
            used.drop(admission.decision)
            raise
        return EXEMPT
    return admission
