"""The part of a gate that explains what it would do with a request."""

from typing import Any

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.errors import TooManyWrongKeys
from awx_ratelimit.http.explaining import EXPLAINED, Draft, GateParts
from awx_ratelimit.http.explanation import Explanation
from awx_ratelimit.http.gate_charges import AsyncCharges
from awx_ratelimit.http.identity.identifiers import AsyncIdentify, async_checked_caller, async_checked_identify
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.unknown_keys import UNKNOWN_KEYS
from awx_ratelimit.runtime.looking import quiet


class AsyncExplains(AsyncCharges):
    """Explains, without charging anything."""

    #: The limiter, the identifier and the plans.
    parts: GateParts

    async def explain(self, request: Request, identify: AsyncIdentify | None = None) -> Explanation:
        """Explain what `admit` would do with `request` now. Nothing is charged or counted, and no slot is taken.

        `identify` replaces the gate's own identifier, to explain the request of a caller whose key you do not have:
        ``lambda request: Caller("key_1", "starter")``. It may raise KeyRefused.

        Raises what functions of rules raise, such as `cost`, if they need more than `request` has.
        """
        draft = Draft(self._policy, request)
        try:
            with quiet():
                return await self._explained(draft, request, identify)
        except EXPLAINED as error:
            return draft.failed(error)

    async def identify_quietly(self, request: Request) -> Caller | None:
        """The caller that the gate's identifier finds. It does not count as a use of a key. Raises what that raises."""
        own = self.parts.identify
        identify = getattr(own, "identify_quietly_async", None) or async_checked_identify(own)
        caller: Caller | None = await async_checked_caller(identify(request), request)
        return caller

    async def _explained(self, draft: Draft, request: Request, identify: AsyncIdentify | None) -> Explanation:
        if not draft.find_rule():
            return draft.passed()
        caller = await self._explained_caller(request, identify)
        if not draft.identified(caller):
            return draft.passed()
        if identify is not None and request.client is not None:
            draft.unknown_keys_wait_ms = await self._unknown_keys_wait_ms(self._policy.unknown_keys.subject_of(request))
        parts = draft.parts(caller)
        decisions = [await self._limiter.peek_jointly(part.claim) for part in parts]
        return draft.decided(parts, decisions)

    async def _explained_caller(self, request: Request, identify: AsyncIdentify | None) -> Any:
        """The caller of a request; None for one without a key where it needs one."""
        if identify is None:
            await self._check_throttled(request)
            caller = await self.identify_quietly(request)
        else:
            caller = await async_checked_caller(identify(request), request)
        return caller or self._policy.anonymous_caller(request)

    async def _check_throttled(self, request: Request) -> None:
        """Raise TooManyWrongKeys if the address has sent too many unknown keys."""
        subject = self._policy.unknown_keys.subject_to_check(request)
        if subject is not None and (wait_ms := await self._unknown_keys_wait_ms(subject)):
            raise TooManyWrongKeys(wait_ms)

    async def _unknown_keys_wait_ms(self, subject: str) -> int:
        """How long an address must wait before its next unknown key is looked up; 0 if it need not wait."""
        decision = await self._limiter.peek(subject, UNKNOWN_KEYS)
        return 0 if decision.allowed else decision.retry_after_ms
