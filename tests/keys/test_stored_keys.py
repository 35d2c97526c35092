"""Both gates over a key store: which requests are admitted, under which limits, and what an invalid key costs."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.keys.store_probes import paused_look_ups, statements

from awx_ratelimit import (
    AsyncGate,
    AsyncLimiter,
    Gate,
    KeyRefused,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Request,
    StoredKeys,
)
from awx_ratelimit.errors import KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http.policy import Admission
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier
from awx_ratelimit.testing import ManualClock

Verifiers = Callable[..., KeyVerifier]
Admit = Callable[[Request], Admission]
#: Without slots, which a test would have to release.
PLANS = PlanTable([Plan.of("starter", per_minute=60)])
UNKNOWN_KEY = b'{"code":"invalid_api_key","type":"authentication_error","message":"API key is invalid."}'


def request(*keys: str, bearer: str | list[str] = "", client: str = "192.0.2.1") -> Request:
    """A request with these X-API-Key and Authorization lines."""
    credentials = bearer if isinstance(bearer, list) else [bearer] * bool(bearer)
    sent = {
        b"x-api-key": [key.encode() for key in keys],
        b"authorization": [credential.encode() for credential in credentials],
    }
    return Request("GET", "/", client, lambda name: sent.get(name, []))


@pytest.fixture(params=["Gate", "AsyncGate"])
def gate_of(request: pytest.FixtureRequest) -> Iterator[Callable[..., Admit]]:
    """A function that creates gates of either kind, and returns their `admit`."""
    with asyncio.Runner() as runner:

        def make(identify: Any, **options: Any) -> Admit:
            options = {"plans": PLANS, "backend": MemoryBackend(), **options}
            backend = options.pop("backend")
            if request.param == "Gate":
                return Gate(Limiter(backend), identify=identify, **options).admit
            gate = AsyncGate(AsyncLimiter(backend), identify=identify, **options)
            return lambda sent: runner.run(gate.admit(sent))

        yield make


@pytest.fixture
def admit(gate_of: Callable[..., Admit], verifier: KeyVerifier) -> Admit:
    """A gate over the store."""
    return gate_of(StoredKeys(verifier))


@pytest.fixture
def key(service: KeyService) -> str:
    """A key of the account acme."""
    return service.create("acme", "n").secret.reveal()


def _answer(admission: Admission) -> tuple[int, bytes]:
    return (200, b"") if admission.reply is None else (admission.reply.status, admission.reply.body)


def _code(admission: Admission) -> str:
    return "" if admission.reply is None else admission.reply.body.split(b'"')[3].decode()


def test_caller_of_a_key(admit: Admit, service: KeyService, key: str) -> None:
    """The subject is the key's family and never the key; the plan is the account's."""
    admission = admit(request(f" {key}\t"))

    assert admission.decision is not None
    family = service.list("acme").items[0].family_id
    assert admission.decision.subject == family
    assert admission.decision.plan.name == "starter"


def test_overrides(gate_of: Callable[..., Admit], verifier: KeyVerifier, service: KeyService, key: str) -> None:
    """The account's overrides are applied by the plan table."""
    service.accounts.set_overrides("acme", {"per_minute": 7})
    admission = gate_of(StoredKeys(verifier))(request(key))

    assert admission.decision is not None
    assert admission.decision.usages[0].capacity == 7


def test_changed_plan_carries_over_usage(
    gate_of: Callable[..., Admit], verifier: KeyVerifier, service: KeyService, key: str, clock: ManualClock
) -> None:
    """With 50 of 60 used an upgrade to 300 leaves 250 at once; overrides of the account do the same."""
    plans = PlanTable([Plan.of("starter", per_minute=60), Plan.of("growth", per_minute=300)])
    admit = gate_of(StoredKeys(verifier), plans=plans, backend=MemoryBackend(clock=clock))

    def left() -> int:
        admission = admit(request(key))
        assert admission.decision is not None
        return admission.decision.usages[0].remaining

    starter = [left() for _ in range(50)][-1]
    service.accounts.set_plan("acme", "growth")
    growth = left()
    service.accounts.set_overrides("acme", {"per_minute": 1_000})

    assert starter == 10
    assert growth == 249
    assert left() == 948


def test_rotation_shares_limits(admit: Admit, service: KeyService, key: str) -> None:
    """A key and its successor are admitted 60 times together, not 60 times each."""
    old = service.list("acme").items[0]
    new = service.rotate("acme", old.id).secret.reveal()
    let_in = [admit(request(sent)).reply is None for _ in range(31) for sent in (key, new)]

    assert sum(let_in) == 60
    assert let_in[-2:] == [False, False]


