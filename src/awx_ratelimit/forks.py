"""What a fork must find and leave: a parent that has come to rest, and a child that makes its own anew."""

import os
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

_Bound = Callable[[], Any]
_RENEWALS: list[WeakMethod[_Bound]] = []
_PAUSES: list[WeakMethod[_Bound]] = []
_RESUMPTIONS: list[WeakMethod[_Bound]] = []


def renewed_after_fork(renew: _Bound) -> None:
    """Call the bound method `renew` in each child process, for as long as its object lives."""
    _remember(_RENEWALS, renew)


def paused_before_fork(pause: _Bound, resume: _Bound) -> None:
    """Call the bound method `pause` before each fork and `resume` after it in the parent, as long as they live.

    For what must not be under way while a process is doubled: a file that is open and locked, say.
    """
    _remember(_PAUSES, pause)
    _remember(_RESUMPTIONS, resume)


def _remember(known: list[WeakMethod[_Bound]], method: _Bound) -> None:
    known[:] = [reference for reference in known if reference() is not None]
    known.append(WeakMethod(method))


def _call(known: list[WeakMethod[_Bound]]) -> None:
    for reference in known:
        method = reference()
        if method is not None:
            method()


# A platform without fork has nothing to make anew.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call(_PAUSES),
        after_in_parent=lambda: _call(_RESUMPTIONS),
        after_in_child=lambda: _call(_RENEWALS),
    )
