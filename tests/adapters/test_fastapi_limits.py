"""`limit` in FastAPI: WebSockets, routers, names and the OpenAPI document."""

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any
from unittest.mock import create_autospec

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse
from starlette.testclient import TestClient, WebSocketDenialResponse

from awx_ratelimit import InvalidLimit, Plan, Rate
from awx_ratelimit.adapters import flask, quart, starlette
from awx_ratelimit.adapters.asgi.route_limits import default_gate
from awx_ratelimit.adapters.fastapi import limit


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    """Limits without a gate begin with empty buckets."""
    default_gate.cache_clear()


def policy(app: FastAPI, path: str, method: str = "GET") -> str:
    return TestClient(app).request(method, path).headers["ratelimit-policy"]


def limited(text: str = "1/minute", **options: Any) -> Any:
    return [Depends(limit(text, **options))]


def test_router_dependency() -> None:
    """A limit of a router is a limit of each of its routes."""
    app, router = FastAPI(), APIRouter(prefix="/v1", dependencies=limited())

    @router.get("/one")
    async def one() -> None: ...

    @router.get("/two")
    async def two() -> None: ...

    app.include_router(router)

    assert policy(app, "/v1/one") == '"one.minute";q=1;w=60'
    assert policy(app, "/v1/two") == '"two.minute";q=1;w=60'
    assert TestClient(app).get("/v1/one").status_code == 429


def test_equal_names() -> None:
    """Routes with one name have buckets of their own, also if they are one function that is included twice."""
    app, router = FastAPI(), APIRouter()

    @router.get("/list", dependencies=limited())
    async def listed() -> None: ...

    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2")

    statuses = [TestClient(app).get(f"/{version}/list").status_code for version in ("v1", "v2", "v1")]

    assert statuses == [200, 200, 429]
    assert policy(app, "/v1/list") != policy(app, "/v2/list")


def test_methods_of_one_path() -> None:
    """The functions of one path have buckets of their own."""
    app = FastAPI()

    @app.get("/items", dependencies=limited())
    async def read() -> None: ...

    @app.post("/items", dependencies=limited())
    async def write() -> None: ...

    assert policy(app, "/items") == '"read.minute";q=1;w=60'
    assert policy(app, "/items", "POST") == '"write.minute";q=1;w=60'


def test_methods_of_one_name() -> None:
    """Two routes of one name and one path have buckets of their own below one limit."""
    app = FastAPI(dependencies=limited())

    @app.get("/items", name="items")
    async def read() -> None: ...

    @app.post("/items", name="items")
    async def write() -> None: ...

    client = TestClient(app)

    assert [client.request(method, "/items").status_code for method in ("GET", "POST", "GET")] == [200, 200, 429]


@pytest.mark.parametrize("shared", [True, False])
def test_mounted_apps(shared: bool) -> None:
    """Routes of one name and path in different mounted apps have buckets of their own, also below one limit."""
    app, first, second = FastAPI(), FastAPI(), FastAPI()
    one = limited()

    @app.get("/list", name="list", dependencies=one if shared else limited())
    async def outer() -> None: ...

    @first.get("/list", name="list", dependencies=one if shared else limited())
    async def in_first() -> None: ...

    @second.get("/list", name="list", dependencies=one if shared else limited())
    async def in_second() -> None: ...

    app.mount("/v1", first)
    app.mount("/v2", second)
    client = TestClient(app)

    statuses = [client.get(f"{prefix}/list").status_code for prefix in ("", "/v1", "/v2", "/v1")]

    assert statuses == [200, 200, 200, 429]


def test_path_parameters_do_not_matter() -> None:
    """A route has one bucket, whatever is in its path."""
    app = FastAPI()

    @app.get("/items/{item_id}", dependencies=limited())
    async def item(item_id: str) -> str:
        return item_id

    assert [TestClient(app).get(f"/items/{number}").status_code for number in range(3)] == [200, 429, 429]


