"""The headers of an allowed claim under a plan of two continuous rates and slots, as most plans are.

RateLimit has the same bytes as the general one. What was written last is kept: see "Kept texts" in docs/hot-path.md.
"""

from typing import Any, Final

from awx_ratelimit.core.bucket import wait_ms
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.http.error_responses import whole_seconds
from awx_ratelimit.http.limit_items import bounded, fast_numbers, visible_rates, visible_slots

#: The name of the header.
STATE_HEADER: Final = b"ratelimit"


class PairTemplate:
    """The constant parts of the headers of a plan, and the last RateLimit.

    Threads replace `by_debts` and `by_numbers` as a whole. In compiled code, what is `Any` may be multiplied.
    """

    __slots__ = ("by_debts", "by_numbers", "first", "policy_header", "second", "slots", "state")

    def __init__(self, policy_header: Any, state: bytes, first: Any, second: Any, slots: int) -> None:
        self.policy_header = policy_header
        #: The format of RateLimit without its end, the wait for a slot: only refusals have one.
        self.state = state
        #: The `fast_numbers` of both rates.
        self.first, self.second = first, second
        self.slots = slots
        #: A header RateLimit, and the debts and slots for which it holds: of both rates the least, and one above the
        #: most.
        self.by_debts: tuple[int, int, int, int, int, Any] = (0, 0, 0, 0, 0, policy_header)
        #: A header RateLimit, the tokens left of both rates, and the slots in use.
        self.by_numbers: tuple[int, int, int, Any] = (0, 0, 0, policy_header)


def pair_template(plan: Plan, policy_header: Any, state: bytes) -> PairTemplate | None:
    """The template of `plan`; None for plans of another kind. `state` is the general format of the header."""
    rates, slots = visible_rates(plan), visible_slots(plan)
    if plan.pair is None or len(rates) != 2 or not slots:
        return None
    first, second = (fast_numbers(rate) for _, _, rate in rates)
    if first is None or second is None:
        return None
    return PairTemplate(policy_header, state.removesuffix(b"%s"), first, second, slots)


def pair_state(decision: Any, template: PairTemplate, debt: int, debt_2: int, held: int) -> Any:
    """RateLimit for an allowed claim with a cost. It left the debts `debt` and `debt_2`, and `held` slots in use."""
    capacity, unit, seconds, tokens = template.first
    capacity_2, unit_2, seconds_2, tokens_2 = template.second
    left: Any = (capacity - debt) // unit
    left_2: Any = (capacity_2 - debt_2) // unit_2
    same, same_2, same_held, header = template.by_numbers
    if left == same and left_2 == same_2 and held == same_held:
        # The second time in a row. From now on the debts are compared, which spares the divisions.
        above, above_2 = capacity - left * unit + 1, capacity_2 - left_2 * unit_2 + 1
        template.by_debts = above - unit, above, above_2 - unit_2, above_2, held, header
        return header
    wait_s = -(-left * seconds // tokens) or _next_token_s(decision, 0)
    wait_2_s = -(-left_2 * seconds_2 // tokens_2) or _next_token_s(decision, 1)
    header = STATE_HEADER, template.state % (left, wait_s, left_2, wait_2_s, template.slots - held)
    if left and left_2:
        # Without tokens, the time counts too.
        template.by_numbers = left, left_2, held, header
    return header


def _next_token_s(decision: Any, rate_index: int) -> int:
    """The seconds until the rate has one more token."""
    at = rate_index + rate_index
    debt, since_ms = decision.levels[at : at + 2]
    rate: Rate = decision.plan.rates[rate_index]
    return bounded(whole_seconds(wait_ms(rate, debt, since_ms, decision.decided_at_ms, 1)))
