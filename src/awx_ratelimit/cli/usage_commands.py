"""``awx-ratelimit usage``: what a subject or an account uses now, and what accounts and their keys have used.

Without the name of a command, ``usage SUBJECT`` means ``usage subject SUBJECT``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from awx_ratelimit.cli import current_usage, output
from awx_ratelimit.cli.key_stores import (
    AccountId,
    Database,
    OneAccountId,
    note_unrecorded,
    open_service_of,
    open_store,
)
from awx_ratelimit.cli.moments import From, Since, To
from awx_ratelimit.cli.options import Csv, Json
from awx_ratelimit.errors import AccountNotFound, InvalidKeyRequest, KeyNotFound
from awx_ratelimit.http.known_callers import missing_key, no_such_account
from awx_ratelimit.runtime.clock import rfc3339

_SUBJECT: Final = "subject"


class _UsageGroup(TyperGroup):
    """Takes whatever is not the name of a command for a subject."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] != "--help":
            # Options of the subject: the group has none.
            self._check_order(ctx, args)
            args = [_SUBJECT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def _check_order(self, ctx: Any, args: list[str]) -> None:
        """Raise ValueError if the name of a command comes after options, which are taken for those of a subject."""
        try:
            values, _, _ = self.commands[_SUBJECT].make_parser(ctx).parse_args([*args])
            name = values.get(_SUBJECT)
        except typer.TyperException:
            # A subject has no such option, but a command may.
            name = next((word for word in args if word in self.commands), None)
        if name in self.commands:
            raise ValueError(
                f"usage: expected {name} before its options, got {args[0]} first; write: awx-ratelimit usage {name} "
                f"... {args[0]}. For a subject named {name!r}, write: awx-ratelimit usage subject {name}"
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if len(args) == 1 and args[0] in self.commands:
            name = args[0]
            raise ValueError(
                f"usage {name}: expected arguments; see: awx-ratelimit usage {name} --help. "
                f"For a subject named {name!r}, write: awx-ratelimit usage subject {name}"
            )
        return super().resolve_command(ctx, args if args[0] in self.commands else [_SUBJECT, *args])


class By(StrEnum):
    """The length of a period."""

    hour = "hour"
    day = "day"


usage = typer.Typer(
    cls=_UsageGroup,
    help="Print what a subject uses now (usage SUBJECT, short for usage subject SUBJECT), what all keys of an account "
    "use together (usage account ACCOUNT), or what an account and its keys have used.",
    rich_markup_mode=None,
)
usage.command(_SUBJECT)(current_usage.subject_usage)
usage.command("account")(current_usage.account_usage)

Key = Annotated[str | None, typer.Option(help="ID of a key of the account, which may be revoked. Default: all keys.")]
ByPeriod = Annotated[By, typer.Option(help="Length of a period. Hours are kept for 35 days.")]
Source = Annotated[str, typer.Option(help="URI of your service, as the source of the events.")]
EventType = Annotated[str, typer.Option("--type", help="Type of the events.")]
GraceSeconds = Annotated[int, typer.Option(help="How many seconds an hour stays open for late costs.")]
Batch = Annotated[bool, typer.Option("--batch", help="Print one JSON array instead of JSON lines.")]
Number = Annotated[int, typer.Option(help="Number of keys, up to 100.")]


@usage.command()
def history(
    *,
    account: AccountId,
    database: Database,
    key: Key = None,
    from_: From = None,
    to: To = None,
    by: ByPeriod = By.day,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print what an account or a key has used, by day or by hour. A `UsageHistory` in your app records it."""
    times = range_of(from_, to)
    with open_service_of(database, account) as service:
        try:
            periods = service.usage.history(account, key_id=key, by=by.value, **times).items
        except KeyNotFound as error:
            raise missing_key(service, key or "", account) from error
        note_unrecorded(service)
    if csv:
        # Here, so that other commands do not load SQLAlchemy.
        from awx_ratelimit.keys.usage_csv import usage_csv

        output.print_csv(usage_csv(periods))
    elif json:
        output.print_json({"by": by.value, "data": [output.period_fields(period) for period in periods]})
    else:
        columns = ("begins", "allowed", "refused", "cost", "refused by", "peak concurrent")
        output.print_table(columns, (_row(period) for period in periods))


@usage.command()
def keys(
    *,
    account: AccountId,
    database: Database,
    from_: From = None,
    to: To = None,
    by: ByPeriod = By.day,
    number: Number = 10,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Print the busiest keys of an account."""
    times = range_of(from_, to)
    with open_service_of(database, account) as service:
        found = service.usage.busiest(account, by=by.value, number=number, **times)
        note_unrecorded(service)
    if csv:
        from awx_ratelimit.keys.usage_csv import busy_keys_csv

        output.print_csv(busy_keys_csv(found))
    elif json:
        output.print_json({"data": [output.busy_key_fields(key) for key in found]})
    else:
        columns = ("id", "name", "key", "allowed", "refused", "peak concurrent", "last used")
        rows = (
            (key.key_id, key.name, key.masked, str(key.allowed), str(key.refused), str(key.peak_concurrent),
             rfc3339(key.last_used_at))
            for key in found
        )  # fmt: skip
        output.print_table(columns, rows)


@usage.command()
def export(
    *,
    database: Database,
    since: Since,
    account: OneAccountId = None,
    source: Source = "awx-ratelimit",
    type_: EventType = "awx.usage",
    grace_seconds: GraceSeconds = 3_600,
    batch: Batch = False,
) -> None:
    """Print what all accounts have used, as CloudEvents for a billing system. Exporting an hour again changes nothing.

    There is one event for each hour, key and measure. The last line on stderr names the --since of the next export.
    """
    from awx_ratelimit.keys import KeyService, UsageExport

    with open_store(database) as store:
        exports = UsageExport(store, source=source, type=type_, grace_seconds=grace_seconds)
        try:
            hours = exports.since(since, account_id=account)
        except AccountNotFound as error:
            raise no_such_account(account or "") from error
        output.print_json_documents(hours, as_array=batch)
        note_unrecorded(KeyService(store))
    output.say(f"next: --since {rfc3339(hours.ends_at)}")


def range_of(from_: datetime | None, to: datetime | None) -> dict[str, Any]:
    """The arguments of a report for the options --from and --to."""
    times = {name: at for name, at in (("from_", from_), ("to", to)) if at is not None}
    if len(times) == 2 and times["from_"] >= times["to"]:
        raise InvalidKeyRequest("not before --to", remedy="expected an earlier time", field="--from")
    return times


def _row(period: Any) -> tuple[str, ...]:
    return (
        rfc3339(period.begins_at),
        str(period.allowed),
        str(period.refused),
        named_amounts(period.costs),
        named_amounts(period.refusals),
        str(period.peak_concurrent),
    )


def named_amounts(amounts: Any) -> str:
    """Amounts by name, as a cell of a table."""
    return ", ".join(f"{name} {amount}" for name, amount in sorted(amounts.items())) or "-"
