"""The pages about all accounts: limits in shadow, the audit trail, and the explanation of a request."""

import re

import pytest
from tests.browser.site import PLANS, SECRET, Site
from tests.browser.site import operator as who
from tests.console.operator.conftest import OPERATOR, OperatorClient, sending
from tests.console.operator.test_account import text

from awx_ratelimit import Gate, Plan, StaticKeys
from awx_ratelimit.console import OperatorConsole
from awx_ratelimit.keys.models import ACTIONS


def test_shadow(client: OperatorClient, site: Site) -> None:
    """The page says what each limit in shadow would have refused, and whom."""
    site.account("other")
    site.record(site.key(client.account, "n"), 1, 10, shadows={"hour": 4, "account.day": 1})
    site.record(site.key("other", "n"), 2, 10, shadows={"hour": 3})
    page = text(client.get("/shadow").text)

    assert "Limit Requests Requests per hour 7 All keys together: requests per day 1" in page
    assert f"Account Requests {client.account} Requests per hour: 4; All keys together: requests per day: 1 5" in page
    assert "other Requests per hour: 3 3" in page
    site.clock.advance(3 * 24 * 3_600_000)
    assert "No limit in shadow would have refused a request" in client.get("/shadow?span=24-hours").text


@pytest.mark.parametrize("path", ["/shadow", "/account"])
def test_usage_is_not_recorded(client: OperatorClient, path: str) -> None:
    """Without a usage history the pages say how to record it."""
    assert "UsageHistory(store)" in client.get(path).text


def titles(page: str) -> list[str]:
    """The titles of the entries of the audit trail."""
    return [each.strip(": ") for each in re.findall(r'<span class="what">([^<]*)', page)]


def test_activity(client: OperatorClient, site: Site) -> None:
    """The audit trail is that of all accounts, and can be filtered by account and by change."""
    site.key(client.account, "prod")
    site.account("other")
    client.submit("/account/temporary", limits="[account]\nper_day = 5")
    page = client.get("/activity").text

    assert titles(page) == ["Temporary limits set", "Account created", "Key created", "Account created"]
    assert "times = 2, account.per_day = 5, until" in page
    assert f"operator:{OPERATOR}" in page
    assert titles(client.get("/activity?account=other").text) == ["Account created"]
    assert titles(client.get("/activity?action=key.created").text) == ["Key created"]
    assert titles(client.get("/activity?account=other&action=key.created").text) == []
    assert titles(client.get(f"/activity?account={client.account}&page=2").text) == []


def test_activity_of_resets(client: OperatorClient, site: Site) -> None:
    """A reset of usage names the key, and the scope if it is one."""
    key = site.key(client.account, "prod").id
    for subject, scope in ((key, None), (client.account, "login")):
        site.service.operator.record_reset(subject, scope)
    page = client.get("/activity").text

    assert titles(page)[:2] == ["Usage of the account reset", "Usage of a key reset"]
    assert key in text(page)
    assert text(page).count("in the scope login") == 1


def test_search(client: OperatorClient) -> None:
    """A search of the audit trail leads to the address of its result."""
    response = client.submit("/activity", account="a/b", action="key.created")

    assert response.header("location") == "/operator/activity?account=a%2Fb&action=key.created"


def test_all_actions_have_a_filter(client: OperatorClient) -> None:
    """Every action of the audit trail can be chosen."""
    values = re.findall(r'<option value="([^"]+)"', client.get("/activity").text)

    assert set(values) == set(ACTIONS)


class TestExplain:
    """The explanation of a request."""

    def test_refused(self, client: OperatorClient, site: Site) -> None:
        """It says which limits refuse the request of a key, charges nothing and is no use of the key."""
        key = site.key(client.account, "prod")
        site.held = site.use(key, "team", requests=58)
        for _ in range(2):
            page = text(client.submit("/explain", key_id=key.id).text)

            assert "POST /v1/transfers refused 429 rate_limit_exceeded" in page
            assert f"Caller {key.id} , plan team , account {client.account}" in page
            assert "Cost 5 requests" in page
            assert "Requests per minute 2 of 60 5 refuses room in 3 seconds" in page
            assert "All keys together: requests per minute 42 of 100 5 has room" in page
        assert site.service.get(client.account, key.id).last_used_at is None

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"path": "/health", "method": "GET"}, "A rule exempts this request from all limits."),
            ({"path": "/x?a=1"}, "none matches"),
            ({"key_id": ""}, "refused 401"),
        ],
    )
    def test_others(self, client: OperatorClient, site: Site, fields: dict[str, str], expected: str) -> None:
        """Exempt requests, paths without a rule, and requests without a key are explained too."""
        key = site.key(client.account, "prod")

        assert expected in text(client.submit("/explain", **{"key_id": key.id, **fields}).text)

    def test_suspended(self, client: OperatorClient, site: Site) -> None:
        """The key of a suspended account is refused as at the gate."""
        key = site.key(client.account, "prod")
        site.service.accounts.suspend(client.account)

        assert "refused 401" in text(client.submit("/explain", key_id=key.id).text)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"path": "v1"}, "Path: expected one such as /v1/transfers; nothing was explained."),
            ({"address": "localhost"}, "Address: expected an IP address such as 192.0.2.1; nothing was explained."),
            ({"method": "GE T"}, "Method: expected a name such as GET; nothing was explained."),
            ({"key_id": "key_1"}, "There is no such key; enter the id of a key, which begins with key_, or nothing."),
        ],
    )
    def test_mistake(self, client: OperatorClient, fields: dict[str, str], error: str) -> None:
        """A mistake is an error at its field."""
        response = client.submit("/explain", **fields)

        assert response.status == 400
        assert error in text(response.text)

    def test_address(self, site: Site) -> None:
        """The address is that of the client that sends the request."""
        public = Plan.of("public", per_minute=3)
        gate = Gate(site.limiter, plans=PLANS, identify=StaticKeys({}), anonymous=public)
        console = OperatorConsole(site.service, who=who, secret=SECRET, limiter=site.limiter, plans=PLANS, gate=gate)
        client = OperatorClient(sending(console), site.account())

        assert "Caller address:192.0.2.1 , plan public" in text(client.submit("/explain", address="192.0.2.1").text)

    def test_without_gate(self, site: Site) -> None:
        """Without a gate there is no such page, and no link to it."""
        console = OperatorConsole(site.service, who=who, secret=SECRET, limiter=site.limiter, plans=PLANS)
        client = OperatorClient(sending(console), site.account())

        assert client.get("/explain").status == 404
        assert "/explain" not in client.get("/account").text
