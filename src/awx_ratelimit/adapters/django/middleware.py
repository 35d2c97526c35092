"""The entry of MIDDLEWARE, for synchronous and for async requests."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from awx_ratelimit.adapters.django.admission import Admitted, add_holder, drop_headers, holders, remove_holder
from awx_ratelimit.adapters.django.configuration import configuration
from awx_ratelimit.adapters.django.messages import (
    closing,
    drain,
    request_of,
    response_of,
    set_headers,
    source_of,
    when_ended,
)
from awx_ratelimit.adapters.limited_once import LimitsApp
from awx_ratelimit.http.endings import note_header
from awx_ratelimit.http.limit_headers import COST_HEADER
from awx_ratelimit.http.message import Reply
from awx_ratelimit.http.policy import Admission

_DECISION = "awx_ratelimit.decision"


class RateLimitMiddleware(LimitsApp):
    """Limits the requests that reach it by ``AWX_RATELIMIT`` in the settings.

    A refused request reaches no view. A slot is held until the response ends, even if the client hangs up. Put it after
    AuthenticationMiddleware if users are the callers, otherwise as far up as you can. The decision is at
    ``request.META["awx_ratelimit.decision"]``, None for an exempt request. Requests that a gate around Django has
    decided are not decided twice by the same gate.

    Raises ImproperlyConfigured if the setting is missing or wrong.
    """

    way_in = "the entry of MIDDLEWARE"
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        settings = configuration()
        self._max_drain_bytes = settings.max_drain_bytes
        self._is_async = iscoroutinefunction(get_response)
        self.gate: Any = settings.async_gate if self._is_async else settings.gate
        self.counts_by = settings.counts_by
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._async_call(request)
        if self._is_decided(request):
            return self.get_response(request)  # type: ignore[no-any-return]
        admission = self.gate.admit(request_of(request))
        if admission.reply is not None:
            return self._refusal(request, admission.reply)
        try:
            admitted = self._admit(request, admission)
        except BaseException:
            self.gate.drop(admission.decision)
            raise
        try:
            response = self.get_response(request)
        except BaseException:
            admitted.end()
            raise
        finally:
            remove_holder(source_of(request))
        return self._limited(request, response, admitted)

    async def _async_call(self, request: HttpRequest) -> HttpResponseBase:
        if self._is_decided(request):
            return await self.get_response(request)  # type: ignore[no-any-return]
        admission = await self.gate.admit(request_of(request))
        if admission.reply is not None:
            return self._refusal(request, admission.reply)
        try:
            admitted = self._admit(request, admission)
        except BaseException:
            self.gate.drop(admission.decision)
            raise
        try:
            response = await self.get_response(request)
        except BaseException:
            # A client that hangs up cancels the view.
            admitted.end()
            raise
        finally:
            remove_holder(source_of(request))
        return self._limited(request, response, admitted)

    def _is_decided(self, request: HttpRequest) -> bool:
        """Whether a middleware around Django has the same gate. On ASGI it cannot write into META itself."""
        around = next((holder for holder in holders(source_of(request)) if holder.gate is self.gate), None)
        if around is not None:
            request.META.setdefault(_DECISION, around.claimed)
        return around is not None

    def _refusal(self, request: HttpRequest, reply: Reply) -> HttpResponseBase:
        drop_headers(source_of(request))
        drain(request, self._max_drain_bytes)
        return response_of(reply, request)

    def _admit(self, request: HttpRequest, admission: Admission) -> Admitted:
        admitted = Admitted(self.gate, admission)
        add_holder(source_of(request), admitted)
        request.META[_DECISION] = admission.decision
        if hasattr(request, "scope"):
            source_of(request).setdefault("state", {})["rate_limit"] = admission.decision
        return admitted

    def _limited(self, request: HttpRequest, response: HttpResponseBase, admitted: Admitted) -> HttpResponseBase:
        if COST_HEADER.decode() in response.headers:
            cost = response.headers[COST_HEADER.decode()].encode("latin-1", "replace")
            note_header((*holders(source_of(request)), admitted), [cost])
            del response.headers[COST_HEADER.decode()]
        if admitted.ending is not None or response.streaming:
            admitted.note_status(response.status_code)
            # Servers close a response after they have sent it.
            response.close = closing(response.close, admitted.settle)  # type: ignore[method-assign]
        if admitted.headers:
            set_headers(response, admitted.headers, self.gate.header_names)
        if admitted.decision is not None and (admitted.decision.lease is not None or admitted.ending is not None):
            when_ended(response, admitted.end)
        return response
