"""`ProxyWarnings`: what the log says when clients behind a proxy share one address, and which setting separates them.

A gate logs each of the two kinds at most once, and no line repeats text that a client chose. So no client can flood
the log.
"""

import logging

from awx_ratelimit.http.header_values import last_items
from awx_ratelimit.http.message import Request

_log = logging.getLogger("awx_ratelimit")
FORWARDED_FOR = b"x-forwarded-for"
_FORWARDING = (FORWARDED_FOR, b"forwarded")
#: A proxy forwards with each request, so the first ones are enough to see it, and later ones cost nothing.
_MAX_LOOKS = 1_000
#: A proxy's health checks may come before the first request that it forwards.
_MAX_SILENT = 5
#: One client at a private address may be refused a few times; a proxy that hides many is refused again and again.
_MAX_REFUSALS = 5

_UNTRUSTED = (
    "%s sends %s but is no trusted proxy, so all clients behind it share the limits of one address. "
    "If it is your proxy, name it in trusted_proxies: ['%s']"
)
_REFUSED = (
    "%s is refused again and again as one client without a valid key. If it is your proxy, all clients behind it share "
    "that limit: have it send X-Forwarded-For (waitress removes it unless you start it with --trusted-proxy), and "
    "name it in trusted_proxies: ['%s']"
)
_SILENT = (
    "trusted_proxies names %s, but its requests carry no X-Forwarded-For, so all clients behind it share the limits of "
    "one address. Have the proxy send the header; waitress removes it unless you start it with --trusted-proxy"
)


class ProxyWarnings:
    """Looks at the peers whose addresses are used, for those that may be proxies.

    A `peer` is an address as text, or ``unix``. With `looks` or `silences` at 0, nothing is left to look for.
    """

    def __init__(self) -> None:
        self.looks = _MAX_LOOKS
        self.silences = _MAX_SILENT
        self._refusals = _MAX_REFUSALS
        self._unsaid = {"unnamed": True, "silent": True}

    def untrusted(self, request: Request, peer: str) -> None:
        """A peer that is no trusted proxy is taken for the client."""
        self.looks -= 1
        for name in _FORWARDING:
            if request.values(name) and not _names(request, name, peer):
                self._unnamed(_UNTRUSTED, peer, name.decode().title(), peer)

    def refused(self, request: Request, peer: str) -> None:
        """A peer in a private network, taken for the client, is over its limit."""
        self.looks -= 1
        self._refusals -= 1
        if self._refusals <= 0 and not _names(request, FORWARDED_FOR, peer):
            self._unnamed(_REFUSED, peer, peer)

    def silent(self, peer: str, *, refused: bool) -> None:
        """A trusted proxy does not say for whom it speaks."""
        self.silences = 0 if refused else self.silences - 1
        if self.silences <= 0:
            self._say("silent", _SILENT, peer)

    def _unnamed(self, text: str, *words: str) -> None:
        self.looks = 0
        self._say("unnamed", text, *words)

    def _say(self, kind: str, text: str, *words: str) -> None:
        # Taken out in one step, so that of two threads only one logs.
        if self._unsaid.pop(kind, False):
            _log.warning(text, *words)


def _names(request: Request, name: bytes, peer: str) -> bool:
    """Whether the header names the peer itself: a server that reads the header has made its client the peer."""
    return peer.encode() in last_items(request.values(name))
