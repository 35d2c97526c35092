"""What a gate can be told: own costs, exemptions and refusals, and callers as text or without limits."""

import json
import logging
from typing import Any

import pytest
from tests.http.gate_client import Client

from awx_ratelimit import AsyncGate, AsyncLimiter, Caller, MemoryBackend, Plan, PlanTable, Refusal, Reply, Request, Rule

ONE = PlanTable([Plan.of("p", per_minute=1)], default="p")


def remaining(client: Client, subject: str = "alice") -> int:
    return client.limiter.peek(subject, client.gate._policy.resolve(Caller(subject))).usages[0].remaining


def refused(client: Client, **headers: str) -> Reply:
    """The second request of a caller that may send one."""
    client.send(x_api_key="alice")
    reply = client.send(x_api_key="alice", **headers).reply
    assert reply is not None
    return reply


class TestCost:
    """`Rule(cost=function)`."""

    def test_is_computed_from_the_request(self) -> None:
        """The function gets the request, and its result is charged."""
        client = Client(rules=[Rule("/rows", cost=lambda request: int(request.header("x-rows") or 1))])

        client.send("/rows", x_api_key="alice", x_rows="7")

        assert remaining(client) == 53

    def test_of_several_readings_the_highest_counts(self) -> None:
        """A path that may mean two rules costs as much as the dearer one says for this request."""
        client = Client(
            rules=[Rule("/a/b", cost=2), Rule("/b", cost=lambda request: int(request.header("x-rows") or 1))]
        )

        client.send("/a/../b", x_api_key="alice", x_rows="9")

        assert remaining(client) == 51

    def test_above_every_burst_is_refused(self) -> None:
        """A cost that no wait can pay is a 429 without Retry-After."""
        client = Client(rules=[Rule("/**", cost=lambda _: 61)])

        reply = client.send(x_api_key="alice").reply

        assert reply is not None
        assert reply.status == 429
        assert b"retry-after" not in dict(reply.headers)

    @pytest.mark.parametrize("wrong", [-1, 1.5, True, None, "3"])
    def test_that_is_no_number(self, wrong: Any) -> None:
        """Anything but an integer >= 0 raises a TypeError that names the rule, and charges nothing."""
        client = Client(rules=[Rule("/rows", cost=lambda _: wrong)])

        with pytest.raises(
            TypeError, match=r"Rule\('/rows'\): cost: expected an integer >= 0 or a mapping such as .*, got"
        ):
            client.send("/rows", x_api_key="alice")

        assert remaining(client) == 60


class TestExempt:
    """`Rule(exempt=function)`, `Caller(exempt=True)` and `Plan.unlimited`."""

    def test_request(self) -> None:
        """A request for which the function is true is neither limited nor identified; others are."""
        client = Client(rules=[Rule("/**", exempt=lambda request: request.client == "10.0.0.1")])

        exempt, charged = client.send(client="10.0.0.1"), client.send(client="10.0.0.2")

        assert exempt.reply is None
        assert exempt.decision is None
        assert charged.reply is not None
        assert charged.reply.status == 401

    @pytest.mark.parametrize("path", ["//free", "/free/", "/a/../free", "/free;x", "/%66ree"])
    def test_only_the_exact_path(self, path: str) -> None:
        """Another spelling of the path is charged, whatever the function says."""
        client = Client(rules=[Rule("/free", exempt=lambda _: True)])

        assert client.status("/free") == 200
        assert client.status(path) == 401

    def test_is_charged_by_its_own_rule(self) -> None:
        """A request for which the function is false costs what the same rule says."""
        client = Client(rules=[Rule("/rows", exempt=lambda _: False, cost=5)])

        client.send("/rows", x_api_key="alice")

        assert remaining(client) == 55

    def test_that_is_no_bool(self) -> None:
        """Anything but True or False raises a TypeError that names the rule."""
        client = Client(rules=[Rule("/rows", exempt=lambda _: 1)])  # type: ignore[arg-type,return-value]

        with pytest.raises(TypeError, match=r"Rule\('/rows'\): exempt: expected a bool as the result, got 1"):
            client.send("/rows")

    def test_caller(self) -> None:
        """An exempt caller is never refused and never charged."""
        client = Client(plans=ONE, identify=lambda _: Caller("alice", exempt=True))

        admissions = [client.send() for _ in range(5)]

        assert [admission.reply for admission in admissions] == [None] * 5
        assert [admission.headers for admission in admissions] == [[]] * 5
        assert remaining(client) == 1

    def test_unlimited_plan_has_no_headers(self) -> None:
        """Callers under an unlimited plan are decided without a limit to report."""
        client = Client(identify=lambda _: Caller("alice", Plan.unlimited("internal")))

        admission = client.send()

        assert admission.reply is None
        assert admission.headers == []
        assert admission.decision is not None

    def test_unlimited_plan_with_a_budget(self) -> None:
        """A route's own budget limits callers under an unlimited plan as well."""
        login = Rule("/login", budget="login", plan=Plan.of("login", per_minute=2))
        client = Client(identify=lambda _: Caller("alice", Plan.unlimited("internal")), rules=[login])

        assert [client.status("/login") for _ in range(3)] == [200, 200, 429]
        assert client.status("/") == 200


class TestIdentify:
    """What `identify` may return."""

    def test_text(self) -> None:
        """A text is the subject of a caller under the default plan."""
        client = Client(identify=lambda _: "alice")

        client.send()

        assert remaining(client) == 59

    def test_the_key_itself(self) -> None:
        """A subject that is the request's own key raises an error without the key."""
        client = Client(identify=lambda request: request.header("x-api-key"))

        with pytest.raises(TypeError, match="identify returned the API key itself") as caught:
            client.send(x_api_key="awx_secret")

        assert "awx_secret" not in str(caught.value)

    def test_empty_text(self) -> None:
        """An empty subject would put unrelated clients into one bucket, so it raises."""
        client = Client(identify=lambda _: "")

        with pytest.raises(TypeError, match="subject"):
            client.send()


