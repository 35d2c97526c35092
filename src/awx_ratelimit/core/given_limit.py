"""The plan of a limit that an app gives to a decorator: of a notation, a Rate or a Plan."""

from collections.abc import Collection

from awx_ratelimit.core.notation import one_rate
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import describe


def plan_of_limit(limit: object, argument: str, name: str, decorator: str, variable: str) -> Plan:
    """`limit` as a plan. A single rate becomes the plan `name`.

    Errors name the `argument` and the `decorator`. `variable` says what the function of a varying cost takes. Raises
    TypeError or InvalidLimit.
    """
    if isinstance(limit, Plan):
        return limit
    if isinstance(limit, str):
        return Plan(name, (Rate.parse(one_rate(limit)),))
    if isinstance(limit, Rate):
        return Plan(name, (limit,))
    expected = f"{argument}: expected a notation such as '30/minute', a Rate or a Plan, got {describe(limit)}"
    raise TypeError(f"{expected}{_remedy(limit, decorator, variable)}")


def _remedy(limit: object, decorator: str, variable: str) -> str:
    if isinstance(limit, Collection):
        return "; write Plan.of('limits', per_minute=5, per_hour=100) for several"
    if callable(limit):
        return (
            f'; write {decorator}("30/minute"). If the limit varies, write the largest one, and a cost: '
            f'{decorator}("30/minute", cost=function), where the function takes {variable}'
        )
    return ""
