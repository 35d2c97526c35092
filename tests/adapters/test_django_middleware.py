"""The entry of Django's MIDDLEWARE: what it charges, when it gives slots back, and whom it takes for the caller."""

import asyncio
import gc
import pickle
import traceback
from collections.abc import AsyncIterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.functional import SimpleLazyObject
from tests.adapters.django_site import ENTRY, Site

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Caller,
    Decision,
    Gate,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Rule,
    StaticKeys,
    WsgiRateLimitMiddleware,
)
from awx_ratelimit import RateLimitMiddleware as AsgiRateLimitMiddleware
from awx_ratelimit.adapters.django import DjangoUser, RateLimitMiddleware
from awx_ratelimit.testing import ManualClock

PLAN = Plan.of("p", per_minute=3, concurrent=1)
KEYS = {"alice": "p"}


def ok(_: HttpRequest) -> HttpResponse:
    """A view."""
    return HttpResponse("ok")


@pytest.fixture
def backend() -> MemoryBackend:
    """The limits of a test, at a time that stands still."""
    return MemoryBackend(clock=ManualClock(1_000_000_000))


@pytest.fixture
def free_slots(backend: MemoryBackend) -> Any:
    """The number of slots of a subject that are free."""
    return lambda subject="user_7": Limiter(backend).peek(subject, PLAN).usages[-1].remaining


def site(backend: MemoryBackend, **options: Any) -> Site:
    """A site with the entry, and three requests a minute for alice."""
    return Site({"": ok, "health": ok}, MIDDLEWARE=[ENTRY], AWX_RATELIMIT=settings(backend, **options))


def settings(backend: MemoryBackend, **options: Any) -> dict[str, Any]:
    """A configuration over `backend`."""
    return {"keys": KEYS, "plans": [PLAN], "backend": backend, "rules": [Rule("/health", exempt=True)], **options}


def users(backend: MemoryBackend, identify: Any = None) -> dict[str, Any]:
    """A configuration in which users are the callers."""
    return {"identify": identify or DjangoUser(plan="p"), "plans": [PLAN], "backend": backend}


def request(factory: Any = None) -> Any:
    """A request of the user 7."""
    made = (factory or RequestFactory()).get("/")
    made.user = SimpleNamespace(pk=7, is_authenticated=True)
    return made


def middleware(configured: dict[str, Any], view: Any) -> RateLimitMiddleware:
    """The entry around `view`, with a configuration."""
    with Site({}, AWX_RATELIMIT=configured).active():
        return RateLimitMiddleware(view)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("is_outside", [False, True], ids=["entry", "around Django"])
