"""Requests and refusals in the form of aiohttp."""

from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from awx_ratelimit.adapters.native import State, header_values
from awx_ratelimit.http.message import Reply, Request, text_headers

#: aiohttp before 3.14 has no keys for requests, and takes texts.
_STATE: Any = web.RequestKey("awx_ratelimit", dict) if hasattr(web, "RequestKey") else "awx_ratelimit"


def request_of(request: web.Request) -> Request:
    """The Request of an aiohttp request. Its path is the one that aiohttp routes by."""
    url = request.rel_url
    # In the path that is routed, slashes that were sent as %2F stay so. aiohttp before 3.11 routes the sent path.
    path = getattr(url, "path_safe", url.raw_path)
    return _AiohttpRequest(
        request.method, path, request.remote or None, header_values(lambda: request.raw_headers), None, request
    )


class _AiohttpRequest(Request):
    """A Request whose source is an aiohttp request: its user and session are items of that."""

    __slots__ = ()

    def _query_bytes(self) -> bytes:
        query: str = self.source.rel_url.raw_query_string
        return query.encode("utf-8", "replace")


def is_request(value: object) -> bool:
    """Whether `value` is a request of aiohttp."""
    return isinstance(value, web.BaseRequest)


def state_of(request: web.Request) -> State:
    """What this library remembers of a request."""
    state: State = request.setdefault(_STATE, {})
    return state


def response_of(reply: Reply) -> web.Response:
    """`reply` as a response of aiohttp."""
    return web.Response(body=reply.body, status=reply.status, headers=CIMultiDict(text_headers(reply.headers)))
