"""Warns of plans that a new version of a plan table no longer has."""

import logging
from os import PathLike
from typing import Final, Protocol

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import escape_unprintable

_log = logging.getLogger("awx_ratelimit")
#: A table may have tens of thousands of plans.
_MAX_NAMED: Final = 10


class _Table(Protocol):
    _default: str | None

    @property
    def plans(self) -> tuple[Plan, ...]: ...


def warn_of_removed_plans(path: "PathLike[str]", before: _Table, after: _Table) -> None:
    """Log which plans callers can no longer have after the file at `path` has changed. Their requests get a 503."""
    left = {plan.name for plan in after.plans}
    removed = [plan.name for plan in before.plans if plan.name not in left]
    gone = [f"the plan{'s' * (len(removed) > 1)} {_named(removed)}"] if removed else []
    has_lost_default = before._default is not None and after._default is None  # noqa: SLF001  # of no use elsewhere
    gone += ["the default plan"] if has_lost_default else []
    if gone:
        _log.warning(
            "%s: the change has removed %s; requests that need what is gone get a 503. Write it again, or give their "
            "callers another plan", path, " and ".join(gone),
        )  # fmt: skip


def _named(names: list[str]) -> str:
    shown = ", ".join(repr(escape_unprintable(name)) for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown} and {len(names) - _MAX_NAMED} more"
