"""What ``awx-ratelimit accounts`` prints: accounts, the audit trail, and what shadow limits would have refused."""

from collections.abc import Iterable
from enum import StrEnum
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.key_stores import Database, OneAccountId, Plans, existing_account, note_unrecorded, open_service
from awx_ratelimit.cli.moments import From, To
from awx_ratelimit.cli.options import Csv, Json
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.cli.usage_commands import By, ByPeriod, named_amounts, range_of
from awx_ratelimit.core import plan_words
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import InvalidKeyRequest, InvalidLimit
from awx_ratelimit.keys import Account
from awx_ratelimit.keys.json_fields import ACCOUNT_FIELDS, EVENT_FIELDS, account_fields, event_fields
from awx_ratelimit.keys.models import Event, Page
from awx_ratelimit.runtime.clock import rfc3339

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService


class Order(StrEnum):
    """The order of accounts."""

    id = "id"
    requests = "requests"
    refusals = "refusals"


class Status(StrEnum):
    """The status of an account."""

    active = "active"
    suspended = "suspended"


AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="ID of the account.")]
PageNum = Annotated[int, typer.Option("--page", help="Page of the list, from 1.")]
PageSize = Annotated[int, typer.Option(help="Lines per page, up to 100.")]
Prefix = Annotated[str | None, typer.Option(help="List only accounts whose ID begins with this.")]
OfPlan = Annotated[str | None, typer.Option("--plan", help="List only accounts with this plan.")]
OfStatus = Annotated[Status | None, typer.Option(help="List only accounts with this status.")]
OrderBy = Annotated[Order, typer.Option(help="Order of the accounts. By requests and refusals, highest first.")]
Action = Annotated[str | None, typer.Option(help="List only this action, such as account.suspended.")]
Before = Annotated[int | None, typer.Option(help="List only events before the one with this number.")]
_KEYS_SHOWN: Final = 20