def test_decision_of_a_request(kind: str, is_outside: bool, backend: MemoryBackend) -> None:
    """A view finds the decision, and None if the path or the caller is exempt, also if a middleware around decides."""

    def view(request: HttpRequest) -> HttpResponse:
        found = request.META.get("awx_ratelimit.decision")
        if isinstance(request, ASGIRequest):
            assert is_outside or request.scope["state"]["rate_limit"] is found
            found = request.scope["state"]["rate_limit"]
        return HttpResponse(str(found))

    keys = {"alice": "p", "monitor": Caller("monitor", exempt=True), "unlimited": Plan.unlimited("u")}
    options = settings(backend, keys=keys)
    around: Any = WsgiRateLimitMiddleware if kind == "wsgi" else AsgiRateLimitMiddleware
    made = Site({"": view, "health": view}, MIDDLEWARE=[] if is_outside else [ENTRY], AWX_RATELIMIT=options)
    get = getattr(made, kind)((lambda app: around(app, **options)) if is_outside else None)

    requests = [("/", "alice"), ("/health", "alice"), ("/", "monitor"), ("/", "unlimited")]
    seen = [get(*each).body for each in requests]

    assert seen[1:3] == [b"None"] * 2
    assert [text.startswith(b"<Decision allowed") for text in seen] == [True, False, False, True]


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_decision_with_one_gate(kind: str, backend: MemoryBackend) -> None:
    """A view finds the decision in META too if the entry and a middleware around Django have the same gate."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(request.META["awx_ratelimit.decision"]))

    parts: Any = {"plans": PlanTable([PLAN], default="p"), "identify": StaticKeys({"alice": "p"})}
    parts["rules"] = [Rule("/health", exempt=True)]
    around: Any = WsgiRateLimitMiddleware if kind == "wsgi" else AsgiRateLimitMiddleware
    gate = Gate(Limiter(backend), **parts) if kind == "wsgi" else AsyncGate(AsyncLimiter(backend), **parts)
    made = Site({"": view, "health": view}, MIDDLEWARE=[ENTRY], AWX_RATELIMIT={"gate": gate})
    get = getattr(made, kind)(lambda app: around(app, gate=gate))

    assert get("/", "alice").body.startswith(b"<Decision allowed: 1")
    assert get("/health").body == b"None"


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_limits(kind: str, backend: MemoryBackend) -> None:
    """Three requests are admitted, the fourth is a 429 that no view sees, and an exempt path and a 401 cost nothing."""
    get = getattr(site(backend), kind)()

    assert get("/").status == 401
    assert get("/health").status == 200
    answers = [get("/", "alice") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"minute";r=2;t=40')
    assert answers[3].headers["retry-after"] == "20"
    assert answers[3].headers["cache-control"] == "no-store"
    assert answers[3].body.startswith(b'{"code":"rate_limit_exceeded"')


def test_wsgi_and_asgi_share_limits(backend: MemoryBackend) -> None:
    """Both applications of one process count in one backend, also one that is given as a URL."""
    for used in (backend, "memory://", None):
        with Site({}, AWX_RATELIMIT=settings(backend) | {"backend": used}).active():
            both = [RateLimitMiddleware(ok), RateLimitMiddleware(ok_async)]

        assert both[0].gate._limiter.backend is both[1].gate._limiter.backend.backend


async def ok_async(_: HttpRequest) -> HttpResponse:
    """A view in an event loop."""
    return HttpResponse("ok")


def test_is_async_like_the_view(backend: MemoryBackend) -> None:
    """The entry is a coroutine function exactly if what it calls is one."""
    assert iscoroutinefunction(middleware(settings(backend), ok_async))
    assert not iscoroutinefunction(middleware(settings(backend), ok))


def test_stream_holds_its_slot(backend: MemoryBackend, free_slots: Any) -> None:
    """A streamed response holds its slot until it is closed."""
    call: Any = middleware(users(backend), lambda _: StreamingHttpResponse(iter([b"a", b"b"])))
    response = call(request())
    chunks = iter(response)

    assert next(chunks) == b"a"
    assert free_slots() == 0
    response.close()
    assert free_slots() == 1


def test_file_holds_its_slot(backend: MemoryBackend, free_slots: Any) -> None:
    """A file can still be sent by the server, which closes it by the response's own `close`."""
    call: Any = middleware(users(backend), lambda _: FileResponse(BytesIO(b"abc")))
    response = call(request())

    assert response.file_to_stream is not None
    assert free_slots() == 0
    response.close()
    assert free_slots() == 1


def test_async_stream_ends(backend: MemoryBackend, free_slots: Any) -> None:
    """The slot of a streamed response is free after the last chunk, before the handler closes the response."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def view(_: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(chunks())

    async def run() -> list[int]:
        call: Any = middleware(users(backend), view)
        made = request(AsyncRequestFactory())
        made.auser = auser
        response = await call(made)
        return [free_slots() async for _ in response] + [free_slots()]

    assert asyncio.run(run()) == [0, 0, 1]


def test_lost_response(backend: MemoryBackend, free_slots: Any) -> None:
    """The slot of a response that nobody closes is free when the response is collected."""
    call: Any = middleware(users(backend), lambda _: StreamingHttpResponse(iter([b"a"])))
    made = request()
    response = call(made)
    assert free_slots() == 0

    response._resource_closers.clear()
    del response, made
    gc.collect()
    assert free_slots() == 1


def test_cancelled_view(backend: MemoryBackend, free_slots: Any) -> None:
    """A client that hangs up while the view runs gets its slot back."""
    entered = asyncio.Event()

    async def view(_: HttpRequest) -> HttpResponse:
        entered.set()
        await asyncio.sleep(3600)
        return HttpResponse("ok")

    async def run() -> list[int]:
        made = request(AsyncRequestFactory())
        made.auser = auser
        call: Any = middleware(users(backend), view)
        task = asyncio.ensure_future(call(made))
        await entered.wait()
        held = free_slots()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [held, free_slots()]

    assert asyncio.run(run()) == [0, 1]


def test_view_that_raises(backend: MemoryBackend, free_slots: Any) -> None:
    """An error that leaves the view passes unchanged, and the slot is free."""

    def view(_: HttpRequest) -> HttpResponse:
        raise KeyboardInterrupt

    call: Any = middleware(users(backend), view)
    with pytest.raises(KeyboardInterrupt):
        call(request())

    assert free_slots() == 1


def test_cached_responses(backend: MemoryBackend) -> None:
    """Django's cache can pickle a limited response."""
    call: Any = middleware(users(backend), ok)

    assert pickle.loads(pickle.dumps(call(request()))).content == b"ok"


