"""`Wait`: when a claim that waits may claim, how long it sleeps, and what ends it.

Each claim wakes by itself, at its own deadline at the latest. So a claim whose thread or event loop does not run delays
the others by `TURN_MS`, and nobody beyond their deadline.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.rate import CONCURRENT
from awx_ratelimit.core.waits import Bucket, behind, longest_wait
from awx_ratelimit.waiting.lines import TURN_MS, Place, Queue, WaitingLines

#: A claim that has its turn is decided within this time, unless its thread or event loop does not run.
_CLAIM_MS: Final = 1_000


class Wait:
    """One claim that waits up to `wait_ms`, in the lines of its limiter."""

    def __init__(
        self, limiter: Any, buckets: dict[Bucket, int], wait_ms: int, queues: Sequence[Queue], sleep: Any
    ) -> None:
        self._limiter = limiter
        self._lines: WaitingLines = limiter.lines
        self._now_ms: Callable[[], int] = sleep.now_ms
        self._until_ms: int = self._now_ms() + wait_ms
        self._ahead: dict[Bucket, list[Place]] = {}
        self._goes_first = False
        self.place = Place(buckets, sleep, limiter, queues)

    def may_claim(self) -> bool:
        """Whether the claim has its turn. If not, it gives a peek to `refusal`."""
        place, now_ms = self.place, self._now_ms()
        place.poked_ms, place.due_ms = None, now_ms + _CLAIM_MS
        self._ahead = {} if self._goes_first else self._lines.ahead_of(place, now_ms)
        place.is_claiming = not self._ahead
        return place.is_claiming

    def ends_with(self, decision: Decision) -> bool:
        """Whether `decision` is the result. If not, the claim sleeps until the `due_ms` of its place."""
        place, now_ms = self.place, self._now_ms()
        place.is_claiming = self._goes_first = False
        # A refusal without a wait must not be decided again and again without a pause.
        due_ms = now_ms + max(1, decision.retry_after_ms)
        if decision.allowed or self._limiter.is_closed or due_ms > self._until_ms:
            return True
        bucket = longest_wait(decision)
        stood_there = place.bucket == bucket
        if not self._lines.stand(place, bucket):
            return True
        # A slot that came back before the claim stood there has woken nobody.
        place.due_ms = due_ms if stood_there or bucket[1] != CONCURRENT else now_ms
        return False

    def refusal(self, seen: Decision) -> Decision | None:
        """The result for a claim that others are ahead of; None: it sleeps until the `due_ms` of its place.

        `seen` is a peek of it. The refusal counts what is reserved for those ahead, in its waits too.
        """
        place, now_ms = self.place, self._now_ms()
        # Some may have been admitted during the peek, which has counted them then.
        self._ahead = self._lines.ahead_of(place, now_ms)
        found = behind(seen, self._reserved(now_ms), self._until_ms - now_ms)
        can_wait = now_ms < self._until_ms and now_ms + found.retry_after_ms <= self._until_ms
        if not self._ahead:
            place.due_ms = now_ms
        elif can_wait and not self._limiter.is_closed and self._lines.stand(place, self._bucket()):
            place.due_ms = self._next_look_ms(now_ms)
        elif found.allowed:
            # There is room for all that are ahead and for this one, so it overtakes nobody.
            self._goes_first, place.due_ms = True, now_ms
        else:
            return found
        return None

    def _reserved(self, now_ms: int) -> dict[Bucket, list[int]]:
        """The tokens that those ahead ask for. Those that claim at this moment may be in the peek already."""
        return {
            bucket: [
                each.buckets[bucket]
                for each in places
                # Most are not due. A call for each of them would take most of the time of a long line.
                if not each.is_claiming and (each.due_ms >= now_ms or not each.is_late(now_ms, self.place))
            ]
            for bucket, places in self._ahead.items()
        }

    def _bucket(self) -> Bucket:
        """In whose line to stand, behind others."""
        stands_in = self.place.bucket
        return stands_in if stands_in in self._ahead else next(iter(self._ahead))

    def _next_look_ms(self, now_ms: int) -> int:
        """When to see whether those ahead still run: each one in its turn."""
        ahead = {each for places in self._ahead.values() for each in places}
        late = {each for each in ahead if each.due_ms < now_ms and each.is_late(now_ms, self.place)}
        self._lines.poke(late, now_ms)
        wait_ms = TURN_MS if late == ahead else TURN_MS * len(ahead)
        next_ms = max(now_ms, min((each.due_ms for each in ahead - late), default=now_ms))
        return min(self._until_ms, next_ms + wait_ms)
