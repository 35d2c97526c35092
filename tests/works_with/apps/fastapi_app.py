"""FastAPI."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from tests.works_with.limits import async_ticks, limited

_fastapi = FastAPI()


@_fastapi.get("/health")
@_fastapi.get("/plain")
async def _plain() -> str:
    return "hello"


@_fastapi.get("/stream")
async def _stream() -> StreamingResponse:
    return StreamingResponse(async_ticks())


app = limited(_fastapi)
