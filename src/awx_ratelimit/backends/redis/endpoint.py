"""Where a server listens, and what a new connection says first. redis-py parses the URL, and connects to nothing."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import parse_url
from redis.exceptions import ResponseError

#: The words of a command: str, bytes or int.
Command: TypeAlias = tuple[Any, ...]
#: What CLIENT LIST calls these connections.
CLIENT_NAME: Final = "awx_ratelimit"
_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, and how to connect to it within `timeout_s`. See `open_endpoint`.

    `path` is that of a Unix socket; with it, host and port mean nothing. `trust` is None without TLS.
    """

    timeout_s: float
    host: str = "localhost"
    port: int = _PORT
    path: str = ""
    username: str | None = None
    # Error reporters show the repr of local variables.
    password: str | None = field(default=None, repr=False)
    database: int = 0
    protocol: int = 3
    trust: "TrustStore | None" = None

    def at(self, host: str, port: int, timeout_s: float, **others: Any) -> "Endpoint":
        """Another server with the same settings, except for `others`."""
        return replace(self, host=host, port=port, timeout_s=timeout_s, **others)

    @property
    def address(self) -> str:
        """Host and port, or the path of a socket, without user and password."""
        return self.path or f"{self.host}:{self.port}"

    def handshake(self) -> list[Command]:
        """The commands that a new connection sends first, all at once."""
        named = "SETNAME", CLIENT_NAME
        select = [("SELECT", self.database)] if self.database else []
        has_user = bool(self.username or self.password)
        if self.protocol == 2:
            user = (self.username,) if self.username else ()
            auth: list[Command] = [("AUTH", *user, self.password or "")] if has_user else []
            return [*auth, ("HELLO", 2, *named), *select]
        login = ("AUTH", self.username or "default", self.password or "") if has_user else ()
        return [("HELLO", 3, *login, *named), *select]

    def greeting(self, replies: Sequence[Any]) -> Any:
        """The reply to HELLO, among those to `handshake`. Raises the first error.

        With the older protocol, a refused HELLO is no error: a proxy may not know it.
        """
        greeting: Any = None
        for (name, *_), reply in zip(self.handshake(), replies, strict=True):
            if isinstance(reply, ResponseError) and not (name == "HELLO" and self.protocol == 2):
                raise reply
            if name == "HELLO":
                greeting = reply
        return greeting


def open_endpoint(url: str, timeout_s: float) -> Endpoint:
    """The server at `url`, which must be one that redis-py can parse.

    Raises ValueError if the certificates cannot be read.
    """
    settings: dict[str, Any] = {**parse_url(url)}
    return Endpoint(
        timeout_s,
        settings.get("host", "localhost"),
        int(settings.get("port", _PORT)),
        settings.get("path", ""),
        settings.get("username"),
        settings.get("password"),
        int(settings.get("db", 0)),
        int(settings.get("protocol", 3)),
        TrustStore(settings) if url.startswith("rediss") else None,
    )


class TrustStore:
    """The TLS context. It is read once, and again if gevent has replaced the `ssl` module since.

    Reading it takes longer than a call may take.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._read()

    def _read(self) -> None:
        _check_files(self._options)
        try:
            self._context = _tls_context(self._options)
        except OSError as error:
            raise ValueError(
                f"redis URL: {', '.join(_FILES)}: expected files in PEM, and the key of the certificate; got an error "
                f"of OpenSSL: {error}"
            ) from error

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        if self._context.__class__ is not ssl.SSLContext:
            self._read()
        return self._context


def _check_files(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that cannot be read: the errors of `ssl` name no file."""
    for name in [each for each in _FILES if options.get(each)]:
        try:
            Path(options[name]).open("rb").close()
        except OSError as error:
            raise ValueError(
                f"redis URL: {name}: expected a file in PEM, got {options[name]!r}: {error.strerror}"
            ) from error


def _tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The context for the options of a URL. What they leave open is strict, whatever the version of redis-py."""
    context = ssl.create_default_context()
    verify = _VERIFY[options.get("ssl_cert_reqs", "required")]
    # Older redis-py leaves this option a string.
    checks_name = str(options.get("ssl_check_hostname", True)).lower() == "true"
    context.check_hostname = checks_name and verify is not ssl.CERT_NONE
    context.verify_mode = verify
    if options.get("ssl_certfile") or options.get("ssl_keyfile"):
        context.load_cert_chain(options.get("ssl_certfile"), options.get("ssl_keyfile"))  # type: ignore[arg-type]
    if options.get("ssl_ca_certs"):
        context.load_verify_locations(options["ssl_ca_certs"])
    return context
