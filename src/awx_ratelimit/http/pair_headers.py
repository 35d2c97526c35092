"""The header RateLimit of an allowed claim under a plan of two continuous rates and slots, as most plans are.

It has the same bytes as the general one. What was written last is kept: see "Kept texts" in docs/hot-path.md.
"""

from typing import Final

from awx_ratelimit.core.bucket import wait_ms
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.error_responses import whole_seconds
from awx_ratelimit.http.limit_items import bounded, fast_numbers, visible_rates, visible_slots

#: The name of the header.
STATE_HEADER: Final = b"ratelimit"
#: A header RateLimit, and the debts and slots for which it holds: of both rates the least, and one above the most.
_ByDebts = tuple[int, int, int, int, int, tuple[bytes, bytes]]
#: A header RateLimit, the tokens left of both rates, and the slots in use.
_ByNumbers = tuple[int, int, int, tuple[bytes, bytes]]
#: The policy header, what was written last, the format of the state, the `fast_numbers` of both rates, and the slots.
_Numbers = tuple[int, int, int, int]
PairTemplate = tuple[tuple[bytes, bytes], list[_ByDebts], list[_ByNumbers], bytes, _Numbers, _Numbers, int]


def pair_template(plan: Plan, policy_header: tuple[bytes, bytes], state: bytes) -> PairTemplate | None:
    """The template of `plan`; None for plans of another kind. `state` is the general format of the header."""
    rates, slots = visible_rates(plan), visible_slots(plan)
    if plan.pair is None or len(rates) != 2 or not slots:
        return None
    first, second = (fast_numbers(rate) for _, _, rate in rates)
    if first is None or second is None:
        return None
    nothing = (0, 0, 0, policy_header)
    # The format without its end, the wait for a slot: only refusals have one.
    return policy_header, [(0, 0, *nothing)], [nothing], state.removesuffix(b"%s"), first, second, slots


def pair_state(decision: Decision, template: PairTemplate, debt: int, debt_2: int, held: int) -> tuple[bytes, bytes]:
    """RateLimit for an allowed claim with a cost. It left the debts `debt` and `debt_2`, and `held` slots in use."""
    _, by_debts, by_numbers, state, first, second, slots = template
    capacity, unit, seconds, tokens = first
    capacity_2, unit_2, seconds_2, tokens_2 = second
    left, left_2 = (capacity - debt) // unit, (capacity_2 - debt_2) // unit_2
    same, same_2, same_held, header = by_numbers[0]
    if left == same and left_2 == same_2 and held == same_held:
        # The second time in a row. From now on the debts are compared, which spares the divisions.
        above, above_2 = capacity - left * unit + 1, capacity_2 - left_2 * unit_2 + 1
        by_debts[0] = above - unit, above, above_2 - unit_2, above_2, held, header
        return header
    wait_s = -(-left * seconds // tokens) or _next_token_s(decision, 0)
    wait_2_s = -(-left_2 * seconds_2 // tokens_2) or _next_token_s(decision, 1)
    header = STATE_HEADER, state % (left, wait_s, left_2, wait_2_s, slots - held)
    if left and left_2:
        # Without tokens, the time counts too.
        by_numbers[0] = left, left_2, held, header
    return header


def _next_token_s(decision: Decision, rate_index: int) -> int:
    """The seconds until the rate has one more token."""
    debt, since_ms = decision.levels[2 * rate_index : 2 * rate_index + 2]
    rate = decision.plan.rates[rate_index]
    return bounded(whole_seconds(wait_ms(rate, debt, since_ms, decision.decided_at_ms, 1)))
