"""The calls of the REST API: every field of their responses, and the requests that they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.keys.conftest import START_MS
from tests.keys.store_probes import statements
from tests.management.conftest import JSON, PLANS, Client, claims, request_of, signed

from awx_ratelimit import BackendUnavailable, InvalidLimit, Limiter, Plan
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore
from awx_ratelimit.keys.models import utc_datetime
from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.management import AccessTokens, ManagementApi
from awx_ratelimit.management.api import CREATIONS
from awx_ratelimit.testing import ManualClock

MISSING = "key_0000000000000000"
NO_SUCH_KEY = b'{"code":"api_key_not_found","type":"not_found_error","message":"There is no such API key."}'


def test_create(client: Client, service: KeyService) -> None:
    """Create answers 201 with the six fields of the contract; the key is in no other response and is not stored."""
    made = client("POST", "/api-keys", {"name": "production-backend"})
    key = made.json
    seen = client("GET", "/api-keys").body + client("GET", f"/api-keys/{key['id']}").body

    assert made.status == 201
    assert made.headers[b"cache-control"] == b"no-store"
    assert list(key) == ["id", "name", "key", "prefix", "created_at", "last_used_at"]
    assert key["name"] == "production-backend"
    assert key["prefix"] == f"awx_...{key['key'][-4:]}"
    assert key["created_at"] == "2025-06-01T10:00:00Z"
    assert key["last_used_at"] is None
    assert KeyFormat().is_key(key["key"]) is True
    assert key["key"].encode() not in seen
    assert service.get("acme", key["id"]).created_by == "acme"


def test_list(client: Client, service: KeyService, clock: ManualClock) -> None:
    """Without pages the response has only `data`, newest first, and each item has the five fields of the contract."""
    ids = []
    for name in ("first", "second"):
        ids.append(client("POST", "/api-keys", {"name": name}).json["id"])
        clock.advance(1_000)
    listed = client("GET", "/api-keys")

    first, second = (service.get("acme", key_id).masked for key_id in ids)
    created = [("2025-06-01T10:00:01Z", ids[1], "second", second), ("2025-06-01T10:00:00Z", ids[0], "first", first)]
    assert listed.json == {
        "data": [
            {"id": key_id, "name": name, "prefix": prefix, "created_at": at, "last_used_at": None}
            for at, key_id, name, prefix in created
        ]
    }
    assert listed.status == 200
    assert listed.headers[b"cache-control"] == b"no-store"
    assert list(listed.json["data"][0]) == ["id", "name", "prefix", "created_at", "last_used_at"]


def test_pages(client: Client, service: KeyService) -> None:
    """`page_num` and `page_size` select a page, with `total` and `has_more`."""
    for number in range(3):
        service.create("acme", f"n{number}")
    pages = [client("GET", "/api-keys", query=f"page_num={number}&page_size=2").json for number in (1, 2, 3)]

    assert [(len(page["data"]), page["total"], page["has_more"]) for page in pages] == [
        (2, 3, True),
        (1, 3, False),
        (0, 3, False),
    ]
    assert [len(client("GET", "/api-keys", query=query).json["data"]) for query in ("page_num=1", "page_size=1")] == [
        3,
        1,
    ]


def test_long_list(client: Client, service: KeyService, store: KeyStore) -> None:
    """For more than a thousand keys the list without pages is an error that says to use pages."""
    service.accounts.set_max_keys("acme", 1_001)
    row = {"account_id": "acme", "name": "n", "prefix": "awx_", "last4": "abcd", "created_at_ms": START_MS}
    ids = [f"key_{number:016}" for number in range(1_000)]
    # Creating them one by one would take seconds.
    with store._engines.writing.begin() as connection:
        connection.execute(
            KEYS.insert(), [{**row, "id": each, "family_id": each, "key_hash": each.encode()} for each in ids]
        )
    whole = len(client("GET", "/api-keys").json["data"])
    service.create("acme", "n")
    refused = client("GET", "/api-keys")

    assert whole == 1_000
    assert refused.status == 400
    assert "request pages" in refused.json["message"]


def test_rename(client: Client, service: KeyService) -> None:
    """Patch returns the item with its new name, and the event names the actor."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    renamed = client("PATCH", f"/api-keys/{key_id}", {"name": "  staging-ci "})
    event = service.events("acme").items[0]

    assert renamed.status == 200
    assert renamed.json == client("GET", f"/api-keys/{key_id}").json | {"name": "staging-ci"}
    assert event.action == "key.renamed"
    assert event.actor == "acme"


