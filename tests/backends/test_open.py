"""Backends are opened from URLs."""

import logging
import re
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import RedisServer

from awx_ratelimit import AsyncLimiter, BackendUnavailable, HostBackend, Limiter, MemoryBackend, Plan
from awx_ratelimit.backends.open import examine, open_async_backend, open_backend, open_to_look
from awx_ratelimit.backends.redis.backend_sync import RedisBackend

PLAN = Plan.of("p", per_minute=2)


def test_memory_is_opened() -> None:
    """`memory://` is a MemoryBackend, for both limiters."""
    assert type(open_backend("memory://")) is MemoryBackend
    assert type(open_async_backend("memory://")) is MemoryBackend


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_host_file_is_opened(tmp_path: Path) -> None:
    """`host://` and an absolute path are one backend for both limiters; special characters are percent-encoded."""
    url = f"host://{tmp_path}/my%20limits"
    backend = open_async_backend(url)
    limiter, other = AsyncLimiter(backend), Limiter(open_backend(url))
    allowed = [(await limiter.acquire("s", PLAN)).allowed for _ in range(2)]

    assert type(backend) is HostBackend
    assert allowed == [True, True]
    assert other.acquire("s", PLAN).allowed is False
    assert (tmp_path / "my limits").exists()
    await limiter.aclose()
    other.close()


@pytest.mark.parametrize("spelled", ["redis+unix://{path}", "unix://{path}?prefix=mine", "redis+unix://{path}?db=3"])
def test_redis_is_opened_by_socket(redis_server: RedisServer, spelled: str) -> None:
    """The URL of a socket opens a backend that decides; `prefix` begins each key."""
    url = spelled.format(path=redis_server.socket)
    limiter = Limiter(open_backend(url))

    allowed = [limiter.acquire("s", PLAN).allowed for _ in range(3)]

    with redis_server.client(db=3 if "db" in url else 0) as client:
        (key,) = client.keys()
    limiter.close()
    assert allowed == [True, True, False]
    assert key.partition(b":")[0] == (b"mine" if "mine" in url else b"awx")


async def _decided(url: str) -> list[bool]:
    limiter = AsyncLimiter(open_async_backend(url))
    allowed = [(await limiter.acquire("s", PLAN)).allowed for _ in range(3)]
    await limiter.aclose()
    return allowed


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_redis_is_opened_by_port(redis_server: RedisServer, scheme: str) -> None:
    """`redis://` and `valkey://` open the same backend."""
    assert await _decided(f"{scheme}://127.0.0.1:{redis_server.port}?budget_ms=5000") == [True, True, False]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "expected one of the schemes memory://, host://, redis://"),
        ("/var/lib/a b", "expected a scheme such as redis://, got none; write host:///var/lib/a%20b"),
        ("file:///var/lib/limits", "got 'file'; write host:///var/lib/limits"),
        ("file:/var/lib/limits", "got 'file'; write host:///var/lib/limits"),
        ("./limits", "write host:///path/to/file, with the whole path"),
        ("sqlite:///limits.db", "got 'sqlite'; write host:///path/to/file"),
        ("memory", "write memory://"),
        ("Redis", "write redis://host:6379"),
        ("postgres", "write postgresql://user@host/database"),
        (" redis://localhost", "write it without spaces around it"),
        ("127.0.0.1:6379", "got none; write redis://127.0.0.1:6379"),
        ("redis-server:6379", "write redis://host:6379"),
        ("postgresql+asyncpg://localhost/app", "got 'postgresql+asyncpg'; write postgresql://"),
        ("redis-sentinel://localhost/app", "got 'redis-sentinel'; write redis+sentinel://"),
        ("mysql://localhost", "expected one of the schemes memory://, host://, redis://"),
        ("a secret@localhost:6379", "backend URL: expected one of the schemes memory://"),
        ("reddis://localhost", "expected a scheme such as redis://, got 'reddis'; write redis://"),
        ("localhost:6379", "got 'localhost'; write redis://localhost:6379"),
        ("http://localhost", "got 'http'"),
        ("host://limits", "expected host:///path/to/file, with three slashes"),
        ("host://", "expected host:///path/to/file, with three slashes"),
        ("host://srv/limits", "expected host:///path/to/file, with three slashes"),
        ("host:///srv/limits?timeout_ms=5", "expected host:///path/to/file, with three slashes"),
        ("host:///srv/limits?allow_other_users=yes", "optionally ?allow_other_users=true"),
        ("host:limits", "expected host:///path/to/file, with three slashes"),
        ("redis://localhost?budget_ms=soon", "budget_ms: expected an integer, got 'soon'"),
        ("redis://localhost?budget_ms=0", "timeout_ms: expected an integer >= 1, got 0"),
        ("redis://localhost:port", "redis URL: "),
        ("redis://localhost?on_outage=pray", "on_outage: expected 'local', 'open' or 'closed', got 'pray'"),
        ("redis://localhost?prefix={x}", "got '{x}'"),
        (
            "redis://localhost?on_outgae=open",
            "redis URL: got option 'on_outgae'; expected one of protocol, db, and in "
            "open_backend also prefix, budget_ms, on_outage, expected_workers; did you mean 'on_outage'?",
        ),
    ],
)
@pytest.mark.parametrize("opened", [open_backend, open_async_backend])
def test_wrong_urls_are_refused(opened: Any, url: str, says: str) -> None:
    """A wrong URL raises a ValueError that says what is wrong and what is expected."""
    with pytest.raises(ValueError, match=re.escape(says)):
        opened(url)


