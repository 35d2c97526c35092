"""Listeners of a limiter: checked when it is made, and called with each Decision."""

import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import type_name

_log = logging.getLogger("awx_ratelimit")
Listener = Callable[[Decision], Any]


def checked_listeners(listeners: Any) -> tuple[Listener, ...]:
    """`listeners` as a tuple. Raises TypeError for one that could not be called with a Decision."""
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners is {type_name(listeners)}; write listeners=[listener], a list")
    listed: tuple[Listener, ...] = tuple(listeners)
    for number, listener in enumerate(listed):
        if isinstance(listener, type):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; create an instance: {listener.__name__}()")
        if not callable(listener):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; use a function that takes a Decision")
        if inspect.iscoroutinefunction(listener):
            raise TypeError(f"listeners[{number}] is asynchronous; write it with `def`, nothing awaits it")
    return listed


def notify(listeners: tuple[Listener, ...], decision: Decision, release: Listener) -> None:
    """Call each listener. What it raises is logged; where it ends the caller, `release` is called first."""
    for listener in listeners:
        try:
            listener(decision)
        except Exception:
            _log.exception("a listener of decisions failed")
        except BaseException:
            # A cancellation or an exit: nobody will hear of this decision, so nobody would release it.
            release(decision)
            raise
