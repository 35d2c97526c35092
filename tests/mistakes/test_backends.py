"""Wrong arguments of limiters, backends and stores."""

from typing import Any

import pytest
from tests.mistakes.cases import Mistake, assert_refused, each

from awx_ratelimit import AsyncLimiter, InvalidLimit, Limiter
from awx_ratelimit.errors import InvalidKeyRequest

MISTAKES: list[Mistake] = [
    (
        "Limiter(HostBackend)",
        TypeError,
        "backend: expected a backend, got the class HostBackend; write Limiter(HostBackend(path))",
    ),
    (
        'HostBackend("/var/lib/app/limits", allow_other_users="false")',
        InvalidLimit,
        "allow_other_users: expected true or false, got 'false'",
    ),
    (
        'KeyStore.open(allow_other_users="no")',
        InvalidLimit,
        "allow_other_users: expected true or false, got 'no'",
    ),
    (
        'KeyStore.open("")',
        ValueError,
        "address: expected a path or a URL such as postgresql://user@host/database, got ''",
    ),
    (
        'StoredKeys(KeyVerifier(KeyStore.open("sqlite://")), bearer="false")',
        InvalidLimit,
        "bearer: expected true or false, got 'false'",
    ),
    (
        'Jwks.at("https://login.example.com/keys", timeout_s="2")',
        InvalidKeyRequest,
        "timeout_s: expected a number of seconds above 0, got '2' (str)",
    ),
    (
        'Jwks.at("https://login.example.com/keys", interval_s=0)',
        InvalidKeyRequest,
        "interval_s: expected a number of seconds above 0, got 0 (int)",
    ),
    (
        "RedisBackend.from_url(URL, prefix=5)",
        TypeError,
        "prefix: expected a string such as 'awx', got 5 (int)",
    ),
    (
        "Limiter(MemoryBackend)",
        TypeError,
        "backend: expected a backend, got the class MemoryBackend; write Limiter(MemoryBackend())",
    ),
    (
        "AsyncLimiter(MemoryBackend)",
        TypeError,
        "backend: expected a backend, got the class MemoryBackend; write AsyncLimiter(MemoryBackend())",
    ),
    (
        "Limiter(URL)",
        TypeError,
        "backend: expected a backend, got a str; write Limiter(open_backend(url))",
    ),
    (
        "AsyncLimiter(URL)",
        TypeError,
        "backend: expected a backend, got a str; write AsyncLimiter(open_async_backend(url))",
    ),
    (
        "Limiter(None)",
        TypeError,
        "backend: expected a backend, got None; write Limiter(MemoryBackend())",
    ),
    (
        "Limiter(limiter)",
        TypeError,
        "backend: expected a backend, got a Limiter; write Limiter(MemoryBackend())",
    ),
    (
        "AsyncLimiter(async_limiter)",
        TypeError,
        "backend: expected a backend, got an AsyncLimiter; write AsyncLimiter(MemoryBackend())",
    ),
    (
        "Limiter(AsyncRedisBackend)",
        TypeError,
        "backend: expected a synchronous backend, got AsyncRedisBackend, which is async; write AsyncLimiter(backend)",
    ),
    (
        "AsyncLimiter(GuardedBackend(MemoryBackend()))",
        TypeError,
        "backend: expected an async backend, or one whose longest_wait_ms is at most 50, got GuardedBackend, which "
        "would block the event loop; write AsyncLimiter(open_async_backend(url))",
    ),
    (
        "Limiter(AsyncGuardedBackend(MemoryBackend()))",
        TypeError,
        "backend: expected a synchronous backend, got AsyncGuardedBackend, which is async; write AsyncLimiter(backend)",
    ),
    (
        "Limiter(MemoryBackend(), listeners=listener)",
        TypeError,
        "listeners: expected a list, got the function listener; write listeners=[listener]",
    ),
    (
        "Limiter(MemoryBackend(), listeners=[RefusalLog])",
        TypeError,
        "listeners[0]: expected a function that takes a Decision, got the class RefusalLog; write RefusalLog()",
    ),
    (
        "AsyncLimiter(MemoryBackend(), listeners=[async_listener])",
        TypeError,
        "listeners[0]: expected a function that takes a Decision, got a coroutine function, which nothing awaits",
    ),
    (
        'Limiter(MemoryBackend(), listeners=["log"])',
        TypeError,
        "listeners[0]: expected a function that takes a Decision, got a str",
    ),
    (
        "Limiter(MemoryBackend(), listeners=[print, listener, print])",
        ValueError,
        "listeners[2]: expected each listener once; it would count everything twice",
    ),
    (
        "Limiter(MemoryBackend(), listeners=None)",
        TypeError,
        "listeners: expected a list, got None; write listeners=[listener]",
    ),
    (
        "MemoryBackend(URL)",
        TypeError,
        "MemoryBackend takes only a clock, got a str; write MemoryBackend(), or "
        "open_backend(url) for a backend at a URL",
    ),
    (
        "MemoryBackend(clock=ManualClock)",
        TypeError,
        "clock: expected an object with now_ms() -> int, got the class ManualClock; write ManualClock()",
    ),
    (
        "MemoryBackend(clock=listener)",
        TypeError,
        "clock: expected an object with now_ms() -> int, got the function listener; write ManualClock()",
    ),
    (
        'HostBackend("limits")',
        ValueError,
        "path: expected an absolute path such as '/var/lib/app/limits', got 'limits'",
    ),
    (
        'HostBackend("host:///var/lib/app/limits")',
        ValueError,
        "path: expected a path, got a URL; write open_backend(url), or pass '/var/lib/app/limits'",
    ),
    (
        "HostBackend(None)",
        TypeError,
        "path: expected an absolute path such as '/var/lib/app/limits', got None (NoneType)",
    ),
    (
        "RedisBackend(URL)",
        TypeError,
        "route: got a str; write from_url(url) of this class, or open_backend(url)",
    ),
    (
        "AsyncRedisBackend(URL)",
        TypeError,
        "route: got a str; write from_url(url) of this class, or open_backend(url)",
    ),
    (
        "RedisBackend.from_url(None)",
        TypeError,
        "url: expected a string such as 'redis://host:6379', got None",
    ),
    (
        "GuardedBackend(MemoryBackend)",
        TypeError,
        "backend: expected a backend, got the class MemoryBackend; write GuardedBackend(MemoryBackend())",
    ),
    (
        "GuardedBackend(limiter)",
        TypeError,
        "backend: expected a backend, got a Limiter; write GuardedBackend(MemoryBackend())",
    ),
    (
        'GuardedBackend(MemoryBackend(), on_outage="fail")',
        InvalidLimit,
        "on_outage: expected 'local', 'open' or 'closed', got 'fail'",
    ),
    (
        'GuardedBackend(MemoryBackend(), expected_workers="4")',
        InvalidLimit,
        "expected_workers: expected an integer >= 1, got '4'",
    ),
    (
        "DenialCacheBackend(URL)",
        TypeError,
        "backend: expected a backend, got a str; write DenialCacheBackend(open_backend(url))",
    ),
    (
        "open_backend(None)",
        TypeError,
        "url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got None",
    ),
    (
        "open_backend(Path('/srv/limits'))",
        TypeError,
        "url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got a PosixPath; "
        "write 'host:///srv/limits'",
    ),
    (
        "Limiter(Path('/srv/limits'))",
        TypeError,
        "backend: expected a backend, got a PosixPath; write Limiter(open_backend('host:///srv/limits'))",
    ),
    (
        "open_backend(MemoryBackend())",
        TypeError,
        "url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got a MemoryBackend",
    ),
    (
        'open_async_backend("reddis://localhost")',
        ValueError,
        "backend URL: expected a scheme such as redis://, got 'reddis'; write redis://",
    ),
    (
        'open_async_backend("mysql://localhost")',
        ValueError,
        "backend URL: expected one of the schemes memory://, host://, redis://, rediss://, "
        "valkey://, valkeys://, redis+unix://, unix://, redis+sentinel://, rediss+sentinel://, "
        "valkey+sentinel://, valkeys+sentinel://, redis+cluster://, rediss+cluster://, "
        "valkey+cluster://, valkeys+cluster://, postgresql://, postgres://; got 'mysql'",
    ),
    (
        'open_backend("postgresql://host:54a/db")',
        ValueError,
        "postgresql URL: port: expected a number from 1 to 65535; write each of / # ? % @ in a password as "
        "%2F %23 %3F %25 %40",
    ),
    (
        'open_async_backend("postgresql://one:5432,two:70000/db")',
        ValueError,
        "postgresql URL: port: expected a number from 1 to 65535, got '70000'",
    ),
    (
        'open_backend("postgresql://user@one,,two/db")',
        ValueError,
        "postgresql URL: expected a host between commas, such as host=first,second; got an empty one",
    ),
    (
        'open_backend("postgresql://one,two,three/db?port=5432,5433")',
        ValueError,
        "postgresql URL: expected as many ports and addresses as hosts, or one port for all of them",
    ),
    (
        'open_backend("postgresql://host/db?budget_m=20")',
        ValueError,
        "postgresql URL: expected an option of libpq, such as sslmode or target_session_attrs, and in open_backend "
        "also schema, prefix, budget_ms, on_outage or expected_workers; got 'budget_m'; did you mean 'budget_ms'?",
    ),
]


@each(MISTAKES)
def test_mistake(mistake: Mistake) -> None:
    """A limiter, a backend or a store with a wrong argument is refused when it is created."""
    assert_refused(mistake)


class EarlierBackend:
    """A backend with the methods of an earlier version."""

    def acquire(self, *_: object) -> None: ...

    peek = release = refund = reset = health = close = acquire


class AsyncEarlierBackend(EarlierBackend):
    """The same for an event loop."""

    async def acquire(self, *_: object) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("limiter", "backend"), [(Limiter, EarlierBackend()), (AsyncLimiter, AsyncEarlierBackend())], ids=["sync", "async"]
)
def test_missing_methods(limiter: Any, backend: Any) -> None:
    """A backend without all methods is refused when a limiter gets it, and the error names those that it lacks."""
    said = f"got an? {type(backend).__name__} without acquire_joint, peek_joint, settle; "
    with pytest.raises(TypeError, match=said):
        limiter(backend)
