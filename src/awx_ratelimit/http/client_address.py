"""The client's address: the peer's, or the one that trusted proxies report in a header.

Each proxy appends to ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239), and only addresses that a trusted proxy appended
can be believed. So the list is read from the right: the first address that is not a trusted proxy is the client.
Clients can forge everything further left. A header such as ``X-Real-IP`` has one address, which the proxy sets itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPV6LENGTH, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from awx_ratelimit.core.validation import check_whole_number, describe, short_repr
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.http.header_values import last_items, only_value
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.proxy_warnings import UNIX, ProxyWarnings

#: Subjects of clients without a key begin with this.
ADDRESS_PREFIX = "address:"
#: The default of `address_header`.
FORWARDED_FOR: Final = "X-Forwarded-For"
_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED = b"forwarded"
#: A parameter of an element of Forwarded, with its value, which may be quoted.
_PARAMETER = re.compile(rb'[ \t]*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^"\\;\s]*))[ \t]*(?:;|$)')
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
#: NAT64 (RFC 6052): a gateway writes the IPv4 address of a host into the last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")
_MAX_HOPS = 32
_IPV6_PREFIX = 64
_MAX_ADDRESS_LENGTH = 64
_Address = IPv4Address | IPv6Address


class ClientAddresses:
    """Finds the client's address, given the proxies that are trusted.

    `trusted_proxies` are networks such as ``10.0.0.0/8``, single addresses, and ``unix``. `header` is the one in which
    they report the client. One client is a network of `ipv6_prefix` bits, 1 to 128. Raises InvalidLimit for anything
    else.
    """

    def __init__(
        self, trusted_proxies: Iterable[str] = (), header: str = FORWARDED_FOR, ipv6_prefix: int = _IPV6_PREFIX
    ) -> None:
        if isinstance(trusted_proxies, str) or not isinstance(trusted_proxies, Iterable):
            raise InvalidLimit(
                f"trusted_proxies: expected a list such as ['10.0.0.0/8'], got {describe(trusted_proxies)}"
            )
        names = list(trusted_proxies)
        self._header = _checked_header(header)
        self._read = _READERS.get(self._header, _only_address)
        check_whole_number(ipv6_prefix, "ipv6_prefix")
        if ipv6_prefix > IPV6LENGTH:
            raise InvalidLimit(f"ipv6_prefix: expected at most {IPV6LENGTH} bits, got {ipv6_prefix}")
        self._ipv6_prefix = ipv6_prefix
        self._trusts_unix = UNIX in names
        self._networks = [_network(name) for name in names if name != UNIX]
        self._trusts = lru_cache(maxsize=4096)(self._in_a_trusted_network)
        self._warnings = ProxyWarnings(header)
        for network in self._networks:
            if network.prefixlen == 0:
                self._warnings.trusts_everybody(str(network))

    def subject(self, request: Request) -> str:
        """The subject of a client without a key: its IPv4 address, or its IPv6 network, a /64 by default.

        One client usually owns a whole /64.
        """
        return _subject(self._client(request), self._ipv6_prefix)

    def warn_of_refusal(self, request: Request) -> None:
        """The limit of this request's address refused it: log a warning if the address may be a proxy's."""
        peer = _parsed(request.client or "")
        if self._is_trusted(peer):
            if self._warnings.without_header_left > 0 and not request.values(self._header):
                self._warnings.without_header(_name(peer), refused=True)
        elif self._warnings.checks_left > 0 and (peer is None or peer.is_private):
            self._warnings.refused(request, _name(peer))

    def _client(self, request: Request) -> _Address | None:
        address = _parsed(request.client or "")
        if not self._is_trusted(address):
            if self._warnings.checks_left > 0:
                self._warnings.untrusted(request, _name(address))
            return address
        values = request.values(self._header)
        if self._warnings.without_header_left > 0:
            self._warnings.trusted(_name(address), any(values))
        for hop in self._read(values):
            previous = _parsed(hop.decode("latin-1").strip())
            if previous is None:
                return address
            address = previous
            if not self._trusts(address):
                return address
        return address

    def _is_trusted(self, peer: _Address | None) -> bool:
        return self._trusts_unix if peer is None else self._trusts(peer)

    def _in_a_trusted_network(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def is_address(text: object) -> bool:
    """Whether `text` is an IP address that a client may have."""
    return isinstance(text, str) and _parsed(text) is not None


def _name(peer: _Address | None) -> str:
    return UNIX if peer is None else str(peer)


def subject_of_address(text: str) -> str:
    """The subject of the client with the address `text`, unless its app counts IPv6 by another network than a /64.

    Empty for a text that is no address. `text` may begin with ``address:``.
    """
    address = _parsed(text.removeprefix(ADDRESS_PREFIX))
    return "" if address is None else _subject(address, _IPV6_PREFIX)


def _subject(address: _Address | None, ipv6_prefix: int) -> str:
    if isinstance(address, IPv6Address):
        return f"{ADDRESS_PREFIX}{IPv6Network((address, ipv6_prefix), strict=False)}"
    return f"{ADDRESS_PREFIX}{address or UNIX}"


def _parsed(text: str) -> _Address | None:
    # Longer text is not an address and must not fill the cache.
    return _cached_address(text) if len(text) <= _MAX_ADDRESS_LENGTH else None


@lru_cache(maxsize=4096)
def _cached_address(text: str) -> _Address | None:
    """The address in `text`, without a port and a zone; None if there is none."""
    host = text.split("]", 1)[0].removeprefix("[") if text.startswith("[") else text
    host = host.rsplit(":", 1)[0] if host.count(":") == 1 else host
    try:
        address = ip_address(host.split("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
        return address.ipv4_mapped or address
    return address


def _forwarded_for(values: list[bytes]) -> Iterator[bytes]:
    """The addresses in X-Forwarded-For, the last one first."""
    return reversed(last_items(values).rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:])


def _forwarded(values: list[bytes]) -> Iterator[bytes]:
    """The addresses in Forwarded, the last one first; an empty one for an element without an address."""
    for element in _forwarded_for(values):
        yield _for_of(element)


def _for_of(element: bytes) -> bytes:
    """The address in an element of Forwarded; empty unless all of the element is well-formed, with one address.

    A proxy may quote the Host header, which a client can write: ``host="a,for=192.0.2.1;b="`` names no address.
    """
    found = []
    at = 0
    while at < len(element):
        parameter = _PARAMETER.match(element, at)
        if parameter is None:
            return b""
        if parameter[1].lower() == b"for":
            found.append(parameter[2] or parameter[3] or b"")
        at = parameter.end()
    return found[0] if len(found) == 1 else b""


def _only_address(values: list[bytes]) -> Iterator[bytes]:
    """The address in a header that may be sent once."""
    yield only_value(values) or b""


#: How each list of addresses is read. Any other header has one address.
_READERS: Final[Mapping[bytes, Callable[[list[bytes]], Iterator[bytes]]]] = {
    _FORWARDED_FOR: _forwarded_for,
    _FORWARDED: _forwarded,
}


def _checked_header(header: object) -> bytes:
    if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
        raise InvalidLimit(f"address_header: expected the name of a header such as 'X-Real-IP', got {describe(header)}")
    return header.lower().encode()


def _network(name: object) -> IPv4Network | IPv6Network:
    if not isinstance(name, str | _Address | IPv4Network | IPv6Network):
        # `ip_network` would take numbers and bytes for addresses.
        raise InvalidLimit(f"trusted_proxies: expected networks, addresses and 'unix', got {describe(name)}")
    try:
        return ip_network(name)
    except ValueError as error:
        raise InvalidLimit(
            f"trusted_proxies: expected networks, addresses and 'unix', got {short_repr(name)}; "
            f"write {_remedy(str(name))}"
        ) from error


def _remedy(name: str) -> str:
    """What to write instead of `name`, which is neither a network nor an address."""
    parts = [part.strip() for part in name.split(",")]
    with suppress(ValueError):
        # More bits than those of the network are set in it, or several networks are written as one.
        networks = [_without_host_bits(part) for part in parts]
        alone = f", or {name.partition('/')[0]!r} for this address alone" if parts == [name] else ""
        return f"{', '.join(map(repr, networks))}{alone}"
    if name == "localhost":
        return "'127.0.0.1' and '::1'"
    if address := _parsed(name.strip()):
        return f"the address without a port, {str(address)!r}"
    return (
        "the address of the proxy, such as '10.0.0.7', or its network, such as '172.16.0.0/12': names of hosts are not "
        "looked up"
    )


def _without_host_bits(network: str) -> str:
    """The network that `network` belongs to. Raises ValueError if it is neither a network nor an address."""
    return str(ip_network(network, strict=False)) if "/" in network else str(ip_address(network))
