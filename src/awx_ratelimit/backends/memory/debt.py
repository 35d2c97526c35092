"""`Debt`: one limit of a subject."""

from typing import NamedTuple

from awx_ratelimit.core.bucket import convert_debt
from awx_ratelimit.core.rate import Rate


class Debt(NamedTuple):
    """One limit: its debt, the time of the debt, and the rate that last charged it."""

    debt: int
    at_ms: int
    rate: Rate

    def under(self, rate: Rate) -> int:
        """The debt in the unit of `rate`."""
        return convert_debt(rate, self.debt, self.rate.unit, self.rate.capacity)

    def is_counted_as(self, rate: Rate) -> bool:
        """Whether `rate` has the same unit and capacity."""
        return (rate.unit, rate.capacity) == (self.rate.unit, self.rate.capacity)
