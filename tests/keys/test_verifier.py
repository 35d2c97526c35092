"""Whose key it is, from memory and from the store, on each database."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from tests.keys.store_probes import Call, held_look_ups, statements
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
    """The same store as another process has it: it tells this one nothing."""
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
    """The code of a refusal; `ok` where there is none."""
    try:
        verify(*args)
    except KeyRefused as error:
        return error.code
    return "ok"


def test_a_key_names_its_caller(service: KeyService, verifier: KeyVerifier) -> None:
    """The caller is the key's family under its account's plan and numbers, from the store and from memory alike."""
    service.accounts.set_overrides("acme", {"per_minute": 90})
    key_id, key = _key(service)
    expected = Caller(key_id, "starter", "acme", {"per_minute": 90})

    assert verifier.verify_cached(key) is None
    assert verifier.verify(key) == expected
    assert verifier.verify_cached(key) == expected
    assert verifier.verify(b" \t" + key + b"\t ") == expected


def test_a_successor_uses_the_budget_of_its_predecessor(service: KeyService, verifier: KeyVerifier) -> None:
    """Both keys of an overlap have one subject, so that rotating doubles nothing."""
    key_id, old = _key(service)
    new = service.rotate("acme", key_id).secret.reveal().encode()

    assert [verifier.verify(key).subject for key in (old, new)] == [key_id, key_id]


def test_the_second_time_is_from_memory(service: KeyService, store: KeyStore, verifier: KeyVerifier) -> None:
    """A key is looked up once, and a key that is none is as well."""
    _, key = _key(service)
    verifier.verify(key)
    _code(verifier.verify, KEY)
    with statements(store) as sent:
        codes = [_code(verifier.verify, one) for one in (key, KEY, key, KEY)]

    assert codes == ["ok", "invalid_api_key"] * 2
    assert sent == []


@pytest.mark.parametrize("known", [True, False])
def test_nothing_is_believed_too_long(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock, known: bool
) -> None:
    """What is known is believed for 30 s, and what is unknown for 5 s: then it is looked up again."""
    _, key = _key(service) if known else ("", KEY)
    verifier.poll()
    sent_after = {}
    for ms in (0, 4_999, 1, 24_999, 1) if not known else (0, 29_999, 1):
        clock.advance(ms)
        with statements(store) as sent:
            _code(verifier.verify, key)
        sent_after[clock.now_ms()] = len(sent)

    assert list(sent_after.values()) == ([1, 0, 1] if known else [1, 0, 1, 1, 0])


def test_a_clock_that_goes_back_makes_nothing_younger(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock
) -> None:
    """What was looked up later than now is looked up again: its age is not known."""
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
def test_what_is_no_key_is_not_looked_up(store: KeyStore, verifier: KeyVerifier, sent: bytes) -> None:
    """Whatever is malformed is the one refusal, without a statement, and is not in the error."""
    with statements(store) as asked, pytest.raises(KeyRefused) as caught:
        verifier.verify(sent)

    assert caught.value.code == "invalid_api_key"
    assert caught.value.args == ("invalid_api_key",)
    assert asked == []


def test_what_is_too_long_is_not_even_digested(verifiers: Make) -> None:
    """A header of a megabyte costs nothing: what no key can be is refused before it is digested."""
    form, digested = KeyFormat(), []
    form.digest = lambda key: digested.append(key) or bytes(32)  # type: ignore[func-returns-value]
    verifier = verifiers(keys=form)
    codes = [_code(verifier.verify, b"a" * length) for length in (128, 129, 1_000_000)]

    assert codes == ["invalid_api_key"] * 3
    assert [len(key) for key in digested] == [128]


def test_every_wrong_key_costs_the_same(
    service: KeyService, store: KeyStore, verifier: KeyVerifier, clock: ManualClock
) -> None:
    """Unknown, revoked, expired, rotated out, suspended: one statement each, and a code for the right digest alone."""
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


def test_every_hit_is_checked_against_the_clock(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A key that is in memory expires at its millisecond."""
    _, key = _key(service, expires_in_days=1)
    clock.advance(DAY_MS - 1)
    before = _code(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert _code(verifier.verify_cached, key) == "api_key_expired"


def test_a_grace_ends_at_its_millisecond(service: KeyService, verifier: KeyVerifier, clock: ManualClock) -> None:
    """A rotated key is accepted to the end of its grace and not longer, though it is in memory."""
    key_id, key = _key(service)
    service.rotate("acme", key_id, grace_period_seconds=10)
    clock.advance(9_999)
    before = _code(verifier.verify, key)
    clock.advance(1)

    assert before == "ok"
    assert _code(verifier.verify_cached, key) == "api_key_expired"


def test_in_this_process_a_revoked_key_ends_at_once(service: KeyService, verifier: KeyVerifier) -> None:
    """When the call that revokes a key has returned, the key is refused: no poll and no time is needed."""
    key_id, key = _key(service)
    verifier.verify(key)
    service.revoke("acme", key_id)

    assert verifier.verify_cached(key) is None
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_in_this_process_an_accounts_change_acts_at_once(service: KeyService, verifier: KeyVerifier) -> None:
    """Plan, numbers and status of an account act with the next request of each of its keys."""
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


def test_what_others_change_acts_with_the_next_poll(
    service: KeyService, others: KeyService, verifier: KeyVerifier
) -> None:
    """A key that another process has revoked is believed until the next poll, and not after it."""
    key_id, key = _key(service)
    verifier.verify(key)
    others.revoke("acme", key_id)
    before = _code(verifier.verify, key)
    verifier.poll()

    assert before == "ok"
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_a_poll_forgets_whom_it_concerns(
    service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier
) -> None:
    """Keys of other accounts stay in memory, and a poll without news forgets nothing; it is one statement."""
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
def test_when_its_place_is_gone_a_poll_forgets_all(
    service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier, end: str
) -> None:
    """Where the last change that was seen is not there any more (a copy was put back), nothing is believed."""
    _, key = _key(service)
    others.accounts.set_plan("acme", "growth")
    others.accounts.set_plan("acme", "starter")
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text(end))
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_a_poll_that_has_lost_its_place_believes_nothing(
    service: KeyService, store: KeyStore, others: KeyService, verifier: KeyVerifier
) -> None:
    """Where other changes are in the place of the last one seen, other accounts' keys are forgotten too."""
    _, key = _key(service)
    verifier.verify(key)
    others.accounts.set_plan("acme", "growth")
    with store._engines.writing.begin() as connection:
        connection.execute(text("DELETE FROM awx_key_changes"))
        connection.execute(text("INSERT INTO awx_key_changes (number, account_id, at_ms) VALUES (9, 'x', 1)"))
    verifier._position = 5
    verifier.poll()

    assert verifier.verify(key).plan == "growth"


