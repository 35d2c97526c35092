"""Django in one file, with limits around its WSGI and its ASGI application.

gunicorn examples.django_app:application
uvicorn examples.django_app:asgi_application
curl -i -H 'X-API-Key: awx_demo_starter' localhost:8000/v1/agents
"""

import os
from collections.abc import Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.http import require_safe

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, PlanTable, Rule, StaticKeys
from awx_ratelimit.adapters import starlette, werkzeug

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example"),
    )
    django.setup()


@require_safe
def agents(_: HttpRequest) -> JsonResponse:
    """List the agents of the caller's account."""
    return JsonResponse({"agents": ["atlas", "borea"]})


@require_safe
def report(_: HttpRequest) -> StreamingHttpResponse:
    """A streamed response holds its slot until it ends."""

    def lines() -> Iterator[str]:
        yield from (f"line {number}\n" for number in range(10))

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [path("v1/", include([path("agents", agents), path("report", report)]))]

# One backend, so both applications of this process share each key's limits.
backend = MemoryBackend()
plans = PlanTable.default()
keys = StaticKeys({"awx_demo_starter": "starter", "awx_demo_growth": "growth"})
rules = [Rule("/v1/report", cost=5)]

gate = Gate(Limiter(backend), plans=plans, identify=keys, rules=rules)
application = werkzeug.RateLimitMiddleware(get_wsgi_application(), gate=gate)

async_gate = AsyncGate(AsyncLimiter(backend), plans=plans, identify=keys, rules=rules)
asgi_application = starlette.RateLimitMiddleware(get_asgi_application(), gate=async_gate)
