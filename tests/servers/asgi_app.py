"""The ASGI apps under test: a Starlette app with a mounted one, and a FastAPI app with an included router.

Both share one gate, each with its own middleware, mounted as users mount it; a third app takes the keys of
a store, which a fourth manages.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.servers.limits import (
    CLOCK,
    IMPORT_SUBJECT,
    LARGE_DRAIN_BYTES,
    MAX_OPEN_SECONDS,
    PLANS,
    RULES,
    TICK_SECONDS,
    AppError,
    folder,
    free_slots,
    may_end,
    plan_of,
    static_keys,
)
from tests.servers.stored import management, operator, store, stored_keys

from awx_ratelimit import AsyncGate, AsyncLimiter, MemoryBackend
from awx_ratelimit.adapters.asgi import AsgiApp
from awx_ratelimit.adapters.starlette import RateLimitMiddleware

BACKEND = MemoryBackend(clock=CLOCK)
LIMITER = AsyncLimiter(BACKEND)
GATE = AsyncGate(LIMITER, plans=PLANS, identify=static_keys(), rules=RULES)
STORE = store()
STORED_GATE = AsyncGate(LIMITER, plans=PLANS, identify=stored_keys(STORE))
AT_IMPORT = BACKEND.acquire(IMPORT_SUBJECT, plan_of(IMPORT_SUBJECT), 1)


async def plain(request: Request) -> Response:
    return PlainTextResponse("hello")


async def health(request: Request) -> Response:
    return PlainTextResponse("healthy")


async def dwell(request: Request) -> Response:
    await asyncio.sleep(0.05)
    return PlainTextResponse("hello")


async def upload(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def free(request: Request) -> Response:
    subject = request.path_params["subject"]
    return PlainTextResponse(str(free_slots(await LIMITER.peek(subject, plan_of(subject)))))


async def clock(request: Request) -> Response:
    CLOCK.advance(request.path_params["ms"])
    return PlainTextResponse("later")


async def release_import(request: Request) -> Response:
    await LIMITER.release(AT_IMPORT)
    return PlainTextResponse("released")


async def stream(request: Request) -> Response:
    """A body of ticks, each of them the slots that are free while it is open."""
    subject = request.headers["x-api-key"].removeprefix("awx_test_")
    return StreamingResponse(_ticks(subject, request.path_params["name"]))


async def _ticks(subject: str, name: str) -> AsyncIterator[bytes]:
    until = time.monotonic() + MAX_OPEN_SECONDS
    while time.monotonic() < until and not may_end(name):
        yield b"%d\n" % free_slots(await LIMITER.peek(subject, plan_of(subject)))
        await asyncio.sleep(TICK_SECONDS)


async def silent(request: Request) -> Response:
    """A body that says one word and then nothing until it is let go."""
    return StreamingResponse(_one_word(request.path_params["name"]))


async def _one_word(name: str) -> AsyncIterator[bytes]:
    yield b"open\n"
    await _let_go(name)


async def _let_go(name: str) -> None:
    until = time.monotonic() + MAX_OPEN_SECONDS
    while time.monotonic() < until and not may_end(name):  # noqa: ASYNC110  # what it waits for is in another process
        await asyncio.sleep(TICK_SECONDS)


async def background(request: Request) -> Response:
    return PlainTextResponse("hello", background=BackgroundTask(_let_go, request.path_params["name"]))


async def raises_before(request: Request) -> Response:
    raise AppError


async def raises_during(request: Request) -> Response:
    return StreamingResponse(_broken())


async def _broken() -> AsyncIterator[bytes]:
    yield b"begun\n"
    raise AppError


async def download(request: Request) -> Response:
    return FileResponse(folder() / "file.bin")


async def echo(websocket: WebSocket) -> None:
    """Echo texts; "close" closes, "raise" raises."""
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "close":
            await websocket.close(4000)
            return
        if text == "raise":
            raise AppError
        await websocket.send_text(text)


async def rejects(websocket: WebSocket) -> None:
    await websocket.close()


async def denies(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("the app's own answer", status_code=418))


starlette_app = Starlette(
    routes=[
        Route("/health", health),
        Route("/free/{subject}", free),
        Route("/clock/{ms:int}", clock, methods=["POST"]),
        Route("/release-import", release_import, methods=["POST"]),
        Route("/plain", plain),
        Route("/dwell", dwell),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream/{name}", stream),
        Route("/silent/{name}", silent),
        Route("/background/{name}", background),
        Route("/raises/before", raises_before),
        Route("/raises/during", raises_during),
        Route("/file", download),
        WebSocketRoute("/ws/echo", echo),
        WebSocketRoute("/ws/rejects", rejects),
        WebSocketRoute("/ws/denies", denies),
        Mount("/mounted", Starlette(routes=[Route("/plain", plain)])),
    ],
    middleware=[Middleware(RateLimitMiddleware, gate=GATE)],
)

router = APIRouter(prefix="/router")


@router.get("/plain")
async def routed() -> str:
    return "hello"


fastapi_app = FastAPI()
fastapi_app.include_router(router, prefix="/fastapi")
fastapi_app.add_middleware(RateLimitMiddleware, gate=GATE)

stored_app = Starlette(
    routes=[Route("/stored/plain", plain)], middleware=[Middleware(RateLimitMiddleware, gate=STORED_GATE)]
)
managing_app = Starlette(
    routes=[
        Mount("/api/v1/operator", AsgiApp(operator(STORE, LIMITER), body_timeout_s=1.0)),
        Mount("/api/v1", AsgiApp(management(STORE, LIMITER), body_timeout_s=1.0)),
    ]
)
large_app = RateLimitMiddleware(starlette_app, gate=GATE, max_drain_bytes=LARGE_DRAIN_BYTES)


async def unread_app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """An app without a limiter that refuses an upload: it answers without reading the body."""
    await send({"type": "http.response.start", "status": 429, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


APPS: dict[str, Callable[..., Awaitable[None]]] = {
    "fastapi": fastapi_app,
    "stored": stored_app,
    "api": managing_app,
    "large": large_app,
    "unread": unread_app,
}


async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """The apps side by side, told apart by path."""
    first = "" if scope["type"] == "lifespan" else f"{scope['path']}/".split("/")[1]
    chosen = APPS.get(first, starlette_app)
    await chosen(scope, receive, send)