def test_refused_upload_is_drained(backend: MemoryBackend) -> None:
    """Before a refusal the body is read, but never beyond its length."""
    call: Any = middleware(settings(backend), ok)
    body = BytesIO(b"x" * 10)
    made = RequestFactory().post("/", b"", content_type="text/plain")
    made = type(made)(made.environ | {"wsgi.input": body, "CONTENT_LENGTH": "8"})

    assert call(made).status_code == 401
    assert body.tell() == 8


def test_replaced_headers(backend: MemoryBackend) -> None:
    """Headers of the same names that the view sends are replaced, and its names to expose are kept."""

    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse("ok", headers={"RateLimit": "mine", "Access-Control-Expose-Headers": "X-Mine"})

    call: Any = middleware(users(backend) | {"expose": True}, view)
    response = call(request())

    assert response["RateLimit"].startswith('"minute"')
    assert response["Access-Control-Expose-Headers"].startswith("X-Mine, retry-after")


def test_two_entries_decide_once(backend: MemoryBackend) -> None:
    """Two entries of the same settings charge a request once."""
    twice = Site({"": ok}, MIDDLEWARE=[ENTRY, ENTRY], AWX_RATELIMIT=settings(backend))

    assert twice.wsgi()("/", "alice").headers["ratelimit"].startswith('"minute";r=2')
    assert twice.asgi()("/", "alice").headers["ratelimit"].startswith('"minute";r=1')


def test_changed_path(backend: MemoryBackend) -> None:
    """A path that an earlier middleware has changed does not earn an exemption."""
    call: Any = middleware(settings(backend), ok)
    made = RequestFactory().get("/health")
    made.path_info = "/admin"

    assert call(RequestFactory().get("/health")).status_code == 200
    assert call(made).status_code == 401


async def auser() -> Any:
    """What Django's `request.auser` returns."""
    return SimpleNamespace(pk=7, is_authenticated=True)


def test_lazy_user_in_an_event_loop(backend: MemoryBackend) -> None:
    """Under ASGI the user is awaited, and the lazy `request.user`, which would query the database, is not touched."""

    def query() -> Any:
        raise AssertionError("a query in the event loop")

    made: Any = AsyncRequestFactory().get("/")
    made.user, made.auser = SimpleLazyObject(query), auser
    call: Any = middleware(users(backend), ok_async)

    response = asyncio.run(call(made))
    assert response["RateLimit"].startswith('"minute";r=2')
    assert Limiter(backend).peek("user_7", PLAN).usages[0].remaining == 2


def test_lazy_user_without_auser(backend: MemoryBackend) -> None:
    """Under ASGI a lazy user of another middleware, which cannot be awaited, is loaded in a thread."""

    def query() -> Any:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return SimpleNamespace(pk=7, is_authenticated=True)

    made: Any = AsyncRequestFactory().get("/")
    made.user = SimpleLazyObject(query)
    call: Any = middleware(users(backend), ok_async)

    assert asyncio.run(call(made)).status_code == 200
    assert Limiter(backend).peek("user_7", PLAN).usages[0].remaining == 2


def test_plain_identify_in_an_event_loop(backend: MemoryBackend) -> None:
    """A function of the project's own runs in a thread, where it may query the database."""

    def identify(made: Any) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return f"user_{made.user.pk}"

    call: Any = middleware(users(backend, identify), ok_async)
    response = asyncio.run(call(request(AsyncRequestFactory())))

    assert response.status_code == 200
    assert Limiter(backend).peek("user_7", PLAN).usages[0].remaining == 2


def test_async_identify_in_a_thread(backend: MemoryBackend) -> None:
    """An async function serves WSGI, too."""

    async def identify(made: Any) -> str:
        return f"user_{made.user.pk}"

    call: Any = middleware(users(backend, identify), ok)

    assert call(request()).status_code == 200


def test_plan_of_a_user(backend: MemoryBackend) -> None:
    """A function of the user chooses the plan; anonymous users have no caller."""
    identify = DjangoUser(plan=lambda user: "p" if user.pk == 7 else None)
    call: Any = middleware(users(backend, identify), ok)
    anonymous = request()
    anonymous.user = SimpleNamespace(pk=None, is_authenticated=False)
    refused = call(anonymous)

    assert call(request())["RateLimit-Policy"].startswith('"minute";q=3')
    assert refused.status_code == 401
    assert "X-API-Key" not in refused["WWW-Authenticate"]


def test_user_without_authentication(backend: MemoryBackend) -> None:
    """Without AuthenticationMiddleware the error says where the entry belongs."""
    call: Any = middleware(users(backend), ok)

    with pytest.raises(TypeError, match="after AuthenticationMiddleware in MIDDLEWARE"):
        call(RequestFactory().get("/"))


