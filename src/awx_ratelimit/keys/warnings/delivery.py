"""`Delivery`: delivers the warnings of an outbox, again and again until they are accepted or a day old."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from awx_ratelimit.keys.warnings.outbox import Outbox
from awx_ratelimit.keys.warnings.warning import DueWarning
from awx_ratelimit.keys.warnings.webhook import DeliveryFailed
from awx_ratelimit.runtime.clock import Clock

_log = logging.getLogger("awx_ratelimit")
#: A warning is delivered for so long.
KEPT_MS: Final = 86_400_000
_FIRST_WAIT_MS: Final = 5_000
_MAX_WAIT_MS: Final = 600_000
#: Doubling the wait so often exceeds the longest one.
_MAX_DOUBLINGS: Final = 7
#: Delivers a warning through one channel, or raises DeliveryFailed.
Channel = Callable[[DueWarning], None]


class Delivery:
    """Delivers through `channels`. Threads that call `deliver_due` take turns."""

    def __init__(self, outbox: Outbox, channels: Mapping[str, Channel], clock: Clock) -> None:
        self._outbox = outbox
        self._channels = channels
        self._clock = clock
        self._lock = threading.Lock()
        self.given_up = 0
        self.pending = 0
        self.is_failing = False

    def deliver_due(self) -> None:
        """Deliver the warnings that are due. After a failure, the channel waits for the next call.

        Raises KeyStoreUnavailable.
        """
        with self._lock:
            working = dict(self._channels)
            while working and (warning := self._outbox.take(tuple(working), self._clock.now_ms())):
                # Not 0 while a receiver hangs: the warnings are counted after the last delivery.
                self.pending = max(self.pending, 1)
                if not self._is_delivered(warning):
                    del working[warning.channel]
            self.is_failing = len(working) < len(self._channels)
            self.pending = self._outbox.pending(tuple(self._channels))

    def _is_delivered(self, warning: DueWarning) -> bool:
        """Deliver one warning. Return whether its channel works."""
        try:
            self._channels[warning.channel](warning)
        except DeliveryFailed as error:
            self._fail(warning, error)
            return error.final
        except Exception:
            _log.exception("a callback for warnings about quotas failed")
        self._outbox.remove(warning)
        return True

    def _fail(self, warning: DueWarning, error: DeliveryFailed) -> None:
        now_ms = self._clock.now_ms()
        next_at_ms = now_ms + min(_MAX_WAIT_MS, _FIRST_WAIT_MS << min(warning.attempts - 1, _MAX_DOUBLINGS))
        if error.final or next_at_ms - warning.created_at_ms >= KEPT_MS:
            self.given_up += 1
            self._outbox.remove(warning)
            _log.error("the warning %s about a quota was given up: %s", warning.id, error)
        else:
            self._outbox.postpone(warning, next_at_ms)
            _log.warning("the warning %s about a quota was not delivered: %s; will retry", warning.id, error)
