"""The address of the client: the peer's, or what trusted proxies say, read from the right.

`X-Forwarded-For` is a list that each proxy appends to, and only what a trusted proxy appended can be believed. So it is
read from the right: the first address that is not a trusted proxy's is the client's, and what stands further left is
the client's own text.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.header_values import last_items
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.proxy_warnings import FORWARDED_FOR, ProxyWarnings

#: Stands for a peer without an address: a proxy that speaks through a unix socket.
UNIX = "unix"
#: What the subject of a client without a key begins with.
ADDRESS = "address:"
_MOST_HOPS = 32
_LONGEST = 64
_Address = IPv4Address | IPv6Address


class Addresses:
    """Who a request comes from, given the networks of the proxies that may be believed.

    `trusted_proxies` are networks such as ``10.0.0.0/8``, single addresses, and ``unix``. Raises InvalidLimit for
    anything else.
    """

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        if isinstance(trusted_proxies, str):
            raise InvalidLimit(f"trusted_proxies is a text; write trusted_proxies=[{trusted_proxies!r}]")
        if not isinstance(trusted_proxies, Iterable):
            raise InvalidLimit(f"trusted_proxies is {describe(trusted_proxies)}; write trusted_proxies=['10.0.0.0/8']")
        names = list(trusted_proxies)
        self._unix = UNIX in names
        self._networks = [_network(name) for name in names if name != UNIX]
        self._trusts = lru_cache(maxsize=4096)(self._in_a_trusted_network)
        self._warnings = ProxyWarnings()

    def subject(self, request: Request) -> str:
        """The subject of whoever has no key: its address, an IPv6 one by its /64, in which one client has them all."""
        address = self._client(request)
        if isinstance(address, IPv6Address):
            return f"{ADDRESS}{IPv6Network((address, 64), strict=False)}"
        return f"{ADDRESS}{address or UNIX}"

    def refused(self, request: Request) -> None:
        """The client of this request has reached the limit of its address: warn if that may be a proxy's."""
        peer = _parsed(request.client or "")
        if self._is_trusted(peer):
            if self._warnings.silences > 0 and not request.values(FORWARDED_FOR):
                self._warnings.silent(_name(peer), refused=True)
        elif self._warnings.looks > 0 and (peer is None or peer.is_private):
            self._warnings.refused(request, _name(peer))

    def _client(self, request: Request) -> _Address | None:
        address = _parsed(request.client or "")
        if not self._is_trusted(address):
            if self._warnings.looks > 0:
                self._warnings.untrusted(request, _name(address))
            return address
        text = last_items(request.values(FORWARDED_FOR))
        if self._warnings.silences > 0:
            self._heard(address, text)
        for hop in reversed(text.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:]):
            further = _parsed(hop.decode("latin-1").strip())
            if further is None:
                return address
            address = further
            if not self._trusts(address):
                return address
        return address

    def _heard(self, proxy: _Address | None, forwarded: bytes) -> None:
        if forwarded:
            self._warnings.silences = 0
        else:
            self._warnings.silent(_name(proxy), refused=False)

    def _is_trusted(self, peer: _Address | None) -> bool:
        return self._unix if peer is None else self._trusts(peer)

    def _in_a_trusted_network(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _name(peer: _Address | None) -> str:
    return UNIX if peer is None else str(peer)


def _parsed(text: str) -> _Address | None:
    # A long text is no address, and must not stay in a cache.
    return _known(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _known(text: str) -> _Address | None:
    """The address in `text`, without the port and the zone that some write with it; None where there is none."""
    host = text.split("]", 1)[0].removeprefix("[") if text.startswith("[") else text
    host = host.rsplit(":", 1)[0] if host.count(":") == 1 else host
    try:
        address = ip_address(host.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(name: object) -> IPv4Network | IPv6Network:
    if not isinstance(name, str | _Address | IPv4Network | IPv6Network):
        # Numbers and bytes would be taken for addresses.
        raise InvalidLimit(f"trusted_proxies has {describe(name)}; allowed are networks, addresses and 'unix'")
    try:
        return ip_network(name)
    except ValueError as error:
        raise InvalidLimit(f"trusted_proxies: {error}; allowed are networks, addresses and 'unix'") from error