def test_more_news_than_are_read_at_once_forget_all(
    service: KeyService, others: KeyService, verifier: KeyVerifier, store: KeyStore
) -> None:
    """Whoever is a thousand changes behind forgets everything and goes on from the newest."""
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


def test_old_changes_are_not_kept(service: KeyService, store: KeyStore, clock: ManualClock) -> None:
    """A change is kept for an hour: the table does not grow for ever, and its numbers are not given again."""
    service.accounts.set_plan("acme", "growth")
    clock.advance(3_600_001)
    service.accounts.set_plan("acme", "starter")
    with store._engines.reading.connect() as connection:
        numbers = list(connection.execute(text("SELECT number FROM awx_key_changes")).scalars())

    assert numbers == [2]


def test_a_key_that_is_asked_for_by_many_is_looked_up_once(
    service: KeyService, store: KeyStore, verifier: KeyVerifier
) -> None:
    """Requests that come with one key at the same time wait for one look-up."""
    key_id, key = _key(service)
    verifier.poll()
    with held_look_ups(store) as held:
        calls = [Call(verifier.verify, key) for _ in range(20)]
        held.reached.wait(10)
        held.let_go.set()
        answers = {call.ended().subject for call in calls}

    assert answers == {key_id}
    assert held.number == 1


def test_different_keys_do_not_wait_for_one_another(
    service: KeyService, store: KeyStore, verifier: KeyVerifier
) -> None:
    """While one key's look-up hangs, another key is looked up."""
    _, first = _key(service)
    second_id, second = _key(service)
    verifier.poll()
    with held_look_ups(store) as held:
        hanging = Call(verifier.verify, first)
        held.reached.wait(10)
        other = Call(verifier.verify, second)
        both = eventually(lambda: held.number, 2)
        held.let_go.set()

    assert both == 2
    assert other.ended().subject == second_id
    assert hanging.ended().account == "acme"


