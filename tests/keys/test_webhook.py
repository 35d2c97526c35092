"""The webhook: signed, sent again until it is accepted, and never waited for."""

import base64
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tests.keys.test_quota_warnings import DAILY, DAY_MS, HOUR_MS, Make, watch
from tests.keys.webhook_receiver import Receiver
from tests.machine import timed

from awx_ratelimit import Limiter, MemoryBackend, QuotaWarnings
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.warnings import webhook as sending
from awx_ratelimit.testing import ManualClock

__all__ = ["watch"]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(SECRET)
    yield receiver
    receiver.close()


def test_message(watch: Make, receiver: Receiver, store: KeyStore, service: KeyService) -> None:
    """The message has the verified signature of the Standard Webhooks, and says what was used of which quota."""
    key = service.create("acme", "n").key.id
    watch(webhook=receiver.url, secret=SECRET, store=store).use(key, 8, DAILY)
    (message,) = receiver.messages

    assert message == {
        "id": receiver.ids[0],
        "type": "quota.warning",
        "timestamp": "2025-06-01T10:00:00Z",
        "data": {
            "account_id": "acme",
            "key_id": key,
            "subject": key,
            "limit": "day",
            "measure": "requests",
            "percent": 80,
            "used": 8,
            "capacity": 10,
            "resets_at": "2025-06-02T05:12:00Z",
        },
    }


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_retries(
    watch: Make, receiver: Receiver, service: KeyService, store: KeyStore, other_store: KeyStore, clock: ManualClock,
    kind: str, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """What is not accepted is sent again with the same id, less and less often; with a store, by any process."""
    key = service.create("acme", "n").key.id
    options = {"webhook": receiver.url, "secret": SECRET}
    first = watch(**options, store=store if kind == "store" else None)
    sender = first if kind == "memory" else watch(**options, store=other_store)
    receiver.statuses = [500, 302, 429]
    first.use(key, 8, DAILY)
    sent = [len(receiver.ids)]
    failing = first.warnings.health()
    for wait_ms in (4_999, 1, 9_999, 1, 20_000, DAY_MS):
        clock.advance(wait_ms)
        sender.warnings._deliver()
        sent.append(len(receiver.ids))

    assert failing == {"pending": 1, "given_up": 0, "failing": True}
    assert sent == [1, 1, 2, 2, 3, 4, 4]
    assert len(set(receiver.ids)) == 1
    # No redirect was followed.
    assert len(set(receiver.paths)) == 1
    assert sender.warnings.health() == {"pending": 0, "given_up": 0, "failing": False}
    assert "not-for-logs" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("statuses", "attempts"), [([410], 1), ([500] * 999, 151)])
def test_given_up(
    watch: Make, receiver: Receiver, clock: ManualClock, statuses: list[int], attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A warning is given up after a day, or if the receiver is gone, and an error is logged."""
    caplog.set_level(logging.ERROR)
    watched = watch(webhook=receiver.url, secret=SECRET)
    receiver.statuses = statuses
    watched.use("a", 8, DAILY)
    for _ in range(30 * 6):
        clock.advance(HOUR_MS // 6)
        watched.warnings._deliver()

    assert watched.warnings.health() == {"pending": 0, "given_up": 1, "failing": False}
    assert len(receiver.ids) <= attempts
    assert "was given up: 127.0.0.1" in caplog.text


def test_hanging_receiver(receiver: Receiver) -> None:
    """A receiver that never answers delays no request, no flush and no end of the process."""
    warnings = QuotaWarnings(webhook=receiver.url, secret=SECRET, interval_seconds=0.01)
    limiter = Limiter(MemoryBackend(), listeners=[warnings])
    receiver.answers.clear()
    limiter.acquire("a", DAILY, 8)
    assert receiver.reached.wait(10)
    pending = warnings.health()["pending"]
    with timed() as requests:
        for number in range(1_000):
            limiter.acquire(f"{number}", DAILY, 8)
    with timed() as flush:
        limiter.flush()
    with timed() as close:
        warnings.close()

    assert pending == 1
    assert requests.seconds < requests.limit(0.5)
    assert flush.seconds < flush.limit(1)
    assert close.seconds < close.limit(2.5)


def test_timeout(receiver: Receiver) -> None:
    """A delivery takes at most its time-out."""
    receiver.answers.clear()
    hook = sending.Webhook(receiver.url, SECRET, timeout_s=0.05)
    with timed() as watch, pytest.raises(sending.DeliveryFailed, match=r"timed out|too long"):
        hook.send("wrn_1", "{}")

    assert watch.seconds < watch.limit(2)


@pytest.mark.parametrize(
    ("url", "secret", "expected"),
    [
        ("http://example.com/hook", SECRET, "webhook: expected an https:// URL, or http:// with the host localhost"),
        ("ftp://localhost/hook", SECRET, "webhook: expected an https:// URL, or http:// with the host localhost"),
        ("https://exa mple.com/", SECRET, "webhook: expected an https:// URL, or http:// with the host localhost"),
        ("https://[/", SECRET, "webhook: expected an https:// URL, or http:// with the host localhost"),
        ("https://user:hunter2@example.com/", SECRET, "webhook: expected a URL without a user and a password; "
         "the signature identifies the sender"),
        ("https://example.com/", "hunter2", "secret: expected 'whsec_' and 24 to 64 bytes in Base64; "),
        ("https://example.com/", "whsec_hunter2", "secret: expected 'whsec_' and 24 to 64 bytes in Base64; "),
        ("https://example.com/", None, "secret: expected 'whsec_' and 24 to 64 bytes in Base64; "),
    ],
)  # fmt: skip
def test_wrong_options(url: str, secret: Any, expected: str) -> None:
    """A wrong URL or secret is an error that does not contain it."""
    with pytest.raises(InvalidLimit) as caught:
        QuotaWarnings(webhook=url, secret=secret)

    assert str(caught.value).startswith(expected)
    assert "hunter2" not in str(caught.value)
