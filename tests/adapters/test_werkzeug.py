"""The WSGI middleware beyond the adapter contract."""

import gc
import io
import wsgiref.util
from typing import Any

import pytest

from awx_ratelimit import Caller, Gate, Limiter, MemoryBackend, Plan, PlanTable, StaticKeys
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware

PLAN = Plan.of("one", per_minute=50, concurrent=1)
SUBJECT = StaticKeys({"awx_example": "one"})._callers.popitem()[1].subject


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(MemoryBackend())


@pytest.fixture
def gate(limiter: Limiter) -> Gate:
    return Gate(limiter, plans=PlanTable([PLAN]), identify=StaticKeys({"awx_example": "one"}))


def environ(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"HTTP_X_API_KEY": "awx_example"} | more
    wsgiref.util.setup_testing_defaults(made)
    return made


def free_slots(limiter: Limiter) -> int:
    return limiter.peek(SUBJECT, PLAN).usages[-1].remaining


def ignore(*_: Any) -> Any:
    return lambda _: None


def test_file_wrapper(gate: Gate, limiter: Limiter) -> None:
    """A file stays the server's own wrapper, so it is sent without copying, and closing it releases the slot."""
    file = io.BytesIO(b"x" * 100)
    app = RateLimitMiddleware(lambda environ, _: environ["wsgi.file_wrapper"](file), gate=gate)

    body: Any = app(environ(**{"wsgi.file_wrapper": wsgiref.util.FileWrapper}), ignore)
    during = free_slots(limiter)
    body.close()

    assert type(body) is wsgiref.util.FileWrapper
    assert during == 0
    assert file.closed is True
    assert free_slots(limiter) == 1


def test_file_wrapper_without_attributes(gate: Gate, limiter: Limiter) -> None:
    """A file wrapper written in C is wrapped like any other body."""

    class Wrapper:
        __slots__ = ()

        def __iter__(self) -> Any:
            return iter([b"x"])

        def close(self) -> None: ...

    app = RateLimitMiddleware(lambda environ, _: environ["wsgi.file_wrapper"](), gate=gate)
    body: Any = app(environ(**{"wsgi.file_wrapper": Wrapper}), ignore)
    during, sent = free_slots(limiter), list(body)
    body.close()

    assert during == 0
    assert sent == [b"x"]
    assert free_slots(limiter) == 1


def test_unclosed_file(gate: Gate, limiter: Limiter) -> None:
    """A file wrapper that the server drops releases its slot when it is collected."""
    app = RateLimitMiddleware(lambda environ, _: environ["wsgi.file_wrapper"](io.BytesIO()), gate=gate)
    body: Any = app(environ(**{"wsgi.file_wrapper": wsgiref.util.FileWrapper}), ignore)
    during = free_slots(limiter)

    del body
    gc.collect()

    assert during == 0
    assert free_slots(limiter) == 1


def test_iterator_holds_the_slot(gate: Gate, limiter: Limiter) -> None:
    """A loop over the body holds the slot while it runs, although it refers only to the iterator."""
    app = RateLimitMiddleware(lambda *_: iter([b"a", b"b"]), gate=gate)
    free = [free_slots(limiter) for _ in app(environ(), ignore)]

    assert free == [0, 0]
    assert free_slots(limiter) == 1


@pytest.mark.parametrize("body", [[b"abc"], (b"a", b"b"), []])
def test_sized_body(gate: Gate, body: Any) -> None:
    """A body with a length keeps it, so servers can send a Content-Length."""
    wrapped: Any = RateLimitMiddleware(lambda *_: body, gate=gate)(environ(), ignore)

    assert len(wrapped) == len(body)
    assert list(wrapped) == list(body)


def test_unsized_body(gate: Gate) -> None:
    """A body without a length does not get one."""
    assert not hasattr(RateLimitMiddleware(lambda *_: iter([b"a"]), gate=gate)(environ(), ignore), "__len__")


