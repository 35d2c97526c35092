"""Who is calling: from a request to a `Caller`, None for nobody, or KeyRefused.

A key is read strictly: exactly one header, trimmed of spaces and tabs, 1 to 128 bytes of visible ASCII. A comma is
two headers that a server joined. Whatever else was sent is an invalid key, never nobody.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import Any, NamedTuple

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.errors import InvalidLimit, KeyRefused, KeyStoreUnavailable, TooManyWrongKeys
from awx_ratelimit.http.error_responses import KEY_CHALLENGE
from awx_ratelimit.http.header_values import MAX_BYTES
from awx_ratelimit.http.limit_headers import KEY_HEADER
from awx_ratelimit.http.message import Request

_MOST_BYTES = 128
#: How keys of a key store begin, unless they have another prefix.
_KEY_PREFIX = "awx_"
_is_key = re.compile(rb"[!-+\--~]{1,%d}" % _MOST_BYTES).fullmatch


def sent_key(request: Request) -> bytes | None:
    """The API key of the request, None where there is no header. Raises KeyRefused for what no key can be.

    Whether it has the letters of a key is not asked: the look-up of its digest finds no other.
    """
    _, _, _, values_of, _ = request
    values = values_of(KEY_HEADER)
    if len(values) == 1:
        (key,) = values
        if len(key) <= MAX_BYTES:
            key = key.strip(b" \t")
            if 0 < len(key) <= _MOST_BYTES:
                return key
    elif not values:
        return None
    raise KeyRefused


def sends_key(request: Request) -> bool:
    """Whether the request has something in the place of a key."""
    return bool(request.values(KEY_HEADER))


def _nobody_known(_: Request) -> None:
    return None


class Abilities(NamedTuple):
    """What an identifier can do beside identifying; see docs/identify.md. An identifier needs none of these.

    `known` gives the caller of a request if that takes no look-up, else None; it raises as the identifier does, and
    never waits. `was_known` says whether credentials were accepted before and need another look-up. `sends_key` says
    whether a request has something in the place of a key. `challenge` is the WWW-Authenticate of the 401s, None for
    one that follows from their code.
    """

    known: Callable[[Request], Caller | None]
    was_known: Callable[[Request], object]
    sends_key: Callable[[Request], object]
    challenge: str | None

    @classmethod
    def of(cls, identify: Any) -> "Abilities":
        """The abilities of `identify`. Raises TypeError for a `known` that has to be awaited."""
        known = getattr(identify, "known", _nobody_known)
        if inspect.iscoroutinefunction(known):
            raise TypeError("identify.known is async; write a plain method that returns a Caller or None at once")
        return cls(
            known,
            getattr(identify, "was_known", _nobody_known),
            getattr(identify, "sends_key", sends_key),
            getattr(identify, "challenge", None),
        )

    def is_known(self, request: Request) -> bool:
        """Whether the key of the request is known in memory, accepted or not, or was until it had to be looked up."""
        try:
            return isinstance(self.known(request), Caller) or bool(self.was_known(request))
        except KeyRefused as refusal:
            return not refusal.unknown
        except (KeyStoreUnavailable, TooManyWrongKeys):
            return False


class StaticKeys:
    """Keys that are known beforehand, each with the name of its plan or a Caller of its own.

    The subject of a key is made from its digest, so that no key is written where subjects go; the text of the keys
    is not kept. Raises TypeError for anything but a mapping of keys to names of plans or Callers, and InvalidLimit for
    a text that cannot be sent as a key.
    """

    #: The WWW-Authenticate of its 401s.
    challenge = KEY_CHALLENGE

    def __init__(self, keys: Mapping[str, str | Plan | Caller]) -> None:
        if isinstance(keys, str) or not isinstance(keys, Mapping):
            # Its type alone: it holds keys.
            raise TypeError(f'StaticKeys needs a mapping, not {type_name(keys)}; write StaticKeys({{key: "starter"}})')
        self._callers: dict[bytes, Caller] = {}
        for number, (key, who) in enumerate(keys.items(), start=1):
            if not isinstance(key, str):
                raise TypeError(f"StaticKeys: key {number} is {type_name(key)}; use a string")
            if not isinstance(who, str | Plan | Caller):
                raise TypeError(
                    f"StaticKeys: the value of key {number} is {describe(who)}; use a plan's name or a Caller"
                )
            text = key.encode("utf-8", "surrogatepass")
            if not _is_key(text):
                raise InvalidLimit(
                    f"StaticKeys: key {number} cannot be sent; "
                    "allowed are 1 to 128 visible ASCII characters but the comma"
                )
            digest = blake2s(text).digest()
            self._callers[digest] = who if isinstance(who, Caller) else Caller(f"key_{digest.hex()[:32]}", who)

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the key that was sent; None without one. Raises KeyRefused for any other key."""
        key = sent_key(request)
        if key is None:
            return None
        caller = self._callers.get(blake2s(key).digest())
        if caller is None:
            raise KeyRefused
        return caller

    def known(self, request: Request) -> Caller | None:
        """The same: every key is known in memory."""
        # Not self(request): a subclass may look up what is not among these.
        return StaticKeys.__call__(self, request)

    def check(self, plans: PlanTable) -> None:
        """Raise InvalidLimit for a caller whose plan is not in the table: a gate asks once, when it is made."""
        self.callers_plans(plans)

    def callers_plans(self, plans: PlanTable) -> set[Plan]:
        """The plans of the callers. Raises InvalidLimit as `check` does."""
        try:
            return {plans.resolve(caller) for caller in self._callers.values()}
        except InvalidLimit:
            swapped = self._swapped(plans)
            if swapped is None:
                raise
        # Not within the handler: the error of the table shows a key, and would be the context of this one.
        raise InvalidLimit(swapped)

    def _swapped(self, plans: PlanTable) -> str | None:
        """What to say where keys stand in the place of plans, without a key; None where they do not."""
        for plan in plans.plans:
            if blake2s(plan.name.encode("utf-8", "surrogatepass")).digest() in self._callers:
                return (
                    f"StaticKeys: the plan {plan.name!r} stands in the place of a key; "
                    f"write StaticKeys({{key: {plan.name!r}}})"
                )
        if any(str(caller.plan).startswith(_KEY_PREFIX) for caller in self._callers.values()):
            return 'StaticKeys: a key is where a plan is expected; write StaticKeys({key: "starter"})'
        return None
