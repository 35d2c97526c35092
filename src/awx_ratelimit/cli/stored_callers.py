"""The caller that a command means by a subject or an account: with the plan and the overrides of the key store."""

from typing import Annotated

import typer

from awx_ratelimit.cli.key_stores import existing_account, open_service
from awx_ratelimit.core.claim import Caller

StoreOfCallers = Annotated[
    str | None,
    typer.Option(
        envvar="AWX_DATABASE",
        help="Key store. The subject may then be the ID of a key, and its account has the plan and the limits that "
        "are stored.",
    ),
]


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