def test_revoked_key(admit: Admit, service: KeyService, key: str) -> None:
    """The process that revokes a key admits no further request with it."""
    before = admit(request(key))
    service.revoke("acme", service.list("acme").items[0].id)

    assert before.reply is None
    assert _code(admit(request(key))) == "api_key_revoked"


def test_missing_key(admit: Admit) -> None:
    """A request without a key gets a 401 with a separate code."""
    assert _code(admit(request())) == "api_key_missing"


@pytest.mark.parametrize("wrong", ["unknown", "changed", "short", "twice", "comma", "empty", "long", "other prefix"])
def test_invalid_keys(admit: Admit, store: KeyStore, key: str, wrong: str) -> None:
    """Unknown, malformed and duplicate keys get identical responses; only the unknown key is looked up."""
    other = KeyFormat("awx_test_").new().reveal()
    unknown = KeyFormat().new().reveal()
    lines = {
        "unknown": [unknown], "changed": [key.swapcase()], "short": [key[:-1]], "twice": [key, key],
        "comma": [f"{key},{key}"], "empty": [""], "long": ["a" * 129], "other prefix": [other],
    }  # fmt: skip
    admit(request(key))
    with statements(store) as sent:
        answer = _answer(admit(request(*lines[wrong])))

    assert answer == (401, UNKNOWN_KEY)
    assert len(sent) == int(wrong == "unknown")


def test_statements_of_invalid_keys(
    admit: Admit, service: KeyService, clock: ManualClock, store: KeyStore, key: str
) -> None:
    """Every kind of refused key needs the same statement, so timing reveals nothing."""
    service.accounts.create("suspended", plan="starter")
    made = {name: service.create(account, "n", expires_in_days=days) for name, account, days in (
        ("revoked", "acme", None), ("expired", "acme", 1), ("suspended", "suspended", None))}  # fmt: skip
    service.revoke("acme", made["revoked"].key.id)
    service.accounts.suspend("suspended")
    clock.advance(86_400_000)
    admit(request(key))
    sent = {}
    for name in ("unknown", *made):
        with statements(store) as seen:
            admit(request(made[name].secret.reveal() if name in made else KeyFormat().new().reveal()))
        sent[name] = seen

    assert sent == dict.fromkeys(sent, sent["unknown"])
    assert len(sent["unknown"]) == 1


def test_burst_of_guesses(store: KeyStore, verifiers: Verifiers) -> None:
    """Of 100 concurrent unknown keys 20 get a 401, and the others are refused."""
    identify = StoredKeys(verifiers(budget_ms=30_000))
    gate = AsyncGate(AsyncLimiter(MemoryBackend(clock=ManualClock())), plans=PLANS, identify=identify)

    async def burst() -> Counter[int]:
        guesses = [gate.admit(request(KeyFormat().new().reveal())) for _ in range(100)]
        return Counter(_answer(admission)[0] for admission in await asyncio.gather(*guesses))

    assert asyncio.run(burst()) == {401: 20, 429: 80}


def test_guessing_address(gate_of: Callable[..., Admit], verifiers: Verifiers, store: KeyStore, key: str) -> None:
    """After 20 unknown keys in a minute an address gets 429s without a look-up; other addresses are not affected."""
    clock = ManualClock()
    admit = gate_of(StoredKeys(verifiers()), backend=MemoryBackend(clock=clock))
    guesses = [_answer(admit(request(KeyFormat().new().reveal())))[0] for _ in range(21)]
    with statements(store) as sent:
        refused = [_answer(admit(request(KeyFormat().new().reveal())))[0] for _ in range(5)]
    other = _answer(admit(request(key, client="198.51.100.1")))[0]
    clock.advance(3_000)
    later = _answer(admit(request(key)))[0]

    assert guesses == [401] * 20 + [429]
    assert refused == [429] * 5
    assert sent == []
    assert other == 200
    assert later == 200


