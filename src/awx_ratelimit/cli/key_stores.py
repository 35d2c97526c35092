"""The key store of a command: the options that name it and what is in it, how it is opened, and what it lacks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.plan_sources import plan_source
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest
from awx_ratelimit.http.known_callers import no_such_account
from awx_ratelimit.keys import Account, KeyFormat
from awx_ratelimit.keys.json_fields import account_fields
from awx_ratelimit.runtime.documentation import page

if TYPE_CHECKING:
    from awx_ratelimit.keys import KeyService, KeyStore
    from awx_ratelimit.keys.accounts import CheckPlan

#: The environment variable with the pepper. It is not an option, because other users can read command lines.
PEPPER: Final = "AWX_KEY_PEPPER"

Database = Annotated[
    str, typer.Option(envvar="AWX_DATABASE", help="Key store: a path, sqlite:///path or postgresql://user@host/name.")
]
AccountId = Annotated[str, typer.Option(help="Account that owns the keys.")]
KeyAccountId = Annotated[
    str | None, typer.Option("--account", help="Account that owns the key. Default: the one that has it.")
]
OneAccountId = Annotated[str | None, typer.Option("--account", help="List only this account. Default: all accounts.")]
Plans = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_PLANS",
        help="Plan table (TOML) that must contain the plan, or the app that has it, as module:attribute.",
    ),
]


@contextmanager
def open_service(
    database: str, prefix: str = "awx_", plans: str | None = None, *, may_create: bool = False
) -> "Iterator[KeyService]":
    """A service of the store, which is closed at the end of the block. See `open_store`."""
    pepper = os.environ.get(PEPPER)
    key_format = KeyFormat(prefix, pepper=None if pepper is None else pepper.encode())
    check_plan = None if plans is None else checked_by(plan_source(plans).table)
    # Imported here, because importing SQLAlchemy would slow down every other command.
    from awx_ratelimit.keys import KeyService

    with open_store(database, may_create=may_create) as store:
        yield KeyService(store, keys=key_format, check_plan=check_plan)


@contextmanager
def open_service_of(database: str, account: str, plans: str | None = None) -> "Iterator[KeyService]":
    """A service of the store, which has `account`. Raises AccountNotFound. See `open_service`."""
    with open_service(database, plans=plans) as service:
        existing_account(service, account)
        yield service


@contextmanager
def open_store(database: str, *, may_create: bool = False) -> "Iterator[KeyStore]":
    """The store, which is closed at the end of the block. Raises ValueError for a missing file unless `may_create`."""
    from awx_ratelimit.keys import KeyStore

    if not may_create:
        _check_exists(database)
    store = KeyStore.open(database)
    try:
        yield store
    finally:
        store.close()


def _check_exists(database: str) -> None:
    """A file that is missing has a misspelled name. It must not be made, because then it would have no accounts."""
    from awx_ratelimit.keys.storage.engine import parse_url

    url = parse_url(database)
    path = url.database or ""
    if url.get_backend_name() == "sqlite" and not path.startswith(("file:", ":memory:")) and not Path(path).exists():
        raise ValueError(
            f"there is no key store at {path}; name the database of your app, or make one with: "
            "awx-ratelimit keys create NAME --account ID --plan PLAN"
        )


def existing_account(service: "KeyService", account: str) -> Account:
    """The account. Raises AccountNotFound, which names it and says where to look, if there is none."""
    try:
        return service.accounts.get(account)
    except AccountNotFound as error:
        raise no_such_account(account) from error


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


def print_account(account: Account, message: str, *, json: bool) -> None:
    """Print an account that was changed: as JSON, or only the message."""
    if json:
        output.print_json(account_fields(account))
    else:
        output.say(message)


def note_unrecorded(service: "KeyService") -> None:
    """Say so if no `UsageHistory` has ever recorded usage, so that nobody takes it for no usage."""
    if not service.usage.is_recorded():
        output.say(
            "note: nothing has recorded usage in this store yet. To record it, write listeners=[UsageHistory(store)] "
            f"in your app. See {page('usage-history', 'switch-it-on')}"
        )


def note_unchecked_plan(plan: object, plans: str | None) -> None:
    """Say so if nothing tells whether there is the `plan` that an account was given."""
    if isinstance(plan, str) and plans is None:
        output.say(
            f"note: the plan {plan!r} was not checked, because no plan table was given. If your app does not have it, "
            "requests of the account get a 503. To check it, add --plans plans.toml, or set AWX_PLANS"
        )
