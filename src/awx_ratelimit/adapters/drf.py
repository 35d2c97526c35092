"""For Django REST framework: throttles, and limits of views, methods and actions of viewsets.

    class Burst(Throttle):
        rate = "30/minute"

    class Search(APIView):
        throttle_classes = [Burst]

All views that name a throttle share its bucket.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from awx_ratelimit.runtime.extras import missing_package

try:
    from django.core.exceptions import ImproperlyConfigured
    from django.http import HttpRequest, HttpResponse
    from rest_framework.exceptions import APIException
    from rest_framework.exceptions import Throttled as _Throttled
    from rest_framework.throttling import BaseThrottle
except ModuleNotFoundError as error:
    raise missing_package("throttles need", error, install="djangorestframework") from error

from awx_ratelimit.adapters.django.admission import AnyGate, admit, refusal_of, route_headers
from awx_ratelimit.adapters.django.limits import limit, route_limit
from awx_ratelimit.adapters.django.messages import django_request, response_of
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.message import Reply, Request, text_headers
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.http.route_limit import Per, RouteCost, RouteLimit, scope_of_function

__all__ = ["LimiterUnavailable", "Throttle", "limit"]


class LimiterUnavailable(APIException):  # type: ignore[misc]  # the framework has no types
    """A throttle got no decision from the backend."""

    def __init__(self, reply: Reply) -> None:
        self.status_code = reply.status
        super().__init__("The rate limiter is unavailable.", "rate_limiter_unavailable")


class Throttle(BaseThrottle):  # type: ignore[misc]  # the framework has no types
    """A throttle for ``throttle_classes`` and ``DEFAULT_THROTTLE_CLASSES``. Set `rate` in a subclass.

    Each subclass is one limit, which all views that name it share, as with the framework's own throttles. `rate` is a
    notation, a Rate or a Plan. See RouteLimit for `per`, `cost`, `charge_on`, `wait_ms`, `max_waiting` and `scope`,
    whose default is the name of the class. `gate` is found as `limit` finds it.

    A refusal has the body and the headers of any other refusal, unless the project defines an exception handler or a
    method `throttled`, which gets the exact wait. A wrong value raises InvalidLimit or TypeError when the subclass
    is defined; a throttle without a `rate` raises ImproperlyConfigured.
    """

    rate: ClassVar[str | Rate | Plan | None] = None
    per: ClassVar[Per | Callable[[Request], str]] = "caller"
    cost: ClassVar[RouteCost] = 1
    scope: ClassVar[str | None] = None
    charge_on: ClassVar[Iterable[int] | None] = None
    wait_ms: ClassVar[int] = 0
    max_waiting: ClassVar[int] = 100
    gate: ClassVar[AnyGate | None] = None
    _limit: ClassVar[RouteLimit | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.rate is not None:
            cls._limit = route_limit(
                cls.rate,
                per=cls.per,
                cost=cls.cost,
                scope=cls.scope,
                charge_on=cls.charge_on,
                wait_ms=cls.wait_ms,
                max_waiting=cls.max_waiting,
            )

    def __init__(self) -> None:
        self._retry_after_ms: int | None = None

    def allow_request(self, request: Any, view: Any) -> bool:
        """Decide and charge. After another throttle of the same request has refused it, this one charges nothing.

        Raises LimiterUnavailable if the backend cannot decide.
        """
        if self._limit is None:
            raise ImproperlyConfigured(
                f"{type(self).__name__}.rate: expected a notation such as '30/minute', got None; "
                "write rate = '30/minute' in a subclass of Throttle"
            )
        inner = _checked_request(request)
        if refusal_of(inner) is not None:
            return True
        admission = admit(self._limit, scope_of_function(type(self)), inner, self.gate)
        if admission.reply is not None:
            self._refuse(admission, inner, view)
            return False
        _report(view, route_headers(inner))
        return True

    def wait(self) -> float | None:
        """The seconds until the refused request would be admitted; None if no wait can help."""
        return None if self._retry_after_ms is None else self._retry_after_ms / 1_000

    def _refuse(self, admission: Admission, request: HttpRequest, view: Any) -> None:
        reply: Any = admission.reply
        _report(view, [pair for pair in reply.headers if not pair[0].startswith(b"content-")])
        if isinstance(view, _views().APIView):
            find_handler = view.get_exception_handler
            view.get_exception_handler = lambda: _answering(find_handler(), response_of(reply, request))
        if admission.decision is None and reply.status != _Throttled.status_code:
            raise LimiterUnavailable(reply)
        self._retry_after_ms = admission.decision.retry_after_ms if admission.decision is not None else None


def _checked_request(request: Any) -> HttpRequest:
    inner = django_request(request)
    if inner is None:
        raise TypeError(f"Throttle: expected a request of Django, got {type_name(request)}")
    return inner


def _report(view: Any, headers: list[tuple[bytes, bytes]]) -> None:
    # The framework adds these to every response of the view, also to those of exceptions.
    reported = getattr(view, "headers", None)
    if isinstance(reported, dict):
        reported.update(text_headers(headers))


def _answering(handler: Any, response: HttpResponse) -> Any:
    """The framework's own handler with `response` for a refusal; a handler of the project as it is."""
    return partial(_answer, response) if handler is _views().exception_handler else handler


def _answer(response: HttpResponse, error: Exception, context: Any) -> Any:
    if isinstance(error, _Throttled | LimiterUnavailable):
        return response
    return _views().exception_handler(error, context)


def _views() -> Any:
    """The framework's views. It imports DEFAULT_THROTTLE_CLASSES while it imports them: so not with this module."""
    from rest_framework import views

    return views
