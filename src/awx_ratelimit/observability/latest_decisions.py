"""`LatestDecisions`: keeps the latest decision of each subject whose plan has a quota, until somebody takes them.

A request stores one reference in a dictionary. Memory is bounded: while it is full, new subjects are left out, and
their next decisions come soon enough, because a quota that is nearly used up stays so for hours.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.quota import is_quota
from awx_ratelimit.observability.listeners import Listener
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.runtime.forks import register_after_fork

#: How many decisions are kept until they are taken.
MAX_SUBJECTS: Final = 50_000
#: Beyond this number, what is known of plans and of kinds of claims is found again.
_MAX_KINDS: Final = 1_000
_UNKNOWN: Final = (None, None)


class LatestDecisions(Observer):
    """A listener for the limiters of a process. Thread-safe. A child process starts without decisions.

    `start` is called by the first decision of each process, and again until it returns True; `wake` while there is no
    room. Neither may wait or raise.
    """

    def __init__(self, *, start: Callable[[], bool], wake: Callable[[], Any]) -> None:
        self._start = start
        self._wake = wake
        #: By the subject; by the subject and the number of the scopes if the claim has any.
        self._latest: dict[Any, Decision] = {}
        #: The number of the scopes, by the ids of plans and shapes; 0 if they have no quota. An entry keeps its owner,
        #: so that no other object gets its id.
        self._kinds: dict[int, tuple[int | None, Any]] = {}
        self._scopes: dict[tuple[str | None, ...], int] = {}
        self._next_number = count(1).__next__
        self._report = self.reporter(lambda _: None)
        self._is_started = False
        register_after_fork(self._forget)

    def _forget(self) -> None:
        self._latest.clear()
        self._clear_kinds()
        self._is_started = False

    def __call__(self, decision: Decision) -> None:
        self._report(decision)

    def reporter(self, release: Listener) -> Listener:
        """A faster `__call__` for one limiter. If it is interrupted, it calls `release`, because no caller will."""
        latest, kinds, keep = self._latest, self._kinds, self._keep

        def report(decision: Any) -> None:
            try:
                if decision.__class__ is Decision:
                    if (number := kinds.get(id(decision[1]), _UNKNOWN)[0]) and len(latest) < MAX_SUBJECTS:
                        latest[decision[0]] = decision
                        return
                elif (number := kinds.get(id(decision[10][1]), _UNKNOWN)[0]) and len(latest) < MAX_SUBJECTS:
                    latest[decision[0], number] = decision
                    return
                if number != 0:
                    keep(decision)
            except BaseException:
                release(decision)
                raise

        return report

    def take(self) -> Iterator[Decision]:
        """Yield the decisions that are kept now, and forget them. Only one thread may take."""
        for _ in range(len(self._latest)):
            try:
                _, decision = self._latest.popitem()
            except KeyError:
                return
            yield decision

    def _keep(self, decision: Decision) -> None:
        """Keep the first decision of a kind, or one for which there may be no room. Never raises an Exception."""
        self._is_started = self._is_started or self._start()
        if len(self._latest) >= MAX_SUBJECTS:
            self._wake()
        elif isinstance(decision, JointDecision):
            shape = decision.joint_claim.shape
            number = self._number(shape.plans, shape.scopes)
            if number:
                self._latest[decision.subject, number] = decision
            if shape.cost == 1:
                # There may be a shape for each other cost.
                self._remember(shape, number)
        else:
            number = self._number((decision.plan,), ())
            if number:
                self._latest[decision.subject] = decision
            self._remember(decision.plan, number)

    def _number(self, plans: tuple[Plan, ...], scopes: tuple[str | None, ...]) -> int:
        # A guard decides alone under a share of a plan, which is smaller than the quota.
        is_share = hasattr(plans[0], "whole")
        if is_share or not any(is_quota(rate) for plan in plans for rate in plan.rates):
            return 0
        return self._scopes.setdefault(scopes, self._next_number())

    def _remember(self, kind: Any, number: int) -> None:
        if not self._is_started:
            # So that the next decision tries to start again.
            return
        if len(self._kinds) >= _MAX_KINDS:
            self._clear_kinds()
        self._kinds[id(kind)] = number, kind

    def _clear_kinds(self) -> None:
        self._kinds.clear()
        self._scopes.clear()
