"""Verifying a key from memory must not become slower by a multiple of its control. The margins are wide."""

from hashlib import sha256
from time import time

import pytest
from tests.processor_time import cpu_ratio

from awx_ratelimit import Request, StaticKeys, StoredKeys
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier


@pytest.mark.parametrize("pepper", [None, bytes(16)], ids=["plain", "pepper"])
def test_verification_from_memory(pepper: bytes | None) -> None:
    """It takes less than eight times as long as its control: a digest, a look-up in a dict and a look at the clock."""
    store = KeyStore.open("sqlite://")
    form = KeyFormat(pepper=pepper)
    service, verifier = KeyService(store, keys=form), KeyVerifier(store, keys=form)
    service.accounts.create("acme")
    key = service.create("acme", "n").secret.reveal().encode()
    verifier.verify(key)
    known = {sha256(key).digest(): 1}
    ours = lambda: verifier.verify(key)  # noqa: E731  # timeit wants a function
    control = lambda: known[sha256(key).digest()] < time()  # noqa: E731  # timeit wants a function
    ratio = cpu_ratio(ours, control, 8, number=300)
    verifier.close()
    store.close()

    assert ratio < 8


def test_stored_key_and_static_key() -> None:
    """From memory, StoredKeys takes less than four times as long as StaticKeys."""
    store = KeyStore.open("sqlite://")
    service, verifier = KeyService(store), KeyVerifier(store)
    service.accounts.create("acme")
    key = service.create("acme", "n").secret.reveal()
    verifier.verify(key.encode())
    request = Request("GET", "/", None, {b"x-api-key": [key.encode()]}.__getitem__)
    stored, static = StoredKeys(verifier), StaticKeys({key: "starter"})
    ratio = cpu_ratio(lambda: stored.call_async(request), lambda: static(request), 4, number=300)
    verifier.close()
    store.close()

    assert ratio < 4
