"""Bottle."""

from collections.abc import Iterator

from bottle import Bottle
from tests.works_with.limits import ticks, wsgi_limited

_bottle = Bottle()


@_bottle.get("/health")
@_bottle.get("/plain")
def _plain() -> str:
    return "hello"


@_bottle.get("/stream")
def _stream() -> Iterator[bytes]:
    return ticks()


app = wsgi_limited(_bottle)
