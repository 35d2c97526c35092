"""The names that users of the key lifecycle write."""

import subprocess
import sys

import awx_ratelimit.errors
from awx_ratelimit import keys
from awx_ratelimit.errors import AwxRateLimitError, KeyRequestRefused, KeyStoreUnavailable

#: The codes of the wire contract, and two that only an operator meets.
_CODES = {
    "InvalidKeyRequest": "invalid_request",
    "KeyNotFound": "api_key_not_found",
    "KeyLimitReached": "api_key_limit_reached",
    "KeyNotActive": "api_key_not_active",
    "KeyExists": "api_key_exists",
    "AccountNotFound": "account_not_found",
    "AccountExists": "account_exists",
}


def test_all_is_sorted_and_true() -> None:
    """`__all__` is in order, and names only what exists."""
    assert sorted(keys.__all__) == keys.__all__
    assert [name for name in keys.__all__ if not hasattr(keys, name)] == []


def test_the_package_loads_no_extra() -> None:
    """Importing the package loads nothing but itself; what needs an extra is loaded when it is asked for."""
    code = (
        "import sys; before = set(sys.modules); import awx_ratelimit.keys; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout

    assert loaded.strip() == "['awx_ratelimit']"


def test_what_is_no_name_is_none() -> None:
    """A name that the package does not have is an ordinary AttributeError."""
    assert not hasattr(keys, "Nothing")


def test_every_refusal_has_its_code() -> None:
    """The refusals are one small tree, each with its code."""
    home = awx_ratelimit.errors.__name__
    kinds = {kind.__name__: kind.code for kind in KeyRequestRefused.__subclasses__() if kind.__module__ == home}

    assert kinds == _CODES
    assert KeyStoreUnavailable.code == "key_store_unavailable"


def test_every_error_is_in_the_drawing() -> None:
    """The tree at the head of the errors' module names each of them."""
    kinds = [
        name for name, kind in vars(awx_ratelimit.errors).items()
        if isinstance(kind, type) and issubclass(kind, AwxRateLimitError)
    ]  # fmt: skip
    drawing = awx_ratelimit.errors.__doc__ or ""

    assert [name for name in kinds if name not in drawing] == []
