"""`limit` in Django: functions and class-based views, under WSGI and ASGI, behind each kind of middleware."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from tests.adapters.django_site import ENTRY, Site
from tests.adapters.route_limit_laws import Get, RouteLimitLaws

from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.adapters.django import limit as for_view


def functions(limit: dict[str, Any]) -> dict[str, Any]:  # one function for each route
    """Views that are functions, some of them async."""

    @for_view("2/minute", **limit)
    def one(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("2/minute", **limit)
    async def two(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("3/minute", per="address", **limit)
    @for_view("2/minute", **limit)
    def both(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("2/minute", per="everyone", **limit)
    async def everyone(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("2/minute", per="account", **limit)
    def account(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("10/minute", cost=5, **limit)
    def costly(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("2/minute", scope="shared", **limit)
    def shared(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    @for_view("2/minute", scope="shared", **limit)
    async def shared_too(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    def free(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    views: list[Any] = [one, two, both, everyone, account, costly, shared, shared_too, free]
    return {view.__name__.replace("_", "-"): view for view in views}


class Ok(View):
    """Answers with ok."""

    def get(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


class AsyncOk(View):
    """Answers with ok, in an event loop."""

    async def get(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")


def classes(limit: dict[str, Any]) -> dict[str, Any]:
    """Class-based views with the decorator in each place that Django allows."""

    class One(Ok):
        pass

    class Both(AsyncOk):
        pass

    class Everyone(View):
        @for_view("2/minute", per="everyone", **limit)
        def get(self, _: HttpRequest) -> HttpResponse:
            return HttpResponse("ok")

    class Account(View):
        @for_view("2/minute", per="account", **limit)
        async def get(self, _: HttpRequest) -> HttpResponse:
            return HttpResponse("ok")

    class Costly(Ok):
        pass

    class Shared(AsyncOk):
        pass

    class SharedToo(Ok):
        pass

    dispatch = "dispatch"
    one = {"scope": "one", **limit}
    both = [for_view("3/minute", per="address", **limit), for_view("2/minute", **limit)]
    shared = for_view("2/minute", scope="shared", **limit)
    return {
        "one": method_decorator(for_view("2/minute", **one), name=dispatch)(One).as_view(),
        "two": for_view("2/minute", **limit)(AsyncOk.as_view()),
        "both": method_decorator(both, name=dispatch)(Both).as_view(),
        "everyone": Everyone.as_view(),
        "account": Account.as_view(),
        "costly": for_view("10/minute", cost=5, **limit)(Costly).as_view(),
        "shared": shared(Shared).as_view(),
        "shared-too": shared(SharedToo).as_view(),
        "free": Ok.as_view(),
    }


class TestFunctionsOnWsgi(RouteLimitLaws):
    """Functions behind the WSGI middleware."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The middleware is around Django."""
        site = Site(functions(limit))
        return site.wsgi(around and (lambda app: werkzeug.RateLimitMiddleware(app, gate=around)))


class TestFunctionsOnAsgi(RouteLimitLaws):
    """Functions behind the ASGI middleware."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The middleware is around Django."""
        site = Site(functions(limit))
        return site.asgi(around and (lambda app: starlette.RateLimitMiddleware(app, gate=around)))


class TestClassesInWsgiSettings(RouteLimitLaws):
    """Classes behind the entry of MIDDLEWARE, under WSGI."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The gate is in the settings."""
        return Site(classes(limit), **entry(around)).wsgi()


class TestClassesInAsgiSettings(RouteLimitLaws):
    """Classes behind the entry of MIDDLEWARE, under ASGI."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The gate is in the settings."""
        return Site(classes(limit), **entry(around)).asgi()


class TestFunctionsInAsgiSettings(RouteLimitLaws):
    """Functions behind the entry of MIDDLEWARE, under ASGI."""

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """The gate is in the settings."""
        return Site(functions(limit), **entry(around)).asgi()


class TestThreadsUnderAsgi(RouteLimitLaws):
    """The entry of MIDDLEWARE outside of a middleware without async: requests of ASGI, decided in threads."""

    is_async = False

    def app(self, limit: dict[str, Any], around: Any) -> Get:
        """Django calls the entry in a thread."""
        settings = entry(around)
        if around is not None:
            settings["MIDDLEWARE"].append("tests.adapters.django_site.OnlySync")
        return Site(functions(limit), **settings).asgi()


def entry(gate: Any) -> dict[str, Any]:
    """Settings with the middleware, if there is a gate."""
    return {} if gate is None else {"MIDDLEWARE": [ENTRY], "AWX_RATELIMIT": {"gate": gate}}
