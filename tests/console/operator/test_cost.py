"""The cost of a page does not grow with the accounts, or with the keys of one."""

from collections.abc import Iterator

import pytest
from tests.browser.site import DAY_MS, OPERATOR_SESSION, Site
from tests.console.operator.conftest import PAGES, sending
from tests.keys.store_probes import statements

from awx_ratelimit.keys import KeyStore
from awx_ratelimit.keys.storage.schema import ACCOUNTS, KEYS
from awx_ratelimit.keys.storage.usage import add
from awx_ratelimit.observability.subject_counts import HourUsage

COUNT = 1_000
QUERIES = ["/", "/?order=requests&span=48-hours", "/?prefix=m&plan=starter&status=active", "/account/live"]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    """A site with one account that has one key, and one with a thousand accounts, one of which has a thousand keys."""
    folder = tmp_path_factory.mktemp("many")
    made = []
    for number in (1, COUNT):
        store = KeyStore.open(folder / f"{number}.db")
        site = Site(store)
        site.account("many", max_keys=COUNT)
        site.record(site.key("many", "n"), 0, 1)
        _fill(site, number - 1)
        made.append(site)
    yield made
    for site in made:
        site.store.close()


def _fill(site: Site, number: int) -> None:
    """Add so many accounts, and so many keys and events to the account ``many``."""
    at_ms = site.clock.now_ms() - DAY_MS
    ids = [f"key_{each:016}" for each in range(number)]
    account = {"plan": "starter", "status": "active", "max_keys": 5, "created_at_ms": at_ms}
    row = {"account_id": "many", "name": "n", "prefix": "awx_", "last4": "abcd", "created_at_ms": at_ms}
    keys = [{**row, "id": key_id, "family_id": key_id, "key_hash": key_id.encode()} for key_id in ids]
    today_ms = site.clock.now_ms() // DAY_MS * DAY_MS
    usages = [HourUsage(each, today_ms, 5, 1, 1, today_ms, {"tokens": 5}, {"minute": 1}, {"hour": 1}) for each in ids]
    if ids:
        with site.store._engines.writing.begin() as connection:
            connection.execute(ACCOUNTS.insert(), [{**account, "id": f"m{each}"} for each in range(number)])
            connection.execute(KEYS.insert(), keys)
            add(connection, "other tests", 1, today_ms, usages)


@pytest.mark.parametrize("path", [*PAGES, *QUERIES])
def test_statements_per_page(sites: list[Site], path: str) -> None:
    """A page sends the same number of statements, at most ten, for one account or key and for a thousand."""
    counts = []
    for site in sites:
        where = f"{path}?id=many" if path.startswith("/account") else path
        with statements(site.store) as seen:
            response = sending(site.operator_console)(
                "GET", f"/operator{where}", {"accept": "text/html", "cookie": f"{OPERATOR_SESSION}=ann"}
            )
        assert response.status == 200
        counts.append(len(seen))

    assert counts[0] == counts[1] <= 10
