"""A rule that never applies is logged with the rules before it. A second rule for the same requests is an error."""

import logging
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.processor_time import cpu_ratio

from awx_ratelimit import AsyncGate, AsyncLimiter, InvalidLimit, MemoryBackend, Plan, PlanTable, Rule, StaticKeys
from awx_ratelimit.http.rules.matching import RuleMatcher, rule_of
from awx_ratelimit.http.rules.reachability import check_reachable

LOGIN = Plan.of("login", per_minute=5)
WHY = "and the first rule that matches decides; write it first, or remove it: see docs/rules.md#order"


def warnings_of(rules: list[Rule], caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged about `rules`."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "awx_ratelimit"):
        check_reachable(rules)
    return caplog.messages


def test_rule_for_every_path_first(caplog: pytest.LogCaptureFixture) -> None:
    """A gate logs a rule that stands after one for every path. The first one decides, as it did before."""
    rules = [Rule("/**", cost=2), Rule("/v1/transfers", methods=["POST"], cost=5)]
    keys = StaticKeys({"k": "starter"})

    AsyncGate(AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=keys, rules=rules)

    assert caplog.messages == [
        f"Rule('/v1/transfers', methods=['POST']) never applies: Rule('/**') before it matches all its requests, {WHY}"
    ]


def test_rule_behind_a_wider_exemption(caplog: pytest.LogCaptureFixture) -> None:
    """An exemption matches only exact paths, so a rule behind it still charges `//b`, and must not be removed."""
    rules = [Rule("/b/**", exempt=True), Rule("/b", cost=9)]

    assert warnings_of(rules, caplog) == [
        "Rule('/b') applies only to odd spellings of its path, such as //a for /a: Rule('/b/**', exempt=True) before "
        "it matches all its requests, and the first rule that matches decides; write it first: see docs/rules.md#order"
    ]
    assert RuleMatcher(rules).match("GET", "//b")


def test_cost_of_many_rules(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand rules with variables take not much longer than ten times a hundred of them."""
    rules = [Rule(f"/v1/{{tenant}}/things-{each}/{{id}}", cost=2) for each in range(1_000)]
    assert warnings_of(rules, caplog) == []
    assert cpu_ratio(lambda: warnings_of(rules, caplog), lambda: warnings_of(rules[:100], caplog), 40) < 40


def test_rule_hidden_by_two(caplog: pytest.LogCaptureFixture) -> None:
    """Rules that match all methods of a later one together are both named."""
    rules = [Rule("/a", methods=["PUT"]), Rule("/{x}", methods=["POST"]), Rule("/a", methods=["POST", "PUT"], cost=2)]

    assert warnings_of(rules, caplog) == [
        "Rule('/a', methods=['POST', 'PUT']) never applies: Rule('/a', methods=['PUT']) and "
        f"Rule('/{{x}}', methods=['POST']) before it match all its requests, {WHY}"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rule("/a", cost=2), Rule("/a", budget="x", plan=LOGIN)),
        (Rule("/a/{id}", cost=2), Rule("/a/{name}/", cost=3)),
        (Rule("/a", exempt=True), Rule("/a", exempt=True)),
        (Rule("/a", cost=2), Rule("/a", exempt=True)),
        (Rule("/a", methods=["GET", "POST"]), Rule("/a", methods=["POST"], cost=3)),
        (Rule("/a", methods=["GET"]), Rule("/a", methods=["HEAD"], cost=3)),
    ],
)
def test_same_path_twice(first: Rule, second: Rule) -> None:
    """Two rules for the same requests are one rule."""
    with pytest.raises(InvalidLimit, match="; write one rule for these requests, or limit the route with limit"):
        check_reachable([first, second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rule("/a/**"), Rule("/a")),
        (Rule("/a/**"), Rule("/a/{x}/**")),
        (Rule("/a/**", cost=2), Rule("/a/health", exempt=True)),
        (Rule("/{x}"), Rule("/health", exempt=True)),
        (Rule("/{x}", exempt=lambda _: True), Rule("/a")),
        (Rule("/static/**", exempt=True), Rule("/static/reports", cost=5)),
        (Rule("/users/{id}", exempt=True), Rule("/users/me", cost=5)),
        (Rule("/**", exempt=True), Rule("/a", exempt=lambda _: False)),
        (Rule("/**"), Rule("/")),
    ],
)
def test_narrower_rule_second(first: Rule, second: Rule, caplog: pytest.LogCaptureFixture) -> None:
    """A rule that could apply if it came first is logged, and nothing is if it does."""
    assert len(warnings_of([first, second], caplog)) == 1
    assert warnings_of([second, first], caplog) == []


@pytest.mark.parametrize(
    "rules",
    [
        [Rule("/a", methods=["GET"]), Rule("/a", methods=["GET", "POST"], cost=2)],
        [Rule("/a", methods=["GET"]), Rule("/a", methods=["POST"], cost=2), Rule("/a", cost=3)],
        [Rule("/a", exempt=True), Rule("/a", cost=2)],  # charges /a/ and other spellings
        [Rule("/a", exempt=True), Rule("/a/", exempt=True)],  # exemptions match exactly
        [Rule("/a/{id}"), Rule("/a/**")],
        [Rule("/a/{id}"), Rule("/a")],
        [Rule("/{x}"), Rule("/")],
        [Rule("/{x}/b"), Rule("/a/{x}")],
        [Rule("/**", methods=["POST"]), Rule("/a")],
    ],
)
def test_rules_that_all_apply(rules: list[Rule], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged if each rule applies to some requests."""
    assert warnings_of(rules, caplog) == []


PATHS = st.sampled_from(["/", "/a", "/b", "/a/", "/{x}", "/a/b", "/{x}/b", "/a/{x}", "/**", "/a/**", "/{x}/**"])
METHODS = st.sampled_from([None, ["GET"], ["POST"], ["GET", "POST"]])
RULES = st.builds(Rule, PATHS, METHODS, cost=st.integers(2, 9)) | st.builds(Rule, PATHS, METHODS, exempt=st.just(True))
REQUESTS = [*product(["GET", "POST", "PUT"], ["/", "/a", "/b", "/c", "/a/b", "/a/c", "/c/b", "/c/d", "/a/b/c"])]


@given(st.lists(RULES, min_size=2, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_rules_that_decide_nothing(caplog: pytest.LogCaptureFixture, rules: list[Rule]) -> None:
    """A rule is named only if it decides no ordinary request, and none is if all do."""
    matcher = RuleMatcher(rules)
    matched = {id(rule_of(matcher.match(*request))) for request in REQUESTS}
    idle = {id(rule) for rule in rules} - matched

    try:
        named = len(warnings_of(rules, caplog))
    except InvalidLimit:
        named = 1

    assert named <= len(idle)
