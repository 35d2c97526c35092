"""`StaticKeys`: identifies callers by API keys that are configured in the program."""

import re
from collections.abc import Mapping
from hashlib import blake2s

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import check_bool, describe, type_name
from awx_ratelimit.errors import InvalidLimit, KeyRefused
from awx_ratelimit.http.error_responses import KEY_CHALLENGE
from awx_ratelimit.http.identity.identifiers import (
    MAX_KEY_BYTES,
    BearerKeys,
    FindCaller,
    key_finders,
    sends_key,
    sent_key,
)
from awx_ratelimit.http.message import Request

#: The prefix of keys from a key store, unless it is configured otherwise.
_KEY_PREFIX = "awx_"
_is_key = re.compile(rb"[!-+\--~]{1,%d}" % MAX_KEY_BYTES).fullmatch


def subject_of(key: bytes) -> str:
    """The subject of a key: derived from its digest, so no key appears in logs or backends."""
    return f"key_{blake2s(key).hexdigest()[:32]}"


class StaticKeys:
    """Identifies callers by a fixed mapping of API keys. Each value is the name of a plan, a Plan or a Caller.

    Keys come in ``X-API-Key``; with `bearer` also as ``Authorization: Bearer <key>``, and then anything else in its
    place is an unknown key. A request with two keys is refused. Only digests of the keys are kept. The subject of a key
    is derived from its digest, so no key appears in logs or backends.

    Raises TypeError for an argument of the wrong type, and InvalidLimit for a key that no header can carry and for a
    `bearer` that is not True or False.
    """

    #: The WWW-Authenticate header of the 401s.
    challenge = KEY_CHALLENGE

    def __init__(self, keys: Mapping[str, str | Plan | Caller], *, bearer: bool = False) -> None:
        if isinstance(keys, str) or not isinstance(keys, Mapping):
            # Shows only the type, because the value holds keys.
            raise TypeError(
                f'StaticKeys: expected a mapping such as {{key: "starter"}}, got {type_name(keys)}; '
                "for the keys of a store, write identify=StoredKeys(verifier)"
            )
        check_bool(bearer, "bearer")
        #: Whether keys are also read from the Authorization header.
        self.accepts_bearer = bearer
        self._sent_key = sent_key
        #: Whether a request has something in the place of a key.
        self.sends_key = sends_key
        if bearer:
            bearer_keys = BearerKeys("")
            self._sent_key, self.sends_key = bearer_keys.sent_key, bearer_keys.sends_key
        self._callers: dict[bytes, Caller] = {}
        for number, (key, value) in enumerate(keys.items(), start=1):
            if not isinstance(key, str):
                raise TypeError(f"StaticKeys: key {number}: expected a string, got {type_name(key)}")
            if not isinstance(value, str | Plan | Caller):
                raise TypeError(
                    f"StaticKeys: the value of key {number}: expected a plan's name or a Caller, got {describe(value)}"
                )
            text = key.encode("utf-8", "surrogatepass")
            if not _is_key(text):
                raise InvalidLimit(
                    f"StaticKeys: key {number}: expected 1 to 128 visible ASCII characters except the comma"
                )
            caller = value if isinstance(value, Caller) else Caller(subject_of(text), value)
            self._callers[blake2s(text).digest()] = caller

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the request's key, None without a key. Raises KeyRefused for an unknown key."""
        key = self._sent_key(request)
        if key is None:
            return None
        caller = self._callers.get(blake2s(key).digest())
        if caller is None:
            raise KeyRefused
        return caller

    def known(self, request: Request) -> Caller | None:
        """As a call. All keys are in memory, so every key is known without a look-up."""
        # Not self(request): a subclass may look up other keys.
        return StaticKeys.__call__(self, request)

    def memory_finders(self) -> Mapping[bytes, FindCaller]:
        """See `finders_of`."""
        return key_finders(self.caller_of, bearer=self.accepts_bearer)

    def caller_plans(self, plans: PlanTable) -> set[Plan]:
        """The plans of the callers. Raises InvalidLimit for a plan that is not in the table. Gates call it once."""
        resolved: set[Plan] = set()
        for number, caller in enumerate(self._callers.values(), start=1):
            try:
                resolved.add(plans.resolve(caller))
            except InvalidLimit as error:
                reason = self._swap_error(plans) or f"StaticKeys: key {number}: {str(error).removeprefix('caller: ')}"
            else:
                continue
            # Raised outside the handler, because the table's error may show a key and would become the context.
            raise InvalidLimit(reason)
        return resolved

    @property
    def callers(self) -> tuple[Caller, ...]:
        """The callers, in the order of the keys."""
        return tuple(self._callers.values())

    def callers_without_account(self) -> list[Caller]:
        """The callers that share the limits of an account with nobody. Gates call it once."""
        return [caller for caller in self._callers.values() if caller.account is None]

    def caller_of(self, key: bytes) -> Caller | None:
        """The caller of a key, None for an unknown one."""
        return self._callers.get(blake2s(key).digest()) if len(key) <= MAX_KEY_BYTES else None

    def _swap_error(self, plans: PlanTable) -> str | None:
        """The error if keys and plans were swapped, without any key in it; None if they were not."""
        for plan in plans.plans:
            if blake2s(plan.name.encode("utf-8", "surrogatepass")).digest() in self._callers:
                return f"StaticKeys: expected a key, got the plan {plan.name!r}; write {{key: {plan.name!r}}}"
        if any(str(caller.plan).startswith(_KEY_PREFIX) for caller in self._callers.values()):
            return 'StaticKeys: expected a plan, got a key; write {key: "starter"}'
        return None
