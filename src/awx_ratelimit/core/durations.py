"""Durations in words, for people. Programs read milliseconds. Pure."""

from typing import Final

_UNITS: Final = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))
#: Below a minute, waits are shown in tenths of a second.
_TENTH_MS: Final = 100


def period(period_ms: int) -> str:
    """The exact period after "per": ``minute``, ``2 minutes``, ``1,500 ms``."""
    for unit_ms, unit in _UNITS:
        if period_ms % unit_ms == 0:
            return unit if period_ms == unit_ms else _count(period_ms // unit_ms, unit)
    return f"{period_ms:,} ms"


def wait(wait_ms: int) -> str:
    """A wait of 0 or more: ``1 day``, ``2 hours 5 minutes``, ``3.2 seconds``. Never less than it is.

    Two units are shown, and the second is rounded up.
    """
    step_ms = _step_ms(wait_ms)
    rounded_ms = -(-wait_ms // step_ms) * step_ms
    if rounded_ms < _UNITS[2][0]:
        tenths = rounded_ms // _TENTH_MS
        return f"{tenths // 10}.{tenths % 10} seconds" if tenths % 10 else _count(tenths // 10, "second")
    parts = []
    for unit_ms, unit in _UNITS:
        number, rounded_ms = divmod(rounded_ms, unit_ms)
        if number:
            parts.append(_count(number, unit))
    return " ".join(parts)


def _step_ms(wait_ms: int) -> int:
    """What `wait_ms` is rounded up to: the unit below its own."""
    for at, (unit_ms, _) in enumerate(_UNITS[:3]):
        if wait_ms >= unit_ms:
            return _UNITS[at + 1][0]
    return _TENTH_MS


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
