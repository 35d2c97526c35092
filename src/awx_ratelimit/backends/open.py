"""A backend from a URL: the one place that names every backend.

    memory://                           in this process
    host:///path/to/file                among the processes of this host; of several users: ?allow_other_users=true
    redis://host:6379/0                 rediss:// with TLS, redis+unix:///path/to/socket, valkey://
    redis+sentinel://host,host/service  the primary of a service that sentinels watch; also rediss+, valkey+, valkeys+
    redis+cluster://host,host           a cluster, by some of its servers; likewise

A server comes guarded, and its refusals are remembered. A query may hold ``prefix`` (`awx`), ``budget_ms`` (50),
``on_outage`` (`local`) and ``expected_workers`` (1): see GuardedBackend. The rest of it is the client's, such as
``ssl_ca_certs``.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.backends.diagnostics import Finding
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.denial_cache import AsyncDenialCacheBackend
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.core.validation import type_name

_TCP = ("redis", "rediss", "valkey", "valkeys")
_MANY = tuple(f"{scheme}+{kind}" for kind in ("sentinel", "cluster") for scheme in _TCP)
_SCHEMES = ("memory", "host", *_TCP, "redis+unix", "unix", *_MANY)
_OURS: dict[str, Callable[[str], Any]] = {"prefix": str, "budget_ms": int, "on_outage": str, "expected_workers": int}
_FILE_QUERIES = {"": False, "allow_other_users=false": False, "allow_other_users=true": True}
_NAME = re.compile("[a-z][a-z0-9+.-]*")
#: Who looks at limits is in no hurry.
_PATIENT = "budget_ms=2000&on_outage=closed"


def open_backend(url: str) -> Backend:
    """The backend at `url`, for Limiter.

    Raises TypeError for anything but a string, ValueError for a URL of no backend, ImportError where its extra is not
    installed, and BackendMisconfigured for a server that cannot decide as it is set up or a file that cannot be used.
    """
    if _scheme(url) == "memory":
        return MemoryBackend()
    if _scheme(url) == "host":
        return _host(url)
    from awx_ratelimit.backends.redis.backend_sync import RedisBackend

    client_url, of_server, of_guard = _split(url)
    return DenialCacheBackend(GuardedBackend(RedisBackend.from_url(client_url, **of_server), **of_guard))


def open_async_backend(url: str) -> AsyncBackend | Backend:
    """The backend at `url`, for AsyncLimiter. Raises as `open_backend` does."""
    if _scheme(url) == "memory":
        return MemoryBackend()
    if _scheme(url) == "host":
        return _host(url)
    from awx_ratelimit.backends.redis.backend import AsyncRedisBackend

    client_url, of_server, of_guard = _split(url)
    backend = AsyncRedisBackend.from_url(client_url, **of_server)
    return AsyncDenialCacheBackend(AsyncGuardedBackend(backend, **of_guard))


def _host(url: str) -> Backend:
    from awx_ratelimit.backends.host.backend import HostBackend

    path, allow_other_users = _file(url)
    return HostBackend(path, allow_other_users=allow_other_users)


def _file(url: str) -> tuple[str, bool]:
    """The path in the URL of a file, and its only option. A relative path would be another file in each folder."""
    parts = urlsplit(url)
    if parts.netloc or parts.query not in _FILE_QUERIES or parts.fragment or not parts.path.startswith("/"):
        raise ValueError(
            f"the URL of a host's file is {url!r}; allowed is host:///path/to/file, with three slashes, and after it "
            "?allow_other_users=true or nothing"
        )
    return unquote(parts.path), _FILE_QUERIES[parts.query]


def own_url() -> str:
    """The file in which commands look where nobody names another one: a user's own, on this host.

    It is `awx-ratelimit/limits` in XDG_STATE_HOME, by default `~/.local/state` (the XDG base directories). Its folder
    is made. Raises ValueError where the user has no home.
    """
    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise ValueError("this user has no home, where a file of limits could be; name a backend") from error
    # Who opens the file says why where that is not possible.
    with suppress(OSError):
        (home / "awx-ratelimit").mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"host://{quote(str(home / 'awx-ratelimit' / 'limits'))}"


def open_to_look(url: str) -> Backend:
    """The backend at `url`, for somebody who wants to see what there is, and has time.

    Where there is nothing yet nothing is made, and nothing stands in for a server that does not answer. Raises as
    `open_backend` does, and ValueError where nothing can be seen.
    """
    if _scheme(url) == "memory":
        raise ValueError("memory is each process's own and cannot be seen from here; name a file or a server")
    if _scheme(url) == "host":
        # Who looks may be another user than who decides, and would make a file that the other may not open.
        path, _ = _file(url)
        if not Path(path).exists():
            raise ValueError(f"{path}: nobody has kept limits there; name the backend of your app")
        return open_backend(url)
    return open_backend(f"{url}{'&' if '?' in url else '?'}{_PATIENT}")


def examine(url: str) -> list[Finding]:
    """What there is to know of the server at `url`, and what is to be done about it. Raises as `open_backend` does."""
    if _scheme(url) == "memory":
        return [Finding("memory", "ok", "limits of one process: there is no server to be examined")]
    if _scheme(url) == "host":
        return [_examined_file(url)]
    try:
        # It says which client it needs.
        import_module("awx_ratelimit.backends.redis.backend")
    except ImportError as error:
        said, _, remedy = str(error).partition("; ")
        return [Finding("client", "wrong", said, remedy)]
    from awx_ratelimit.backends.redis.doctor import examine as examine_redis

    client_url, of_server, _ = _split(url)
    return examine_redis(client_url, prefix=of_server.get("prefix", "awx"))


def _examined_file(url: str) -> Finding:
    """Whether limits can be shared there; where there is no file yet, by another one beside it for a moment."""
    path = Path(_file(url)[0])
    # A link that leads nowhere is there, too.
    if path.exists() or path.is_symlink():
        return _examined(_host(url))
    try:
        with TemporaryDirectory(dir=path.parent) as folder:
            return _examined(_host(f"host://{quote(f'{folder}/{path.name}')}"))
    except OSError:
        # Nor can the file be made: that says why.
        return _examined(_host(url))


def _examined(backend: Backend) -> Finding:
    state = backend.health()["state"]
    backend.close()
    return Finding("file", "ok" if state == "ok" else "wrong", f"its limits can be shared: {state}")


def _scheme(url: str) -> str:
    if not isinstance(url, str):
        raise TypeError(
            f"url: expected a string such as 'redis://host:6379' or 'host:///path/to/file', got {type_name(url)}"
        )
    # Several hosts are nothing that urlsplit can read.
    scheme, colon, _ = url.lower().partition(":")
    if scheme not in _SCHEMES or not colon:
        # Anything but a name may be a password.
        begun = f"begins with {scheme!r}" if colon and _NAME.fullmatch(scheme) else "does not begin with a scheme"
        allowed = ", ".join(f"{known}://" for known in _SCHEMES)
        raise ValueError(f"the URL of a backend {begun}; allowed are {allowed}")
    return scheme


def _split(url: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The URL as the client takes it, and what of its query is meant for the backend and for its guard."""
    base, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    of_guard = {name: _value(name, value) for name, value in pairs if name in _OURS}
    of_server = {"prefix": of_guard.pop("prefix")} if "prefix" in of_guard else {}
    if "budget_ms" in of_guard:
        of_server["timeout_ms"] = of_guard["budget_ms"]
    rest = urlencode([pair for pair in pairs if pair[0] not in _OURS])
    return f"{base}?{rest}" if rest else base, of_server, of_guard


def _value(name: str, value: str) -> Any:
    try:
        return _OURS[name](value)
    except ValueError:
        raise ValueError(f"the URL of a backend: {name} is {value!r}; allowed is a whole number") from None
