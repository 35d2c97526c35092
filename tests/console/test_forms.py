"""Create, rename, rotate and delete through the forms: each form works once, and a key is shown once."""

import re
from collections.abc import Callable

import pytest
from tests.browser.site import Site
from tests.console.conftest import Client, Send

from awx_ratelimit.keys.storage.store import LastUse

VALID_NAMES = ["prod-payment-service", "  spaces around  ", "Zażółć gęślą", "密钥", "x" * 64, "a&b<c>\"d'e", "مفتاح"]
#: Empty, too long, or with invisible characters.
INVALID_NAMES = ["", "   ", "x" * 65, "a\u202eb", "a\u200bb", "a\nb", "\u2066x", "x" * 2_000]


class TestCreate:
    """The form that creates a key."""

    @pytest.mark.parametrize("name", VALID_NAMES)
    def test_created_key(self, client: Client, site: Site, name: str) -> None:
        """The response shows the new key, which has the submitted name and its creator."""
        response = client.create(name)
        (key,) = site.service.list(client.account).items

        assert response.status == 200
        assert key.name == name.strip()
        assert key.created_by == f"ann@{client.account}.example"
        assert response.key[-4:] == key.masked[-4:]

    @pytest.mark.parametrize("name", INVALID_NAMES)
    def test_invalid_name(self, client: Client, site: Site, name: str) -> None:
        """The form is shown again with the error at the field, and no key is created."""
        response = client.create(name)

        assert response.status == 400
        assert 'id="name-wrong"' in response.text
        assert 'aria-invalid="true"' in response.text
        assert site.service.list(client.account).total == 0

    @pytest.mark.parametrize("pasted", ["{key}", "x {part}"])
    def test_key_pasted_as_name(self, client: Client, pasted: str) -> None:
        """The response never repeats a key, or a part of one, that was pasted into the name field."""
        key = client.create().key
        response = client.create(pasted.format(key=key, part=key[:30]))

        assert response.status == 400
        assert key[:30] not in response.text

    @pytest.mark.parametrize(("days", "status"), [("30", 200), ("0", 400), ("3651", 400), ("-1", 400), ("soon", 400)])
    def test_expiry(self, client: Client, days: str, status: int) -> None:
        """An expiry that is not a valid number of days is reported at its field."""
        response = client.submit("/new", name="n", expires_in_days=days)

        assert response.status == status
        assert ('id="expires_in_days-wrong"' in response.text) == (status == 400)

    def test_first_key_creates_account(self, client_of: Callable[[str], Client], site: Site) -> None:
        """An unknown account is created with its first key, on the default plan."""
        response = client_of("newcomer").create()

        assert response.status == 200
        assert site.service.accounts.get("newcomer").plan is None

    def test_maximum_number_of_keys(self, client: Client, site: Site) -> None:
        """At the maximum, no key is created and the page says what to do."""
        site.service.accounts.set_max_keys(client.account, 1)
        client.create()
        response = client.create()

        assert response.status == 409
        assert response.heading == "You have reached the maximum number of keys"
        assert "revoke" in response.text.lower()

    @pytest.mark.parametrize("site", [1], indirect=True)
    def test_creation_rate(self, client: Client, site: Site) -> None:
        """Above the rate limit for new keys, the response is 429 with the time to wait, and no key is created."""
        client.create()
        response = client.create()

        assert response.status == 429
        assert response.header("retry-after") == "60"
        assert site.service.list(client.account).total == 1


class TestResubmit:
    """A form that is submitted again."""

    def test_one_key(self, client: Client, site: Site) -> None:
        """A reload says 'Already created', does not show the key, and creates no second one."""
        token = client.token("/new")
        first = client.create(token=token)
        again = client.create(token=token)

        assert first.heading == "Your key n"
        assert first.key
        assert again.status == 409
        assert again.heading == "Already created"
        assert first.key not in again.text
        assert site.service.list(client.account).total == 1

    def test_deleted_key(self, client: Client, site: Site) -> None:
        """A used form stays used after its key has been deleted."""
        token = client.token("/new")
        client.create(token=token)
        site.service.revoke(client.account, site.service.list(client.account).items[0].id)
        again = client.create(token=token)

        assert again.heading == "Already created"
        assert site.service.list(client.account).total == 0

    def test_other_process(self, client: Client, site: Site, mounted: Callable[[Site], Send]) -> None:
        """Two processes that share only the store create one key from one form."""
        token = client.token("/new")
        first = client.create(token=token)
        client.send = mounted(Site(site.store))
        again = client.create(token=token)

        assert first.status == 200
        assert again.status == 409
        assert site.service.list(client.account).total == 1

    def test_rotation(self, client: Client, site: Site) -> None:
        """A rotation form that is submitted again rotates nothing and shows no key."""
        path = f"/keys/{site.key(client.account, 'prod').id}/rotate"
        token = client.token(path)
        client.submit(path, token=token, grace_period_seconds="3600")
        again = client.submit(path, token=token, grace_period_seconds="3600")

        assert again.status == 409
        assert again.key == ""
        assert site.service.list(client.account).total == 2


