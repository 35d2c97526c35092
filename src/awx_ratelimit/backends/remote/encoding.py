"""Numbers and names that every server stores alike: ids of leases, times, and calendar periods."""

from typing import Final, NamedTuple, cast

from awx_ratelimit.core.calendar_periods import Period, Periods, calendar_periods
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import EXACT_MAX, Rate

MAX_LATER: Final = 3
#: The largest time, in ms from the epoch. Sums of times must stay below 2**53, where Lua's numbers stop being exact.
MAX_TIME_MS: Final = 2**52
#: A lease id is the owner's 128 bits, followed by a sequence number of this many bits.
SEQUENCE_BITS: Final = 48
#: Masks the sequence number of a lease id.
SEQUENCE: Final = (1 << SEQUENCE_BITS) - 1


class Moments(NamedTuple):
    """The times whose calendar periods a call sends: the present as far as this process knows, and stored times.

    `later_ms` is empty unless a script has asked for the periods of stored times that are later than the present. Of
    more than MAX_LATER, the last ones are sent.
    """

    now_ms: int
    later_ms: tuple[int, ...] = ()


def encode_calendar(rate: Rate) -> bytes:
    """The calendar of a rate, so that any process can read it: see `decode_calendar`."""
    return f"{rate.period} {rate.anchor_day} {rate.anchor_month} {rate.timezone}".encode()


def decode_calendar(calendar: bytes) -> Periods:
    """The periods of a stored calendar. Raises ValueError if it does not exist on this machine."""
    period, day, month, timezone = calendar.decode().split(" ", 3)
    return calendar_periods(cast("Period", period), int(day), int(month), timezone)


def bounds(periods: Periods, at_ms: int) -> tuple[int, int]:
    """`periods.bounds`. Times that no calendar covers are one period: an error here would fail a whole batch."""
    try:
        return periods.bounds(at_ms)
    except ValueError:
        return -MAX_TIME_MS, MAX_TIME_MS


def ends_ms(plan: Plan, granted_at_ms: int) -> int:
    """When a lease reaches its `max_hold_ms`; 0 if the plan has none."""
    return granted_at_ms + min(plan.max_hold_ms, EXACT_MAX) if plan.max_hold_ms else 0
