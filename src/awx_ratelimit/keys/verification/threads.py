"""`VerifierThreads`: the threads of a `KeyVerifier`."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self, TypeAlias

from awx_ratelimit.keys.verification.cache import KnownKey, UnknownKey
from awx_ratelimit.keys.verification.single_flight import SingleFlight
from awx_ratelimit.runtime.periodic_thread import PeriodicThread

POLL_S: Final = 0.5
WRITE_USES_S: Final = 10.0
_CLOSE_S: Final = 2.0
_Found: TypeAlias = KnownKey | UnknownKey


class VerifierThreads(NamedTuple):
    """The look-ups, and the threads that read changes and write last uses.

    They are one value, so that a `reopen` during `close` replaces all of them or none.
    """

    single_flight: SingleFlight[_Found]
    poller: PeriodicThread
    writer: PeriodicThread

    @classmethod
    def of(
        cls,
        look_up: Callable[[bytes], _Found],
        cached: Callable[[bytes], _Found | None],
        budget_ms: int,
        poll: Callable[[], Any],
        write_uses: Callable[[], Any],
    ) -> Self:
        """Return threads that do not run yet. They call these bound methods."""
        return cls(
            SingleFlight(look_up, cached, budget_ms),
            PeriodicThread("awx-key-changes", poll, POLL_S),
            PeriodicThread("awx-key-uses", write_uses, WRITE_USES_S),
        )

    def start(self) -> None:
        """Start the poller and the writer. Raises RuntimeError if the process cannot start another thread."""
        self.poller.start()
        self.writer.start()

    def stop(self) -> None:
        """Write the last uses and stop the threads, within 2 s each."""
        self.writer.stop(_CLOSE_S)
        self.poller.stop(_CLOSE_S)

    def reopened(self) -> "VerifierThreads":
        """Return new threads for the same verifier, to use after `stop`. They run if the process can start them."""
        threads = VerifierThreads(self.single_flight.successor(), self.poller.successor(), self.writer.successor())
        # A look-up of before may still cache a key, whose changes must be read.
        threads.poller.try_start()
        threads.writer.try_start()
        return threads

    def renew(self) -> None:
        """In a child process: forget all threads, which do not exist there."""
        for part in (self.single_flight, self.poller, self.writer):
            part.renew()
