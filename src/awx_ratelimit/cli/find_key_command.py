"""``awx-ratelimit keys find awx_...x4f2``: the owner of a key that a log shows."""

from typing import Annotated, Any

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.key_stores import Database, open_service
from awx_ratelimit.cli.options import Csv, Json
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin, refuse_key_argument
from awx_ratelimit.errors import KeyNotFound
from awx_ratelimit.keys.models import TracedKey
from awx_ratelimit.runtime.clock import rfc3339

ShownKey = Annotated[
    str,
    typer.Argument(
        metavar="SHOWN",
        help="What a log or the console shows: awx_...x4f2, ...x4f2, or the ID of a key. '-' reads a whole key from "
        "standard input, or asks for it. Never pass a key itself.",
    ),
]


def find(shown: ShownKey, *, database: Database, json: Json = False, csv: Csv = False) -> None:
    """Find the account of a key that a log or the console shows, even if the key is revoked.

    Several keys may look the same when they are masked. The exit status is 2 if there is none.
    """
    found: tuple[TracedKey, ...]
    with open_service(database) as service:
        if shown == STDIN:
            key = service.operator.keys.of_text(key_from_stdin("SHOWN"))
            found = () if key is None else (key,)
        else:
            refuse_key_argument(shown, "SHOWN")
            found = service.operator.keys.shown_as(shown)
    if not found:
        raise KeyNotFound("no key of this store looks like that", remedy="check --database, and that the key is yours")
    columns = ("account", "id", "name", "key", "state", "created", "last used", "revoked")
    data, rows = map(_traced_fields, found), map(_traced_row, found)
    output.print_list(data, (*output.KEY_FIELDS, "revoked_at", "account_status"), columns, rows, json=json, csv=csv)


def _traced_row(found: TracedKey) -> tuple[str, ...]:
    key = found.key
    times = (rfc3339(key.created_at), output.optional_rfc3339(key.last_used_at) or "never")
    revoked = output.optional_rfc3339(found.revoked_at) or "-"
    return (key.account_id, key.id, key.name, key.masked, found.state, *times, revoked)


def _traced_fields(found: TracedKey) -> dict[str, Any]:
    revoked_at = output.optional_rfc3339(found.revoked_at)
    state = {"status": found.state, "revoked_at": revoked_at, "account_status": found.account_status}
    return {**output.key_fields(found.key), **state}
