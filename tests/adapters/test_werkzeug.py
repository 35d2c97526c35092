"""What the WSGI adapter promises beyond the contract."""

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


def test_a_file_stays_the_servers_own_wrapper(gate: Gate, limiter: Limiter) -> None:
    """A file from the app stays the object of the server, sent without copying, and ends the slot."""
    file = io.BytesIO(b"x" * 100)
    app = RateLimitMiddleware(lambda environ, _: environ["wsgi.file_wrapper"](file), gate=gate)

    body: Any = app(environ(**{"wsgi.file_wrapper": wsgiref.util.FileWrapper}), ignore)
    during = free_slots(limiter)
    body.close()

    assert type(body) is wsgiref.util.FileWrapper
    assert during == 0
    assert file.closed is True
    assert free_slots(limiter) == 1


def test_a_wrapper_that_takes_no_attribute_is_limited_all_the_same(gate: Gate, limiter: Limiter) -> None:
    """A file wrapper written in C is wrapped like any body: sent, and its slot given back."""

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


def test_a_file_that_is_never_closed_gives_its_slot_back(gate: Gate, limiter: Limiter) -> None:
    """A file wrapper that a server drops gives its slot back when it is collected."""
    app = RateLimitMiddleware(lambda environ, _: environ["wsgi.file_wrapper"](io.BytesIO()), gate=gate)
    body: Any = app(environ(**{"wsgi.file_wrapper": wsgiref.util.FileWrapper}), ignore)
    during = free_slots(limiter)

    del body
    gc.collect()

    assert during == 0
    assert free_slots(limiter) == 1


def test_who_iterates_keeps_the_slot(gate: Gate, limiter: Limiter) -> None:
    """A loop over the body keeps the slot for as long as it runs, though it holds only the iterator."""
    app = RateLimitMiddleware(lambda *_: iter([b"a", b"b"]), gate=gate)
    free = [free_slots(limiter) for _ in app(environ(), ignore)]

    assert free == [0, 0]
    assert free_slots(limiter) == 1


@pytest.mark.parametrize("body", [[b"abc"], (b"a", b"b"), []])
def test_a_body_keeps_its_length(gate: Gate, body: Any) -> None:
    """A body of a known length is still one, for servers that send a Content-Length by it."""
    wrapped: Any = RateLimitMiddleware(lambda *_: body, gate=gate)(environ(), ignore)

    assert len(wrapped) == len(body)
    assert list(wrapped) == list(body)


def test_a_body_without_a_length_gets_none(gate: Gate) -> None:
    """A body whose length is unknown does not pretend to have one."""
    assert not hasattr(RateLimitMiddleware(lambda *_: iter([b"a"]), gate=gate)(environ(), ignore), "__len__")


def test_write_and_exc_info_reach_the_server(gate: Gate) -> None:
    """`write` comes back from the server, and a second start_response with exc_info gets there, with headers."""
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


def test_a_generator_that_starts_late_gets_its_headers(gate: Gate) -> None:
    """An app that calls start_response only when its body is read is limited and answered like any other."""
    started: list[Any] = []

    def app(_environ: Any, start: Any) -> Any:
        start("200 OK", [])
        yield b"x"

    body = RateLimitMiddleware(app, gate=gate)(environ(), lambda *arguments: started.append(arguments))
    assert list(body) == [b"x"]
    assert [name for name, _ in started[0][1]] == ["ratelimit-policy", "ratelimit"]


def test_the_slot_is_free_while_the_apps_error_is_looked_at(gate: Gate, limiter: Limiter) -> None:
    """An app that raises has given its slot back before its error is handled, not when the error is forgotten."""
    app = RateLimitMiddleware(lambda *_: 1 / 0, gate=gate)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError) as caught:
        app(environ(), ignore)

    assert caught.tb is not None
    assert free_slots(limiter) == 1


def test_the_slot_is_free_though_the_apps_close_raises(gate: Gate, limiter: Limiter) -> None:
    """What the body's own close raises comes through, and the slot is free."""

    class Body(list[bytes]):
        def close(self) -> None:
            raise ZeroDivisionError

    body: Any = RateLimitMiddleware(lambda *_: Body(), gate=gate)(environ(), ignore)
    with pytest.raises(ZeroDivisionError):
        body.close()

    assert free_slots(limiter) == 1


def test_another_gates_refusal_keeps_its_headers(gate: Gate, limiter: Limiter) -> None:
    """When an inner gate refuses, the client sees the limit that refused, and the outer gate's slot is free."""
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


def test_two_middlewares_with_one_gate_decide_once(gate: Gate, limiter: Limiter) -> None:
    """A request that meets the same gate twice is charged once."""
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
def test_the_path_is_decoded_and_whole(limiter: Limiter, names: dict[str, str], path: str) -> None:
    """`identify` and rules see the path as ASGI would say it: decoded as UTF-8, with the mount prefix."""
    seen: list[str] = []
    gate = Gate(limiter, plans=PlanTable([PLAN]), identify=lambda request: seen.append(request.path))

    RateLimitMiddleware(lambda *_: [], gate=gate)(environ() | names, ignore)

    assert seen == [path]
