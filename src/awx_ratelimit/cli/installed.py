"""The installed version of the library, for `--version` and for `doctor`."""

from importlib.metadata import version

from awx_ratelimit.runtime.compiled import IS_COMPILED


def installed() -> str:
    """Return the version, and whether the library is compiled."""
    return f"awx-ratelimit {version('awx-ratelimit')}, {'compiled' if IS_COMPILED else 'not compiled: pure Python'}"
