"""``awx-ratelimit usage SUBJECT`` and ``usage account``: what a subject, or all keys of an account, use right now."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.callers import Found, StoreOfCallers, Subject, account_of, given_caller, sharing_caller
from awx_ratelimit.cli.options import AppPlans, Csv, Json, with_options
from awx_ratelimit.cli.plan_sources import PlanSource, plan_source
from awx_ratelimit.cli.server_commands import Backend, limiter_at
from awx_ratelimit.core import durations, plan_words
from awx_ratelimit.core.budget import ACCOUNT_SCOPE, Budget
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.usage import Usage
from awx_ratelimit.http.explain import AnyGate
from awx_ratelimit.http.subject_usage import (
    account_budget,
    budget_in,
    budget_usages,
    current_usages,
    note_if_unused,
    note_if_unused_account,
    note_of_no_shared_limits,
    note_of_own_identifier,
)
from awx_ratelimit.keys.csv_text import csv_of_fields
from awx_ratelimit.keys.validation import refuse_key

_FIELDS: Final = ("limit", "scope", "subject", "measure", "capacity", "used", "remaining", "reset_after_ms")
_COLUMNS: Final = ("limit", "of", "counts", "used", "remaining", "capacity", "full again in")


def _no_key(account: str | None) -> str | None:
    refuse_key(account or "", "--account")
    return account


def _account_id(account: str) -> str:
    if not account:
        raise typer.BadParameter("expected the ID of an account, got an empty string")
    refuse_key(account, "ACCOUNT", remedy="write the ID of an account, such as acct_acme")
    return account


AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="ID of the account.", callback=_account_id)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountOptions:
    """Where the limits are, and which they are."""

    backend: Backend = None
    plan: Annotated[
        str | None, typer.Option(help="Name of the plan. Default: the known one, or the default plan of the table.")
    ] = None
    plans: AppPlans = None
    database: StoreOfCallers = None
    json: Json = False
    csv: Csv = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectOptions(AccountOptions):
    """And the account that the subject belongs to."""

    account: Annotated[
        str | None,
        typer.Option(
            help="Account that owns the subject. Its shared limits and overrides apply, and are printed first.",
            callback=_no_key,
        ),
    ] = None
    no_account: Annotated[
        bool,
        typer.Option("--no-account", help="The subject has no account. Its own account limits are printed first."),
    ] = False
    scope: Annotated[
        str | None,
        typer.Option(
            help="Print the limits in this scope: `account`, `service`, or the budget of a rule of the app in "
            "--plans. The limits of any other scope are those of --plan."
        ),
    ] = None


@with_options(SubjectOptions)
def subject_usage(subject: Subject, options: SubjectOptions) -> None:
    """Print the current usage of a subject. This does not count as a request. `usage SUBJECT` means the same.

    With --account, the limits that all keys of the account share come first. With --no-account, the subject belongs to
    no account, and what it uses of such limits by itself comes first. With --database, the subject may be the ID of a
    key, and the limits are those of its account in the key store. If the subject uses nothing now, a line on stderr
    says so. Limits of rules and of routes are not printed without --scope: `explain` prints those of a request.

    With --scope account, the subject may be an account, as for `usage account`.
    """
    if options.account is not None and options.no_account:
        raise typer.BadParameter("expected one of --account and --no-account, got both", param_hint="--account")
    table, gate = plan_source(options.plans)
    find = sharing_caller if options.scope == ACCOUNT_SCOPE and not options.no_account else given_caller
    found = find(subject, options.account, options.plan, database=options.database, gate=gate)
    caller = found.caller
    if options.scope in (None, ACCOUNT_SCOPE):
        _note_own_identifier(gate, found)
    if options.scope == ACCOUNT_SCOPE:
        _print_shared(caller, table.resolve(caller), options)
        return
    if options.scope is not None:
        _print_scope(caller, options.scope, PlanSource(table, gate), options)
        return
    plan, account = table.resolve(caller), caller.account
    _note_built_in_plans(options)
    # Where the store or the app names the account, the plan may share no limit among its keys.
    shares = plan.account is not None or (options.database is None and gate is None)
    has_shared = (account is not None and shares) or options.no_account
    shared = [_shared_budget(caller, plan)] if has_shared else []
    with limiter_at(options.backend) as limiter:
        usages = current_usages(limiter, caller.subject, plan, shared)
    output.say_all(note_if_unused(caller.subject, usages))
    pairs = sorted(_with_measures(usages, [plan, *(budget.plan for budget in shared)]), key=_is_own)
    whose = {"subject": caller.subject} | ({} if account is None else {"account": account})
    _print(whose, pairs, options)


def _print_scope(caller: Caller, scope: str, source: PlanSource, options: SubjectOptions) -> None:
    if options.plan is None:
        budget = budget_in(scope, source.table, None if source.gate is None else source.gate.parts, caller)
    else:
        # A caller of no table, so that no override of the subject applies.
        plan = caller.plan if isinstance(caller.plan, Plan) else source.plan_named(options.plan)
        budget = Budget(caller.subject, plan, scope)
    with limiter_at(options.backend) as limiter:
        usages = budget_usages(limiter, budget)
    output.say_all(note_if_unused(budget.subject, usages, scope))
    _print({"subject": budget.subject}, _with_measures(usages, [budget.plan]), options)


@with_options(AccountOptions)
def account_usage(account: AccountId, options: AccountOptions) -> None:
    """Print the current usage of the limits that all keys of an account share. This does not count as a request.

    With --database, the limits are those of the account in the key store. If its plan has no such limits, or if none of
    them is used now, a line on stderr says so.
    """
    table, gate = plan_source(options.plans)
    found = account_of(account, options.plan, database=options.database, gate=gate)
    _note_own_identifier(gate, found)
    _print_shared(found.caller, table.resolve(found.caller), options)


def _print_shared(caller: Caller, plan: Plan, options: AccountOptions) -> None:
    name = caller.account or caller.subject
    whose = {"subject" if caller.account is None else "account": name}
    _note_built_in_plans(options)
    budget = account_budget(caller, plan)
    if budget is None:
        output.say(note_of_no_shared_limits(name, plan))
        _print(whose, [], options)
        return
    with limiter_at(options.backend) as limiter:
        usages = budget_usages(limiter, budget)
    output.say_all(note_if_unused_account(name, usages))
    _print(whose, _with_measures(usages, [budget.plan]), options)


def _note_own_identifier(gate: AnyGate | None, found: Found) -> None:
    if gate is not None:
        remedy = "awx-ratelimit usage - prints them"
        output.say_all(note_of_own_identifier(gate.parts, is_known=found.is_known, remedy=remedy))


def _note_built_in_plans(options: AccountOptions) -> None:
    """An account of the store nearly always has a plan of the app."""
    if options.plans is None and options.database is not None:
        output.say(
            "note: these are the limits of the built-in plans, because no plan table was given. For those of your app, "
            "add --plans plans.toml or --plans module:app, or set AWX_PLANS"
        )


def _shared_budget(caller: Caller, plan: Plan) -> Budget:
    budget = account_budget(caller, plan)
    if budget is None:
        raise typer.BadParameter(
            f"expected a plan whose keys share limits, got {plan.name!r}, which has no table `account`; "
            "omit the option, or name another --plan",
            param_hint="--account" if caller.account is not None else "--no-account",
        )
    return budget


def _with_measures(usages: Iterable[Usage], plans: Iterable[Plan]) -> list[tuple[Usage, str]]:
    measures = [measure for plan in plans for measure in plan_words.measures(plan)]
    return list(zip(usages, measures, strict=True))


def _is_own(pair: tuple[Usage, str]) -> bool:
    return pair[0].scope is None


def _print(whose: dict[str, Any], pairs: Sequence[tuple[Usage, str]], options: AccountOptions) -> None:
    limits = [_usage_fields(one, measure) for one, measure in pairs]
    if options.csv:
        output.print_csv(csv_of_fields(_FIELDS, limits))
    elif options.json:
        output.print_json({**whose, "limits": limits})
    elif pairs:
        output.print_table(_COLUMNS, (_row(one, measure) for one, measure in pairs))


def _row(one: Usage, measure: str) -> tuple[str, ...]:
    of = one.subject if one.scope is None else f"{one.subject} ({one.scope})"
    amounts = (str(one.capacity - one.remaining), str(one.remaining), str(one.capacity))
    return (one.limit, of, measure, *amounts, durations.wait(one.reset_after_ms) if one.reset_after_ms else "-")


def _usage_fields(one: Usage, measure: str) -> dict[str, object]:
    return {
        "limit": one.limit, "scope": one.scope, "subject": one.subject, "measure": measure, "capacity": one.capacity,
        "used": one.capacity - one.remaining, "remaining": one.remaining, "reset_after_ms": one.reset_after_ms,
    }  # fmt: skip
