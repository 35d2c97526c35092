"""Apps behind peer libraries, set up as their documentation shows: ten requests in two seconds per key."""

import os
from typing import Any

from fastapi import FastAPI
from flask import Flask
from flask import request as flask_request
from flask_limiter import Limiter as FlaskLimiter
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIASGIMiddleware
from starlette.requests import Request

_STRATEGY = os.environ.get("AWX_TEST_STRATEGY", "fixed-window")
_LIMIT = "10/2 second"

slowapi_app: Any = FastAPI()
slowapi_app.state.limiter = Limiter(
    key_func=lambda request: request.headers["x-api-key"],
    default_limits=[_LIMIT],
    strategy=_STRATEGY,
    headers_enabled=True,
)
slowapi_app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
slowapi_app.add_middleware(SlowAPIASGIMiddleware)


@slowapi_app.get("/")
async def index(request: Request) -> dict[str, bool]:
    """Return a fixed body."""
    return {"fine": True}


flask_app = Flask(__name__)
FlaskLimiter(
    lambda: flask_request.headers["x-api-key"],
    app=flask_app,
    default_limits=[_LIMIT],
    storage_uri="memory://",
    strategy=_STRATEGY,
    headers_enabled=True,
)


@flask_app.get("/")
def flask_index() -> dict[str, bool]:
    """Return a fixed body."""
    return {"fine": True}
