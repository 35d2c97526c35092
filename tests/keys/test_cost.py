"""A guard with wide margins: verifying from memory must not get slower by a multiple of its own control unseen."""

import timeit
from collections.abc import Callable
from hashlib import sha256
from time import time

import pytest

from awx_ratelimit import Request, StaticKeys, StoredKeys
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier


@pytest.mark.parametrize("pepper", [None, bytes(16)], ids=["plain", "pepper"])
def test_a_verification_from_memory_costs_a_few_digests(pepper: bytes | None) -> None:
    """It takes less than eight times as long as a digest, a look into a dict and at the clock, which it needs."""
    store = KeyStore.open("sqlite://")
    form = KeyFormat(pepper=pepper)
    service, verifier = KeyService(store, keys=form), KeyVerifier(store, keys=form)
    service.accounts.create("acme")
    key = service.create("acme", "n").secret.reveal().encode()
    verifier.verify(key)
    known = {sha256(key).digest(): 1}
    ours = lambda: verifier.verify(key)  # noqa: E731  # timeit wants a function
    control = lambda: known[sha256(key).digest()] < time()  # noqa: E731  # timeit wants a function
    ratio = _fastest(ours) / _fastest(control)
    verifier.close()
    store.close()

    assert ratio < 8


def test_a_stored_key_costs_little_more_than_one_that_is_known_beforehand() -> None:
    """From memory it takes less than four times as long to say who is calling."""
    store = KeyStore.open("sqlite://")
    service, verifier = KeyService(store), KeyVerifier(store)
    service.accounts.create("acme")
    key = service.create("acme", "n").secret.reveal()
    verifier.verify(key.encode())
    request = Request("GET", "/", None, {b"x-api-key": [key.encode()]}.__getitem__)
    stored, static = StoredKeys(verifier), StaticKeys({key: "starter"})
    ratio = _fastest(lambda: stored.call_async(request)) / _fastest(lambda: static(request))
    verifier.close()
    store.close()

    assert ratio < 4


def _fastest(timed: Callable[[], object]) -> float:
    return min(timeit.repeat(timed, number=2_000, repeat=15))
