"""The examples in docs/frameworks.md work as they are."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sanic
from tests.adapters.route_limit_laws import Get
from tests.adapters.test_aiohttp import AiohttpServed
from tests.adapters.test_route_limits import asgi_get
from tests.adapters.test_sanic import SanicServed
from tests.adapters.test_tornado import TornadoServed

from awx_ratelimit.core import scope

PAGE = (Path(__file__).parent.parent / "docs" / "frameworks.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
KEY = "awx_example_key"


@pytest.fixture(autouse=True)
def no_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the blocks, which all have one module here, keep their names."""
    monkeypatch.setattr(scope, "_OWNERS", {})


def names_of(section: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the block of a section defines."""
    module = ModuleType("frameworks_page")
    # Litestar looks up the module of a handler.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(SECTIONS[section], "frameworks.md", "exec"), vars(module))
    return vars(module)


@pytest.mark.parametrize("section", ["Quart", "Litestar"])
def test_asgi(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of the section answers five requests to its route, refuses the sixth, and needs a key."""
    check(asgi_get(names_of(section, monkeypatch)["app"]))


def check(get: Get) -> None:
    """Five requests are answered, and a sixth and one without a key are refused."""
    answers = [get("/search", KEY) for _ in range(6)]

    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert '"search.minute"' in answers[0].headers["ratelimit"]
    assert get("/search").status == 401


class TestAiohttp(AiohttpServed):
    """The section on aiohttp."""

    def test_app(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The app answers five requests to its route, refuses the sixth, and needs a key."""
        check(self.get(names_of("aiohttp", monkeypatch)["app"]))


class TestTornado(TornadoServed):
    """The section on Tornado."""

    def test_app(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The app answers five requests to its route, refuses the sixth, and needs a key."""
        check(self.get(names_of("Tornado", monkeypatch)["app"]))


class TestSanic(SanicServed):
    """The section on Sanic."""

    def test_app(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The app answers five requests to its route, refuses the sixth, and needs a key."""
        # Tests of the example may have made an app of that name in this process.
        monkeypatch.setattr(sanic.Sanic, "test_mode", True)
        app = names_of("Sanic", monkeypatch)["app"]
        app.config.TOUCHUP = False

        check(self.get(app))
        sanic.Sanic.unregister_app(app)
