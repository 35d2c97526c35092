"""What docs/migration/django-ratelimit.md says of django-ratelimit without a scenario."""

from types import ModuleType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django_ratelimit.decorators import ratelimit
from tests.migration.running import django
from tests.migration.sites import ADDRESS

from awx_ratelimit.adapters.django import limit


async def search(_: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing found")


def search_now(_: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing found")


def status(view: Any) -> int:
    """The status of a view, in a project that consists of it."""
    project = ModuleType("project")
    vars(project).update(ROOT_URLCONF=type("Urls", (), {"urlpatterns": [path("search", view)]}), MIDDLEWARE=[])
    with django(project) as sender:
        return sender.send("/search", "GET", ADDRESS, {}).status


def test_async_views() -> None:
    """An async view that django-ratelimit limits is a 500; this library limits it."""
    limited, returned = ratelimit(key="ip", rate="5/m")(search), []

    def view(request: HttpRequest) -> Any:
        returned.append(limited(request))
        return returned[-1]

    assert not iscoroutinefunction(limited)
    assert status(view) == 500
    returned[0].close()
    assert status(limit("5/minute")(search)) == 200


def test_default_response() -> None:
    """Without RATELIMIT_VIEW a request that django-ratelimit refuses is a 403; here it is a 429."""
    assert status(ratelimit(key="ip", rate="0/m")(search_now)) == 403
    assert [status(each) for each in [limit("1/minute")(search_now)] * 2] == [200, 429]
