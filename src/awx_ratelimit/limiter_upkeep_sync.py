"""What a limiter does beside its decisions: renew leases, send what waits, report its health, and close.

Generated from `limiter_upkeep.py` by tools/generate_sync.py: change that module and run the program again.
"""

from collections.abc import Mapping
from typing import Any

from awx_ratelimit.backends.base import Backend, Flushes, RenewsLeases
from awx_ratelimit.observability.listeners import ShadowCounts
from awx_ratelimit.observability.observers import Observers
from awx_ratelimit.runtime.compiled import IS_COMPILED
from awx_ratelimit.waiting.lines import WaitingLines


class Upkeep:
    """The part of Limiter that needs no claim."""

    backend: Backend
    is_closed: bool
    lines: WaitingLines
    observers: Observers
    shadow: ShadowCounts

    def renew_leases(self) -> None:
        """Renew every open lease now. Backends whose leases expire also renew them in the background.

        Raises BackendUnavailable.
        """
        if isinstance(self.backend, RenewsLeases):
            self.backend.renew_leases()

    def flush(self) -> None:
        """Send what waits to be sent, such as released slots, in the time that a decision may take. It never raises.

        Call it before you return the response, on platforms that freeze a process between requests. A normal exit
        flushes by itself. The memory and host backends send nothing.
        """
        if isinstance(self.backend, Flushes):
            self.backend.flush()
        self.observers.flush()

    def health(self) -> Mapping[str, Any]:
        """The status of the backend: ``state`` (``ok`` or what is wrong), ``backend``, and counters. It never raises.

        ``compiled`` is True if the library was installed from a compiled wheel. See the page
        ``compiled`` of the documentation.

        ``shadow_refusals`` counts, by plan and limit, the claims in this process that a shadow limit would have
        refused. The key is absent while there are none.
        """
        return self.shadow.added_to({**self.backend.health(), "compiled": IS_COMPILED})

    def close(self) -> None:
        """Release every lease and close the backend. Claims that wait are refused. A second call does nothing."""
        self.is_closed = True
        self.lines.wake_all_of(self)
        self.backend.close()
        self.observers.flush()
