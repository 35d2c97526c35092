"""Whether this library runs compiled by mypyc or as Python. See docs/compiled.md."""

from types import FunctionType
from typing import Final


def _probe() -> None:
    """In compiled modules, functions have another type."""


IS_COMPILED: Final = not isinstance(_probe, FunctionType)
