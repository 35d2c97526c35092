"""The live view of a run: requests and responses per profile, and the promises broken so far."""

import time
from types import TracebackType
from typing import Final, Self

from awx_ratelimit.cli import output
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import audit
from awx_ratelimit.loadtest.audit.tolerances import Tolerances
from awx_ratelimit.loadtest.audit.verdict import Verdict
from awx_ratelimit.loadtest.report.results import percentile
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

#: Larger runs are audited only at the end, because an audit takes time.
_MAX_AUDITED: Final = 5_000
#: The number of latest requests in the percentiles.
_RECENT: Final = 200
_COLUMNS = ("profile", "admitted", "refused", "failed", "p50 ms", "p99 ms")


class LiveView:
    """Shows the progress of a run. If `quiet`, it prints one line when a profile starts."""

    def __init__(self, config: RunConfig, *, quiet: bool) -> None:
        self._config = config
        self._live = None if quiet else output.Live()
        self._began_s = time.monotonic()
        self._stages = 0
        self._verdicts: list[Verdict] = []

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, record: RunRecord) -> None:
        """Show the requests recorded so far."""
        if len(record.stages) != self._stages:
            self._stages = len(record.stages)
            if len(record.observations) <= _MAX_AUDITED:
                self._verdicts = (
                    audit(record.observations, Tolerances(self._config.plan)) if record.observations else []
                )
            if not self._live:
                name, users = record.stages[-1]
                count = len(record.observations)
                output.say(f"{self._seconds:6.1f} s  {name}, {users} concurrent clients; {count} requests so far")
        if self._live:
            self._live.update(self._head(record), _COLUMNS, self._rows(record), self._verdict_rows())

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began_s

    def _head(self, record: RunRecord) -> tuple[str, str]:
        now = f"profile {len(record.stages)} of {len(self._config.profiles)}" if record.stages else "starting"
        bounds = f"{self._seconds:.0f} of {self._config.seconds} s, {len(record.observations)} requests"
        return self._config.url, f"{now}, {bounds}; Ctrl-C stops the run and reports"

    def _rows(self, record: RunRecord) -> list[tuple[str, ...]]:
        names = [name for name, _ in record.stages]
        return [_row(name, [one for one in record.observations if one.profile == name]) for name in names]

    def _verdict_rows(self) -> list[tuple[str, str, str]]:
        return [(one.name, one.result, one.detail) for one in self._verdicts]


def _row(name: str, observations: list[Observation]) -> tuple[str, ...]:
    counts = [sum(1 for one in observations if one.outcome is outcome) for outcome in Outcome]
    recent = sorted((one.answered_us - one.sent_us) / 1_000 for one in observations[-_RECENT:])
    return (name, *map(str, counts), *(f"{percentile(recent, percent):.1f}" for percent in (50, 99)))
