"""Refusals by rates that still stand, so that a flood of refused claims costs no call.

What the backend said last is carried on by the core's own arithmetic. It is believed for a second at most, for other
processes reset, refund and upgrade; and never where the slots alone refused, for they come back at any moment.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from awx_ratelimit.core.decide import preview
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan

_MOST_BELIEVED_MS = 1_000
_MOST_REMEMBERED = 10_000
_NS_IN_MS = 1_000_000


class _Refusal(NamedTuple):
    decision: Decision
    answered_ns: int
    until_ns: int


class Refusals:
    """`now_ns` is a clock that does not jump. From any thread: every step is one step of a dict."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        #: The time, for `remember`.
        self.now_ns = now_ns
        self._known: OrderedDict[str, _Refusal] = OrderedDict()

    def standing(self, subject: str, plan: Plan, cost: int) -> Decision | None:
        """The refusal of this claim, if one of no more cost under this very plan still stands."""
        known = self._known.get(subject)
        if known is None:
            return None
        decision, answered_ns, until_ns = known
        now_ns = self.now_ns()
        if now_ns >= until_ns:
            self._known.pop(subject, None)
            return None
        if decision.plan is not plan or cost < decision.cost:
            return None
        now_ms = decision.decided_at_ms + (now_ns - answered_ns) // _NS_IN_MS
        exceeded, levels = preview(plan, decision.levels, decision.held, cost, now_ms)
        if not exceeded & _rates(plan):
            return None
        return Decision(subject, plan, cost, now_ms, exceeded, levels, decision.held, 0, None, decision.slot_wait_ms)

    def remember(self, decision: Decision, sent_ns: int) -> None:
        """The backend has decided a claim that was sent at `sent_ns`: a refusal takes the place of an older one."""
        if not decision.exceeded & _rates(decision.plan):
            # It was charged, and with it an older wait is not long enough.
            self._known.pop(decision.subject, None)
            return
        believed_ms = min(decision.retry_after_ms, _MOST_BELIEVED_MS)
        while len(self._known) >= _MOST_REMEMBERED:
            # Those that came first are over first.
            with suppress(KeyError):  # another thread may be faster
                self._known.popitem(last=False)
        self._known[decision.subject] = _Refusal(decision, self.now_ns(), sent_ns + believed_ms * _NS_IN_MS)

    def forget(self, subject: str) -> None:
        """What this process changes itself, it does not remember."""
        self._known.pop(subject, None)


def _rates(plan: Plan) -> int:
    """The rates that refuse, as bits."""
    return plan.enforced & ~plan.slot_bit
