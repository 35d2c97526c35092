"""The `gate` of a route's own limit is checked when the limit is written."""

from typing import Any

import pytest

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, PlanTable
from awx_ratelimit.adapters import aiohttp, django, fastapi, flask, litestar, quart, sanic, starlette, tornado

OPTIONS: Any = {"plans": PlanTable.default(), "identify": lambda request: None}


@pytest.mark.parametrize("framework", [aiohttp, fastapi, litestar, quart, sanic, starlette, tornado])
def test_async_frameworks(framework: Any) -> None:
    """A Gate is refused where an AsyncGate is needed."""
    with pytest.raises(TypeError, match="gate: expected AsyncGate, got a Gate"):
        framework.limit("1/minute", gate=Gate(Limiter(MemoryBackend()), **OPTIONS))


def test_flask() -> None:
    """An AsyncGate is refused in Flask."""
    with pytest.raises(TypeError, match="gate: expected Gate, got an AsyncGate"):
        flask.limit("1/minute", gate=AsyncGate(AsyncLimiter(MemoryBackend()), **OPTIONS))  # type: ignore[arg-type]


def test_django() -> None:
    """Django takes both kinds, and nothing else."""
    with pytest.raises(TypeError, match="gate: expected Gate or AsyncGate, got a str"):
        django.limit("1/minute", gate="redis://")  # type: ignore[arg-type]
