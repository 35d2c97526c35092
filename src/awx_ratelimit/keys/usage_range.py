"""The time of a report of usage: whole hours or days."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, NamedTuple

from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys import validation

By = Literal["hour", "day"]
#: How many hours and days can be stored: see `UsageHistory`. Old hours are removed some time after their end.
_MAX_PERIODS: Final = {"hour": 36 * 24, "day": validation.MAX_DAYS}
_LENGTHS_MS: Final[Mapping[str, int]] = {"hour": 3_600_000, "day": 86_400_000}
#: How many periods there are in an answer without `from_`.
_DEFAULT_PERIODS: Final = {"hour": 24, "day": 30}


class Range(NamedTuple):
    """Whole periods of one length, from `begins_ms` until before `ends_ms`."""

    by: By
    begins_ms: int
    ends_ms: int

    @property
    def length_ms(self) -> int:
        """The length of a period."""
        return _LENGTHS_MS[self.by]

    @property
    def number(self) -> int:
        """The number of periods."""
        return (self.ends_ms - self.begins_ms) // self.length_ms

    def part(self, page_num: int, page_size: int) -> "Range":
        """The periods of one page."""
        first_ms = self.begins_ms + (page_num - 1) * page_size * self.length_ms
        return self._replace(
            begins_ms=min(first_ms, self.ends_ms), ends_ms=min(first_ms + page_size * self.length_ms, self.ends_ms)
        )


def usage_range(now_ms: int, from_: datetime | None, to: datetime | None, by: By) -> Range:
    """Return the periods from `from_` until `to`, as `UsageReports` documents them. Raises InvalidKeyRequest."""
    if by not in _LENGTHS_MS:
        raise InvalidKeyRequest("not a period", remedy="expected hour or day", field="by")
    length_ms = _LENGTHS_MS[by]
    # The current period is the last one.
    latest_ms = (now_ms // length_ms + 1) * length_ms
    # Rounded up: a time at the beginning of a period is the end of the one before.
    ends_ms = latest_ms if to is None else min(-(-validation.time_ms(to, "to") // length_ms) * length_ms, latest_ms)
    begins_ms = ends_ms - _DEFAULT_PERIODS[by] * length_ms if from_ is None else validation.time_ms(from_, "from")
    begins_ms = max(begins_ms // length_ms * length_ms, latest_ms - _MAX_PERIODS[by] * length_ms)
    return Range(by, begins_ms, max(begins_ms, ends_ms))
