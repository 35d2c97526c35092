"""Flask."""

from flask import Flask, Response
from tests.works_with.limits import ticks, wsgi_limited

_flask = Flask(__name__)


@_flask.get("/health")
@_flask.get("/plain")
def _plain() -> str:
    return "hello"


@_flask.get("/stream")
def _stream() -> Response:
    return Response(ticks())


app = wsgi_limited(_flask)
