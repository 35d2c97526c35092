"""The limit on unknown API keys: an address that sends too many gets a 429 before its next key is looked up.

The limiter counts the unknown keys of each address. This module only remembers which addresses have sent one in the
last minute, so that requests from all others skip the check.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.http.identity.identifiers import IdentifierHooks
from awx_ratelimit.http.message import Request

#: How many unknown keys an address may send.
UNKNOWN_KEYS = Plan.of("unknown-keys", per_minute=20)
_MAX_ADDRESSES = 10_000
#: UNKNOWN_KEYS is full again after this time.
_REFILL_S = 60.0


class UnknownKeys:
    """The addresses that have sent unknown keys lately, at most 10,000. The oldest one is dropped first.

    `address_subject` returns the subject of a request's client address. `hooks` say whether a request has a key, and
    whether that key is known without a look-up.
    """

    def __init__(self, hooks: IdentifierHooks, address_subject: Callable[[Request], str]) -> None:
        self._hooks = hooks
        self._address_subject = address_subject
        #: The subject of each address, with the time of its last unknown key in seconds. Least recent first.
        self.addresses: OrderedDict[str, float] = OrderedDict()

    def subject_to_check(self, request: Request) -> str | None:
        """The subject to check against UNKNOWN_KEYS before the key is looked up; None if no check is needed.

        Requests without a key, with a known key, or from an address without recent unknown keys need none.
        """
        if not self._hooks.sends_key(request):
            return None
        subject = self.subject_of(request)
        last_s = self.addresses.get(subject)
        if last_s is None:
            return None
        if monotonic() - last_s > _REFILL_S:
            # For known keys the limiter is never asked, so `forget_if_full` would not run.
            self.addresses.pop(subject, None)
            return None
        return None if self._hooks.is_known(request) else subject

    def record(self, request: Request) -> str:
        """Remember the address of a request with an unknown key. Returns the subject to charge."""
        subject = self.subject_of(request)
        self.addresses.pop(subject, None)
        self.addresses[subject] = monotonic()
        while len(self.addresses) > _MAX_ADDRESSES:
            self.addresses.popitem(last=False)
        return subject

    def forget_if_full(self, decision: Decision) -> None:
        """Forget the address of `decision` if its bucket is full again."""
        if decision.usages[0].reset_after_ms == 0:
            self.addresses.pop(decision.subject, None)

    def subject_of(self, request: Request) -> str:
        """The subject to which unknown keys from the request's address are charged."""
        # Different from the address's own subject, which the plan for anonymous callers charges.
        return f"unknown-keys:{self._address_subject(request)}"
