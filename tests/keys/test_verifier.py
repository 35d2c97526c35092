"""Verifying keys, from the cache and from the store, on each database."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from tests.keys.store_probes import Call, paused_look_ups, statements
from tests.machine import eventually

from awx_ratelimit import Caller
from awx_ratelimit.errors import KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock

DAY_MS = 86_400_000
KEY = b"awx_0123456789ABCDEFGHIJKLMNOPQRSTUV1Ffk2I"
Make = Callable[..., KeyVerifier]


@pytest.fixture
def other_store(database: str, store: KeyStore) -> Iterator[KeyStore]:
    """The same store as another process opens it, which sends no notices to this one."""
    other = KeyStore.open(database)
    yield other
    other.close()


@pytest.fixture
def others(other_store: KeyStore, clock: ManualClock, service: KeyService) -> KeyService:
    """The service of another process."""
    return KeyService(other_store, clock=clock)


def _key(service: KeyService, account_id: str = "acme", expires_in_days: int | None = None) -> tuple[str, bytes]:
    created = service.create(account_id, "n", expires_in_days=expires_in_days)
    return created.key.id, created.secret.reveal().encode()


def _code(verify: Callable[..., object], *args: object) -> str:
    """The code of a refusal; `ok` if there is none."""
    try:
        verify(*args)
    except KeyRefused as error:
        return error.code
    return "ok"


def test_caller(service: KeyService, verifier: KeyVerifier) -> None:
    """The caller is the key's family with its account's plan and overrides, from the store and from the cache."""
    service.accounts.set_overrides("acme", {"per_minute": 90})
    key_id, key = _key(service)
    expected = Caller(key_id, "starter", "acme", {"per_minute": 90})

    assert verifier.verify_cached(key) is None
    assert verifier.verify(key) == expected
    assert verifier.verify_cached(key) == expected
    assert verifier.verify(b" \t" + key + b"\t ") == expected


def test_successor_shares_the_subject(service: KeyService, verifier: KeyVerifier) -> None:
    """A key and its successor have the same subject, so rotation doubles no limit."""
    key_id, old = _key(service)
    new = service.rotate("acme", key_id).secret.reveal().encode()

    assert [verifier.verify(key).subject for key in (old, new)] == [key_id, key_id]


def test_cache(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """Valid and unknown keys are looked up once."""
    _, key = _key(service)
    verifier.verify(key)
    _code(verifier.verify, KEY)
    with statements(store) as sent:
        codes = [_code(verifier.verify, one) for one in (key, KEY, key, KEY)]

    assert codes == ["ok", "invalid_api_key"] * 2
    assert sent == []


@pytest.mark.parametrize("known", [True, False])
def test_cache_lifetime(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock, known: bool
) -> None:
    """A valid key is cached for 30 s and an unknown one for 5 s; then they are looked up again."""
    _, key = _key(service) if known else ("", KEY)
    verifier.poll()
    sent_after = {}
    for ms in (0, 4_999, 1, 24_999, 1) if not known else (0, 29_999, 1):
        clock.advance(ms)
        with statements(store) as sent:
            _code(verifier.verify, key)
        sent_after[clock.now_ms()] = len(sent)

    assert list(sent_after.values()) == ([1, 0, 1] if known else [1, 0, 1, 1, 0])


def test_clock_steps_back(service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A key whose look-up lies in the future is looked up again, because its age is unknown."""
    _, key = _key(service)
    verifier.verify(key)
    clock.advance(-1)
    with statements(store) as sent:
        verifier.verify(key)

    assert len(sent) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b" ",
        b"awx_",
        KEY[:-1],
        KEY[:-1] + b"0",
        KEY + b"\n",
        b"\r" + KEY,
        KEY + b"," + KEY,
        b"awx_\xff" + KEY[5:],
        b"Bearer " + KEY,
        KEY.upper(),
        b"a" * 128,
        b"a" * 129,
        b"a" * 1_000_000,
        KEY + b" " * 1_000 + b"x",
    ],
)
def test_malformed_key(store: KeyStore, verifier: KeyVerifier, sent: bytes) -> None:
    """A malformed key is refused without a statement, and the error does not contain it."""
    with statements(store) as asked, pytest.raises(KeyRefused) as caught:
        verifier.verify(sent)

    assert caught.value.code == "invalid_api_key"
    assert caught.value.args == ("invalid_api_key",)
    assert asked == []


def test_long_key(verifiers: Make) -> None:
    """A text that is too long for a key is refused before its digest is computed."""
    form, digested = KeyFormat(), []
    form.digest = lambda key: digested.append(key) or bytes(32)  # type: ignore[func-returns-value]
    verifier = verifiers(keys=form)
    codes = [_code(verifier.verify, b"a" * length) for length in (128, 129, 1_000_000)]

    assert codes == ["invalid_api_key"] * 3
    assert [len(key) for key in digested] == [128]


