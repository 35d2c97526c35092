"""`WsgiApp`: serves a handler as a WSGI app. It imports no framework.

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api/v1": WsgiApp(ManagementApi(...))})

Bodies are bounded in bytes. The server's own timeout bounds how long a client may take.
"""

from collections.abc import Iterable

from awx_ratelimit.adapters.options import (
    MAX_BODY_BYTES,
    MAX_DRAIN_BYTES,
    METHODS_WITHOUT_BODY,
    check_handler,
    checked_drain_bytes,
)
from awx_ratelimit.adapters.wsgi.environ import (
    Environ,
    StartResponse,
    content_length,
    discard,
    drain,
    request_of,
    send_reply,
)
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import FullRequest, Handler, Reply


class WsgiApp:
    """Serves `handler`. A body of more than `max_body_bytes` gets a 413.

    If the handler does not need the body, up to `max_drain_bytes` of it are read and discarded. Raises TypeError for a
    handler that needs an event loop, and InvalidLimit for a negative number.
    """

    def __init__(
        self, handler: Handler, *, max_body_bytes: int = MAX_BODY_BYTES, max_drain_bytes: int = MAX_DRAIN_BYTES
    ) -> None:
        check_handler(handler, "WsgiApp")
        if getattr(handler, "needs_loop", False):
            raise TypeError("WsgiApp: expected a handler with a Limiter, got one that needs an event loop")
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._max_drain_bytes = checked_drain_bytes(max_drain_bytes)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in METHODS_WITHOUT_BODY:
            drain(environ, self._max_drain_bytes)
            body: bytes | Reply = b""
        else:
            body = self._body(environ)
        if isinstance(body, bytes):
            query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
            body = self._handler(FullRequest(request_of(environ), query, body))
        return send_reply(body, environ, start_response)

    def _body(self, environ: Environ) -> bytes | Reply:
        """The whole body, or the error reply to send."""
        text = environ.get("CONTENT_LENGTH") or ""
        if not text and not environ.get("wsgi.input_terminated"):
            # Reading a body without a marked end could block for ever (PEP 3333).
            return b""
        length = content_length(text) if text else self._max_body_bytes + 1
        if length is None:
            return error_responses.failure("invalid_request")
        wanted = min(length, self._max_body_bytes + 1)
        body = b"" if text and wanted > self._max_body_bytes else self._read(environ, wanted)
        if wanted > self._max_body_bytes and (text or len(body) == wanted):
            (drain if text else discard)(environ, self._max_drain_bytes)
            return error_responses.failure("request_too_large")
        # If the body is too short, the client disconnected before it had sent all of it.
        return body if not text or len(body) == wanted else error_responses.failure("invalid_request")

    def _read(self, environ: Environ, wanted: int) -> bytes:
        try:
            body: bytes = environ["wsgi.input"].read(wanted)
        except OSError:
            return b""
        return body
