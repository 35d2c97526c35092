"""The tables and functions in the database, and their migrations.

Each function has the number of its version in its name, so that processes of two versions can share limits while one
replaces the other.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final, NamedTuple

from awx_ratelimit.backends.postgres.arrays import (
    BIGINT,
    BIGINTS,
    BINARY,
    BOOLEAN,
    BOOLEANS,
    BYTEA,
    BYTEAS,
    TEXT,
    TEXTS,
)
from awx_ratelimit.backends.postgres.many import many_functions, many_name
from awx_ratelimit.backends.postgres.single import MAX_RATES, single_functions
from awx_ratelimit.core.validation import describe

#: The files of each version, and what must run for it, in order.
_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("tables", "state", "open_claims", "acquire", "plain", "leases", "settle", "heal", "guard"),
)
VERSION: Final = len(_MIGRATIONS)
#: What a corrupt record causes: as conditions of PL/pgSQL, and as the classes or codes of their errors.
_CORRUPTION: Final = (
    "data_exception OR integrity_constraint_violation OR feature_not_supported OR data_corrupted OR index_corrupted "
    "OR internal_error"
)
#: The settings of functions that take many records.
_PLANNED: Final = " ".join(
    (
        "SET plan_cache_mode = force_generic_plan",
        *(f"SET enable_{way} = off" for way in ("hashjoin", "mergejoin", "seqscan")),
    )
)
CORRUPTION_CODES: Final = ("22", "23", "0A000", "XX")
_is_name = re.compile(r"[a-z_][a-z0-9_]{0,30}").fullmatch


class Function(NamedTuple):
    """A function in the database: its name, the types of its first parameters, and the others as text of SQL.

    `later` are the types of the parameters that this text has.
    """

    name: str
    types: tuple[int, ...]
    literals: str = ""
    later: tuple[int, ...] = ()


class Statement(NamedTuple):
    """The text of a call with its parameters, and the name under which connections prepare it.

    The last parameter is not one of the function: how long the call may wait for a lock. The name is a digest of the
    text. So it means the same to everybody, even if a pooler mixes up connections.
    """

    text: bytes
    types: tuple[int, ...]
    formats: list[int]
    name: bytes


ACQUIRE: Final = Function(
    "acquire_1", (BIGINT, BIGINT, BIGINT, BYTEAS, TEXTS, BOOLEANS, BIGINTS, BIGINTS, BIGINTS, TEXTS)
)
ACQUIRE_JOINTLY: Final = Function("acquire_jointly_1", ACQUIRE.types)
ACQUIRE_PLAIN: Final = Function("acquire_plain_1", (BIGINT, BIGINT, BIGINT, BYTEAS, TEXTS, BIGINTS, BIGINTS, TEXTS))
#: For each number of rates.
ACQUIRE_MANY: Final = [
    Function(many_name(rates), (*(BIGINT,) * 3, BYTEAS, TEXTS, BOOLEANS, *(BIGINTS,) * 8, TEXTS))
    for rates in range(MAX_RATES + 1)
]
RENEW: Final = Function("renew_all_1", (BIGINT, BIGINT, BIGINT, BIGINT, BYTEAS, TEXTS, BIGINTS))
RESET: Final = Function("reset_1", (BIGINT, BYTEA, TEXT))
SETTLE: Final = Function(
    "settle_1",
    (BIGINT, BIGINT, BIGINT, BIGINT, BOOLEAN, BOOLEAN, BIGINT, BYTEAS, TEXTS, TEXTS, BIGINTS, TEXTS, BIGINTS),
)
HEAL: Final = Function("heal_all_1", (BIGINT, BIGINT, BIGINT, BYTEA, BYTEAS, TEXTS, BIGINTS, BIGINTS, TEXTS))


class Call(NamedTuple):
    """One call of a function, which returns one bigint[]. `keys` say which server it is for."""

    statement: Statement
    parameters: Sequence[bytes | None]
    keys: Sequence[bytes] = (b"",)


def checked_place(schema: str, prefix: str) -> str:
    """``schema.prefix``, where limits are. Raises TypeError or ValueError for a name that no table can have."""
    for what, name in (("schema", schema), ("prefix", prefix)):
        if not isinstance(name, str):
            raise TypeError(f"{what}: expected a string such as 'awx', got {describe(name)}")
        if not _is_name(name):
            raise ValueError(f"{what}: expected 1 to 31 of a-z, 0-9 and _, not beginning with a digit, got {name!r}")
    return f"{schema}.{prefix}"


@lru_cache(1_024)
def statement(place: str, function: Function) -> Statement:
    """The statement that calls `function`."""
    parameters = ", ".join(f"${number}" for number in range(1, len(function.types) + 1))
    call = f"{_name(place, function.name)}({parameters}{function.literals})"
    # The server would let a call wait for ever, even after its client has gone. The setting ends with the transaction:
    # behind a pooler, a session has none of its own.
    types = (*function.types, *function.later, TEXT)
    set_ms = f"pg_catalog.set_config('lock_timeout', ${len(types)}, true)"
    text = f"SELECT CASE WHEN {set_ms} IS NOT NULL THEN {call} END".encode()
    name = b"awx_" + blake2b(text, digest_size=16).hexdigest().encode()
    return Statement(text, types, [BINARY] * len(types), name)


def migration(place: str, version: int) -> str:
    """The statements that lead to `version`, from the version before."""
    folder = files(__package__) / "sql"
    text = "\n".join(folder.joinpath(f"{name}.sql").read_text("utf-8") for name in _MIGRATIONS[version - 1])
    text += single_functions() + many_functions() + _safe_paths()
    text = (
        text.replace("@corruption", _CORRUPTION)
        .replace("@planned", _PLANNED)
        .replace("@schema", f'"{place.partition(".")[0]}"')
    )
    return re.sub(r"@(\w+)", lambda found: _name(place, found[1]), text)


def _safe_paths() -> str:
    """Statements that protect the functions that clients call, other than those of `single`.

    Otherwise an overload in a schema that others may write could take the place of a function of PostgreSQL.
    """
    names = [function.name for function in (ACQUIRE, ACQUIRE_JOINTLY, ACQUIRE_PLAIN, *ACQUIRE_MANY, RENEW, RESET)]
    names += [SETTLE.name, HEAL.name]
    return "".join(f"ALTER FUNCTION @{name} SET search_path = pg_catalog, pg_temp;\n" for name in names)


def versions_table(place: str) -> str:
    """The name of the table of the versions that were installed."""
    return _name(place, "versions")


def lock_number(place: str) -> int:
    """The advisory lock that a migration holds."""
    return int.from_bytes(blake2b(f"awx_ratelimit {place}".encode(), digest_size=8).digest(), signed=True)


def _name(place: str, name: str) -> str:
    schema, prefix = place.split(".")
    return f'"{schema}"."{prefix}_{name}"'
