"""Names of limited routes, which depend on all functions that this process has limited before."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch


def no_other_routes() -> AbstractContextManager[Any]:
    """In this block, limits of routes have the names that they have in a process with one app."""
    return patch.dict("awx_ratelimit.core.scope._OWNERS", clear=True)
