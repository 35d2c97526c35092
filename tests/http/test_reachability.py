"""A rule that never applies is an error, which names the rules before it and says what to write."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awx_ratelimit import AsyncGate, AsyncLimiter, InvalidLimit, MemoryBackend, Plan, PlanTable, Rule, StaticKeys
from awx_ratelimit.http.rules.matching import RuleMatcher, rule_of
from awx_ratelimit.http.rules.reachability import check_reachable

LOGIN = Plan.of("login", per_minute=5)
EVERYTHING = "expected a rule that applies to some requests, got one after"


def test_rule_for_every_path_first() -> None:
    """A gate refuses a rule after one for every path, and says which one goes first."""
    rules = [Rule("/**", cost=2), Rule("/v1/transfers", methods=["POST"], cost=5)]

    with pytest.raises(InvalidLimit) as caught:
        AsyncGate(
            AsyncLimiter(MemoryBackend()), plans=PlanTable.default(), identify=StaticKeys({"k": "starter"}), rules=rules
        )

    assert str(caught.value) == (
        f"Rule('/v1/transfers', methods=['POST']): {EVERYTHING} Rule('/**'), which matches all of them first; "
        "write Rule('/v1/transfers', methods=['POST']) before Rule('/**')"
    )


def test_rule_hidden_by_two() -> None:
    """Rules that match all methods of a later one together are both named."""
    rules = [Rule("/a", methods=["PUT"]), Rule("/{x}", methods=["POST"]), Rule("/a", methods=["POST", "PUT"], cost=2)]

    with pytest.raises(InvalidLimit) as caught:
        check_reachable(rules)

    assert str(caught.value) == (
        f"Rule('/a', methods=['POST', 'PUT']): {EVERYTHING} Rule('/a', methods=['PUT']) and "
        "Rule('/{x}', methods=['POST']), which match all of them first; write one rule for these requests, or limit "
        "the route with limit(...)"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rule("/a", cost=2), Rule("/a", budget="x", plan=LOGIN)),
        (Rule("/a/{id}", cost=2), Rule("/a/{name}/", cost=3)),
        (Rule("/a", exempt=True), Rule("/a", exempt=True)),
    ],
)
def test_same_path_twice(first: Rule, second: Rule) -> None:
    """Two rules for the same requests are one rule."""
    with pytest.raises(InvalidLimit, match="; write one rule for these requests, or limit the route with limit"):
        check_reachable([first, second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rule("/a", methods=["GET", "POST"]), Rule("/a", methods=["POST"], cost=3)),
        (Rule("/a", methods=["GET"]), Rule("/a", methods=["HEAD"], cost=3)),
        (Rule("/a", cost=2), Rule("/a", exempt=True)),
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
def test_narrower_rule_second(first: Rule, second: Rule) -> None:
    """A rule that could apply if it came first is an error that says so."""
    with pytest.raises(InvalidLimit, match=r"; write Rule\(.*\) before Rule"):
        check_reachable([first, second])

    check_reachable([second, first])


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
def test_rules_that_all_apply(rules: list[Rule]) -> None:
    """Rules are accepted if each applies to some requests."""
    check_reachable(rules)


PATHS = st.sampled_from(["/", "/a", "/b", "/a/", "/{x}", "/a/b", "/{x}/b", "/a/{x}", "/**", "/a/**", "/{x}/**"])
METHODS = st.sampled_from([None, ["GET"], ["POST"], ["GET", "POST"]])
RULES = st.builds(Rule, PATHS, METHODS, cost=st.integers(2, 9)) | st.builds(Rule, PATHS, METHODS, exempt=st.just(True))
REQUESTS = [*product(["GET", "POST", "PUT"], ["/", "/a", "/b", "/c", "/a/b", "/a/c", "/c/b", "/c/d", "/a/b/c"])]


@given(st.lists(RULES, min_size=2, max_size=3))
def test_only_rules_that_decide_nothing(rules: list[Rule]) -> None:
    """There is an error only if one of the rules decides no ordinary request, and none if all do."""
    matcher = RuleMatcher(rules)
    matched = {id(rule_of(matcher.match(*request))) for request in REQUESTS}

    try:
        check_reachable(rules)
    except InvalidLimit:
        assert {id(rule) for rule in rules} - matched
