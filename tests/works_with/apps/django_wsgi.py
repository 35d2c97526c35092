"""Django on WSGI."""

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from tests.works_with.apps.django_urls import configure
from tests.works_with.limits import ticks, wsgi_limited


def _plain(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def _stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(ticks())


configure(_plain, _stream)
app = wsgi_limited(get_wsgi_application())
