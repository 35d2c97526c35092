"""Overrides over overrides, both as a plan table writes them."""

from collections.abc import Mapping
from typing import Any

from awx_ratelimit.core.limit_schema import MAX_TIMES, PER_KEYS, Place, read_rates

_PLACE = Place("overrides")


def merged_overrides(base: Mapping[str, Any] | None, over: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return `base` with what `over` has: its limits replace those of the same name, and `times` multiplies.

    Both must be valid overrides or None. None means no overrides.
    """
    if not base or not over:
        return over or base
    merged = _merged_limits(base, over)
    if "account" in base or "account" in over:
        merged["account"] = _merged_limits(base.get("account", {}), over.get("account", {}))
    if "times" in base and "times" in over:
        merged["times"] = min(base["times"] * over["times"], MAX_TIMES)
    return merged


def _merged_limits(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    replaced = {rate.name for rate in read_rates(over, _PLACE)}
    kept = {key: value for key, value in base.items() if key not in PER_KEYS or not _names(key, value) <= replaced}
    merged = {**kept, **over}
    rates = [rate for rate in base.get("rates", ()) if not _names("rates", [rate]) <= replaced]
    if rates or "rates" in over:
        merged["rates"] = [*rates, *over.get("rates", ())]
    else:
        merged.pop("rates", None)
    return merged


def _names(key: str, value: Any) -> set[str]:
    """The name of the limit that is written so."""
    return {rate.name for rate in read_rates({key: value}, _PLACE)}
