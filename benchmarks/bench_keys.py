"""Verify an API key: from memory, compared with the digest that every verification needs, and by a look-up in SQLite.

Not timed: the store, its account and its keys. Each answer is checked after its timing.
"""

import timeit
from collections.abc import Callable
from hashlib import sha256
from tempfile import TemporaryDirectory

from awx_ratelimit import KeyRefused
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier

_TARGET_US = 3.0
_LOOK_UPS = 300


def main() -> None:
    """Print the table."""
    print("\n## Verifying an API key\n\n| what | us | digests |\n| --- | --- | --- |")
    key = KeyFormat().new().reveal().encode()
    digest_us = _fastest_us(lambda: sha256(key).digest())
    _print("the control: one SHA-256", digest_us, digest_us)
    verdicts = []
    with TemporaryDirectory() as folder:
        for name, pepper in (("", None), (", with a pepper", bytes(32))):
            cached_us, looked_up_us, refused_us = _verified(f"{folder}/keys{bool(pepper)}.db", pepper)
            _print(f"accepted, from memory{name}", cached_us, digest_us)
            _print(f"accepted, by a look-up in SQLite{name}", looked_up_us, digest_us)
            _print(f"malformed, refused without a look-up{name}", refused_us, digest_us)
            verdicts.append(f"- at most {_TARGET_US} us from memory{name}: {cached_us:.2f}, {_met(cached_us)}")
    print("\nTargets:", *verdicts, sep="\n")


def _verified(path: str, pepper: bytes | None) -> tuple[float, float, float]:
    store, form = KeyStore.open(path), KeyFormat(pepper=pepper)
    service, verifier = KeyService(store, keys=form), KeyVerifier(store, keys=form)
    service.accounts.create("acme", plan="starter", max_keys=_LOOK_UPS)
    keys = [service.create("acme", "n").secret.reveal().encode() for _ in range(_LOOK_UPS)]
    verifier.verify(keys[0])
    remaining = iter(keys[1:])
    looked_up_us = timeit.timeit(lambda: verifier.verify(next(remaining)), number=_LOOK_UPS - 1) / (_LOOK_UPS - 1) * 1e6
    cached_us = _fastest_us(lambda: verifier.verify(keys[0]))
    refused_us = _fastest_us(lambda: _refused(verifier, keys[0][:-1] + b"!"))
    assert verifier.verify(keys[0]).plan == "starter"
    verifier.close()
    store.close()
    return cached_us, looked_up_us, refused_us


def _refused(verifier: KeyVerifier, key: bytes) -> None:
    try:
        verifier.verify(key)
    except KeyRefused:
        return
    raise AssertionError


def _fastest_us(timed: Callable[[], object]) -> float:
    return min(timeit.repeat(timed, number=5_000, repeat=9)) / 5_000 * 1e6


def _print(what: str, us: float, digest_us: float) -> None:
    print(f"| {what} | {us:.2f} | {us / digest_us:.1f} |")


def _met(us: float) -> str:
    return "met" if us <= _TARGET_US else "NOT met"


if __name__ == "__main__":
    main()
