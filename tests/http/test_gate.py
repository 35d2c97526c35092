import logging
import pickle
from typing import Any

import pytest

from awx_ratelimit import (
    STARTER,
    Caller,
    Gate,
    InvalidLimit,
    Limiter,
    MemoryBackend,
    PlanTable,
    Request,
    Rule,
    StaticKeys,
)


def request(*keys: bytes, method: str = "GET", path: str = "/") -> Request:
    return Request(method, path, "192.0.2.1", lambda name: list(keys) if name == b"x-api-key" else [])


def gate(identify: Any, **more: Any) -> Gate:
    return Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=identify, **more)


def test_a_key_of_an_unknown_plan_is_an_error_when_the_gate_is_made() -> None:
    """A misspelt plan is found at the start, and the error says which plans there are."""
    with pytest.raises(InvalidLimit, match="there is no plan 'stater'; allowed are starter, growth"):
        gate(StaticKeys({"awx_example": "stater"}))


def test_a_caller_of_an_unknown_plan_is_refused_and_loud(caplog: pytest.LogCaptureFixture) -> None:
    """An identifier that names an unknown plan while running lets nobody in: a 503, and an error in the log."""
    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        admission = gate(lambda _: Caller("key_1", "gold")).admit(request())

    assert admission.reply is not None
    assert admission.reply.status == 503
    assert "key_1" in caplog.text
    assert "gold" in caplog.text


def test_an_async_identify_is_an_error_where_it_cannot_be_awaited() -> None:
    """Gate refuses an async identify when it is made, instead of letting every request through."""

    async def identify(_: Request) -> Caller | None: ...

    with pytest.raises(TypeError, match="AsyncGate"):
        gate(identify)


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\n", "\u00e9", "x" * 129, "\ud800"])
def test_a_key_that_cannot_be_sent_is_an_error_that_does_not_name_it(key: str) -> None:
    """A key that no request could carry is refused when it is configured, by its place and not by its text."""
    with pytest.raises(InvalidLimit, match="StaticKeys: key 2 cannot be sent") as caught:
        StaticKeys({"awx_example": "starter", key: "starter"})

    assert not key or key not in str(caught.value)


def test_no_key_is_kept_in_words() -> None:
    """The text of a key is not in the identifier, in the caller, or in the decision."""
    keys = StaticKeys({"awx_secret_text": "starter"})
    admission = gate(keys).admit(request(b"awx_secret_text"))

    assert admission.decision is not None
    assert "awx_secret_text" not in repr((vars(keys), admission, admission.decision.lease, admission.decision.claim))


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "health"}, {"path": ""}, {"path": None}, {"path": "/a/**/b"}, {"path": "/a/{id"}, {"path": "/{}"},
        {"path": "/a**"}, {"path": "/a/*"}, {"path": "/a?b=1"}, {"path": "/a/{x}.{y}"}, {"budget": "login"},
        {"cost": -1}, {"cost": 1.5}, {"cost": True}, {"exempt": "false"},
        {"methods": []}, {"methods": ["GET,POST"]}, {"methods": [1]}, {"methods": "GET"},
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_when_it_is_made(fields: dict[str, Any]) -> None:
    """A rule that could not match what its author meant is an InvalidLimit that names it."""
    with pytest.raises(InvalidLimit, match=r"Rule\("):
        Rule(**({"path": "/a"} | fields))


@pytest.mark.parametrize(("method", "cost"), [("GET", 7), ("HEAD", 7), ("POST", 1), ("get", 7)])
def test_a_get_rule_covers_head(method: str, cost: int) -> None:
    """A rule for GET is one for HEAD and, as frameworks have it, for any case of the letters."""
    admission = gate(lambda _: Caller("s", "starter"), rules=[Rule("/a", methods=["get"], cost=7)]).admit(
        request(method=method, path="/a")
    )

    assert admission.decision is not None
    assert admission.decision.cost == cost


def test_the_first_rule_that_matches_wins() -> None:
    """Rules are tried in their order."""
    rules = [Rule("/a/{id}", cost=2), Rule("/a/b", cost=3), Rule("/**", cost=4)]
    made = gate(lambda _: Caller("s", "starter"), rules=rules)

    decisions = [made.admit(request(path=path)).decision for path in ("/a/b", "/a/b/c", "/")]
    assert [decision and decision.cost for decision in decisions] == [2, 4, 4]


@pytest.mark.parametrize("path", ["/v1/transfers\n", "//v1/transfers/\n"])
def test_a_newline_is_no_way_around_a_cost(path: str) -> None:
    """A path that frameworks route as another costs what that one costs."""
    admission = gate(lambda _: Caller("s", "starter"), rules=[Rule("/v1/transfers", cost=5)]).admit(request(path=path))

    assert admission.decision is not None
    assert admission.decision.cost == 5


def test_a_prefix_that_came_with_the_request_chooses_no_rule() -> None:
    """Where a header may name the mount, the dearer of the two paths counts, and an exemption needs both."""
    rules = [Rule("/static/**", exempt=True), Rule("/v1/transfers", cost=5), Rule("/**", cost=2)]
    made = gate(lambda _: Caller("s", "starter"), rules=rules)
    paths = [
        ("/static/v1/transfers", "/v1/transfers"),
        ("/x/v1/transfers", "/v1/transfers"),
        ("/static/a", "/static/a"),
    ]

    decisions = [made.admit(request(path=path)._replace(inner_path=inner)).decision for path, inner in paths]
    assert [decision and decision.cost for decision in decisions] == [5, 5, None]


def test_plans_rules_and_tables_can_be_pickled() -> None:
    """Configuration may be handed to another process, and is equal there."""
    rule = Rule("/login", methods=["POST"], budget="b", plan=STARTER.of("p", per_minute=1))
    table = PlanTable([STARTER], default="starter", overrides={"key": {"per_minute": 3}})
    loaded = pickle.loads(pickle.dumps((STARTER, rule, table)))

    assert loaded[:2] == (STARTER, rule)
    assert hash(loaded[0]) == hash(STARTER)
    assert loaded[2].resolve(Caller("key")) == table.resolve(Caller("key"))
