"""A gate decides the same by its short way, `begin`, and by the specification of it, `admit`."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import rarely, with_examples

from awx_ratelimit import (
    AsyncGate,
    AsyncGuardedBackend,
    AsyncLimiter,
    BackendUnavailable,
    Caller,
    Decision,
    Gate,
    GuardedBackend,
    Limiter,
    MemoryBackend,
    Plan,
    PlanTable,
    Reply,
    Rule,
    StaticKeys,
    StoredKeys,
)
from awx_ratelimit.adapters import starlette, werkzeug
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.keys import KeyService, KeyStore, KeyVerifier
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.testing import ManualClock

SMALL = Plan.of("small", per_minute=3, per_day=7, concurrent=2)
LARGE = Plan.of("large", per_minute=100, per_day=1_000, concurrent=50)
OTHERS = [
    Plan.of("tried", per_minute=2, concurrent=1, shadow=True),
    Plan.of("one", per_minute=4),
    Plan.of("slots", concurrent=1),
    Plan.of("shared", per_minute=5, concurrent=3, account=Plan.of("all", per_minute=6, concurrent=2)),
    Plan.unlimited("unlimited"),
]
PLANS = [SMALL, LARGE, *OTHERS]
SERVICE = Plan.of("service", per_minute=9, concurrent=2)
RULES = [
    Rule("/health", exempt=True),
    Rule("/five", methods=["GET", "POST"], cost=5),
    Rule("/none", cost=0),
    Rule("/login", budget="login", plan=Plan.of("login", per_minute=2), per="address", charge_on={401}),
    Rule("/failed", charge_on={404}),
    Rule("/priced", cost=lambda request: len(request.values(b"x-many")) + 1),
    Rule("/some", exempt=lambda request: bool(request.values(b"x-many")), cost=2),
    Rule("/own", budget="own", plan=Plan.of("own", per_minute=2), per=lambda request: request.path),
    Rule("/all", budget="all", plan=Plan.of("all", per_minute=4, concurrent=1), per="account", cost={"requests": 2}),
    Rule("/{id}/items", cost=2),
]
START_MS = 1_748_772_000_000
UNKNOWN = b"awx_unknown_key"
PATHS = [
    "/", "/health", "/five", "/none", "/login", "/failed", "/priced", "/some", "/own", "/all", "/1/items", "//five",
    "/é", "/x/../five", "/app/priced",
]  # fmt: skip


class Step(NamedTuple):
    """One request and what its application does. `key` is the number of a key, or bytes of its place."""

    method: str
    path: str
    root: str
    keys: list[int | bytes]
    headers: list[tuple[bytes, bytes]]
    client: str
    status: int
    own: list[tuple[bytes, bytes]]
    chunks: list[bytes]
    fails_after: int
    later_ms: int
    is_websocket: bool = False


names = st.sampled_from(
    [b"authorization", b"X-API-KEY", b"x-api-key ", b"origin", b"access-control-request-method", b"x-many", b"accept"]
) | st.binary(min_size=1, max_size=3)
own_names = st.sampled_from(
    [b"RateLimit", b"ratelimit-policy", b"RateLimit-Cost", b"Content-Length", b"X-RateLimit-Reset"]
)
steps = st.builds(
    Step,
    st.sampled_from(["GET", "GET", "POST", "HEAD", "OPTIONS", "OPTIONS", "get"]),
    st.sampled_from(["/", "/five", "/none"]) | st.sampled_from(PATHS),
    st.sampled_from(["", "", "", "/app"]),
    st.sampled_from([[number] for number in (1, 1, *range(8))])
    | st.just([1])
    | st.lists(st.integers(0, 7) | st.sampled_from([UNKNOWN, b"", b"a,b", b"k" * 200]), max_size=2),
    st.just([(b"origin", b"https://any"), (b"access-control-request-method", b"GET")])
    | st.lists(
        st.tuples(names, st.sampled_from([b"", b"GET", b"application/problem+json", b"Bearer x", b"\xff"])), max_size=3
    ),
    st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    st.sampled_from([200, 401, 404]),
    st.lists(st.tuples(own_names, st.sampled_from([b"requests=1", b"requests=4"])), max_size=2),
    st.lists(st.sampled_from([b"", b"text"]), min_size=1, max_size=3),
    st.integers(-1, 9),
    st.just(0) | st.sampled_from([0, 1, 900, 30_000, -100, 86_400_000]),
    rarely,
)
gates = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["memory", "memory", "memory", "guarded", "guarded", "down"]),
        "is_stored": st.booleans(),
        "is_observed": st.booleans(),
        "is_flooded": rarely,
        "has_route_limit": rarely,
        "spaced": rarely.flatmap(lambda is_so: rarely if is_so else st.just(False)),
        "bearer": st.booleans(),
        "rules": st.just(RULES) | st.lists(st.sampled_from(RULES), unique=True),
        "headers": st.sampled_from(["draft", "draft", "legacy", "both", "none"]),
        "expose": st.booleans(),
        "preflights": st.booleans(),
        "service": rarely.map(lambda is_shared: SERVICE if is_shared else None),
        "anonymous": st.none() | st.just(SMALL),
        "on_refused": st.none() | st.just(lambda request, refusal: Reply.text(f"{request.path} {refusal.limits}")),
    }
)


class Listener(Observer):
    """Writes down all that it is told."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def __call__(self, decision: Decision) -> None:
        self._told.append(("decided", _shown(decision)))

    def released(self, decision: Decision) -> None:
        self._told.append(("released", _shown(decision)))

    def unavailable(self, plan: Plan) -> None:
        self._told.append(("unavailable", plan.name))

    def settled(self, decision: Decision, cost: Any) -> None:
        self._told.append(("settled", _shown(decision), str(cost)))

    def verified(self, outcome: str) -> None:
        self._told.append(("verified", outcome))