def test_revoke(client: Client) -> None:
    """Delete answers 204 without a body; every later call with this id is a 404."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    gone = client("DELETE", f"/api-keys/{key_id}")
    again = [client(method, f"/api-keys/{key_id}{more}", body).body for method, more, body in EVERY_ACT]

    assert gone.status == 204
    assert gone.body == b""
    assert gone.headers == {b"cache-control": b"no-store"}
    assert set(again) == {NO_SUCH_KEY}
    assert client("GET", "/api-keys").json == {"data": []}


EVERY_ACT: list[tuple[str, str, Any]] = [
    ("GET", "", None), ("PATCH", "", {"name": "n"}), ("DELETE", "", None), ("POST", "/rotate", {}),
]  # fmt: skip


def test_rotate(client: Client, service: KeyService, clock: ManualClock) -> None:
    """Rotate answers 201 with the new key; the old key ends after its grace period, a day by default."""
    old = [client("POST", "/api-keys", {"name": "n"}).json["id"] for _ in range(3)]
    bodies = [{"grace_period_seconds": 60}, {}, None]
    new = [client("POST", f"/api-keys/{key_id}/rotate", body) for key_id, body in zip(old, bodies, strict=True)]
    grace_s = [(service.get("acme", key_id).expires_at.timestamp() - clock.now_ms() / 1000) for key_id in old]  # type: ignore[union-attr]

    assert {answer.status for answer in new} == {201}
    assert grace_s == [60, 86_400, 86_400]
    assert [list(answer.json) for answer in new] == [
        ["id", "name", "key", "prefix", "created_at", "last_used_at"] for _ in old
    ]
    assert client("POST", f"/api-keys/{old[0]}/rotate").code == "api_key_not_active"


def test_usage(client: Client, service: KeyService, limiter: Limiter) -> None:
    """Usage shows what each key has used of its plan without charging it; a key and its successor share limits."""
    old = service.create("acme", "n").key
    limiter.acquire(old.family_id, PLANS.plans[0], 7)
    new = service.rotate("acme", old.id).key
    used = [client("GET", "/usage").json for _ in range(3)]

    assert used == [used[0]] * 3
    assert [item["id"] for item in used[0]["data"]] in ([new.id, old.id], [old.id, new.id])
    states = {item["id"]: (item["status"], item["expires_at"]) for item in used[0]["data"]}
    assert states == {new.id: ("active", None), old.id: ("rotated", "2025-06-02T10:00:00Z")}
    [active] = [item for item in used[0]["data"] if item["id"] == new.id]
    assert active | {"id": "", "prefix": ""} == {
        "id": "",
        "name": "n",
        "prefix": "",
        "status": "active",
        "expires_at": None,
        "plan": "starter",
        "limits": [
            {"name": "minute", "measure": "requests", "capacity": 60, "used": 7, "remaining": 53,
             "reset_seconds": 7},
            {"name": "day", "measure": "requests", "capacity": 10_000, "used": 7, "remaining": 9_993,
             "reset_seconds": 61},
            {"name": "concurrent", "measure": "concurrent-requests", "capacity": 5, "used": 1, "remaining": 4,
             "reset_seconds": 0},
        ],
    }  # fmt: skip
    assert client("GET", "/usage", query="page_size=1").json["has_more"] is True


def test_new_account(
    client_of: Callable[[str], Client], service: KeyService, limiter: Limiter, tokens: AccessTokens, clock: ManualClock
) -> None:
    """A new account has no keys, and its first key creates it with the configured plan."""
    fresh = Client(
        ManagementApi(service, tokens, limiter=limiter, plans=PLANS, new_account_plan="growth"),
        signed(claims(clock, sub="fresh")),
    )
    before = [fresh("GET", path).json for path in ("/api-keys", "/usage")]
    made = fresh("POST", "/api-keys", {"name": "n"})

    assert before == [{"data": []}] * 2
    assert made.status == 201
    assert service.accounts.get("fresh").plan == "growth"


def test_unknown_plan_of_new_accounts(service: KeyService, limiter: Limiter, tokens: AccessTokens) -> None:
    """A plan for new accounts that is not in the plan table is an error when the API is made, with the plans."""
    names = ", ".join(plan.name for plan in PLANS.plans)

    with pytest.raises(InvalidLimit, match=f"new_account_plan: expected one of the plans {names}, got 'golden'"):
        ManagementApi(service, tokens, limiter=limiter, plans=PLANS, new_account_plan="golden")


def test_key_of_another_account(
    service: KeyService, tokens: AccessTokens, limiter: Limiter, clock: ManualClock
) -> None:
    """Every call with another account's key is the same 404 as with an unknown id, and changes nothing."""
    many = Plan.of("many", per_minute=1_000)
    api = ManagementApi(service, tokens, limiter=limiter, plans=PLANS, creations=many)
    mine, theirs = (Client(api, signed(claims(clock, sub=account))) for account in ("acme", "other"))
    key_id = mine("POST", "/api-keys", {"name": "n"}).json["id"]
    theirs("POST", "/api-keys", {"name": "m"})
    ids = [key_id, MISSING, "key_1", "x", "..", "%2e%2e", "key_é", key_id + "\n", "a" * 5_000, key_id.upper()]
    answers = {
        (answer.status, *answer.headers.items(), answer.body)
        for method, more, body in EVERY_ACT
        for one in ids
        for answer in [theirs(method, f"/api-keys/{one}{more}", body)]
    }

    assert {answer[-1] for answer in answers} == {NO_SUCH_KEY}
    assert len(answers) == 1
    assert mine("GET", f"/api-keys/{key_id}").json["name"] == "n"
    assert len(service.events("acme").items) == 2


