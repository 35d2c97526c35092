"""A backend from a URL: the one place that names every backend.

    memory://                           in this process
    host:///path/to/file                among the processes of this host
    redis://host:6379/0                 rediss:// with TLS, redis+unix:///path/to/socket, valkey://

A query may hold ``prefix`` and ``timeout_ms``; the rest of it is the client's, such as ``ssl_ca_certs``.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.backends.memory import MemoryBackend

_REDIS = ("redis", "rediss", "redis+unix", "unix", "valkey", "valkeys")
_SCHEMES = ("memory", "host", *_REDIS)
_OURS: dict[str, Callable[[str], Any]] = {"prefix": str, "timeout_ms": int}


def open_backend(url: str) -> Backend:
    """The backend at `url`, for Limiter.

    Raises ValueError for an URL that is none of a backend's, ImportError where its extra is not installed, and
    BackendMisconfigured for a server that cannot decide as it is set up, and for a file that cannot be used.
    """
    if _scheme(url) == "memory":
        return MemoryBackend()
    if _scheme(url) == "host":
        return _host(url)
    from awx_ratelimit.backends.redis import RedisBackend

    client_url, options = _split(url)
    return RedisBackend.from_url(client_url, **options)


def open_async_backend(url: str) -> AsyncBackend | Backend:
    """The backend at `url`, for AsyncLimiter. Raises as `open_backend` does."""
    if _scheme(url) == "memory":
        return MemoryBackend()
    if _scheme(url) == "host":
        return _host(url)
    from awx_ratelimit.backends.redis import AsyncRedisBackend

    client_url, options = _split(url)
    return AsyncRedisBackend.from_url(client_url, **options)


def _host(url: str) -> Backend:
    """The backend in the file of the URL. Its path is absolute: a relative one is another file in each folder."""
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise ValueError(f"the URL of a host's file is {url!r}; allowed is host:///path/to/file, with three slashes")
    from awx_ratelimit.backends.host import HostBackend

    return HostBackend(unquote(parts.path))


def _scheme(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        allowed = ", ".join(f"{known}://" for known in _SCHEMES)
        raise ValueError(f"the URL of a backend begins with {scheme or 'nothing'!r}; allowed are {allowed}")
    return scheme


def _split(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as the client takes it, and what of its query is meant for the backend."""
    base, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = {name: _value(name, value) for name, value in pairs if name in _OURS}
    rest = urlencode([pair for pair in pairs if pair[0] not in _OURS])
    return f"{base}?{rest}" if rest else base, options


def _value(name: str, value: str) -> Any:
    try:
        return _OURS[name](value)
    except ValueError:
        raise ValueError(f"the URL of a backend: {name} is {value!r}; allowed is a whole number") from None
