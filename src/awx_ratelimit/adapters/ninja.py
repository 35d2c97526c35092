"""For django-ninja: limits of operations, and a throttle.

    @api.get("/search")
    @limit("30/minute")
    def search(request): ...

    @api.get("/report", throttle=[Throttle("5/minute", scope="report")])
    def report(request): ...

Register `on_throttled`, so that throttles answer as limits do.
"""

import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from awx_ratelimit.runtime.extras import missing_package

try:
    from asgiref.sync import iscoroutinefunction
    from django.http import HttpRequest, HttpResponse
    from ninja.throttling import BaseThrottle
except ModuleNotFoundError as error:
    raise missing_package("throttles need", error, install="django-ninja") from error

from awx_ratelimit.adapters.django.admission import AnyGate, admit_at_once, refusal_of, route_headers
from awx_ratelimit.adapters.django.limits import ViewLimit, route_limit
from awx_ratelimit.adapters.django.messages import response_of, set_headers
from awx_ratelimit.adapters.late_limits import LateLimits, check_after, is_registered
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.route_limit import Per, RouteCost

__all__ = ["Throttle", "limit", "on_throttled"]


@with_option_hints(ROUTE_HINTS)
def limit(
    limit: str | Rate | Plan,
    *,
    per: Per | Callable[[Request], str] = "caller",
    cost: RouteCost = 1,
    scope: str | None = None,
    charge_on: Iterable[int] | None = None,
    wait_ms: int = 0,
    max_waiting: int = 100,
    gate: AnyGate | None = None,
) -> "OperationLimit":
    """Limit an operation, in its own bucket: a decorator below ``@api.get(...)``, also for async functions.

    It takes the arguments of `awx_ratelimit.adapters.django.limit`.
    """
    checked = route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return OperationLimit(checked, gate)


class OperationLimit(ViewLimit):
    """The decorator that `limit` returns."""

    def __call__(self, view: Any) -> Any:
        """Return the operation with the limit."""
        was_registered = is_registered(view)
        limited = super().__call__(_taking_a_response(view))
        if was_registered:
            _late_limits.note(view, limited)
        return limited


def _watch() -> None:
    from ninja import router

    # Newer versions have another class for the router of an API.
    for each in (router.Router, getattr(router, "BoundRouter", None)):
        if each is not None:
            check_after(each, "urls_paths", _check_operations)


def _check_operations(router: Any) -> None:
    views = router.path_operations.values()
    _late_limits.check(operation.view_func for view in views for operation in view.operations)


_late_limits = LateLimits(_watch)


class Throttle(BaseThrottle):
    """A throttle for ``throttle=[...]``. Each object is one limit, which all operations that have it share.

    See RouteLimit for the arguments; `scope` names the bucket and is required, because the object has no other name.

    Async operations call throttles in the event loop, where only backends that never wait can decide: memory and a host
    file. Over any other backend write ``@limit(...)`` on the async operation; only `limit` takes `wait_ms`.
    """

    def __init__(
        self,
        rate: str | Rate | Plan,
        *,
        scope: str,
        per: Per | Callable[[Request], str] = "caller",
        cost: RouteCost = 1,
        charge_on: Iterable[int] | None = None,
        gate: AnyGate | None = None,
    ) -> None:
        self._limit = route_limit(rate, per=per, cost=cost, scope=scope, charge_on=charge_on)
        self._scope = scope
        self._gate = gate
        #: One object serves many requests at the same time.
        self._retry_after_ms: ContextVar[int | None] = ContextVar("retry_after_ms", default=None)

    def allow_request(self, request: HttpRequest) -> bool:
        """Decide and charge. After another throttle of the same request has refused it, this one charges nothing.

        Raises RuntimeError in an event loop over a backend that must be awaited.
        """
        if refusal_of(request) is not None:
            return True
        admission = admit_at_once(self._limit, self._scope, request, self._gate)
        if admission.reply is None:
            return True
        decision = admission.decision
        self._retry_after_ms.set(None if decision is None else decision.retry_after_ms)
        return False

    def wait(self) -> float | None:
        """The seconds until the refused request would be admitted; None if no wait can help."""
        retry_after_ms = self._retry_after_ms.get()
        return None if retry_after_ms is None else retry_after_ms / 1_000


def on_throttled(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer a refusal of a Throttle with the body and the headers of any other refusal.

    Register it once: ``api.add_exception_handler(ninja.errors.Throttled, on_throttled)``.
    """
    reply = refusal_of(request)
    if reply is None:
        return HttpResponse(str(error), status=error.status_code, content_type="text/plain")
    return response_of(reply, request)


def _taking_a_response(operation: Any) -> Any:
    """`operation` with a parameter through which the framework passes the response, to which headers are added."""
    signature = _signature(operation)
    own = next((name for name, each in signature.parameters.items() if each.annotation is HttpResponse), None)
    name = own or "_limited_response"

    def report(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        response = kwargs[name] if own else kwargs.pop(name, None)
        if response is not None and args:
            headers = route_headers(args[0])
            set_headers(response, headers, [each for each, _ in headers])

    if iscoroutinefunction(operation):

        @wraps(operation)
        async def taking(*args: Any, **kwargs: Any) -> Any:
            report(args, kwargs)
            return await operation(*args, **kwargs)
    else:

        @wraps(operation)
        def taking(*args: Any, **kwargs: Any) -> Any:
            report(args, kwargs)
            return operation(*args, **kwargs)

    if own is None:
        response = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=HttpResponse)
        parameters = list(signature.parameters.values())
        at = len(parameters) - any(each.kind is each.VAR_KEYWORD for each in parameters)
        signature = signature.replace(parameters=[*parameters[:at], response, *parameters[at:]])
    taking.__signature__ = signature  # type: ignore[attr-defined]
    return taking


def _signature(operation: Any) -> inspect.Signature:
    try:
        # The framework would resolve texts in the namespace of the decorator.
        return inspect.signature(operation, eval_str=True)
    except NameError:
        return inspect.signature(operation)
