"""`Tolerances`: the plan that a gateway promises to enforce, and the inaccuracy that an audit allows."""

from dataclasses import dataclass
from typing import Final

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate

#: Two clocks that count whole milliseconds cannot resolve less; with a safety margin.
TOLERANCE_US: Final = 10_000


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What an audit checks: `plan`, for each key separately, within these tolerances.

    - `release_us`: how long after its body a response may keep its slot.
    - `hang_up_us`: the same after a client disconnects, which a server notices at its next write.
    - `skew_us`: how far the gateway's calendar may differ from the tester's.
    - `latency_us`: how much slower one key's requests may get while another key floods the gateway.
    - `spread_us`: how inaccurate times from other machines may be. Every request is extended by this at both ends.
    """

    plan: Plan
    release_us: int = 250_000
    hang_up_us: int = 2_000_000
    skew_us: int = 2_000_000
    latency_us: int = 100_000
    spread_us: int = 0
    tolerance_us: int = TOLERANCE_US

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates that the gateway enforces."""
        return enforced_rates(self.plan)

    @property
    def slots(self) -> int | None:
        """The number of slots that the gateway enforces, or None if it enforces none."""
        concurrency = self.plan.concurrency
        return None if concurrency is None or concurrency.shadow or self.plan.shadow else concurrency.slots


def enforced_rates(plan: Plan) -> tuple[Rate, ...]:
    """The rates of `plan` that are not in shadow mode."""
    return tuple(rate for rate in plan.rates if not (rate.shadow or plan.shadow))
