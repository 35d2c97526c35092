"""What `limit` in Django promises beyond the laws: names of buckets, mixed gates, the settings' gate, and errors."""

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from tests.adapters.django_site import Site

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, Plan, PlanTable
from awx_ratelimit.adapters import starlette
from awx_ratelimit.adapters.django import limit
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=100, concurrent=2)


class First(View):
    """A view without its own methods."""

    def get(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


class Second(First):
    """Inherits everything."""


def subclass(name: str, base: Any) -> Any:
    """A subclass without anything of its own."""
    return type(name, (base,), {})


def once(scope: str | None = None) -> Any:
    """A limit of one request a minute, for all clients."""
    return limit("1/minute", per="everyone", scope=scope, gate=fresh_gate())


def fresh_gate() -> Gate:
    """A gate with its own limits, at a time that stands still."""
    limiter = Limiter(MemoryBackend(clock=ManualClock(1_000_000_000)))
    return Gate(limiter, plans=PlanTable([PLAN]), identify=lambda _: "alice")


def dispatch_of_each() -> list[Any]:
    """One limit on `dispatch` of two classes, of which one is a subclass."""
    decorate = once()
    made = [method_decorator(decorate, name="dispatch")(subclass(name, First)) for name in ("A", "B")]
    return [made[0].as_view(), made[1].as_view(), subclass("C", made[0]).as_view()]


def dispatch_below_another() -> list[Any]:
    """One limit on `dispatch` of two classes, around another decorator."""
    decorators = [once(), never_cache]
    return [method_decorator(decorators, name="dispatch")(subclass(name, First)).as_view() for name in ("A", "B")]


def views_of_classes() -> list[Any]:
    """One limit on the views that two classes make."""
    decorate = once()
    return [decorate(First.as_view()), decorate(Second.as_view())]


def decorated_class() -> list[Any]:
    """A limit on a class, and a subclass."""
    decorated: Any = once()(subclass("A", First))
    return [decorated.as_view(), subclass("B", decorated).as_view()]


def inherited_method() -> list[Any]:
    """A limit on a method, and a subclass."""
    decorated: Any = type("A", (View,), {"get": once()(First.get)})
    return [decorated.as_view(), subclass("B", decorated).as_view()]


@pytest.mark.parametrize(
    "make", [dispatch_of_each, dispatch_below_another, views_of_classes, decorated_class, inherited_method]
)
def test_classes_have_buckets_of_their_own(make: Any) -> None:
    """However a class-based view gets its limit, no other view shares its bucket."""
    views = make()
    get = Site({str(number): view for number, view in enumerate(views)}).wsgi()

    assert [get(f"/{number}").status for number in range(len(views))] == [200] * len(views)
    assert [get(f"/{number}").status for number in range(len(views))] == [429] * len(views)


def test_two_kinds_of_gates() -> None:
    """A refusal by a synchronous gate gives back what an async middleware around Django has charged, and its slot."""
    backend = MemoryBackend(clock=ManualClock(1_000_000_000))
    options: Any = {"plans": PlanTable([PLAN], default="p"), "identify": lambda _: "alice"}
    around = AsyncGate(AsyncLimiter(backend), **options)
    inner = fresh_gate()

    @limit("1/minute", gate=inner)
    def plain(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @limit("1/minute", gate=inner)
    async def running(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    site = Site({"plain": plain, "running": running})
    get = site.asgi(lambda app: starlette.RateLimitMiddleware(app, gate=around))
    answers = [get(path) for path in ("/plain", "/running", "/plain", "/running")]

    usages = Limiter(backend).peek("alice", PLAN).usages
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert [usage.remaining for usage in usages] == [98, 2]
    assert answers[0].headers["ratelimit"].startswith('"minute";r=99;t=60, "concurrent";r=1')


def test_two_kinds_of_gates_on_one_view() -> None:
    """A refusal gives back what another limit of the view has charged by a gate of the other kind."""
    limiter: Any = AsyncLimiter(MemoryBackend(clock=ManualClock(1_000_000_000)))
    outer = limit("2/minute", scope="outer", gate=AsyncGate(limiter, plans=PlanTable([PLAN]), identify=lambda _: "a"))

    @outer
    @once()
    def plain(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    get = Site({"plain": plain, "other": outer(ok)}).wsgi()

    assert [get("/plain").status for _ in range(4)] == [200, 429, 429, 429]
    assert [get("/other").status for _ in range(2)] == [200, 429]


def test_gate_of_the_settings() -> None:
    """Without the entry in MIDDLEWARE, a limit uses the callers and the backend of AWX_RATELIMIT."""
    backend = MemoryBackend(clock=ManualClock(1_000_000_000))

    @limit("1/minute", scope="mine")
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    site = Site({"": view}, AWX_RATELIMIT={"keys": {"alice": "starter", "bob": "starter"}, "backend": backend})
    wsgi, asgi = site.wsgi(), site.asgi()

    assert [wsgi("/", "alice").status, asgi("/", "alice").status] == [200, 429]
    assert [asgi("/", "bob").status, wsgi("/", "bob").status] == [200, 429]


def test_headers_of_two_limits() -> None:
    """Without a middleware, a response with two limits has one line of each field."""

    @limit("3/minute", per="address", scope="outer", gate=fresh_gate())
    @limit("2/minute", scope="inner", gate=fresh_gate())
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    headers = Site({"": view}).wsgi()("/").headers
    assert headers["ratelimit"] == '"outer.minute";r=2;t=40, "inner.minute";r=1;t=30'


def test_attributes_are_kept() -> None:
    """A decorated view keeps its name and its marks, and an async one stays a coroutine function."""

    async def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    view.csrf_exempt = True  # type: ignore[attr-defined]
    decorated: Any = limit("1/minute")(view)

    assert decorated.__name__ == "view"
    assert decorated.csrf_exempt is True
    assert asyncio.iscoroutinefunction(decorated)


def test_wrong_use() -> None:
    """Anything but a view is an error that says what to write."""
    decorate: Any = limit("1/minute")
    with pytest.raises(TypeError, match="the class Plan, which has no dispatch method"):
        decorate(Plan)
    with pytest.raises(TypeError, match="limit: expected a view, got an int"):
        decorate(5)
    with pytest.raises(TypeError, match="ok was called without a request; write the decorator on a view"):
        decorate(ok)()


def ok(_: HttpRequest) -> HttpResponse:
    """A view."""
    return HttpResponse("ok")


def test_view_called_directly() -> None:
    """A unit test may call a view with a request of RequestFactory."""
    decorated: Any = once()(ok)

    assert [decorated(RequestFactory().get("/")).status_code for _ in range(2)] == [200, 429]
