"""The settings of the project on django-ratelimit, with the new limits in shadow.

DJANGO_SETTINGS_MODULE=examples.migration.django_ratelimit.shadow python -m django runserver
"""

from examples.migration.django_ratelimit import before
from examples.migration.django_ratelimit.before import *  # noqa: F403  # as settings are usually extended

from awx_ratelimit import Caller, KeyRefused, Plan, RefusalLog, Rule, StaticKeys
from awx_ratelimit import Request as GateRequest

known = StaticKeys({"awx_example_key": "customer"})


def known_caller(request: GateRequest) -> Caller | None:
    """An unknown key counts by address for now: in shadow it must not get a 401."""
    try:
        return known(request)
    except KeyRefused:
        return None


MIDDLEWARE = ["awx_ratelimit.adapters.django.RateLimitMiddleware", *before.MIDDLEWARE]
AWX_RATELIMIT = {
    "identify": known_caller,
    "plans": [Plan.of("customer", per_minute=30, shadow=True)],
    "anonymous": Plan.of("visitor", per_minute=30, shadow=True),
    "rules": [
        Rule("/health", exempt=True),
        Rule("/search", budget="shadow-search", plan=Plan.of("search", per_minute=5, shadow=True)),
        Rule("/login", budget="shadow-login", plan=Plan.of("login", per_minute=3, shadow=True), per="address"),
    ],
    "listeners": [RefusalLog()],
}