def test_cached_key_from_a_guessing_address(
    gate_of: Callable[..., Admit], verifiers: Verifiers, store: KeyStore, service: KeyService, key: str
) -> None:
    """Cached keys are still accepted or refused as such; other keys get a 429 without a look-up."""
    other, revoked = (service.create("acme", "n") for _ in range(2))
    service.revoke("acme", revoked.key.id)
    unknown = KeyFormat().new().reveal()
    admit = gate_of(StoredKeys(verifiers()), backend=MemoryBackend(clock=ManualClock()))
    for sent in (key, revoked.secret.reveal(), unknown):
        admit(request(sent))
    for _ in range(21):
        admit(request(KeyFormat().new().reveal()))
    keys = (key, revoked.secret.reveal(), other.secret.reveal(), unknown, key[:-1], "", key)
    with statements(store) as seen:
        codes = [_code(admit(request(sent))) for sent in keys]

    assert codes == ["", "api_key_revoked", *["rate_limit_exceeded"] * 4, ""]
    assert seen == []


def test_expired_cache_entry_from_a_guessing_address(
    gate_of: Callable[..., Admit], verifiers: Verifiers, service: KeyService, clock: ManualClock, key: str
) -> None:
    """After 30 s or a change a cached key is looked up again, even from an address that guesses."""
    revoked = service.create("acme", "n")
    admit = gate_of(StoredKeys(verifiers()), backend=MemoryBackend(clock=ManualClock()))
    for sent in (key, revoked.secret.reveal()):
        admit(request(sent))
    for _ in range(21):
        admit(request(KeyFormat().new().reveal()))
    clock.advance(31_000)

    assert _code(admit(request(key))) == ""
    service.revoke("acme", revoked.key.id)
    assert _code(admit(request(key))) == ""
    assert _code(admit(request(revoked.secret.reveal()))) == "api_key_revoked"
    assert _code(admit(request(KeyFormat().new().reveal()))) == "rate_limit_exceeded"


def test_expired_key_is_no_guess(admit: Admit, service: KeyService, clock: ManualClock, key: str) -> None:
    """A client that keeps sending an expired key does not lock out others at its address."""
    expired = service.create("acme", "n", expires_in_days=1).secret.reveal()
    clock.advance(86_400_000)
    codes = {_code(admit(request(expired))) for _ in range(30)}

    assert codes == {"api_key_expired"}
    assert admit(request(key)).reply is None


def test_failures_of_the_verifier(gate_of: Callable[..., Admit]) -> None:
    """A limit in the verifier's `failures` gets the same 429 as the gate's, with its own wait."""

    def identify(_: Request) -> None:
        raise TooManyWrongKeys(2_500)

    reply = gate_of(identify)(request("a")).reply

    assert reply is not None
    assert reply.status == 429
    assert (
        reply.body == b'{"code":"rate_limit_exceeded","type":"rate_limit_error",'
        b'"message":"Rate limit exceeded. Retry after 3 seconds."}'
    )


def test_store_outage(gate_of: Callable[..., Admit], caplog: Any) -> None:
    """While the store does not respond, the gate answers 503 with a retry time, and logs an error."""

    def identify(_: Request) -> None:
        raise KeyStoreUnavailable("it burns")

    reply = gate_of(identify, anonymous=Plan.of("anybody", per_minute=1))(request("a")).reply

    assert reply is not None
    assert reply.status == 503
    assert dict(reply.headers)[b"retry-after"] == b"1"
    assert (
        reply.body == b'{"code":"key_store_unavailable","type":"internal_error",'
        b'"message":"Key store is unavailable. Retry after 1 second."}'
    )
    assert "it burns" in caplog.text


def test_cached_key_needs_no_await(service: KeyService, verifier: KeyVerifier, key: str) -> None:
    """On an event loop a cached key is a Caller at once; only a look-up is awaited."""
    identify = StoredKeys(verifier)
    first = identify.call_async(request(key))
    assert inspect.iscoroutine(first)
    looked_up = asyncio.run(first)

    assert identify.call_async(request(key)) is looked_up


def test_look_up_does_not_block_the_loop(store: KeyStore, verifiers: Verifiers, key: str) -> None:
    """While a look-up hangs the loop runs, and cached keys are accepted."""
    identify = StoredKeys(verifiers(), threads=1)
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=identify)

    async def meanwhile() -> list[Any]:
        await gate.admit(request(key))
        with paused_look_ups(store) as held:
            waiting = [asyncio.create_task(gate.admit(request(KeyFormat().new().reveal()))) for _ in range(3)]
            await asyncio.to_thread(held.reached.wait, 10)
            let_in = await gate.admit(request(key))
            asked = held.number
            held.let_go.set()
            return [let_in.reply, asked, [_answer(admission)[0] for admission in await asyncio.gather(*waiting)]]

    # One at a time: the others wait for the only thread.
    assert asyncio.run(meanwhile()) == [None, 1, [401, 401, 401]]