@pytest.mark.parametrize(
    ("configured", "error"),
    [
        (None, "AWX_RATELIMIT: expected a dictionary, got None"),
        ({}, "AWX_RATELIMIT: keys, identify, anonymous: expected one of them, got none"),
        ({"key": {}, "keys": KEYS}, "AWX_RATELIMIT: got the unknown option 'key'; write keys$"),
        ({"keys": KEYS, "plans": [PLAN], "identify": ok}, "AWX_RATELIMIT: keys, identify: expected one of them"),
        ({"keys": {"a": "gold"}}, "AWX_RATELIMIT: .*gold"),
        ({"identify": "no.such.function"}, "AWX_RATELIMIT: identify: expected a dotted path, got 'no.such.function'"),
        ({"identify": "os.path"}, "AWX_RATELIMIT: identify: expected a function"),
        (
            {"keys": {}, "anonymous": "starter"},
            r"anonymous: expected a Plan or the dotted path of one, got 'starter', .*; write Plan.of\('starter', ",
        ),
        ({"keys": {}, "backend": "rediss"}, "AWX_RATELIMIT: .*rediss"),
        ({"keys": {}, "plans": "/no/such/plans.toml"}, "AWX_RATELIMIT: .*/no/such/plans.toml"),
        ({"keys": {}, "headers": "drafts"}, "AWX_RATELIMIT: headers: expected one of"),
        ({"keys": {}, "max_drain_bytes": -1}, "AWX_RATELIMIT: max_drain_bytes"),
        ({"gate": 5}, "AWX_RATELIMIT: gate: expected one of the type Gate for WSGI, got an int"),
        (
            {"keys": {}, "listeners": ["os.sep"]},
            r"AWX_RATELIMIT: listeners\[0\]: expected a function that takes a Decision",
        ),
        ({"keys": {}, "listeners": print}, "AWX_RATELIMIT: listeners: expected a list"),
        ({"gate": 5, "plans": [PLAN]}, "AWX_RATELIMIT: gate: expected no other options beside it, got plans"),
    ],
)
def test_wrong_settings(configured: Any, error: str) -> None:
    """A mistake in the settings is one ImproperlyConfigured, when the middleware is made."""
    with pytest.raises(ImproperlyConfigured, match=error):
        middleware(configured, ok)


def test_key_instead_of_keys() -> None:
    """A key where the mapping of keys belongs is not in the error."""
    key = "awx_secret_key"
    with pytest.raises(ImproperlyConfigured, match="keys: expected a mapping of keys to plans") as error:
        middleware({"keys": key}, ok)

    assert key not in "".join(traceback.format_exception(error.value))


def test_dotted_paths(backend: MemoryBackend) -> None:
    """Functions, rules and plans may be given by their dotted paths."""
    here = __name__
    configured = {
        "identify": f"{here}.identify_nobody",
        "plans": [PLAN],
        "anonymous": f"{here}.PLAN",
        "rules": f"{here}.RULES",
        "backend": backend,
    }
    get = Site({"": ok, "free": ok}, MIDDLEWARE=[ENTRY], AWX_RATELIMIT=configured).wsgi()

    assert [get("/").status for _ in range(4)] == [200, 200, 200, 429]
    assert get("/free").status == 200


def test_listeners(backend: MemoryBackend) -> None:
    """Listeners hear the decisions of both protocols, and may be given by their dotted paths."""
    HEARD.clear()
    configured = {**settings(backend), "listeners": [f"{__name__}.hear"]}
    site = Site({"": ok}, MIDDLEWARE=[ENTRY], AWX_RATELIMIT=configured)

    site.wsgi()("/", "alice")
    site.asgi()("/", "alice")

    assert len(HEARD) == 2


HEARD: list[Decision] = []


def hear(decision: Decision) -> None:
    """A listener."""
    HEARD.append(decision)


RULES = [Rule("/free", exempt=True)]


def identify_nobody(_: Any) -> None:
    """Every client counts by its address."""


def test_body_of_a_stream_is_unchanged(backend: MemoryBackend) -> None:
    """Chunks of streamed responses pass unchanged, under both protocols, also those of plain iterators under ASGI."""
    streams = Site(
        {"": lambda _: FileResponse(BytesIO(b"ab")), "s": lambda _: StreamingHttpResponse(["a", "b"])},
        MIDDLEWARE=[ENTRY],
        AWX_RATELIMIT=settings(backend),
    )
    for path in ("/", "/s"):
        with pytest.warns(Warning, match="asynchronous iterator"):
            assert streams.asgi()(path, "alice").body == b"ab"
    assert streams.wsgi()("/s", "alice").body == b"ab"
