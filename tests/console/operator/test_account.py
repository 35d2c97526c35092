"""The page of an account, and what operators do to it."""

import html
import json
import re
from datetime import UTC, datetime

import pytest
from tests.browser.site import PLANS, Site
from tests.console.operator.conftest import OPERATOR, OperatorClient, sending

from awx_ratelimit.keys import KeyFormat, KeyStore, KeyVerifier

SUNDAY = datetime(2026, 11, 29, 12, tzinfo=UTC)
NO_TIME = "Not a date and time; enter one such as 2026-12-01T00:00."
ONE_PER_LINE = "; write one limit per line, such as per_minute = 120."


@pytest.fixture(autouse=True)
def sunday(client: OperatorClient, site: Site) -> None:
    """It is a Sunday at noon."""
    site.clock.set(int(SUNDAY.timestamp()) * 1_000)


def text(page: str) -> str:
    """The text of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<main")[2]).split())


def wrong(page: str) -> list[str]:
    """The errors at the fields of a page."""
    return [html.unescape(each) for each in re.findall(r'class="wrong"[^>]*>(.*?)</p>', page)]


class TestPage:
    """What the page of an account shows."""

    def test_limits_in_force(self, client: OperatorClient, site: Site) -> None:
        """Temporary and permanent limits are in words, with the end of the temporary ones."""
        site.service.accounts.set_overrides(client.account, {"per_hour": 500, "account": {"per_day": 9_000}})
        site.service.accounts.override(client.account, {"times": 2}, until=SUNDAY.replace(day=30, hour=0))
        page = text(client.get("/account").text)

        assert "Each key 120 requests per minute and 1,000 requests per hour" in page
        assert "All limits are multiplied by 2. Ends on Monday 30 November, 00:00 UTC ." in page
        assert "per_hour = 500 [account] per_day = 9_000" in page
        assert "temporary limits, 12 hours left its own limits" in page

    def test_usage(self, client: OperatorClient, site: Site) -> None:
        """Keys, live usage, a chart, refusals by limit and by limits in shadow, and the activity are on the page."""
        key = site.key(client.account, "prod", used_days_ago=2)
        site.held = site.use(key, "team", requests=12)
        site.record(key, 1, 100, 5, refusals={"minute": 5}, shadows={"hour": 7})
        page = client.get("/account").text

        assert re.search(r'max="60".*?value="12" aria-label="prod, this minute"', page)
        assert re.search(r'max="100".*?value="12" aria-label="All keys together, this minute"', page)
        assert "29 Nov 2026: 100 allowed, 5 refused" in page
        assert "Limit Refused Requests per minute 5" in text(page)
        assert "Limit Would be refused Requests per hour 7" in text(page)
        assert f"prod {key.masked} {key.id}" in text(page)
        assert f"/operator/explain?key_id={key.id}" in page
        assert "Key created: prod" in text(page)

    def test_live(self, client: OperatorClient, site: Site) -> None:
        """An open page gets the usage of the account and of its keys."""
        key = site.key(client.account, "prod")
        site.held = site.use(key, "team", requests=12)
        data = json.loads(client.get("/account/live").text.split("data: ")[1])

        assert data["keys"][key.id]["bars"] == {"minute": [12, "12 of 60"]}
        assert data["shared"]["account.minute"] == [12, "12 of 100"]

    def test_unknown_plan(self, client: OperatorClient, site: Site) -> None:
        """A plan that the table does not have is named as the mistake that it is, and can be changed."""
        site.service.accounts.set_plan(client.account, "gone")
        page = text(client.get("/account").text)

        assert "Plan gone not in the plan table" in page
        assert "so all requests with its keys are refused" in page
        assert client.submit("/account/plan", plan="gone", max_keys="3").status == 303
        assert client.submit("/account/plan", plan="starter").status == 303


class TestActs:
    """What operators do, and the audit trail of it."""

    @pytest.mark.parametrize(
        ("path", "fields", "action"),
        [
            ("/account/plan", {"plan": "growth", "max_keys": "100"}, "account.plan_set"),
            ("/account/plan", {"plan": "team", "max_keys": "7"}, "account.max_keys_set"),
            ("/account/temporary", {}, "account.override_set"),
            ("/account/overrides", {}, "account.overrides_set"),
            ("/account/suspend", {}, "account.suspended"),
        ],
    )
    def test_audit(self, client: OperatorClient, site: Site, path: str, fields: dict[str, str], action: str) -> None:
        """Each act is one event with the operator's name, and the page says what was done."""
        before = site.service.events(client.account).total
        response = client.submit(path, **fields)
        events = site.service.events(client.account)

        assert events.total == before + 1
        assert (events.items[0].action, events.items[0].actor) == (action, f"operator:{OPERATOR}")
        where = (response.header("location") or "").removeprefix("/operator")
        assert 'class="note good"' in client.get(where).text

    def test_every_process(self, client: OperatorClient, site: Site) -> None:
        """A verifier with a cached key applies each act as soon as it looks for changes."""
        created = site.service.create(client.account, "prod")
        verifier = KeyVerifier(site.store, clock=site.clock)
        assert verifier.verify(created.secret.reveal().encode()).plan == "team"
        client.submit("/account/plan", plan="growth", max_keys="5")
        client.submit("/account/temporary", times="2")
        verifier.poll()
        caller = verifier.verify(created.secret.reveal().encode())

        assert PLANS.resolve(caller).rates[0].tokens == 600

    def test_end_and_resume(self, client: OperatorClient, site: Site) -> None:
        """Temporary limits can be ended, and a suspended account resumed, by one button each."""
        client.submit("/account/temporary")
        client.submit("/account/temporary/end")
        assert site.service.accounts.get(client.account).temporary is None
        client.submit("/account/suspend")
        assert site.service.accounts.get(client.account).status == "suspended"
        client.submit("/account/resume")

        assert site.service.accounts.get(client.account).status == "active"

    def test_second_operator(self, client: OperatorClient, site: Site) -> None:
        """A form that was opened before another operator's act shows how the account is now, and changes nothing."""
        fields = client.fields("/account/plan", plan="starter")
        OperatorClient(client.send, client.account, "bo").submit("/account/plan", plan="growth", max_keys="9")
        response = client.post("/account/plan", fields)

        assert response.status == 409
        assert "The account has changed since you opened this form" in response.text
        assert '<option value="growth" selected>' in response.text
        assert site.service.accounts.get(client.account).plan == "growth"

    @pytest.mark.parametrize(
        ("fields", "until", "overrides"),
        [
            ({"times": "1.5", "ends": "1-hour"}, SUNDAY.replace(hour=13), {"times": 1.5}),
            ({"times": "2", "ends": "2026-11-30T00:00"}, SUNDAY.replace(day=30, hour=0), {"times": 2}),
            (
                {"times": "", "limits": "per_minute = 9\r\n[account]\r\nper_day = 7", "ends": "7-days"},
                SUNDAY.replace(month=12, day=6),
                {"per_minute": 9, "account": {"per_day": 7}},
            ),
            (
                {"times": "2", "limits": "per_minute = 9", "ends": "other", "until": "2027-01-01T08:30"},
                datetime(2027, 1, 1, 8, 30, tzinfo=UTC),
                {"per_minute": 9, "times": 2},
            ),
        ],
    )
    def test_temporary(
        self, client: OperatorClient, site: Site, fields: dict[str, str], until: datetime, overrides: object
    ) -> None:
        """Temporary limits are a number, limits as text, or both, with an end in UTC."""
        assert client.submit("/account/temporary", **fields).status == 303
        temporary = site.service.accounts.get(client.account).temporary
        assert temporary is not None
        assert dict(temporary.overrides) == overrides
        assert temporary.until == until

    def test_ends(self, client: OperatorClient) -> None:
        """The choices of an end have its date in words."""
        page = client.get("/account/temporary").text

        assert re.findall(r'<option value="([^"]+)"[^>]*>([^<]+)<', page) == [
            ("1-hour", "In 1 hour"),
            ("24-hours", "In 24 hours"),
            ("2026-11-30T00:00", "On Monday 30 November, 00:00 UTC"),
            ("7-days", "In 7 days"),
            ("30-days", "In 30 days"),
            ("2026-12-01T00:00", "On Tuesday 1 December, 00:00 UTC"),
            ("other", "At another time"),
        ]