def test_statements_of_a_404(client_of: Callable[[str], Client], store: KeyStore) -> None:
    """An unknown id and another account's id need the same statements, so timing reveals nothing."""
    key_id = client_of("other")("POST", "/api-keys", {"name": "n"}).json["id"]
    client = client_of("acme")
    sent = []
    for one in (key_id, MISSING):
        with statements(store) as seen:
            client("GET", f"/api-keys/{one}")
        sent.append(seen)

    assert sent[0] == sent[1]
    assert len(sent[0]) == 1


WRONG_BODIES: dict[str, tuple[Any, str]] = {
    "another account's": ({"name": "n", "account_id": "other"}, "has unknown fields"),
    "a field of the table": ({"name": "n", "plan": "enterprise"}, "has unknown fields"),
    "a name of ours": ({"name": "n", "__class__": 1}, "has unknown fields"),
    "no name": ({}, "name: is missing"),
    "null": ({"name": None}, "name: is null"),
    "a number": ({"name": 1}, "not counting white space around them, got an int"),
    "a list": ({"name": ["n"]}, "not counting white space around them, got a list"),
    "empty": ({"name": " "}, "name: has 0 characters"),
    "long": ({"name": "n" * 65}, "name: has 65 characters"),
    "bidi": ({"name": "a\u202eb"}, "name: contains the invisible character U+202E"),
    "surrogate": (b'{"name": "\\ud800"}', "name: contains the invisible character U+D800"),
    "days as text": (
        {"name": "n", "expires_in_days": "1"},
        "expires_in_days: expected an integer from 1 to 3650, got a str",
    ),
    "days that are true": (
        {"name": "n", "expires_in_days": True},
        "expected an integer from 1 to 3650, got True (bool)",
    ),
    "no days": ({"name": "n", "expires_in_days": 0}, "expected an integer from 1 to 3650, got 0 (int)"),
    "days that are null": ({"name": "n", "expires_in_days": None}, "expires_in_days: is null"),
    "endless days": (b'{"name": "n", "expires_in_days": 1e999}', "expected an integer from 1 to 3650, got inf (float)"),
    "half a day": ({"name": "n", "expires_in_days": 0.5}, "expected an integer from 1 to 3650, got 0.5 (float)"),
    "a list around": ([{"name": "n"}], "not a JSON object"),
    "a text": ("name", "not a JSON object"),
    "null alone": (b"null", "not a JSON object"),
    "twice": (b'{"name": "n", "name": "m"}', "not valid JSON"),
    "twice, escaped": (b'{"name": "n", "n\\u0061me": "m"}', "not valid JSON"),
    "NaN": (b'{"name": NaN}', "not valid JSON"),
    "infinite": (b'{"name": -Infinity}', "not valid JSON"),
    "deep": (b'{"name": ' + b"[" * 30_000, "not valid JSON"),
    "many digits": (b'{"name": ' + b"1" * 60_000 + b"}", "not valid JSON"),
    "two values": (b'{"name": "n"}{"name": "m"}', "not valid JSON"),
    "cut off": (b'{"name": "n"', "not valid JSON"),
    "a comma more": (b'{"name": "n",}', "not valid JSON"),
    "a comment": (b'{"name": "n"} // x', "not valid JSON"),
    "UTF-16": ('{"name": "n"}'.encode("utf-16"), "not valid JSON"),
    "a mark before": (b'\xef\xbb\xbf{"name": "n"}', "not valid JSON"),
    "no UTF-8": (b'{"name": "\xff"}', "not valid JSON"),
    "NUL": (b'{"name": "n"}\x00', "not valid JSON"),
    "nothing": (None, "name: is missing"),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
def test_invalid_body(client: Client, service: KeyService, case: str) -> None:
    """An invalid body is a 400 that says what is allowed, and changes nothing."""
    body, says = WRONG_BODIES[case]
    answer = client("POST", "/api-keys", body)

    assert answer.status == 400, answer.body
    assert answer.code == "invalid_request", answer.body
    assert says in answer.json["message"], answer.body
    assert service.list("acme").total == 0


def test_whole_numbers(client: Client, service: KeyService, clock: ManualClock) -> None:
    """30.0 and 3e1 count as 30, because JSON has only one kind of numbers."""
    ends = [
        client("POST", "/api-keys", b'{"name": "n", "expires_in_days": %s}' % text).json["id"]
        for text in (b"30", b"30.0", b"3e1")
    ]

    assert {service.get("acme", key_id).expires_at for key_id in ends} == {
        utc_datetime(clock.now_ms() + 30 * 86_400_000)
    }


def test_key_in_a_field(client: Client, service: KeyService) -> None:
    """The error about a key that was pasted as a name, a field or an id does not contain the key."""
    key = service.create("acme", "n").secret.reveal()
    answers = [
        client("POST", "/api-keys", {"name": f"my {key}"}),
        client("POST", "/api-keys", {key: "n"}),
        client("GET", f"/api-keys/{key}"),
        client("GET", "/api-keys", query=f"{key}=1"),
        client("GET", "/api-keys", query=f"page_num={key}"),
    ]

    assert [answer.status for answer in answers] == [400, 400, 404, 400, 400]
    assert [answer for answer in answers if key[4:30].encode() in answer.body] == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 415),
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"application/x-www-form-urlencoded")], 415),
        ([(b"content-type", b"application/json; charset=latin-1")], 415),
        ([(b"content-type", b"application/json, text/plain")], 415),
        ([(b"content-type", b"application/jsonp")], 415),
        ([*JSON, *JSON], 415),
        ([(b"content-type", b'Application/JSON ; charset="UTF-8"')], 201),
    ],
)
def test_content_type(client: Client, lines: Any, status: int) -> None:
    """Only JSON is accepted: no HTML form, and no repeated Content-Type."""
    answer = client("POST", "/api-keys", {"name": "n"}, headers=lines)

    assert answer.status == status
    assert (status == 201 or answer.code == "unsupported_media_type") is True


