"""Opens a backend from a URL. This is the only module that knows every backend.

    memory://                           limits of this process
    host:///path/to/file                shared by the processes of this host; ?allow_other_users=true shares it between
                                        users
    redis://host:6379/0                 rediss:// with TLS, redis+unix:///path/to/socket, valkey://
    redis+sentinel://host,host/service  the primary of a service that sentinels watch; also rediss+, valkey+, valkeys+
    redis+cluster://host,host           a cluster, by some of its nodes; also rediss+, valkey+, valkeys+
    postgresql://user@host/database     a database; also postgres://

A server is wrapped in a guard and in a cache of denials. The query may hold ``prefix`` (`awx`, on PostgreSQL `limits`),
``schema`` (PostgreSQL, `awx`), ``budget_ms`` (50), ``on_outage`` (`local`) and ``expected_workers`` (1): see
GuardedBackend. Its other options go to the client, such as ``ssl_ca_certs`` or ``sslmode``.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from awx_ratelimit.backends.base import AsyncBackend, Backend, Finding
from awx_ratelimit.backends.memory.backend import MemoryBackend
from awx_ratelimit.backends.resilience.denial_cache import AsyncDenialCacheBackend
from awx_ratelimit.backends.resilience.denial_cache_sync import DenialCacheBackend
from awx_ratelimit.backends.resilience.guarded import AsyncGuardedBackend
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.backends.schemes import POSTGRES, scheme_of
from awx_ratelimit.errors import BackendMisconfigured
from awx_ratelimit.runtime.looking import is_looking, looking

_OPTIONS: dict[str, Callable[[str], Any]] = {"prefix": str, "budget_ms": int, "on_outage": str, "expected_workers": int}
_FILE_QUERIES = {"": False, "allow_other_users=false": False, "allow_other_users=true": True}
#: For commands that show limits.
_LOOK_TIMEOUT_MS = 2_000


def open_backend(url: str) -> Backend:
    """The backend at `url`, for Limiter.

    Raises TypeError unless `url` is a string, ValueError for a wrong URL, and ImportError if the extra is missing.
    Raises BackendMisconfigured if the server or the file cannot be used as it is set up.
    """
    if local := _open_local(url):
        return local
    client_url, server_options, guard_options = _split_options(url)
    backend = _open_server(client_url, server_options)
    return DenialCacheBackend(GuardedBackend(backend, **guard_options))


def open_async_backend(url: str) -> AsyncBackend | Backend:
    """The backend at `url`, for AsyncLimiter. Raises the errors of `open_backend`."""
    if local := _open_local(url):
        return local
    client_url, server_options, guard_options = _split_options(url)
    backend: AsyncBackend
    if scheme_of(url) in POSTGRES:
        from awx_ratelimit.backends.postgres.backend import AsyncPostgresBackend

        backend = AsyncPostgresBackend.from_url(client_url, **server_options)
    else:
        from awx_ratelimit.backends.redis.backend import AsyncRedisBackend

        backend = AsyncRedisBackend.from_url(client_url, **server_options)
    return AsyncDenialCacheBackend(AsyncGuardedBackend(backend, **guard_options))


def _open_server(client_url: str, options: dict[str, Any]) -> Backend:
    if scheme_of(client_url) in POSTGRES:
        from awx_ratelimit.backends.postgres.backend_sync import PostgresBackend

        return PostgresBackend.from_url(client_url, **options)
    from awx_ratelimit.backends.redis.backend_sync import RedisBackend

    return RedisBackend.from_url(client_url, **options)


def _open_local(url: str) -> Backend | None:
    """The backend without a server at `url`; None for the URL of a server."""
    if scheme_of(url) == "memory":
        return _open_memory(url)
    return _open_file(url) if scheme_of(url) == "host" else None


def _open_memory(url: str) -> Backend:
    if url.partition("://")[2]:
        raise ValueError(f"backend URL: expected memory:// alone, which has no options, got {url!r}")
    return MemoryBackend()


def _open_file(url: str) -> Backend:
    from awx_ratelimit.backends.host.backend import HostBackend

    path, allow_other_users = _parse_file_url(url)
    return HostBackend(path, allow_other_users=allow_other_users)


def _parse_file_url(url: str) -> tuple[str, bool]:
    """The path and the option in a ``host://`` URL. A relative path would name another file in each working folder."""
    parts = urlsplit(url)
    if parts.netloc or parts.query not in _FILE_QUERIES or parts.fragment or not parts.path.startswith("/"):
        raise ValueError(
            "backend URL: expected host:///path/to/file, with three slashes, and optionally ?allow_other_users=true; "
            f"got {url!r}"
        )
    return unquote(parts.path), _FILE_QUERIES[parts.query]


def own_url() -> str:
    """The default of commands: the user's own file on this host. Makes its folder, unless the code only looks.

    The file is `awx-ratelimit/limits` in XDG_STATE_HOME, by default `~/.local/state` (XDG base directories). Raises
    ValueError if the user has no home directory.
    """
    path = _own_path()
    if not is_looking():
        # If this fails, opening the file raises an error that says why.
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"host://{quote(str(path))}"


def _own_path() -> Path:
    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise ValueError(
            "this user has no home directory for a file of limits; name a backend in AWX_BACKEND"
        ) from error
    return home / "awx-ratelimit" / "limits"