class Down(MemoryBackend):
    """A backend that can decide nothing."""

    def acquire(self, subject: str, plan: Plan, cost: int) -> Decision:
        raise BackendUnavailable("down")

    def acquire_joint(self, claim: Any) -> Decision:
        raise BackendUnavailable("down")


class LastUses(dict[Any, int]):
    """What a verifier remembers of the last uses of keys. `seen` is what it has noted, by the id of the key."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def __setitem__(self, key: Any, at_ms: int) -> None:
        super().__setitem__(key, at_ms)
        self.seen[key.key_id] = at_ms


class Keys:
    """Eight keys, one of them of an exempt caller, in the program and in a store."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        store = KeyStore.open("sqlite://")
        service = KeyService(store, clock=self.clock)
        service.accounts.create("acme", plan="shared")
        self.stored = []
        for plan in PLANS:
            service.accounts.create(plan.name, plan=plan.name)
            self.stored.append(service.create(plan.name, "key").secret.reveal())
        self.stored.append(service.create("acme", "key", expires_in_days=1).secret.reveal())
        self.verifiers = [KeyVerifier(store, clock=self.clock, budget_ms=10_000) for _ in range(2)]
        for verifier in self.verifiers:
            verifier._last_used.latest = LastUses()
        self.static = [f"awx_static_{number}" for number in range(8)]
        self.callers = {
            key: Caller(plan.name, plan.name, "acme") for key, plan in zip(self.static, PLANS, strict=False)
        }
        self.callers[self.static[7]] = Caller("free", "small", exempt=True)

    def close(self) -> None:
        for verifier in self.verifiers:
            verifier.close()
        self.verifiers[0].store.close()


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    """The keys of all examples."""
    made = Keys()
    yield made
    made.close()


