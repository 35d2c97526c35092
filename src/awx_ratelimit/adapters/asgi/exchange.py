"""`Exchange`: one admitted request of an ASGI app, from the first message of its response to the last."""

from collections.abc import Awaitable, Collection, Iterable
from http import HTTPStatus

from awx_ratelimit.adapters.asgi.scope import Message, Receive, Send
from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.http import limit_headers
from awx_ratelimit.http.endings import Settles, ending_of, note_header
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.limit_headers import merged
from awx_ratelimit.pending_decision import mark_coroutine_function

Headers = list[tuple[bytes, bytes]]

_SWITCHING_PROTOCOLS = HTTPStatus.SWITCHING_PROTOCOLS.value
_FORBIDDEN = HTTPStatus.FORBIDDEN.value
_ONLY_COST = frozenset((limit_headers.COST_HEADER,))
_ONLY_COST_NAMES = (_ONLY_COST, frozenset(map(len, _ONLY_COST)))
_STARTS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))
_BODIES = frozenset(("http.response.body", "http.response.zerocopysend", "websocket.http.response.body"))
#: The key in a scope of what the gates around the app have admitted: a tuple of exchanges, the outermost first.
EXCHANGES = "awx_ratelimit.exchanges"


class Exchange(Settles):
    """One admitted request: adds the headers to its response, and releases its slot and settles it at the end."""

    __slots__ = ("_headers", "_outer", "_receive", "_send", "_trailers")
    _headers: Headers
    _outer: tuple["Exchange", ...]
    _receive: Receive
    _send: Send
    _trailers: bool

    def begin(
        self,
        gate: AsyncGate,
        headers: Headers,
        decision: Decision | None,
        caller: Caller | None,
        outer: tuple["Exchange", ...],
        receive: Receive,
        send: Send,
    ) -> None:
        """Take over an admission. See "Objects without `__init__`" in docs/hot-path.md."""
        self.gate = gate
        self.caller = caller
        self._outer = outer
        self._headers = headers
        self.decision = self.claimed = decision
        self.ending = None if decision.__class__ is Decision else ending_of(decision)
        self._receive = receive
        self._send = send
        self._trailers = False

    def merge_headers(self, headers: Headers) -> None:
        """A route's own limit has admitted the request as well: report both decisions."""
        self._headers = merged(self._headers, headers)

    def drop_headers(self) -> None:
        """An inner gate or a route has refused the request, so the client must see the headers of that refusal."""
        self._headers = []

    async def settle(self, *, is_over: bool) -> None:
        """Settle what is due. See `Settles.due`. It never raises, and the response does not wait for it."""
        for gate, decision in self.due(is_over=is_over):
            await gate.settle(decision, self.status, self.noted)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.end()
        return message

    @mark_coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """Returns the awaitable of the server's own `send`, which saves a coroutine for each message."""
        kind = message["type"]
        if kind == "http.response.body" and not self._trailers:
            # The same as `_is_last`, without the call.
            if not message.get("more_body", False) and (self.decision is not None or self.ending is not None):
                return self._send_last(message)
        elif kind in _STARTS:
            message = self._begin_response(message)
        else:
            if self._trailers and kind == "http.response.trailers":
                self._note_costs(message.get("headers", ()))
                message = {**message, "headers": _without(_ONLY_COST, message.get("headers", ()))}
            if (self.decision is not None or self.ending is not None) and self._is_last(kind, message):
                return self._send_last(message)
        return self._send(message)

    def _begin_response(self, message: Message) -> Message:
        """The start of the response, with the headers of the gate. The message of the app stays as it is."""
        if "trailers" in message:
            self._trailers = message["trailers"]
        if self.ending is not None:
            self.note_status(message.get("status", _SWITCHING_PROTOCOLS))
        own, headers = self._headers, message.get("headers", ())
        if headers.__class__ is not list:
            headers = [*headers]
        names, lengths = self.gate.replaced if own else _ONLY_COST_NAMES
        kept = headers
        for pair in headers:
            if len(pair[0]) in lengths and pair[0].lower() in names:
                kept = _without(names, headers)
                self._note_costs(headers)
                break
        if own or kept is not headers:
            message = {**message}
            message["headers"] = kept + own
            self._headers = []
        return message

    def _note_costs(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note what the application says in RateLimit-Cost."""
        costs = [value for name, value in headers if name.lower() == limit_headers.COST_HEADER]
        if costs:
            note_header((*self._outer, self), costs)

    async def _send_last(self, message: Message) -> None:
        try:
            await self._send(message)
        finally:
            self.end()
        if self.ending is not None:
            await self.settle(is_over=False)

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind in _BODIES:
            return not (self._trailers or message.get("more_body", False))
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        if kind == "websocket.close" and self.ending is not None and self.status is None:
            # Servers answer a handshake that is not accepted with it.
            self.note_status(_FORBIDDEN)
        return kind == "websocket.close" or (kind == "http.response.pathsend" and not self._trailers)


def _without(names: Collection[bytes], headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [pair for pair in headers if pair[0].lower() not in names]
