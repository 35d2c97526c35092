"""How keys and their usage are shown in JSON: these fields, in this order, and no others. Pure."""

from datetime import datetime
from typing import Any

from awx_ratelimit.core.decision import Usage
from awx_ratelimit.keys.models import ApiKey, CreatedKey
from awx_ratelimit.management.usage import KeyUsage
from awx_ratelimit.runtime.clock import rfc3339


def item(key: ApiKey) -> dict[str, Any]:
    """A key in a list, and alone."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
    }


def created(made: CreatedKey) -> dict[str, Any]:
    """A new key, with its text: the only answer that has it."""
    key = made.key
    return {
        "id": key.id,
        "name": key.name,
        "key": made.secret.reveal(),
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": None,
    }


def usage(used: KeyUsage) -> dict[str, Any]:
    """What a key has used of its plan."""
    key = used.key
    limits = [_limit(limit) for limit in used.limits]
    return {"id": key.id, "name": key.name, "prefix": key.masked, "plan": used.plan.name, "limits": limits}


def _limit(limit: Usage) -> dict[str, Any]:
    """`capacity` is the burst of a rate, or the slots; nothing is owed any more after `reset_seconds`."""
    return {
        "name": limit.limit,
        "capacity": limit.capacity,
        "used": limit.capacity - limit.remaining,
        "remaining": limit.remaining,
        "reset_seconds": -(-limit.reset_after_ms // 1000),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