class World:
    """A gate behind a middleware, and all that it does. `is_short`: it may take its short way."""

    def __init__(self, keys: Keys, options: dict[str, Any], *, is_async: bool, is_short: bool) -> None:
        options = dict(options)
        self.told: list[Any] = []
        self.clock = ManualClock(START_MS)
        self.key_clock, verifier = keys.clock, keys.verifiers[is_short]
        self.last_uses = verifier._last_used.latest.seen = {}  # type: ignore[attr-defined]
        self.is_spaced = options.pop("spaced")
        is_stored, kind = options.pop("is_stored"), options.pop("kind")
        self.keys = keys.stored if is_stored else keys.static
        self.backend = (Down if kind == "down" else MemoryBackend)(clock=self.clock)
        listeners = [Listener(self.told)] if options.pop("is_observed") else []
        self.is_bearer = bearer = options.pop("bearer")
        identify = StoredKeys(verifier, bearer=bearer) if is_stored else StaticKeys(keys.callers, bearer=bearer)
        options |= {"plans": PlanTable(PLANS, default="small"), "identify": identify}
        self.is_flooded, has_route_limit = options.pop("is_flooded"), options.pop("has_route_limit")
        backend: Any = self.backend
        if is_async:
            backend = AsyncGuardedBackend(backend) if kind == "guarded" else backend
            self.gate: Any = AsyncGate(AsyncLimiter(backend, listeners=listeners), **options)
            self.app: Any = starlette.RateLimitMiddleware(self._asgi_app, gate=self.gate)
        else:
            backend = GuardedBackend(backend) if kind == "guarded" else backend
            self.gate = Gate(Limiter(backend, listeners=listeners), **options)
            self.app = werkzeug.RateLimitMiddleware(self._wsgi_app, gate=self.gate)
        # The time of day must not decide how many lines are left out.
        self.gate._policy._log = SampledLog(logging.getLogger("awx_ratelimit"), interval_s=0)
        if has_route_limit:
            self.gate._policy.claims.limited_paths |= {("GET", path) for path in PATHS}
        if not is_short:
            self.gate.begin = lambda *_: None

    async def send(self, step: Step) -> None:
        """Send a request through the middleware, and note all messages of its response."""
        self._wait(step)
        kind = {"type": "websocket"} if step.is_websocket else {"type": "http", "method": step.method}
        scope = {
            **kind, "path": step.root + step.path, "root_path": step.root,
            "headers": [*step.headers, *self._sent(step)],
            "client": (step.client, 1), "query_string": b"", "step": step,
        }  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.told.append((self.backend.health()["leases"], dict(message)))

        with self._noting_errors():
            await self.app(scope, receive, send)

    def call(self, step: Step) -> None:
        """As `send`, for the WSGI middleware."""
        self._wait(step)
        sent = [(name, value) for name, value in step.headers if name.replace(b"-", b"").isalpha()]
        environ = {
            "REQUEST_METHOD": step.method, "SCRIPT_NAME": step.root, "REMOTE_ADDR": step.client, "step": step,
            "PATH_INFO": step.path.encode().decode("latin-1"),
            **{f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in sent},
        }  # fmt: skip
        for variable, header in (("HTTP_X_API_KEY", b"x-api-key"), ("HTTP_AUTHORIZATION", b"authorization")):
            values = [value for name, value in self._sent(step) if name == header]
            if values:
                environ[variable] = b",".join(values).decode("latin-1")

        def start(*started: Any) -> None:
            self.told.append((self.backend.health()["leases"], started))

        with self._noting_errors():
            body = self.app(environ, start)
            try:
                self.told += [(self.backend.health()["leases"], chunk) for chunk in body]
            finally:
                getattr(body, "close", lambda: None)()

    def _wait(self, step: Step) -> None:
        self.clock.set(self.clock.now_ms() + step.later_ms)
        self.key_clock.set(self.clock.now_ms())

    def _sent(self, step: Step) -> list[tuple[bytes, bytes]]:
        """The headers with the keys. Where bearer keys are taken, every second key is one."""
        values = [key if isinstance(key, bytes) else self.keys[key].encode() for key in step.keys]
        sent = []
        for number, value in enumerate(values):
            is_bearer = self.is_bearer and (number + len(step.path)) % 2
            name, text = (b"authorization", b"Bearer " + value) if is_bearer else (b"x-api-key", value)
            sent.append((name, b" %b\t" % text if self.is_spaced else text))
        return sent

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.told.append(repr(error))
        self.told.append((self.backend.health(), dict(self.last_uses)))

    async def _asgi_app(self, scope: Any, _: Any, send: Any) -> None:
        step, exchanges = scope["step"], scope["awx_ratelimit.exchanges"]
        self.told.append((_shown(scope["state"]["rate_limit"]), exchanges[-1].caller))
        start = {"type": "http.response.start", "status": step.status, "headers": [*step.own]}
        bodies = [{"type": "http.response.body", "body": chunk, "more_body": True} for chunk in step.chunks]
        bodies[-1].pop("more_body")
        if step.is_websocket:
            start = {"type": "websocket.accept", "headers": [*step.own]}
            bodies = [{"type": "websocket.send", "bytes": chunk} for chunk in step.chunks]
            bodies[-1] = {"type": "websocket.close", "code": 1000}
        for number, message in enumerate([start, *bodies]):
            if number == step.fails_after:
                raise LookupError
            before = repr(message)
            await send(message)
            assert repr(message) == before

    def _wsgi_app(self, environ: Any, start: Any) -> Iterator[bytes] | list[bytes]:
        step = environ["step"]
        self.told.append((_shown(environ["awx_ratelimit.decision"]), environ["awx_ratelimit.slots"][-1].caller))
        if step.fails_after == 0:
            raise LookupError
        lines = [(name.decode(), value.decode()) for name, value in step.own]
        start(f"{step.status} Status", lines)
        chunks: list[bytes] = step.chunks
        return chunks if step.fails_after < 0 else iter(chunks)


