"""The leases of subjects: what this process holds, by words on its desk, and what others hold by theirs.

All but `give_back` is used under the lock of the subject's stripe.
"""

from awx_ratelimit.backends.host.lease_counters import Desks
from awx_ratelimit.backends.host.record import Bound, HostLedger


class HostLeases:
    """See the module."""

    def __init__(self, desks: Desks) -> None:
        self._desks = desks

    def held(self, ledger: HostLedger, slots: int, now_ms: int) -> int:
        """How many slots the subject holds, of processes that are alive: surely so where all of `slots` seem taken."""
        if ledger.bounded:
            self._end_overdue(ledger, now_ms)
        held = len(ledger.leases) + len(ledger.bounded)
        if ledger.others or ledger.other_bounds:
            elsewhere = self._held_elsewhere(ledger, now_ms, surely=False)
            if held + elsewhere >= slots:
                elsewhere = self._held_elsewhere(ledger, now_ms, surely=True)
            held += elsewhere
        return held

    def _held_elsewhere(self, ledger: HostLedger, now_ms: int, *, surely: bool) -> int:
        held = 0
        for word, granted in [*ledger.others.items()]:
            opened = self._desks.open(word, granted, surely=surely)
            held += opened
            if not opened:
                del ledger.others[word]
        if ledger.other_bounds:
            ledger.other_bounds = tuple(
                bound
                for bound in ledger.other_bounds
                if bound.until_ms > now_ms and self._desks.open(bound.word, bound.granted, surely=surely)
            )
        return held + len(ledger.other_bounds)

    def grant(self, ledger: HostLedger, lease_id: int, until_ms: int | None) -> None:
        """Let this process hold one more lease, until `until_ms` if that is given, after a `regrant`."""
        if until_ms is not None:
            word = self._desks.word()
            ledger.bounded[lease_id] = Bound(word, self._desks.value(word) + 1, until_ms)
            return
        held = len(ledger.leases)
        # In this order a release in between says too little, and then it is said anew.
        ledger.leases.add(lease_id)
        ledger.granted += 1
        if len(ledger.leases) != held + 1:
            self._say_given_back(ledger)

    def regrant(self, ledger: HostLedger) -> None:
        """Let there be a word, in this file, for what this process holds."""
        if not ledger.word:
            word = self._desks.word()
            ledger.granted = self._desks.value(word) + len(ledger.leases)
            ledger.word = word
            self._say_given_back(ledger)
            for lease_id, bound in [*ledger.bounded.items()]:
                word = self._desks.word()
                ledger.bounded[lease_id] = bound._replace(word=word, granted=self._desks.value(word) + 1)

    def give_back(self, ledger: HostLedger, lease_id: int) -> bool:
        """Give a lease of this process back, without a lock; whether it was held. Twice does what was interrupted."""
        if ledger.bounded:
            bound = ledger.bounded.get(lease_id)
            if bound is not None:
                self._desks.put(bound.word, bound.granted)
                if ledger.bounded.pop(lease_id, None) is not None:
                    self._desks.give_up((bound.word,))
                return True
        leases = ledger.leases
        held = lease_id in leases
        leases.discard(lease_id)
        self._say_given_back(ledger)
        return held

    def take_back(self, ledger: HostLedger, lease_id: int, granted: int) -> None:
        """Hold a lease no more, of which it is not known whether a record says that it was granted.

        `granted` is what was before: else one that no record knows would count as given back in place of another.
        """
        if lease_id not in ledger.bounded:
            ledger.granted = granted
        self.give_back(ledger, lease_id)

    def _say_given_back(self, ledger: HostLedger) -> None:
        word, leases = ledger.word, ledger.leases
        while word:
            given_back = ledger.granted - len(leases)
            self._desks.put(word, given_back)
            # Whoever was last to put the word looks after that whether it was right: so in the end it is.
            if given_back == ledger.granted - len(leases):
                return

    def _end_overdue(self, ledger: HostLedger, now_ms: int) -> None:
        for lease_id, bound in [*ledger.bounded.items()]:
            if bound.until_ms <= now_ms:
                self.give_back(ledger, lease_id)

    def leave(self, ledger: HostLedger) -> None:
        """Let the word of a ledger without leases serve another."""
        if ledger.word:
            self._say_given_back(ledger)
            # In this order a signal handler that raises in between loses a word, and gives none to two.
            word, ledger.word = ledger.word, 0
            self._desks.give_up((word,))

    def are_open(self, scratch: HostLedger, now_ms: int) -> bool:
        """Whether anybody who is alive holds a lease, by a record that was read without regard to this process."""
        words = {**scratch.others, **{word: granted for word, granted, _ in scratch.other_bounds}}
        mine = any(self._desks.is_mine(word) and granted > self._desks.value(word) for word, granted in words.items())
        return mine or self._held_elsewhere(scratch, now_ms, surely=True) > 0
