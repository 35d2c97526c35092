"""Falcon on WSGI."""

from typing import Any

from falcon import App, Request, Response
from tests.works_with.limits import ticks, wsgi_limited


class _Plain:
    def on_get(self, _: Request, response: Response) -> None:
        response.text = "hello"


class _Stream:
    def on_get(self, _: Request, response: Response) -> None:
        response.stream = ticks()


_falcon: Any = App()
_falcon.add_route("/health", _Plain())
_falcon.add_route("/plain", _Plain())
_falcon.add_route("/stream", _Stream())
app = wsgi_limited(_falcon)
