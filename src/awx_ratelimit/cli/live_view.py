"""The live view of a run: what was asked and answered so far, and which promises are broken already."""

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

#: More than these are audited at the end alone: it takes a while.
_MOST_AUDITED: Final = 5_000
_LATELY = 200
_COLUMNS = ("profile", "admitted", "refused", "failed", "p50 ms", "p99 ms")


class View:
    """See the module. A quiet one says a line for each profile that begins."""

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

    def show(self, seen: RunRecord) -> None:
        """What is seen so far."""
        if len(seen.stages) != self._stages:
            self._stages = len(seen.stages)
            if len(seen.observations) <= _MOST_AUDITED:
                self._verdicts = audit(seen.observations, Tolerances(self._config.plan)) if seen.observations else []
            if not self._live:
                name, users = seen.stages[-1]
                output.say(f"{self._seconds:6.1f} s  {name}, {users} at once; {len(seen.observations)} requests so far")
        if self._live:
            self._live.update(self._head(seen), _COLUMNS, self._rows(seen), self._so_far())

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began_s

    def _head(self, seen: RunRecord) -> tuple[str, str]:
        now = f"profile {len(seen.stages)} of {len(self._config.profiles)}" if seen.stages else "starting"
        bounds = f"{self._seconds:.0f} of {self._config.seconds} s, {len(seen.observations)} requests"
        return self._config.url, f"{now}, {bounds}; Ctrl-C ends it and reports"

    def _rows(self, seen: RunRecord) -> list[tuple[str, ...]]:
        names = [name for name, _ in seen.stages]
        return [_row(name, [one for one in seen.observations if one.profile == name]) for name in names]

    def _so_far(self) -> list[tuple[str, str, str]]:
        return [(one.name, one.result, one.detail) for one in self._verdicts]


def _row(name: str, observations: list[Observation]) -> tuple[str, ...]:
    counts = [sum(1 for one in observations if one.outcome is outcome) for outcome in Outcome]
    lately = sorted((one.answered_us - one.sent_us) / 1_000 for one in observations[-_LATELY:])
    return (name, *map(str, counts), *(f"{percentile(lately, percent):.1f}" for percent in (50, 99)))
