"""What is sent to the console: a key is told once, and no form is accepted but our own, sent once, by its owner."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.browser.site import PLANS, Site, who
from tests.console.conftest import Ask, Visitor

from awx_ratelimit import AsyncLimiter, Limiter, MemoryBackend, Request
from awx_ratelimit.adapters.wsgi import WsgiApp
from awx_ratelimit.console import Console, Owner
from awx_ratelimit.errors import AccessRefused, KeyStoreUnavailable
from awx_ratelimit.http.message import Reply, WholeRequest
from awx_ratelimit.keys.storage.store import Use

HOUR_MS = 3_600_000
#: Names that can be seen, and are no marks; and names that cannot be, or should not.
ALLOWED = ["prod-payment-service", "  spaces around  ", "Zażółć gęślą", "密钥", "x" * 64, "a&b<c>\"d'e", "مفتاح"]
REFUSED = ["", "   ", "x" * 65, "a\u202eb", "a\u200bb", "a\nb", "\u2066x", "x" * 2_000]


def created(visitor: Visitor, name: str = "n") -> str:
    """A key that the visitor has made."""
    return visitor.send("/new", name=name, expires_in_days="").key


@pytest.mark.parametrize("name", ALLOWED)
def test_a_key_is_made_and_shown(visitor: Visitor, site: Site, name: str) -> None:
    """The answer to the form has the key, of the name that was written, and by whom it was made."""
    answer = visitor.send("/new", name=name, expires_in_days="")
    made = site.service.list(visitor.account).items

    assert answer.status == 200
    assert [key.name for key in made] == [name.strip()]
    assert answer.key[-4:] == made[0].masked[-4:]
    assert made[0].created_by == f"ann@{visitor.account}.example"


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_is_none_is_said_beside_it(visitor: Visitor, site: Site, name: str) -> None:
    """The form comes back, says what is wrong where it is wrong, and nothing was made."""
    answer = visitor.send("/new", name=name, expires_in_days="")

    assert answer.status == 400
    assert 'id="name-wrong"' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert site.service.list(visitor.account).total == 0


def test_a_key_pasted_as_a_name_is_not_shown_again(visitor: Visitor, site: Site) -> None:
    """Somebody has pasted it into the wrong field: the answer does not have it, nor what is left of it."""
    key = created(visitor)
    answers = [visitor.send("/new", name=name, expires_in_days="") for name in (key, f"x {key[:30]}")]

    assert [(answer.status, key[:30] in answer.text) for answer in answers] == [(400, False)] * 2


@pytest.mark.parametrize(("days", "status"), [("30", 200), ("0", 400), ("3651", 400), ("-1", 400), ("soon", 400)])
def test_an_end_is_a_number_of_days(visitor: Visitor, days: str, status: int) -> None:
    """What is no such number is said beside the field."""
    answer = visitor.send("/new", name="n", expires_in_days=days)

    assert answer.status == status
    assert ('id="expires_in_days-wrong"' in answer.text) == (status == 400)


def test_a_form_sent_again_makes_no_second_key(visitor: Visitor, site: Site) -> None:
    """A reload of the page that shows the key says 'already created', and does not show it."""
    token = visitor.get("/new").token("/console/new")
    answers = [visitor.send("/new", token=token, name="n", expires_in_days="") for _ in range(3)]

    assert [(answer.status, answer.heading, bool(answer.key)) for answer in answers] == [
        (200, "Your key n", True),
        (409, "Already created", False),
        (409, "Already created", False),
    ]
    assert site.service.list(visitor.account).total == 1
    assert answers[0].key not in answers[1].text


def test_a_form_sent_again_after_its_key_was_deleted_makes_none(visitor: Visitor, site: Site) -> None:
    """The form has been used, whatever became of its key."""
    token = visitor.get("/new").token("/console/new")
    visitor.send("/new", token=token, name="n", expires_in_days="")
    site.service.revoke(visitor.account, site.service.list(visitor.account).items[0].id)
    answer = visitor.send("/new", token=token, name="n", expires_in_days="")

    assert answer.heading == "Already created"
    assert site.service.list(visitor.account).total == 0


def test_a_form_is_sent_once_whichever_process_it_meets(
    visitor: Visitor, site: Site, mounted: Callable[[Site], Ask]
) -> None:
    """Two processes share nothing but the store, and of one form they make one key."""
    token = visitor.get("/new").token("/console/new")
    first = visitor.send("/new", token=token, name="n", expires_in_days="")
    visitor.ask = mounted(Site(site.store))
    second = visitor.send("/new", token=token, name="n", expires_in_days="")

    assert first.status == 200
    assert second.status == 409
    assert site.service.list(visitor.account).total == 1


def test_a_rotation_shows_the_successor_once(visitor: Visitor, site: Site) -> None:
    """The successor is shown in the answer, with the steps that are left; sent again, the form rotates nothing."""
    key = site.key(visitor.account, "prod")
    path = f"/keys/{key.id}/rotate"
    token = visitor.get(path).token(f"/console{path}")
    answers = [visitor.send(path, token=token, grace_period_seconds="3600") for _ in range(2)]
    steps = re.findall(r'<li class="(\w+)".*?<strong>(.*?)</strong>', answers[0].text, re.DOTALL)

    assert [(answer.status, bool(answer.key)) for answer in answers] == [(200, True), (409, False)]
    assert site.service.list(visitor.account).total == 2
    assert steps == [
        ("done", "Create a new key"),
        ("now", "Update your application"),
        ("later", "Verify the new key works"),
        ("later", "Delete the old key"),
    ]


def test_a_rotation_goes_on_as_the_keys_are_used(visitor: Visitor, site: Site) -> None:
    """Once a call came with the successor, what is left is to delete the old key; then nothing is."""
    old = site.key(visitor.account, "prod", used_days_ago=0)
    visitor.send(f"/keys/{old.id}/rotate", grace_period_seconds="3600")
    new = site.service.get(visitor.account, str(site.service.get(visitor.account, old.id).replaced_by))

    def steps() -> list[str]:
        return re.findall(r'<li class="(done|now|later)"', visitor.get(f"/keys/{new.id}").text)

    seen = [steps()]
    site.store.mark_used([Use(new.id, visitor.account, site.clock.now_ms())])
    seen.append(steps())
    site.service.revoke(visitor.account, old.id)
    seen.append(steps())

    assert seen == [
        ["done", "now", "later", "later"],
        ["done", "done", "done", "now"],
        ["done", "done", "done", "done"],
    ]


def test_a_key_that_was_rotated_says_so(visitor: Visitor, site: Site) -> None:
    """Its page of rotation has no form any more."""
    key = site.key(visitor.account, "prod")
    site.service.rotate(visitor.account, key.id)

    assert "was rotated already" in visitor.get(f"/keys/{key.id}/rotate").text


@pytest.mark.parametrize("grace", ["", "2592001", "-1", "1e3"])
def test_a_grace_is_a_number_of_seconds(visitor: Visitor, site: Site, grace: str) -> None:
    """What is none rotates nothing, and is said beside the field."""
    key = site.key(visitor.account, "prod")
    answer = visitor.send(f"/keys/{key.id}/rotate", grace_period_seconds=grace)

    assert answer.status == 400
    assert 'id="grace_period_seconds-wrong"' in answer.text
    assert site.service.list(visitor.account).total == 1


@pytest.mark.parametrize("name", ALLOWED)
def test_a_key_is_deleted_by_its_name(visitor: Visitor, site: Site, name: str) -> None:
    """With the name it is gone, and the table says so."""
    key = site.key(visitor.account, name)
    answer = visitor.send(f"/keys/{key.id}/delete", name=name)

    assert answer.status == 303
    assert answer.header("location") == "/console/?note=deleted"
    assert site.service.list(visitor.account).total == 0
    assert "The key is deleted" in visitor.get("/?note=deleted").text


@pytest.mark.parametrize("written", ["", "PROD", "prod2", "pro", "prod\u200b"])
def test_another_name_deletes_nothing(visitor: Visitor, site: Site, written: str) -> None:
    """The form comes back, and the key is as it was."""
    key = site.key(visitor.account, "prod")
    answer = visitor.send(f"/keys/{key.id}/delete", name=written)

    assert answer.status == 400
    assert 'id="name-wrong"' in answer.text
    assert site.service.get(visitor.account, key.id) == key


def test_a_key_is_renamed(visitor: Visitor, site: Site) -> None:
    """It has its new name, and a name that is none is said beside the field."""
    key = site.key(visitor.account, "prod")
    path = f"/keys/{key.id}"
    answers = [visitor.send(path, name=name) for name in ("staging", "\u202ex")]

    assert [(answer.status, 'id="name-wrong"' in answer.text) for answer in answers] == [(303, False), (400, True)]
    assert site.service.get(visitor.account, key.id).name == "staging"


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
def test_a_form_of_another_site_is_refused(visitor: Visitor, site: Site, headers: dict[str, str]) -> None:
    """Even with a token that is right, whatever comes from elsewhere, or does not say from where, makes nothing."""
    token = visitor.get("/new").token("/console/new")
    body = urlencode({"form": token, "name": "n", "expires_in_days": ""})
    answer = visitor.post("/new", body, **headers)

    assert answer.status == 403
    assert answer.heading == "This form was not accepted"
    assert site.service.list(visitor.account).total == 0


def test_a_form_is_accepted_by_its_origin_alone(visitor: Visitor, site: Site) -> None:
    """Browsers without Fetch Metadata say at least their origin."""
    token = visitor.get("/new").token("/console/new")
    body = urlencode({"form": token, "name": "n", "expires_in_days": ""})

    assert visitor.post("/new", body, **{"sec-fetch-site": ""}).status == 200


def test_a_token_is_for_one_form_of_one_owner_in_one_browser(
    visitor: Visitor, site: Site, visitor_of: Callable[[str], Visitor]
) -> None:
    """A token of another form, key, account or browser, a changed one and none are all refused."""
    keys = [site.key(visitor.account, "prod") for _ in range(2)]
    path = f"/keys/{keys[0].id}/delete"
    right = visitor.get(path).token(f"/console{path}")
    other_key = visitor.get(f"/keys/{keys[1].id}/delete").token(f"/console/keys/{keys[1].id}/delete")
    other_act = visitor.get("/new").token("/console/new")
    other_browser = visitor_of(visitor.account).get(path).token(f"/console{path}")
    colleague = visitor_of(site.account())
    colleague.cookie = visitor.cookie
    other_owner = colleague.get("/new").token("/console/new")
    changed = right[:-1] + ("A" if right[-1] != "A" else "Q")
    tokens = [other_key, other_act, other_browser, other_owner, changed, right[:40], "x", "é", right + "A"]
    statuses = [visitor.send(path, token=token, name="prod").status for token in tokens]

    assert statuses == [403] * len(tokens)
    assert visitor.post(path, "name=prod").status == 403
    assert site.service.list(visitor.account).total == 2


def test_a_form_that_lay_open_for_long_is_refused(visitor: Visitor, site: Site) -> None:
    """After twelve hours it has to be loaded anew."""
    token = visitor.get("/new").token("/console/new")
    site.clock.advance(12 * HOUR_MS + 1)

    assert visitor.send("/new", token=token, name="n", expires_in_days="").status == 403


def test_a_browser_without_our_cookie_is_refused(visitor: Visitor) -> None:
    """Who has a token and no cookie is another browser, and is given none for it."""
    token = visitor.get("/new").token("/console/new")
    visitor.cookie = ""

    answer = visitor.send("/new", token=token, name="n", expires_in_days="")
    assert answer.status == 403
    assert answer.header("set-cookie") is None


def test_the_cookie_is_kept_to_this_host_and_from_scripts(visitor: Visitor) -> None:
    """It is given once, without a name for others to set."""
    given = visitor.get("/").header("set-cookie") or ""

    assert re.sub("=[^;]{22};", "=…;", given, count=1) == (
        "__Host-awx-console=…; Path=/; Secure; HttpOnly; SameSite=Lax"
    )
    assert visitor.get("/").header("set-cookie") is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("form={token}&name=a&name=b&expires_in_days=", None),
        ("form={token}&name=a&expires_in_days=&account_id=other", None),
        ("form={token}&name=%FF&expires_in_days=", None),
        ('{{"form": "{token}", "name": "a"}}', "application/json"),
        ("form={token}&name=a&expires_in_days=", "text/plain"),
        ("&".join(["form={token}", *(f"a{number}=1" for number in range(50))]), None),
    ],
)
def test_what_is_no_form_of_ours_is_refused(visitor: Visitor, site: Site, body: str, kind: str | None) -> None:
    """Fields that stand twice, that nobody asked for, other encodings and other types make nothing."""
    token = visitor.get("/new").token("/console/new")
    headers = {} if kind is None else {"content-type": kind}

    assert visitor.post("/new", body.format(token=token), **headers).status == 400
    assert site.service.list(visitor.account).total == 0


def test_as_many_keys_as_may_be_is_said(visitor: Visitor, site: Site) -> None:
    """Beyond the account's cap nothing is made, and the page says what to do."""
    site.service.accounts.set_max_keys(visitor.account, 1)
    answers = [visitor.send("/new", name="n", expires_in_days="") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 409]
    assert "Revoke" in answers[1].text or "revoke" in answers[1].text


