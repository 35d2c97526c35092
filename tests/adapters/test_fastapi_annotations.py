"""`limit` decorates FastAPI endpoints whose annotations are texts."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request, WebSocket
from pydantic import BaseModel
from starlette.testclient import TestClient

from awx_ratelimit.adapters.fastapi import limit


class Item(BaseModel):
    """The body of a request."""

    size: int


def test_parameters() -> None:
    """FastAPI finds the types of a decorated endpoint in the endpoint's own module."""
    app = FastAPI()

    @app.post("/item")
    @limit("1/minute", scope="texts-item")
    async def item(item: Item, request: Request, more: Annotated[int, Query(ge=1)] = 3) -> list[object]:
        return [item.size, request.method, more]

    answers = [TestClient(app).post("/item?more=4", json={"size": 2}) for _ in range(2)]

    assert answers[0].json() == [2, "POST", 4]
    assert answers[1].status_code == 429


def test_websocket() -> None:
    """A decorated WebSocket gets its connection."""
    app = FastAPI()

    @app.websocket("/socket")
    @limit("1/minute", scope="texts-socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    with TestClient(app).websocket_connect("/socket") as opened:
        assert opened.receive()["code"] == 1000
