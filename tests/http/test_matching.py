"""The readings of paths and prefixes cannot make a request cheaper, and little of them is kept."""

import json
import tracemalloc
from urllib.parse import unquote

import pytest

from awx_ratelimit import Caller, Gate, Limiter, MemoryBackend, Plan, PlanTable, Request, Rule
from awx_ratelimit.adapters.asgi.scope import request_of as request_of_scope
from awx_ratelimit.adapters.wsgi.environ import request_of as request_of_environ
from awx_ratelimit.http.rules.path_readings import PREFIX_HEADERS, readings

PLAN = Plan.of("p", per_minute=1_000)
RULES = [
    Rule("/health", exempt=True),
    Rule("/static/**", exempt=True),
    Rule("/v1/transfers", cost=5),
    Rule("/login", budget="login", plan=Plan.of("login", per_minute=5)),
    Rule("/search/**", budget="search", plan=Plan.of("search", per_minute=50)),
    Rule("/poll/{id}", cost=0),
]


def gate(rules: list[Rule] = RULES) -> Gate:
    return Gate(Limiter(MemoryBackend()), plans=PlanTable([PLAN]), identify=lambda _: Caller("s", "p"), rules=rules)


def wsgi(path: str, script_name: str = "", **headers: str) -> Request:
    sent = {"REQUEST_METHOD": "GET", "PATH_INFO": path.encode().decode("latin-1"), "SCRIPT_NAME": script_name}
    return request_of_environ(sent | {f"HTTP_{name}": value for name, value in headers.items()})


def asgi(path: str, root_path: str = "", **headers: str) -> Request:
    lines = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return request_of_scope({"method": "GET", "path": path, "root_path": root_path, "headers": lines})


def cost(request: Request) -> int | None:
    """What a request is charged; None if it is exempt."""
    decision = gate().admit(request).decision
    return None if decision is None else decision.cost


def limits(request: Request) -> set[str]:
    """The limits that a request is charged against."""
    decision = gate().admit(request).decision
    return set() if decision is None else {usage.limit for usage in decision.usages}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../v1/secret", "/static/./a", "/static/..", "/static/%2e%2e/v1/secret", "/static/%2E./v1/secret",
        "/static/..;/v1/secret", "/static/..;a=b/v1/secret", "/static\\..\\v1\\secret", "/static/a%2fb",
        "/static/a%5cb", "/static/a\0", "/static/a\nb", "/static/\ufffd", "http://x/static/a", "static/a", "*", "",
    ],
)  # fmt: skip
def test_ambiguous_path_is_not_exempt(path: str) -> None:
    """Dot segments in any spelling, backslashes, control characters and targets without a slash are never exempt."""
    assert cost(asgi(path)) == 1
    assert cost(wsgi(path)) == 1


@pytest.mark.parametrize(
    "path",
    ["/static/a.css", "/static/.well-known/a", "/static/a..b", "/static/a;v=1", "/static//a", "/static/100%.png"],
)
def test_unambiguous_path_is_exempt(path: str) -> None:
    """Dots within a name, parameters and percent signs do not end an exemption."""
    assert cost(asgi(path)) is None


@pytest.mark.parametrize(
    "path",
    [
        "/./v1/transfers", "/v1/x/../transfers", "/v1/transfers/.", "/static/../v1/transfers", "/v1/%2e/transfers",
        "/v1/transfers;x", "/v1;x/transfers", "/v1\\transfers", "//v1//transfers//", "/v1/transfers\n",
        "/v1/transfers#x", "/v1/trans\0fers", "/v1/transfers\0x", "/v1/trans\ufffdfers", "/@@v1/@@transfers", "http://x/v1/transfers",
        "http://[/v1/transfers", "http:/v1/transfers", " /v1/transfers", "v1/transfers", "http://x/v1/transfers?a", "http://x/./v1/transfers",
    ],
)  # fmt: skip
def test_most_expensive_reading(path: str) -> None:
    """A path costs as much as its most expensive reading."""
    assert cost(asgi(path)) == 5
    assert cost(wsgi(path)) == 5


@pytest.mark.parametrize("path", ["http://x/login", "/./login", "/login;x", "login", "/x/../login"])
def test_budget_of_a_reading(path: str) -> None:
    """A budget cannot be avoided by the spelling of a path."""
    assert "login.minute" in limits(asgi(path))


def test_two_readings() -> None:
    """The highest cost and every budget of all readings are charged in one decision."""
    request = asgi("/search/../v1/transfers;x", X_SCRIPT_NAME="/search/../v1")._replace(path="/search/..;/login")
    both = asgi("/search/x/../../v1/transfers")

    assert limits(request) >= {"login.minute", "search.minute"}
    assert limits(both) >= {"minute", "search.minute"}
    assert cost(both) == 5


