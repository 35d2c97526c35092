"""The plan of a limit that an app gives to a decorator: of a notation, a Rate or a Plan."""

from collections.abc import Collection

from awx_ratelimit.core.notation import one_rate
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import describe


def plan_of_limit(limit: object, argument: str, name: str, variable: str) -> Plan:
    """`limit` as a plan. A single rate becomes the plan `name`.

    Errors name the `argument`. `variable` says what to write instead of a function that returns limits. Raises
    TypeError or InvalidLimit.
    """
    if isinstance(limit, Plan):
        return limit
    if isinstance(limit, str):
        return Plan(name, (Rate.parse(one_rate(limit)),))
    if isinstance(limit, Rate):
        return Plan(name, (limit,))
    expected = f"{argument}: expected a notation such as '30/minute', a Rate or a Plan, got {describe(limit)}"
    raise TypeError(f"{expected}{_remedy(limit, variable)}")


def _remedy(limit: object, variable: str) -> str:
    if isinstance(limit, Collection):
        return "; write Plan.of('limits', per_minute=5, per_hour=100) for several"
    if callable(limit):
        return (
            "; write the limit itself into the parentheses of the decorator: ('60/minute'). If it varies, write the "
            f"largest limit, and a cost: ('60/minute', cost=function), where the function takes {variable}"
        )
    return ""
