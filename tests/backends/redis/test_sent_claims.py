"""A batch of claims on its way: ids, releases that travel along, and what becomes of it without an answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from awx_ratelimit import Plan
from awx_ratelimit.backends.redis.connection_sync import Connection
from awx_ratelimit.backends.remote.sent_claims import SentClaims
from awx_ratelimit.testing import fake_redis

PLAN = Plan.of("sent", per_day=100, concurrent=10)


class Sending:
    """A session, and what it has sent. No thread releases anything."""

    def __init__(self) -> None:
        self.backend = fake_redis()
        session: Any = self.backend._session
        self.session = session
        self.server: Any = self.session.only_server
        self.session._thread.start = lambda: None

    def sent(self, *subjects: str) -> SentClaims:
        claims = [self.session.new_claim(subject, PLAN, 1) for subject in subjects]
        return SentClaims(self.session, self.server, claims)

    def replies(self, sent: SentClaims) -> Any:
        return Connection(self.server).run(sent.calls)

    def pending(self) -> list[str]:
        return [record for record, _ in self.session.calls.leases_to_release(self.server)]


@pytest.fixture
def sending() -> Iterator[Sending]:
    made = Sending()
    yield made
    made.backend.close()


def test_ids_of_a_batch(sending: Sending) -> None:
    """The claims of a batch get consecutive ids, which are in flight until its results are read."""
    sent = sending.sent("a", "b", "a")
    before = sending.session.lease_ids.settled_below()
    replies = sending.replies(sent)
    sent.received(replies)
    decisions = sent.results(replies)

    first = decisions[0].lease_id  # type: ignore[union-attr]
    assert [decision.lease_id for decision in decisions] == [first, first + 1, first + 2]  # type: ignore[union-attr]
    assert before == first
    assert sending.session.lease_ids.settled_below() > first + 2


def test_releases_travel_once(sending: Sending) -> None:
    """As soon as the replies are there, the releases that a batch carried are no longer pending."""
    lease = sending.backend.acquire("a", PLAN, 1)
    sending.backend.release(lease)
    sent = sending.sent("b")
    before = sending.pending()
    replies = sending.replies(sent)
    sent.received(replies)
    after = sending.pending()
    sent.results(replies)

    assert before == ["a"]
    assert after == []


def test_a_failed_batch_releases_its_leases(sending: Sending) -> None:
    """What it may have taken is released, and it is no longer in flight."""
    sent = sending.sent("a", "b")
    sent.fail(TimeoutError())

    assert sending.pending() == ["a", "b"]
    assert sending.session.lease_ids.in_flight() == set()
