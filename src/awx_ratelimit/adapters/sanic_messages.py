"""Requests and refusals in the form of Sanic."""

from typing import Any

from sanic import HTTPResponse
from sanic import Request as SanicRequest

from awx_ratelimit.adapters.native import State, header_values
from awx_ratelimit.http.message import Reply, Request, text_headers

STATE = "awx_ratelimit"


def request_of(request: SanicRequest) -> Request:
    """The Request of a Sanic request. Its path is the one that was sent, which Sanic routes by."""
    return _SanicRequest(
        request.method, request.path, request.ip or None, header_values(lambda: _sent(request)), None, request
    )


class _SanicRequest(Request):
    """A Request whose source is a Sanic request: its user and session are in the context of that."""

    __slots__ = ()

    @property
    def user(self) -> Any:
        return getattr(self.source.ctx, "user", None)

    @property
    def session(self) -> Any:
        return getattr(self.source.ctx, "session", None)

    def _query_bytes(self) -> bytes:
        query: str = self.source.query_string
        return query.encode("utf-8", "replace")


def _sent(request: SanicRequest) -> list[tuple[bytes, bytes]]:
    """The headers as they were sent. Sanic decodes them as UTF-8 and keeps other bytes as surrogates."""
    lines = request.headers.items()
    return [(name.encode("utf-8", "replace"), value.encode("utf-8", "surrogateescape")) for name, value in lines]


def state_of(request: SanicRequest) -> State:
    """What this library remembers of a request."""
    state: State = vars(request.ctx).setdefault(STATE, {})
    return state


def response_of(reply: Reply) -> HTTPResponse:
    """`reply` as a response of Sanic."""
    headers = dict(text_headers(reply.headers))
    kind = headers.pop("content-type", "application/octet-stream")
    return HTTPResponse(reply.body, reply.status, headers, kind)
