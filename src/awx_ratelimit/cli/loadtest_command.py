"""``awx-ratelimit loadtest``: send load to a gateway, audit its responses, and write reports.

Keys come from the environment (AWX_LOADTEST_KEY), from a file (``--keys``) or, less safely, from the command line.
"""

import inspect
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from awx_ratelimit.cli import output, report_files
from awx_ratelimit.cli.interrupts import Stops
from awx_ratelimit.cli.live_view import View
from awx_ratelimit.cli.loadtest_options import LoadTestOptions
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import RunConfig
from awx_ratelimit.loadtest.runner import run, run_worker

BROKEN, UNFINISHED, INTERRUPTED = 1, 2, 130


def loadtest(**values: Any) -> int:
    """Audit the limits of a gateway from the outside. The exit status is 1 if the gateway breaks a promise."""
    options = LoadTestOptions(**values)
    keys = options.read_keys()
    config, files = options.run_config(keys), options.report_files()
    report_files.check(files)
    with Stops() as stops:
        report = _run(config, keys, stops, quiet=options.quiet or not output.is_live())
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
    """Make load for a run on another machine, with the same AWX_LOADTEST_KEY or AWX_LOADTEST_KEYS."""
    return run_worker(host, port)


def _run(config: RunConfig, keys: list[str], stops: Stops, *, quiet: bool) -> Report:
    began_at = datetime.now(UTC)
    with View(config, quiet=quiet) as view:
        record = run(config, keys, view.show, stops)
    return Report.of_run(config, began_at, record)


def _print(report: Report, unwritten: list[str]) -> None:
    rows = [(one.name, one.result, one.detail) for one in report.verdicts]
    output.print_table(("promise", "verdict", "details"), rows)
    if report.record.interrupted:
        output.say("interrupted; the report contains all requests until then")
    for message in (report.record.trouble, *unwritten):
        if message:
            output.say(message)