@pytest.mark.parametrize("site", [1], indirect=True)
def test_new_keys_are_counted_with_those_of_the_rest_api(visitor: Visitor, site: Site) -> None:
    """Beyond the limit on new keys a form waits, with the time to come back, and makes nothing."""
    answers = [visitor.send("/new", name="n", expires_in_days="") for _ in range(2)]

    assert [(answer.status, answer.header("retry-after")) for answer in answers] == [(200, None), (429, "60")]
    assert site.service.list(visitor.account).total == 1


def test_the_first_key_makes_the_account(visitor_of: Callable[[str], Visitor], site: Site) -> None:
    """Whoever is logged in has an account once they make a key, on the default plan."""
    visitor = visitor_of("newcomer")
    answer = visitor.send("/new", name="n", expires_in_days="")

    assert answer.status == 200
    assert site.service.accounts.get("newcomer").plan is None


def test_a_short_secret_is_refused() -> None:
    """A secret that could be guessed is an error at start."""
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Console(None, who=who, secret="short", limiter=Limiter(MemoryBackend()), plans=PLANS)  # type: ignore[arg-type]


def test_a_console_of_tasks_is_no_wsgi_app(site: Site) -> None:
    """An AsyncLimiter can be asked on an event loop alone, and WSGI has none: that is said at once."""
    limiter = AsyncLimiter(MemoryBackend())
    console = Console(site.service, who=who, secret="s" * 32, limiter=limiter, plans=PLANS)

    with pytest.raises(TypeError, match="event loop"):
        WsgiApp(console)


