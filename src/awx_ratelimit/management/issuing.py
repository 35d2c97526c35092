"""`KeyIssuer`: creates and rotates keys, with a rate limit per account. The REST API and the console use it."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from awx_ratelimit.core.claim import check_plan
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.models import CreatedKey
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.management.auth.tokens import Owner
from awx_ratelimit.management.blocking_limiter import BlockingLimiter


class IssuedKey(NamedTuple):
    """The decision of the rate limit, and the key if the decision allows it."""

    decision: Decision
    created: CreatedKey | None


def checked_service(keys: Any) -> KeyService:
    """Return `keys` if it is a KeyService; otherwise raise TypeError."""
    if isinstance(keys, type) or not hasattr(keys, "rotate"):
        raise TypeError(
            f"keys: expected a KeyService, got {type_name(keys)}; write KeyService(KeyStore.open('keys.db'))"
        )
    return cast(KeyService, keys)


class KeyIssuer:
    """Creates and rotates keys, within the plan `creations` for each account.

    The first key of an unknown account also creates the account, on `new_account_plan`. Errors of KeyService and
    BackendUnavailable reach the caller. Raises InvalidLimit if `creations` has concurrent slots.
    """

    def __init__(
        self, keys: KeyService, limiter: BlockingLimiter, creations: Plan, new_account_plan: str | None
    ) -> None:
        self._keys = keys
        self._limiter = limiter
        self._creations = rates_only("creations", creations)
        self._new_account_plan = new_account_plan

    def create(self, owner: Owner, **fields: Any) -> IssuedKey:
        """Create a key. `fields` are arguments of `KeyService.create`."""
        account_id, actor = owner

        def create() -> CreatedKey:
            self._keys.accounts.ensure(account_id, plan=self._new_account_plan, actor=actor)
            return self._keys.create(account_id, actor=actor, **fields)

        return self._issue(account_id, create)

    def rotate(self, owner: Owner, key_id: str, **fields: Any) -> IssuedKey:
        """Create the successor of a key. `fields` are arguments of `KeyService.rotate`."""
        account_id, actor = owner
        return self._issue(account_id, lambda: self._keys.rotate(account_id, key_id, actor=actor, **fields))

    def _issue(self, account_id: str, create: Callable[[], CreatedKey]) -> IssuedKey:
        decision = self._limiter.acquire(f"api-keys:{account_id}", self._creations)
        return IssuedKey(decision, create() if decision.allowed else None)


def rates_only(field: str, plan: Plan) -> Plan:
    """Return `plan` if it has only rates. Raises InvalidLimit if it has concurrent slots."""
    check_plan(plan)
    # Nobody releases these slots, so after as many calls as there are slots every call would be refused.
    if plan.concurrency is not None:
        raise InvalidLimit(f"{field}: expected a plan with rates only, but {plan.name!r} has concurrent slots")
    return plan
