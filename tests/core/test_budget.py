"""Budgets are checked when they are made, also those of a plan and a scope that are known, and compare by value."""

import pickle
from copy import deepcopy
from typing import Any

import pytest

from awx_ratelimit import STARTER, Budget, InvalidLimit, Plan

WRONG: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "empty subject": (("", STARTER, "account"), TypeError, "subject: expected a non-empty string"),
    "subject of another type": ((5, STARTER, "account"), TypeError, "subject: expected a non-empty string"),
    "name of a plan": (("acme", "starter", "account"), TypeError, "plan: expected a Plan"),
    "no plan": (("acme", None), TypeError, "plan: expected a Plan"),
    "capital in a scope": (("acme", STARTER, "Account"), InvalidLimit, "scope: expected 1 to 32 of"),
    "long scope": (("acme", STARTER, "x" * 33), InvalidLimit, "scope: expected 1 to 32 of"),
    "list as a scope": (("acme", STARTER, ["account"]), InvalidLimit, "scope: expected 1 to 32 of"),
    "number as a scope": (("acme", STARTER, 0), InvalidLimit, "scope: expected 1 to 32 of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_budget(name: str) -> None:
    """A wrong subject, plan or scope raises, whatever was made before."""
    arguments, error, message = WRONG[name]
    Budget("acme", STARTER)
    Budget("acme", STARTER, "account")

    with pytest.raises(error, match=message):
        Budget(*arguments)


class Text(str):
    """A string with its own idea of equality."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)


def test_subclass_of_str() -> None:
    """Of a subclass of str, only the text counts."""
    for _ in range(2):
        budget = Budget(Text("acme"), STARTER, Text("account"))

        assert [type(budget.subject), type(budget.scope)] == [str, str]
    assert budget == Budget("acme", STARTER, "account")


def test_budgets_compare_by_value() -> None:
    """Budgets of equal subjects, plans and scopes are equal, although a budget knows more; others differ."""
    plan, same = (Plan.of("p", per_minute=6) for _ in range(2))
    budget = Budget("acme", plan, "account")

    assert {budget, Budget("acme", same, "account")} == {budget}
    for other in (Budget("acme", plan), Budget("all", plan, "account"), Budget("acme", STARTER, "account")):
        assert budget != other


def test_copies_of_a_budget() -> None:
    """A budget can be copied and pickled, cannot be changed, and shows what it was made of."""
    budget = Budget("acme", STARTER, "account")

    assert deepcopy(budget) == pickle.loads(pickle.dumps(budget)) == budget
    assert repr(budget) == f"Budget(subject='acme', plan={STARTER!r}, scope='account')"
    with pytest.raises(AttributeError):
        budget.subject = "all"  # type: ignore[misc]
