"""Litestar."""

from litestar import Litestar, get
from litestar.response import Stream
from tests.works_with.limits import async_ticks, limited


@get(["/health", "/plain"])
async def _plain() -> str:
    return "hello"


@get("/stream")
async def _stream() -> Stream:
    return Stream(async_ticks())


app = limited(Litestar([_plain, _stream]))
