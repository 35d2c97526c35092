"""``awx-ratelimit loadtest``: send load to a gateway, audit its responses, and write reports.

Keys come from the environment (AWX_LOADTEST_KEY), from a file (``--keys``) or, less safely, from the command line.
"""

import inspect
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.callers import caller_of
from awx_ratelimit.cli.live_view import LiveView
from awx_ratelimit.cli.options import AppPlans
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.loadtest import key_sources
from awx_ratelimit.loadtest.audit.contract import REFUSED_STATUS
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report, as_json, as_junit
from awx_ratelimit.loadtest.run_config import PROFILES, SOAK, RunConfig
from awx_ratelimit.loadtest.runner import StopRequests, run, run_worker
from awx_ratelimit.runtime.files import UnusableFile, check_links, create_owned

BROKEN, UNFINISHED, INTERRUPTED = 1, 2, 130
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_SIGNALS: Final = 2
#: The path of each report, and the function that formats it.
ReportFiles = Mapping[Path, Callable[[Report], str]]
_LOCAL_BIND, _REMOTE_BIND = "127.0.0.1:0", "0.0.0.0:5557"  # remote workers connect from other machines
_ALL_PROFILES: Final = ", ".join((*PROFILES, SOAK))


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadTestOptions:
    """The options as Typer parses them. Those named like a field of RunConfig become that field."""

    url: Annotated[str, typer.Argument(help="Base URL of the gateway: http://host:port, with an optional path prefix.")]
    plan: Annotated[str | None, typer.Option(help="Plan of the keys, as named in --plans.")] = None
    plans: AppPlans = None
    rate: Annotated[list[str] | None, typer.Option(help="Without --plan: rate, such as 60/minute. Repeatable.")] = None
    burst: Annotated[int | None, typer.Option(help="Burst of every --rate and --account-rate.")] = None
    slots: Annotated[int | None, typer.Option(help="Without --plan: number of concurrent requests.")] = None
    account_rate: Annotated[
        list[str] | None,
        typer.Option(help="Without --plan: rate that all keys share, such as 1000/month. Repeatable."),
    ] = None
    account_slots: Annotated[
        int | None, typer.Option(help="Without --plan: number of concurrent requests of all keys together.")
    ] = None
    same_account: Annotated[
        bool, typer.Option(help="All keys belong to one account. Also audit the limits that they share.")
    ] = False
    key: Annotated[list[str] | None, typer.Option(help="Idle key. AWX_LOADTEST_KEY and --keys are safer.")] = None
    keys: Annotated[Path | None, typer.Option(help="File of idle keys, one per line. Isolation needs two.")] = None
    path: Annotated[str, typer.Option(help="Path of the requests.")] = "/"
    method: Annotated[str, typer.Option(help="HTTP method of the requests.")] = "GET"
    cost: Annotated[int, typer.Option(min=1, help="Cost that the gateway charges for a request.")] = 1
    stream_path: Annotated[str | None, typer.Option(help="Path of a stream that lasts a second or more.")] = None
    websocket_path: Annotated[str | None, typer.Option(help="Path of a WebSocket.")] = None
    key_header: Annotated[str, typer.Option(help="Header that carries the key.")] = "X-API-Key"
    key_form: Annotated[str, typer.Option(help="Value of that header, such as 'Bearer {key}'.")] = "{key}"
    refused_status: Annotated[int, typer.Option(help="HTTP status that means 'refused'.")] = REFUSED_STATUS
    profiles: Annotated[str | None, typer.Option(help=f"Comma-separated profiles: {_ALL_PROFILES}.")] = None
    seconds: Annotated[int, typer.Option(min=1, help="Maximum duration in seconds.")] = 900
    requests: Annotated[int, typer.Option(min=1, help="Maximum number of requests.")] = 20_000
    timeout_ms: Annotated[int, typer.Option(min=1, help="Timeout of a request in milliseconds.")] = 5_000
    users: Annotated[int, typer.Option(min=1, help="Number of clients in profiles that use several.")] = 10
    workers: Annotated[int, typer.Option(min=0, help="Number of Locust worker processes.")] = 0
    remote: Annotated[bool, typer.Option(help="Wait for workers on other machines (loadtest-worker).")] = False
    bind: Annotated[
        str | None, typer.Option(help="HOST:PORT for workers. Default: a free local port; with --remote, 0.0.0.0:5557.")
    ] = None
    web: Annotated[str | None, typer.Option(help="Serve Locust's live web page at this HOST:PORT.")] = None
    json: Annotated[Path | None, typer.Option(help="Write a JSON report to this file.")] = None
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit XML report to this file.")] = None
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None
    quiet: Annotated[bool, typer.Option(help="Print a line per profile instead of the live view.")] = False

    def read_keys(self) -> list[str]:
        """The keys from the command line, the environment and the file. Raises ValueError and OSError."""
        from_file = key_sources.from_file(self.keys) if self.keys else []
        return key_sources.validated([*(self.key or ()), *key_sources.from_environment(), *from_file])

    def run_config(self, keys: Sequence[str]) -> RunConfig:
        """The configuration of the run, which is valid for `keys`. Raises ValueError."""
        values = {field.name: getattr(self, field.name) for field in fields(RunConfig)}
        values["plan"] = self._plan()
        values["same_account"] = self._has_one_account
        values["method"] = self.method.upper()
        values["profiles"] = self._profiles(len(keys))
        values["bind"] = self.bind or (_REMOTE_BIND if self.remote else _LOCAL_BIND)
        config = RunConfig(**values)
        config.validate(len(keys))
        return config

    def report_files(self) -> ReportFiles:
        """The reports to write: for each path, the function that renders it."""
        renderers = {self.json: lambda report: dumps(as_json(report), indent=2) + "\n"}
        renderers |= {self.junit: as_junit, self.html: as_html}
        return {path: render for path, render in renderers.items() if path}

    def _plan(self) -> Plan:
        account = self._account_limits()
        if self.rate or self.slots is not None or account:
            if self.plan:
                raise typer.BadParameter("give either --plan, or --rate and --slots, not both")
            return Plan("given", self._rates(self.rate), _concurrency(self.slots), account)
        table, gate = plan_source(self.plans)
        return table.resolve(caller_of("loadtest", plan=self.plan, gate=gate).caller)

    def _account_limits(self) -> Plan | None:
        if not self.account_rate and self.account_slots is None:
            return None
        if not self.rate and self.slots is None:
            raise typer.BadParameter("--account-rate and --account-slots need those of each key: add --rate or --slots")
        return Plan("given.account", self._rates(self.account_rate), _concurrency(self.account_slots))

    def _rates(self, texts: Sequence[str] | None) -> tuple[Rate, ...]:
        rates = [(text, Rate.parse(text)) for text in texts or ()]
        # Calendar periods have no burst.
        return tuple(rate if rate.calendar else Rate.parse(text, burst=self.burst) for text, rate in rates)

    @property
    def _has_one_account(self) -> bool:
        return self.same_account or bool(self.account_rate) or self.account_slots is not None

    def _profiles(self, key_count: int) -> tuple[str, ...]:
        """The chosen profiles; by default all whose requirements are met."""
        if self.profiles:
            return tuple(name.strip() for name in self.profiles.split(","))
        impossible = {
            "streams": self.stream_path is None, "websockets": self.websocket_path is None,
            "isolation": key_count < 2, "keys": key_count < 3, "account": key_count < 2 or not self._has_one_account,
        }  # fmt: skip
        return tuple(name for name in PROFILES if not impossible.get(name))


