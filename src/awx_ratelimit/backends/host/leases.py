"""The leases of subjects: those of this process, on its own counters, and those of others, on theirs.

Everything but `release` is called under the lock of the subject's shard.
"""

from awx_ratelimit.backends.host.lease_counters import LeaseCounters
from awx_ratelimit.backends.host.record import ExpiringLease, HostLedger


class HostLeases:
    """Grants, counts and releases leases. See the module."""

    def __init__(self, counters: LeaseCounters) -> None:
        self._counters = counters

    def held(self, ledger: HostLedger, slots: int, now_ms: int) -> int:
        """How many slots living processes hold. Exact if the result reaches `slots`; else it may count dead ones."""
        if ledger.expiring:
            self._end_expired(ledger, now_ms)
        own = len(ledger.leases) + len(ledger.expiring)
        if not (ledger.others or ledger.other_expiring):
            return own
        held = own + self._held_by_others(ledger, now_ms, verify=False)
        if held >= slots:
            held = own + self._held_by_others(ledger, now_ms, verify=True)
        return held

    def _held_by_others(self, ledger: HostLedger, now_ms: int, *, verify: bool) -> int:
        held = 0
        for counter, granted in [*ledger.others.items()]:
            unreleased = self._counters.unreleased(counter, granted, verify=verify)
            held += unreleased
            if not unreleased:
                del ledger.others[counter]
        if ledger.other_expiring:
            ledger.other_expiring = tuple(
                lease
                for lease in ledger.other_expiring
                if lease.expires_at_ms > now_ms
                and self._counters.unreleased(lease.counter, lease.granted, verify=verify)
            )
        return held + len(ledger.other_expiring)

    def grant(self, ledger: HostLedger, lease_id: int, expires_at_ms: int | None) -> None:
        """Grant this process one more lease, which ends at `expires_at_ms` unless that is None.

        Call `ensure_counters` first.
        """
        if expires_at_ms is not None:
            counter = self._counters.allocate()
            ledger.expiring[lease_id] = ExpiringLease(counter, self._counters.value(counter) + 1, expires_at_ms)
            return
        held = len(ledger.leases)
        # In this order, a release in between stores a value that is too small, and the line below corrects it.
        ledger.leases.add(lease_id)
        ledger.granted += 1
        if len(ledger.leases) != held + 1:
            self._store_released(ledger)

    def ensure_counters(self, ledger: HostLedger) -> None:
        """Give the leases of this process counters in this file, unless they have some."""
        if not ledger.counter:
            counter = self._counters.allocate()
            ledger.granted = self._counters.value(counter) + len(ledger.leases)
            ledger.counter = counter
            self._store_released(ledger)
            for lease_id, lease in [*ledger.expiring.items()]:
                counter = self._counters.allocate()
                ledger.expiring[lease_id] = lease._replace(counter=counter, granted=self._counters.value(counter) + 1)

    def release(self, ledger: HostLedger, lease_id: int) -> bool:
        """Release a lease of this process without a lock; whether it was held. Call it again if it was interrupted."""
        if ledger.expiring:
            lease = ledger.expiring.get(lease_id)
            if lease is not None:
                self._counters.store(lease.counter, lease.granted)
                if ledger.expiring.pop(lease_id, None) is not None:
                    self._counters.free((lease.counter,))
                return True
        leases = ledger.leases
        held = lease_id in leases
        leases.discard(lease_id)
        self._store_released(ledger)
        return held

    def cancel(self, ledger: HostLedger, lease_id: int, granted: int) -> None:
        """Drop a lease that a record may or may not mention, because writing the record failed.

        `granted` is the value from before the grant. Without it, a lease that no record mentions would count as
        released in place of another one.
        """
        if lease_id not in ledger.expiring:
            ledger.granted = granted
        self.release(ledger, lease_id)

    def _store_released(self, ledger: HostLedger) -> None:
        counter, leases = ledger.counter, ledger.leases
        while counter:
            released = ledger.granted - len(leases)
            self._counters.store(counter, released)
            # Releases in other threads and signal handlers store too. The last one to store checks, and so corrects.
            if released == ledger.granted - len(leases):
                return

    def _end_expired(self, ledger: HostLedger, now_ms: int) -> None:
        for lease_id, lease in [*ledger.expiring.items()]:
            if lease.expires_at_ms <= now_ms:
                self.release(ledger, lease_id)

    def free_counter(self, ledger: HostLedger) -> None:
        """Let another subject use the counter of a ledger that holds no leases."""
        if ledger.counter:
            self._store_released(ledger)
            # In this order, a signal handler that raises in between loses a counter, and never shares one.
            counter, ledger.counter = ledger.counter, 0
            self._counters.free((counter,))

    def any_held(self, ledger: HostLedger, now_ms: int) -> bool:
        """Whether a living process holds a lease. `ledger` was decoded with this process's leases among the others."""
        granted_by = {**ledger.others, **{counter: granted for counter, granted, _ in ledger.other_expiring}}
        own = any(
            self._counters.is_own(counter) and granted > self._counters.value(counter)
            for counter, granted in granted_by.items()
        )
        return own or self._held_by_others(ledger, now_ms, verify=True) > 0
