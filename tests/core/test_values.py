"""Rates, plans, budgets and usages as values: copies, pickles, replacements and their hashes."""

import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import pytest

from awx_ratelimit import STARTER, Budget, InvalidLimit, Limiter, MemoryBackend, Plan, Rate, Usage
from awx_ratelimit.core import budget as budgets
from awx_ratelimit.core.budget import MAX_SCOPE_LENGTH, ScopedSubject
from awx_ratelimit.core.joint_claim import acquired_jointly

BERLIN = Rate("month", 1_000, period="month", anchor_day=15, timezone="Europe/Berlin", measure="tokens")
VALUES = [
    Rate("minute", 60, 60_000, burst=9, shadow=True), Rate("day", 5, 86_400_000, refill="calendar"), BERLIN,
    Plan("p", (BERLIN,), account=STARTER), Budget("acme", STARTER, scope="account"), Budget("acme", STARTER),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(value: Any, copied: Any) -> None:
    """A copy equals its original, has its hash, and decides the same."""
    made = copied(value)

    assert made == value
    assert hash(made) == hash(value)
    assert repr(made) == repr(value)


def test_copy_of_a_calendar_rate() -> None:
    """A copied calendar rate has the same periods."""
    assert copy.deepcopy(BERLIN).periods.bounds(10**12) == BERLIN.periods.bounds(10**12)


def test_replaced_rate() -> None:
    """Other fields of a calendar rate can be replaced, and its period too."""
    more = dataclasses.replace(BERLIN, tokens=2_000, burst=2_000)
    week = dataclasses.replace(BERLIN, period="week", anchor_day=1)

    assert (more.tokens, more.period, more.timezone) == (2_000, "month", "Europe/Berlin")
    assert (week.period, week.period_ms) == ("week", 7 * 86_400_000)
    with pytest.raises(InvalidLimit, match="got both"):
        dataclasses.replace(BERLIN, period_ms=1_000)


def test_replaced_budget() -> None:
    """A budget with another subject, plan or scope belongs to other buckets."""
    account = Budget("acme", STARTER, scope="account")

    assert account.record == ScopedSubject("acme", "account")
    assert dataclasses.replace(account, subject="other").record == ScopedSubject("other", "account")
    assert dataclasses.replace(account, scope=None).record == "acme"
    assert dataclasses.replace(account, plan=Plan.of("q", per_day=1)).kind != account.kind
    with pytest.raises(dataclasses.FrozenInstanceError):
        account.scope = "x"  # type: ignore[misc]


def test_pickled_budget_in_another_process() -> None:
    """A budget from another process has the limits of its own plan there."""
    code = (
        "import pickle, sys; from awx_ratelimit import *; "
        "others = [Budget('x', Plan.of('other', per_day=number + 1), 'account') for number in range(50)]; "
        "budget = pickle.loads(sys.stdin.buffer.read()); limiter = Limiter(MemoryBackend()); "
        "[limiter.acquire('k', STARTER, also=[other]) for other in others]; "
        "print(limiter.acquire('k', STARTER, also=[budget]).usages[-1].capacity)"
    )
    sent = pickle.dumps(Budget("acme", Plan.of("p", per_hour=77), scope="account"))

    result = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, timeout=60, check=True)

    assert result.stdout.split() == [b"77"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (("", STARTER), "subject: expected a non-empty string"),
        ((b"acme", STARTER), "got bytes"),
        (("acme", "starter"), "plan: expected a Plan"),
    ],
)
def test_wrong_budget(fields: Any, says: str) -> None:
    """A budget with a wrong subject or plan is a TypeError when it is made."""
    with pytest.raises(TypeError, match=says):
        Budget(*fields)


@pytest.mark.parametrize("scope", ["", "Account", "a.b", "x" * (MAX_SCOPE_LENGTH + 1), 5, ["a"]])
def test_wrong_scope(scope: Any) -> None:
    """A wrong scope is an InvalidLimit when the budget is made, and leaves no trace."""
    before = len(budgets._kinds)
    with pytest.raises(InvalidLimit, match="scope: expected 1 to 32 of a-z"):
        Budget("acme", STARTER, scope)

    assert len(budgets._kinds) == before


def test_subject_of_a_subclass_of_str() -> None:
    """A subject that is not exactly a string is stored as one."""

    class Name(str):
        __slots__ = ()

    assert type(Budget(Name("acme"), STARTER, "account").subject) is str


def test_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets of many plans keep a bounded number of them alive, and later budgets are decided right."""
    monkeypatch.setattr(budgets, "MAX_CACHED_PLANS", 50)
    limiter = Limiter(MemoryBackend())
    for number in range(200):
        budget = Budget("acme", Plan.of("p", per_day=number + 1), scope=f"s{number}")
        decision = limiter.acquire("key", Plan.of("k", per_hour=10**6), also=[budget])
        assert decision.usages[-1].capacity == number + 1
        assert len(budgets._kinds) <= 51


def test_kinds_are_never_used_again() -> None:
    """Budgets with another plan or scope have another kind; equal ones have the same."""
    plans = [Plan.of("p", per_day=number + 1) for number in range(20)]
    kinds = {Budget("a", plan, scope).kind for plan in plans for scope in (None, "a", "b")}

    assert len(kinds) == 60
    assert Budget("x", plans[0], "a").kind == Budget("y", plans[0], "a").kind


def test_usages_are_compared_without_their_subject() -> None:
    """Usages of different subjects with equal numbers are equal; of different limits they are not."""
    one, other = (Usage("minute", 2, 1, 0, 0, refused=False, shadow=False, subject=name) for name in ("a", "b"))

    assert one == other
    assert one != dataclasses.replace(one, limit="account.minute")


def test_the_claim_of_a_budget_is_as_written() -> None:
    """A joint claim gives back its budgets, in order."""
    also = [Budget("acme", STARTER, "account"), Budget("all", STARTER, "service")]

    claim = acquired_jointly("key", STARTER, 1, None, also)

    assert claim.budgets == [Budget("key", STARTER), *also]
