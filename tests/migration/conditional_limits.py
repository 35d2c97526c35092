"""Scenarios of limits that count some requests only, and of limits in other places than a route."""

from tests.migration.observing import admitted, each, scenario
from tests.migration.sites import Site

KEY = "awx_example_key"
_DAY_S = 86_400


@scenario("6 times POST, then GET once, to a route with 5 a minute for POST")
def limit_of_a_method(site: Site) -> str:
    return each(*site.many("/drafts", 6, "POST")[-2:], site.get("/drafts"))


@scenario("8 requests with a key, then 8 without, to a route with 5 a minute for callers without a key")
def exempt_when(site: Site) -> str:
    return admitted([*(site.get("/feed", x_api_key=KEY) for _ in range(8)), *site.many("/feed", 8)])


@scenario("3 requests in the middle of a month, 3 more on the first day of the next one, to a route with 3 a month")
def month(site: Site) -> str:
    answers = site.many("/archive", 3)
    site.wait(16 * _DAY_S)  # from the 15th of a month of 30 days
    return admitted([*answers, *site.many("/archive", 3)])


@scenario("3 wrong codes, then the right one, to a route that answers 200 to both, with 3 wrong codes a minute")
def wrong_codes_by_body(site: Site) -> str:
    site.many("/safe?code=0", 3, "POST")
    return each(site.send("POST", f"/safe?code={site.module.CODE}"))


@scenario("10 right codes, then a wrong one, to a route that answers 200 to both, with 3 wrong codes a minute")
def right_codes_by_body(site: Site) -> str:
    right = site.many(f"/safe?code={site.module.CODE}", 10, "POST")
    return each(*right[-1:], site.send("POST", "/safe?code=0"))


@scenario("4 requests to each of two routes of a blueprint, with 3 a minute for each route")
def limit_of_a_blueprint(site: Site) -> str:
    return admitted(site.many("/orders/open", 4) + site.many("/orders/paid", 4))


@scenario("Status and body of the third request to a view with a limit inside, of 2 a minute")
def limit_in_a_view(site: Site) -> str:
    refused = site.many("/invite", 3, "POST")[-1]
    return f"{refused.status} `{refused.body.strip().replace(': ', ':')}`"