@pytest.mark.parametrize(
    ("scheme", "option"),
    [
        *product(
            ["redis", "rediss", "redis+sentinel", "redis+cluster", "postgresql"],
            ["budget_ms=geheim", "budget_ms=0&geheim", "on_outage=geheim", "prefix=geheim{}", "schema=geheim"],
        ),
        *product(["redis", "rediss", "redis+sentinel", "redis+cluster"], ["geheim=1", "db=geheim"]),
    ],
)
@pytest.mark.parametrize("opened", [open_backend, open_async_backend, partial(open_to_look, where="here"), examine])
def test_no_error_shows_a_password_with_a_question_mark(opened: Any, scheme: str, option: str) -> None:
    """What follows an unquoted ? in a password looks like options, and no error shows it."""
    with pytest.raises(ValueError, match="URL: ") as error:
        opened(f"{scheme}://user:1234?{option}@127.0.0.1:1/0")

    assert "geheim" not in str(error.value)


def test_an_at_sign_in_an_option() -> None:
    """An @ in an option of the client is written as %40 if there are options of `open_backend`."""
    url = "redis+sentinel://127.0.0.1:1/service?sentinel_password=a{}b&on_outage=closed"
    open_backend(url.format("%40")).close()

    with pytest.raises(ValueError, match=r"^backend URL: got @ after \?; write .* and an @ in an option as %40$"):
        open_backend(url.format("@"))


def test_an_unreachable_server_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Opening logs a warning, a claim raises, and neither shows the password."""
    limiter = Limiter(open_backend("redis://:geheim@127.0.0.1:1?on_outage=closed"))

    with pytest.raises(BackendUnavailable, match="on_outage='closed' refuses claims") as error:
        limiter.acquire("s", PLAN)

    assert "no decision yet: redis at 127.0.0.1:1" in caplog.text
    assert "Until it answers, a backend that was opened from a URL decides by on_outage" in caplog.text
    assert "See docs/outages.md#who-decides-meanwhile" in caplog.text
    assert "geheim" not in caplog.text + str(error.value)


def test_a_look_at_an_unreachable_server_logs_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look raises the error and logs no warning, and the log of the rest of the process stays as it is."""
    log, opened_while_disabled = logging.getLogger("awx_ratelimit"), []
    real = RedisBackend.from_url

    def from_url(*args: Any, **options: Any) -> Any:
        opened_while_disabled.append(log.disabled)
        return real(*args, **options)

    monkeypatch.setattr(RedisBackend, "from_url", from_url)
    limiter = Limiter(open_to_look("redis://127.0.0.1:1", "here"))

    with pytest.raises(BackendUnavailable, match=r"redis at 127\.0\.0\.1:1"):
        limiter.peek("s", PLAN)

    assert opened_while_disabled == [False]
    assert "no decision yet" not in caplog.text
