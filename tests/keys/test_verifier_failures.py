"""The limit on invalid keys per address, on each database."""

import pytest
from tests.keys.store_probes import statements
from tests.keys.verifications import DAY_MS, KEY, Make, code_of, new_key

from awx_ratelimit.errors import TooManyWrongKeys
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.testing import ManualClock


class Failures:
    """A limit of two invalid keys per address."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, address: str, failed: bool) -> int:
        self.asked.append((address, failed))
        return 7_000 if self.asked.count((address, True)) > 2 else 0


def test_failures(service: KeyService, store: KeyStore, verifiers: Make) -> None:
    """After too many invalid keys an address must wait, without a look-up."""
    verifier = verifiers(failures=Failures())
    _, key = new_key(service)
    wrong = [KEY, b"nonsense", KEY[:-1]]
    codes = [code_of(verifier.verify, one, "a") for one in wrong[:2]]
    with pytest.raises(TooManyWrongKeys) as caught:
        verifier.verify(wrong[2], "a")
    with statements(store) as sent, pytest.raises(TooManyWrongKeys):
        verifier.verify(key, "a")

    assert codes == ["invalid_api_key"] * 2
    assert caught.value.retry_after_ms == 7_000
    assert sent == []


def test_failures_of_another_address(service: KeyService, verifiers: Make) -> None:
    """Other addresses are looked up, and cached keys are accepted from everywhere."""
    verifier = verifiers(failures=Failures())
    (_, known), (_, unseen) = new_key(service), new_key(service)
    verifier.verify(known, "b")
    for _ in range(2):
        code_of(verifier.verify, KEY, "a")
    with pytest.raises(TooManyWrongKeys):
        verifier.verify(KEY, "a")

    assert [code_of(verifier.verify, key, who) for key, who in ((known, "a"), (unseen, "b"), (unseen, "a"))] == [
        "ok"
    ] * 3


def test_expired_key_is_no_failure(service: KeyService, verifiers: Make, clock: ManualClock) -> None:
    """An expired or revoked key does not count as a failure of its address."""
    failures = Failures()
    verifier = verifiers(failures=failures)
    (revoked_id, revoked), (_, expired) = new_key(service), new_key(service, expires_in_days=1)
    service.revoke("acme", revoked_id)
    clock.advance(DAY_MS)
    codes = {code_of(verifier.verify, key, "a") for key in (revoked, expired) for _ in range(5)}

    assert codes == {"api_key_revoked", "api_key_expired"}
    assert [failed for _, failed in failures.asked if failed] == []


def test_error_of_failures(verifiers: Make) -> None:
    """An error of the limit reaches the caller, and no key is accepted."""

    def broken(address: str, failed: bool) -> int:
        raise ArithmeticError(address)

    with pytest.raises(ArithmeticError):
        verifiers(failures=broken).verify(KEY, "a")
