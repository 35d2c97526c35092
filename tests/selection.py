"""Chooses what `make test` leaves to `make test-full`."""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest

#: `make test-full` sets this to eight.
EXAMPLES = int(os.environ.get("AWX_EXAMPLES", "1"))


def steps(number: int, *, full: int) -> int:
    """How many random steps a test takes: `number` in `make test`, `full` in `make test-full`."""
    return full if EXAMPLES > 1 else number


def parameters(values: Mapping[str, Any] | Iterable[Any], full: Collection[str]) -> list[Any]:
    """Parameters of a test, of which only `make test-full` runs those that are named in `full`.

    A mapping has names for its values; other values are named by themselves.
    """
    named = values if isinstance(values, Mapping) else {str(value): value for value in values}
    unknown = set(full) - set(named)
    if unknown:
        raise ValueError(f"no such parameters: {sorted(unknown)}")
    return [pytest.param(value, id=name, marks=[pytest.mark.full] * (name in full)) for name, value in named.items()]
