"""A form is accepted once, from its own page, in the browser and from the operator it was made for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.browser.site import SECRET, SESSION, Site
from tests.console.conftest import FORM, HOST
from tests.console.operator.conftest import ACTS, FIELDS, FORMS, OPERATOR, PAGE_OF, OperatorClient, failing, sending

from awx_ratelimit import Request
from awx_ratelimit.console import Operator, Owner
from awx_ratelimit.console.app import _KIND as CUSTOMERS
from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.operator import account_forms
from awx_ratelimit.console.operator.context import state_of
from awx_ratelimit.console.operator.identity import OperatorRequest
from awx_ratelimit.console.page_request import CsrfCookie, PageRequest
from awx_ratelimit.errors import KeyStoreUnavailable
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys import Account

Acted = Callable[[str], None]


def account(site: Site, client: OperatorClient) -> tuple[Account, int]:
    """The account, and how many events it has."""
    return site.service.accounts.get(client.account), site.service.events(client.account).total


def test_operators_token_at_customers(site: Site) -> None:
    """A token that the operator's console signs is refused by the customer's console."""
    account = site.account()
    request = Request("GET", "/console/new", None, lambda _: [])
    cookie = CsrfCookie(("y" * 22,), is_new=False)
    owner = PageRequest(Owner(account, f"ann@{account}.example"), FullRequest(request, b"", b""), "", cookie)
    send = sending(site.console)
    cookies = f"{SESSION}={account}; {CUSTOMERS.signer.cookie_name}={cookie.values[0]}"
    headers = {"host": HOST, "cookie": cookies, "content-type": FORM, "origin": f"https://{HOST}"}
    statuses = []
    for signer in (site.operator_console._kind.signer, CUSTOMERS.signer):
        token = CsrfProtection(signer, SECRET, (), site.clock).token(owner, "create")
        statuses.append(send("POST", "/console/new", headers, urlencode({"form": token, "name": "n"})).status)

    assert statuses == [403, 200]


def test_all_are_known() -> None:
    """Every form is in these tests."""
    assert FIELDS.keys() == set(FORMS)


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "", "origin": ""},
    ],
    ids=str,
)
def test_other_origin(client: OperatorClient, site: Site, acted: Acted, path: str, headers: dict[str, str]) -> None:
    """A form from another origin is refused, even with a valid token."""
    acted(path)
    fields, before = client.fields(path), account(site, client)

    assert client.post(path, fields, **headers).status == 403
    assert account(site, client) == before


@pytest.mark.parametrize("path", FORMS)
def test_foreign_token(client: OperatorClient, site: Site, acted: Acted, path: str) -> None:
    """A token for another account, another operator, another browser or another form is refused."""
    acted(path)
    fields, before = client.fields(path), account(site, client)
    other_account = OperatorClient(client.send, site.account(plan="team"))
    other_account.cookie = client.cookie
    colleague = OperatorClient(client.send, client.account, "bo@ops.example")
    colleague.cookie = client.cookie
    other_browser = OperatorClient(client.send, client.account)
    other_form = "/account/suspend" if path not in ("/account/suspend", "/account/resume") else "/account/plan"
    tokens = [
        *([other_account.hidden(path)["form"]] if path in ACTS and path not in PAGE_OF else []),
        colleague.hidden(path)["form"],
        other_browser.hidden(path)["form"],
        client.hidden(other_form)["form"],
        "",
        fields["form"][:-1],
    ]

    for token in tokens:
        assert client.post(path, {**fields, "form": token}).status == 403
    assert account(site, client) == before


@pytest.mark.parametrize("path", FORMS)
def test_token_of_customers_console(client: OperatorClient, site: Site, acted: Acted, path: str) -> None:
    """A token that the customer's console signs with the same secret, for the very same form, is refused."""
    acted(path)
    fields, before = client.fields(path), account(site, client)
    action = {"/": "find", "/activity": "find_activity", "/keys": "find_key"}.get(path, path.rpartition("/")[2])
    forged = token_of(CUSTOMERS.signer, client, site, action, path)
    control = token_of(site.operator_console._kind.signer, client, site, action, path)

    assert client.post(path, {**fields, "form": forged}).status == 403
    assert account(site, client) == before
    assert client.post(path, {**fields, "form": control}).status in (200, 303)


@pytest.mark.parametrize("path", ACTS)
def test_replay(client: OperatorClient, site: Site, acted: Acted, path: str) -> None:
    """A form works once: submitted again, it changes nothing and says that the account has changed."""
    acted(path)
    fields = client.fields(path)
    first = client.post(path, fields)
    after = account(site, client)
    second = client.post(path, fields)

    assert first.status == 303
    assert second.status == 409 or (second.header("location") or "").endswith("note=changed")
    assert account(site, client) == after


@pytest.mark.parametrize("path", ACTS)
def test_two_at_once(
    client: OperatorClient, site: Site, acted: Acted, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An act that a colleague gets in between the check of a form and its change makes the form change nothing."""
    acted(path)
    fields = client.fields(path)

    def state_before_colleague(seen: Account) -> str:
        site.service.accounts.set_max_keys(client.account, 77)
        return state_of(seen)

    monkeypatch.setattr(account_forms, "state_of", state_before_colleague)
    before, events = account(site, client)
    response = client.post(path, fields)

    assert response.status == 409 or (response.header("location") or "").endswith("note=changed")
    assert account(site, client) == (replace(before, max_keys=77), events + 1)


@pytest.mark.parametrize("path", [*ACTS, "/explain"])
def test_store_down(
    client: OperatorClient, site: Site, acted: Acted, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the key store, a form is a 503 page."""
    acted(path)
    fields = client.fields(path, **({"key_id": "key_0000000000000000"} if path == "/explain" else {}))
    monkeypatch.setattr(site.store, "query", failing(KeyStoreUnavailable("secret-host gives no answer")))

    assert client.post(path, fields).status == 503


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("extra", [{"plan": "growth", "x": "1"}, {"state": "a", "account_id": "b"}], ids=str)
def test_unknown_field(client: OperatorClient, acted: Acted, path: str, extra: dict[str, str]) -> None:
    """A form with fields that its page does not have is refused."""
    acted(path)

    assert client.submit(path, **extra).status == 400


def token_of(signer: Any, client: OperatorClient, site: Site, action: str, path: str) -> str:
    """A token that a console with this signer issues to the operator's browser."""
    csrf = CsrfProtection(signer, SECRET, (), site.clock)
    cookie = (b"cookie", client.cookie.split("=", 1)[1])
    lines = {cookie[0]: [f"{signer.cookie_name}={cookie[1]}".encode()], b"host": [HOST.encode()]}
    request = Request("GET", path, None, lambda name: lines.get(name, []))
    query = client.url(path).partition("?")[2].encode()
    return csrf.token(
        OperatorRequest(Operator(OPERATOR), FullRequest(request, query, b""), "", csrf.cookie(request)), action
    )
