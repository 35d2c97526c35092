"""The caller that a command means by a subject or an account: with the plan and the overrides that its gate applies.

They are those of the key store or of the app that the command names.
"""

from dataclasses import replace
from typing import Annotated, NamedTuple

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.app_gates import ask
from awx_ratelimit.cli.key_stores import open_service
from awx_ratelimit.cli.plan_sources import plan_among
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin, refuse_key_argument
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import AwxRateLimitError, KeyNotFound, KeyRefused
from awx_ratelimit.http.explain import AnyGate, request_to
from awx_ratelimit.http.identity.static_keys import subject_of
from awx_ratelimit.http.known_callers import (
    known_account,
    known_caller,
    known_plans,
    stored_account,
    stored_caller,
)

StoreOfCallers = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_DATABASE",
        help="Key store. The subject may then be the ID of a key, and the plan and limits are those of its account.",
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
        help="Subject of the caller, as your app names it: the ID of a stored key, address:192.0.2.1 for a client "
        "without a key, or what your `identify` returns. '-' reads a whole key from standard input, or asks for it. "
        "Never pass a key itself.",
        callback=_checked,
    ),
]


def named_subject(subject: str, database: str | None) -> str:
    """The subject that the argument `subject` means: for '-', that of the key on standard input, which is printed.

    The key is one of the store, or without a store, one that StaticKeys has under no name of its own. Raises
    KeyNotFound if the store does not have it.
    """
    if subject != STDIN:
        return subject
    key = key_from_stdin("SUBJECT")
    found = subject_of(key.encode()) if database is None else _stored_subject(key, database)
    output.say(f"subject: {found}")
    return found


def _stored_subject(key: str, database: str) -> str:
    with open_service(database) as service:
        found = service.operator.keys.of_text(key)
    if found is None:
        remedy = "check --database; omit it for a key in StaticKeys"
        raise KeyNotFound("this store does not have the key", remedy=remedy)
    return found.key.id


class Found(NamedTuple):
    """The caller that a command means. `is_known`: the key store or the app knows it."""

    caller: Caller
    is_known: bool


def caller_of(
    subject: str,
    account: str | None = None,
    plan: str | None = None,
    *,
    database: str | None = None,
    gate: AnyGate | None = None,
) -> Found:
    """The caller that `subject` is, as the key store `database` or the app of `gate` knows it.

    `account` and `plan` replace what they know. Raises AccountNotFound and KeyNotFound if there is a `database` that
    does not know the account or the key, or in which the key belongs to another account. With `plan`, an unknown key
    is a subject of the app.
    """
    found = None if database is None else _in_store(database, subject, account, has_plan=plan is not None)
    if found is None and gate is not None:
        found = known_caller(gate.parts, subject, account, has_plan=plan is not None)
    return _with(found, Caller(subject), account, plan, gate)


def given_caller(
    subject: str, account: str | None, plan: str | None, *, database: str | None, gate: AnyGate | None
) -> Found:
    """As `caller_of`. '-' is the caller of the key on standard input, and its subject is printed.

    The key store finds that caller; without one, the identifier of the app does.
    """
    if subject != STDIN or gate is None or database is not None:
        return caller_of(named_subject(subject, database), account, plan, database=database, gate=gate)
    found = _caller_with_key(gate, key_from_stdin("SUBJECT"))
    output.say(f"subject: {found.subject}")
    return _with(found, found, account, plan, gate)


def sharing_caller(
    subject: str, account: str | None, plan: str | None, *, database: str | None, gate: AnyGate | None
) -> Found:
    """As `given_caller`, for what the keys of an account share: a name of no known caller is that of the account."""
    found = given_caller(subject, account, plan, database=database, gate=gate)
    if found.is_known or account is not None:
        return found
    return account_of(found.caller.subject, plan, database=database, gate=gate)


def account_of(
    account: str, plan: str | None = None, *, database: str | None = None, gate: AnyGate | None = None
) -> Found:
    """The account itself, with the plan that its keys have. The arguments and the errors are those of `caller_of`."""
    found = None
    if database is not None:
        with open_service(database) as service:
            found = stored_account(service, account)
    elif gate is not None:
        found = known_account(gate.parts, account)
    return _with(found, Caller(account), account, plan, gate)


def _with(known: Caller | None, unknown: Caller, account: str | None, plan: str | None, gate: AnyGate | None) -> Found:
    found = known or unknown
    chosen = found.plan if plan is None else _named_plan(plan, gate)
    return Found(replace(found, plan=chosen, account=account or found.account), known is not None)


def _in_store(database: str, subject: str, account: str | None, *, has_plan: bool) -> Caller | None:
    with open_service(database) as service:
        return stored_caller(service, subject, account, has_plan=has_plan)


def _caller_with_key(gate: AnyGate, key: str) -> Caller:
    """The caller that the app's identifier finds by a key. No message has text of the app, which may repeat the key."""
    request = request_to(gate, "GET", "/", {"X-API-Key": key})
    remedy = "check --plans, which names the app"
    try:
        found: Caller | None = ask(gate, lambda asked: asked.identify_quietly(request))
    except KeyRefused as error:
        reason = "does not have the key" if error.unknown else f"refuses the key: {error.code}"
        raise KeyNotFound(f"the app {reason}", remedy=remedy) from None
    except AwxRateLimitError:
        raise
    except (Exception, SystemExit) as error:  # code of the app
        raise KeyNotFound(
            f"the identifier of the app raised {type_name(error)} for a request to / with the key in X-API-Key",
            remedy="name the subject of the caller instead of '-'",
        ) from None
    if found is None:
        raise KeyNotFound(
            "the app does not identify anyone by the key in X-API-Key",
            remedy="name the subject of the caller instead of '-'",
        )
    return found


def _named_plan(name: str, gate: AnyGate | None) -> str | Plan:
    """The plan `name`, which may be one that only the code of the app has."""
    return name if gate is None else plan_among(known_plans(gate.parts), name)
