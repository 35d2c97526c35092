"""The search for a key: whose key it is that a log shows."""

import re

import pytest
from tests.browser.site import Site
from tests.console.operator.conftest import OperatorClient
from tests.console.operator.test_account import text
from tests.keys.store_probes import statements

from awx_ratelimit.keys import KeyFormat


@pytest.mark.parametrize("form", ["awx_...{last}", "...{last}", "{id}"])
def test_found(client: OperatorClient, site: Site, form: str) -> None:
    """A search leads to the address of its result, which names the account, the key and its state."""
    key = site.key(client.account, "prod")
    response = client.submit("/keys", shown=form.format(last=key.masked[-4:], id=key.id))
    page = client.get(str(response.header("location")).removeprefix("/operator")).text

    assert response.status == 303
    assert f"/operator/account?id={client.account}" in page
    assert f"{client.account} prod {key.masked} {key.id} active" in text(page)


def test_one_look_up(client: OperatorClient, site: Site) -> None:
    """The form looks no key up: the address of its result does."""
    with statements(site.store) as sent:
        client.submit("/keys", shown="awx_...x4f2")

    assert not [statement for statement in sent if "awx_api_keys.last4" in statement]


def test_revoked(client: OperatorClient, site: Site) -> None:
    """A revoked key is found too, and so is one that is shown like another."""
    revoked = site.key(client.account, "old")
    site.service.revoke(client.account, revoked.id)
    page = text(client.get(f"/keys?shown={revoked.id}").text)

    assert re.search(rf"old {re.escape(revoked.masked)} {revoked.id} revoked \d", page)


def test_none(client: OperatorClient) -> None:
    """A search without a result says so."""
    assert "No key of this service has this masked form." in client.get("/keys?shown=awx_...zzzz").text
    assert "No key of this service" not in client.get("/keys").text


@pytest.mark.parametrize("shown", ["x4f2", "a key", ""])
def test_mistakes(client: OperatorClient, shown: str) -> None:
    """What is not shown of a key is an error at its field, by the form and by the address."""
    posted, opened = client.submit("/keys", shown=shown), client.get(f"/keys?shown={shown}")

    assert posted.status == 400
    assert "expected the masked form of a key" in posted.text
    assert opened.status == (400 if shown else 200)


def test_whole_key(client: OperatorClient) -> None:
    """A whole key is refused, and is in no address and no page."""
    key = KeyFormat().new().reveal()
    response = client.submit("/keys", shown=key)

    assert response.status == 400
    assert "rotate that key: it is no longer secret" in response.text
    assert key[4:30] not in response.text