def test_statements_of_invalid_keys(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock
) -> None:
    """Every kind of refused key needs one statement, and only a valid digest gets its specific code."""
    service.accounts.create("away")
    ids, keys = {}, {"unknown": KEY}
    for name, account in (("revoked", "acme"), ("rotated", "acme"), ("suspended", "away"), ("active", "acme")):
        ids[name], keys[name] = _key(service, account)
    _, keys["expired"] = _key(service, expires_in_days=1)
    _, keys["expired of a suspended account"] = _key(service, "away", expires_in_days=1)
    ids["expired and revoked"], keys["expired and revoked"] = _key(service, expires_in_days=1)
    service.revoke("acme", ids["revoked"])
    service.revoke("acme", ids["expired and revoked"])
    service.rotate("acme", ids["rotated"], grace_period_seconds=1)
    service.accounts.suspend("away")
    clock.advance(DAY_MS)
    verifier.poll()
    seen = {}
    for name, key in keys.items():
        with statements(store) as sent:
            seen[name] = (_code(verifier.verify, key), len(sent))

    assert seen == {
        "unknown": ("invalid_api_key", 1),
        "revoked": ("api_key_revoked", 1),
        "rotated": ("api_key_expired", 1),
        "suspended": ("api_key_revoked", 1),
        "active": ("ok", 1),
        "expired": ("api_key_expired", 1),
        "expired of a suspended account": ("api_key_expired", 1),
        "expired and revoked": ("api_key_revoked", 1),
    }


def test_cached_key_expires(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A cached key expires at its millisecond."""
    _, key = _key(service, expires_in_days=1)
    clock.advance(DAY_MS - 1)
    before = _code(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert _code(verifier.verify_cached, key) == "api_key_expired"


def test_cached_key_after_its_grace_period(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A cached key that was rotated is refused at the end of its grace period."""
    key_id, key = _key(service)
    service.rotate("acme", key_id, grace_period_seconds=10)
    clock.advance(9_999)
    before = _code(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert _code(verifier.verify_cached, key) == "api_key_expired"


def test_revocation_in_this_process(service: KeyService, verifier: KeyVerifier) -> None:
    """When `revoke` has returned, this process refuses the key without a poll."""
    key_id, key = _key(service)
    verifier.verify(key)
    service.revoke("acme", key_id)

    assert verifier.verify_cached(key) is None
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_account_change_in_this_process(service: KeyService, verifier: KeyVerifier) -> None:
    """A new plan, overrides and status apply to the next request of each key of the account."""
    _, key = _key(service)
    seen = [verifier.verify(key)]
    service.accounts.set_plan("acme", "growth")
    seen.append(verifier.verify(key))
    service.accounts.set_overrides("acme", {"per_day": 1})
    seen.append(verifier.verify(key))
    service.accounts.suspend("acme")
    suspended = _code(verifier.verify, key)
    service.accounts.activate("acme")
    seen.append(verifier.verify(key))

    assert [(caller.plan, caller.overrides) for caller in seen] == [
        ("starter", None),
        ("growth", None),
        ("growth", {"per_day": 1}),
        ("growth", {"per_day": 1}),
    ]
    assert suspended == "api_key_revoked"


def test_revocation_in_another_process(service: KeyService, others: KeyService, verifier: KeyVerifier) -> None:
    """A key that another process revoked is accepted until the next poll, and refused afterwards."""
    key_id, key = _key(service)
    verifier.verify(key)
    others.revoke("acme", key_id)
    before = _code(verifier.verify, key)
    verifier.poll()

    assert before == "ok"
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_poll(service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier) -> None:
    """A poll is one statement, and removes only keys of changed accounts from the cache."""
    service.accounts.create("other")
    _, mine = _key(service)
    _, theirs = _key(service, "other")
    verifier.verify(mine)
    verifier.verify(theirs)
    others.accounts.set_plan("other", "growth")
    others.create("acme", "a new key is no news")
    with statements(store) as sent:
        verifier.poll()
        verifier.poll()

    assert len(sent) == 2
    assert verifier.verify_cached(mine) is not None
    assert verifier.verify_cached(theirs) is None


@pytest.mark.parametrize("end", ["DELETE FROM awx_key_changes", "DELETE FROM awx_key_changes WHERE number < 3"])
def test_missing_last_change(
    service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier, end: str
) -> None:
    """If the last change that was seen no longer exists, as after restoring a backup, the cache is emptied."""
    _, key = _key(service)
    others.accounts.set_plan("acme", "growth")
    others.accounts.set_plan("acme", "starter")
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text(end))
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_replaced_last_change(service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier) -> None:
    """If other changes have replaced the last one that was seen, keys of all accounts are removed from the cache."""
    _, key = _key(service)
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text("DELETE FROM awx_key_changes"))
        connection.execute(text("INSERT INTO awx_key_changes (number, account_id, at_ms) VALUES (9, 'x', 1)"))
    verifier._position = 5
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_many_changes(service: KeyService, others: KeyService, verifier: KeyVerifier, store: KeyStore) -> None:
    """After more than a thousand changes the cache is emptied, and the poll continues from the newest."""
    _, key = _key(service)
    verifier.verify(key)
    with store._engines.writing.begin() as connection:
        row = {"account": "none", "at_ms": 1}
        connection.execute(
            text("INSERT INTO awx_key_changes (account_id, at_ms) VALUES (:account, :at_ms)"), [row] * 1_001
        )
    verifier.poll()
    behind = verifier.verify_cached(key)
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    verifier.poll()

    assert behind is None
    assert verifier.verify(key).plan == "growth"


