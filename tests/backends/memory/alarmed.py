"""A process that real alarms interrupt while it claims: ``python -m tests.backends.memory.alarmed``.

It prints for each kind of claim the slots in use at the end, and the records that owe something.
"""

import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle

from tests.backends.memory.claims import CLAIMS, LARGE, acquire, acquire_joint, joint, owed

from awx_ratelimit import Decision, MemoryBackend
from awx_ratelimit.backends.base import Backend
from awx_ratelimit.testing import ManualClock

#: So many alarms come while there are claims, for each kind.
_ALARMS = 150
_DELAYS_S = [delay_us * 1e-6 for delay_us in range(5, 65, 3)]
_MAX_CLAIMS = 500
#: A long time between two claims: longer than numbers of one digit, of 30 bits, can say.
_LONG_MS = 3_000_000_000
_STILL = {**CLAIMS, "large": acquire(LARGE), "3 large": acquire_joint(joint(3, LARGE))}
#: Their debts have drained when they are given back.
_MOVING = {f"{name}, later": _STILL[name] for name in ("plain", "3 budgets", "large", "3 large")}


class _Alarm(BaseException):
    """What the signal handler raises. Like a KeyboardInterrupt it is no error that a release may log and forget."""


class _LeapingClock(ManualClock):
    """A long time passes between two readings."""

    def now_ms(self) -> int:
        self.advance(_LONG_MS)
        return super().now_ms()


def _interrupted(backend: MemoryBackend, claim: Callable[[Backend], Decision]) -> None:
    """Claim, release and refund until an alarm has come in the middle of it many times. Then give everything back."""
    alarms = 0
    for delay_s in cycle(_DELAYS_S):
        decisions: list[Decision] = []
        with suppress(_Alarm):
            _claim_until_alarm(backend, claim, delay_s, decisions)
        for decision in decisions:
            backend.release(decision)
            backend.refund(decision)
        alarms += bool(decisions)
        if alarms == _ALARMS:
            return


def _claim_until_alarm(
    backend: MemoryBackend, claim: Callable[[Backend], Decision], delay_s: float, decisions: list[Decision]
) -> None:
    # A function, because a `with` of CPython 3.13 does not catch what a handler raises at the end of a loop's turn.
    signal.setitimer(signal.ITIMER_REAL, delay_s)
    # It ends also if the alarm has come in a finalizer, which ignores exceptions.
    while len(decisions) < _MAX_CLAIMS:
        # Nothing runs between the end of a Python function and the call of `append`.
        decisions.append(claim(backend))
        backend.release(decisions[-1])
        backend.refund(decisions[-1])


def _raise(*_: object) -> None:
    raise _Alarm


def main() -> None:
    """Interrupt claims of each kind, and print what is left."""
    signal.signal(signal.SIGALRM, _raise)
    left = {}
    for name, claim in (_STILL | _MOVING).items():
        backend = MemoryBackend(clock=ManualClock(1_000) if name in _STILL else _LeapingClock(1_000))
        _interrupted(backend, claim)
        left[name] = backend.health()["leases"], len(owed(backend)) if name in _STILL else 0
    sys.stdout.write(json.dumps(left))


if __name__ == "__main__":
    main()
