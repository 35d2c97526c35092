"""`ClientAddress`: identifies callers by their address alone, with or without a key."""

from collections.abc import Iterable

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.client_address import FORWARDED_FOR, ClientAddresses
from awx_ratelimit.http.message import Request


class ClientAddress:
    """An `identify` for either gate: every client is a caller, by its address.

    `plan` is a Plan, the name of one, or None for the default of the gate's table. The other arguments are the
    gate's: the proxies that may report the address, the header in which they do, and the bits of an IPv6 address that
    tell clients apart. Raises InvalidLimit for a wrong one.
    """

    def __init__(
        self,
        plan: str | Plan | None = None,
        *,
        trusted_proxies: Iterable[str] = (),
        address_header: str = FORWARDED_FOR,
        ipv6_prefix: int = 64,
    ) -> None:
        #: The plan of every client.
        self.plan = plan
        self._subject = ClientAddresses(trusted_proxies, address_header, ipv6_prefix).subject

    def __call__(self, request: Request) -> Caller:
        """The caller for the address of `request`."""
        return Caller(self._subject(request), self.plan)

    def sends_key(self, _: Request) -> bool:
        """False: no request has a key that could be wrong."""
        return False