def _shown(decision: Decision | None) -> Any:
    """A decision without what differs between two backends."""
    if decision is None:
        return None
    return tuple(decision)[:8], decision.usages, type(decision), decision.record_plans


@contextmanager
def _logged(told: list[Any]) -> Iterator[None]:
    """Note the log lines of the library too."""
    handler, log = logging.Handler(), logging.getLogger("awx_ratelimit")
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _flood(steps: list[Step], *, is_flooded: bool) -> list[Step]:
    """`steps`, after so many unknown keys that an address is throttled."""
    unknown = Step("GET", "/", "", [UNKNOWN], [], "192.0.2.1", 200, [], [b""], -1, 0)
    # The second time, the match of each path is in memory, and the third time the plan of each caller.
    return [unknown] * (21 * is_flooded) + steps * 3


@given(gates, st.lists(steps, min_size=1, max_size=8))
@with_examples(160)
def test_asgi(keys: Keys, options: dict[str, Any], sent: list[Step]) -> None:
    """Every byte, decision, lease, error, log line and observation is the same in an event loop."""
    told = []
    with asyncio.Runner() as runner:
        for is_short in (True, False):
            world = World(keys, options, is_async=True, is_short=is_short)
            with _logged(world.told):
                for step in _flood(sent, is_flooded=world.is_flooded):
                    runner.run(world.send(step))
            told.append(world.told)

    assert told[0] == told[1]


@given(gates, st.lists(steps, min_size=1, max_size=8))
@with_examples(160)
def test_wsgi(keys: Keys, options: dict[str, Any], sent: list[Step]) -> None:
    """Every byte, decision, lease, error, log line and observation is the same in threads."""
    told = []
    for is_short in (True, False):
        world = World(keys, options, is_async=False, is_short=is_short)
        with _logged(world.told):
            for step in _flood(sent, is_flooded=world.is_flooded):
                world.call(step)
        told.append(world.told)

    assert told[0] == told[1]