@pytest.mark.parametrize("planted", ["x", "y" * 22])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("when", ["before the page", "before the form"])
def test_a_second_cookie_of_our_name_locks_nobody_out(visitor: Visitor, planted: str, place: str, when: str) -> None:
    """Some browsers let a neighbouring host set one: forms of the right one work, before and after."""
    visitor.get("/")
    ours, name = visitor.cookie, "__Host-awx-console"
    pair = f"{name}={planted}; {ours}" if place == "before" else f"{ours}; {name}={planted}"
    if when == "before the page":
        visitor.cookie = pair
    token = visitor.get("/new").token("/console/new")
    visitor.cookie = pair

    assert visitor.send("/new", token=token, name="n", expires_in_days="").status == 200


def test_a_planted_cookie_is_no_token(visitor: Visitor, visitor_of: Callable[[str], Visitor], site: Site) -> None:
    """Who plants a cookie of their own browser still has no token of another owner."""
    attacker = visitor_of(site.account())
    token = attacker.get("/new").token("/console/new")
    visitor.get("/")
    visitor.cookie = f"{attacker.cookie}; {visitor.cookie}"

    assert visitor.send("/new", token=token, name="n", expires_in_days="").status == 403


class Broken(Exception):
    """An error of the application's own."""


@pytest.mark.parametrize(
    ("raised", "status", "logged"),
    [
        (Broken("session table is gone"), 503, "who raised Broken: nobody is let in"),
        (KeyStoreUnavailable("no answer"), 503, "key_store_unavailable: no answer"),
        (AccessRefused("access_token_missing", "there is none"), 403, "nobody is logged in: there is none"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/new", "/usage", "/nothing"])
def test_what_who_raises_lets_nobody_in(
    site: Site, raised: Exception, status: int, logged: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer says that the login cannot be checked, and the log says why; nothing is raised."""
    caplog.set_level("INFO")

    def who(_: Request) -> Owner:
        raise raised

    answer = ask_with(who, site)(path)
    assert answer.status == (204 if status == 403 and path == "/usage" else status)
    assert logged in caplog.text
    assert b"session table" not in answer.body


@pytest.mark.parametrize("returned", ["acme", ("acme", "ann"), True])
def test_what_is_no_owner_lets_nobody_in(site: Site, returned: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what `who` must return."""
    answer = ask_with(lambda _: returned, site)("/")

    assert answer.status == 503
    assert "return an Owner, or None if nobody is logged in" in caplog.text


def ask_with(who: Callable[[Request], Any], site: Site) -> Callable[[str], Reply]:
    """Asks a console with this `who` for a page."""
    console = Console(site.service, who=who, secret=b"x" * 32, limiter=site.limiter, plans=PLANS)
    return lambda path: console(WholeRequest(Request("GET", f"/console{path}", None, lambda _: []), b"", b""))
