"""A gate checks its arguments, and applies rules and keys."""

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


def test_key_with_unknown_plan() -> None:
    """A misspelt plan raises in the constructor, and the error lists the plans that exist."""
    with pytest.raises(InvalidLimit, match="there is no plan 'stater'; allowed are starter, growth"):
        gate(StaticKeys({"awx_example": "stater"}))


def test_caller_with_unknown_plan(caplog: pytest.LogCaptureFixture) -> None:
    """A caller with an unknown plan gets a 503, and the log names caller and plan."""
    with caplog.at_level(logging.ERROR, "awx_ratelimit"):
        admission = gate(lambda _: Caller("key_1", "gold")).admit(request())

    assert admission.reply is not None
    assert admission.reply.status == 503
    assert "key_1" in caplog.text
    assert "gold" in caplog.text


def test_async_identify_in_gate() -> None:
    """Gate rejects an async `identify` in its constructor."""

    async def identify(_: Request) -> Caller | None: ...

    with pytest.raises(TypeError, match="AsyncGate"):
        gate(identify)


@pytest.mark.parametrize("key", ["", "a b", "a,b", "a\n", "\u00e9", "x" * 129, "\ud800"])
def test_key_that_cannot_be_sent(key: str) -> None:
    """A key that no header can carry is an error that shows its position and not the key."""
    with pytest.raises(InvalidLimit, match="StaticKeys: key 2: expected 1 to 128 visible ASCII") as caught:
        StaticKeys({"awx_example": "starter", key: "starter"})

    assert not key or key not in str(caught.value)


def test_keys_are_not_kept() -> None:
    """The text of a key is neither in the identifier nor in the admission or the decision."""
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
def test_invalid_rule(fields: dict[str, Any]) -> None:
    """An invalid rule raises InvalidLimit with its path."""
    with pytest.raises(InvalidLimit, match=r"Rule\("):
        Rule(**({"path": "/a"} | fields))


@pytest.mark.parametrize(("method", "cost"), [("GET", 7), ("HEAD", 7), ("POST", 1), ("get", 7)])
def test_get_rule_covers_head(method: str, cost: int) -> None:
    """A GET rule also matches HEAD, and methods in lower case."""
    admission = gate(lambda _: Caller("s", "starter"), rules=[Rule("/a", methods=["get"], cost=7)]).admit(
        request(method=method, path="/a")
    )

    assert admission.decision is not None
    assert admission.decision.cost == cost


def test_first_match_wins() -> None:
    """Rules are tried in their order."""
    rules = [Rule("/a/{id}", cost=2), Rule("/{x}/b", cost=3), Rule("/**", cost=4)]
    made = gate(lambda _: Caller("s", "starter"), rules=rules)

    decisions = [made.admit(request(path=path)).decision for path in ("/a/b", "/a/b/c", "/")]
    assert [decision and decision.cost for decision in decisions] == [2, 4, 4]


@pytest.mark.parametrize("path", ["/v1/transfers\n", "//v1/transfers/\n"])
def test_newline_in_path(path: str) -> None:
    """A trailing newline, which frameworks ignore, does not change the cost."""
    admission = gate(lambda _: Caller("s", "starter"), rules=[Rule("/v1/transfers", cost=5)]).admit(request(path=path))

    assert admission.decision is not None
    assert admission.decision.cost == 5


def test_prefix_from_a_header() -> None:
    """If a header may have set the mount prefix, the more expensive path counts, and an exemption needs both."""
    rules = [Rule("/static/**", exempt=True), Rule("/v1/transfers", cost=5), Rule("/**", cost=2)]
    made = gate(lambda _: Caller("s", "starter"), rules=rules)
    paths = [
        ("/static/v1/transfers", "/v1/transfers"),
        ("/x/v1/transfers", "/v1/transfers"),
        ("/static/a", "/static/a"),
    ]

    decisions = [made.admit(request(path=path)._replace(inner_path=inner)).decision for path, inner in paths]
    assert [decision and decision.cost for decision in decisions] == [5, 5, None]


def test_pickle() -> None:
    """Plans, rules and tables are equal after pickling."""
    rule = Rule("/login", methods=["POST"], budget="b", plan=STARTER.of("p", per_minute=1))
    table = PlanTable([STARTER], default="starter", overrides={"key": {"per_minute": 3}})
    loaded = pickle.loads(pickle.dumps((STARTER, rule, table)))

    assert loaded[:2] == (STARTER, rule)
    assert hash(loaded[0]) == hash(STARTER)
    assert loaded[2].resolve(Caller("key")) == table.resolve(Caller("key"))
