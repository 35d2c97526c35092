"""``awx-ratelimit keys``: create, list, rotate and revoke API keys, find old and unused ones, and change limits.

A new key is the only output on stdout: ``KEY=$(awx-ratelimit keys create prod --account acct_acme)``.
"""

import getpass
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from json import loads
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest
from awx_ratelimit.keys import Account, ApiKey, CreatedKey, KeyFormat
from awx_ratelimit.keys.json_fields import account_fields
from awx_ratelimit.keys.models import Page
from awx_ratelimit.keys.validation import GRACE_SECONDS
from awx_ratelimit.runtime.clock import rfc3339

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService, KeyStore
    from awx_ratelimit.keys.accounts import CheckPlan

#: The environment variable with the pepper. It is not an option, because other users can read command lines.
PEPPER: Final = "AWX_KEY_PEPPER"
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
Database = Annotated[
    str, typer.Option(envvar="AWX_DATABASE", help="Key store: a path, sqlite:///path or postgresql://user@host/name.")
]
AccountId = Annotated[str, typer.Option(help="Account that owns the keys.")]
OneAccountId = Annotated[str | None, typer.Option("--account", help="List only this account. Default: all accounts.")]
NewAccountPlan = Annotated[
    str | None, typer.Option(help="Create the account with this plan if the account does not exist.")
]
ExpiresInDays = Annotated[int | None, typer.Option(help="Days until the key expires. Default: never.")]
GraceSeconds = Annotated[int, typer.Option(help="Seconds for which the old key stays valid.")]
MinAgeDays = Annotated[int, typer.Option(help="Minimum age of the keys in days.")]
MinUnusedDays = Annotated[int, typer.Option(help="Minimum number of days since a key was created or last used.")]
Prefix = Annotated[str, typer.Option(envvar="AWX_KEY_PREFIX", help="Prefix of the keys, as configured in the app.")]
Plans = Annotated[str | None, typer.Option(envvar="AWX_PLANS", help="Plan table (TOML) that must contain the plan.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
    with open_service(database, prefix, plans) as service:
        if plan is not None:
            service.accounts.ensure(account, plan=plan, actor=actor_name())
        try:
            created = service.create(account, name, expires_in_days=expires_in_days, actor=actor_name())
        except AccountNotFound as error:
            raise AccountNotFound(error.what, remedy="add --plan to create it", field="account") from error
        _print_created(created, json=json)


@keys.command("list")
def list_keys(*, account: AccountId, database: Database, json: Json = False) -> None:
    """List the keys of an account, newest first. Revoked keys are not listed."""
    with open_service(database) as service:
        service.accounts.get(account)
        pages = _all_pages(lambda number: service.list(account, page_num=number, page_size=_PAGE_SIZE))
        _print_keys(pages, json=json)


@keys.command()
def rotate(
    key_id: KeyId,
    *,
    account: AccountId,
    database: Database,
    grace_seconds: GraceSeconds = GRACE_SECONDS,
    prefix: Prefix = "awx_",
    json: Json = False,
) -> None:
    """Create a replacement for a key and print it. The old key expires after the grace period."""
    with open_service(database, prefix) as service:
        _print_created(
            service.rotate(account, key_id, grace_period_seconds=grace_seconds, actor=actor_name()), json=json
        )


@keys.command()
def revoke(key_id: KeyId, *, account: AccountId, database: Database, json: Json = False) -> None:
    """Revoke a key. Takes effect everywhere within a second."""
    with open_service(database) as service:
        service.revoke(account, key_id, actor=actor_name())
    if json:
        output.print_json({"revoked": key_id})
    else:
        output.say(f"revoked {key_id}")


@keys.command()
def stale(*, database: Database, account: OneAccountId = None, days: MinAgeDays = 90, json: Json = False) -> None:
    """List the keys that are due for rotation, oldest first."""
    with open_service(database) as service:
        found = (service.stale(one, older_than_days=days) for one in _account_ids(service, account))
        _print_keys(chain.from_iterable(found), json=json)


@keys.command()
def unused(*, database: Database, account: OneAccountId = None, days: MinUnusedDays = 30, json: Json = False) -> None:
    """List the unused keys, oldest first."""
    with open_service(database) as service:
        found = (service.unused(one, for_days=days) for one in _account_ids(service, account))
        _print_keys(chain.from_iterable(found), json=json)


@keys.command()
def set_plan(
    plan: PlanName, *, account: AccountId, database: Database, plans: Plans = None, json: Json = False
) -> None:
    """Change the plan of an account. Takes effect within a second; current usage carries over."""
    with open_service(database, plans=plans) as service:
        changed = service.accounts.set_plan(account, plan, actor=actor_name())
    _print_account(changed, f"{changed.id} is on the plan {changed.plan}", json=json)


@keys.command()
def set_overrides(
    overrides: Overrides, *, account: AccountId, database: Database, plans: Plans = None, json: Json = False
) -> None:
    """Override limits of the account's plan. Takes effect within a second; current usage carries over."""
    with open_service(database, plans=plans) as service:
        changed = service.accounts.set_overrides(account, parsed_overrides(overrides), actor=actor_name())
    _print_account(changed, f"{changed.id} has {'new overrides' if changed.overrides else 'no overrides'}", json=json)


@contextmanager
def open_service(database: str, prefix: str = "awx_", plans: str | None = None) -> "Iterator[KeyService]":
    """A service of the store, which is closed at the end of the block."""
    pepper = os.environ.get(PEPPER)
    key_format = KeyFormat(prefix, pepper=None if pepper is None else pepper.encode())
    check_plan = None if plans is None else checked_by(PlanTable.from_toml(plans))
    # Imported here, because importing SQLAlchemy would slow down every other command.
    from awx_ratelimit.keys import KeyService

    with open_store(database) as store:
        yield KeyService(store, keys=key_format, check_plan=check_plan)


@contextmanager
def open_store(database: str) -> "Iterator[KeyStore]":
    """The store, which is closed at the end of the block."""
    from awx_ratelimit.keys import KeyStore

    store = KeyStore.open(database)
    try:
        yield store
    finally:
        store.close()


def parsed_overrides(overrides: str) -> Any:
    """The overrides that are written in an argument."""
    try:
        return loads(overrides)
    except (ValueError, RecursionError):
        remedy = """write JSON such as {"account": {"per_minute": 12000}}, or null"""
        raise InvalidKeyRequest("not valid JSON", remedy=remedy, field="overrides") from None


def checked_by(table: PlanTable) -> "CheckPlan":
    """A check that a plan with overrides is one of the table."""
    return lambda plan, overrides: table.resolve(Caller("check", plan, overrides=overrides))


def actor_name(actor: str | None = None) -> str:
    """The actor for the audit trail: `actor`, or the user of the operating system."""
    if actor is not None:
        return actor
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"


def _account_ids(service: "KeyService", account: str | None) -> Iterable[str]:
    if account is not None:
        return [service.accounts.get(account).id]
    pages = _all_pages(lambda number: service.accounts.list(page_num=number, page_size=_PAGE_SIZE))
    return (one.id for one in pages)


def _all_pages(page_of: Callable[[int], Page[_Item]]) -> Iterator[_Item]:
    for number in count(1):
        page = page_of(number)
        yield from page.items
        if not page.has_more:
            return


def _print_account(account: Account, message: str, *, json: bool) -> None:
    if json:
        output.print_json(account_fields(account))
    else:
        output.say(message)


def _print_created(created: CreatedKey, *, json: bool) -> None:
    key = created.key
    if json:
        output.print_json({**output.key_fields(key), "key": created.secret.reveal()})
        return
    output.print_line(created.secret.reveal())
    output.say(f"created {key.id} ({key.masked}) for {key.account_id}. Store the key now: it is shown only once.")


def _print_keys(found: Iterable[ApiKey], *, json: bool) -> None:
    if json:
        output.print_json({"data": [output.key_fields(key) for key in found]})
        return
    columns = ("id", "account", "name", "key", "status", "created", "last used")
    output.print_table(columns, map(_row, found))


def _row(key: ApiKey) -> tuple[str, ...]:
    last_used = output.optional_rfc3339(key.last_used_at) or "never"
    return (key.id, key.account_id, key.name, key.masked, key.status, rfc3339(key.created_at), last_used)
