"""OpenClaims against a replay of the history: what a bucket would owe if each claim had cost its settled amount."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests import strategies

from awx_ratelimit.core.open_claims import MAX_OPEN, OPEN_MS, OpenClaims

DRAIN = 3
Event = tuple[int, int, Any]


def replay(history: list[list[int]], now_ms: int) -> int:
    """The debt now, if each charge had been what `history` says: pairs of a time and an amount."""
    debt = at_ms = 0
    for charged_at_ms, amount in [*history, [now_ms, 0]]:
        debt = max(0, debt - DRAIN * (charged_at_ms - at_ms)) + amount
        at_ms = charged_at_ms
    return debt


class Bucket:
    """A bucket that drains, with its open claims, as a backend keeps them."""

    def __init__(self) -> None:
        self.debt = self.at_ms = 0
        self.claims = OpenClaims()

    def drain(self, now_ms: int) -> None:
        self.debt, self.at_ms = max(0, self.debt - DRAIN * (now_ms - self.at_ms)), now_ms

    def charge(self, amount: int, now_ms: int, claim_id: int | None) -> None:
        self.drain(now_ms)
        if self.claims.claims:
            self.claims.note("x", self.debt)
        self.debt += amount
        if claim_id is not None:
            self.claims.add(claim_id, now_ms, {"x": self.debt})

    def settle(self, claim_id: int, back: int, now_ms: int) -> None:
        self.drain(now_ms)
        given = self.claims.give_back(claim_id, "x", back, self.debt)
        assert given is not None
        self.debt -= given
        self.claims.close(claim_id)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["declare", "declare", "charge", "settle", "settle"]),
        st.sampled_from([1, 2, 5, 10, 15, 40]),
        st.sampled_from([0, 0, 1, 2, 4, 12]),
        st.integers(0, 10),
    ),
    max_size=40,
)


@strategies.with_examples(150)
@given(_steps)
def test_equals_a_replay_of_the_history(steps: list[tuple[str, int, int, int]]) -> None:
    """Claims that are given back in any order, by any amount, leave the debt of a history with their final costs."""
    bucket, now_ms, history = Bucket(), 0, list[list[int]]()
    is_open: dict[int, list[int]] = {}
    for number, (verb, amount, elapsed_ms, which) in enumerate(steps):
        now_ms += elapsed_ms
        if verb == "settle":
            if not is_open:
                continue
            claim_id = sorted(is_open)[which % len(is_open)]
            entry = is_open.pop(claim_id)
            back = min(amount, entry[1])
            entry[1] -= back
            bucket.settle(claim_id, back, now_ms)
        else:
            history.append([now_ms, amount])
            bucket.charge(amount, now_ms, number if verb == "declare" else None)
            if verb == "declare":
                is_open[number] = history[-1]
        bucket.drain(now_ms)
        assert bucket.debt == replay(history, now_ms)


def test_one_success_does_not_erase_another_failure() -> None:
    """What one claim gets back from the lowest debt, a second claim does not get back again."""
    claims = OpenClaims()
    claims.add(1, 0, {"x": 10})
    claims.note("x", 10)
    claims.add(2, 0, {"x": 20})
    claims.note("x", 5)

    assert claims.give_back(1, "x", 8, 20) == 5
    assert claims.give_back(2, "x", 8, 15) == 0


def test_a_claim_gets_back_no_more_than_is_owed_now() -> None:
    """The debt at the moment of the settlement is a lowest debt, too."""
    claims = OpenClaims()
    claims.add(1, 0, {"x": 10})

    assert claims.give_back(1, "x", 10, 4) == 4


def test_unknown_claim() -> None:
    """A claim that is not open, or another limit of one that is, is not given back exactly."""
    claims = OpenClaims()
    claims.add(1, 0, {"x": 10})

    assert claims.give_back(2, "x", 5, 10) is None
    assert claims.give_back(1, "y", 5, 10) is None
    assert claims.give_back(1, "x", 5, 10) == 5


def test_forgotten_limit() -> None:
    """A limit that is counted otherwise from now on is not given back exactly; the others are."""
    claims = OpenClaims()
    claims.add(1, 0, {"x": 10, "y": 10})
    claims.forget(["x"])

    assert claims.give_back(1, "x", 5, 10) is None
    assert claims.give_back(1, "y", 5, 10) == 5


def test_claims_are_bounded_in_number_and_time() -> None:
    """The newest claims are kept, up to 1,000, for 10 minutes."""
    claims = OpenClaims()
    for number in range(MAX_OPEN + 5):
        claims.add(number, 0, {"x": 10})
    kept = [claim.id for claim in claims.claims]
    claims.drop_old(OPEN_MS)
    at_last = len(claims.claims)
    claims.drop_old(OPEN_MS + 1)

    assert kept == [*range(5, MAX_OPEN + 5)]
    assert at_last == MAX_OPEN
    assert claims.claims == []


def test_low_of_a_closed_claim_counts_for_earlier_ones() -> None:
    """The lowest debt after a claim that is settled still bounds what earlier claims get back."""
    claims = OpenClaims()
    claims.add(1, 0, {"x": 10})
    claims.add(2, 0, {"x": 20})
    claims.note("x", 3)
    claims.close(2)
    claims.note("x", 9)

    assert claims.give_back(1, "x", 10, 9) == 3


def test_claims_of_a_clock_that_was_ahead() -> None:
    """Claims that were charged far in the future, by a clock that was set back, are forgotten."""
    claims = OpenClaims()
    claims.add(1, 10**15, {"x": 10})
    claims.add(2, 0, {"x": 20})

    assert [claim.id for claim in claims.claims] == [2]
    assert claims.give_back(2, "x", 20, 20) == 20
