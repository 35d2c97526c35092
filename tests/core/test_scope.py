"""The scopes of functions: two functions in different places never have the same one."""

from collections.abc import Callable
from typing import Any

import pytest

from awx_ratelimit.core import scope
from awx_ratelimit.core.scope import scope_of_function


@pytest.fixture(autouse=True)
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No function has a name yet."""
    monkeypatch.setattr(scope, "_OWNERS", {})


def one_place() -> Callable[..., Any]:
    def search() -> None: ...

    return search


def another_place() -> Callable[..., Any]:
    def search() -> None: ...

    return search


def test_places() -> None:
    """Functions of one name in different functions have different scopes."""
    assert scope_of_function(one_place()) == "search"
    assert scope_of_function(another_place()).startswith("search-")


def test_one_place() -> None:
    """A function that is made again, as by the factory of an app, keeps its scope."""
    assert scope_of_function(one_place()) == scope_of_function(one_place()) == "search"


def test_lambdas() -> None:
    """Lambdas on different lines have different scopes."""
    first = lambda: None  # noqa: E731  # a lambda has no name
    second = lambda: None  # noqa: E731

    assert scope_of_function(first) != scope_of_function(second)


def test_replaced() -> None:
    """A function that replaces another one of its name has a scope of its own."""

    def search() -> None: ...

    first = scope_of_function(search)

    def search() -> None: ...  # type: ignore[no-redef]  # as in `@app.route("/a") def view` twice

    assert first == "search"
    assert scope_of_function(search).startswith("search-")