def test_old_changes(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """Changes are kept for an hour, and their numbers are never used again."""
    service.accounts.set_plan("acme", "growth")
    clock.advance(3_600_001)
    service.accounts.set_plan("acme", "starter")
    with store._engines.reading.connect() as connection:
        numbers = list(connection.execute(text("SELECT number FROM awx_key_changes")).scalars())

    assert numbers == [2]


def test_shared_look_up(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """Concurrent requests with the same key share one look-up."""
    key_id, key = _key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        calls = [Call(verifier.verify, key) for _ in range(20)]
        held.reached.wait(10)
        held.let_go.set()
        answers = {call.ended().subject for call in calls}

    assert answers == {key_id}
    assert held.number == 1


def test_independent_look_ups(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """While the look-up of one key hangs, another key is looked up."""
    _, first = _key(service)
    second_id, second = _key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        hanging = Call(verifier.verify, first)
        held.reached.wait(10)
        other = Call(verifier.verify, second)
        both = eventually(lambda: held.number, 2)
        held.let_go.set()

    assert both == 2
    assert other.ended().subject == second_id
    assert hanging.ended().account == "acme"


@pytest.mark.parametrize("by", ["this process", "another process"])
def test_revocation_during_a_look_up(
    service: KeyService, others: KeyService, store: KeyStore, verifier: KeyVerifier, by: str
) -> None:
    """A key that is revoked during its look-up is not cached as valid."""
    key_id, key = _key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        early = Call(verifier.verify, key)
        held.reached.wait(10)
        if by == "this process":
            service.revoke("acme", key_id)
        else:
            others.revoke("acme", key_id)
            verifier.poll()
        held.let_go.set()
        # It began before the revocation, so both outcomes are correct.
        early.ended()

    assert verifier.verify_cached(key) is None
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_request_after_a_revocation(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """A request that begins after a revocation does not join a look-up that began before it."""
    key_id, key = _key(service)
    verifier.poll()
    with paused_look_ups(store) as held:
        early = Call(verifier.verify, key)
        held.reached.wait(10)
        service.revoke("acme", key_id)
        late = Call(verifier.verify, key)
        looked_up = eventually(lambda: held.number, 2)
        held.let_go.set()
        ended = late.ended()
        early.ended()

    assert looked_up == 2
    assert getattr(ended, "code", ended) == "api_key_revoked"


def test_bounded_cache(service: KeyService, store: KeyStore, verifiers: Make) -> None:
    """Least recently used keys are evicted first; unknown keys have a separate cache."""
    verifier = verifiers(max_keys=2)
    keys = [_key(service)[1] for _ in range(3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        verifier.verify(key)
    for _ in range(5):
        _code(verifier.verify, KeyFormat().new().reveal().encode())

    assert [verifier.verify_cached(key) is not None for key in keys] == [True, False, True]
    assert {name: verifier.health()[name] for name in ("known", "unknown")} == {"known": 2, "unknown": 2}


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
    _, key = _key(service)
    wrong = [KEY, b"nonsense", KEY[:-1]]
    codes = [_code(verifier.verify, one, "a") for one in wrong[:2]]
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
    (_, known), (_, unseen) = _key(service), _key(service)
    verifier.verify(known, "b")
    for _ in range(2):
        _code(verifier.verify, KEY, "a")
    with pytest.raises(TooManyWrongKeys):
        verifier.verify(KEY, "a")

    assert [_code(verifier.verify, key, who) for key, who in ((known, "a"), (unseen, "b"), (unseen, "a"))] == ["ok"] * 3


def test_expired_key_is_no_failure(service: KeyService, verifiers: Make, clock: ManualClock) -> None:
    """An expired or revoked key does not count as a failure of its address."""
    failures = Failures()
    verifier = verifiers(failures=failures)
    (revoked_id, revoked), (_, expired) = _key(service), _key(service, expires_in_days=1)
    service.revoke("acme", revoked_id)
    clock.advance(DAY_MS)
    codes = {_code(verifier.verify, key, "a") for key in (revoked, expired) for _ in range(5)}

    assert codes == {"api_key_revoked", "api_key_expired"}
    assert [failed for _, failed in failures.asked if failed] == []


def test_error_of_failures(verifiers: Make) -> None:
    """An error of the limit reaches the caller, and no key is accepted."""

    def broken(address: str, failed: bool) -> int:
        raise ArithmeticError(address)

    with pytest.raises(ArithmeticError):
        verifiers(failures=broken).verify(KEY, "a")


def test_hanging_look_up(
    service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All callers of a hanging look-up give up in time; later ones do not wait, and cached keys work."""
    verifier = verifiers(budget_ms=30_000)
    (_, known), (_, hanging), (_, other) = _key(service), _key(service), _key(service)
    verifier.verify(known)
    # Only the hanging look-up has a short budget: the first one may be late on a busy machine.
    monkeypatch.setattr(verifier._single_flight, "_budget_s", 0.2)
    with paused_look_ups(store) as held:
        began_s = time.monotonic()
        said = {str(call.ended()) for call in [Call(verifier.verify, hanging) for _ in range(5)]}
        waited_s = time.monotonic() - began_s
        with pytest.raises(KeyStoreUnavailable, match="has not answered in time; look-ups pause"):
            verifier.verify(other)
        remembered = _code(verifier.verify, known)

    assert said == {"the key store has not answered within 200 ms"}
    assert held.number == 1
    assert remembered == "ok"
    assert 0.19 < waited_s < 10


def test_store_recovers(service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hung is used again when it responds, also for the key whose look-up hung."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=500)
    key_id, key = _key(service)
    with paused_look_ups(store), pytest.raises(KeyStoreUnavailable):
        verifier.verify(key)

    assert verifier.verify(key).subject == key_id


def test_threads_of_a_hanging_store(store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most four threads wait for the store, and look-ups that nobody waits for are dropped."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=300)
    verifier.poll()
    before = threading.active_count()
    with paused_look_ups(store) as held:
        calls = [Call(verifier.verify, KeyFormat().new().reveal().encode()) for _ in range(30)]
        reached = eventually(lambda: held.number, 4)
        errors = {type(call.ended()) for call in calls}
        threads = threading.active_count() - before
    settled = eventually(verifier._single_flight._queue.qsize, 0)

    assert reached == 4
    assert errors == {KeyStoreUnavailable}
    assert held.number == 4
    assert settled == 0
    # Four threads look up, one polls and one writes.
    assert threads == 6


def test_threads(service: KeyService, verifiers: Make) -> None:
    """The first look-up starts the threads, and `close` ends them."""

    def running() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("awx-key")}

    verifier = verifiers()
    made = running()
    verifier.verify(_key(service)[1])
    working = running()
    verifier.close()
    verifier.close()

    assert made == set()
    assert working == {"awx-key-changes", "awx-key-uses", "awx-key-look-up"}
    assert eventually(lambda: len(running()), 0) == 0


def test_collected_verifier(
    store: KeyStore, service: KeyService, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads do not keep a verifier alive that was not closed."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.verifier.WRITE_USES_S", 0.01)
    verifier = KeyVerifier(store, clock=clock)
    verifier.verify(_key(service)[1])
    gone = weakref.ref(verifier)
    del verifier

    assert eventually(lambda: (gc.collect(), gone())[1], None) is None


def test_closed_verifier(service: KeyService, verifier: KeyVerifier) -> None:
    """A closed verifier accepts no key, not even a cached one, because it learns of no revocations."""
    _, key = _key(service)
    verifier.verify(key)
    verifier.close()

    with pytest.raises(KeyStoreUnavailable, match="closed"):
        verifier.verify(key)


def test_other_pepper(service: KeyService, verifiers: Make) -> None:
    """A verifier with another pepper accepts no key."""
    _, key = _key(service)

    assert _code(verifiers(keys=KeyFormat(pepper=bytes(16))).verify, key) == "invalid_api_key"


def test_other_format(store: KeyStore, service: KeyService, verifiers: Make) -> None:
    """A service and a verifier with the same format agree."""
    form = KeyFormat("awx_test_", pepper=bytes(16))
    created = KeyService(store, keys=form).create("acme", "n")

    assert verifiers(keys=form).verify(created.secret.reveal().encode()).subject == created.key.id


def test_failing_listener(service: KeyService, store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a listener of the store is logged, and the change succeeds."""

    class Listener:
        def fail(self, account_id: str) -> None:
            raise ArithmeticError

    listener = Listener()
    store.subscribe(listener.fail)
    service.accounts.set_plan("acme", "growth")

    assert service.accounts.get("acme").plan == "growth"
    assert "a listener of the key store failed" in caplog.text