def test_one_dependency_at_two_levels() -> None:
    """A limit that a request meets twice counts it once."""
    app, once = FastAPI(), limit("2/minute")

    @app.get("/once", dependencies=[Depends(once), Depends(once)])
    async def once_only(_: Annotated[None, Depends(once)]) -> None: ...

    assert [TestClient(app).get("/once").status_code for _ in range(3)] == [200, 200, 429]


def test_parameters_are_kept() -> None:
    """A decorated endpoint has the parameters of its function, and no other."""
    app = FastAPI()

    @app.get("/sum/{a}")
    @limit("5/minute")
    def total(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    operation = app.openapi()["paths"]["/sum/{a}"]["get"]

    assert TestClient(app).get("/sum/1?b=4").json() == 5
    assert [parameter["name"] for parameter in operation["parameters"]] == ["a", "b"]
    assert operation["description"] == "Adds."


@pytest.mark.parametrize("as_decorator", [False, True])
def test_openapi(as_decorator: bool) -> None:
    """The document has the 429 of limited routes only, with its headers and body."""
    app = FastAPI()
    if as_decorator:
        app.get("/limited")(limit("5/minute")(lambda: None))
    else:
        app.get("/limited", dependencies=limited())(lambda: None)
    app.get("/free")(lambda: None)

    document = app.openapi()

    responses = document["paths"]["/limited"]["get"]["responses"]
    assert set(responses) == {"200", "429"}
    assert "Retry-After" in responses["429"]["headers"]
    assert set(document["paths"]["/free"]["get"]["responses"]) == {"200"}
    assert "RateLimitError" in document["components"]["schemas"]
    assert app.openapi() == document


@pytest.mark.parametrize("as_decorator", [False, True])
def test_websocket(as_decorator: bool) -> None:
    """A refused WebSocket gets the 429 at its handshake."""
    app = FastAPI()

    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    if as_decorator:
        app.websocket("/ws")(limit("1/minute")(accept))
    else:
        app.websocket("/ws", dependencies=limited())(accept)
    client = TestClient(app)

    with client.websocket_connect("/ws"):
        pass
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/ws"):
        pass

    assert denied.value.status_code == 429
    assert denied.value.headers["retry-after"]


def test_own_handler() -> None:
    """An app's own handler of the status 429 gets the refusal, with its headers."""
    app = FastAPI()

    @app.exception_handler(429)
    async def own(_: Any, refused: HTTPException) -> JSONResponse:
        return JSONResponse({"own": True}, 429, headers=refused.headers)

    app.get("/limited", dependencies=limited())(lambda: None)
    client = TestClient(app)

    client.get("/limited")
    refused = client.get("/limited")

    assert refused.json() == {"own": True}
    assert refused.headers["retry-after"]


def test_problem_document() -> None:
    """A client that prefers problem documents learns which limit refused it."""
    app = FastAPI()
    app.get("/limited", name="limited", dependencies=limited())(lambda: None)
    client = TestClient(app, headers={"accept": "application/problem+json"})

    client.get("/limited")

    assert client.get("/limited").json()["violated-policies"] == ["limited.minute"]


def test_forms_of_a_limit() -> None:
    """A limit is a notation, a Rate or a Plan of several rates."""
    app = FastAPI()
    limits: list[Any] = ["5/minute", Rate.parse("7/hour", name="slow"), Plan.of("p", per_minute=3, per_day=9)]
    for number, each in enumerate(limits):
        app.get(f"/{number}", name=f"route{number}", dependencies=[Depends(limit(each))])(lambda: None)

    assert [policy(app, f"/{number}") for number in range(3)] == [
        '"route0.minute";q=5;w=60',
        '"route1.slow";q=7;w=3600',
        '"route2.minute";q=3;w=60, "route2.day";q=9;w=86400',
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("5 per fortnight",), "expected one rate"),
        ((5,), "limit: expected a notation such as '30/minute', a Rate or a Plan, got 5"),
        ((["5/minute", "9/day"],), "got a list; write Plan.of\\('limits', per_minute=5, per_hour=100\\) for several"),
        (
            (lambda: "5/minute",),
            'got the function .*<lambda>; write @limit\\("30/minute"\\). If the limit varies, write the largest one, '
            'and a cost: @limit\\("30/minute", cost=function\\), where the function takes the Request; see '
            "docs/route-limits.md#a-limit-that-depends-on-the-caller",
        ),
        ((Plan.of("p", per_day=5, account=Plan.of("a", per_day=5)),), "limit: expected a plan with limits and without"),
        ((Plan.unlimited("p"),), "limit: expected a plan with limits and without an account"),
        (("5/minute", {"per": "key"}), "per: expected one of 'caller', 'account', 'address', 'everyone', or a plain"),
        (("5/minute", {"cost": 6}), "cost: expected at most 5, the burst of the limit, got 6"),
        (("5/minute", {"cost": "1"}), "cost: expected an integer >= 0 or a plain function"),
        (("5/minute", {"scope": "Too Long"}), "scope: expected 1 to 32 of a-z, 0-9, _ and -"),
    ],
)
def test_mistakes(arguments: tuple[Any, ...], error: str) -> None:
    """A wrong argument is refused when the limit is written."""
    options = arguments[1] if len(arguments) > 1 else {}

    with pytest.raises((InvalidLimit, TypeError), match=error):
        limit(arguments[0], **options)


