"""Every code block of the README and of docs/ runs."""

import re
import shlex
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from flask import Flask
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, blocks, import_pyramid, run, text_of, written_blocks
from typer.main import get_command

from awx_ratelimit import AsyncGate, AsyncLimiter, Gate, Limiter, MemoryBackend, PlanTable, StaticKeys
from awx_ratelimit.adapters.django.management.commands.awx_ratelimit import Command
from awx_ratelimit.cli.app import app
from awx_ratelimit.keys import KeyService, KeyStore

_PARTS: dict[str, Any] = {"plans": PlanTable.default(), "identify": StaticKeys({"awx_example_key": "starter"})}


def _configured_django() -> dict[str, Any]:
    """Django is configured by the first import of an example."""
    import_module("examples.django_app")
    return {}


def _imported_pyramid() -> dict[str, Any]:
    import_pyramid()
    return {}


#: The names that the blocks of a page take from the reader's own program.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/api-keys.md": lambda: {"keys": KeyService(KeyStore.open("sqlite://")), "put": print},
    "docs/cors.md": lambda: {"gate": AsyncGate(AsyncLimiter(MemoryBackend()), **_PARTS)},
    "docs/django.md": _configured_django,
    "docs/frameworks.md": _imported_pyramid,
    "docs/metrics.md": _configured_django,
    "docs/migration/django-ratelimit.md": _configured_django,
    "docs/migration/drf.md": _configured_django,
    "docs/reference/adapters.md": _configured_django,
    "docs/testing.md": _configured_django,
    "docs/serverless.md": lambda: {"serve": print},
    "docs/deployment.md": lambda: {"app": Flask("shop"), "gate": Gate(Limiter(MemoryBackend()), **_PARTS)},
}
#: Commands that keep their terminal: what follows them in a block would never run.
ENDLESS = {"arq", "celery", "docker run", "make docs-serve", "python manage.py runserver", "redis-server", "sanic"}
SCRIPTS = [block for page in PAGES for block in all_blocks(page) if block.language == "sh"]
#: Programs that other tests run with the arguments of the page, and those that are not ours.
SERVERS = {"uvicorn", "hypercorn", "granian", "gunicorn", "waitress-serve", "uwsgi"}
SERVER_PAGES = {
    *("docs/deployment.md", "docs/django.md", "docs/fastapi.md", "docs/flask.md"),
    *("docs/metrics.md", "docs/operators.md", "docs/tutorial.md", "docs/workers.md"),
}
DJANGO_COMMANDS = {"createsuperuser", "migrate"}
OTHERS = {"chmod", "curl", "docker", "echo", "export", "git", "grep", "pg_dump", "printf", "psql", "sqlite3", "unset"}


@pytest.mark.parametrize("page", [page for page in PAGES if written_blocks(page)])
def test_python(page: str) -> None:
    """The Python blocks of a page run one after another, as they are."""
    with _django_apps(page):
        names = run(page, **GIVEN.get(page, dict)())

    for name in ("verifier", "store"):
        if name in names:
            names[name].close()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_toml(page: str, tmp_path: Path) -> None:
    """The TOML blocks of a page are valid plan tables."""
    for number, text in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)

        assert PlanTable.from_toml(path).plans


@pytest.mark.parametrize("page", PAGES)
def test_languages(page: str) -> None:
    """A block is in a language that a test runs: Python and TOML, commands, and what programs answer."""
    assert {block.language for block in all_blocks(page)} <= {
        "python",
        "toml",
        "sh",
        "http",
        "text",
        "nginx",
        "yaml",
        "json",
        "dockerfile",
    }
    assert blocks(page, "nginx") == [] or page == "docs/deployment.md"
    assert blocks(page, "text") == [] or page in ("docs/plans.md", "docs/explain.md", "docs/reference/cli.md")
    # tests/management/test_openapi_examples.py makes the calls whose replies these are.
    assert blocks(page, "json") == [] or page == "docs/reference/rest.md"
    # tests/observability/test_metrics_servers.py and test_containers_page.py check these.
    assert blocks(page, "yaml") == [] or page in ("docs/metrics.md", "docs/containers.md")
    assert blocks(page, "dockerfile") == [] or page == "docs/containers.md"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda block: block.page)
def test_commands(script: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of a page exist, with their options, targets and extras."""
    monkeypatch.setenv("AWX_BACKEND", "redis://localhost:6379")
    for words in _commands(script.text):
        program, arguments = words[0], words[1:]
        if program == "awx-ratelimit":
            _check_command([*takewhile(lambda word: word != ">", arguments)])
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif program == "pip":
            _check_extras(arguments)
        elif words[:3] == ["python", "manage.py", "awx_ratelimit"]:
            assert Command().create_parser("manage.py", "awx_ratelimit").parse_args(words[3:]).action == words[3]
        elif words[:2] == ["python", "manage.py"]:
            assert words[2] in DJANGO_COMMANDS, words
        elif program == "uvicorn" and arguments[0].startswith("examples."):
            module, _, name = arguments[0].partition(":")
            assert hasattr(import_module(module), name), words
        else:
            assert program in OTHERS or (program in SERVERS and script.page in SERVER_PAGES), words


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda block: block.page)
def test_terminals(script: Block) -> None:
    """After a command that keeps its terminal, a block has only commands that may be run instead."""
    endless = [_keeps_its_terminal(words) for words in _commands(script.text)]

    assert sorted(endless) == endless, script.text


def test_extras() -> None:
    """The README names every extra, except the one that needs no package."""
    table = text_of("README.md").split("| extra | for |")[1].split("\n\n")[0]

    assert set(re.findall(r"`([a-z]+)`", table)) == set(_extras()) - {"host"}


def _django_apps(page: str) -> AbstractContextManager[object]:
    """The apps of a usual project, whose models the blocks of docs/django.md import."""
    if page != "docs/django.md":
        return nullcontext()
    _configured_django()
    return override_settings(INSTALLED_APPS=[f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes")])


def _commands(script: str) -> list[list[str]]:
    """The commands of a script, without comments and variables."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        for part in re.split(r" && | \| ", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


def _check_command(words: list[str]) -> None:
    group = get_command(app)
    if words[0].startswith("--"):
        assert words[0] in {name for each in group.params for name in each.opts}, words
        return
    with group.make_context("awx-ratelimit", [], resilient_parsing=True) as context:
        name, found, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
        if name in ("keys", "accounts", "plans", "metrics", "usage"):
            name, found, rest = found.resolve_command(context, rest)
        if words[0] in ("keys", "accounts") or words[:2] in (
            ["usage", "history"],
            ["usage", "keys"],
            ["usage", "export"],
        ):
            rest += ["--database", "sqlite://"]

        assert found.make_context(name, rest, parent=context).params or not found.params


def _keeps_its_terminal(words: list[str]) -> bool:
    return words[0] in SERVERS or any(" ".join(words[: command.count(" ") + 1]) == command for command in ENDLESS)


def _check_extras(words: list[str]) -> None:
    assert words[0] in ("install", "wheel")
    for name in re.findall(r"\.\[([^\]]*)\]", " ".join(words)):
        assert set(name.split(",")) <= set(_extras()), words


def _extras() -> dict[str, Any]:
    extras: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return extras
