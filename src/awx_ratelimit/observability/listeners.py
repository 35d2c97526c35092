"""Listeners of a limiter, which are called with each Decision."""

import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.validation import type_name

_log = logging.getLogger("awx_ratelimit")
Listener = Callable[[Decision], Any]


def checked_listeners(listeners: Any) -> tuple[Listener, ...]:
    """Return `listeners` as a tuple. Raises TypeError unless each can be called with a Decision."""
    if not isinstance(listeners, Iterable):
        raise TypeError(f"listeners is {type_name(listeners)}; write listeners=[listener], a list")
    checked: tuple[Listener, ...] = tuple(listeners)
    for number, listener in enumerate(checked):
        if isinstance(listener, type):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; create an instance: {listener.__name__}()")
        if not callable(listener):
            raise TypeError(f"listeners[{number}] is {type_name(listener)}; use a function that takes a Decision")
        if inspect.iscoroutinefunction(listener):
            raise TypeError(f"listeners[{number}] is a coroutine function; write it with `def`: nothing awaits it")
    return checked


def notify(listeners: tuple[Listener, ...], decision: Decision, release: Listener) -> None:
    """Call each listener. Exceptions are logged; a cancellation or an exit releases the decision and propagates."""
    for listener in listeners:
        try:
            listener(decision)
        except Exception:
            _log.exception("a listener of decisions failed")
        except BaseException:
            # The caller never gets this decision, so it cannot release it.
            release(decision)
            raise