@pytest.mark.parametrize(
    "query",
    ["page_num=0", "page_num=-1", "page_num=", "page_num", "page_num=1&page_num=2", "page_size=101", "page=2", "&",
     "page_num=1e2", "page_num=%C2%B2", "page_num=99999999999", "a" * 3_000, "page_num=1;page_size=1", "page_num=1&",
     "page_num=%ff", "&".join(f"a{n}=1" for n in range(50))],
)  # fmt: skip
def test_invalid_query(client: Client, query: str) -> None:
    """An impossible page and unknown parameters are a 400, and not the first page."""
    assert client("GET", "/api-keys", query=query).code == "invalid_request"
    assert client("GET", "/usage", query=query).code == "invalid_request"


def test_query_of_other_calls(client: Client) -> None:
    """A query that would be ignored is refused."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    calls = [("GET", f"/{key_id}", None), ("PATCH", f"/{key_id}", {"name": "m"}), ("DELETE", f"/{key_id}", None),
             ("POST", f"/{key_id}/rotate", {}), ("POST", "", {"name": "m"})]  # fmt: skip

    assert {
        client(method, f"/api-keys{path}", body, query="account_id=other").code for method, path, body in calls
    } == {"invalid_request"}


def test_maximum_number_of_keys(client: Client, service: KeyService) -> None:
    """At the maximum number of keys, create is a 409 until one is revoked."""
    service.accounts.set_max_keys("acme", 1)
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    refused = client("POST", "/api-keys", {"name": "n"})
    client("DELETE", f"/api-keys/{key_id}")

    assert refused.status == 409
    assert refused.code == "api_key_limit_reached"
    assert client("POST", "/api-keys", {"name": "n"}).status == 201


def test_suspended_account(client: Client, service: KeyService) -> None:
    """Create is a 409; keys can still be listed and revoked."""
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    service.accounts.suspend("acme")
    answers = [
        client("POST", "/api-keys", {"name": "n"}),
        client("POST", f"/api-keys/{key_id}/rotate"),
        client("GET", f"/api-keys/{key_id}"),
        client("DELETE", f"/api-keys/{key_id}"),
    ]

    assert [answer.status for answer in answers] == [409, 409, 200, 204]


def test_limit_on_creations(client_of: Callable[[str], Client], limiter: Limiter, clock: ManualClock) -> None:
    """The eleventh creation or rotation in a minute is a 429 with an exact wait; other accounts are not affected."""
    client = client_of("acme")
    key_id = client("POST", "/api-keys", {"name": "n"})
    made = [client("POST", "/api-keys", {"name": "n"}).status for _ in range(8)]
    made.append(client("POST", f"/api-keys/{key_id.json['id']}/rotate").status)
    refused = client("POST", f"/api-keys/{key_id.json['id']}/rotate")
    other = client_of("other")("POST", "/api-keys", {"name": "n"}).status
    clock.advance(int(refused.headers[b"retry-after"]) * 1000)

    assert made == [201] * 9
    assert refused.status == 429
    assert refused.code == "rate_limit_exceeded"
    assert other == 201
    assert key_id.headers[b"ratelimit-policy"] == refused.headers[b"ratelimit-policy"] == b'"minute";q=10;w=60'
    assert client("POST", "/api-keys", {"name": "n"}).status == 201


def test_limit_on_calls(client_of: Callable[[str], Client], clock: ManualClock) -> None:
    """Reads and renames share a separate limit, which is in the headers; keys can still be revoked."""
    client = client_of("acme")
    key_id = client("POST", "/api-keys", {"name": "n"}).json["id"]
    calls = [("GET", "/api-keys"), ("GET", f"/api-keys/{key_id}"), ("GET", "/usage"), ("PATCH", f"/api-keys/{key_id}")]
    made = [client(*calls[number % 4], {"name": "m"} if number % 4 == 3 else None) for number in range(120)]
    refused = [client(*call, {"name": "n"} if call[0] == "PATCH" else None) for call in calls]
    others = [client_of("other")("GET", "/api-keys").status, client("POST", "/api-keys", {"name": "n"}).status]
    revoked = client("DELETE", f"/api-keys/{key_id}").status
    clock.advance(int(refused[0].headers[b"retry-after"]) * 1000)

    assert {answer.status for answer in made} == {200}
    assert made[0].headers[b"ratelimit"] == b'"minute";r=119;t=60'
    assert [(answer.status, answer.code) for answer in refused] == [(429, "rate_limit_exceeded")] * 4
    assert others == [200, 201]
    assert revoked == 204
    assert client("GET", "/api-keys").status == 200


def test_revoke_an_unknown_key(client: Client, store: KeyStore, clock: ManualClock) -> None:
    """It is not limited, and so it only reads and takes no lock."""
    with store.unit_of_work("acme", now_ms=clock.now_ms()):
        answer = client("DELETE", f"/api-keys/{MISSING}")

    assert answer.status == 404
    assert answer.code == "api_key_not_found"


@pytest.mark.parametrize(
    ("path", "allow"),
    [("/api-keys", b"GET, HEAD, OPTIONS, POST"), (f"/api-keys/{MISSING}", b"DELETE, GET, HEAD, OPTIONS, PATCH"),
     (f"/api-keys/{MISSING}/rotate", b"OPTIONS, POST"), ("/usage", b"GET, HEAD, OPTIONS"),
     ("/openapi.json", b"GET, HEAD, OPTIONS")],
)  # fmt: skip
def test_other_methods(api: ManagementApi, path: str, allow: bytes) -> None:
    """A 405 and the response to OPTIONS list the methods of the path, without a token."""
    nobody = Client(api, "")
    refused = [nobody(method, path) for method in ("PUT", "TRACE", "CONNECT", "get", "", "PROPFIND")]
    options = nobody("OPTIONS", path)

    assert {(answer.status, answer.code, answer.headers[b"allow"]) for answer in refused} == {
        (405, "method_not_allowed", allow)
    }
    assert options.status == 204
    assert options.headers[b"allow"] == allow
    assert options.body == b""


def test_head(client_of: Callable[[str], Client]) -> None:
    """HEAD has the headers of GET; the adapter omits the body."""
    assert client_of("acme")("HEAD", "/api-keys") == client_of("other")("GET", "/api-keys")


@pytest.mark.parametrize(
    "path",
    ["", "/", "/api-keys/", "/api-keys//", f"/api-keys/{MISSING}/", "/API-KEYS", "/usage/x", "//api-keys",
     f"/api-keys/{MISSING}/rotate/x", "/api-keys/../usage", "/api-keys\n"],
)  # fmt: skip
def test_unknown_path(client: Client, path: str) -> None:
    """Paths are not normalised: any other path is a 404."""
    assert client("GET", path).code == "not_found"


def test_base(service: KeyService, tokens: AccessTokens, limiter: Limiter) -> None:
    """The API answers only below its base."""
    api = ManagementApi(service, tokens, limiter=limiter, plans=PLANS, base="/internal/keys/")
    statuses = [
        api(FullRequest(request_of("GET", path, []), b"", b"")).status
        for path in ("/internal/keys/usage", "/usage", "/internal/keysXusage", "/api/v1/usage")
    ]

    assert statuses == [401, 404, 404, 404]
    assert api.document["servers"] == [{"url": "/internal/keys"}]


def test_api_key_as_a_token(api: ManagementApi, service: KeyService) -> None:
    """An API key in any header is a 403 on every call, without a look-up."""
    key = service.create("acme", "n").secret.reveal().encode()
    other = Client(api, "")
    answers = []
    for line in [(b"authorization", b"Bearer " + key), (b"x-api-key", key), (b"authorization", b"bearer awx_x")]:
        other.headers = [line]
        answers += [
            other("POST", "/api-keys", {"name": "n"}),
            other("GET", "/usage"),
            other("DELETE", f"/api-keys/{MISSING}"),
        ]

    assert {(answer.status, answer.code) for answer in answers} == {(403, "access_token_required")}
    assert service.list("acme").total == 1


def test_token_and_api_key(client: Client) -> None:
    """If a request has a token and a key, the token counts."""
    assert client("GET", "/api-keys", headers=[(b"x-api-key", b"awx_1")]).status == 200


class UnavailableBackend:
    """A backend that never responds."""

    longest_wait_ms = 0

    def acquire(self, *_: object) -> Any:
        raise BackendUnavailable("it is down")

    peek = acquire_joint = peek_joint = acquire

    def release(self, _: object) -> None: ...

    refund = settle = reset = health = close = release


def test_limiter_outage(service: KeyService, tokens: AccessTokens, clock: ManualClock) -> None:
    """Without decisions, create and usage are a 503, and other calls still work."""
    api = ManagementApi(service, tokens, limiter=Limiter(UnavailableBackend()), plans=PLANS)  # type: ignore[arg-type]
    client = Client(api, signed(claims(clock)))
    service.create("acme", "n")
    answers = [client("POST", "/api-keys", {"name": "n"}), client("GET", "/usage"), client("GET", "/api-keys")]

    assert [answer.status for answer in answers] == [503, 503, 200]
    assert answers[0].code == "rate_limiter_unavailable"
    assert service.list("acme").total == 1


def test_unknown_plan(client: Client, service: KeyService, caplog: Any) -> None:
    """Usage of a plan that is not in the table is an error."""
    service.create("acme", "n")
    service.accounts.set_plan("acme", "gold")

    assert client("GET", "/usage").code == "rate_limiter_unavailable"
    assert "gold" in caplog.text


def test_no_store(client: Client) -> None:
    """Every response has `Cache-Control: no-store`, also errors and documents."""
    answers = [client("GET", path) for path in ("/api-keys", "/usage", "/openapi.json", "/x", f"/api-keys/{MISSING}")]

    assert {answer.headers[b"cache-control"] for answer in answers} == {b"no-store"}


@pytest.mark.parametrize("field", ["creations", "calls"])
def test_plan_of_calls_with_slots(field: str, service: KeyService, tokens: AccessTokens, limiter: Limiter) -> None:
    """A plan of calls with slots, which nothing would release, is an error at the start."""
    plan: dict[str, Any] = {field: Plan.of("few", per_minute=10, concurrent=2)}

    with pytest.raises(
        InvalidLimit, match=f"^{field}: expected a plan with rates only, but 'few' has concurrent slots$"
    ):
        ManagementApi(service, tokens, limiter=limiter, plans=PLANS, **plan)


def test_subject_of_the_limit(client: Client, limiter: Limiter) -> None:
    """The limit on creations is in the gate's backend, so processes share it, and its subject contains no key."""
    client("POST", "/api-keys", {"name": "n"})

    assert limiter.peek("api-keys:acme", CREATIONS).usages[0].remaining == 9
