"""`QuotaWarnings`: warns once when a key or an account has used 80 % and 100 % of a quota of a day or longer."""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from awx_ratelimit.core.validation import check_seconds, type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.warnings.delivery import Channel, Delivery
from awx_ratelimit.keys.warnings.outbox import MemoryOutbox, Outbox, StoredOutbox
from awx_ratelimit.keys.warnings.warning import QuotaWarning, WarnedQuotas
from awx_ratelimit.keys.warnings.webhook import Webhook
from awx_ratelimit.observability.latest_decisions import LatestDecisions
from awx_ratelimit.observability.quota_crossings import QuotaUse, crossed_quotas
from awx_ratelimit.runtime.clock import Clock, WallClock
from awx_ratelimit.runtime.exits import register_at_exit
from awx_ratelimit.runtime.flushable_thread import FlushableThread
from awx_ratelimit.runtime.forks import ForkSafeLock, register_after_fork, renew_if_forked
from awx_ratelimit.runtime.periodic_thread import PeriodicThread
from awx_ratelimit.runtime.reopening import Reopenable

if TYPE_CHECKING:
    from awx_ratelimit.keys.storage.store import KeyStore

_log = logging.getLogger("awx_ratelimit")
INTERVAL_S: Final = 5.0
_MAX_INTERVAL_S: Final = 3_600
_MAX_UNSTORED: Final = 10_000
#: For each of the two threads, when this is closed.
_CLOSE_S: Final = 1.0


class _Threads(NamedTuple):
    """One value, so that a `reopen` during `close` replaces both or none."""

    looker: FlushableThread
    sender: PeriodicThread


