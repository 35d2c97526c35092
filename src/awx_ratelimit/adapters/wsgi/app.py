"""A WSGI app of what answers whole requests, to be mounted as any other. It needs no framework.

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api/v1": WsgiApp(ManagementApi(...))})

No body is read beyond its bounds in bytes; how long a client may take is the server's to say.
"""

from collections.abc import Iterable

from awx_ratelimit.adapters.full_requests import check_answer
from awx_ratelimit.adapters.wsgi.environ import (
    MAX_DRAIN_BYTES,
    Environ,
    StartResponse,
    discard,
    drain,
    length_of,
    request_of,
    send_reply,
)
from awx_ratelimit.core.validation import check_whole_number
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Answer, Reply, WholeRequest

_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))


class WsgiApp:
    """Serves `answer`. A body of more than `most_body_bytes` is a 413.

    Of a body that `answer` does not get, up to `max_drain_bytes` are read and discarded, because a proxy turns the
    answer to an unread upload into a 502. Raises TypeError for what has to be answered on an event loop, and
    InvalidLimit for a negative number.
    """

    def __init__(
        self, answer: Answer, *, most_body_bytes: int = 65_536, max_drain_bytes: int = MAX_DRAIN_BYTES
    ) -> None:
        check_answer(answer, "WsgiApp")
        if getattr(answer, "needs_loop", False):
            raise TypeError("WsgiApp has no event loop: give the API a Limiter, not an AsyncLimiter")
        self._answer = answer
        self._most_body_bytes = most_body_bytes
        check_whole_number(max_drain_bytes, "max_drain_bytes", minimum=0)
        self._max_drain_bytes = max_drain_bytes

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _WITHOUT_BODY:
            drain(environ, self._max_drain_bytes)
            body: bytes | Reply = b""
        else:
            body = self._body(environ)
        if isinstance(body, bytes):
            query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
            body = self._answer(WholeRequest(request_of(environ), query, body))
        return send_reply(body, environ, start_response)

    def _body(self, environ: Environ) -> bytes | Reply:
        """The whole body, or what to answer without it."""
        text = environ.get("CONTENT_LENGTH") or ""
        if not text and not environ.get("wsgi.input_terminated"):
            # Without an end nobody may read on (PEP 3333).
            return b""
        length = length_of(text) if text else self._most_body_bytes + 1
        if length is None:
            return error_responses.failure("invalid_request")
        wanted = min(length, self._most_body_bytes + 1)
        body = b"" if text and wanted > self._most_body_bytes else self._read(environ, wanted)
        if wanted > self._most_body_bytes and (text or len(body) == wanted):
            (drain if text else discard)(environ, self._max_drain_bytes)
            return error_responses.failure("request_too_large")
        # A client that has left in the middle has said nothing.
        return body if not text or len(body) == wanted else error_responses.failure("invalid_request")

    def _read(self, environ: Environ, wanted: int) -> bytes:
        try:
            body: bytes = environ["wsgi.input"].read(wanted)
        except OSError:
            return b""
        return body
