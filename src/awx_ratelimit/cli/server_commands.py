"""``awx-ratelimit plans check``, ``usage``, ``reset`` and ``doctor``: inspect plan tables and backends.

A backend's URL may contain a password, so it can come from the environment (AWX_BACKEND). Without a URL, the commands
use the current user's own file on this host.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from awx_ratelimit.backends.base import Finding
from awx_ratelimit.backends.open import examine, open_to_look, own_url
from awx_ratelimit.cli import output, plan_words
from awx_ratelimit.cli.stored_callers import StoreOfCallers, Subject, caller_of, named_subject
from awx_ratelimit.core import durations
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, SERVICE_SCOPE, Budget, own_account, scoped_name
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.runtime.compiled import IS_COMPILED
from awx_ratelimit.runtime.documentation import page

FOUND = 1

plans = typer.Typer(help="Work with plan tables.", rich_markup_mode=None)

_BACKEND_HELP = (
    "Backend: host:///path/to/file, redis://host:6379, redis+unix:///path or postgresql://user@host/database. "
    "Default: your own file on this host."
)
Backend = Annotated[str | None, typer.Option(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
BackendUrl = Annotated[str | None, typer.Argument(envvar="AWX_BACKEND", help=_BACKEND_HELP)]
PlanFile = Annotated[Path, typer.Argument(help="Plan table (TOML).")]
PlanName = Annotated[str | None, typer.Option(help="Plan of the subject. Default: the table's default plan.")]
Plans = Annotated[Path | None, typer.Option(envvar="AWX_PLANS", help="Plan table (TOML). Default: the built-in plans.")]


def _no_key(account: str | None) -> str | None:
    refuse_key(account or "", "--account")
    return account


Account = Annotated[
    str | None,
    typer.Option(
        help="Account that owns the subject. Its shared limits and overrides apply, and are printed first.",
        callback=_no_key,
    ),
]
NoAccount = Annotated[
    bool,
    typer.Option("--no-account", help="The subject has no account. What it has for itself alone is printed first."),
]
Scope = Annotated[
    str | None,
    typer.Option(help="Reset only this scope, such as `account` for the limits that an account's keys share."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
#: The heading of the limits that all callers share.
_EVERYBODY = "(everybody)"
_NO_URL = Finding(
    "backend",
    "warning",
    "no URL was given, so this is your own file",
    "name the backend of your app, or set AWX_BACKEND",
)


@plans.callback()
def _plans() -> None:
    """Typer needs a callback to keep `check` a subcommand, because it is the only one."""


@plans.command()
def check(file: PlanFile, *, json: Json = False) -> None:
    """Check a plan table and print all limits: of each key, of each account, and of the service."""
    table = PlanTable.from_toml(file)
    if json:
        service = table.service and plan_words.plan_fields(table.service)
        output.print_json({"plans": [plan_words.plan_fields(plan) for plan in table.plans], "service": service})
        return
    parts: list[tuple[str, str | None, Plan]] = [(plan.name, None, plan) for plan in table.plans]
    parts += [(plan.name, ACCOUNT_SCOPE, plan.account) for plan in table.plans if plan.account]
    parts += [(_EVERYBODY, SERVICE_SCOPE, table.service)] if table.service else []
    rows = [(name, scoped_name(scope, limit), text) for name, scope, plan in parts
            for limit, text in plan_words.limits(plan)]  # fmt: skip
    output.print_table(("plan", "limit", "allows"), rows)


def usage(
    subject: Subject,
    *,
    backend: Backend = None,
    plan: PlanName = None,
    account: Account = None,
    no_account: NoAccount = False,
    plans: Plans = None,
    database: StoreOfCallers = None,
    json: Json = False,
) -> None:
    """Print the current usage of a subject. This does not count as a request.

    With --account, print first what all keys of its account have used of the limits that they share. With --no-account,
    print first what the subject has used of these limits for itself alone, because its key belongs to no account. With
    --database, the subject may be the ID of a key, and the limits are those that its account has in the key store.
    A line on stderr says so if nothing is recorded for the subject.
    """
    if account is not None and no_account:
        raise typer.BadParameter("expected one of --account and --no-account, got both", param_hint="--account")
    table = PlanTable.from_toml(plans) if plans else PlanTable.default()
    caller = caller_of(database, named_subject(subject, database), account, plan)
    chosen, subject, account = table.resolve(caller), caller.subject, caller.account
    # Where the store names the account, the plan may share no limit among its keys.
    shares = chosen.account is not None or database is None
    shared = [_account_budget(account, subject, chosen)] if (account is not None and shares) or no_account else []
    with _limiter(backend) as limiter:
        # Without requests the peek refuses nothing: a command only looks.
        usages = limiter.peek(subject, chosen, {REQUESTS: 0}, also=shared).usages
    measures = [
        measure for each in (chosen, *(budget.plan for budget in shared)) for measure in plan_words.measures(each)
    ]
    pairs = sorted(zip(usages, measures, strict=True), key=lambda pair: pair[0].scope is None)
    _note_unknown(subject, usages)
    if json:
        whose = {"subject": subject} if account is None else {"subject": subject, "account": account}
        output.print_json({**whose, "limits": [_usage_fields(one, measure) for one, measure in pairs]})
        return
    rows = [
        (one.limit, measure, str(one.capacity - one.remaining), str(one.remaining), str(one.capacity), _reset_time(one))
        for one, measure in pairs
    ]
    output.print_table(("limit", "counts", "used", "remaining", "capacity", "full again in"), rows)


def reset(subject: Subject, *, backend: Backend = None, scope: Scope = None, database: StoreOfCallers = None) -> None:
    """Reset the usage of a subject, in all its scopes or in one. Requests in flight stay counted.

    To reset what all keys of an account share, pass the account as the subject, with --scope account. With --database,
    the subject may be the ID of a key: a rotated key and its successors share their usage.
    """
    subject = named_subject(subject, database)
    counted = caller_of(database, subject).subject
    with _limiter(backend) as limiter:
        limiter.reset(counted, scope=scope)
    output.say("usage reset" if counted == subject else f"usage of {counted} reset, which {subject} shares")


def doctor(url: BackendUrl = None, *, json: Json = False) -> int:
    """Check a backend and print how to fix each problem. The exit status is 1 if something is wrong.

    A file that no app has created yet is wrong: the name may be misspelled.
    """
    findings = [_library(), *([] if url else [_NO_URL]), *examine(url or own_url())]
    if json:
        output.print_json({"findings": [one._asdict() for one in findings]})
    else:
        output.print_table(("check", "result", "details", "fix"), findings)
    return FOUND if any(one.mark == "wrong" for one in findings) else 0


def _library() -> Finding:
    form = "compiled" if IS_COMPILED else "not compiled: pure Python"
    return Finding("library", "ok", f"awx-ratelimit {version('awx-ratelimit')}, {form}")


@contextmanager
def _limiter(url: str | None) -> Iterator[Limiter]:
    limiter = Limiter(open_to_look(url or own_url()))
    try:
        yield limiter
    finally:
        limiter.close()


def _account_budget(account: str | None, subject: str, plan: Plan) -> Budget:
    if plan.account is None:
        raise typer.BadParameter(
            f"expected a plan whose keys share limits, got {plan.name!r}, which has no table `account`; "
            "omit the option, or name another --plan",
            param_hint="--account" if account is not None else "--no-account",
        )
    if account is None:
        return own_account(subject, plan.account)
    return Budget(account, plan.account, ACCOUNT_SCOPE)


def _note_unknown(subject: str, usages: Iterable[Usage]) -> None:
    """Say so if nothing is recorded for `subject`: its name may be wrong."""
    own = [one for one in usages if one.scope is None]
    if own and all(one.remaining == one.capacity for one in own):
        output.say(
            f"note: nothing is recorded for {subject!r}: it has made no requests lately, or your app names it "
            f"otherwise. See {page('identify', 'the-name-of-a-subject')}"
        )


def _usage_fields(one: Usage, measure: str) -> dict[str, object]:
    return {
        "limit": one.limit, "measure": measure, "capacity": one.capacity, "used": one.capacity - one.remaining,
        "remaining": one.remaining, "reset_after_ms": one.reset_after_ms,
    }  # fmt: skip


def _reset_time(one: Usage) -> str:
    return durations.wait(one.reset_after_ms) if one.reset_after_ms else "-"
