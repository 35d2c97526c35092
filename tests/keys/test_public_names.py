"""The public names of `awx_ratelimit.keys`."""

import re
import subprocess
import sys

import awx_ratelimit.errors
from awx_ratelimit import keys
from awx_ratelimit.errors import AwxRateLimitError, KeyRequestRefused, KeyStoreUnavailable

#: The codes of the wire contract, and three that only an operator sees.
_CODES = {
    "InvalidKeyRequest": "invalid_request",
    "KeyNotFound": "api_key_not_found",
    "KeyLimitReached": "api_key_limit_reached",
    "KeyNotActive": "api_key_not_active",
    "KeyExists": "api_key_exists",
    "AccountNotFound": "account_not_found",
    "AccountExists": "account_exists",
    "AccountChanged": "account_changed",
}


def test_all() -> None:
    """`__all__` is sorted, and every name in it exists."""
    assert sorted(keys.__all__) == keys.__all__
    assert [name for name in keys.__all__ if not hasattr(keys, name)] == []


def test_import_loads_no_extra() -> None:
    """Importing the package imports no optional package; that happens when a name that needs one is used."""
    code = (
        "import sys; before = set(sys.modules); import awx_ratelimit.keys; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    # A compiled wheel has a module of its own for what its modules share.
    assert re.findall(r"'(\w+?)(?<!__mypyc)'", loaded) == ["awx_ratelimit"]


def test_unknown_name() -> None:
    """A name that the package does not have raises an ordinary AttributeError."""
    assert not hasattr(keys, "Nothing")


def test_codes() -> None:
    """The refusals are one small tree, and each has its code."""
    home = awx_ratelimit.errors.__name__
    kinds = {kind.__name__: kind.code for kind in KeyRequestRefused.__subclasses__() if kind.__module__ == home}

    assert kinds == _CODES
    assert KeyStoreUnavailable.code == "key_store_unavailable"


def test_drawing_of_the_tree() -> None:
    """The tree in the docstring of the errors' module names every error."""
    kinds = [
        name for name, kind in vars(awx_ratelimit.errors).items()
        if isinstance(kind, type) and issubclass(kind, AwxRateLimitError)
    ]  # fmt: skip
    drawing = awx_ratelimit.errors.__doc__ or ""

    assert [name for name in kinds if name not in drawing] == []
