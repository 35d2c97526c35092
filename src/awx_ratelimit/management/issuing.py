"""`KeyIssuer`: new keys of an account, where it has not just made many. For the REST API, and for pages."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from awx_ratelimit.core.claim import check_plan
from awx_ratelimit.core.decision import Decision
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.keys.models import CreatedKey
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.management.auth.claims import Owner
from awx_ratelimit.management.blocking_limiter import BlockingLimiter


class IssuedKey(NamedTuple):
    """The decision of the limit on new keys, and the key where it was allowed."""

    decision: Decision
    created: CreatedKey | None


def checked_service(keys: Any) -> KeyService:
    """`keys`, if it is a KeyService; else TypeError."""
    if isinstance(keys, type) or not hasattr(keys, "rotate"):
        raise TypeError(f"keys is {type_name(keys)}; write KeyService(KeyStore.open('keys.db'))")
    return cast(KeyService, keys)


class KeyIssuer:
    """Creates and rotates, at most as often as `creations` says of an account, whoever serves it.

    An account that is not known yet is made with its first key, on `new_account_plan`. What KeyService raises, and
    BackendUnavailable, goes through. Raises InvalidLimit for a plan that has slots.
    """

    def __init__(
        self, keys: KeyService, limiter: BlockingLimiter, creations: Plan, new_account_plan: str | None
    ) -> None:
        self._keys = keys
        self._limiter = limiter
        self._creations = rates_only("creations", creations)
        self._new_account_plan = new_account_plan

    def create(self, owner: Owner, **fields: Any) -> IssuedKey:
        """A new key: `fields` are those of `KeyService.create`."""
        account_id, actor = owner

        def create() -> CreatedKey:
            self._keys.accounts.ensure(account_id, plan=self._new_account_plan, actor=actor)
            return self._keys.create(account_id, actor=actor, **fields)

        return self._made(account_id, create)

    def rotate(self, owner: Owner, key_id: str, **fields: Any) -> IssuedKey:
        """The successor of a key: `fields` are those of `KeyService.rotate`."""
        account_id, actor = owner
        return self._made(account_id, lambda: self._keys.rotate(account_id, key_id, actor=actor, **fields))

    def _made(self, account_id: str, make: Callable[[], CreatedKey]) -> IssuedKey:
        decision = self._limiter.acquire(f"api-keys:{account_id}", self._creations)
        return IssuedKey(decision, make() if decision.allowed else None)


def rates_only(field: str, plan: Plan) -> Plan:
    """`plan`, of calls that hold nothing. Raises InvalidLimit for one that has slots."""
    check_plan(plan)
    # A slot that nobody gives back is lost: after as many calls as there are slots no other would be answered.
    if plan.concurrency is not None:
        raise InvalidLimit(f"{field}: the plan {plan.name!r} has slots; allowed are rates alone")
    return plan
