"""A limit above the decorator of a route limits nothing, so it is an error, and no other use of a function is one."""

import gc
from functools import wraps
from typing import Any

import pytest

from awx_ratelimit.adapters.late_limits import LateLimits, is_registered

EXPECTED = r"^limit: expected @limit\(...\) between the decorator of the route and the function, got it above both, "
SEARCH = EXPECTED + r"where it limits nothing: .*test_late_limits\.search; write @limit\(...\) below @app\.get\(...\)$"


class App:
    """A framework: its decorator `route` registers functions, and `limit` is a limit's."""

    late_limits = LateLimits(lambda: None)

    def __init__(self) -> None:
        self.endpoints: list[Any] = []

    def route(self, endpoint: Any) -> Any:
        self.endpoints.append(endpoint)
        return endpoint

    def start(self) -> None:
        self.late_limits.check(self.endpoints)


class Limit:
    """A decorator, as each adapter has one."""

    def __call__(self, endpoint: Any) -> Any:
        was_registered = is_registered(endpoint)
        limited = passed_on(endpoint)
        if was_registered:
            App.late_limits.note(endpoint, limited)
        return limited


def passed_on(function: Any) -> Any:
    """`function`, in a function of another decorator."""

    @wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


limit = Limit()


def test_too_late() -> None:
    """A limit above the decorator of the route is an error that names the function."""
    app = App()

    @limit
    @app.route
    def search() -> None: ...

    with pytest.raises(RuntimeError, match=SEARCH):
        app.start()


def test_several_decorators() -> None:
    """It is one below and above other decorators too."""
    app = App()

    @passed_on
    @limit
    @limit
    @app.route
    @passed_on
    def search() -> None: ...

    with pytest.raises(RuntimeError, match=SEARCH):
        app.start()


def test_in_a_factory() -> None:
    """It is one in a function that makes the app, too."""

    def make_app() -> App:
        app = App()

        @limit
        @app.route
        def search() -> None: ...

        return app

    app = make_app()
    gc.collect()

    with pytest.raises(RuntimeError, match=SEARCH):
        app.start()


def test_in_order() -> None:
    """A limit below the decorator of the route is right, and is not even remembered."""
    app = App()

    @app.route
    @limit
    def search() -> None: ...

    app.start()

    assert App.late_limits._pairs == []


def test_with_and_without() -> None:
    """A function may have a route with the limit and one without it, in one app or in two."""
    app, other = App(), App()

    @app.route
    @limit
    @app.route
    def first() -> None: ...

    @other.route
    @limit
    @app.route
    def second() -> None: ...

    app.start()

    assert second


def test_by_name() -> None:
    """A function that has a name may be limited beside its route without a limit."""
    app = App()

    def search() -> None: ...

    app.route(search)
    limited = limit(search)
    app.start()

    assert limited


def test_kept() -> None:
    """A limited function that something else has may be used there."""
    app = App()

    @limit
    @app.route
    def search() -> None: ...

    kept = [search]
    app.start()

    assert kept


def test_without_its_limit() -> None:
    """A function may have a route by its `__wrapped__`."""
    app = App()

    @limit
    def search() -> None: ...

    app.route(search.__wrapped__)
    app.start()


def test_dropped() -> None:
    """A function that was registered and has gone is forgotten."""
    app = App()

    @limit
    @app.route
    def search() -> None: ...

    del search
    app.endpoints.clear()
    gc.collect()
    app.start()

    assert App.late_limits._pairs == []
