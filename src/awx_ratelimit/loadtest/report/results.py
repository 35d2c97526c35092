"""`Report`: the results of a run, which every report format renders."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import ANSWERS, audit
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Result, Verdict
from awx_ratelimit.loadtest.run_config import RunConfig

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one run. `trouble` says why the run ended early, and is empty if it did not."""

    config: RunConfig
    tolerances: Tolerances
    began_at: datetime
    observations: Sequence[Observation]
    verdicts: Sequence[Verdict]
    trouble: str = ""
    interrupted: bool = False
    workers: int = 0

    @classmethod
    def of_run(
        cls,
        config: RunConfig,
        began_at: datetime,
        observations: Sequence[Observation],
        *,
        spread_us: int = 0,
        trouble: str = "",
        interrupted: bool = False,
        workers: int = 0,
    ) -> "Report":
        """Audit `observations`. A run that ended before its first request proves nothing about the gateway."""
        tolerances = Tolerances(config.plan, spread_us=spread_us)
        verdicts = audit(observations, tolerances)
        reason = trouble or ("interrupted before the first request" if interrupted else "")
        if reason and not observations:
            verdicts[0] = Verdict(ANSWERS, Result.NOT_SHOWN, reason)
        return cls(config, tolerances, began_at, observations, verdicts, trouble, interrupted, workers)

    @property
    def failed(self) -> list[Verdict]:
        """The verdicts on promises that the gateway broke."""
        return [one for one in self.verdicts if one.result is Result.FAILED]

    @property
    def outcome(self) -> str:
        """The result of the whole run: failed, unfinished, passed or not shown."""
        if self.failed:
            return Result.FAILED
        if self.trouble or self.interrupted:
            return "unfinished"
        return Result.PASSED if any(one.result is Result.PASSED for one in self.verdicts) else Result.NOT_SHOWN

    @property
    def seconds(self) -> float:
        """The time from the first request to the end of the last."""
        if not self.observations:
            return 0.0
        begin_us = min(one.sent_us for one in self.observations)
        return (max(one.ended_us for one in self.observations) - begin_us) / 1_000_000

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles, in the order in which they began."""
        return list(dict.fromkeys(one.profile for one in self.observations))

    def profile_statistics(self, name: str) -> dict[str, Any]:
        """The counts and latency percentiles of one profile."""
        of_profile = [one for one in self.observations if one.profile == name]
        latencies_ms = sorted((one.answered_us - one.sent_us) / 1_000 for one in of_profile)
        counts = {outcome.value: sum(1 for one in of_profile if one.outcome is outcome) for outcome in Outcome}
        percentiles = {f"p{percent}_ms": round(percentile(latencies_ms, percent), 3) for percent in PERCENTILES}
        return {"name": name, **counts, **percentiles}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest of the `ordered` values that is not below `percent` % of them; 0 if there are none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0
