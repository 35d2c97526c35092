"""Quart."""

from collections.abc import AsyncIterator

from quart import Quart
from tests.works_with.limits import async_ticks, limited

_quart = Quart(__name__, static_folder=None)


@_quart.get("/health")
@_quart.get("/plain")
async def _plain() -> str:
    return "hello"


@_quart.get("/stream")
async def _stream() -> AsyncIterator[bytes]:
    return async_ticks()


app = limited(_quart)
