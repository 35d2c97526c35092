"""The limit of one framework on a function of another: an error that says so, instead of one of the framework."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from awx_ratelimit.adapters import aiohttp, fastapi, flask, quart, sanic, starlette, tornado

SAYS = "was called without a request; write the decorator on .*. Each framework has its own limit, such as awx_"


@pytest.mark.parametrize("module", [starlette, fastapi, quart], ids=lambda module: module.__name__.rpartition(".")[2])
def test_flask(module: Any) -> None:
    """A view of Flask with the limit of another framework."""
    app = Flask("shop")
    app.testing = True
    app.get("/<name>")(module.limit("5/minute")(_view))

    with pytest.raises(TypeError, match=SAYS):
        app.test_client().get("/search")


@pytest.mark.parametrize("module", [starlette, flask, quart], ids=lambda module: module.__name__.rpartition(".")[2])
def test_fastapi(module: Any) -> None:
    """An endpoint of FastAPI, without a parameter for the request, with the limit of another framework."""
    app = FastAPI()
    app.get("/{name}")(module.limit("5/minute")(_view))

    with pytest.raises(TypeError, match=SAYS):
        TestClient(app).get("/search")


@pytest.mark.parametrize("module", [aiohttp, sanic, tornado], ids=lambda module: module.__name__.rpartition(".")[2])
def test_alone(module: Any) -> None:
    """A limited handler that something else than its framework calls."""

    async def handler() -> None: ...

    limited: Callable[[], Any] = module.limit("5/minute")(handler)

    with pytest.raises(TypeError, match=SAYS):
        asyncio.run(limited())


def test_limit_of_fastapi_in_starlette() -> None:
    """The limit of FastAPI also limits an endpoint of Starlette, because that is given its request."""

    async def search(_: Any) -> PlainTextResponse:
        return PlainTextResponse("found")

    client = TestClient(Starlette(routes=[Route("/", fastapi.limit("1/minute")(search))]))

    assert [client.get("/").status_code for _ in range(2)] == [200, 429]


def _view(name: str) -> str:
    return name