def test_write_and_exc_info(gate: Gate) -> None:
    """The app gets the server's `write`, and a second start_response with exc_info gets the headers too."""
    calls: list[Any] = []
    written: list[bytes] = []

    def server_start(*arguments: Any) -> Any:
        calls.append(arguments)
        return written.append

    def app(_environ: Any, start: Any) -> Any:
        start("200 OK", [("RateLimit", "mine")])(b"early")
        start("500 Oops", [], ("type", "value", "traceback"))
        return []

    RateLimitMiddleware(app, gate=gate)(environ(), server_start)

    names = [[name for name, _ in call[1]] for call in calls]
    assert written == [b"early"]
    assert names == [["ratelimit-policy", "ratelimit"]] * 2
    assert calls[1][2] == ("type", "value", "traceback")


def test_late_start_response(gate: Gate) -> None:
    """An app that calls start_response while its body is read gets the headers like any other."""
    started: list[Any] = []

    def app(_environ: Any, start: Any) -> Any:
        start("200 OK", [])
        yield b"x"

    body = RateLimitMiddleware(app, gate=gate)(environ(), lambda *arguments: started.append(arguments))
    assert list(body) == [b"x"]
    assert [name for name, _ in started[0][1]] == ["ratelimit-policy", "ratelimit"]


def test_app_error_releases_the_slot(gate: Gate, limiter: Limiter) -> None:
    """If the app raises, the slot is released before the error is handled."""
    app = RateLimitMiddleware(lambda *_: 1 / 0, gate=gate)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError) as caught:
        app(environ(), ignore)

    assert caught.tb is not None
    assert free_slots(limiter) == 1


def test_close_error_releases_the_slot(gate: Gate, limiter: Limiter) -> None:
    """If the body's `close` raises, the error passes through and the slot is released."""

    class Body(list[bytes]):
        def close(self) -> None:
            raise ZeroDivisionError

    body: Any = RateLimitMiddleware(lambda *_: Body(), gate=gate)(environ(), ignore)
    with pytest.raises(ZeroDivisionError):
        body.close()

    assert free_slots(limiter) == 1


def test_refusal_by_an_inner_gate(gate: Gate, limiter: Limiter) -> None:
    """If an inner gate refuses, the client sees its headers, and the outer gate releases its slot."""
    tight = Plan.of("tight", per_day=1)
    inner = Gate(limiter, plans=PlanTable([tight], default="tight"), identify=lambda _: Caller("other"))
    app = RateLimitMiddleware(RateLimitMiddleware(lambda *_: [b""], gate=inner), gate=gate)
    started: list[Any] = []
    for _ in range(2):
        body: Any = app(environ(), lambda *arguments: started.append(arguments))
        body.close()

    assert started[-1][0] == "429 Too Many Requests"
    assert dict(started[-1][1])["ratelimit"] == '"day";r=0;t=86400'
    assert free_slots(limiter) == 1


def test_same_gate_twice(gate: Gate, limiter: Limiter) -> None:
    """A request that passes the same gate twice is charged once."""
    app = RateLimitMiddleware(RateLimitMiddleware(lambda *_: [b""], gate=gate), gate=gate)
    app(environ(), ignore)

    assert limiter.peek(SUBJECT, PLAN).usages[0].remaining == 49


@pytest.mark.parametrize(
    ("names", "path"),
    [
        ({"SCRIPT_NAME": "/api", "PATH_INFO": "/v1"}, "/api/v1"),
        ({"PATH_INFO": "/caf\u00c3\u00a9"}, "/caf\u00e9"),
        ({"PATH_INFO": "/\u00ff"}, "/\ufffd"),
        ({"SCRIPT_NAME": "/api", "PATH_INFO": ""}, "/api"),
        ({"SCRIPT_NAME": "", "PATH_INFO": ""}, "/"),
    ],
)
def test_path(limiter: Limiter, names: dict[str, str], path: str) -> None:
    """The path is decoded as UTF-8 and includes the mount prefix, as on ASGI."""
    seen: list[str] = []
    gate = Gate(limiter, plans=PlanTable([PLAN]), identify=lambda request: seen.append(request.path))

    RateLimitMiddleware(lambda *_: [], gate=gate)(environ() | names, ignore)

    assert seen == [path]