class QuotaWarnings(LatestDecisions, Reopenable):
    """A listener for the limiters of a process: ``Limiter(backend, listeners=[QuotaWarnings(...)])``.

    Quotas are limits with a period of a day or longer. Every `interval_seconds` (more than 0, up to 3,600) a thread
    looks at the latest decisions. The owner of a quota is warned once in a period when 80 % are used, and once when all
    is used. The period of a continuous limit begins with the warning. A larger quota, after a change of plan, counts as
    another one.

    A warning is given to `on_warning` as a QuotaWarning, and sent to the URL `webhook`, signed with `secret`. Another
    thread does this, for up to a day until the webhook accepts it. With a `store`, each warning exists once among all
    processes and survives them, and only its keys and accounts trigger warnings. Without one, each process warns by
    itself, about any subject. No request waits. `clock` has ``now_ms() -> int``; None is the system time.

    Raises TypeError for a wrong type, and InvalidLimit for a wrong value, or without `on_warning` and `webhook`.
    """

    _warned: WarnedQuotas
    #: Uses that the outbox has not got yet.
    _unstored: dict[tuple[str, str], QuotaUse]
    _delivery: Delivery

    def __init__(
        self,
        *,
        on_warning: Callable[[QuotaWarning], Any] | None = None,
        webhook: str | None = None,
        secret: str | None = None,
        store: "KeyStore | None" = None,
        interval_seconds: float = INTERVAL_S,
        clock: Clock | None = None,
    ) -> None:
        self._channels = _channels(on_warning, webhook, secret)
        check_seconds(interval_seconds, "interval_seconds", _MAX_INTERVAL_S)
        self._stored_outbox = None if store is None else StoredOutbox(_checked_store(store))
        self._clock = clock or WallClock()
        self._threads = _Threads(
            FlushableThread("awx-quotas", self.look, interval_seconds),
            PeriodicThread("awx-warnings", self._deliver, interval_seconds),
        )
        self._reopening = ForkSafeLock()
        self._renew()
        super().__init__(start=self._start_threads, wake=self._wake_looker)
        register_after_fork(self._renew)

    def watch(self, limiter: Any) -> None:  # noqa: ARG002  # an Observer's method
        # Stored warnings of processes that have ended are delivered before the first decision of this one.
        if self._stored_outbox is not None:
            self._threads.sender.try_start()

    def look(self) -> None:
        """Look at the latest decisions now. The thread does this every few seconds. Raises KeyStoreUnavailable."""
        renew_if_forked()
        with self._threads.looker.attempt():
            self._note_crossings()
            self._store_uses()

    def flush(self) -> None:
        """Look at the latest decisions, and wait for that for at most 2 s. Waits for no delivery."""
        renew_if_forked()
        self._threads.sender.try_start()
        self._threads.looker.flush()

    def health(self) -> Mapping[str, Any]:
        """Return how many warnings wait for their delivery, how many were given up by this process, and its state.

        ``failing`` is whether the last attempt to store or to deliver one has failed. Never raises.
        """
        renew_if_forked()
        return {
            "pending": len(self._unstored) + self._delivery.pending,
            "given_up": self._delivery.given_up,
            "failing": self._threads.looker.is_failing or self._delivery.is_failing,
        }

    def close(self) -> None:
        """Look once more, try to deliver, and stop the threads, within 2 s. Close the store after this."""
        renew_if_forked()
        threads = self._threads  # `reopen` may replace them meanwhile
        threads.looker.stop(_CLOSE_S)
        # A command that has loaded the app, and has decided nothing, delivers nothing at its end.
        threads.sender.stop(_CLOSE_S, last=None if self._is_started else _do_nothing)

    def reopen(self) -> None:
        """Warn again after `close`. The ASGI middleware calls this when a lifespan begins. It is harmless if open."""
        with self._reopening.current:
            if self._threads.looker.is_stopped:
                self._threads = _Threads(self._threads.looker.successor(), self._threads.sender.successor())
                self._start_threads()

    def _start_threads(self) -> bool:
        return self._threads.looker.try_start() and self._threads.sender.try_start()

    def _wake_looker(self) -> None:
        self._threads.looker.wake()

    def _note_crossings(self) -> None:
        for decision in self.take():
            try:
                uses = crossed_quotas(decision)
            except Exception:
                _log.exception("a quota cannot be watched")
                continue
            for use in uses:
                if self._warned.lacks(use) and len(self._unstored) < _MAX_UNSTORED:
                    last = self._unstored.get((use.subject, use.limit))
                    if last is None or last.percent <= use.percent or last.until_ms <= use.at_ms:
                        self._unstored[use.subject, use.limit] = use

    def _store_uses(self) -> None:
        uses = list(self._unstored.values())
        if not uses:
            return
        self._outbox.add(uses, tuple(self._channels), self._clock.now_ms())
        for use in uses:
            self._warned.add(use)
        self._unstored = {}
        self._threads.sender.wake()

    def _deliver(self) -> None:
        self._delivery.deliver_due()

    def _renew(self) -> None:
        """Begin without warnings: in the constructor, and in a child process. Those of the parent are the parent's."""
        self._warned = WarnedQuotas()
        self._unstored = {}
        self._outbox: Outbox = self._stored_outbox or MemoryOutbox()
        self._delivery = Delivery(self._outbox, self._channels, self._clock)
        for thread in self._threads:
            thread.renew()
        register_at_exit(self.close)


def _do_nothing() -> None:
    """What a thread does last if it has nothing to do."""


def _channels(on_warning: Any, webhook: Any, secret: Any) -> dict[str, Channel]:
    channels: dict[str, Channel] = {}
    if on_warning is not None:
        if not callable(on_warning) or inspect.iscoroutinefunction(on_warning):
            raise TypeError(f"on_warning: expected a function that takes a QuotaWarning, got {type_name(on_warning)}")
        channels["callback"] = lambda warning: on_warning(QuotaWarning.from_json(warning.body))
    if webhook is not None:
        sender = Webhook(webhook, secret)
        channels["webhook"] = lambda warning: sender.send(warning.id, warning.body)
    elif secret is not None:
        raise InvalidLimit("webhook: expected the URL that gets the signed warnings, got None")
    if not channels:
        raise InvalidLimit("expected on_warning or webhook, got neither; write QuotaWarnings(on_warning=print)")
    return channels


def _checked_store(store: Any) -> "KeyStore":
    from awx_ratelimit.keys.storage.store import checked_store  # here: without a store, SQLAlchemy is not needed

    return checked_store(store, "QuotaWarnings")