@pytest.mark.parametrize(
    ("dependency", "error"),
    [
        (
            lambda: Depends(limit),
            "limit: expected a call in Depends, got the function; write Depends(limit('5/minute'))",
        ),
        (lambda: limit("5/minute"), "got a decorator; write Depends(limit('5/minute')), with the limit of awx_rate"),
        (lambda: Depends(starlette.limit("5/minute")), "with the limit of awx_ratelimit.adapters.fastapi"),
        (lambda: Depends(flask.limit("5/minute")), "with the limit of awx_ratelimit.adapters.fastapi"),
        (lambda: Depends(quart.limit("5/minute")), "with the limit of awx_ratelimit.adapters.fastapi"),
    ],
    ids=["function", "without Depends", "of Starlette", "of Flask", "of Quart"],
)
def test_wrong_dependencies(dependency: Callable[[], Any], error: str) -> None:
    """What is no dependency is an error when the route is made, which says what to write."""
    with pytest.raises(TypeError, match=re.escape(error)):
        FastAPI().get("/", dependencies=[dependency()])(lambda: None)


@pytest.mark.parametrize(
    "decorator",
    [limit("5/minute"), starlette.limit("5/minute"), flask.limit("5/minute"), quart.limit("5/minute")],
    ids=["FastAPI", "Starlette", "Flask", "Quart"],
)
def test_introspection(decorator: Any) -> None:
    """Programs that look at a decorator, such as debuggers and mocks, get no error."""
    assert not hasattr(decorator, "dependency")
    assert inspect.signature(decorator).parameters
    assert len(inspect.getmembers(decorator)) > 1
    assert create_autospec(decorator) is not None


def test_functions_of_the_request() -> None:
    """`per` and `cost` may be functions of the request."""
    app = FastAPI()
    per_tenant = limit("10/minute", per=lambda request: request.query("tenant") or "none", cost=lambda _: 4)
    app.get("/limited", dependencies=[Depends(per_tenant)])(lambda: None)
    client = TestClient(app)

    statuses = [client.get(f"/limited?tenant={tenant}").status_code for tenant in "aaabb"]

    assert statuses == [200, 200, 429, 200, 200]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"per": lambda _: 5}, "per: expected a non-empty string as the result, got 5"),
        ({"per": lambda _: ""}, "per: expected a non-empty string as the result, got ''"),
        ({"cost": lambda _: -1}, "cost: expected an integer >= 0 or a mapping such as .* as the result, got -1"),
    ],
)
def test_functions_that_are_wrong(options: Any, error: str) -> None:
    """A wrong result of such a function raises a TypeError that names it."""
    app = FastAPI()
    app.get("/limited", dependencies=[Depends(limit("10/minute", **options))])(lambda: None)

    with pytest.raises(TypeError, match=error):
        TestClient(app).get("/limited")
