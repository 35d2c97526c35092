"""What an experiment shows."""

from collections.abc import Callable
from typing import NamedTuple

from tests.comparison.libraries import Library

YES, PARTLY, NO, NOT_MEANT = "yes", "partly", "no", "–"


class Shown(NamedTuple):
    """Whether a library keeps the promise of a row, and what was observed."""

    verdict: str
    words: str


Experiment = Callable[[Library], Shown | None]
#: Each by the name of its row. It returns None for a library that it cannot be tried with.
EXPERIMENTS: dict[str, Experiment] = {}


def experiment(function: Experiment) -> Experiment:
    """Add an experiment under the name of its function."""
    EXPERIMENTS[getattr(function, "__name__", "")] = function
    return function
