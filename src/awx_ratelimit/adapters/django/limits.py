"""Limits of single views.

@limit("5/minute", per="address")
def search(request): ...

@method_decorator(limit("5/minute"), name="dispatch")
class Search(View): ...
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from awx_ratelimit.adapters.django.admission import AnyGate, admit, admit_async, route_headers
from awx_ratelimit.adapters.django.messages import django_request, response_of, set_headers
from awx_ratelimit.adapters.options import called_without_request, check_route_gate
from awx_ratelimit.core.option_names import ROUTE_HINTS, with_option_hints
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.route_limit import (
    Per,
    RouteCost,
    RouteLimit,
    SetLimit,
    limits_on,
    note_limit,
    scope_of_function,
)

_View = TypeVar("_View", bound=Callable[..., Any])
#: A RouteLimit in a project of Django.
route_limit = partial(RouteLimit, middleware="'awx_ratelimit.adapters.django.RateLimitMiddleware' in MIDDLEWARE")


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
) -> "ViewLimit":
    """Limit a view, in its own bucket: a decorator for functions, including async ones, methods, and class-based views.

    See RouteLimit for the arguments. The limit uses `gate`, else the gate of the middleware, else that of the settings,
    else the memory of this process, where clients count by their address. A refused request is charged by no limit.
    """
    checked = route_limit(
        limit, per=per, cost=cost, scope=scope, charge_on=charge_on, wait_ms=wait_ms, max_waiting=max_waiting
    )
    return ViewLimit(checked, gate)


class ViewLimit:
    """The decorator that `limit` returns."""

    def __init__(self, limit: RouteLimit, gate: AnyGate | None) -> None:
        check_route_gate(gate, Gate, AsyncGate)
        self._limit = limit
        self._gate = gate

    def __call__(self, view: _View) -> _View:
        """Return `view` with the limit. Raises TypeError for anything but a function or a class-based view."""
        if isinstance(view, type):
            if not hasattr(view, "dispatch"):
                raise TypeError(f"limit: expected a view, got the class {view.__name__}, which has no dispatch method")
            setattr(view, "dispatch", self._decorated(view.dispatch))  # noqa: B010  # mypy knows no dispatch
            return view
        if not callable(view):
            raise TypeError(f"limit: expected a view, got {type_name(view)}; write the decorator on a function")
        return self._decorated(view)  # type: ignore[no-any-return]

    def _decorated(self, view: Any) -> Any:
        scopes: dict[Any, str] = {}

        def scope_for(args: tuple[Any, ...]) -> str:
            owner = _owner(view, args)
            if owner not in scopes:
                # Bounded by the number of classes that inherit the view.
                scopes[owner] = _scope_of(view, owner)
            return scopes[owner]

        async def limited_async(*args: Any, **kwargs: Any) -> Any:
            request = _request_among(view, args, kwargs)
            admission = await admit_async(self._limit, scope_for(args), request, self._gate)
            if admission.reply is not None:
                return response_of(admission.reply, request)
            return _with_headers(await view(*args, **kwargs), request)

        set_limit = SetLimit(self._limit, lambda owner: _scope_of(view, owner), self._gate)
        if iscoroutinefunction(view):
            decorated = wraps(view)(limited_async)
            note_limit(decorated, view, set_limit)
            return decorated

        @wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            owner = _owner(view, args)
            # The `dispatch` of a class with async methods is no coroutine function, but returns a coroutine.
            if getattr(owner, "view_is_async", False) and _name(view) == "dispatch":
                return limited_async(*args, **kwargs)
            request = _request_among(view, args, kwargs)
            admission = admit(self._limit, scope_for(args), request, self._gate)
            if admission.reply is not None:
                return response_of(admission.reply, request)
            return _with_headers(view(*args, **kwargs), request)

        note_limit(limited, view, set_limit)
        return limited


def view_at(path: str) -> Any:
    """The view that the URLs of the project have at `path`; None if there is none."""
    try:
        return resolve(path).func
    except Resolver404:
        return None


def limits_of_view(view: Any, method: str) -> list[SetLimit]:
    """The limits of a view of a URL for requests of `method`, in the order in which they decide."""
    owner = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if owner is None:
        return [*limits_on(view)]
    # Django copies the attributes of `dispatch` to the view.
    dispatch = limits_on(owner.dispatch)
    found = [each for each in limits_on(view) if each not in dispatch]
    for name in ("dispatch", method.lower()):
        # `method_decorator` has decorated a function with another name.
        named: Any = SimpleNamespace(__name__=name, actions=getattr(view, "actions", None))
        found += [each._replace(route_for=partial(_scope_of, named)) for each in limits_on(getattr(owner, name, None))]
    return [each._replace(route_for=partial(_route_in, each, owner)) for each in found]


def _route_in(limit: SetLimit, owner: Any, _: Any) -> str:
    return limit.route_for(owner)


def _with_headers(response: Any, request: HttpRequest) -> Any:
    """`response`, with the headers that no middleware adds."""
    headers = route_headers(request)
    if headers and isinstance(response, HttpResponseBase):
        set_headers(response, headers, [name for name, _ in headers])
    return response


def _request_among(view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HttpRequest:
    for value in (*args[:2], kwargs.get("request")):
        request = django_request(value)
        if request is not None:
            return request
    raise called_without_request(view, "a view")


def _owner(view: Any, args: tuple[Any, ...]) -> type[Any] | None:
    """The class whose method `view` is, as far as the call tells; None for a function."""
    # `method_decorator` passes a partial of a bound method to the innermost decorator.
    innermost = inspect.unwrap(view, stop=lambda each: isinstance(each, partial))
    if isinstance(innermost, partial) and inspect.ismethod(innermost.func):
        return type(innermost.func.__self__)
    if args and django_request(args[0]) is None:
        return type(args[0])
    return None


def _scope_of(view: Any, owner: type[Any] | None) -> str:
    """The scope of a view: that of its class, so that classes which inherit a method share no bucket."""
    # Set by `as_view` of Django, and of Django REST framework.
    made_of = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if owner is not None and _name(view) != "dispatch":
        return _scope_of_class(owner, f".{_name(view)}")
    found = owner or made_of
    if found is not None:
        # A viewset has a view for each of several sets of actions.
        actions = sorted(set((getattr(view, "actions", None) or {}).values()))
        return _scope_of_class(found, "".join(f".{name}" for name in actions))
    return scope_of_function(view.func if isinstance(view, partial) else view)


def _scope_of_class(owner: type[Any], rest: str) -> str:
    # Classes that Django REST framework makes of functions differ only in their names.
    qualified = owner.__qualname__ if owner.__qualname__.endswith(owner.__name__) else owner.__name__
    named: Any = SimpleNamespace(__qualname__=qualified + rest, __module__=owner.__module__)
    return scope_of_function(named)


def _name(view: Any) -> str:
    return getattr(view, "__name__", type(view).__name__)
