"""`ProxyWarnings`: if clients behind a proxy seem to share one address, the log names the setting that separates them.

If every client is taken for a proxy, the log says so too.
Each gate logs this at most once per kind of mistake, and never text that a client chose.
"""

import logging
from typing import Final

from awx_ratelimit.http.header_values import last_items
from awx_ratelimit.http.message import Request
from awx_ratelimit.runtime.documentation import page
from awx_ratelimit.runtime.looking import is_quiet

_log = logging.getLogger("awx_ratelimit")
_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDING_HEADERS = (_FORWARDED_FOR, b"forwarded")
#: A proxy forwards every request, so checking the first ones is enough, and later ones cost nothing.
_MAX_CHECKS = 1_000
#: A proxy's health checks may come before the first request that it forwards.
_MAX_WITHOUT_HEADER = 5
#: One client at a private address may be refused a few times. A proxy that hides many clients is refused more often.
_MAX_REFUSALS = 5

_UNTRUSTED = (
    "%s sends %s but is not a trusted proxy, so all clients behind it share the limits of one address. "
    "If it is your proxy, name it in trusted_proxies: ['%s']"
)
_REFUSED = (
    "%s is refused again and again as one client without a valid key. If it is your proxy, all clients behind it share "
    "that limit: have it send %s (waitress removes it unless you start it with --trusted-proxy), and "
    "name it in trusted_proxies: ['%s']"
)
_WITHOUT_HEADER = (
    "trusted_proxies names %s, but its requests carry no %s, so all clients behind it share the limits of one "
    "address. Have the proxy send the header; waitress removes it unless you start it with --trusted-proxy"
)
_EVERY_ADDRESS = (
    "trusted_proxies names %s, which contains every address, so each client can claim any address in %s and is not "
    "limited by its own. Name the addresses of your proxies only, such as '10.0.0.7' or '172.16.0.0/12'"
)
#: The name of a peer without an address: a proxy that connects through a unix socket.
UNIX: Final = "unix"
_WITHOUT_ADDRESS = "a peer without an IP address (a unix socket, or a test client)"
#: Test clients have such an address by default, and a test sends many requests.
_IN_A_TEST = ". In a test, send a key, or give the client an address: TestClient(app, client=('192.0.2.1', 50000))"


class ProxyWarnings:
    """Warns about peers that may be proxies. A `peer` is an address as text, or ``unix``.

    When `checks_left` or `without_header_left` is 0, that kind of warning was logged or is no longer possible.
    """

    def __init__(self, header: str) -> None:
        self._header = header
        self.checks_left = _MAX_CHECKS
        self.without_header_left = _MAX_WITHOUT_HEADER
        self._refusals_left = _MAX_REFUSALS
        self._not_logged = {"untrusted": True, "without header": True, "everybody": True}

    def trusts_everybody(self, network: str) -> None:
        """`network`, a trusted one, contains every address."""
        if not is_quiet():
            self._log_once("everybody", _EVERY_ADDRESS, network, self._header)

    def untrusted(self, request: Request, peer: str) -> None:
        """An untrusted peer is taken for the client: warn if it sends a forwarding header."""
        if is_quiet():
            return
        self.checks_left -= 1
        for name in _FORWARDING_HEADERS:
            if request.values(name) and not _contains(request, name, peer):
                self._log_untrusted(_UNTRUSTED, _words(peer), name.decode().title(), peer)

    def refused(self, request: Request, peer: str) -> None:
        """An untrusted peer in a private network is over its limit: warn if that happens often."""
        self.checks_left -= 1
        self._refusals_left -= 1
        if self._refusals_left <= 0 and not _contains(request, _FORWARDED_FOR, peer):
            message = f"{_REFUSED}{_IN_A_TEST}" if peer == UNIX else _REFUSED
            self._log_untrusted(message, _words(peer), self._header, peer)

    def trusted(self, peer: str, reported: bool) -> None:
        """A trusted proxy sent a request; `reported` tells whether the header reports a client."""
        if is_quiet():
            return
        if reported:
            self.without_header_left = 0
        else:
            self.without_header(peer, refused=False)

    def without_header(self, peer: str, *, refused: bool) -> None:
        """A trusted proxy did not send the header: warn if that happens often, or if the proxy was refused."""
        self.without_header_left = 0 if refused else self.without_header_left - 1
        if self.without_header_left <= 0:
            self._log_once("without header", _WITHOUT_HEADER, peer, self._header)

    def _log_untrusted(self, message: str, *args: str) -> None:
        self.checks_left = 0
        self._log_once("untrusted", message, *args)

    def _log_once(self, kind: str, message: str, *args: str) -> None:
        # `pop` is atomic, so only one of several threads logs.
        if self._not_logged.pop(kind, False):
            _log.warning(f"{message}. See %s", *args, page("deployment"))


def _words(peer: str) -> str:
    return _WITHOUT_ADDRESS if peer == UNIX else peer


def _contains(request: Request, name: bytes, peer: str) -> bool:
    """Whether the header contains the peer itself. Then the server has read the header and set the peer from it."""
    return peer.encode() in last_items(request.values(name))