@pytest.mark.parametrize("by", ["this process", "another process"])
def test_a_look_up_that_was_overtaken_is_not_remembered(
    service: KeyService, others: KeyService, store: KeyStore, verifier: KeyVerifier, by: str
) -> None:
    """A key that is revoked while its look-up is under way does not come back into memory with what was read before."""
    key_id, key = _key(service)
    verifier.poll()
    with held_look_ups(store) as held:
        early = Call(verifier.verify, key)
        held.reached.wait(10)
        if by == "this process":
            service.revoke("acme", key_id)
        else:
            others.revoke("acme", key_id)
            verifier.poll()
        held.let_go.set()
        # It began before the key was revoked, and may be told either.
        early.ended()

    assert verifier.verify_cached(key) is None
    assert _code(verifier.verify, key) == "api_key_revoked"


def test_whoever_comes_after_a_revocation_does_not_join_a_look_up_from_before(
    service: KeyService, store: KeyStore, verifier: KeyVerifier
) -> None:
    """A request that begins when the key has been revoked is not answered by a look-up that began before."""
    key_id, key = _key(service)
    verifier.poll()
    with held_look_ups(store) as held:
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


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago(
    service: KeyService, store: KeyStore, verifiers: Make
) -> None:
    """Of more keys than it may remember, those used last are remembered; unknown keys have a memory of their own."""
    verifier = verifiers(max_keys=2)
    keys = [_key(service)[1] for _ in range(3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        verifier.verify(key)
    for _ in range(5):
        _code(verifier.verify, KeyFormat().new().reveal().encode())

    assert [verifier.verify_cached(key) is not None for key in keys] == [True, False, True]
    assert {name: verifier.health()[name] for name in ("known", "unknown")} == {"known": 2, "unknown": 2}


class Failures:
    """A limit of two wrong keys for each address."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, address: str, failed: bool) -> int:
        self.asked.append((address, failed))
        return 7_000 if self.asked.count((address, True)) > 2 else 0


def test_an_address_with_many_failures_is_not_looked_up(service: KeyService, store: KeyStore, verifiers: Make) -> None:
    """After too many wrong keys, malformed or unknown, an address has to wait; no look-up is done for it."""
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


def test_who_waits_is_the_address_and_not_who_is_known(service: KeyService, verifiers: Make) -> None:
    """Other addresses are looked up, and a key that is in memory is accepted from everywhere."""
    verifier = verifiers(failures=Failures())
    (_, known), (_, unseen) = _key(service), _key(service)
    verifier.verify(known, "b")
    for _ in range(2):
        _code(verifier.verify, KEY, "a")
    with pytest.raises(TooManyWrongKeys):
        verifier.verify(KEY, "a")

    assert [_code(verifier.verify, key, who) for key, who in ((known, "a"), (unseen, "b"), (unseen, "a"))] == ["ok"] * 3


def test_right_keys_that_are_refused_are_no_guesses(service: KeyService, verifiers: Make, clock: ManualClock) -> None:
    """Whoever has an expired or revoked key has not guessed: it is no failure of its address."""
    failures = Failures()
    verifier = verifiers(failures=failures)
    (revoked_id, revoked), (_, expired) = _key(service), _key(service, expires_in_days=1)
    service.revoke("acme", revoked_id)
    clock.advance(DAY_MS)
    codes = {_code(verifier.verify, key, "a") for key in (revoked, expired) for _ in range(5)}

    assert codes == {"api_key_revoked", "api_key_expired"}
    assert [failed for _, failed in failures.asked if failed] == []


def test_what_the_limit_raises_reaches_the_caller(verifiers: Make) -> None:
    """A limit that cannot decide lets nobody in: its error goes through."""

    def broken(address: str, failed: bool) -> int:
        raise ArithmeticError(address)

    with pytest.raises(ArithmeticError):
        verifiers(failures=broken).verify(KEY, "a")


def test_a_look_up_that_hangs_is_waited_for_within_the_budget(
    service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who share a look-up that hangs give up in time; after that nobody waits, and what is in memory is used."""
    verifier = verifiers(budget_ms=30_000)
    (_, known), (_, hanging), (_, other) = _key(service), _key(service), _key(service)
    verifier.verify(known)
    # Only the look-up that hangs has little time: the first one may be late on a busy machine.
    monkeypatch.setattr(verifier._single_flight, "_budget_s", 0.2)
    with held_look_ups(store) as held:
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


def test_after_a_rest_the_store_is_asked_again(
    service: KeyService, store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hung and answers again is used again, for the very key that hung as well."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=500)
    key_id, key = _key(service)
    with held_look_ups(store), pytest.raises(KeyStoreUnavailable):
        verifier.verify(key)

    assert verifier.verify(key).subject == key_id


def test_a_hanging_store_holds_a_few_threads(store: KeyStore, verifiers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys wait, four threads ask; what nobody waits for any more is not asked."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.single_flight._COOLDOWN_S", 0.0)
    verifier = verifiers(budget_ms=300)
    verifier.poll()
    before = threading.active_count()
    with held_look_ups(store) as held:
        calls = [Call(verifier.verify, KeyFormat().new().reveal().encode()) for _ in range(30)]
        reached = eventually(lambda: held.number, 4)
        errors = {type(call.ended()) for call in calls}
        threads = threading.active_count() - before
    settled = eventually(verifier._single_flight._queue.qsize, 0)

    assert reached == 4
    assert errors == {KeyStoreUnavailable}
    assert held.number == 4
    assert settled == 0
    # Four that ask, one that polls and one that writes.
    assert threads == 6


def test_threads_begin_with_the_first_look_up_and_end_with_the_verifier(service: KeyService, verifiers: Make) -> None:
    """KeyIssuer a verifier starts nothing; closing it ends what it started."""

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


def test_a_verifier_that_nobody_has_any_more_ends(
    store: KeyStore, service: KeyService, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads do not keep a verifier alive that was not closed."""
    monkeypatch.setattr("awx_ratelimit.keys.verification.verifier.WRITE_USES_S", 0.01)
    verifier = KeyVerifier(store, clock=clock)
    verifier.verify(_key(service)[1])
    gone = weakref.ref(verifier)
    del verifier

    assert eventually(lambda: (gc.collect(), gone())[1], None) is None


def test_a_closed_verifier_lets_nobody_in(service: KeyService, verifier: KeyVerifier) -> None:
    """What would not hear of revocations any more is not asked: not even what was in memory is accepted."""
    _, key = _key(service)
    verifier.verify(key)
    verifier.close()

    with pytest.raises(KeyStoreUnavailable, match="closed"):
        verifier.verify(key)


def test_verifiers_with_another_pepper_know_no_key(service: KeyService, verifiers: Make) -> None:
    """Keys are known under the pepper they were made with."""
    _, key = _key(service)

    assert _code(verifiers(keys=KeyFormat(pepper=bytes(16))).verify, key) == "invalid_api_key"


def test_keys_of_another_prefix_and_pepper_are_verified(store: KeyStore, service: KeyService, verifiers: Make) -> None:
    """A service and a verifier of one format agree."""
    form = KeyFormat("awx_test_", pepper=bytes(16))
    created = KeyService(store, keys=form).create("acme", "n")

    assert verifiers(keys=form).verify(created.secret.reveal().encode()).subject == created.key.id


def test_a_listener_that_fails_fails_no_act(
    service: KeyService, store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener of the store raises is logged, and the act is done."""

    class Listener:
        def fail(self, account_id: str) -> None:
            raise ArithmeticError

    listener = Listener()
    store.subscribe(listener.fail)
    service.accounts.set_plan("acme", "growth")

    assert service.accounts.get("acme").plan == "growth"
    assert "a listener of the key store failed" in caplog.text
