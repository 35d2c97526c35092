"""An API limited by fastapi-limiter. Run it with ``uvicorn examples.migration.fastapi_limiter.before:app``."""

from typing import Any

from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi_limiter.decorators import skip_limiter
from fastapi_limiter.depends import RateLimiter, WebSocketRateLimiter
from pyrate_limiter import Duration, Limiter, Rate

WHOLE_APP = Limiter(Rate(30, Duration.MINUTE))
LIST_NOTES = Limiter(Rate(10, Duration.MINUTE))
ADD_NOTE = Limiter(Rate(10, Duration.MINUTE))
SHOW_NOTE = Limiter(Rate(10, Duration.MINUTE))
SEARCH = Limiter(Rate(5, Duration.MINUTE))
QUOTES_MINUTE = Limiter(Rate(2, Duration.MINUTE))
QUOTES_HOUR = Limiter(Rate(8, Duration.HOUR))
LOGIN = Limiter(Rate(3, Duration.MINUTE))
MARKET = Limiter(Rate(4, Duration.MINUTE))
CHAT = Limiter(Rate(5, Duration.MINUTE))


async def caller(request: Any) -> str:
    """Count by API key, else by address."""
    return str(request.headers.get("x-api-key") or request.client.host)


async def slow_down(*_: Any) -> None:
    """Answer refused requests with our own text."""
    raise HTTPException(429, "slow_down")


def limited_by(*limiters: Limiter) -> list[Any]:
    """Dependencies with our identifier and callback."""
    return [Depends(RateLimiter(each, identifier=caller, callback=slow_down)) for each in (WHOLE_APP, *limiters)]


app = FastAPI()


@app.get("/health", dependencies=limited_by())
@skip_limiter
async def health() -> dict[str, str]:
    """Not limited."""
    return {"status": "ok"}


@app.get("/notes", dependencies=limited_by(LIST_NOTES))
async def list_notes() -> list[str]:
    """Limited per route, as the routes below."""
    return ["buy milk"]


@app.post("/notes", dependencies=limited_by(ADD_NOTE))
async def add_note() -> dict[str, str]:
    """Add a note."""
    return {"status": "added"}


@app.get("/notes/{number}", dependencies=limited_by(SHOW_NOTE))
async def show_note(number: int) -> dict[str, int]:
    """Show one note."""
    return {"number": number}


@app.get("/search", dependencies=limited_by(SEARCH))
async def search() -> dict[str, list[str]]:
    """Search."""
    return {"found": []}


@app.get("/quotes", dependencies=limited_by(QUOTES_MINUTE, QUOTES_HOUR))
async def quotes() -> list[int]:
    """Limited twice."""
    return [1, 2]


@app.post("/login", dependencies=[Depends(RateLimiter(LOGIN, callback=slow_down)), *limited_by()])
async def login() -> dict[str, str]:
    """Limited by address, with and without an API key."""
    return {"welcome": "back"}


@app.get("/prices", dependencies=limited_by(MARKET))
async def prices() -> dict[str, int]:
    """Shares its limit with /rates."""
    return {"milk": 2}


@app.get("/rates", dependencies=limited_by(MARKET))
async def rates() -> dict[str, int]:
    """Shares its limit with /prices."""
    return {"usd": 1}


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Limit the messages of a connection."""
    await websocket.accept()
    check = WebSocketRateLimiter(CHAT, identifier=caller)
    try:
        while await websocket.receive_text():
            try:
                await check(websocket)
                await websocket.send_text("hello")
            except HTTPException:
                await websocket.send_text("slow down")
    except WebSocketDisconnect:
        return
