"""`Verdict`: whether a gateway kept one promise."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from awx_ratelimit.loadtest.audit.observation import SECOND_US


class Result(StrEnum):
    """The result of a check. `NOT_SHOWN`: the observations can neither prove nor disprove the promise."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one promise: one sentence, and for a failure up to `MAX_EXAMPLES` faults."""

    name: str
    result: Result
    detail: str
    examples: tuple[str, ...] = ()


MAX_EXAMPLES: Final = 5


def judge(name: str, faults: list[str], shown: bool, detail: str) -> Verdict:
    """FAILED if there are `faults`, else PASSED if the observations show that the promise was kept (`shown`)."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Verdict(name, Result.FAILED, f"{faults[0]}{more}", tuple(faults[:MAX_EXAMPLES]))
    return Verdict(name, Result.PASSED if shown else Result.NOT_SHOWN, detail)


def seconds(us: int) -> str:
    """Format a duration in microseconds for a report."""
    return f"{us / SECOND_US:.3f} s"