def _concurrency(slots: int | None) -> Concurrency | None:
    return None if slots is None else Concurrency(slots)


def loadtest(**values: Any) -> int:
    """Audit the limits of a gateway from the outside. The exit status is 1 if the gateway breaks a promise."""
    options = LoadTestOptions(**values)
    keys = options.read_keys()
    config, files = options.run_config(keys), options.report_files()
    check_files(files)
    with counted_signals() as signals:
        report = _run(config, keys, signals, quiet=options.quiet or not output.is_live())
        unwritten = _write(files, report)
    _print(report, unwritten)
    if report.record.interrupted:
        return INTERRUPTED
    return BROKEN if report.failed else UNFINISHED if report.record.trouble or unwritten else 0


# Typer reads the options from the signature.
loadtest.__signature__ = inspect.signature(LoadTestOptions)  # type: ignore[attr-defined]


def loadtest_worker(
    host: Annotated[str, typer.Argument(help="Machine that runs `loadtest --workers N --remote`.")],
    port: Annotated[int, typer.Option(help="Port of that machine's --bind.")] = 5557,
) -> int:
    """Send load for a run on another machine. AWX_LOADTEST_KEY or AWX_LOADTEST_KEYS must be the same on both."""
    return run_worker(host, port)


def _run(config: RunConfig, keys: list[str], signals: StopRequests, *, quiet: bool) -> Report:
    began_at = datetime.now(UTC)
    with LiveView(config, quiet=quiet) as view:
        record = run(config, keys, view.show, signals)
    return Report.of_run(config, began_at, record)


def _print(report: Report, unwritten: list[str]) -> None:
    rows = [(one.name, one.result, one.detail) for one in report.verdicts]
    output.print_table(("promise", "verdict", "details"), rows)
    for message in (report.end, report.gap, *unwritten):
        if message:
            output.say(message)


def check_files(paths: Iterable[Path]) -> None:
    """Check that each file can be written. A missing one is created with mode 0600; the others are not changed.

    Raises OSError, and UnusableFile for a symbolic link of another user, who could choose what is overwritten.
    """
    for path in paths:
        try:
            check_links(path)
        except UnusableFile as error:
            raise UnusableFile(f"{path}: {error}") from error
        with suppress(FileExistsError):
            os.close(create_owned(str(path), os.O_WRONLY))
        with path.open("ab"):
            pass


def _write(files: ReportFiles, report: Report) -> list[str]:
    """Write each report completely or not at all, even if another one fails; one error message per failure."""
    errors = []
    for path, format_report in files.items():
        try:
            path.write_text(format_report(report), encoding="utf-8")
        except OSError as error:
            if path.is_file():
                path.unlink()
            errors.append(f"cannot write the report {path}: {error.strerror}")
    return errors


@contextmanager
def counted_signals() -> Iterator[StopRequests]:
    """Count SIGINT, SIGTERM and SIGHUP during the block. Yields a function that returns the count.

    The first signal ends a run with its report, the second one at once. The third raises KeyboardInterrupt.
    """
    count = 0

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > _MAX_SIGNALS:
            raise KeyboardInterrupt

    # A signal that is ignored, as under nohup or in the background, stays ignored.
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield lambda: count
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
