"""The items of the fields RateLimit-Policy and RateLimit: one for each limit that clients see.

They follow draft-ietf-httpapi-ratelimit-headers-08 and later. A shadow limit is not shown.
"""

from fractions import Fraction
from typing import Final

from awx_ratelimit.core.bucket import drained, next_boundary_ms, wait_ms
from awx_ratelimit.core.budget import scoped_name
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, REQUESTS, Rate
from awx_ratelimit.http.error_responses import whole_seconds
from awx_ratelimit.http.settling import shown_measure

#: The largest integer of a structured field (RFC 9651).
MAX_INTEGER: Final = 10**15 - 1
#: The items of one limit that are kept.
MAX_TEXTS: Final = 256
#: Periods whose length depends on the date.
_OF_NO_LENGTH: Final = ("month", "year")


def visible_rates(plan: Plan) -> tuple[tuple[int, int, Rate], ...]:
    """The rates that clients see: the index of each in `levels`, its bit, and the rate."""
    return () if plan.shadow else tuple(numbered for numbered in plan.numbered_rates if not numbered[2].shadow)


def visible_slots(plan: Plan) -> int:
    """The number of slots, if clients see them; else 0."""
    return plan.concurrency.slots if plan.concurrency and not (plan.concurrency.shadow or plan.shadow) else 0


def policy_items(plan: Plan, scope: str | None = None) -> list[str]:
    """The items of RateLimit-Policy for the limits of `plan`. They depend on the plan alone."""
    items = [_policy_item(rate, scope) for _, _, rate in visible_rates(plan)]
    if slots := visible_slots(plan):
        items.append(f'"{scoped_name(scope, CONCURRENT)}";q={bounded(slots)};qu="concurrent-requests"')
    return items


def rate_format(rate: Rate, scope: str | None = None) -> bytes:
    """The item of RateLimit for a rate, with places for its `r` and `t`."""
    return f'"{scoped_name(scope, rate.name)}";r=%d;t=%d'.encode()


def slots_format(scope: str | None = None) -> bytes:
    """The item of RateLimit for slots, with places for its `r` and its `t` as text."""
    return f'"{scoped_name(scope, CONCURRENT)}";r=%d%s'.encode()


def rate_numbers(rate: Rate, debt: int, since_ms: int, now_ms: int, cost: int, *, refused: bool) -> tuple[int, int]:
    """The `r` and `t` of a rate, which the claim has charged or refused `cost` tokens; 0 if it did not touch it.

    `t` of a rate that refused is its wait; of a calendar rate the time to its boundary; of any other rate the time in
    which `r` tokens refill, or until the next token if `r` is 0.
    """
    if not cost:
        debt, since_ms = drained(rate, debt, since_ms, now_ms)
    # An overdraft has less than nothing left.
    left = max(0, (rate.capacity - debt) // rate.unit)
    if refused and cost:
        seconds = whole_seconds(wait_ms(rate, debt, since_ms, now_ms, cost))
    elif rate.calendar:
        seconds = whole_seconds(next_boundary_ms(rate, since_ms) - now_ms)
    else:
        seconds = -(-left * rate.period_ms // (rate.tokens * 1000))
        seconds = seconds or whole_seconds(wait_ms(rate, debt, since_ms, now_ms, 1))
    return bounded(left), bounded(seconds)


def slot_numbers(slots: int, held: int, wait_ms: int = 0, *, refused: bool = False) -> tuple[int, bytes]:
    """The `r` of slots, and their `t` as text, which they have only if they refused."""
    return max(0, slots - held), b";t=%d" % whole_seconds(wait_ms) if refused else b""


class Texts(dict[int, bytes]):
    """The last items of one limit, by a number: see "Kept texts" in docs/hot-path.md."""

    __slots__ = ()

    def keep(self, number: int, text: bytes) -> bytes:
        """Keep `text` as the item for `number`."""
        if len(self) >= MAX_TEXTS:
            # One atomic step, so that threads need no lock.
            self.clear()
        self[number] = text
        return text


def fast_numbers(rate: Rate) -> tuple[int, int, int, int] | None:
    """What the `r` and `t` of an allowed request are computed from, if it has tokens left.

    The capacity, the unit, and the seconds in which a token refills, as a fraction in lowest terms, because small
    integers are faster. None for calendar rates, and for numbers that may not fit into a structured field.
    """
    if rate.calendar or max(rate.burst, rate.burst * rate.period_ms // rate.tokens) > MAX_INTEGER:
        return None
    seconds = Fraction(rate.period_ms, rate.tokens * 1000)
    return rate.capacity, rate.unit, seconds.numerator, seconds.denominator


def bounded(number: int) -> int:
    """`number`, or the largest integer that a structured field can carry."""
    return min(number, MAX_INTEGER)


def _policy_item(rate: Rate, scope: str | None) -> str:
    measure = shown_measure(rate.measure)
    unit = "" if measure == REQUESTS else f';qu="{measure}"'
    window = "" if rate.period in _OF_NO_LENGTH else f";w={bounded(whole_seconds(rate.period_ms))}"
    burst = "" if rate.burst == rate.tokens else f";awx-burst={bounded(rate.burst)}"
    return f'"{scoped_name(scope, rate.name)}";q={bounded(rate.tokens)}{unit}{window}{burst}'