class TestMistakes:
    """A mistake in a form is an error at its field, and changes nothing."""

    @pytest.mark.parametrize(
        ("path", "fields", "error"),
        [
            ("/account/plan", {"plan": "gold"}, "There is no such plan; choose one from the list."),
            ("/account/plan", {"max_keys": "many"}, "Not a whole number; enter a whole number."),
            ("/account/plan", {"max_keys": "9999999"}, "Got 9999999 (int); expected an integer from 0 to 1000000."),
            ("/account/temporary", {"times": "two"}, "Not a number; enter one such as 2 or 1.5."),
            ("/account/temporary", {"times": "0"}, "In times: expected a number above 0, up to 1000, such as 2 or 0.5, "
             "got 0; nothing was changed."),
            ("/account/temporary", {"times": ""}, "There is no limit to change; enter a number such as 2, or write "
             "limits below."),
            ("/account/temporary", {"limits": "times = 3"}, "Times is in both fields; write it in one of them."),
            ("/account/temporary", {"ends": "yesterday"}, NO_TIME),
            ("/account/temporary", {"ends": "2026-11-29T11:59"}, "This time has passed; choose a later one."),
            ("/account/temporary", {"ends": "other", "until": "2026-13-01T00:00"}, NO_TIME),
            ("/account/temporary", {"ends": "other", "until": "2099-01-01T00:00"},
             "This time is too late; choose one in the next ten years."),
            ("/account/temporary", {"until": "2027-01-01T00:00"},
             "Another end is chosen above; choose “At another time”, or leave this field empty."),
            ("/account/overrides", {"limits": "per_minute = 5\nper_hour 6"},
             f"Expected '=' after a key in a key/value pair (at line 2, column 10){ONE_PER_LINE}"),
            ("/account/overrides", {"limits": "per_minute = '5'"},
             "In per_minute: minute: tokens: expected an integer >= 1, got '5'; nothing was changed."),
            ("/account/overrides", {"limits": "[account]\nper_fortnight = 1"},
             "In account.per_fortnight: unknown key; allowed are per_second, per_minute, per_hour, per_day, per_week, "
             "per_month, per_year, rates, concurrent, shadow; nothing was changed."),
            ("/account/overrides", {"limits": "a = " + "[" * 6_000}, f"Too many brackets{ONE_PER_LINE}"),
            ("/account/overrides", {"limits": "#" * 8_193}, f"Longer than 8,192 characters{ONE_PER_LINE}"),
            ("/account/suspend", {"account": "acct"}, "Not the id of this account; type the id shown above."),
        ],
    )  # fmt: skip
    def test_field(self, client: OperatorClient, site: Site, path: str, fields: dict[str, str], error: str) -> None:
        """The error says what is wrong and what to write, the fields keep what was typed, and nothing has changed."""
        before = site.service.accounts.get(client.account)
        response = client.submit(path, **fields)

        assert response.status == 400
        assert wrong(response.text) == [error]
        assert site.service.accounts.get(client.account) == before

    def test_pasted_key(self, client: OperatorClient, site: Site) -> None:
        """An API key that is pasted into a field is neither stored nor shown again."""
        secret = site.service.create(client.account, "n").secret.reveal()
        for path, field in (("/account/overrides", "limits"), ("/account/suspend", "account"), ("/explain", "key_id")):
            response = client.submit(path, **{field: secret})
            assert response.status == 400
            assert secret not in response.text

    def test_pasted_key_with_another_prefix(self, shared_store: KeyStore) -> None:
        """A key with a prefix of the app's own is not shown again either, by any form."""
        site = Site(shared_store, keys=KeyFormat("acme_"))
        client = OperatorClient(sending(site.operator_console), site.account())
        secret = site.service.create(client.account, "n").secret.reveal()
        for path, field in (
            ("/", "prefix"),
            ("/activity", "account"),
            ("/keys", "shown"),
            ("/account/overrides", "limits"),
            ("/account/temporary", "limits"),
            ("/account/suspend", "account"),
            ("/explain", "key_id"),
        ):
            response = client.submit(path, **{field: secret})
            assert response.status == 400, path
            assert secret not in str(response), path

    def test_key_in_limits(self, client: OperatorClient, site: Site) -> None:
        """No error about limits quotes an API key, whether it stands there as a name, a value or a table."""
        secret = site.service.create(client.account, "n").secret.reveal()
        for text in (f"{secret} = 1", f'per_minute = "{secret}"', f"[{secret}]\n[{secret}]"):
            for path in ("/account/overrides", "/account/temporary"):
                response = client.submit(path, limits=text)
                assert wrong(response.text) == [
                    "Contains an API key; remove it, and rotate that key: it is no longer secret."
                ]
                assert secret not in response.text