def test_cancelled_look_up(store: KeyStore, verifiers: Verifiers, key: str) -> None:
    """A cancelled request frees its thread for the next request."""
    gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=StoredKeys(verifiers(), threads=1))

    async def leave() -> Any:
        with paused_look_ups(store) as held:
            task = asyncio.create_task(gate.admit(request(key)))
            await asyncio.to_thread(held.reached.wait, 10)
            task.cancel()
            held.let_go.set()
            with suppress(asyncio.CancelledError):
                await task
        return await gate.admit(request(key))

    assert asyncio.run(leave()).reply is None


class TestBearer:
    """Keys in the Authorization header, with `bearer=True`."""

    @pytest.fixture
    def admit(self, gate_of: Callable[..., Admit], verifier: KeyVerifier) -> Admit:
        return gate_of(StoredKeys(verifier, bearer=True))

    def test_default(self, gate_of: Callable[..., Admit], verifier: KeyVerifier, key: str) -> None:
        """Without `bearer` the header is ignored."""
        assert _code(gate_of(StoredKeys(verifier))(request(bearer=f"Bearer {key}"))) == "api_key_missing"

    @pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER \t "])
    def test_scheme(self, admit: Admit, key: str, scheme: str) -> None:
        """The case of the scheme does not matter (RFC 9110)."""
        assert admit(request(bearer=f"{scheme}{key} ")).reply is None

    @pytest.mark.parametrize("other", ["Bearer eyJhbGciOi.a.b", "Basic YTpi", "Digest a=b, c=d", "Bearer", "awx_"])
    def test_other_credentials(self, admit: Admit, key: str, other: str) -> None:
        """A JWT or another scheme does not count as an invalid key, and hides no key in X-API-Key."""
        assert _code(admit(request(bearer=other))) == "api_key_missing"
        assert admit(request(key, bearer=other)).reply is None

    def test_two_keys(self, admit: Admit, key: str) -> None:
        """Keys in both headers are refused, whether or not the server has joined the lines."""
        line = f"Bearer {key}"
        twice = [
            request(key, bearer=line), request("", bearer=line), request(bearer=[line, line]),
            request(bearer=f"{line},{line}"), request(bearer=f"Basic YTpi, {line}"),
            request(bearer=["Basic YTpi", line]), request(bearer=f"{line},"), request(bearer=f"{line} {line}"),
            request(bearer=line + "a" * 100), request(bearer=f"Bearer {KeyFormat().new().reveal()}"),
        ]  # fmt: skip

        assert {_answer(admit(sent)) for sent in twice} == {(401, UNKNOWN_KEY)}

    def test_guesses(self, admit: Admit, key: str) -> None:
        """The limit on unknown keys covers both headers, and does not affect requests without a key."""
        for _ in range(21):
            admit(request(bearer=f"Bearer {KeyFormat().new().reveal()}"))
        places = [request(bearer=f"Bearer {key}"), request(key), request(bearer="Bearer eyJhbGciOi.a.b")]

        assert [_answer(admit(sent))[0] for sent in places] == [429, 429, 401]

    def test_prefix(
        self, gate_of: Callable[..., Admit], store: KeyStore, verifiers: Verifiers, clock: ManualClock
    ) -> None:
        """The header is searched for keys with the verifier's prefix."""
        form = KeyFormat("acme_live_")
        service = KeyService(store, clock=clock, keys=form)
        service.accounts.create("acme", plan="starter")
        key = service.create("acme", "n").secret.reveal()
        admit = gate_of(StoredKeys(verifiers(keys=form), bearer=True))

        assert admit(request(bearer=f"Bearer {key}")).reply is None


def test_unknown_keys_count_as_guesses() -> None:
    """Only a key that does not exist counts as a guess."""
    codes = ("invalid_api_key", "api_key_expired", "api_key_revoked")

    assert [KeyRefused(code).unknown for code in codes] == [True, False, False]


def test_explanation_is_no_use(service: KeyService, verifier: KeyVerifier) -> None:
    """Either gate explains the request of a stored key, and the key was not used."""
    created = service.create("acme", "explained")
    identify, sent = StoredKeys(verifier), request(created.secret.reveal())
    gate = Gate(Limiter(MemoryBackend()), plans=PLANS, identify=identify)
    async_gate = AsyncGate(AsyncLimiter(MemoryBackend()), plans=PLANS, identify=identify)

    for explained in (gate.explain(sent), asyncio.run(async_gate.explain(sent))):
        assert explained.caller is not None
        assert explained.caller.subject == created.key.family_id
    assert verifier.health()["unwritten_uses"] == 0
