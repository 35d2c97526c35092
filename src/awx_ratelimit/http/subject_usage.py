"""What the commands of operators show of a subject, and what they say where there is nothing to show.

``awx-ratelimit`` and ``manage.py awx_ratelimit`` share it.
"""

from collections.abc import Iterable, Iterator, Sequence
from shlex import quote
from typing import Final

from awx_ratelimit.core.budget import (
    ACCOUNT_SCOPE,
    EVERYONE,
    SERVICE_SCOPE,
    SERVICE_SUBJECT,
    Budget,
    own_account,
)
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.rate import REQUESTS
from awx_ratelimit.core.usage import Usage, are_full
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.client_address import subject_of_address
from awx_ratelimit.http.explaining import GateParts
from awx_ratelimit.http.known_callers import identifies_in_code
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.runtime.documentation import page

#: A peek for no requests refuses nothing: a command only looks.
_NO_REQUESTS: Final = {REQUESTS: 0}
#: The names of keys begin so: those of a key store, and those that StaticKeys derives from keys.
_KEY: Final = "key_"
#: The command that prints the usage of a subject.
COMMAND: Final = "awx-ratelimit usage"
#: For a look at another budget alone.
_NO_LIMITS: Final = Plan.unlimited("none")


def current_usages(limiter: Limiter, subject: str, plan: Plan, shared: Sequence[Budget] = ()) -> Sequence[Usage]:
    """How the limits of `plan` stand for `subject`, and those of `shared` after them. Charges nothing."""
    return limiter.peek(subject, plan, _NO_REQUESTS, also=shared).usages


def shared_limits(caller: Caller, plan: Plan) -> list[Budget]:
    """The limits that all keys of the caller's account share; none if it has no account, or `plan` has none."""
    budget = None if caller.account is None else account_budget(caller, plan)
    return [] if budget is None else [budget]


def account_budget(caller: Caller, plan: Plan) -> Budget | None:
    """The limits that all keys of the caller's account share; None if `plan` has none.

    A caller without an account has them for itself alone.
    """
    if plan.account is None:
        return None
    if caller.account is None:
        return own_account(caller.subject, plan.account)
    return Budget(caller.account, plan.account, ACCOUNT_SCOPE)


def budget_usages(limiter: Limiter, budget: Budget) -> Sequence[Usage]:
    """How the limits of `budget` stand. Charges nothing."""
    return current_usages(limiter, budget.subject, _NO_LIMITS, [budget])


def budget_in(scope: str, plans: PlanTable, parts: GateParts | None, caller: Caller) -> Budget:
    """The limits in `scope` that requests of `caller` use: those that everybody shares, or those of a rule.

    `parts` are those of the gate that has the rules. Raises InvalidLimit if there are none, and names the budgets of
    all rules.
    """
    return _service_budget(plans, parts) if scope == SERVICE_SCOPE else _rule_budget(parts, caller, scope)


def _service_budget(plans: PlanTable, parts: GateParts | None) -> Budget:
    plan = (parts and parts.service) or plans.service
    if plan is None:
        raise InvalidLimit(
            "scope: the plan table has no limits that everybody shares; add [service] to it, or name the app that has "
            "them with --plans"
        )
    return Budget(SERVICE_SUBJECT, plan, SERVICE_SCOPE)


def _rule_budget(parts: GateParts | None, caller: Caller, scope: str) -> Budget:
    rules = {rule.budget: rule for rule in (parts.rules if parts else ())}
    rule = rules.get(scope)
    if rule is None or rule.plan is None:
        names = ", ".join(sorted(name for name in rules if name is not None))
        advice = f"write one of {names}" if names else "name an app whose rules have it with --plans"
        raise InvalidLimit(
            f"scope: no rule has the budget {scope!r}; {advice}, or name the plan of the scope with --plan"
        )
    if rule.per == "everyone":
        return Budget(EVERYONE, rule.plan, scope)
    if rule.per == "account" and caller.account is None:
        return own_account(caller.subject, rule.plan, scope)
    return Budget(caller.account or caller.subject if rule.per == "account" else caller.subject, rule.plan, scope)


def note_if_unused(
    subject: str, usages: Iterable[Usage], scope: str | None = None, *, command: str = COMMAND
) -> Iterator[str]:
    """A note if `subject` uses none of its own limits, or of those in `scope`: its name may be wrong.

    `command` prints the usage of a subject, or with ``--scope account`` that of an account.
    """
    if are_full(one for one in usages if one.scope == scope):
        where = "" if scope is None else f" in the scope {scope!r}"
        yield (
            f"note: the subject uses none of its limits{where} now. Either it made no requests, everything has "
            f"refilled, or your app names it otherwise.{_other_names(subject, command)} "
            f"See {page('identify', 'the-name-of-a-subject')}"
        )


def note_if_unused_account(account: str, usages: Iterable[Usage], *, command: str = COMMAND) -> Iterator[str]:
    """As `note_if_unused`, for the limits that all keys of `account` share."""
    if are_full(usages):
        yield (
            f"note: the account {account!r} uses none of its limits now. Either its keys made no requests, everything "
            f"has refilled, or your app names it otherwise. For a subject, write: {command} {quote(account)}. "
            f"See {page('organisations', 'in-an-app')}"
        )


def note_of_no_shared_limits(name: str, plan: Plan, *, command: str = COMMAND) -> str:
    """That the keys of the account `name` share no limits, because `plan` has none for them."""
    return (
        f"note: the keys of {name!r} share no limits, because the plan {plan.name!r} has no table `account`. "
        f"For what one key uses, write: {command} ID. See {page('organisations', 'in-an-app')}"
    )


def note_of_own_identifier(parts: GateParts, *, is_known: bool, remedy: str) -> Iterator[str]:
    """A note if only code of the app knows the limits of a caller that is not known by its name."""
    if not is_known and identifies_in_code(parts):
        yield (
            "note: these limits are those of the plan table. `identify` of the app may return another plan or "
            f"overrides, which need the key: {remedy}"
        )


def _other_names(subject: str, command: str) -> str:
    # No text repeats the subject: it may be a key, which somebody has pasted.
    if subject.startswith(_KEY):
        return ""
    return address_hint(subject) or f" For an account, write: {command} ID --scope account."


def address_hint(subject: str) -> str:
    """What to write for the client with an address, if `subject` is one that no client has as its subject."""
    named = subject_of_address(subject)
    return f" For a client without a key, write: {named}." if named not in ("", subject) else ""
