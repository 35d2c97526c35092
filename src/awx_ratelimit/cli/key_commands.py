"""``awx-ratelimit keys``: create, list, rotate and revoke API keys, find old and unused ones, and change limits.

A new key is the only output on stdout: ``KEY=$(awx-ratelimit keys create prod --account acct_acme)``.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.find_key_command import find
from awx_ratelimit.cli.key_stores import (
    AccountId,
    Database,
    KeyAccountId,
    OneAccountId,
    Plans,
    existing_account,
    note_unchecked_plan,
    open_service,
    open_service_of,
    parsed_overrides,
    print_account,
)
from awx_ratelimit.cli.options import Csv, Json
from awx_ratelimit.cli.replaced_limits import note_lost_settings
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest, KeyNotFound
from awx_ratelimit.http.known_callers import actor_name, missing_key, no_such_key
from awx_ratelimit.keys import ApiKey, CreatedKey
from awx_ratelimit.keys.format import is_key_id
from awx_ratelimit.keys.models import Page
from awx_ratelimit.keys.validation import GRACE_SECONDS, refuse_key
from awx_ratelimit.runtime.clock import rfc3339

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService

_PAGE_SIZE: Final = 100
_Item = TypeVar("_Item")

keys = typer.Typer(help="Create, list, rotate and revoke API keys.", rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name of the key, such as prod-payment-service.")]
KeyId = Annotated[str, typer.Argument(help="ID of the key.")]
PlanName = Annotated[str, typer.Argument(help="Name of the plan.")]
Overrides = Annotated[
    str,
    typer.Argument(
        help='JSON, such as {"per_minute": 600, "account": {"per_minute": 12000}}; null removes the overrides. '
        "`account` holds the limits that all keys of the account share."
    ),
]
NewAccountPlan = Annotated[
    str | None,
    typer.Option(
        help="Create the account with this plan if the account does not exist. An error if it has another plan."
    ),
]
ExpiresInDays = Annotated[int | None, typer.Option(help="Days until the key expires. Default: never.")]
GraceSeconds = Annotated[int, typer.Option(help="Seconds for which the old key stays valid.")]
MinAgeDays = Annotated[int, typer.Option(help="Minimum age of the keys in days.")]
MinUnusedDays = Annotated[int, typer.Option(help="Minimum number of days since a key was created or last used.")]
Prefix = Annotated[str, typer.Option(envvar="AWX_KEY_PREFIX", help="Prefix of the keys, as configured in the app.")]


@keys.command()
def create(
    name: Name,
    *,
    account: AccountId,
    database: Database,
    plan: NewAccountPlan = None,
    expires_in_days: ExpiresInDays = None,
    prefix: Prefix = "awx_",
    plans: Plans = None,
    json: Json = False,
) -> None:
    """Create a key and print it. It is shown only once."""
    with open_service(database, prefix, plans, may_create=True) as service:
        if plan is not None:
            _ensure_account(service, account, plan)
        try:
            created = service.create(account, name, expires_in_days=expires_in_days, actor=actor_name())
        except AccountNotFound as error:
            raise AccountNotFound(error.what, remedy="add --plan to create it", field="account") from error
        _print_created(created, json=json)
    note_unchecked_plan(plan, plans)


@keys.command("list")
def list_keys(*, account: AccountId, database: Database, json: Json = False, csv: Csv = False) -> None:
    """List the keys of an account, newest first. Revoked keys are not listed."""
    with open_service_of(database, account) as service:
        pages = _all_pages(lambda number: service.list(account, page_num=number, page_size=_PAGE_SIZE))
        _print_keys(pages, json=json, csv=csv)


@keys.command()
def rotate(
    key_id: KeyId,
    *,
    account: KeyAccountId = None,
    database: Database,
    grace_seconds: GraceSeconds = GRACE_SECONDS,
    prefix: Prefix = "awx_",
    json: Json = False,
) -> None:
    """Create a replacement for a key and print it. The old key expires after the grace period."""
    with open_service(database, prefix) as service, _owner_of(service, key_id, account) as owner:
        created = service.rotate(owner, key_id, grace_period_seconds=grace_seconds, actor=actor_name())
        _print_created(created, json=json)


@keys.command()
def revoke(key_id: KeyId, *, account: KeyAccountId = None, database: Database, json: Json = False) -> None:
    """Revoke a key. Takes effect everywhere within a second."""
    with open_service(database) as service, _owner_of(service, key_id, account) as owner:
        service.revoke(owner, key_id, actor=actor_name())
    if json:
        output.print_json({"revoked": key_id})
    else:
        output.say(f"revoked {key_id}")


keys.command()(find)


@keys.command()
def stale(
    *, database: Database, account: OneAccountId = None, days: MinAgeDays = 90, json: Json = False, csv: Csv = False
) -> None:
    """List the keys that are due for rotation, oldest first."""
    with open_service(database) as service:
        found = (service.stale(one, older_than_days=days) for one in _account_ids(service, account))
        _print_keys(chain.from_iterable(found), json=json, csv=csv)


@keys.command()
def unused(
    *, database: Database, account: OneAccountId = None, days: MinUnusedDays = 30, json: Json = False, csv: Csv = False
) -> None:
    """List the unused keys, oldest first."""
    with open_service(database) as service:
        found = (service.unused(one, for_days=days) for one in _account_ids(service, account))
        _print_keys(chain.from_iterable(found), json=json, csv=csv)


@keys.command()
def set_plan(
    plan: PlanName, *, account: AccountId, database: Database, plans: Plans = None, json: Json = False
) -> None:
    """Change the plan of an account. Takes effect within a second; current usage carries over."""
    with open_service_of(database, account, plans) as service:
        changed = service.accounts.set_plan(account, plan, actor=actor_name())
    print_account(changed, f"{changed.id} is on the plan {changed.plan}", json=json)
    note_unchecked_plan(plan, plans)


@keys.command()
def set_overrides(
    overrides: Overrides, *, account: AccountId, database: Database, plans: Plans = None, json: Json = False
) -> None:
    """Override limits of the account's plan. Takes effect within a second; current usage carries over."""
    with open_service_of(database, account, plans) as service:
        before = service.accounts.get(account)
        changed = service.accounts.set_overrides(account, parsed_overrides(overrides), actor=actor_name())
    print_account(changed, f"{changed.id} has {'new overrides' if changed.overrides else 'no overrides'}", json=json)
    note_unchecked_plan((changed.overrides or {}).get("plan"), plans)
    note_lost_settings(before, changed, plans)


