"""Finds a key over all accounts, for the operator: by what a log shows of it, by its id, or by its digest."""

from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from awx_ratelimit.keys.models import TracedKey
from awx_ratelimit.keys.storage.schema import ACCOUNTS, KEYS, traced_key_from

#: Of a million keys, about one has the same last four characters as another one.
MAX_TRACED: Final = 100


class Traced(NamedTuple):
    """What is known of a key. None: not known."""

    prefix: str | None = None
    last4: str | None = None
    key_id: str | None = None
    digest: bytes | None = None


def traced_keys(connection: Connection, known: Traced, now_ms: int) -> tuple[TracedKey, ...]:
    """Return the first keys with all that is known, also revoked ones, by account and newest first."""
    rows = select(KEYS, ACCOUNTS.c.status).join(ACCOUNTS, ACCOUNTS.c.id == KEYS.c.account_id)
    order = (KEYS.c.account_id, KEYS.c.created_at_ms.desc(), KEYS.c.id)
    found = connection.execute(rows.where(*_conditions(known)).order_by(*order).limit(MAX_TRACED))
    return tuple(traced_key_from(row, now_ms) for row in found)


def _conditions(known: Traced) -> list[ColumnElement[bool]]:
    columns = (KEYS.c.prefix, KEYS.c.last4, KEYS.c.id, KEYS.c.key_hash)
    return [column == value for column, value in zip(columns, known, strict=True) if value is not None]
