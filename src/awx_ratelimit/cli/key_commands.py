"""``awx-ratelimit keys``: make, list, rotate and revoke keys, find those that are old or idle, and change their limits.

A new key is printed once, alone, to stdout: ``KEY=$(awx-ratelimit keys create prod --account acct_acme)``.
"""

import getpass
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from json import loads
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest
from awx_ratelimit.keys import ApiKey, CreatedKey, KeyFormat
from awx_ratelimit.keys.validation import GRACE_SECONDS

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService
    from awx_ratelimit.keys.accounts import CheckPlan

#: Of an environment, and of no command line, where others could read it.
PEPPER: Final = "AWX_KEY_PEPPER"
_PAGE = 100

keys = typer.Typer(help="Make, list, rotate and revoke API keys.", rich_markup_mode=None)

Database = Annotated[
    str,
    typer.Option(envvar="AWX_DATABASE", help="The key store: a path, sqlite:///path or postgresql://user@host/name."),
]
Account = Annotated[str, typer.Option(help="The account that owns the keys.")]
AnyAccount = Annotated[str | None, typer.Option("--account", help="This account alone; without it, every one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Prefix = Annotated[str, typer.Option(envvar="AWX_KEY_PREFIX", help="How the keys begin that the app verifies.")]
Plans = Annotated[str | None, typer.Option(envvar="AWX_PLANS", help="A plans.toml that the plan has to be in.")]


@keys.command()
def create(
    name: str,
    *,
    account: Account,
    database: Database,
    plan: Annotated[str | None, typer.Option(help="The plan of an account that is not there yet.")] = None,
    expires_in_days: Annotated[int | None, typer.Option(help="Without it the key never expires.")] = None,
    prefix: Prefix = "awx_",
    plans: Plans = None,
    json: Json = False,
) -> None:
    """Make a key and print it: the only time that it is told."""
    with _service(database, prefix, plans) as service:
        if plan is not None:
            service.accounts.ensure(account, plan=plan, actor=_actor())
        try:
            created = service.create(account, name, expires_in_days=expires_in_days, actor=_actor())
        except AccountNotFound as error:
            raise AccountNotFound(error.what, remedy="give --plan to make it, too", field="account") from error
        _print_created(created, json=json)


@keys.command("list")
def list_keys(*, account: Account, database: Database, json: Json = False) -> None:
    """List the keys of an account that are not revoked, newest first."""
    with _service(database) as service:
        service.accounts.get(account)
        _print_keys(_all(service, account), json=json)


@keys.command()
def rotate(
    key_id: str,
    *,
    account: Account,
    database: Database,
    grace_seconds: Annotated[int, typer.Option(help="How long the old key is still accepted.")] = GRACE_SECONDS,
    prefix: Prefix = "awx_",
    json: Json = False,
) -> None:
    """Make a successor of a key and print it; the old one ends after its grace."""
    with _service(database, prefix) as service:
        _print_created(service.rotate(account, key_id, grace_period_seconds=grace_seconds, actor=_actor()), json=json)


@keys.command()
def revoke(key_id: str, *, account: Account, database: Database, json: Json = False) -> None:
    """Accept a key no more, in every process within a second."""
    with _service(database) as service:
        service.revoke(account, key_id, actor=_actor())
    if json:
        output.print_json({"revoked": key_id})
    else:
        output.say(f"{key_id} is revoked")


@keys.command()
def stale(
    *,
    database: Database,
    account: AnyAccount = None,
    days: Annotated[int, typer.Option(help="Made so long ago, or longer.")] = 90,
    json: Json = False,
) -> None:
    """List the keys that should be rotated, oldest first."""
    with _service(database) as service:
        found = (service.stale(one, older_than_days=days) for one in _accounts(service, account))
        _print_keys([key for some in found for key in some], json=json)


@keys.command()
def unused(
    *,
    database: Database,
    account: AnyAccount = None,
    days: Annotated[int, typer.Option(help="Neither made nor used for so long.")] = 30,
    json: Json = False,
) -> None:
    """List the keys that should be deleted, oldest first."""
    with _service(database) as service:
        found = (service.unused(one, for_days=days) for one in _accounts(service, account))
        _print_keys([key for some in found for key in some], json=json)


@keys.command()
def set_plan(plan: str, *, account: Account, database: Database, plans: Plans = None, json: Json = False) -> None:
    """Give all keys of an account another plan, within a second; what was used stays used."""
    with _service(database, plans=plans) as service:
        changed = service.accounts.set_plan(account, plan, actor=_actor())
    if json:
        output.print_json(output.shown_account(changed))
    else:
        output.say(f"{changed.id} is on the plan {changed.plan}")


@keys.command()
def set_overrides(
    overrides: Annotated[str, typer.Argument(help="""As {"per_minute": 12000}; null takes them back.""")],
    *,
    account: Account,
    database: Database,
    plans: Plans = None,
    json: Json = False,
) -> None:
    """Give an account numbers of its own, as a plan table has them, within a second; what was used stays used."""
    with _service(database, plans=plans) as service:
        changed = service.accounts.set_overrides(account, _parsed(overrides), actor=_actor())
    if json:
        output.print_json(output.shown_account(changed))
    else:
        output.say(f"{changed.id} has {'numbers of its own' if changed.overrides else 'the numbers of its plan'}")


@contextmanager
def _service(database: str, prefix: str = "awx_", plans: str | None = None) -> "Iterator[KeyService]":
    pepper = os.environ.get(PEPPER)
    form = KeyFormat(prefix, pepper=None if pepper is None else pepper.encode())
    check_plan = None if plans is None else _in_table(PlanTable.from_toml(plans))
    # On first use: a database's toolkit is most of what other commands would wait for.
    from awx_ratelimit.keys import KeyService, KeyStore

    store = KeyStore.open(database)
    try:
        yield KeyService(store, keys=form, check_plan=check_plan)
    finally:
        store.close()


def _parsed(overrides: str) -> Any:
    try:
        return loads(overrides)
    except (ValueError, RecursionError):
        remedy = """write them as {"per_minute": 12000}, or null"""
        raise InvalidKeyRequest("are no JSON", remedy=remedy, field="overrides") from None


def _in_table(table: PlanTable) -> "CheckPlan":
    return lambda plan, overrides: table.resolve(Caller("check", plan, overrides=overrides))


def _actor() -> str:
    """Who is to stand in the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"


def _accounts(service: "KeyService", account: str | None) -> Iterator[str]:
    if account is not None:
        yield service.accounts.get(account).id
        return
    for number in count(1):
        page = service.accounts.list(page_num=number, page_size=_PAGE)
        yield from (one.id for one in page.items)
        if not page.has_more:
            return


def _all(service: "KeyService", account: str) -> Iterator[ApiKey]:
    for number in count(1):
        page = service.list(account, page_num=number, page_size=_PAGE)
        yield from page.items
        if not page.has_more:
            return


def _print_created(created: CreatedKey, *, json: bool) -> None:
    key = created.key
    if json:
        output.print_json({**output.shown_key(key), "key": created.secret.reveal()})
        return
    output.print_line(created.secret.reveal())
    output.say(f"{key.id} ({key.masked}) of {key.account_id}; it is not told again: put it into a secrets manager")


def _print_keys(found: Iterable[ApiKey], *, json: bool) -> None:
    if json:
        output.print_json({"data": [output.shown_key(key) for key in found]})
        return
    columns = ("id", "account", "name", "key", "status", "created", "last used")
    rows = [
        (key.id, key.account_id, key.name, key.masked, key.status, *map(_time, (key.created_at, key.last_used_at)))
        for key in found
    ]
    output.print_table(columns, rows)


def _time(at: object) -> str:
    return output.shown_time(at) or "never"  # type: ignore[arg-type]
