"""Every test of the pages runs in an empty folder, with the plan table of the README."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.docs.pages import blocks

from awx_ratelimit.adapters.asgi.route_limits import default_gate
from awx_ratelimit.adapters.wsgi.route_limits import default_gate as wsgi_default_gate

SECRET = "a secret that is long enough for HS256"


@pytest.fixture(autouse=True)
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader would run the code, with the files and variables that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN_SECRET", SECRET)
    monkeypatch.setenv("CONSOLE_SECRET", SECRET)
    monkeypatch.setenv("OPERATOR_SECRET", SECRET)
    monkeypatch.setenv("AWX_DATABASE", "keys.db")
    monkeypatch.setenv("LIMITS_URL", "memory://")
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1")
    (tmp_path / "plans.toml").write_text(blocks("README.md", "toml")[0])
    for default in (default_gate, wsgi_default_gate):
        default.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def unused_registry() -> Iterator[None]:
    """The metrics of a page are those of one program, so the next page may register its own."""
    yield
    for collector in [*REGISTRY._collector_to_names]:
        if type(collector).__module__.startswith("awx_ratelimit"):
            REGISTRY.unregister(collector)
