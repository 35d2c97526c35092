"""Admits the requests of frameworks with their own interface, such as aiohttp. It imports no framework."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from awx_ratelimit.adapters.asgi.exchange import EXCHANGES
from awx_ratelimit.http.endings import OVER, Settles, ending_of, note_header
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.limit_headers import COST_HEADER, merged
from awx_ratelimit.http.message import Headers, Reply, Request, text_headers
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS

#: The settlements under way. An event loop keeps only weak references to its tasks.
_settling: set[asyncio.Future[None]] = set()
#: What the adapters remember of one request.
State = dict[str, Any]


class Exchange(Settles):
    """One admitted request: the headers of its response, and its slot, which `end` or garbage collection releases."""

    __slots__ = ("_headers",)

    def __init__(self, gate: AsyncGate, admission: Admission) -> None:
        self.gate = gate
        self.caller = admission.caller
        self.ending = ending_of(admission.decision)
        self._headers: Headers = admission.headers
        self.decision = self.claimed = admission.decision

    def take_headers(self) -> Headers:
        """The headers for the response, once; then none."""
        headers, self._headers = self._headers, []
        return headers

    def merge_headers(self, headers: Headers) -> None:
        """A route's own limit has admitted the request as well: report both decisions."""
        self._headers = merged([*self._headers], [*headers])

    def drop_headers(self) -> None:
        """An inner gate or a route has refused the request, so the client must see the headers of that refusal."""
        self._headers = []

    def end_with_task(self) -> None:
        """Release the slot when the current task is done, if nothing has released it before."""
        task = asyncio.current_task()
        if self.decision is not None and task is not None:
            task.add_done_callback(self.end)

    def end(self, *_: object) -> None:
        """Release the slots, and settle what the request has cost, each once. It neither waits nor raises."""
        super().end()
        if self.ending is not None:
            for charge in self.due(is_over=True):
                task = asyncio.ensure_future(charge.gate.settle(charge.decision, self.status, self.noted))
                _settling.add(task)
                task.add_done_callback(_settling.discard)
        self.ending = OVER

    __del__ = Settles.end


async def finish(gate: AsyncGate) -> None:
    """Send all that is pending for `gate`: settled costs, released slots. It never raises."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*[task for task in _settling if task.get_loop() is loop])
    await gate.flush()


async def enter(gate: AsyncGate, request: Request, state: State) -> Exchange | Reply | None:
    """Decide a request: its Exchange, or the reply that refuses it; None if `gate` has decided it before."""
    outer: tuple[Exchange, ...] = state.get(EXCHANGES, ())
    if any(exchange.gate is gate for exchange in outer):
        return None
    admission = await gate.admit(request)
    if admission.reply is not None:
        for exchange in outer:
            exchange.drop_headers()
        return admission.reply
    try:
        exchange = Exchange(gate, admission)
    except BaseException:
        gate.drop(admission.decision)
        raise
    state[EXCHANGES] = (*outer, exchange)
    return exchange


def add_headers(gate: AsyncGate, state: State, headers: Any, status: int | None) -> None:
    """Write the headers of `gate` into the multidict `headers` of its response, once, over the app's own.

    `status` is that of the response, None if it says nothing of what the application did.
    """
    exchange = exchange_of(gate, state)
    if exchange is None:
        return
    costs = headers.popall(COST_HEADER.decode(), ())
    if costs:
        note_header(state[EXCHANGES], [value.encode("latin-1", "replace") for value in costs])
    if exchange.ending is not None:
        exchange.note_status(status)
    reported = exchange.take_headers()
    if reported:
        for name in exchange.gate.header_names:
            headers.popall(name.decode(), None)
        headers.extend(text_headers(reported))


def exchange_of(gate: AsyncGate, state: State) -> Exchange | None:
    """The exchange of a request that `gate` has admitted."""
    return next((exchange for exchange in state.get(EXCHANGES, ()) if exchange.gate is gate), None)


def header_values(lines: Callable[[], Iterable[tuple[bytes, bytes]]]) -> Callable[[bytes], list[bytes]]:
    """The function `values` of a Request. `lines` returns the headers, and is called once if at all."""
    by_name: dict[bytes, list[bytes]] = {}
    is_read = False

    def values(name: bytes) -> list[bytes]:
        nonlocal is_read
        if not is_read:
            is_read = True
            for key, value in lines():
                by_name.setdefault(key.lower(), []).append(value)
        if name:
            return by_name.get(name, [])
        return [value for prefix in PREFIX_HEADERS for value in by_name.get(prefix, [])]

    return values