def _ensure_account(service: "KeyService", account: str, plan: str) -> None:
    """Create the account, unless it exists. Raises InvalidKeyRequest if it has another plan."""
    found = service.accounts.ensure(account, plan=plan, actor=actor_name())
    if found.plan != plan:
        has = "the default plan" if found.plan is None else f"the plan {found.plan!r}"
        remedy = f"omit --plan, or change it for all its keys with: awx-ratelimit accounts plan {account} {plan}"
        raise InvalidKeyRequest(f"the account {account!r} has {has}", remedy=remedy, field="--plan")


@contextmanager
def _owner_of(service: "KeyService", key_id: str, account: str | None) -> Iterator[str]:
    """The account of a key. Errors for a key that it does not have say what is known of the key."""
    refuse_key(key_id, "key_id", remedy="write the ID of the key, such as key_3fPq...")
    owner = _found_owner(service, key_id) if account is None else existing_account(service, account).id
    try:
        yield owner
    except KeyNotFound as error:
        raise missing_key(service, key_id, owner) from error


def _found_owner(service: "KeyService", key_id: str) -> str:
    for found in service.operator.keys.shown_as(key_id) if is_key_id(key_id) else ():
        return found.key.account_id
    raise no_such_key(key_id)


def _account_ids(service: "KeyService", account: str | None) -> Iterable[str]:
    if account is not None:
        return [existing_account(service, account).id]
    pages = _all_pages(lambda number: service.accounts.list(page_num=number, page_size=_PAGE_SIZE))
    return (one.id for one in pages)


def _all_pages(page_of: Callable[[int], Page[_Item]]) -> Iterator[_Item]:
    for number in count(1):
        page = page_of(number)
        yield from page.items
        if not page.has_more:
            return


def _print_created(created: CreatedKey, *, json: bool) -> None:
    key = created.key
    if json:
        output.print_json({**output.key_fields(key), "key": created.secret.reveal()})
        return
    output.print_line(created.secret.reveal())
    output.say(f"created {key.id} ({key.masked}) for {key.account_id}. Store the key now: it is shown only once.")


def _print_keys(found: Iterable[ApiKey], *, json: bool, csv: bool) -> None:
    columns = ("id", "account", "name", "key", "status", "created", "last used")
    data, rows = map(output.key_fields, found), map(_row, found)
    output.print_list(data, output.KEY_FIELDS, columns, rows, json=json, csv=csv)


def _row(key: ApiKey) -> tuple[str, ...]:
    last_used = output.optional_rfc3339(key.last_used_at) or "never"
    return (key.id, key.account_id, key.name, key.masked, key.status, rfc3339(key.created_at), last_used)
