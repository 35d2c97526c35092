"""A missing or outdated package of an extra is named with a remedy. Each case runs in a separate process."""

import subprocess
import sys
from pathlib import Path

import pytest

#: The code, the package that is too old for it, the extra, and the module that raises the error.
TOO_OLD = {
    "redis": (
        "from awx_ratelimit.backends.redis.backend_sync import RedisBackend",
        "redis", "redis", "the Redis backend",
    ),
    "open_backend": (
        "from awx_ratelimit.backends.open import open_backend; open_backend('redis://127.0.0.1:1')",
        "redis", "redis", "the Redis backend",
    ),
    "keys": ("from awx_ratelimit.keys import KeyStore", "sqlalchemy", "keys", "KeyStore"),
    "tokens": ("import awx_ratelimit.management.auth.signing", "pyjwt", "keys", "access tokens"),
    "console": ("from awx_ratelimit.console import Console", "jinja2", "console", "Console"),
    "postgres": (
        "from awx_ratelimit.keys import KeyStore; KeyStore.open('postgresql://h/d')",
        "psycopg", "postgres", "a key store on PostgreSQL",
    ),
    "cli": ("from awx_ratelimit.cli import main; main(['plans', 'check'])", "typer", "cli", "awx-ratelimit"),
}  # fmt: skip


def said(code: str, folder: Path) -> str:
    """The error or output of `code` in a process that finds the packages described in `folder` first."""
    first = f"import sys; sys.path.insert(0, {str(folder)!r})"
    tried = f"{first}\ntry:\n    {code}\nexcept ImportError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", tried], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def described(folder: Path, package: str, version: str) -> None:
    """Describe an installed package with another version in its metadata."""
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


@pytest.mark.parametrize("name", TOO_OLD)
def test_old_package(tmp_path: Path, name: str) -> None:
    """The error has the installed version, the needed version and the command to install it."""
    code, package, extra, who = TOO_OLD[name]
    described(tmp_path, package, "0.9.1")

    text = said(code, tmp_path)

    assert f"{who} needs {package}>=" in text
    assert f", and {package} 0.9.1 is installed; install it with: pip install 'awx-ratelimit[{extra}]'\n" in text
    assert "Traceback" not in text


def test_newer_package(tmp_path: Path) -> None:
    """A newer package and a release candidate are accepted."""
    described(tmp_path, "redis", "99.0.0rc1")

    assert (
        said("from awx_ratelimit.backends.redis.backend_sync import RedisBackend; print('fits')", tmp_path) == "fits\n"
    )


@pytest.mark.parametrize("package", ["redis", "hiredis"])
def test_missing_client(tmp_path: Path, package: str) -> None:
    """The error for a missing client or parser has the command to install it."""
    code = f"sys.modules[{package!r}] = None; from awx_ratelimit.backends.redis.backend_sync import RedisBackend"

    assert said(code, tmp_path) == (
        f"the Redis backend needs {package}; install it with: pip install 'awx-ratelimit[redis]'\n"
    )


def test_doctor(tmp_path: Path) -> None:
    """The doctor reports a wrong client with its remedy."""
    described(tmp_path, "redis", "0.9.1")
    code = "from awx_ratelimit.cli import main; sys.exit(main(['doctor', 'redis://127.0.0.1:1', '--json']))"

    text = said(code, tmp_path)

    assert '"client"' in text
    assert "and redis 0.9.1 is installed" in text
    assert "pip install 'awx-ratelimit[redis]'" in text
