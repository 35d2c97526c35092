"""Warns of plans that a new version of a plan table no longer has."""

import logging
from os import PathLike
from typing import Protocol

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import escape_unprintable

_log = logging.getLogger("awx_ratelimit")


class _Table(Protocol):
    @property
    def plans(self) -> tuple[Plan, ...]: ...
    @property
    def has_default(self) -> bool: ...


def warn_of_removed_plans(path: "PathLike[str]", before: _Table, after: _Table) -> None:
    """Log which plans callers can no longer have after the file at `path` has changed. Their requests get a 503."""
    left = {plan.name for plan in after.plans}
    removed = [repr(escape_unprintable(plan.name)) for plan in before.plans if plan.name not in left]
    gone = [f"the plan{'s' * (len(removed) > 1)} {', '.join(removed)}"] if removed else []
    gone += ["the default plan"] if before.has_default and not after.has_default else []
    if gone:
        _log.warning(
            "%s: the change has removed %s; requests that need what is gone get a 503. Write it again, or give their "
            "callers another plan", path, " and ".join(gone),
        )  # fmt: skip
