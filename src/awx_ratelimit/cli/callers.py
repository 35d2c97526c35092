"""The caller that a command means by a subject or an account: with the plan and the overrides of the key store."""

from typing import Annotated

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.key_stores import existing_account, open_service
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin, refuse_key_argument
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.errors import KeyNotFound
from awx_ratelimit.http.identity import static_keys

StoreOfCallers = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_DATABASE",
        help="Key store. The subject may then be the ID of a key, and its account has the plan and the limits that "
        "are stored.",
    ),
]


def _checked(subject: str) -> str:
    if not subject:
        raise typer.BadParameter("expected a subject, got an empty string; pass the subject of your app's Caller")
    refuse_key_argument(subject, "SUBJECT")
    return subject


Subject = Annotated[
    str,
    typer.Argument(
        help="Subject that your app gives the caller: the ID of a stored key, address:192.0.2.1 of a client without a "
        "key, or what your identifier returns. '-' reads a whole key from standard input, or asks for it. A key is "
        "never an argument.",
        callback=_checked,
    ),
]


def named_subject(subject: str, database: str | None) -> str:
    """The subject that the argument `subject` means: for '-', that of the key on standard input, which is printed.

    The key is one of the store, or without a store, one that the app has in StaticKeys. Raises KeyNotFound if the store
    does not have it.
    """
    if subject != STDIN:
        return subject
    key = key_from_stdin("SUBJECT")
    found = static_keys.subject_of(key.encode()) if database is None else _stored_subject(key, database)
    output.say(f"subject: {found}")
    return found


def _stored_subject(key: str, database: str) -> str:
    with open_service(database) as service:
        found = service.operator.keys.of_text(key)
    if found is None:
        remedy = "check --database; omit it for a key in StaticKeys"
        raise KeyNotFound("this store does not have the key", remedy=remedy)
    return found.key.id


def caller_of(database: str | None, subject: str, account: str | None = None, plan: str | None = None) -> Caller:
    """The caller that `subject` is, as the gate sees it. `plan` replaces the stored plan.

    Raises AccountNotFound and KeyNotFound if there is a key store that does not know the account, or in which the key
    belongs to another one.
    """
    if database is None:
        return Caller(subject, plan, account)
    with open_service(database) as service:
        if account is not None:
            existing_account(service, account)
        found = service.operator.caller_of(subject, account)
    if found is None:
        return Caller(subject, plan)
    return Caller(found.subject, plan or found.plan, found.account, found.overrides)