def list_accounts(
    *,
    database: Database,
    prefix: Prefix = None,
    plan: OfPlan = None,
    status: OfStatus = None,
    order: OrderBy = Order.id,
    from_: From = None,
    to: To = None,
    by: ByPeriod = By.day,
    page: PageNum = 1,
    page_size: PageSize = 50,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """List accounts and their requests, by default of the last 30 days. A range has at most 31 days or 48 hours."""
    asked: dict[str, Any] = {"prefix": prefix, "plan": plan, "order": order.value, "by": by.value}
    asked |= {"status": None if status is None else status.value, "page_num": page, "page_size": page_size}
    times = range_of(from_, to)
    with open_service(database) as service:
        found = service.operator.accounts(**asked, **times)
        note_unrecorded(service)
    data = ({**account_fields(one.account), "allowed": one.allowed, "refused": one.refused} for one in found.items)
    fields = (*ACCOUNT_FIELDS, "allowed", "refused")
    rows = ((*_row(one.account), str(one.allowed), str(one.refused)) for one in found.items)
    columns = ("id", "plan", "status", "limits", "max keys", "allowed", "refused")
    output.print_list(data, fields, columns, rows, json=json, csv=csv, more=_more(found))
    _say_page(found, json=json)


def show(account: AccountId, *, database: Database, plans: Plans = None, json: Json = False) -> None:
    """Print an account, its newest keys and its usage of the last 30 days. With --plans, print its limits too."""
    table = None if plans is None else plan_source(plans).table
    with open_service(database) as service:
        found = existing_account(service, account)
        keys = service.list(account, page_size=_KEYS_SHOWN)
        allowed, refused = _used(service, account)
        refusals, shadow = service.usage.refusals(account), service.usage.shadow_refusals(account)
        note_unrecorded(service)
    plan = None if table is None else _resolved(table, found)
    if json:
        limits = {} if plan is None else {"limits": plan_words.plan_fields(plan)}
        usage = {"allowed": allowed, "refused": refused, "refusals": refusals, "shadow_refusals": shadow}
        shown = [output.key_fields(key) for key in keys.items]
        document = {**account_fields(found), **limits, "usage": usage, "keys": shown, "total_keys": keys.total}
        output.print_json(document)
        return
    lines = dict(zip(("id", "plan", "status", "limits", "max keys"), _row(found), strict=True))
    lines |= {"created": rfc3339(found.created_at), "keys": str(keys.total), "allowed": str(allowed)}
    lines |= {"refused": str(refused), "refused by": named_amounts(refusals), "would refuse": named_amounts(shadow)}
    rows = [*lines.items(), *(() if plan is None else _limit_rows(plan))]
    output.print_table(("account", ""), rows)
    output.print_table(("key", "name", "status"), ((key.id, key.name, key.status) for key in keys.items))


def audit(
    *,
    database: Database,
    account: OneAccountId = None,
    action: Action = None,
    before: Before = None,
    page: PageNum = 1,
    page_size: PageSize = 20,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print the audit trail: who changed what, newest first."""
    with open_service(database) as service:
        if account is not None:
            existing_account(service, account)
        found = service.operator.events(
            account_id=account, action=action, before=before, page_num=page, page_size=page_size
        )
    columns = ("number", "at", "account", "action", "actor", "key", "details")
    data, rows = map(event_fields, found.items), map(_event_row, found.items)
    output.print_list(data, EVENT_FIELDS, columns, rows, json=json, csv=csv, more=_more(found))
    _say_page(found, json=json)


def shadow_refusals(
    *, database: Database, from_: From = None, to: To = None, by: ByPeriod = By.day, json: Json = False
) -> None:
    """Print what shadow limits would have refused, by limit and by account, by default in the last 30 days."""
    times = range_of(from_, to)
    with open_service(database) as service:
        found = service.operator.shadow_refusals(by=by.value, **times)
        note_unrecorded(service)
    if json:
        of = [{"id": one.account_id, "number": one.number, "limits": one.limits} for one in found.accounts]
        output.print_json({"limits": dict(found.limits), "accounts": of})
        return
    output.print_table(("limit", "would refuse"), ((limit, str(number)) for limit, number in found.limits.items()))
    rows = ((one.account_id, str(one.number), named_amounts(one.limits)) for one in found.accounts)
    output.print_table(("account", "would refuse", "by limit"), rows)


def _used(service: "KeyService", account: str) -> tuple[int, int]:
    days = service.usage.history(account).items
    return sum(day.allowed for day in days), sum(day.refused for day in days)


def _resolved(table: PlanTable, account: Account) -> Plan:
    caller = Caller(account.id, account.plan, account.id, account.current_overrides)
    try:
        return table.resolve(caller)
    except InvalidLimit as error:
        raise InvalidKeyRequest("not in the plan table", remedy=str(error), field="plan") from error


def _limit_rows(plan: Plan) -> Iterable[tuple[str, str]]:
    for name, words in plan_words.limits(plan):
        yield f"limit {name}", words
    if plan.account is not None:
        for name, words in plan_words.limits(plan.account):
            yield f"limit account.{name}", words


def _row(account: Account) -> tuple[str, ...]:
    limits = [] if account.overrides is None else [dumps(dict(account.overrides))]
    if account.temporary is not None:
        limits.append(temporary_words(account))
    return account.id, account.plan or "(default)", account.status, "; ".join(limits) or "-", str(account.max_keys)


def temporary_words(account: Account) -> str:
    """The temporary limits of an account that has some."""
    temporary = account.temporary
    assert temporary is not None  # the callers have looked
    return f"{dumps(dict(temporary.overrides))} until {rfc3339(temporary.until)}"


def _event_row(event: Event) -> tuple[str, ...]:
    of = (str(event.number), rfc3339(event.at), event.account_id, event.action)
    return (*of, event.actor or "-", event.key_id or "-", dumps(dict(event.details)))


def _more(page: Page[Any]) -> dict[str, Any]:
    return {"total": page.total, "has_more": page.has_more}


def _say_page(page: Page[Any], *, json: bool) -> None:
    if page.has_more and not json:
        output.say(f"{len(page.items)} of {page.total}; the next are on --page {page.page_num + 1}")
