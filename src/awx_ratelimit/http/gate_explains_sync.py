"""The part of a gate that explains what it would do with a request.

Generated from `gate_explains.py` by tools/generate_sync.py: change that module and run the program again.
"""

from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.errors import TooManyWrongKeys
from awx_ratelimit.http.explaining import EXPLAINED, Draft, GateParts
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.http.gate_charges_sync import Charges
from awx_ratelimit.http.identity.identifiers import Identify, checked_caller, checked_identify
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS
from awx_ratelimit.runtime.looking import quiet


class Explains(Charges):
    """Explains, without charging anything."""

    #: The limiter, the identifier and the plans.
    parts: GateParts

    def explain(self, request: Request, identify: Identify | None = None) -> Explanation:
        """Explain what `admit` would do with `request` now. Nothing is charged or counted, and no slot is taken.

        `identify` replaces the gate's own identifier, to explain the request of a caller whose key you do not have:
        ``lambda request: Caller("key_1", "starter")``. It may raise KeyRefused.

        Raises what functions of rules raise, such as `cost`, if they need more than `request` has.
        """
        draft = Draft(self._policy, request)
        try:
            with quiet():
                return self._explained(draft, request, identify)
        except EXPLAINED as error:
            return draft.failed(error)

    def identify_quietly(self, request: Request) -> Caller | None:
        """The caller that the gate's identifier finds. It does not count as a use of a key. Raises what that raises."""
        own = self.parts.identify
        identify = getattr(own, "identify_quietly", None) or checked_identify(own)
        caller: Caller | None = checked_caller(identify(request), request)
        return caller

    def _explained(self, draft: Draft, request: Request, identify: Identify | None) -> Explanation:
        if not draft.find_rule():
            return draft.passed()
        caller = self._explained_caller(request, identify)
        if not draft.identified(caller):
            return draft.passed()
        if identify is not None and request.client is not None:
            draft.unknown_keys_wait_ms = self._unknown_keys_wait_ms(self._policy.unknown_keys.subject_of(request))
        parts = draft.parts(caller)
        decisions = [self._limiter.peek_jointly(part.claim) for part in parts]
        return draft.decided(parts, decisions)

    def _explained_caller(self, request: Request, identify: Identify | None) -> Any:
        """The caller of a request; None for one without a key where it needs one."""
        if identify is None:
            self._check_throttled(request)
            caller = self.identify_quietly(request)
        else:
            caller = checked_caller(identify(request), request)
        return caller or self._policy.anonymous_caller(request)

    def _check_throttled(self, request: Request) -> None:
        """Raise TooManyWrongKeys if the address has sent too many unknown keys."""
        subject = self._policy.unknown_keys.subject_to_check(request)
        if subject is not None and (wait_ms := self._unknown_keys_wait_ms(subject)):
            raise TooManyWrongKeys(wait_ms)

    def _unknown_keys_wait_ms(self, subject: str) -> int:
        """How long an address must wait before its next unknown key is looked up; 0 if it need not wait."""
        decision = self._limiter.peek(subject, UNKNOWN_KEYS)
        return 0 if decision.allowed else decision.retry_after_ms
