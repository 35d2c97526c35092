"""Plays histories of claims and requests, and tells everything that comes of them: see test_forms.py.

As a program, it reads one history from each line of its input, and writes what comes of it as a line of JSON.
"""

import ast
import asyncio
import copy
import itertools
import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

from awx_ratelimit import (
    Budget,
    Caller,
    Concurrency,
    Decision,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rate,
    RateLimitMiddleware,
    Rule,
)
from awx_ratelimit.http.limit_headers import headers
from awx_ratelimit.runtime.compiled import IS_COMPILED
from awx_ratelimit.testing import ManualClock

START_MS = 1_748_772_000_000
PLANS = [
    Plan.of("pair", per_minute=3, per_day=7, concurrent=2),
    Plan.of("large", per_minute=100, per_day=100_000_000_000, concurrent=50),
    Plan.of("one", per_minute=4),
    Plan.of("calendar", per_month=5, concurrent=1),
    Plan.of("tried", per_minute=2, concurrent=1, shadow=True),
    Plan("tokens", (Rate("minute", 9, 60_000), Rate("tokens", 50, 60_000, measure="tokens")), Concurrency(3)),
    Plan("bounded", (Rate("hour", 6, 3_600_000, burst=2),), Concurrency(2, max_hold_ms=1_000)),
    Plan("slots", (), Concurrency(1)),
    Plan.unlimited("unlimited"),
]
TABLE = PlanTable([*PLANS[:2], Plan.of("shared", per_minute=5, concurrent=3, account=Plan.of("all", per_minute=6))])
KEYS: dict[str, str | Plan | Caller] = {
    "awx_a": "pair",
    "awx_b": "large",
    "awx_c": Caller("c", "shared", account="acme"),
}
RULES = [Rule("/free", exempt=True), Rule("/five", cost=5), Rule("/{id}/none", cost=0)]


class Text(str):
    """Its text is all that counts."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class Whole(int):
    """An int, but not exactly one."""


#: What a history can name and cannot write down.
STRANGE: dict[str, Any] = {
    "subclass of str": Text("a"), "empty subclass": Text(""), "subclass of int": Whole(1), "object": object,
    "plan": PLANS[0], "decision": Decision,
}  # fmt: skip


class StrangeClock(ManualClock):
    """Tells what it is told to, if that is not None."""

    told: Any = None

    def now_ms(self) -> Any:
        return super().now_ms() if self.told is None else self.told


class Player:
    """Plays one history."""

    def __init__(self) -> None:
        self.clock = StrangeClock(START_MS)
        self.backend = MemoryBackend(clock=self.clock)
        self.limiter = Limiter(self.backend)
        self.app = RateLimitMiddleware(
            _respond, keys=KEYS, plans=TABLE, rules=RULES, backend=MemoryBackend(clock=self.clock), headers="both"
        )
        self.decisions: list[Any] = []

    def play(self, history: list[list[Any]]) -> list[str]:
        """What each step has come to, and the state at the end."""
        return [*itertools.starmap(self._step, history), str(sorted(self.backend.health().items()))]

    def _step(self, verb: str, *arguments: Any) -> str:
        act: Callable[..., Any] = getattr(self, f"_{verb}")
        try:
            return str(act(*[_strange(argument) for argument in arguments]))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _advance(self, ms: int) -> None:
        self.clock.set(max(0, self.clock.now_ms() + ms))

    def _acquire(self, subject: Any, plan: Any, cost: Any, scope: Any, also: Any, settle: Any) -> str:
        others = [Budget(name, _plan(other), scope=place) for name, other, place in also]
        decision = self.limiter.acquire(subject, _plan(plan), cost, scope=scope, also=others, settle=settle)
        self.decisions.append(decision)
        return _shown(decision)

    def _direct(self, subject: Any, plan: Any, cost: Any) -> str:
        """As gates claim."""
        self.decisions.append(self.backend.acquire(subject, _plan(plan), cost))
        return _shown(self.decisions[-1])

    def _straight(self, verb: str, argument: Any) -> str:
        """A call of the backend without the checks of a limiter."""
        act: Callable[..., Any] = getattr(self.backend, verb)
        return str(act(self._decision(argument), *[{"requests": 3}] * (verb == "settle")))

    def _told(self, time: Any, verb: str, *arguments: Any) -> str:
        """Another step, at a strange time."""
        self.clock.told = time
        try:
            return self._step(verb, *arguments)
        finally:
            self.clock.told = None

    def _peek(self, subject: Any, plan: Any, cost: Any) -> str:
        return _shown(self.limiter.peek(subject, _plan(plan), cost))

    def _release(self, number: Any) -> None:
        self.limiter.release(self._decision(number))

    def _refund(self, number: Any) -> None:
        self.limiter.refund(self._decision(number))

    def _settle(self, number: Any, cost: Any) -> None:
        self.limiter.settle(self._decision(number), cost)

    def _reset(self, subject: Any, scope: Any) -> None:
        self.limiter.reset(subject, scope=scope)

    def _change(self, number: int, name: str) -> str:
        """No field of a decision can be changed."""
        setattr(self._decision(number), name, 1)
        return "changed"

    def _copy(self, number: int) -> str:
        return _shown(copy.copy(self._decision(number)))

    def _pickle(self, number: int) -> str:
        return str(pickle.dumps(self._decision(number)))

    def _request(self, method: str, path: str, key: bytes) -> str:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(b"x-api-key", key)], "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        asyncio.run(self.app(scope, receive, send))
        return str(sent)

    def _decision(self, number: Any) -> Any:
        if isinstance(number, int) and self.decisions:
            return self.decisions[number % len(self.decisions)]
        return number


async def _respond(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"done"})


def _strange(argument: Any) -> Any:
    return STRANGE.get(argument, argument) if type(argument) is str else argument


def _plan(plan: Any) -> Any:
    return PLANS[plan] if type(plan) is int else plan


def _shown(decision: Decision) -> str:
    # The holder is private, and the same object in no two processes.
    fields = [field for at, field in enumerate(decision[:10]) if at != 8]
    usages = [str(usage) for usage in decision.usages]
    return f"{decision!r} {fields} {decision.retry_after_ms} {usages} {headers(decision, 'both')}"


def main() -> None:
    """Play the histories on the standard input."""
    _say([IS_COMPILED, sys.modules["awx_ratelimit"].__file__])
    for line in sys.stdin:
        _say(Player().play(ast.literal_eval(line)))


def _say(told: object) -> None:
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
