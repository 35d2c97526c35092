"""Only operators get here, and every page is attacked in the same ways."""

import re
from typing import Any

import pytest
from tests.browser.site import PLANS, SECRET, Site
from tests.console.conftest import Send
from tests.console.operator.conftest import PAGES, ROUTES, OperatorClient, failing, sending
from tests.console.test_pages import HOSTILE_NAME

from awx_ratelimit.console import Console, Operator, OperatorConsole, Owner
from awx_ratelimit.errors import BackendUnavailable, InvalidKeyRequest, KeyStoreUnavailable

HOSTILE_ID = "<script>alert(1)</script>\"'&;{{7*7}}/../%2e?#+=\\"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
EVERY_PATH = pytest.mark.parametrize("path", [path for path, _ in ROUTES])


class TestLogin:
    """Who gets in."""

    @EVERY_PATH
    def test_anonymous(self, client: OperatorClient, path: str) -> None:
        """Without an operator nothing is shown, whatever the page and the method."""
        client.name = ""
        for method in METHODS:
            response = client.get(path, method)
            reads = method in ("GET", "HEAD")

            assert response.status == (
                204 if reads and "/live" in path else 404 if reads and "/static" in path else 403
            )
            assert client.account not in response.text
            assert response.header("set-cookie") is None

    @pytest.mark.parametrize("path", [path for path, _ in ROUTES if "/static/" not in path])
    def test_owner(self, site: Site, path: str, caplog: pytest.LogCaptureFixture) -> None:
        """If the application returns a customer by mistake, the response is 503 and the log says what is wrong."""
        owner = Owner("acme", "ann")
        console: Any = OperatorConsole
        send = sending(console(site.service, who=lambda _: owner, secret=SECRET, limiter=site.limiter, plans=PLANS))
        for method in METHODS:
            caplog.clear()
            response = send(method, f"/operator{path}?id=acme", {"accept": "text/html"})

            assert response.status == 503
            assert "who: expected an Operator or None as the result, got an Owner" in caplog.text

    def test_operator_as_owner(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        """An operator is no customer: the customer's console refuses one in the same way."""
        console: Any = Console
        who: Any = lambda _: Operator("ann")  # noqa: E731
        send = sending(console(site.service, who=who, secret=SECRET, limiter=site.limiter, plans=PLANS))

        assert send("GET", "/console/", {"accept": "text/html"}).status == 503
        assert "who: expected an Owner or None as the result, got an Operator" in caplog.text

    @pytest.mark.parametrize("name", ["", "a" * 101, "a\u202eb", None, "awx_" + "a" * 38])
    def test_invalid_name(self, name: Any) -> None:
        """The name of an operator can be read in the audit trail."""
        with pytest.raises(InvalidKeyRequest, match="name"):
            Operator(name)

    def test_cookie(self, client: OperatorClient) -> None:
        """The cookie has a name of its own, and is for this host only."""
        cookie = client.get("/").header("set-cookie") or ""

        assert re.sub("=[^;]{22};", "=…;", cookie, count=1) == (
            "__Host-awx-operator=…; Path=/; Secure; HttpOnly; SameSite=Lax"
        )


class TestPages:
    """What every page promises."""

    @pytest.fixture
    def client(self, send: Send, site: Site) -> OperatorClient:
        """A client of an account whose id looks like markup, with a key and usage."""
        client = OperatorClient(send, site.account(HOSTILE_ID, plan="team"))
        key = site.key(HOSTILE_ID, HOSTILE_NAME)
        site.record(key, 0, 5, 1, refusals={HOSTILE_ID[:32]: 1}, shadows={HOSTILE_ID[:32]: 1})
        site.service.accounts.set_plan(HOSTILE_ID, "<b>", actor="<i>")
        return client

    @pytest.mark.parametrize("path", PAGES)
    def test_markup_is_escaped(self, client: OperatorClient, path: str) -> None:
        """An id, a name, a plan and an actor that look like markup are shown as text, and no code is inline."""
        response = client.get(path)

        assert response.status == 200
        assert not re.search(r"<script>alert|<b>|<i>", response.text)
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", response.text)
        urls = re.findall(r"""(?:src|href|action|data-live)=["']?([^"'\s>]+)""", response.text)
        assert [url for url in urls if not url.startswith(("/operator/", "#"))] == []

    def test_links_to_account(self, client: OperatorClient) -> None:
        """The links of the list lead to an account with any id."""
        link = re.findall(r'class="name" href="/operator(/account\?[^"]+)"', client.get("/").text)

        assert client.get(link[0]).heading == HOSTILE_ID

    @pytest.mark.parametrize("path", [*PAGES, "/account/live", "/nothing", "/account?id=none"])
    def test_security_headers(self, client: OperatorClient, path: str) -> None:
        """No response is cached or framed, and none may run code from elsewhere."""
        response = client.get(path)
        policy = response.header("content-security-policy") or ""

        assert response.header("cache-control") == "no-store"
        assert response.header("x-frame-options") == "DENY"
        assert response.header("x-content-type-options") == "nosniff"
        assert [word for word in ("unsafe", "*", "http:", "https:", "data:") if word in policy] == []
        assert "frame-ancestors 'none'" in policy

    @EVERY_PATH
    def test_methods(self, client: OperatorClient, path: str) -> None:
        """A method that a path does not have gets a 405 that lists the others, and never an error of ours."""
        methods = dict(ROUTES)[path].keys()
        for method in METHODS:
            response = client.get(path, method)

            assert response.status < 500
            assert (response.status == 405) == (("GET" if method == "HEAD" else method) not in methods)
            if response.status == 405:
                assert methods <= set((response.header("allow") or "").split(", "))

    @pytest.mark.parametrize(
        "query",
        ["id=" + "a" * 129, "id=" + "a" * 900, "id=%00", "id=%ff", "id=", "", "id=a&id=%20", "&".join(["id=a"] * 30)],
    )
    @pytest.mark.parametrize("path", [path for path, _ in ROUTES if path.startswith("/account")])
    def test_bounds(self, client: OperatorClient, path: str, query: str) -> None:
        """A malformed or unknown id is an error page, not an error of ours."""
        assert client.get(f"{path}?{query}").status in (400, 404, 405)

    @pytest.mark.parametrize("query", ["page=99999999", "page=-1", "span=x", "order=x", "status=x", "plan=x", "x=%"])
    @pytest.mark.parametrize("path", ["/", "/shadow", "/activity"])
    def test_unknown_parameters(self, client: OperatorClient, path: str, query: str) -> None:
        """An unknown value in the query is left out."""
        assert client.get(f"{path}?{query}").status == 200

    @pytest.mark.parametrize("path", ["/?prefix=a%20b", "/activity?account=a%20b", f"/?prefix=awx_{'a' * 38}"])
    def test_invalid_search(self, client: OperatorClient, path: str) -> None:
        """An invalid search says so at its field, and a key that is pasted there is not shown again."""
        response = client.get(path)

        assert response.status == 400
        assert 'class="wrong"' in response.text
        assert "a" * 38 not in response.text

    @pytest.mark.parametrize("path", [path for path in PAGES if path not in ("/explain", "/keys")])
    def test_store_down(self, client: OperatorClient, site: Site, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the key store, the response is a 503 page that does not repeat the error."""
        monkeypatch.setattr(site.store, "query", failing(KeyStoreUnavailable("secret-host gives no answer")))
        response = client.get(path)

        assert response.status == 503
        assert response.heading == "The accounts cannot be loaded right now"
        assert "secret-host" not in response.text

    def test_backend_down(self, client: OperatorClient, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the backend, an account can be looked at and changed."""
        site.service.accounts.set_plan(client.account, "team")
        monkeypatch.setattr(site.limiter.backend, "peek_joint", failing(BackendUnavailable("it is down")))
        response = client.get("/account")

        assert response.status == 200
        assert "Usage is currently unavailable." in response.text
        assert client.submit("/account/plan").status == 303
