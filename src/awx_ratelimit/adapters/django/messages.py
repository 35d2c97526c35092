"""Reads a Request from a request of Django, and writes replies and headers as responses of Django."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from awx_ratelimit.adapters.asgi import scope as asgi
from awx_ratelimit.adapters.wsgi import environ as wsgi
from awx_ratelimit.http.message import Reply, Request

Headers = Iterable[tuple[bytes, bytes]]
_SET_COOKIE = b"set-cookie"


def source_of(request: HttpRequest) -> MutableMapping[str, Any]:
    """The ASGI scope or the WSGI environ of a request. It lives as long as the request."""
    scope: MutableMapping[str, Any] | None = getattr(request, "scope", None)
    return request.META if scope is None else scope


def request_of(request: HttpRequest) -> Request:
    """The request, for a gate. `source` is the request of Django, which has a user and a session."""
    method = request.method or "GET"
    # A middleware before this one may have changed the method.
    source = source_of(request)
    if source is request.META and source.get("REQUEST_METHOD") != method:
        source = {**source, "REQUEST_METHOD": method}
    found = (
        asgi.request_of(source)
        if hasattr(request, "scope")
        else wsgi.request_of(dict(source) if source.__class__ is not dict else source)
    )
    inner_path = found.inner_path
    if inner_path is None and not found.path.endswith(request.path_info):
        # A middleware before this one has changed the path that Django routes to.
        inner_path = request.path_info
    return found._replace(method=method, inner_path=inner_path, source=request)


def django_request(value: Any) -> HttpRequest | None:
    """`value` if it is a request of Django; the request inside, for one of Django REST framework; else None."""
    # Django REST framework's Request wraps the request and is no subclass of it.
    found = value if isinstance(value, HttpRequest) else getattr(value, "_request", None)
    return found if isinstance(found, HttpRequest) else None


def drain(request: HttpRequest, max_bytes: int) -> None:
    """Read and discard up to `max_bytes` of the body. See MAX_DRAIN_BYTES.

    Under ASGI, Django has received the body already.
    """
    text = request.META.get("CONTENT_LENGTH")
    if not text or hasattr(request, "scope") or "100-continue" in request.META.get("HTTP_EXPECT", "").lower():
        return
    # The request never reads beyond the body, even if a middleware has read a part of it.
    wsgi.discard({"wsgi.input": request}, min(wsgi.content_length(text) or 0, max_bytes))


def response_of(reply: Reply, request: HttpRequest) -> HttpResponse:
    """`reply` as a response; to a HEAD request only its headers."""
    response = HttpResponse(b"" if request.method == "HEAD" else reply.body, status=reply.status)
    del response.headers["Content-Type"]
    set_headers(response, reply.headers)
    return response


def set_headers(response: HttpResponseBase, headers: Headers, replaced: Iterable[bytes] = ()) -> None:
    """Add `headers` to `response`, without its own headers of the names in `replaced`.

    Django sends one line for each name, so several values are joined by commas, as RFC 9110 allows.
    """
    for replaced_name in replaced:
        response.headers.pop(replaced_name.decode("latin-1"), None)
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if raw_name.lower() == _SET_COOKIE:
            response.cookies.load(value)
        elif name in response.headers:
            response.headers[name] = f"{response.headers[name]}, {value}"
        else:
            response.headers[name] = value


def when_ended(response: HttpResponseBase, end: Callable[[], None]) -> None:
    """Call `end` when the response has been sent, or when the client hangs up. `end` may be called more than once.

    A response with its whole content has ended for Django. If the slot were kept until both handlers close the
    response, a client that waits for each response could find its own slot taken.
    """
    if not response.streaming:
        end()
        return
    streaming: Any = response
    if getattr(response, "file_to_stream", None) is not None:
        # Servers send a file by themselves, and close it by this method.
        response.close = closing(response.close, end)  # type: ignore[method-assign]
    elif streaming.is_async:
        streaming.streaming_content = _AsyncChunks(streaming.streaming_content, end)
    else:
        streaming.streaming_content = _Chunks(streaming.streaming_content, end)


def closing(close: Callable[[], None], end: Callable[[], None]) -> Callable[[], None]:
    """A `close` that calls `end` too."""

    def close_and_end() -> None:
        try:
            close()
        finally:
            end()

    return close_and_end


class _Chunks:
    """The chunks of a streamed response, with a `close` that the response calls when it is closed."""

    def __init__(self, chunks: Any, end: Callable[[], None]) -> None:
        self._chunks = chunks
        self.close = end

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self._chunks)


class _AsyncChunks:
    """As _Chunks, for an async iterator.

    It also ends after the last chunk and after an error: the handler closes the response in another thread, after the
    client has received the end, and does not close it after an error.
    """

    def __init__(self, chunks: Any, end: Callable[[], None]) -> None:
        self._chunks = chunks
        self.close = end

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._chunks)
        except BaseException:
            self.close()
            raise
