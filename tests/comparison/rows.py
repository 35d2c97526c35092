"""All experiments of the comparison, by the names of their rows."""

from tests.comparison import deciding, outages, sources
from tests.comparison.shown import EXPERIMENTS

__all__ = ["EXPERIMENTS", "deciding", "outages", "sources"]
