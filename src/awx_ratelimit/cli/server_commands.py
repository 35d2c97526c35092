"""``awx-ratelimit plans check``, ``usage``, ``reset`` and ``doctor``: tables of plans, and limits where they are kept.

A server's URL may hold a password, and so comes from the environment (AWX_BACKEND) as well. Who names none means the
file that is the user's own on this host.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from awx_ratelimit.backends.open import examine, open_to_look, own_url
from awx_ratelimit.cli import output
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.decision import Usage
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.limiter_sync import Limiter

FOUND = 1

plans = typer.Typer(help="Tables of plans.", rich_markup_mode=None)

_WHERE = "Where limits are kept: host:///path/to/file, redis://host:6379, redis+unix:///path; else a file of your own."
Backend = Annotated[str | None, typer.Option(envvar="AWX_BACKEND", help=_WHERE)]


def _named(subject: str) -> str:
    if not subject:
        raise typer.BadParameter("it is empty; give the subject that your app identifies the caller by")
    return subject


Subject = Annotated[
    str, typer.Argument(help="Whose budget: the subject that your app identifies callers by.", callback=_named)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@plans.callback()
def _plans() -> None:
    """Keep `check` a command of its own, though it is the only one."""


@plans.command()
def check(file: Annotated[Path, typer.Argument(help="A plans.toml.")], *, json: Json = False) -> None:
    """Read a table and say what each plan allows; a mistake is one line that names the place."""
    table = PlanTable.from_toml(file)
    if json:
        output.print_json({"plans": [_shown(plan) for plan in table.plans]})
        return
    rows = [(plan.name, name, text) for plan in table.plans for name, text in _limits(plan)]
    output.print_table(("plan", "limit", "allows"), rows)


def usage(
    subject: Subject,
    *,
    backend: Backend = None,
    plan: Annotated[str | None, typer.Option(help="The plan of the subject: one of --plans.")] = None,
    plans: Annotated[Path | None, typer.Option(envvar="AWX_PLANS", help="A plans.toml; without it the usual.")] = None,
    json: Json = False,
) -> None:
    """Show what a subject has used of its plan at this moment; it charges nothing."""
    table = PlanTable.from_toml(plans) if plans else PlanTable.default()
    with _limiter(backend) as limiter:
        usages = limiter.peek(subject, table.resolve(Caller(subject, plan))).usages
    if json:
        output.print_json({"subject": subject, "limits": [_used(one) for one in usages]})
        return
    rows = [
        (one.limit, str(one.capacity - one.remaining), str(one.remaining), str(one.capacity), _when(one))
        for one in usages
    ]
    output.print_table(("limit", "used", "remaining", "of", "unused again in"), rows)


def reset(subject: Subject, *, backend: Backend = None) -> None:
    """Forget what a subject owes; its connections stay counted."""
    with _limiter(backend) as limiter:
        limiter.reset(subject)
    output.say("it owes nothing now")


def doctor(
    url: Annotated[str | None, typer.Argument(envvar="AWX_BACKEND", help=_WHERE)] = None, *, json: Json = False
) -> int:
    """Examine a server or a file: what is wrong, and what is to be done; status 1 where something is."""
    findings = examine(url or own_url())
    if json:
        output.print_json({"findings": [one._asdict() for one in findings]})
    else:
        output.print_table(("what", "how", "found", "to be done"), findings)
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
        yield rate.name, _allowed(rate) + _in_shadow(plan, rate.shadow)
    if plan.concurrency:
        yield "concurrent", f"{plan.concurrency.slots} at once{_in_shadow(plan, plan.concurrency.shadow)}"


def _allowed(rate: Rate) -> str:
    period = f"{rate.tokens} in {rate.period_ms / 1_000:g} s"
    if rate.refill == "calendar":
        return f"{period}, anew at each multiple of it in UTC"
    return f"{period}, {rate.burst} at once; at most {rate.burst + rate.tokens} in any {rate.period_ms / 1_000:g} s"


def _in_shadow(plan: Plan, shadow: bool) -> str:
    return " (in shadow: refuses nobody)" if shadow or plan.shadow else ""


def _shown(plan: Plan) -> dict[str, object]:
    rates = [
        {"name": rate.name, "tokens": rate.tokens, "period_ms": rate.period_ms, "burst": rate.burst,
         "refill": rate.refill, "shadow": rate.shadow or plan.shadow}
        for rate in plan.rates
    ]  # fmt: skip
    return {"name": plan.name, "rates": rates, "concurrent": plan.concurrency and plan.concurrency.slots}


def _used(one: Usage) -> dict[str, object]:
    return {
        "limit": one.limit, "capacity": one.capacity, "used": one.capacity - one.remaining,
        "remaining": one.remaining, "reset_after_ms": one.reset_after_ms,
    }  # fmt: skip


def _when(one: Usage) -> str:
    return f"{one.reset_after_ms / 1_000:.1f} s" if one.reset_after_ms else "-"
