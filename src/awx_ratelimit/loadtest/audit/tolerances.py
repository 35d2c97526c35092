"""`Terms`: what a gateway has promised, and how much an observer must allow it. `Verdict`: whether it kept to it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate

#: The shortest time that clocks of milliseconds, read on both sides, can tell apart, and a little more.
TOLERANCE_US: Final = 10_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What is audited: `plan`, kept for each key by itself.

    `release_us` is how late a slot may come back after the body has ended, `hang_up_us` after the client has gone: a
    server hears of that when it writes next. `skew_us` is how far the gateway's calendar may be off the tester's.
    `latency_us` is how much longer another key's requests may take while one floods. A request whose sending and
    answering may be off by `spread_us`, between machines, is that much longer under way.
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
        """The rates that are enforced."""
        return tuple(rate for rate in self.plan.rates if not (rate.shadow or self.plan.shadow))

    @property
    def slots(self) -> int | None:
        """The slots that are enforced; None where nothing limits them."""
        concurrency = self.plan.concurrency
        return None if concurrency is None or concurrency.shadow or self.plan.shadow else concurrency.slots


class Mark(StrEnum):
    """Whether a promise was kept. `UNSHOWN`: what was observed can neither break nor show it."""

    PASSED = "passed"
    FAILED = "failed"
    UNSHOWN = "not shown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one promise: in a sentence, and up to a few observations that show it."""

    name: str
    mark: Mark
    detail: str
    examples: tuple[str, ...] = ()


#: How many observations a verdict quotes.
MOST_EXAMPLES: Final = 5


def verdict(name: str, faults: list[str], shown: bool, detail: str) -> Verdict:
    """FAILED with `faults` where there are any, else whether anything was shown."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Verdict(name, Mark.FAILED, f"{faults[0]}{more}", tuple(faults[:MOST_EXAMPLES]))
    return Verdict(name, Mark.PASSED if shown else Mark.UNSHOWN, detail)


def seconds(us: int) -> str:
    """A time as reports show it."""
    return f"{us / 1_000_000:.3f} s"
