"""``awx-ratelimit plans check``, ``usage``, ``reset`` and ``doctor``: inspect plan tables and backends.

A backend's URL may contain a password, so it can come from the environment (AWX_BACKEND). Without a URL, the commands
use the current user's own file on this host.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from awx_ratelimit.backends.open import examine, open_to_look, own_url
from awx_ratelimit.cli import output
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.limiter_sync import Limiter

FOUND = 1

plans = typer.Typer(help="Work with plan tables.", rich_markup_mode=None)

_BACKEND_HELP = (
    "Backend: host:///path/to/file, redis://host:6379 or redis+unix:///path. Default: your own file on this host."
)
Backend = Annotated[str | None, typer.Option(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
BackendUrl = Annotated[str | None, typer.Argument(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
PlanFile = Annotated[Path, typer.Argument(help="Plan table (TOML).")]
PlanName = Annotated[str | None, typer.Option(help="Plan of the subject. Default: the table's default plan.")]
Plans = Annotated[Path | None, typer.Option(envvar="AWX_PLANS", help="Plan table (TOML). Default: the built-in plans.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _not_empty(subject: str) -> str:
    if not subject:
        raise typer.BadParameter("expected a subject, got an empty string; pass the subject of your app's Caller")
    return subject


Subject = Annotated[str, typer.Argument(help="Subject that your app gives the caller.", callback=_not_empty)]


@plans.callback()
def _plans() -> None:
    """Typer needs a callback to keep `check` a subcommand, because it is the only one."""


@plans.command()
def check(file: PlanFile, *, json: Json = False) -> None:
    """Check a plan table and print the limits of each plan."""
    table = PlanTable.from_toml(file)
    if json:
        output.print_json({"plans": [_plan_fields(plan) for plan in table.plans]})
        return
    rows = [(plan.name, name, text) for plan in table.plans for name, text in _limits(plan)]
    output.print_table(("plan", "limit", "allows"), rows)


def usage(
    subject: Subject, *, backend: Backend = None, plan: PlanName = None, plans: Plans = None, json: Json = False
) -> None:
    """Print the current usage of a subject. This does not count as a request."""
    table = PlanTable.from_toml(plans) if plans else PlanTable.default()
    with _limiter(backend) as limiter:
        usages = limiter.peek(subject, table.resolve(Caller(subject, plan))).usages
    if json:
        output.print_json({"subject": subject, "limits": [_usage_fields(one) for one in usages]})
        return
    rows = [
        (one.limit, str(one.capacity - one.remaining), str(one.remaining), str(one.capacity), _reset_time(one))
        for one in usages
    ]
    output.print_table(("limit", "used", "remaining", "capacity", "full again in"), rows)


def reset(subject: Subject, *, backend: Backend = None) -> None:
    """Reset the usage of a subject. Requests in flight stay counted."""
    with _limiter(backend) as limiter:
        limiter.reset(subject)
    output.say("usage reset")


def doctor(url: BackendUrl = None, *, json: Json = False) -> int:
    """Check a backend and print how to fix each problem. The exit status is 1 if something is wrong."""
    findings = examine(url or own_url())
    if json:
        output.print_json({"findings": [one._asdict() for one in findings]})
    else:
        output.print_table(("check", "result", "details", "fix"), findings)
    return FOUND if any(one.mark == "wrong" for one in findings) else 0


@contextmanager
def _limiter(url: str | None) -> Iterator[Limiter]:
    limiter = Limiter(open_to_look(url or own_url()))
    try:
        yield limiter
    finally:
        limiter.close()


def _limits(plan: Plan) -> Iterator[tuple[str, str]]:
    for rate in plan.rates:
        yield rate.name, _allowed(rate) + _shadow_note(plan, rate.shadow)
    if plan.concurrency:
        yield "concurrent", f"{plan.concurrency.slots} in flight{_shadow_note(plan, plan.concurrency.shadow)}"
    if plan.is_unlimited:
        yield "none", "everything"


def _allowed(rate: Rate) -> str:
    period = f"{rate.period_ms / 1_000:g} s"
    if rate.refill == "calendar":
        return f"{rate.tokens} per {period}, reset at each multiple of {period} (UTC)"
    return f"{rate.tokens} per {period}, burst {rate.burst}; at most {rate.burst + rate.tokens} in any {period}"


def _shadow_note(plan: Plan, shadow: bool) -> str:
    return " (shadow: evaluated, never refuses)" if shadow or plan.shadow else ""


def _plan_fields(plan: Plan) -> dict[str, object]:
    rates = [
        {"name": rate.name, "tokens": rate.tokens, "period_ms": rate.period_ms, "burst": rate.burst,
         "refill": rate.refill, "shadow": rate.shadow or plan.shadow}
        for rate in plan.rates
    ]  # fmt: skip
    slots = plan.concurrency and plan.concurrency.slots
    return {"name": plan.name, "rates": rates, "concurrent": slots, "unlimited": plan.is_unlimited}


def _usage_fields(one: Usage) -> dict[str, object]:
    return {
        "limit": one.limit, "capacity": one.capacity, "used": one.capacity - one.remaining,
        "remaining": one.remaining, "reset_after_ms": one.reset_after_ms,
    }  # fmt: skip


def _reset_time(one: Usage) -> str:
    return f"{one.reset_after_ms / 1_000:.1f} s" if one.reset_after_ms else "-"
