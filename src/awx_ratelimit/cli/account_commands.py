"""``awx-ratelimit accounts``: what the operator of the service sees and changes, on the key store itself."""

from typing import Annotated

import typer

from awx_ratelimit.cli import account_views
from awx_ratelimit.cli.account_views import AccountId, temporary_words
from awx_ratelimit.cli.key_stores import (
    Database,
    Plans,
    note_unchecked_plan,
    open_service_of,
    parsed_overrides,
    print_account,
)
from awx_ratelimit.cli.moments import Until
from awx_ratelimit.cli.options import Json
from awx_ratelimit.cli.replaced_limits import note_lost_settings
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http.known_callers import actor_name

accounts = typer.Typer(
    help="List accounts, change their plans and limits, suspend them, and read the audit trail.", rich_markup_mode=None
)
accounts.command("list")(account_views.list_accounts)
for view in (account_views.show, account_views.audit, account_views.shadow_refusals):
    accounts.command()(view)


PlanName = Annotated[str | None, typer.Argument(metavar="PLAN", help="Name of the plan.")]
Default = Annotated[bool, typer.Option("--default", help="Use the default plan of the plan table.")]
Limits = Annotated[
    str | None, typer.Argument(metavar="LIMITS", help='JSON, as for `keys set-overrides`: {"per_minute": 600}.')
]
Times = Annotated[float | None, typer.Option(help="Multiply all limits by this number, such as 2.")]
MaxKeys = Annotated[int, typer.Argument(metavar="NUMBER", help="Maximum number of keys.")]
Actor = Annotated[str | None, typer.Option(help="Name for the audit trail. Default: your user name.")]


@accounts.command()
def plan(
    account: AccountId,
    plan: PlanName = None,
    *,
    database: Database,
    default: Default = False,
    plans: Plans = None,
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Change the plan of an account. Takes effect within a second; current usage carries over."""
    if (plan is None) is not default:
        raise InvalidKeyRequest(_got(default), remedy="expected a plan or --default", field="plan")
    with open_service_of(database, account, plans) as service:
        changed = service.accounts.set_plan(account, plan, actor=actor_name(actor))
    print_account(
        changed, f"{changed.id} is on {'the default plan' if plan is None else f'the plan {plan}'}", json=json
    )
    note_unchecked_plan(plan, plans)


@accounts.command()
def max_keys(
    account: AccountId, number: MaxKeys, *, database: Database, actor: Actor = None, json: Json = False
) -> None:
    """Change the maximum number of keys of an account."""
    with open_service_of(database, account) as service:
        changed = service.accounts.set_max_keys(account, number, actor=actor_name(actor))
    print_account(changed, f"{changed.id} may have {changed.max_keys} keys", json=json)


@accounts.command()
def override(
    account: AccountId,
    limits: Limits = None,
    *,
    until: Until,
    database: Database,
    times: Times = None,
    plans: Plans = None,
    actor: Actor = None,
    json: Json = False,
) -> None:
    """Give an account temporary limits. When they end, its own limits apply again."""
    if (limits is None) is (times is None):
        raise InvalidKeyRequest(_got(times is not None), remedy="expected limits or --times", field="limits")
    overrides = {"times": _whole(times)} if limits is None else parsed_overrides(limits)
    with open_service_of(database, account, plans) as service:
        before = service.accounts.get(account)
        changed = service.accounts.override(account, overrides, until=until, actor=actor_name(actor))
    print_account(changed, f"{changed.id} has {temporary_words(changed)}", json=json)
    note_unchecked_plan(overrides.get("plan"), plans)
    note_lost_settings(before, changed, plans)


@accounts.command()
def end_override(account: AccountId, *, database: Database, actor: Actor = None, json: Json = False) -> None:
    """End the temporary limits of an account now."""
    with open_service_of(database, account) as service:
        changed = service.accounts.end_override(account, actor=actor_name(actor))
    print_account(changed, f"{changed.id} has no temporary limits", json=json)


@accounts.command()
def suspend(account: AccountId, *, database: Database, actor: Actor = None, json: Json = False) -> None:
    """Refuse all keys of an account. Takes effect everywhere within a second."""
    with open_service_of(database, account) as service:
        changed = service.accounts.suspend(account, actor=actor_name(actor))
    print_account(changed, f"{changed.id} is suspended", json=json)


@accounts.command()
def resume(account: AccountId, *, database: Database, actor: Actor = None, json: Json = False) -> None:
    """Accept the keys of a suspended account again."""
    with open_service_of(database, account) as service:
        changed = service.accounts.activate(account, actor=actor_name(actor))
    print_account(changed, f"{changed.id} is active", json=json)


def _got(both: bool) -> str:
    return f"got {'both' if both else 'neither'}"


def _whole(times: float | None) -> float | None:
    return int(times) if times is not None and times.is_integer() else times
