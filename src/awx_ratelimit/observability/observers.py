"""`Observer`: a listener that also follows releases, settlements, waits, calls of the backend and verified keys."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from types import BuiltinMethodType
from typing import Any

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.joint_claim import Cost
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.observability.listeners import Listener
from awx_ratelimit.runtime.event_loops import in_thread

_log = logging.getLogger("awx_ratelimit")


class Observer:
    """A listener that also follows what happens after a decision, and what prevents one.

    Override what you need. Methods must not wait and must not change their arguments. Exceptions are logged.
    """

    def __call__(self, decision: Decision) -> None:
        """A claim was decided."""

    def released(self, decision: Decision) -> None:
        """The slots of `decision` were released. A finalizer may call this, so it takes no lock."""

    def held(self, plan: Plan, seconds: float) -> None:
        """A lease under `plan` was held for so long. At high rates some leases are measured. Takes no lock either."""

    def unavailable(self, plan: Plan) -> None:
        """A claim under `plan` was not decided, because the backend is unavailable."""

    def settled(self, decision: Decision, cost: Cost) -> None:
        """The cost of `decision` turned out to be `cost`; 0 for a refund. Called once for a decision, at most."""

    def overruled(self, decision: Decision, by: Decision) -> None:
        """The request of `decision`, which was allowed, was refused all the same: by a route limit."""

    def wait_began(self) -> None:
        """A claim may wait for room from now on."""

    def wait_ended(self, decision: Decision | None, seconds: float) -> None:
        """Such a claim was decided after `seconds`; None if it was cancelled or failed."""

    def called(self, backend: str, seconds: float) -> None:
        """A server of the backend has answered a call."""

    def verified(self, outcome: str) -> None:
        """An API key was ``accepted``, or refused with the code `outcome`."""

    def watch(self, limiter: Any) -> None:
        """A limiter reports to this observer from now on."""

    def flush(self) -> None:
        """The process may end or freeze now."""


class Observers:
    """The observers among the listeners of a limiter. Whatever they raise is logged."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self.all = tuple(listener for listener in listeners if isinstance(listener, Observer))
        #: What releases call: nothing for nearly all limiters.
        self.released = tuple(_safe(observer.released) for observer in self.all if _follows(observer, "released"))
        #: What accepted keys call.
        self.accepted: Callable[[], Any] = partial(self.report, "verified", "accepted")
        if len(self.all) == 1 and hasattr(self.all[0], "add_accepted"):
            self.accepted = self.all[0].add_accepted

    def follow(self, name: str) -> bool:
        """Whether an observer has a method `name` of its own."""
        return any(_follows(observer, name) for observer in self.all)

    def flush(self) -> None:
        """Flush each observer."""
        self.report("flush")

    async def flush_async(self) -> None:
        """As `flush`, without blocking an event loop of asyncio."""
        if self.follow("flush"):
            await in_thread(self.flush)

    def report(self, name: str, *arguments: Any) -> None:
        """Call the method `name` of each observer."""
        for observer in self.all:
            try:
                getattr(observer, name)(*arguments)
            except Exception:
                _log.exception("an observer of limits failed")


class QueueTime:
    """Reports to the observers how long one claim waits. `now_ms` is the clock by which it waits."""

    def __init__(self, observers: Observers, now_ms: Callable[[], int]) -> None:
        self._observers = observers
        self._now_ms = now_ms
        self._begun_ms: int | None = None

    def begin(self) -> None:
        """The claim waits from now on. Later calls do nothing."""
        if self._begun_ms is None and self._observers.all:
            self._begun_ms = self._now_ms()
            self._observers.report("wait_began")

    def end(self, decision: Decision | None) -> None:
        """It does not wait any more. Later calls do nothing."""
        begun_ms, self._begun_ms = self._begun_ms, None
        if begun_ms is not None:
            self._observers.report("wait_ended", decision, (self._now_ms() - begun_ms) / 1000)


def _follows(observer: Observer, name: str) -> bool:
    return getattr(getattr(observer, name), "__func__", None) is not getattr(Observer, name)


def _safe(method: Listener) -> Listener:
    """`method`, whose exceptions are logged. Methods of built-in types need no frame around them."""
    if isinstance(method, BuiltinMethodType):
        return method

    def call(decision: Decision) -> None:
        try:
            method(decision)
        except Exception:
            _log.exception("an observer of limits failed")

    return call
