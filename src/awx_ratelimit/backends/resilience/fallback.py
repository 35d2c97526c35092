"""What a guard knows and decides by itself while its backend does not answer.

Everything here is decided without waiting, for threads and for event loops alike.
"""

import logging
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from awx_ratelimit.backends.base import TakesLocalUsage
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.circuit_breaker import Breaker, Breakers
from awx_ratelimit.backends.resilience.local_share import Shares
from awx_ratelimit.backends.resilience.reconciliation import Healing
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import BackendUnavailable, InvalidLimit, StateDamaged
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
OnOutage = Literal["local", "open", "closed"]
#: What a claim that may ask returns with: its breaker, its number there, and the failures that were counted before.
Ticket: TypeAlias = tuple[Breaker, int, int]
#: What could not be made known to the backend is tried again after so long.
_HEAL_AGAIN_S = 1.0
#: State that is damaged is met again by each claim of its subject, and said so seldom.
_SAY_AGAIN_S = 60.0


class Outage:
    """See GuardedBackend for the fields. Raises InvalidLimit for one that is wrong."""

    def __init__(self, backend: Any, on_outage: OnOutage, expected_workers: int, budget_ms: int) -> None:
        if on_outage not in get_args(OnOutage):
            raise InvalidLimit(f"on_outage is {on_outage!r}; allowed are 'local', 'open', 'closed'")
        for name, number in (("expected_workers", expected_workers), ("budget_ms", budget_ms)):
            if number.__class__ is not int or number < 1:
                raise InvalidLimit(f"{name} is {number!r}; allowed is a whole number of at least 1")
        self._on_outage = on_outage
        self._shares = Shares(expected_workers)
        self._breakers = Breakers(backend)
        self._began_s: dict[Breaker, float] = {}
        self._heal_again_s = 0.0
        self._say_again_s = 0.0
        self._outages = 0
        self._decided = 0
        #: Decides this process's share of each limit.
        self.local = MemoryBackend()
        self._healing = Healing(self.local, self._breakers.home)
        self._heals = threading.Lock()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """In a child process: what the parent decided is made known by the parent."""
        self._healing, self._heals = Healing(self.local, self._breakers.home), threading.Lock()

    def ask(self, subject: str) -> Ticket | None:
        """A ticket for who may ask the backend; None while it is known not to answer."""
        renew_if_forked()
        breaker = self._breakers.of(subject)
        number = breaker.ask(time.monotonic())
        return None if number is None else (breaker, number, breaker.failures)

    def answered(self, ticket: Ticket, backend: Any) -> None:
        """The backend has answered: what was decided without it is made known to it, in a thread."""
        breaker, number, _ = ticket
        if breaker.answered(number, getattr(breaker.part, "answered_calls", None)):
            now_s = time.monotonic()
            seconds, self._heal_again_s = now_s - self._began_s.pop(breaker, now_s), now_s
            _log.warning("the backend answers again, after %.1f s and %d decisions without it", seconds, self._decided)
        if self._healing.is_due and time.monotonic() >= self._heal_again_s and self._heals.acquire(blocking=False):
            threading.Thread(target=self._heal, args=(backend,), name="awx_ratelimit healing", daemon=True).start()

    def _heal(self, backend: Any) -> None:
        release = backend.release
        try:
            if isinstance(backend, TakesLocalUsage):
                self._healing.heal(backend.heal, release)
            else:
                self._healing.forget()
        except BackendUnavailable as error:
            # It is due as before, and begun again with a later answer.
            self._heal_again_s = time.monotonic() + _HEAL_AGAIN_S
            _log.warning("what was decided without the backend is not known to it yet: %s", error)
        except Exception:
            _log.exception("what was decided without the backend cannot be made known to it")
            self._healing.forget()
        finally:
            self._heals.release()

    def release(self, decision: Decision, backend: Any) -> None:
        """Give the slot of a local decision back, and the lease that was entered for it in the backend."""
        self.local.release(decision)
        entered = self._healing.released(decision)
        if entered is not None:
            backend.release(entered)

    def failed(self, ticket: Ticket, error: BaseException) -> StateDamaged | None:
        """The backend has not answered; what it has is damaged where it has, for this subject alone."""
        (breaker, number, failures), now_s = ticket, time.monotonic()
        if isinstance(error, StateDamaged):
            self._damaged(error, now_s)
            breaker.answered(number)
            return error
        if isinstance(error, BackendUnavailable) and error.process_was_late:
            breaker.postponed(number, now_s)
            return None
        if failures != breaker.failures:
            # This claim waited while another one failed: for the same call, or behind it.
            return None
        if breaker.failed(number, now_s, random.random()):  # noqa: S311  # no secret
            if self._breakers.opened(now_s) == 1:
                self._began_s, self._decided = {}, 0
            self._began_s[breaker] = now_s
            self._outages += 1
            why = str(error) or "no answer within the budget"
            _log.error("the backend does not answer, and limits are %s until it does: %s", self._on_outage, why)
        return None

    def gave_up(self, ticket: Ticket) -> None:
        """Its claim was cancelled, or failed by itself: that says nothing of the backend, and another one may ask."""
        breaker, number, _ = ticket
        breaker.postponed(number, time.monotonic())

    def _damaged(self, error: StateDamaged, now_s: float) -> None:
        if now_s >= self._say_again_s:
            self._say_again_s = now_s + _SAY_AGAIN_S
            _log.error("the limits of one subject are %s: %s", self._on_outage, error)

    def acquire(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """A decision without the backend. Raises BackendUnavailable where there is to be none.

        What is decided for state that is `damaged` is not told to the backend: it has nowhere to put it.
        """
        self._decided += 1
        if self._on_outage != "local":
            return self._free(subject, plan, cost, damaged)
        share = self._shares.of(plan, cost)
        return self.local.acquire(subject, share, cost) if damaged else self._healing.acquire(subject, share, cost)

    def peek(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None = None) -> Decision:
        """What `acquire` would decide."""
        if self._on_outage == "local":
            return self.local.peek(subject, self._shares.of(plan, cost), cost)
        return self._free(subject, plan, cost, damaged)

    def _free(self, subject: str, plan: Plan, cost: int, damaged: StateDamaged | None) -> Decision:
        if self._on_outage == "closed":
            raise damaged or BackendUnavailable("the backend does not answer, and nothing is let in without it")
        now_ms = time.time_ns() // 1_000_000
        return Decision(subject, plan, cost, now_ms, 0, [0, 0] * len(plan.rates), 0, 0, None, 0)

    def reset(self, subject: str) -> None:
        """Forget what `subject` owes here."""
        self._healing.reset(subject)

    def is_local(self, decision: Decision) -> bool:
        """Whether `decision` was made here."""
        return self._shares.made(decision.plan)

    def health(self, of_backend: Mapping[str, Any]) -> Mapping[str, Any]:
        """How the backend is, and what the guard has done without it."""
        state = of_backend.get("state", "ok") if self.is_over else f"outage: limits are {self._on_outage}"
        return {**of_backend, "state": state, "outages": self._outages, "decided_without_backend": self._decided}

    @property
    def is_over(self) -> bool:
        """Whether the backend is asked by everybody."""
        return not self._breakers.opened(time.monotonic())
