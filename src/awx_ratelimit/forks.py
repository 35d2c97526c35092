"""What a child process makes anew after a fork: locks that a thread may have held, and what is the parent's."""

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_RENEWALS: list[WeakMethod[Callable[[], Any]]] = []


def renewed_after_fork(renew: Callable[[], Any]) -> None:
    """Call the bound method `renew` in each child process, for as long as its object lives."""
    _RENEWALS[:] = [known for known in _RENEWALS if known() is not None]
    _RENEWALS.append(WeakMethod(renew))


def _after_fork_in_child() -> None:
    for renewal in _RENEWALS:
        renew = renewal()
        if renew is not None:
            renew()


# A platform without fork has nothing to make anew.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