class TestOnRefused:
    """`on_refused`, and the table ``refusal`` of a plan."""

    def test_own_reply_keeps_the_wait_and_the_limits(self) -> None:
        """Status, body and headers are the function's; Retry-After, RateLimit and no-store stay."""
        own = Reply(503, [(b"X-Own", b"1"), (b"Retry-After", b"0"), (b"Cache-Control", b"public")], b"later")
        client = Client(plans=ONE, on_refused=lambda _, __: own)

        reply = refused(client)

        headers = dict(reply.headers)
        assert reply.status == 503
        assert reply.body == b"later"
        assert headers[b"x-own"] == b"1"
        assert headers[b"content-length"] == b"5"
        assert headers[b"retry-after"] == b"60"
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"ratelimit"] == b'"minute";r=0;t=60'
        assert [name for name, _ in reply.headers].count(b"retry-after") == 1

    def test_is_told_why(self) -> None:
        """It gets the request, the wait, the names of the limits and the usual reply."""
        told: list[tuple[Request, Refusal]] = []
        client = Client(plans=ONE, on_refused=lambda *both: told.append(both))

        reply = refused(client)

        request, refusal = told[0]
        assert request.path == "/"
        assert refusal.retry_after_s == 60
        assert refusal.limits == ["minute"]
        assert refusal.decision is not None
        assert refusal.reply == reply

    def test_none_is_the_usual_reply(self) -> None:
        """If it returns None, the usual 429 is sent."""
        assert json.loads(refused(Client(plans=ONE, on_refused=lambda _, __: None)).body)["code"] == (
            "rate_limit_exceeded"
        )

    @pytest.mark.parametrize("wrong", ["later", Reply(99, [], b""), Reply(429, [("a", "b")], b""), 1 / 3])  # type: ignore[list-item]
    def test_mistake(self, wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A wrong result is logged, and the usual 429 is sent instead of a 500."""
        with caplog.at_level(logging.ERROR, "awx_ratelimit"):
            reply = refused(Client(plans=ONE, on_refused=lambda _, __: wrong))

        assert reply.status == 429
        assert "on_refused failed" in caplog.text

    def test_exception(self, caplog: pytest.LogCaptureFixture) -> None:
        """An exception is logged, and the usual 429 is sent."""

        def fail(_: Request, __: Refusal) -> Reply:
            raise LookupError("no template")

        with caplog.at_level(logging.ERROR, "awx_ratelimit"):
            assert refused(Client(plans=ONE, on_refused=fail)).status == 429

        assert "no template" in caplog.text

    def test_too_many_unknown_keys(self) -> None:
        """The 429 for too many unknown keys is the function's as well."""
        client = Client(on_refused=lambda _, __: Reply.text("slow down"))

        statuses = [client.send(x_api_key=f"wrong{number}").reply for number in range(21)]

        assert [reply.status for reply in statuses if reply] == [401] * 20 + [429]
        assert statuses[-1] is not None
        assert statuses[-1].body == b"slow down"

    @pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong1", 401), ("planless", 503)])
    def test_other_statuses(self, key: str, status: int) -> None:
        """It is called for no other status: neither for a 401 nor for a 503."""
        own = Reply.text("slow down")
        identify = Client()._identify
        client = Client(
            identify=lambda request: Caller(key, "no such plan") if key == "planless" else identify(request),
            on_refused=lambda _, __: own,
        )

        assert client.status(x_api_key=key) == status

    @pytest.mark.parametrize("wrong", ["text", 1, lambda request: None])
    def test_no_function_of_two(self, wrong: Any) -> None:
        """Anything but a function of two arguments is refused when the gate is made."""
        with pytest.raises(TypeError, match=r"write a function `def on_refused\(request, refusal\):`"):
            Client(on_refused=wrong)

    def test_async_function(self) -> None:
        """An async function is refused when the gate is made."""

        async def on_refused(_: Request, __: Refusal) -> None: ...

        with pytest.raises(TypeError, match="on_refused is asynchronous; write a plain function"):
            AsyncGate(AsyncLimiter(MemoryBackend()), plans=ONE, identify=lambda _: None, on_refused=on_refused)  # type: ignore[arg-type]

    def test_of_a_plan_table(self) -> None:
        """The table ``refusal`` of a plan replaces status, body and content type for its callers."""
        refusal = {"status": 402, "body": "<p>Upgrade.</p>", "content_type": "text/html"}
        plans = PlanTable.from_mapping({"default": "p", "plans": {"p": {"per_minute": 1, "refusal": refusal}}})

        reply = refused(Client(plans=plans))

        assert reply.status == 402
        assert reply.body == b"<p>Upgrade.</p>"
        assert dict(reply.headers)[b"content-type"] == b"text/html"
        assert dict(reply.headers)[b"retry-after"] == b"60"


class TestReply:
    """Replies that are written in one line."""

    def test_json(self) -> None:
        """`Reply.json` writes JSON with its content type, and without spaces, as the usual bodies are."""
        assert Reply.json({"error": "later"}) == Reply(
            429, [(b"content-type", b"application/json")], b'{"error":"later"}'
        )

    def test_text(self) -> None:
        """`Reply.text` writes UTF-8."""
        assert Reply.text("später", status=503).body == "später".encode()
