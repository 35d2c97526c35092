"""How many requests of a rule may wait for room at the same time, whoever sends them."""

from collections import deque
from typing import Protocol

from awx_ratelimit.core.plan import MAX_CACHED_PLANS


class Waits(Protocol):
    """A rule whose requests may wait."""

    @property
    def max_waiting(self) -> int:
        """How many of them may wait."""


class Places:
    """The places of one rule. They need no lock, so that a fork cannot leave one locked."""

    __slots__ = ("_free", "_rule")

    def __init__(self, rule: Waits) -> None:
        # Keeps the rule, so that no other gets its id.
        self._rule = rule
        self._free = deque((None,) * rule.max_waiting)

    def take(self) -> bool:
        """Take a place. False if none is free."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def leave(self) -> None:
        """Leave a place that was taken."""
        self._free.append(None)


class WaitingRequests:
    """The places of each rule of a gate."""

    def __init__(self) -> None:
        self._places: dict[int, Places] = {}

    def of(self, rule: Waits) -> Places:
        """The places of `rule`."""
        places = self._places.get(id(rule))
        if places is None:
            if len(self._places) >= MAX_CACHED_PLANS:
                self._places.clear()
            places = self._places.setdefault(id(rule), Places(rule))
        return places
