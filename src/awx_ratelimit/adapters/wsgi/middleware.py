"""`RateLimitMiddleware` for WSGI apps (PEP 3333). It imports no framework.

A slot is released by the `close()` of the body, which PEP 3333 obliges servers to call, or when the app raises. If a
body is never closed, its slot is released when it is garbage collected.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from awx_ratelimit.adapters.limited_once import LimitsApp
from awx_ratelimit.adapters.options import MAX_DRAIN_BYTES, check_wsgi, checked_drain_bytes, nested_call
from awx_ratelimit.adapters.wsgi.environ import (
    Environ,
    Headers,
    StartResponse,
    WsgiHeaders,
    begun,
    drain,
    request_of,
    send_reply,
    variable_of,
)
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http.endings import OVER, Settles, ending_of, note_header
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.limit_headers import COST_HEADER

App = Callable[[Environ, StartResponse], Iterable[bytes]]

_decision = "awx_ratelimit.decision"
SLOTS = "awx_ratelimit.slots"
_COST = COST_HEADER.decode()


class _Names(NamedTuple):
    """Names of headers that are not sent, and their lengths."""

    names: frozenset[str]
    lengths: frozenset[int]


_ONLY_COST = _Names(frozenset((_COST,)), frozenset((len(_COST),)))


class _Texts(dict[bytes, str]):
    """The names of the headers of gates, as WSGI has them."""

    def __missing__(self, name: bytes) -> str:
        text = self[name] = name.decode("latin-1")
        return text


_texts = _Texts()


class RateLimitMiddleware(LimitsApp):
    """Limits the requests of `app` by `gate`, from any thread.

    The decision is at ``environ["awx_ratelimit.decision"]``, None for an exempt request. Two middlewares
    with the same gate decide once.

    Before a refusal the middleware reads up to `max_drain_bytes` of the request's body, because a proxy turns the
    response to an unread upload into a 502. It reads nothing if the client sent ``Expect: 100-continue``, and 0 turns
    reading off. Raises InvalidLimit for a negative number, and TypeError for an app that has another rate limit.
    """

    gate: Gate

    def __init__(self, app: App, *, gate: Gate, max_drain_bytes: int = MAX_DRAIN_BYTES) -> None:
        check_wsgi(app, gate)
        self.app = app
        self.gate = gate
        self.check_is_first(app)
        self._max_drain_bytes = checked_drain_bytes(max_drain_bytes)
        names, lengths = gate.replaced
        self._replaced = _Names(frozenset(name.decode("latin-1") for name in names), lengths)
        #: The variables in which a key may be, and their headers.
        self._variables = [(variable_of(header), header) for header in gate.finders]

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        outer: tuple[Slot, ...] = environ.get(SLOTS, ())
        if outer and any(slot.gate is self.gate for slot in outer):
            with nested_call(environ, "wsgi_app"):
                return self.app(environ, start_response)
        # The short way of nearly all requests needs no object for the request.
        admission = begun(environ, self.gate, self._variables)
        if admission is None:
            admission = self.gate.admit(request_of(environ))
        reply, headers, decision, caller = admission
        if reply is not None:
            for slot in outer:
                slot.headers = []
            drain(environ, self._max_drain_bytes)
            return send_reply(reply, environ, start_response)
        try:
            slot = Slot(self.gate, headers, decision, caller)
        except BaseException:
            self.gate.drop(decision)
            raise
        try:
            environ[SLOTS] = (*outer, slot) if outer else (slot,)
            environ[_decision] = decision
            body = self.app(environ, _adding_headers(slot, outer, self._replaced, start_response))
            return _releasing(body, slot, environ.get("wsgi.file_wrapper"))
        except BaseException:
            slot.close()
            raise


class Slot(Settles):
    """One admitted request: its headers, and its slot, which `end` or garbage collection releases once."""

    __slots__ = ("headers",)

    def __init__(self, gate: Gate, headers: Headers, decision: Decision | None, caller: Caller | None = None) -> None:
        self.gate = gate
        self.caller = caller
        self.ending = None if decision.__class__ is Decision else ending_of(decision)
        #: Emptied if an inner gate refuses the request, so that the client sees the headers of that gate.
        self.headers = headers
        self.decision = self.claimed = decision

    def close(self) -> None:
        """The request is over: release its slots, and settle what it has cost."""
        self.end()
        if self.ending is not None:
            for gate, decision in self.due(is_over=True):
                gate.settle(decision, self.status, self.noted)
        self.ending = OVER

    __del__ = Settles.end


class _Body:
    """The app's body, whose `close` also releases the slot. It is its own iterator, so an iterator keeps the slot.

    It is no list: granian does not close those.
    """

    __slots__ = ("_body", "_iterator", "_slot")

    def __init__(self, body: Iterable[bytes], slot: Slot) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._slot = slot

    def __iter__(self) -> "_Body":
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._body)
        return next(self._iterator)

    def close(self) -> None:
        try:
            close_body = getattr(self._body, "close", None)
            if close_body is not None:
                close_body()
        finally:
            self._slot.close()


class _SizedBody(_Body):
    """A body with a length, by which servers decide whether to send a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # only used for bodies that have one


def _releasing(body: Iterable[bytes], slot: Slot, file_wrapper: Any) -> Iterable[bytes]:
    if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):
        # Servers send a file without copying it only if the body is an instance of their own wrapper.
        try:
            body.close = _close_and_release(body, slot)  # type: ignore[attr-defined]
        except AttributeError:
            # A wrapper written in C accepts no attributes, so the file is copied instead.
            return _Body(body, slot)
        return body
    return _SizedBody(body, slot) if hasattr(body, "__len__") else _Body(body, slot)


def _close_and_release(body: Iterable[bytes], slot: Slot) -> Callable[[], None]:
    close_body = getattr(body, "close", None)

    def close() -> None:
        try:
            if close_body is not None:
                close_body()
        finally:
            slot.close()

    return close


def _adding_headers(
    slot: Slot, outer: tuple[Slot, ...], replaced: _Names, start_response: StartResponse
) -> StartResponse:
    def start(status: str, app_headers: WsgiHeaders, *exc_info: Any) -> Any:
        if slot.ending is not None:
            slot.note_status(int(status[:3]))
        own = slot.headers
        names, lengths = replaced if own else _ONLY_COST
        kept = app_headers
        for pair in app_headers:
            if len(pair[0]) in lengths and pair[0].lower() in names:
                kept = [pair for pair in app_headers if pair[0].lower() not in names]
                _note_costs(slot, outer, app_headers)
                break
        lines = [*kept]
        for name, value in own:
            lines.append((_texts[name], value.decode("latin-1")))  # a list is made by a call
        return start_response(status, lines, *exc_info)

    return start


def _note_costs(slot: Slot, outer: tuple[Slot, ...], app_headers: WsgiHeaders) -> None:
    """Note what the application says in RateLimit-Cost."""
    costs = [value.encode("latin-1") for name, value in app_headers if name.lower() == _COST]
    if costs:
        note_header((*outer, slot), costs)