@pytest.mark.parametrize("name", sorted(PREFIX_HEADERS))
@pytest.mark.parametrize("value", ["/static", "static", "/static/", "/x, /static", "/st%61tic"])
def test_sent_prefix(name: bytes, value: str) -> None:
    """The path without a prefix from a header counts too, wherever a middleware removes the prefix."""
    header = {name.decode().upper().replace("-", "_"): value}

    assert cost(wsgi("/v1/secret", "/static", **header)) == 1
    assert cost(wsgi("/static/v1/transfers", **header)) == 5
    assert cost(asgi("/static/v1/secret", **header)) == 1
    assert cost(asgi("/v1/transfers", "/static", **header)) == 5


@pytest.mark.parametrize("value", ["/static", "/static/", " /static"])
def test_prefix_in_any_header(value: str) -> None:
    """A mount prefix that is the value of any header earns no exemption, because it may come from there."""
    assert cost(wsgi("/v1/secret", "/static", X_MY_PROXY_BASE=value)) == 1
    assert cost(asgi("/v1/secret", "/static", X_MY_PROXY_BASE=value)) == 1


def test_prefix_is_the_whole_path() -> None:
    """If the prefix is the whole path, the application sees its root."""
    assert cost(wsgi("", "/health", X_SCRIPT_NAME="/health")) == 1
    assert cost(asgi("/health", "/health", X_SCRIPT_NAME="/health")) == 1
    assert cost(wsgi("", "/health")) is None


def test_prefix_is_not_cheaper() -> None:
    """A prefix never makes a path cheaper than the path without it."""
    assert cost(wsgi("/v1/secret", "/poll", X_SCRIPT_NAME="/poll")) == 1
    assert cost(wsgi("/v1/transfers", "/search", X_SCRIPT_NAME="/search")) == 5
    assert cost(wsgi("/x", "/poll")) == 0


@pytest.mark.parametrize("sent", ['"/static"', '"/st\\atic"', 'x, "/static"', '"/static/a,b"'])
def test_quoted_prefix(sent: str) -> None:
    """ProxyFix removes quotes and backslashes, so a quoted prefix counts as sent too."""
    moved = sent.removeprefix("x, ").strip('"').replace("\\", "")

    assert cost(wsgi("/v1/secret", moved, X_FORWARDED_PREFIX=sent)) == 1
    assert cost(wsgi("/v1/transfers", moved, X_FORWARDED_PREFIX=sent)) == 5
    assert cost(asgi("/v1/secret", moved, X_FORWARDED_PREFIX=sent)) == 1


def test_too_many_prefixes() -> None:
    """A prefix header that is too long costs the most that a request can cost."""
    request = asgi("/static/a", X_FORWARDED_PREFIX=",".join(["/x"] * 400))

    repeated = asgi("/static" * 26, X_FORWARDED_PREFIX="/static")

    for each in (request, repeated):
        assert cost(each) == 5
        assert limits(each) == {"minute", "login.minute", "search.minute"}


@pytest.mark.parametrize("header", ["/", "", "/stat", "/v1", "/static/a.css/b"])
def test_header_without_a_prefix_of_the_path(header: str) -> None:
    """A proxy's prefix header does not end the exemption of paths without that prefix."""
    assert cost(asgi("/static/a.css", X_FORWARDED_PREFIX=header)) is None
    assert cost(wsgi("/static/a.css", X_FORWARDED_PREFIX=header)) is None


def test_mounted_app() -> None:
    """Rules match the path with the mount prefix, whether or not the server includes it."""
    assert cost(wsgi("/a.css", "/static")) is None
    assert cost(wsgi("/transfers", "/v1")) == 5
    assert cost(asgi("/static/a.css", "/static")) is None
    assert cost(asgi("/a.css", "/static")) is None
    assert cost(asgi("/transfers", "/v1/")) == 5


def test_pyramid_virtual_root() -> None:
    """Pyramid prepends X-Vhm-Root to the path, so both paths count."""
    assert cost(wsgi("/health", X_VHM_ROOT="/v1/secret")) == 1
    assert cost(wsgi("/transfers", X_VHM_ROOT="/v1")) == 5
    assert cost(wsgi("/v1/transfers", X_VHM_ROOT="/static")) == 5


@pytest.mark.parametrize("path", ["/static/api/v1/secret", "/api/static/api/x", "/static/apix", "/api/api/static"])
def test_repeated_root_path(path: str) -> None:
    """Some frameworks remove the root path wherever it occurs first, so these paths are never exempt."""
    made = gate([Rule("/api/static/**", exempt=True), Rule("/api/v1/secret", cost=5)])
    decision = made.admit(asgi(path, "/api")).decision

    assert decision is not None
    assert decision.cost == (5 if "secret" in path else 1)


def test_absolute_target_under_a_root_path() -> None:
    """The path inside an absolute target counts."""
    decision = gate([Rule("/api/login", cost=5)]).admit(asgi("http://x/api/login", "/api")).decision

    assert decision is not None
    assert decision.cost == 5


FILES = [Rule("/static/**", exempt=True), Rule("/api/static/**", exempt=True), Rule("/api/files/{name}", cost=5)]
FILES += [Rule("/files/{name}", cost=5), Rule("/files/{name}/{part}", cost=7)]


