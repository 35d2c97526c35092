"""Declared claims in a host file: how many stay open, what is cut when a record is full, and interrupted writes."""

from pathlib import Path

from tests.backends.host.limiters import limiter, remaining
from tests.host_processes import START_MS
from tests.interruptions import every_interruption

from awx_ratelimit import Concurrency, Limiter, Plan, Rate
from awx_ratelimit.testing import ManualClock

EIGHT = Plan("eight", tuple(Rate(f"rate-{number}", 2_000, 86_400_000) for number in range(8)))
#: Its claims and leases do not fit into the largest cell together.
LARGE = Plan("large", EIGHT.rates, Concurrency(10_000, max_hold_ms=86_400_000))
MINUTE = Plan("minute", (Rate("minute", 100, 60_000),))


def test_claims_of_eight_limits(path: Path, clock: ManualClock) -> None:
    """1,000 claims of a plan with 8 limits are given back exactly after 10 minutes."""
    own = limiter(path, clock)
    decisions = [own.acquire("s", EIGHT, settle=True) for _ in range(1_000)]
    clock.advance(600_000)
    for decision in decisions:
        own.refund(decision)

    assert remaining(own, EIGHT) == [2_000] * 8


def test_full_record(path: Path, clock: ManualClock) -> None:
    """If a record is full, its oldest claims count as undeclared, and all claims are decided."""
    own = limiter(path, clock)
    decisions = [own.acquire("s", LARGE, settle=True) for _ in range(1_800)]
    clock.advance(86_400)
    own.refund(decisions[0])
    undeclared = remaining(own, LARGE)[0]
    own.refund(decisions[-1])

    assert all(decisions)
    # 2 tokens have refilled, and nothing of the first claim's only token is left to give back.
    assert undeclared == 2_000 - 1_800 + 2
    assert remaining(own, LARGE)[0] == undeclared + 1


def test_interrupted_settlement(tmp_path: Path) -> None:
    """A settlement that is interrupted was done or was not, and leaves all other claims open, for every process."""
    for interruption in every_interruption():
        clock = ManualClock(START_MS)
        path = tmp_path / str(interruption.number)
        own = limiter(path, clock)
        earlier = [own.acquire("s", MINUTE, 10, settle=True) for _ in range(3)]
        clock.advance(6_000)
        with interruption.raising():
            own.settle(earlier[1], 4)
        for each in earlier:
            own.refund(each)

        assert remaining(own, MINUTE)[0] in (100, 96), interruption.number
        assert remaining(limiter(path, clock), MINUTE) == remaining(own, MINUTE), interruption.number


def test_rows_lost_in_a_power_cut(path: Path, clock: ManualClock) -> None:
    """Claims whose rows did not reach the disk count as undeclared."""
    own = limiter(path, clock)
    decisions = [own.acquire("s", MINUTE, 20, settle=True) for _ in range(3)]
    ledger = own.backend._session.ledgers.known["s"]  # type: ignore[attr-defined]
    content = path.read_bytes()
    rows = bytes(ledger.open.rows)
    path.write_bytes(content.replace(rows, bytes(len(rows))))
    ledger.cached_cell = None
    clock.advance(6_000)
    for decision in decisions[::-1]:
        own.refund(decision)

    # The newest was open still. Of each other one, 10 of its 20 tokens had not refilled.
    assert remaining(Limiter(own.backend), MINUTE)[0] == 100 - 60 + 10 + 20 + 10 + 10
