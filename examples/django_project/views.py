"""Views that run in a thread, in an event loop, and as streams, and one of Django REST framework."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from django.contrib.auth import authenticate, login
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from awx_ratelimit.adapters.django import limit
from awx_ratelimit.adapters.drf import Throttle

LINES = 2_000
PAUSE_S = 0.02


@require_safe
def health(_: HttpRequest) -> HttpResponse:
    """Free: a rule exempts it."""
    return HttpResponse("ok")


@csrf_exempt  # programs log in, and send no cookie before that
@require_POST
@limit("5/minute", per="address")
def log_in(request: HttpRequest) -> HttpResponse:
    """Start a session. Guesses are limited by address."""
    user = authenticate(request, username=request.POST.get("username"), password=request.POST.get("password"))
    if user is None:
        return HttpResponse("wrong name or password", status=403)
    login(request, user)
    return HttpResponse(f"welcome, {user.get_username()}")


@require_safe
async def agents(request: HttpRequest) -> JsonResponse:
    """List the agents of the user."""
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "agents": ["atlas", "borea"]})


@require_safe
@limit("3/minute")
def search(_: HttpRequest) -> JsonResponse:
    """Expensive, so it has its own limit besides the plan."""
    return JsonResponse({"found": []})


@require_safe
def report(request: HttpRequest) -> StreamingHttpResponse:
    """A stream holds its slot until it ends or the client hangs up."""
    # Django streams async iterators under ASGI, and plain ones under WSGI.
    lines = async_lines() if hasattr(request, "scope") else plain_lines()
    return StreamingHttpResponse(lines, content_type="text/plain")


def plain_lines() -> Iterator[str]:
    """The lines of a report."""
    for number in range(LINES):
        yield f"line {number}\n"
        time.sleep(PAUSE_S)


async def async_lines() -> AsyncIterator[str]:
    """The lines of a report."""
    for number in range(LINES):
        yield f"line {number}\n"
        await asyncio.sleep(PAUSE_S)


class Burst(Throttle):
    """Views that name this class share three requests a minute for each caller."""

    rate = "3/minute"
    scope = "burst"  # the name of the limit: burst.minute


class Quotes(APIView):  # type: ignore[misc]  # the framework has no types
    """A view of Django REST framework."""

    throttle_classes = (Burst,)

    def get(self, _: Request) -> Response:
        """List the quotes."""
        return Response({"quotes": [1, 2]})
