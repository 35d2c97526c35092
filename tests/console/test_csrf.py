"""Forms are accepted from our own pages only: the right origin, browser, owner, action and key, for twelve hours."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from tests.browser.site import Site
from tests.console.conftest import Client

from awx_ratelimit.keys import ApiKey

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://app.example.com.evil.example"},
        {"sec-fetch-site": "", "origin": ""},
    ],
    ids=str,
)
def test_other_origin(client: Client, site: Site, headers: dict[str, str]) -> None:
    """A form from another origin, or of unknown origin, is refused even with a valid token."""
    body = urlencode({"form": client.token("/new"), "name": "n", "expires_in_days": ""})
    response = client.post("/new", body, **headers)

    assert response.status == 403
    assert response.heading == "This form was not accepted"
    assert site.service.list(client.account).total == 0


def test_origin_without_fetch_metadata(client: Client) -> None:
    """Our own Origin is enough for browsers that do not send Sec-Fetch-Site."""
    body = urlencode({"form": client.token("/new"), "name": "n", "expires_in_days": ""})

    assert client.post("/new", body, **{"sec-fetch-site": ""}).status == 200


def refuses(client: Client, site: Site, key: ApiKey, token: str) -> None:
    """Assert that the form which deletes `key` is refused with this token."""
    assert client.submit(f"/keys/{key.id}/delete", token=token, name="prod").status == 403
    assert site.service.get(client.account, key.id) == key


class TestToken:
    """The token of a form."""

    @pytest.fixture
    def key(self, client: Client, site: Site) -> ApiKey:
        """The key that the form would delete."""
        return site.key(client.account, "prod")

    def test_other_key(self, client: Client, site: Site, key: ApiKey) -> None:
        """A token for one key is refused for another key."""
        refuses(client, site, key, client.token(f"/keys/{site.key(client.account, 'prod').id}/delete"))

    def test_other_action(self, client: Client, site: Site, key: ApiKey) -> None:
        """A token for one action is refused for another action."""
        refuses(client, site, key, client.token("/new"))

    def test_other_browser(self, client: Client, client_of: Callable[[str], Client], site: Site, key: ApiKey) -> None:
        """A token from another browser of the same user is refused."""
        client.get("/")

        refuses(client, site, key, client_of(client.account).token(f"/keys/{key.id}/delete"))

    def test_other_owner(self, client: Client, client_of: Callable[[str], Client], site: Site, key: ApiKey) -> None:
        """A token of another account is refused, even in the same browser."""
        client.get("/")
        colleague = client_of(site.account())
        colleague.cookie = client.cookie

        refuses(client, site, key, colleague.token("/new"))

    @pytest.mark.parametrize(
        "change",
        [
            lambda token: token[:-1] + ("A" if token[-1] != "A" else "Q"),
            lambda token: token[:40],
            lambda token: token + "A",
            lambda _: "x",
            lambda _: "é",
        ],
        ids=["changed", "cut", "longer", "short", "not ASCII"],
    )
    def test_changed(self, client: Client, site: Site, key: ApiKey, change: Callable[[str], str]) -> None:
        """A token that was changed in any way is refused."""
        refuses(client, site, key, change(client.token(f"/keys/{key.id}/delete")))

    def test_missing(self, client: Client, site: Site, key: ApiKey) -> None:
        """A form without a token is refused."""
        client.get("/")

        assert client.post(f"/keys/{key.id}/delete", "name=prod").status == 403
        assert site.service.get(client.account, key.id) == key

    def test_expired(self, client: Client, site: Site) -> None:
        """A form expires after twelve hours."""
        token = client.token("/new")
        site.clock.advance(12 * HOUR_MS + 1)

        assert client.create(token=token).status == 403


class TestCookie:
    """The cookie that binds a form to a browser."""

    def test_missing(self, client: Client) -> None:
        """A form without our cookie is refused, and the response sets none."""
        token = client.token("/new")
        client.cookie = ""
        response = client.create(token=token)

        assert response.status == 403
        assert response.header("set-cookie") is None

    def test_attributes(self, client: Client) -> None:
        """The cookie is set once, for this host only, and hidden from scripts."""
        cookie = client.get("/").header("set-cookie") or ""

        assert re.sub("=[^;]{22};", "=…;", cookie, count=1) == (
            "__Host-awx-console=…; Path=/; Secure; HttpOnly; SameSite=Lax"
        )
        assert client.get("/").header("set-cookie") is None

    @pytest.mark.parametrize("planted", ["x", "y" * 22])
    @pytest.mark.parametrize("place", ["before", "after"])
    @pytest.mark.parametrize("when", ["before the page", "before the form"])
    def test_second_cookie(self, client: Client, planted: str, place: str, when: str) -> None:
        """A second cookie of our name, which some browsers let a neighbouring host set, does not break forms."""
        client.get("/")
        ours, name = client.cookie, "__Host-awx-console"
        both = f"{name}={planted}; {ours}" if place == "before" else f"{ours}; {name}={planted}"
        if when == "before the page":
            client.cookie = both
        token = client.token("/new")
        client.cookie = both

        assert client.create(token=token).status == 200

    def test_planted_cookie(self, client: Client, client_of: Callable[[str], Client], site: Site) -> None:
        """An attacker who plants the cookie of their own browser still has no valid token."""
        attacker = client_of(site.account())
        token = attacker.token("/new")
        client.get("/")
        client.cookie = f"{attacker.cookie}; {client.cookie}"

        assert client.create(token=token).status == 403
