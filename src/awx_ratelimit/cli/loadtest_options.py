"""`LoadTestOptions`: the command-line options of ``awx-ratelimit loadtest``, and the run that they describe."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from json import dumps
from pathlib import Path
from typing import Annotated, Final

import typer

from awx_ratelimit.cli.report_files import ReportFiles
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.loadtest import key_sources
from awx_ratelimit.loadtest.audit.contract import REFUSED_STATUS
from awx_ratelimit.loadtest.report.ci_reports import as_json, as_junit
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.run_config import PROFILES, SOAK, RunConfig

_LOCAL_BIND, _REMOTE_BIND = "127.0.0.1:0", "0.0.0.0:5557"  # remote workers connect from other machines
_ALL_PROFILES: Final = ", ".join((*PROFILES, SOAK))


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadTestOptions:
    """The options as Typer parses them. Those named like a field of RunConfig become that field."""

    url: Annotated[str, typer.Argument(help="The gateway: http://host:port, with an optional path prefix.")]
    plan: Annotated[str | None, typer.Option(help="The plan of the keys, by its name in --plans.")] = None
    plans: Annotated[
        Path | None, typer.Option(envvar="AWX_PLANS", help="A plans.toml file. Default: the built-in plans.")
    ] = None
    rate: Annotated[list[str] | None, typer.Option(help="Without --plan: a rate, such as 60/minute. Repeatable.")] = (
        None
    )
    burst: Annotated[int | None, typer.Option(help="The burst of every --rate.")] = None
    slots: Annotated[int | None, typer.Option(help="Without --plan: the number of concurrent requests.")] = None
    key: Annotated[list[str] | None, typer.Option(help="An idle key. AWX_LOADTEST_KEY and --keys are safer.")] = None
    keys: Annotated[Path | None, typer.Option(help="A file of idle keys, one per line. Isolation needs two.")] = None
    path: Annotated[str, typer.Option(help="The path of the requests.")] = "/"
    method: Annotated[str, typer.Option(help="The HTTP method of the requests.")] = "GET"
    cost: Annotated[int, typer.Option(min=1, help="The cost that the gateway charges for a request.")] = 1
    stream_path: Annotated[str | None, typer.Option(help="The path of a response that lasts a second or more.")] = None
    websocket_path: Annotated[str | None, typer.Option(help="The path of a WebSocket.")] = None
    key_header: Annotated[str, typer.Option(help="The header that carries the key.")] = "X-API-Key"
    key_form: Annotated[str, typer.Option(help="The value of that header, such as 'Bearer {key}'.")] = "{key}"
    refused_status: Annotated[int, typer.Option(help="The HTTP status that means 'refused'.")] = REFUSED_STATUS
    profiles: Annotated[str | None, typer.Option(help=f"Comma-separated profiles: {_ALL_PROFILES}.")] = None
    seconds: Annotated[int, typer.Option(min=1, help="Maximum duration.")] = 300
    requests: Annotated[int, typer.Option(min=1, help="Maximum number of requests.")] = 20_000
    timeout_ms: Annotated[int, typer.Option(min=1, help="Time-out of a request.")] = 5_000
    users: Annotated[int, typer.Option(min=1, help="Number of clients in profiles with several clients.")] = 10
    workers: Annotated[int, typer.Option(min=0, help="Number of Locust worker processes.")] = 0
    remote: Annotated[bool, typer.Option(help="Wait for workers on other machines (loadtest-worker).")] = False
    bind: Annotated[
        str | None, typer.Option(help="HOST:PORT for workers. Default: a free local port; with --remote 0.0.0.0:5557.")
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
        if self.rate or self.slots is not None:
            if self.plan:
                raise typer.BadParameter("give either --plan, or --rate and --slots, not both")
            rates = tuple(Rate.parse(text, burst=self.burst) for text in self.rate or ())
            return Plan("given", rates, None if self.slots is None else Concurrency(self.slots))
        table = PlanTable.from_toml(self.plans) if self.plans else PlanTable.default()
        return table.resolve(Caller("loadtest", self.plan))

    def _profiles(self, key_count: int) -> tuple[str, ...]:
        """The chosen profiles; by default all whose requirements are met."""
        if self.profiles:
            return tuple(name.strip() for name in self.profiles.split(","))
        impossible = {
            "streams": self.stream_path is None, "websockets": self.websocket_path is None,
            "isolation": key_count < 2, "keys": key_count < 3,
        }  # fmt: skip
        return tuple(name for name in PROFILES if not impossible.get(name))
