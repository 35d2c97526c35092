"""The API on slowapi, with the new limits in shadow: they log what they would refuse, and refuse nothing."""

from examples.migration.slowapi.before import app as limited_by_slowapi

from awx_ratelimit import Caller, KeyRefused, Plan, RateLimitMiddleware, RefusalLog, Rule, StaticKeys
from awx_ratelimit import Request as GateRequest

known = StaticKeys({"awx_example_key": "customer"})


def caller(request: GateRequest) -> Caller | None:
    """An unknown key counts by address for now: in shadow it must not get a 401."""
    try:
        return known(request)
    except KeyRefused:
        return None


app = RateLimitMiddleware(
    limited_by_slowapi,
    identify=caller,
    plans=[Plan.of("customer", per_minute=30, shadow=True)],
    anonymous=Plan.of("visitor", per_minute=30, shadow=True),
    rules=[
        Rule("/health", exempt=True),
        Rule("/search", budget="shadow-search", plan=Plan.of("search", per_minute=5, shadow=True)),
        Rule("/login", budget="shadow-login", plan=Plan.of("login", per_minute=3, shadow=True), per="address"),
    ],
    listeners=[RefusalLog()],
)
