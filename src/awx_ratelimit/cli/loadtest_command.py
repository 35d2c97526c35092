"""``awx-ratelimit loadtest``: send load to a gateway, audit its responses, and write reports.

Keys come from the environment (AWX_LOADTEST_KEY), from a file (``--keys``) or, less safely, from the command line.
"""

import inspect
import signal
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Annotated, Any, Final, Self

import typer

from awx_ratelimit.cli import output, report_files
from awx_ratelimit.cli.live_view import LiveView
from awx_ratelimit.cli.loadtest_options import LoadTestOptions
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import run, run_worker

BROKEN, UNFINISHED, INTERRUPTED = 1, 2, 130
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_SIGNALS: Final = 2


def loadtest(**values: Any) -> int:
    """Audit the limits of a gateway from the outside. The exit status is 1 if the gateway breaks a promise."""
    options = LoadTestOptions(**values)
    keys = options.read_keys()
    config, files = options.run_config(keys), options.report_files()
    report_files.check(files)
    with SignalCounter() as signals:
        report = _run(config, keys, signals, quiet=options.quiet or not output.is_live())
        unwritten = report_files.write(files, report)
    _print(report, unwritten)
    if report.record.interrupted:
        return INTERRUPTED
    return BROKEN if report.failed else UNFINISHED if report.record.trouble or unwritten else 0


# Typer reads the options from the signature.
loadtest.__signature__ = inspect.signature(LoadTestOptions)  # type: ignore[attr-defined]


def loadtest_worker(
    host: Annotated[str, typer.Argument(help="The machine that runs `loadtest --workers N --remote`.")],
    port: Annotated[int, typer.Option(help="The port of that machine's --bind.")] = 5557,
) -> int:
    """Send load for a run on another machine. AWX_LOADTEST_KEY or AWX_LOADTEST_KEYS must be the same on both."""
    return run_worker(host, port)


def _run(config: RunConfig, keys: list[str], signals: "SignalCounter", *, quiet: bool) -> Report:
    began_at = datetime.now(UTC)
    with LiveView(config, quiet=quiet) as view:
        record = run(config, keys, view.show, signals)
    return Report.of_run(config, began_at, record)


def _print(report: Report, unwritten: list[str]) -> None:
    rows = [(one.name, one.result, one.detail) for one in report.verdicts]
    output.print_table(("promise", "verdict", "details"), rows)
    if report.record.interrupted:
        output.say("interrupted; the report contains all requests until then")
    for message in (report.record.trouble, *unwritten):
        if message:
            output.say(message)


class SignalCounter:
    """Counts SIGINT, SIGTERM and SIGHUP while it is entered. Calling it returns the count.

    The first signal ends a run with its report, the second one at once. The third raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._count = 0
        self._previous: dict[signal.Signals, object] = {}

    def __call__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # A signal that is ignored, as under nohup or in the background, stays ignored.
            if (previous := signal.getsignal(number)) is not signal.SIG_IGN:
                self._previous[number] = previous
                signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]  # from getsignal

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > _MAX_SIGNALS:
            raise KeyboardInterrupt
