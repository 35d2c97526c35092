"""Run commands in this process, and a key store for them to work on."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from tests.key_stores import new_file

from awx_ratelimit.cli import main
from awx_ratelimit.keys import KeyService, KeyStore


class Result(NamedTuple):
    """The outcome of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, parsed as JSON."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, without settings from the environment."""
    for name in [name for name in os.environ if name.startswith("AWX_") and not name.startswith("AWX_TEST_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(arguments)
        return Result(status, *capsys.readouterr())

    return run


Named = Callable[[Any], str]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Named:
    """Puts an app, or what it is made of, into a module; returns its name there."""

    def name(app: Any) -> str:
        module = ModuleType("shop")
        module.app = app  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "shop", module)
        return "shop:app"

    return name


Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Writes a module into a folder that can be imported from; returns its name."""
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"shop_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return names[-1]

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of an empty key store."""
    return new_file(tmp_path)


@pytest.fixture
def store(database: str) -> Iterator[KeyStore]:
    """The key store behind `database`."""
    store = KeyStore.open(database)
    yield store
    store.close()


@pytest.fixture
def service(store: KeyStore) -> KeyService:
    """A service on the store, with an account ``acme`` on the plan ``starter``."""
    service = KeyService(store)
    service.accounts.create("acme", plan="starter")
    return service


@pytest.fixture
def keys(run: Run, store: KeyStore, database: str) -> Run:
    """Run a ``keys`` command on the store."""
    return lambda *arguments, **stdin: run("keys", *arguments, "--database", database, **stdin)
