"""Sync and async are one logic: the async source without its `async` and `await` is the sync source."""

import ast
import inspect
import re
from textwrap import dedent
from typing import Any

import pytest

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter
from awx_ratelimit.backends.redis import AsyncRedisBackend, RedisBackend
from awx_ratelimit.backends.redis.channel import AsyncLine, AsyncLines, Line, Lines
from awx_ratelimit.backends.redis.connection import AsyncLink, Link
from awx_ratelimit.backends.redis.sentinel import Primary
from awx_ratelimit.backends.resilience.denial_cache import AsyncRememberedBackend, RememberedBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend, GuardedBackend

#: Names that differ for a reason, async to sync.
NAMES = {
    "aclose": "close",
    # Only a coroutine has to be kept from being taken for a decision.
    "    @must_be_awaited\n": "",
    "usable_async_backend": "usable_backend",
    "async_settled": "settled",
    "async_nothing": "nothing",
    "write_uses_in_tasks": "write_uses",
    "_identify = async_identify": "_identify = plain_identify",
    "AsyncBackend | Backend": "Backend",
    "_claim: Any = claim_of(limiter)": "_claim = limiter.claim",
    "TaskCommit(self._decide, session.abandon, session.unanswered)": (
        "ThreadCommit(self._decide, session.abandon, session.unanswered, timeout_s=server.timeout_s)"
    ),
    "TaskCommit(self._aside.run, _nobody, _nobody)": (
        "ThreadCommit(self._aside.run, _nobody, _nobody, timeout_s=server.timeout_s)"
    ),
    # A call of a task has one deadline by asyncio; that of a thread is handed down.
    "_decide(self, batch: Sequence[Asked])": "_decide(self, batch: Sequence[Asked], until_s: float)",
    "run([part.call for part in parts])": "run([part.call for part in parts], until_s)",
    ".ask(item)": ".ask(item, until_s)",
    "server.async_connection()": "server.connection(self._deadline)",
    "async_connection(self)": "connection(self, deadline: Deadline)",
    ".new_in_loop()": ".new(deadline)",
    "asyncio.to_thread(self._upkeep.renew_now)": "self._upkeep.renew_now()",
    "asyncio.to_thread(self._upkeep.flush)": "self._upkeep.flush()",
    "asyncio.to_thread(self._upkeep.close, with_held=self._lines.are_alone)": (
        "self._upkeep.close(with_held=self._lines.are_alone)"
    ),
    "asyncio.to_thread(self._session.found, subject)": "self._session.found(subject)",
    "asyncio.sleep": "time.sleep",
    "client_in_loop": "client",
    "_AsyncWatch": "_Watch",
    "TaskDeadline(self._budget_s, all_delays=True)": "nullcontext()",
    "connection.disconnect(nowait=True)": "connection.disconnect()",
    # Only event loops are of several kinds.
    "\n    needs_asyncio: ClassVar[bool] = True": "",
    # A backend that never waits has answered an async gate too.
    """
            if decision.__class__ is not Decision:
                decision = await decision""": "",
}


TWINS = [
    (AsyncLimiter, Limiter),
    (AsyncGate, Gate),
    (AsyncRedisBackend, RedisBackend),
    (AsyncGuardedBackend, GuardedBackend),
    (AsyncRememberedBackend, RememberedBackend),
    (AsyncLine, Line),
    (AsyncLines, Lines),
    (AsyncLink, Link),
]
#: What waits in its own way: a deadline for the whole and a lock; and the lines of each event loop.
_LINK = {"__init__", "run", "forget"}
_LINES = {"__init__", "_here", "_new", "_left", "are_alone"}
APART: dict[Any, set[str]] = {AsyncLink: _LINK, Link: _LINK, AsyncLines: _LINES, Lines: _LINES, AsyncLine: {"forget"}}


@pytest.mark.parametrize(("twin", "other"), TWINS, ids=lambda cls: cls.__name__)
def test_a_twin_is_its_sync_class_with_await(twin: type, other: type) -> None:
    """Neither of two twins can be changed without the other."""
    assert _plain(_source(twin)) == _source(other)


def test_a_primary_is_found_by_tasks_as_by_threads() -> None:
    """The two ways of one class to open a connection are twins too."""
    assert _plain(_source(Primary.async_connection)) == _source(Primary.connection)


def test_the_comparison_sees_a_difference() -> None:
    """A statement more in one of them is found."""
    source = _source(AsyncLimiter).replace("plan.check(cost)", "pass", 1)

    assert _plain(source) != _source(Limiter)


def _source(cls: Any) -> str:
    tree: Any = ast.parse(dedent(inspect.getsource(cls)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef):
            apart = APART.get(cls, set())
            node.body = [part for part in node.body if getattr(part, "name", None) not in apart]
    return ast.unparse(tree)


def _plain(source: str) -> str:
    for name, plain in NAMES.items():
        source = source.replace(name, plain)
    return re.sub(r"\bAsync(?=[A-Z])", "", re.sub(r"\b(async|await) ", "", source))
