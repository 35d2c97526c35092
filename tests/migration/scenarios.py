"""What clients do to the app of examples/migration, before and after the move, and what they observe.

A scenario is a function of a site. It returns what a client sees, in a few words, so that two observations are equal
if the apps behave alike. tools/migration.py writes the observations into the pages of docs/migration.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from limits.strategies import MovingWindowRateLimiter
from starlette.testclient import TestClient
from tests.migration import conditional_limits
from tests.migration.observing import REFUSED, SCENARIOS, Scenario, admitted, each, number_of, scenario
from tests.migration.sites import ADDRESS, Site

__all__ = ["SCENARIOS", "Scenario"]

KEY = conditional_limits.KEY


@scenario("8 requests at once to a route with 5 a minute")
def burst(site: Site) -> str:
    return admitted(site.many("/search", 8))


@scenario("12 requests at the same time to a route with 5 a minute")
def concurrent_burst(site: Site) -> str:
    return admitted(site.at_once("/search", 12))


@scenario("8 requests, and 5 of another address, to a route with 5 a minute")
def another_client(site: Site) -> str:
    return admitted([*site.many("/search", 8), *(site.get("/search", address="198.51.100.7") for _ in range(5))])


@scenario("8 requests, and 5 more after a minute, to a route with 5 a minute")
def after_the_window(site: Site) -> str:
    answers = site.many("/search", 8)
    site.wait(61)
    return admitted(answers + site.many("/search", 5))


@scenario("Status and body of a refused request")
def refusal(site: Site) -> str:
    refused = site.many("/search", 6)[-1]
    return f"{refused.status} `{refused.body.strip().replace(': ', ':')}`"


@scenario("`Retry-After` after 5 requests at once, and when the next one is admitted")
def retry_after(site: Site) -> str:
    told = site.many("/search", 6)[-1].headers.get("retry-after")
    waited = 0
    while waited < 90:
        # Peers charge no refused request to this limit in a way that would make the wait longer.
        site.wait(1)
        waited += 1
        if site.get("/search").status != REFUSED:
            break
    return f"{'none' if told is None else f'{told} s'}; admitted after {waited} s"


@scenario("Headers of an admitted request")
def headers(site: Site) -> str:
    found = site.get("/search").headers
    named = {name: found[name] for name in sorted(found) if "ratelimit" in name or name == "retry-after"}
    return "<br>".join(f"`{name}: {value}`" for name, value in named.items()) or "none"


@scenario("1 request, 4 more after 59 s, 5 more after 61 s, to a route with 5 a minute")
def edge_of_the_window(site: Site) -> str:
    answers = site.many("/search", 1)
    site.wait(59)
    answers += site.many("/search", 4)
    # Not exactly a minute after the first one: there, `limits` depends on when a thread of its own runs.
    site.wait(2)
    return admitted(answers + site.many("/search", 5))


@scenario("With the strategy `moving-window`: 1 request, 4 more after 59 s, 5 more after 61 s")
def edge_of_a_moving_window(site: Site) -> str:
    with _moving_window(site):
        return edge_of_the_window(site)


@scenario("A request every 7 seconds for two minutes, to a route with 5 a minute")
def greedy_client(site: Site) -> str:
    answers = []
    for _ in range(18):
        answers += site.many("/search", 1)
        site.wait(7)
    return admitted(answers)


@scenario("With the strategy `moving-window`: a request every 7 seconds for two minutes")
def greedy_client_in_a_moving_window(site: Site) -> str:
    with _moving_window(site):
        return greedy_client(site)


@contextmanager
def _moving_window(site: Site) -> Iterator[None]:
    limiter = getattr(site.module, "limiter", None)
    # The app after the move has no such limiter.
    if limiter is None:
        yield
        return
    with patch.object(limiter, "_limiter", MovingWindowRateLimiter(limiter.limiter.storage)):
        yield


@scenario("40 requests to an exempt route")
def exempt_route(site: Site) -> str:
    return admitted(site.many("/health", 40))


@scenario("40 requests to a path that does not exist")
def unknown_path(site: Site) -> str:
    return admitted(site.many("/nowhere", 40))


@scenario("31 requests to six routes, with 30 a minute for all routes together and more for each")
def limit_of_the_app(site: Site) -> str:
    answers = site.many("/notes", 10) + site.many("/search", 5) + site.many("/quotes", 2) + site.many("/prices", 4)
    return admitted(answers + site.many("/login", 3, "POST") + site.many("/notes/1", 7))


@scenario("30 requests to a route with 5 a minute, then one to another route, with 30 a minute for all routes together")
def refused_requests_and_the_app(site: Site) -> str:
    site.many("/search", 30)
    return each(site.get("/notes"))


@scenario("4 requests in each of four minutes, to a route with 2 a minute and 8 an hour")
def refused_requests_and_the_hour(site: Site) -> str:
    answers = []
    for _ in range(4):
        answers += site.many("/quotes", 4)
        site.wait(61)
    return admitted(answers)


@scenario("10 times GET and 10 times POST, by default 10 a minute for each route")
def methods(site: Site) -> str:
    return admitted(site.many("/notes", 10) + site.many("/notes", 10, "POST"))


@scenario("12 requests to `/notes/1` to `/notes/12`, by default 10 a minute for each route")
def path_parameters(site: Site) -> str:
    return admitted(site.get(f"/notes/{number}") for number in range(1, 13))


@scenario("12 requests to a route of an included router, by default 10 a minute")
def included_router(site: Site) -> str:
    return admitted(site.many("/teams/members", 12))


@scenario("40 requests to a mounted app, with 30 a minute for all routes together")
def mounted_app(site: Site) -> str:
    return admitted(site.many("/admin/users", 40))


@scenario("3 requests that cost 4 each, to a route with 10 a minute")
def cost(site: Site) -> str:
    return admitted(site.many("/export?rows=4", 3))


@scenario("Requests that cost 8, 8 and 2, to a route with 10 a minute")
def refused_cost(site: Site) -> str:
    return each(*(site.get(f"/export?rows={rows}") for rows in (8, 8, 2)))


@scenario("4 requests to a route, then 1 to a route that shares its 4 a minute")
def shared_limit(site: Site) -> str:
    return admitted([*site.many("/prices", 4), site.get("/rates")])


@scenario("3 logins with a key, then 1 without, to a route with 3 a minute for each address")
def by_address(site: Site) -> str:
    answers = [site.send("POST", "/login", x_api_key=KEY) for _ in range(3)]
    return admitted([*answers, site.send("POST", "/login")])


@scenario("3 wrong codes, then the right one, to a route with 3 wrong codes a minute")
def wrong_codes(site: Site) -> str:
    site.many("/unlock?code=0", 3, "POST")
    return each(site.send("POST", f"/unlock?code={site.module.CODE}"))


@scenario("10 right codes, then a wrong one, to a route with 3 wrong codes a minute")
def right_codes(site: Site) -> str:
    right = site.many(f"/unlock?code={site.module.CODE}", 10, "POST")
    return each(*right[-1:], site.send("POST", "/unlock?code=0"))


@scenario("8 wrong codes, each sent before the response to the one before, to a route with 3 a minute")
def parallel_guesses(site: Site) -> str:
    checked = []

    def is_code(code: str) -> bool:
        checked.append(code)
        if len(checked) < 8:
            site.send("POST", f"/unlock?code={len(checked)}")
        return False

    with patch.object(site.module, "is_code", is_code):
        site.send("POST", "/unlock?code=0")
    return f"{number_of(len(checked), 8)} checked"


@scenario("8 messages over a WebSocket, with 5 messages a minute")
def websocket_messages(site: Site) -> str:
    with TestClient(site.module.app, client=(ADDRESS, 4711)).websocket_connect("/chat") as connection:
        for _ in range(8):
            connection.send_text("hello")
        return f"{number_of([connection.receive_text() for _ in range(8)].count('hello'), 8)} answered"


@scenario("40 requests with 40 invented API keys, to a route with 5 a minute")
def invented_keys(site: Site) -> str:
    return admitted(site.get("/search", x_api_key=f"awx_invented_{number}") for number in range(40))


@scenario("20 requests with 20 invented `X-Forwarded-For`, to a route with 5 a minute")
def invented_addresses(site: Site) -> str:
    return admitted(site.get("/search", x_forwarded_for=f"203.0.113.{number}") for number in range(20))


@scenario("8 requests to a route with 5 a minute, while Redis is unreachable", is_outage=True)
def outage(site: Site) -> str:
    return admitted(site.many("/search", 8))
