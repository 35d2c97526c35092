"""Sync and async are one logic: the async source without its `async` and `await` is the sync source."""

import ast
import inspect
import re
from typing import Any

import pytest

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter

#: Names that differ for a reason, async to sync.
NAMES = {
    "aclose": "close",
    "asynccontextmanager": "contextmanager",
    "usable_async_backend": "usable_backend",
    "async_settled": "settled",
    "_identify = _checked": "_identify = _plain_identify",
    "AsyncBackend | Backend": "Backend",
    "_claim: Any = claim_of(limiter)": "_claim = limiter.claim",
    # A backend that never waits has answered an async gate too.
    """
            if decision.__class__ is not Decision:
                decision = await decision""": "",
}


@pytest.mark.parametrize(("twin", "other"), [(AsyncLimiter, Limiter), (AsyncGate, Gate)], ids=lambda cls: cls.__name__)
def test_a_twin_is_its_sync_class_with_await(twin: type, other: type) -> None:
    """Neither of two twins can be changed without the other."""
    assert _plain(_source(twin)) == _source(other)


def test_the_comparison_sees_a_difference() -> None:
    """A statement more in one of them is found."""
    source = _source(AsyncLimiter).replace("plan.check(cost)", "pass", 1)

    assert _plain(source) != _source(Limiter)


def _source(cls: type) -> str:
    tree: Any = ast.parse(inspect.getsource(cls))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _plain(source: str) -> str:
    for name, plain in NAMES.items():
        source = source.replace(name, plain)
    return re.sub(r"\bAsync(?=[A-Z])", "", re.sub(r"\b(async|await) ", "", source))
