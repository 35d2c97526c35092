"""Requests and refusals in the form of Tornado."""

from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from awx_ratelimit.adapters.native import State, header_values
from awx_ratelimit.http.message import Reply, Request, text_headers

STATE = "awx_ratelimit"
#: What Tornado gives as the address of a client on a unix socket.
_NO_ADDRESS = "0.0.0.0"  # noqa: S104  # not an address to bind to


def request_of(request: HTTPServerRequest) -> Request:
    """The Request of a Tornado request. Its path is the one that was sent, which Tornado routes by."""
    values = header_values(lambda: ((k.encode("latin-1"), v.encode("latin-1")) for k, v in request.headers.get_all()))
    client = None if request.remote_ip == _NO_ADDRESS else request.remote_ip
    return _TornadoRequest(request.method or "", request.path, client, values, None, request)


class _TornadoRequest(Request):
    """A Request whose source is an HTTPServerRequest."""

    __slots__ = ()

    def _query_bytes(self) -> bytes:
        query: str = self.source.query
        return query.encode("latin-1", "replace")


def state_of(request: HTTPServerRequest) -> State:
    """What this library remembers of a request."""
    return vars(request).setdefault(STATE, {})  # type: ignore[no-any-return]


def refuse(handler: RequestHandler, reply: Reply) -> None:
    """Finish the request of `handler` with `reply`."""
    handler.clear()
    handler.set_status(reply.status)
    for name, value in text_headers(reply.headers):
        handler.set_header(name, value)
    handler.finish(reply.body)
