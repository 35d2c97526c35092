"""The JSON of keys and their usage. Each function returns exactly these fields, in this order."""

from datetime import datetime
from typing import Any

from awx_ratelimit.core.decision import Usage
from awx_ratelimit.keys.models import ApiKey, CreatedKey
from awx_ratelimit.management.blocking_limiter import KeyUsage
from awx_ratelimit.runtime.clock import rfc3339


def key_json(key: ApiKey) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": _time(key.last_used_at),
    }


def created_key_json(created: CreatedKey) -> dict[str, Any]:
    """Return a new key with its secret."""
    key = created.key
    return {
        "id": key.id,
        "name": key.name,
        "key": created.secret.reveal(),
        "prefix": key.masked,
        "created_at": _time(key.created_at),
        "last_used_at": None,
    }


def usage_json(usage: KeyUsage) -> dict[str, Any]:
    """Return how much of its plan a key has used."""
    key = usage.key
    limits = [_limit_json(limit) for limit in usage.limits]
    return {"id": key.id, "name": key.name, "prefix": key.masked, "plan": usage.plan.name, "limits": limits}


def _limit_json(limit: Usage) -> dict[str, Any]:
    """`capacity` is the burst of a rate or the number of slots. After `reset_seconds` the limit is fully available."""
    return {
        "name": limit.limit,
        "capacity": limit.capacity,
        "used": limit.capacity - limit.remaining,
        "remaining": limit.remaining,
        "reset_seconds": -(-limit.reset_after_ms // 1000),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
