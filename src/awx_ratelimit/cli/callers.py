"""The caller that a command means by a subject or an account: with the plan and the overrides that its gate applies.

They are those of the key store or of the app that the command names.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import typer

from awx_ratelimit.cli import output
from awx_ratelimit.cli.key_stores import existing_account, open_service
from awx_ratelimit.cli.stdin_key import STDIN, key_from_stdin, refuse_key_argument
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import AccountNotFound, KeyNotFound
from awx_ratelimit.http.explain import AnyGate, known_caller, known_plans
from awx_ratelimit.http.identity.static_keys import StaticKeys, subject_of

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


def named_subject(subject: str, database: str | None, gate: AnyGate | None = None) -> str:
    """The subject that the argument `subject` means: for '-', that of the key on standard input, which is printed.

    The key is one of the store, or without a store, one that the app has in StaticKeys. Raises KeyNotFound if the store
    or the app does not have it.
    """
    if subject != STDIN:
        return subject
    key = key_from_stdin("SUBJECT")
    found = _static_subject(key, gate) if database is None else _stored_subject(key, database)
    output.say(f"subject: {found}")
    return found


def _static_subject(key: str, gate: AnyGate | None) -> str:
    keys = None if gate is None else gate.parts.identify
    if not isinstance(keys, StaticKeys):
        return subject_of(key.encode())
    caller = keys.caller_of(key.encode())
    if caller is None:
        raise KeyNotFound("the app does not have the key", remedy="check --plans, which names the app")
    return caller.subject


def _stored_subject(key: str, database: str) -> str:
    with open_service(database) as service:
        found = service.operator.keys.of_text(key)
    if found is None:
        remedy = "check --database; omit it for a key in StaticKeys"
        raise KeyNotFound("this store does not have the key", remedy=remedy)
    return found.key.id


def caller_of(
    subject: str,
    account: str | None = None,
    plan: str | None = None,
    *,
    database: str | None = None,
    gate: AnyGate | None = None,
) -> Caller:
    """The caller that `subject` is, as the key store `database` or the app of `gate` knows it.

    `account` and `plan` replace what they know. Raises AccountNotFound and KeyNotFound if there is a `database` that
    does not know the account, or in which the key belongs to another one.
    """
    found = None if database is None else _in_store(database, subject, account)
    if found is None and gate is not None:
        found = _in_app(gate, subject, account)
    found = found or Caller(subject)
    chosen = found.plan if plan is None else _named_plan(plan, gate)
    return replace(found, plan=chosen, account=account or found.account)


def verifier_of(gate: AnyGate) -> Any:
    """The KeyVerifier of an app that identifies callers by StoredKeys; None for any other app."""
    return getattr(gate.parts.identify, "verifier", None)


def _in_store(database: str, subject: str, account: str | None) -> Caller | None:
    with open_service(database) as service:
        if account is not None:
            existing_account(service, account)
        return service.operator.caller_of(subject, account)


def _in_app(gate: AnyGate, subject: str, account: str | None) -> Caller | None:
    verifier = verifier_of(gate)
    if verifier is not None:
        from awx_ratelimit.keys import KeyService

        # An app may have callers besides those of its keys.
        with suppress(AccountNotFound):
            if found := KeyService(verifier.store).operator.caller_of(subject, account):
                return found
    return known_caller(gate, subject, account)


def _named_plan(name: str, gate: AnyGate | None) -> str | Plan:
    """The plan `name`, which may be one that only the code of the app has."""
    if gate is None:
        return name
    plans = known_plans(gate)
    if name not in plans:
        raise typer.BadParameter(f"expected one of the plans {', '.join(plans)}, got {name!r}", param_hint="--plan")
    return plans[name]