def check_folder(url: str) -> None:
    """Raise BackendMisconfigured if no app could create its file at `url`: code that only looks does not try to."""
    if scheme_of(url) == "host" and not (path := Path(_parse_file_url(url)[0])).parent.is_dir():
        raise BackendMisconfigured(f"{path}: its folder does not exist; create it")


def open_to_look(url: str, where: str) -> Backend:
    """The backend at `url`, for commands that show limits. They may wait longer than a request.

    Makes no new file, and has no fallback for a server that does not answer. Raises the errors of `open_backend`, and
    ValueError if there are no limits to see: it says to name a backend `where`.
    """
    if scheme_of(url) == "memory":
        raise ValueError(f"memory:// limits exist only inside their own process; name a file or a server {where}")
    if scheme_of(url) == "host":
        # The name may be misspelled, and an empty file would hide that.
        path, _ = _parse_file_url(url)
        if not Path(path).exists():
            raise ValueError(f"{path}: no limits there; start your app, or name its backend {where}")
        with looking():
            return open_backend(url)
    _check_guard_options(url)
    client_url, server_options, _ = _split_options(url)
    with looking():
        return _open_server(client_url, {**server_options, "timeout_ms": _LOOK_TIMEOUT_MS})


def examine(url: str) -> list[Finding]:
    """Examine the backend at `url`. Raises the errors of `open_backend`."""
    if scheme_of(url) == "memory":
        _open_memory(url)
        return [Finding("memory", "ok", "limits of one process: there is no server to examine")]
    if scheme_of(url) == "host":
        with looking(only=False):
            return [_examine_file(url)]
    package = f"awx_ratelimit.backends.{'postgres' if scheme_of(url) in POSTGRES else 'redis'}"
    try:
        # Its ImportError names the missing client.
        import_module(f"{package}.backend")
    except ImportError as error:
        return [Finding.of_error("client", error)]
    _check_guard_options(url)
    client_url, server_options, _ = _split_options(url)
    server_options.pop("timeout_ms", None)
    findings: list[Finding] = import_module(f"{package}.doctor").examine(client_url, **server_options)
    return findings


def _examine_file(url: str) -> Finding:
    """Whether limits are shared there. If there is no file yet, this tries another file in the same folder."""
    path = Path(_parse_file_url(url)[0])
    # A dangling link does not exist, but it occupies the name.
    if path.exists() or path.is_symlink():
        return _file_finding(path, _health(_open_file(url)))
    try:
        with TemporaryDirectory(dir=_folder_for(path)) as folder:
            state = _health(_open_file(f"host://{quote(f'{folder}/{path.name}')}"))
    except OSError:
        # The file cannot be made either, and that error says why.
        return _file_finding(path, _health(_open_file(url)))
    if state != "ok":
        return _file_finding(path, state)
    said = f"there is no file {path}; one can be created there, and its limits can be shared"
    return Finding("file", "wrong", said, "start the app that uses it, or name the backend of your app")


def _folder_for(path: Path) -> Path:
    """Where to try another file. The folder of the user's own file may be missing: `own_url` makes it."""
    is_own = not path.parent.exists() and path == _own_path()
    return next(each for each in path.parents if each.is_dir()) if is_own else path.parent


def _health(backend: Backend) -> str:
    state: str = backend.health()["state"]
    backend.close()
    return state


def _file_finding(path: Path, state: str) -> Finding:
    if state == "ok":
        return Finding("file", "ok", f"the limits in {path} can be shared")
    return Finding("file", "wrong", f"the limits in {path} cannot be shared: {state}", "follow the advice in the error")


def _split_options(url: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The URL for the client, the options of the server's backend, and the options of its guard."""
    base, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    names = {*_OPTIONS, "schema"} if scheme_of(url) in POSTGRES else {*_OPTIONS}
    is_postgres_without_path = scheme_of(url) in POSTGRES and "/" not in base.partition("://")[2]
    if "@" in query and (is_postgres_without_path or any(name in names for name, _ in pairs)):
        # After an unquoted ? in a password, its rest looks like options. Their errors would show it.
        quoted = "each of / # ? % @ in a password as %2F %23 %3F %25 %40, and an @ in an option as %40"
        raise ValueError(f"backend URL: got @ after ?; write {quoted}")
    guard_options = {name: _parse_option(name, value) for name, value in pairs if name in names}
    server_options: dict[str, Any] = {}
    for name in names.intersection(("schema", "prefix"), guard_options):
        server_options[name] = guard_options.pop(name)
    if "budget_ms" in guard_options:
        server_options["timeout_ms"] = guard_options["budget_ms"]
    # As they were written: the client must see an @ that may end a password.
    rest = "&".join(part for part in query.split("&") if part and unquote(part.partition("=")[0]) not in names)
    return f"{base}?{rest}" if rest else base, server_options, guard_options


def _check_guard_options(url: str) -> None:
    """Raise InvalidLimit for wrong options of the guard, which is not opened for commands."""
    GuardedBackend(MemoryBackend(), **_split_options(url)[2])


def _parse_option(name: str, value: str) -> Any:
    try:
        return _OPTIONS.get(name, str)(value)
    except ValueError:
        raise ValueError(f"backend URL: {name}: expected an integer, got {value!r}") from None
