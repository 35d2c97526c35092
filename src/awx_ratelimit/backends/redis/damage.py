"""Errors for values in Redis that the scripts cannot read, and for replies that are none."""

from typing import Any

from awx_ratelimit.errors import BackendUnavailable, StateDamaged

_DAMAGE = {
    -1: "does not hold a string",
    -2: "holds a value of another program or another version",
    -3: "holds a corrupt value",
}


def damaged(key: bytes, code: int) -> StateDamaged:
    """The error for an error code of a script."""
    return StateDamaged(f"key {key.decode()} {_DAMAGE.get(code, _DAMAGE[-3])}; delete the key, or use another prefix")


def failure(reply: Any) -> BackendUnavailable:
    """The error in the reply to a call, or the one for a reply of another kind, which a broken proxy may send."""
    if isinstance(reply, BackendUnavailable):
        return reply
    return BackendUnavailable("redis: the reply to a claim was malformed")
