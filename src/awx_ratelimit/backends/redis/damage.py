"""Errors for values in Redis that the scripts cannot read."""

from awx_ratelimit.errors import StateDamaged

_DAMAGE = {
    -1: "does not hold a string",
    -2: "holds a value of another program or another version",
    -3: "holds a corrupt value",
}


def damaged(key: bytes, code: int) -> StateDamaged:
    """The error for an error code of a script."""
    return StateDamaged(f"key {key.decode()} {_DAMAGE.get(code, _DAMAGE[-3])}; delete the key, or use another prefix")