class TestRotate:
    """The form that rotates a key."""

    def test_new_key(self, client: Client, site: Site) -> None:
        """The response shows the new key and the remaining steps."""
        key = site.key(client.account, "prod")
        response = client.submit(f"/keys/{key.id}/rotate", grace_period_seconds="3600")

        assert response.status == 200
        assert response.key
        assert re.findall(r'<li class="(\w+)".*?<strong>(.*?)</strong>', response.text, re.DOTALL) == [
            ("done", "Create a new key"),
            ("now", "Update your application"),
            ("later", "Verify the new key works"),
            ("later", "Delete the old key"),
        ]

    def test_progress(self, client: Client, site: Site) -> None:
        """Using the new key completes two steps, and deleting the old key completes the last one."""
        old = site.key(client.account, "prod", used_days_ago=0)
        client.submit(f"/keys/{old.id}/rotate", grace_period_seconds="3600")
        new_id = str(site.service.get(client.account, old.id).replaced_by)

        def steps() -> list[str]:
            return re.findall(r'<li class="(done|now|later)"', client.get(f"/keys/{new_id}").text)

        assert steps() == ["done", "now", "later", "later"]
        site.store.mark_used([LastUse(new_id, client.account, site.clock.now_ms())])
        assert steps() == ["done", "done", "done", "now"]
        site.service.revoke(client.account, old.id)
        assert steps() == ["done", "done", "done", "done"]

    def test_rotated_key(self, client: Client, site: Site) -> None:
        """The rotation page of a rotated key has no form and says why."""
        key = site.key(client.account, "prod")
        site.service.rotate(client.account, key.id)
        page = client.get(f"/keys/{key.id}/rotate").text

        assert "This key has already been rotated." in page
        assert "<form" not in page

    @pytest.mark.parametrize("grace", ["", "2592001", "-1", "1e3"])
    def test_invalid_grace_period(self, client: Client, site: Site, grace: str) -> None:
        """An invalid grace period is reported at its field and rotates nothing."""
        key = site.key(client.account, "prod")
        response = client.submit(f"/keys/{key.id}/rotate", grace_period_seconds=grace)

        assert response.status == 400
        assert 'id="grace_period_seconds-wrong"' in response.text
        assert site.service.list(client.account).total == 1


class TestDelete:
    """The form that deletes a key after its name is typed."""

    @pytest.mark.parametrize("name", VALID_NAMES)
    def test_deleted_key(self, client: Client, site: Site, name: str) -> None:
        """The key is gone, and the table says so."""
        key = site.key(client.account, name)
        response = client.submit(f"/keys/{key.id}/delete", name=name)

        assert response.status == 303
        assert response.header("location") == "/console/?note=deleted"
        assert site.service.list(client.account).total == 0
        assert "Key deleted." in client.get("/?note=deleted").text

    @pytest.mark.parametrize("typed", ["", "PROD", "prod2", "pro", "prod\u200b"])
    def test_other_name(self, client: Client, site: Site, typed: str) -> None:
        """Any other name is reported at the field and deletes nothing."""
        key = site.key(client.account, "prod")
        response = client.submit(f"/keys/{key.id}/delete", name=typed)

        assert response.status == 400
        assert 'id="name-wrong"' in response.text
        assert site.service.get(client.account, key.id) == key


class TestRename:
    """The form that renames a key."""

    def test_renamed_key(self, client: Client, site: Site) -> None:
        """The key has its new name."""
        key = site.key(client.account, "prod")
        response = client.submit(f"/keys/{key.id}", name="staging")

        assert response.status == 303
        assert site.service.get(client.account, key.id).name == "staging"

    def test_invalid_name(self, client: Client, site: Site) -> None:
        """An invalid name is reported at the field, and the key keeps its name."""
        key = site.key(client.account, "prod")
        response = client.submit(f"/keys/{key.id}", name="\u202ex")

        assert response.status == 400
        assert 'id="name-wrong"' in response.text
        assert site.service.get(client.account, key.id).name == "prod"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("form={token}&name=a&name=b&expires_in_days=", None),
        ("form={token}&name=a&expires_in_days=&account_id=other", None),
        ("form={token}&name=%FF&expires_in_days=", None),
        ('{{"form": "{token}", "name": "a"}}', "application/json"),
        ("form={token}&name=a&expires_in_days=", "text/plain"),
        ("&".join(["form={token}", *(f"a{number}=1" for number in range(50))]), None),
    ],
    ids=["repeated field", "unknown field", "not UTF-8", "JSON", "text", "many fields"],
)
def test_malformed_form(client: Client, site: Site, body: str, content_type: str | None) -> None:
    """A malformed form is refused and changes nothing."""
    token = client.token("/new")
    headers = {} if content_type is None else {"content-type": content_type}

    assert client.post("/new", body.format(token=token), **headers).status == 400
    assert site.service.list(client.account).total == 0
