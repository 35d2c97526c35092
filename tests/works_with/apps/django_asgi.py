"""Django on ASGI."""

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from tests.works_with.apps.django_urls import configure
from tests.works_with.limits import async_ticks, limited


async def _plain(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


async def _stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(async_ticks())


configure(_plain, _stream)
app = limited(get_asgi_application())
