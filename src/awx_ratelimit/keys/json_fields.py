"""Accounts and entries of the audit trail as JSON types: the operator's API and the command print the same."""

from typing import Any, Final

from awx_ratelimit.keys.models import Account, Event
from awx_ratelimit.runtime.clock import rfc3339

ACCOUNT_FIELDS: Final = ("id", "plan", "overrides", "temporary_override", "status", "max_keys", "created_at")
EVENT_FIELDS: Final = ("number", "account_id", "key_id", "action", "actor", "at", "details")


def account_fields(account: Account) -> dict[str, Any]:
    """The fields of an account. `temporary_override` is what holds now."""
    return {
        "id": account.id,
        "plan": account.plan,
        "overrides": None if account.overrides is None else dict(account.overrides),
        "temporary_override": None
        if account.temporary is None
        else {"overrides": dict(account.temporary.overrides), "until": rfc3339(account.temporary.until)},
        "status": account.status,
        "max_keys": account.max_keys,
        "created_at": rfc3339(account.created_at),
    }


def event_fields(event: Event) -> dict[str, Any]:
    """The fields of an entry of the audit trail."""
    return {
        "number": event.number,
        "account_id": event.account_id,
        "key_id": event.key_id,
        "action": event.action,
        "actor": event.actor,
        "at": rfc3339(event.at),
        "details": dict(event.details),
    }
