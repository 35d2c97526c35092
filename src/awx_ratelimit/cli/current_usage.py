"""``awx-ratelimit usage SUBJECT`` and ``usage account``: what a subject, or all keys of an account, use right now."""

from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Annotated, Any, Final

import typer

from awx_ratelimit.cli import output, plan_words
from awx_ratelimit.cli.callers import StoreOfCallers, Subject, caller_of, named_subject
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.cli.server_commands import Backend, Json, limiter_at
from awx_ratelimit.core import durations
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, Budget, own_account
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.keys.validation import refuse_key
from awx_ratelimit.runtime.documentation import page

#: A peek for no requests refuses nothing: a command only looks.
_NO_REQUESTS: Final = {REQUESTS: 0}
_COLUMNS: Final = ("limit", "counts", "used", "remaining", "capacity", "full again in")


def _no_key(account: str | None) -> str | None:
    refuse_key(account or "", "--account")
    return account


def _account_id(account: str) -> str:
    if not account:
        raise typer.BadParameter("expected the ID of an account, got an empty string")
    refuse_key(account, "ACCOUNT", remedy="write the ID of an account, such as acct_acme")
    return account


PlanName = Annotated[
    str | None, typer.Option(help="Plan of the subject. Default: the one that is known, or the table's default plan.")
]
Plans = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_PLANS",
        help="Plan table (TOML), or the app that has plans and callers in its code, as module:attribute. "
        "Default: the built-in plans.",
    ),
]
Account = Annotated[
    str | None,
    typer.Option(
        help="Account that owns the subject. Its shared limits and overrides apply, and are printed first.",
        callback=_no_key,
    ),
]
AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="ID of the account.", callback=_account_id)]
NoAccount = Annotated[
    bool,
    typer.Option("--no-account", help="The subject has no account. What it has for itself alone is printed first."),
]


def subject_usage(
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
    """Print the current usage of a subject. This does not count as a request. `usage SUBJECT` means the same.

    With --account, print first what all keys of its account have used of the limits that they share. With --no-account,
    print first what the subject has used of these limits for itself alone, because its key belongs to no account. With
    --database, the subject may be the ID of a key, and the limits are those that its account has in the key store.
    A line on stderr says so if nothing is recorded for the subject.
    """
    if account is not None and no_account:
        raise typer.BadParameter("expected one of --account and --no-account, got both", param_hint="--account")
    table, gate = plan_source(plans)
    caller = caller_of(named_subject(subject, database, gate), account, plan, database=database, gate=gate)
    chosen, subject, account = table.resolve(caller), caller.subject, caller.account
    # Where the store or the app names the account, the plan may share no limit among its keys.
    shares = chosen.account is not None or (database is None and gate is None)
    shared = [_account_budget(account, subject, chosen)] if (account is not None and shares) or no_account else []
    with limiter_at(backend) as limiter:
        usages = limiter.peek(subject, chosen, _NO_REQUESTS, also=shared).usages
    if _is_unused(one for one in usages if one.scope is None):
        output.say(
            f"note: nothing is recorded for {subject!r}: it has made no requests lately, or your app names it "
            f"otherwise. For an account, write: awx-ratelimit usage account {quote(subject)}. "
            f"See {page('identify', 'the-name-of-a-subject')}"
        )
    pairs = sorted(_with_measures(usages, [chosen, *(budget.plan for budget in shared)]), key=_is_own)
    _print({"subject": subject} if account is None else {"subject": subject, "account": account}, pairs, json=json)


def account_usage(
    account: AccountId,
    *,
    backend: Backend = None,
    plan: PlanName = None,
    plans: Plans = None,
    database: StoreOfCallers = None,
    json: Json = False,
) -> None:
    """Print the current usage of the limits that all keys of an account share. This does not count as a request.

    With --database, the limits are those that the account has in the key store. A line on stderr says so if its plan
    has no such limits, or if nothing is recorded for the account.
    """
    table, gate = plan_source(plans)
    chosen = table.resolve(caller_of(account, account, plan, database=database, gate=gate))
    if chosen.account is None:
        output.say(
            f"note: the keys of {account!r} share no limits, because the plan {chosen.name!r} has no table `account`. "
            f"For what one key uses, write: awx-ratelimit usage ID. See {page('organisations', 'in-an-app')}"
        )
        _print({"account": account}, [], json=json)
        return
    with limiter_at(backend) as limiter:
        usages = limiter.peek(account, chosen.account, _NO_REQUESTS, scope=ACCOUNT_SCOPE).usages
    if _is_unused(usages):
        output.say(
            f"note: nothing is recorded for the account {account!r}: its keys have made no requests lately, or your "
            f"app names it otherwise. For a subject, write: awx-ratelimit usage {quote(account)}. "
            f"See {page('organisations', 'in-an-app')}"
        )
    _print({"account": account}, _with_measures(usages, [chosen.account]), json=json)


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


def _with_measures(usages: Iterable[Usage], plans: Iterable[Plan]) -> list[tuple[Usage, str]]:
    measures = [measure for plan in plans for measure in plan_words.measures(plan)]
    return list(zip(usages, measures, strict=True))


def _is_own(pair: tuple[Usage, str]) -> bool:
    return pair[0].scope is None


def _is_unused(usages: Iterable[Usage]) -> bool:
    """Whether there are limits, and nothing of them is used: the name of the subject may be wrong."""
    found = list(usages)
    return bool(found) and all(one.remaining == one.capacity for one in found)


def _print(whose: dict[str, Any], pairs: Sequence[tuple[Usage, str]], *, json: bool) -> None:
    if json:
        output.print_json({**whose, "limits": [_usage_fields(one, measure) for one, measure in pairs]})
    elif pairs:
        output.print_table(_COLUMNS, (_row(one, measure) for one, measure in pairs))


def _row(one: Usage, measure: str) -> tuple[str, ...]:
    amounts = (str(one.capacity - one.remaining), str(one.remaining), str(one.capacity))
    return (one.limit, measure, *amounts, durations.wait(one.reset_after_ms) if one.reset_after_ms else "-")


def _usage_fields(one: Usage, measure: str) -> dict[str, object]:
    return {
        "limit": one.limit, "measure": measure, "capacity": one.capacity, "used": one.capacity - one.remaining,
        "remaining": one.remaining, "reset_after_ms": one.reset_after_ms,
    }  # fmt: skip
