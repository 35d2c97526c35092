"""What an audit judges by, its `Tolerances`, and what it returns, a `Verdict` on each promise."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from awx_ratelimit.core.budget import ACCOUNT_SCOPE, scoped_name
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS, Rate
from awx_ratelimit.loadtest.audit.observation import SECOND_US, Observation, Outcome, group_by_key

MAX_EXAMPLES: Final = 5


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


def judge(name: str, faults: list[str], shown: bool, detail: str) -> Verdict:
    """FAILED if there are `faults`, else PASSED if the observations show that the promise was kept (`shown`)."""
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Verdict(name, Result.FAILED, f"{faults[0]}{more}", tuple(faults[:MAX_EXAMPLES]))
    return Verdict(name, Result.PASSED if shown else Result.NOT_SHOWN, detail)


def seconds(us: int) -> str:
    """Format a duration in microseconds for a report."""
    return f"{us / SECOND_US:.3f} s"


@dataclass(frozen=True, slots=True)
class AuditedBudget:
    """The limits of each key, or those in the scope of an account.

    With `is_shared` all keys of the run use them together.
    """

    plan: Plan
    scope: str | None = None
    is_shared: bool = False

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates of requests that the gateway enforces. Only their charges can be known from the outside."""
        return request_rates(self.plan)

    @property
    def measured_rates(self) -> tuple[Rate, ...]:
        """The enforced rates of anything else, such as tokens."""
        return tuple(rate for rate in enforced_rates(self.plan) if rate.measure != REQUESTS)

    @property
    def slots(self) -> int | None:
        """The number of slots that the gateway enforces, or None if it enforces none."""
        concurrency = self.plan.concurrency
        return None if concurrency is None or concurrency.shadow or self.plan.shadow else concurrency.slots

    def name(self, limit: str) -> str:
        """The name of a limit with its scope."""
        return scoped_name(self.scope, limit)

    def group_of(self, key: int) -> int:
        """The number of the group of keys that use these limits together."""
        return 0 if self.is_shared else key

    def groups(self, observations: Iterable[Observation]) -> dict[int, list[Observation]]:
        """The observations of each group, in the order in which they were sent."""
        if not self.is_shared:
            return group_by_key(observations)
        ordered = sorted(observations, key=lambda one: one.sent_us)
        return {0: ordered} if ordered else {}


@dataclass(frozen=True, slots=True)
class Tolerances:
    """What an audit checks: `plan`, for each key separately, within these tolerances.

    The limits `plan.account` are checked for all keys together if they belong to the `same_account`, else for each key.

    - `release_us`: how long after its body a response may keep its slot.
    - `hang_up_us`: the same after a client disconnects, which a server notices at its next write.
    - `skew_us`: how far the gateway's calendar may differ from the tester's.
    - `latency_us`: how much slower one key's requests may get while another key floods the gateway.
    - `spread_us`: how inaccurate times from other machines may be. Every request is extended by this at both ends.
    - `known_until_us`: until when all requests are known. A process that was lost may have sent more of them later,
      so later refusals are not judged. None if no process was lost.
    """

    plan: Plan
    release_us: int = 250_000
    hang_up_us: int = 2_000_000
    skew_us: int = 2_000_000
    latency_us: int = 100_000
    spread_us: int = 0
    #: Two clocks that count whole milliseconds cannot resolve less; with a safety margin.
    tolerance_us: int = 10_000
    same_account: bool = False
    known_until_us: int | None = None

    def knows(self, one: Observation) -> bool:
        """Whether all requests are known that the gateway may have decided before it answered `one`."""
        return self.known_until_us is None or one.answered_us <= self.known_until_us - self.spread_us

    def judges(self, one: Observation) -> bool:
        """Whether `one` is a refusal that only known requests can justify."""
        return one.outcome is Outcome.REFUSED and self.knows(one)

    @property
    def budgets(self) -> tuple[AuditedBudget, ...]:
        """The limits of each key, and those of its account if the plan has such."""
        of_key = AuditedBudget(self.plan)
        if self.plan.account is None:
            return (of_key,)
        return of_key, AuditedBudget(self.plan.account, ACCOUNT_SCOPE, self.same_account)


def enforced_rates(plan: Plan) -> tuple[Rate, ...]:
    """The rates of `plan` that are not in shadow mode."""
    return tuple(rate for rate in plan.rates if not (rate.shadow or plan.shadow))


def request_rates(plan: Plan) -> tuple[Rate, ...]:
    """The enforced rates of `plan` that count requests."""
    return tuple(rate for rate in enforced_rates(plan) if rate.measure == REQUESTS)
