"""``awx-ratelimit loadtest``: load on a gateway, an audit of what it answers, and reports of it.

A key comes from the environment (AWX_LOADTEST_KEY), from a file (``--keys``) or, less well, from the command line.
"""

from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from awx_ratelimit.cli import output, report_files
from awx_ratelimit.cli.interrupts import Stops
from awx_ratelimit.cli.live_view import View
from awx_ratelimit.cli.report_files import ReportFiles
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Concurrency, Rate
from awx_ratelimit.loadtest import key_sources
from awx_ratelimit.loadtest.audit.contract import REFUSED_STATUS
from awx_ratelimit.loadtest.report.ci_reports import as_json, as_junit
from awx_ratelimit.loadtest.report.html import as_html
from awx_ratelimit.loadtest.report.results import Report
from awx_ratelimit.loadtest.run_config import PROFILES, SOAK, RunConfig
from awx_ratelimit.loadtest.runner import run

BROKEN, UNFINISHED, INTERRUPTED = 1, 2, 130


def loadtest(
    url: Annotated[str, typer.Argument(help="Where the gateway is: http://host:port, and a path before all paths.")],
    *,
    plan: Annotated[str | None, typer.Option(help="The plan of the keys: one of --plans.")] = None,
    plans: Annotated[Path | None, typer.Option(envvar="AWX_PLANS", help="A plans.toml; without it the usual.")] = None,
    rate: Annotated[
        list[str] | None, typer.Option(help="Without a plan: a rate, such as 60/minute; again for more.")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="The burst of each --rate.")] = None,
    slots: Annotated[int | None, typer.Option(help="Without a plan: how many connections at once.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="An idle key; better in AWX_LOADTEST_KEY or --keys.")] = None,
    keys: Annotated[Path | None, typer.Option(help="A file of idle keys, one a line. Two show isolation.")] = None,
    path: Annotated[str, typer.Option(help="What is asked.")] = "/",
    method: Annotated[str, typer.Option(help="How it is asked.")] = "GET",
    cost: Annotated[int, typer.Option(min=1, help="How much that charges.")] = 1,
    stream_path: Annotated[str | None, typer.Option(help="A response that lasts a second or more.")] = None,
    websocket_path: Annotated[str | None, typer.Option(help="A WebSocket.")] = None,
    key_header: Annotated[str, typer.Option(help="The header that carries the key.")] = "X-API-Key",
    key_form: Annotated[str, typer.Option(help="What stands in it, such as 'Bearer {key}'.")] = "{key}",
    refused_status: Annotated[int, typer.Option(help="What a refusal is.")] = REFUSED_STATUS,
    profiles: Annotated[str | None, typer.Option(help=f"Of {', '.join((*PROFILES, SOAK))}.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="It ends by then.")] = 300,
    requests: Annotated[int, typer.Option(min=1, help="It makes no more than these.")] = 20_000,
    timeout_ms: Annotated[int, typer.Option(min=1, help="How long a request waits for its answer.")] = 5_000,
    users: Annotated[int, typer.Option(min=1, help="How many clients at once, where there are several.")] = 10,
    workers: Annotated[int, typer.Option(min=0, help="So many processes of Locust make the load.")] = 0,
    remote: Annotated[bool, typer.Option(help="They are started elsewhere, by loadtest-worker.")] = False,
    bind: Annotated[
        str | None, typer.Option(help="Where workers come to, HOST:PORT; any port here without it.")
    ] = None,
    web: Annotated[str | None, typer.Option(help="Locust's own live page, at HOST:PORT.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the verdicts as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the verdicts as JUnit's XML.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    quiet: Annotated[bool, typer.Option(help="No live view.")] = False,
) -> int:
    """Audit the limits of a gateway from the outside; status 1 where a promise is broken."""
    given = key_sources.validated([*(key or ()), *key_sources.from_environment(), *_of_file(keys)])
    config = RunConfig(
        url=url, plan=_plan(plan, plans, rate, burst, slots), path=path, method=method.upper(), cost=cost,
        profiles=_profiles(profiles, stream_path, websocket_path, given), stream_path=stream_path,
        websocket_path=websocket_path, key_header=key_header, key_form=key_form, refused_status=refused_status,
        seconds=seconds, requests=requests, timeout_ms=timeout_ms, users=users, workers=workers, remote=remote,
        bind=bind or ("0.0.0.0:5557" if remote else "127.0.0.1:0"), web=web,
    )  # fmt: skip
    config.validate(len(given))
    files = _files(json, junit, html)
    report_files.check(files)
    with Stops() as stops:
        report = _carried_out(config, given, stops, quiet=quiet or not output.is_live())
        unwritten = report_files.write(files, report)
    _print(report, unwritten)
    if report.interrupted:
        return INTERRUPTED
    return BROKEN if report.failed else UNFINISHED if report.trouble or unwritten else 0


def loadtest_worker(
    host: Annotated[str, typer.Argument(help="Where `loadtest --workers N --remote` runs.")],
    port: Annotated[int, typer.Option(help="Its port.")] = 5557,
) -> int:
    """Make load for a run on another machine, with the same AWX_LOADTEST_KEY or AWX_LOADTEST_KEYS."""
    from awx_ratelimit.loadtest.runner import run_worker

    return run_worker(host, port)


def _carried_out(config: RunConfig, keys: list[str], stops: Stops, *, quiet: bool) -> Report:
    began_at = datetime.now(UTC)
    with View(config, quiet=quiet) as view:
        seen = run(config, keys, view.show, stops)
    return Report.of_run(
        config, began_at, seen.observations, spread_us=seen.spread_us,
        trouble=seen.trouble, interrupted=seen.interrupted, workers=seen.workers,
    )  # fmt: skip


def _plan(name: str | None, table: Path | None, rates: list[str] | None, burst: int | None, slots: int | None) -> Plan:
    if rates or slots is not None:
        if name:
            raise typer.BadParameter("give a plan, or rates and slots; not both")
        of_rates = tuple(Rate.parse(text, burst=burst) for text in rates or ())
        return Plan("given", of_rates, None if slots is None else Concurrency(slots))
    plans = PlanTable.from_toml(table) if table else PlanTable.default()
    return plans.resolve(Caller("loadtest", name))


def _of_file(path: Path | None) -> list[str]:
    return key_sources.from_file(path) if path else []


def _profiles(asked: str | None, stream: str | None, websocket: str | None, keys: list[str]) -> tuple[str, ...]:
    """Those that were asked for; else all for which there is what they need."""
    if asked:
        return tuple(name.strip() for name in asked.split(","))
    without = {
        "streams": stream is None, "websockets": websocket is None,
        "isolation": len(keys) < 2, "keys": len(keys) < 3,
    }  # fmt: skip
    return tuple(name for name in PROFILES if not without.get(name))


def _files(json: Path | None, junit: Path | None, html: Path | None) -> ReportFiles:
    texts = {json: lambda report: dumps(as_json(report), indent=2) + "\n", junit: as_junit, html: as_html}
    return {path: text_of for path, text_of in texts.items() if path}


def _print(report: Report, unwritten: list[str]) -> None:
    output.print_table(("promise", "verdict", "what was seen"), [(v.name, v.result, v.detail) for v in report.verdicts])
    if report.interrupted:
        output.say("interrupted; this is what was seen until then")
    for what in (report.trouble, *unwritten):
        if what:
            output.say(what)
