"""The live view of a run: requests and responses per profile, and the promises broken so far."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from awx_ratelimit.cli import output
from awx_ratelimit.loadtest.audit.observation import Observation, Outcome
from awx_ratelimit.loadtest.audit.promises import audit
from awx_ratelimit.loadtest.audit.verdict import Verdict
from awx_ratelimit.loadtest.report.results import percentile
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import RunRecord

#: Larger runs are audited only at the end, because an audit takes time.
_MAX_AUDITED: Final = 5_000
#: The number of latest requests in the percentiles.
_RECENT: Final = 200
_NARROW: Final = 56
_STYLES: Final[dict[str, str]] = {"passed": "green", "failed": "bold red"}
_COLUMNS = ("profile", "admitted", "refused", "failed", "p50 ms", "p99 ms")


class LiveView:
    """Shows the progress of a run. If `quiet`, it prints one line when a profile starts."""

    def __init__(self, config: RunConfig, *, quiet: bool) -> None:
        self._config = config
        self._console = Console(stderr=True, highlight=False)
        self._live = None if quiet else Live(console=self._console, transient=True, auto_refresh=False)
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
                seen = record.all_observations
                self._verdicts = audit(seen, record.tolerances(self._config)) if seen else []
            if not self._live:
                name, users = record.stages[-1]
                count = len(record.observations)
                output.say(f"{self._seconds:6.1f} s  {name}, {users} concurrent clients; {count} requests so far")
        if self._live:
            self._live.update(self._drawing(record), refresh=True)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began_s

    def _drawing(self, record: RunRecord) -> Group:
        """A narrow terminal omits the last two columns; a low one omits the first profiles."""
        now = f"profile {len(record.stages)} of {len(self._config.profiles)}" if record.stages else "starting"
        bounds = f"{self._seconds:.0f} of {self._config.seconds} s, {len(record.observations)} requests"
        texts = (self._config.url, f"{now}, {bounds}; Ctrl-C stops the run and reports")
        head = [Text(output.line(text), no_wrap=True, overflow="ellipsis") for text in texts]
        columns = _COLUMNS if self._console.width >= _NARROW else _COLUMNS[:-2]
        table = Table(box=None, pad_edge=False)
        for number, name in enumerate(columns):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for name, _ in record.stages[-max(1, self._console.height - len(head) - len(self._verdicts) - 3) :]:
            of_profile = [one for one in record.observations if one.profile == name]
            table.add_row(*map(Text, _row(name, of_profile)[: len(columns)]))
        return Group(*head, table, Text(), _marked(self._verdicts))


def _row(name: str, observations: list[Observation]) -> tuple[str, ...]:
    ended = (outcome for outcome in Outcome if outcome is not Outcome.UNFINISHED)
    counts = [sum(1 for one in observations if one.outcome is outcome) for outcome in ended]
    recent = sorted((one.answered_us - one.sent_us) / 1_000 for one in observations[-_RECENT:])
    return (name, *map(str, counts), *(f"{percentile(recent, percent):.1f}" for percent in (50, 99)))


def _marked(verdicts: list[Verdict]) -> Table:
    """One line per verdict, cut at the width of the terminal."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for texts in ([one.name for one in verdicts], [one.result for one in verdicts]):
        table.add_column(no_wrap=True, min_width=max(map(len, texts), default=0))
    table.add_column(no_wrap=True, overflow="ellipsis")
    for one in verdicts:
        mark = Text(one.result, style=_STYLES.get(one.result, "yellow"))
        table.add_row(Text(one.name), mark, Text(output.line(one.detail), style="dim"))
    return table