def sent(target: str, root_path: str = "", path: str | None = None) -> int | None:
    """The cost of a request for `target`, which the server decodes; None if it is exempt."""
    whole = unquote(target) if path is None else path
    scope = {"method": "GET", "path": whole, "raw_path": target.encode(), "root_path": root_path, "headers": []}
    decision = gate(FILES).admit(request_of_scope(scope)).decision
    return None if decision is None else decision.cost


@pytest.mark.parametrize("target", ["/static%2fsecret", "/static%2Fv1", "/%2fstatic%2fa", "/static%2f..%2fv1"])
def test_escaped_slash_earns_no_exemption(target: str) -> None:
    """Frameworks that route on the path as it was sent take an escaped slash for a part of a segment."""
    assert sent(target) == 1
    assert sent(target, "/api", f"/api{unquote(target)}") == 1
    assert sent(target, "/api") == 1


@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("target", ["/files/a%2fb%2Fc", "/files/%2f", "/files/a%2fb%2fc%20", "//files/a%2fb%2fc/"])
def test_escaped_slash_costs_as_a_part_of_its_segment(target: str, root_path: str) -> None:
    """The most expensive of the two readings counts, with and without the root path in the sent path."""
    assert sent(target, root_path) == 5
    assert sent(root_path + target, root_path) == 5


def test_escaped_slash_costs_as_a_slash() -> None:
    """A framework that routes on the decoded path is charged as before."""
    assert sent("/files/a%2fb") == 7
    assert sent("/files/a%2fb%252fc") == 7


def test_escaped_slash_below_an_exemption() -> None:
    """A path that is exempt in both readings stays so."""
    assert sent("/static/@scope%2fname") is None
    assert sent("/api/static/@scope%2fname", "/api") is None
    assert sent("/static/a%20b") is None


def test_long_sent_path_with_an_escaped_slash() -> None:
    """It may mean anything, like any other long and unusual path."""
    assert sent(f"/static/{'%61' * 3_000}%2f") == 7


def test_cache_is_bounded() -> None:
    """Methods, paths and prefixes of any length and number use little memory."""
    made = gate()
    long = "x" * 60_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        text = f"{number}{long}"
        for method, path in ((text, "/"), ("GET", f"/{text}"), (text, f"/{text}"), ("GET", f"/;{text}")):
            made._policy.rule_for(Request(method, path, "192.0.2.1", lambda _: []))
    grown_by_long_bytes = tracemalloc.get_traced_memory()[0] - before
    for number in range(5_000):
        made._policy.rule_for(
            Request("GET", f"/static/{'y' * 150}/{number}/{number}", "192.0.2.1", lambda _: [b"/static"])
        )
    grown_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert grown_by_long_bytes < 1_000_000
    assert grown_bytes < 4_000_000


def test_very_long_path() -> None:
    """A path of more than 8,192 characters costs the most that any rule asks for."""
    for path in ("/static" + "/a" * 5_000, "/a" * 5_000, "/a" * 5_000 + "/poll/1"):
        assert cost(asgi(path)) == 5
        assert limits(wsgi(path)) == {"minute", "login.minute", "search.minute"}
    assert cost(asgi("/static" + "/a" * 4_000)) is None


@pytest.mark.parametrize("rules", [[], [Rule("/a", exempt=True)], [Rule("/a", methods=["POST"], cost=5)]])
def test_very_long_path_without_rules(rules: list[Rule]) -> None:
    """A long path costs one token if no rule can be meant, and is not exempt."""
    decision = gate(rules).admit(asgi("/a" * 5_000)).decision

    assert decision is not None
    assert decision.cost == 1


def test_many_budgets() -> None:
    """A path that may mean more than eight budgets is refused and charges nothing."""
    rules = [Rule(f"{'/{a}' * n}/x", budget=f"b{n}", plan=Plan.of("b", per_minute=5)) for n in range(1, 13)]
    replies = [gate(rules).admit(asgi("/a" * n + "/x", X_SCRIPT_NAME="/a")).reply for n in (8, 9)]
    long = gate(rules).admit(asgi("/a" * 5_000))

    assert replies[0] is None
    assert [reply and reply.status for reply in (replies[1], long.reply)] == [400, 400]
    assert (long.headers, long.decision) == ([], None)
    assert long.reply is not None
    assert json.loads(long.reply.body)["message"] == "The path is too long or ambiguous."


@pytest.mark.parametrize("piece", [";a/..", "%2e/", "\\", "/@@a", "/.\0"])
def test_unusual_long_path(piece: str) -> None:
    """A path that is long or has too many readings costs the most that any rule asks for."""
    path = f"/static/{piece * 3_000}"

    assert readings(path) == (False, None)
    assert cost(asgi(path)) == 5
    assert cost(asgi("/static/a;%2e\\.\0/@@x/..//%3b")) == 5


def test_number_of_readings() -> None:
    """All changes together produce at most 24 readings."""
    for path in ("/;%2e\\.\0/@@x/..//%3b\ufffd", "http://x/;%2e\\.\0/@@x/..//%3b\ufffd", "/a;b/../c", "x/./y;z"):
        found = readings(path).paths

        assert found is None or len(found) <= 24
