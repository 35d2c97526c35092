"""`ManagementApi`: the REST API to create, list, rename, rotate and revoke API keys.

Requests need an access token. An API key is not enough, because a leaked key must not create more keys. An account sees
only its own keys: ids of other accounts, revoked keys and unknown ids all get the same 404.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import AccountNotFound
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.message import FullRequest, Reply
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management import formats, openapi
from awx_ratelimit.management.auth.tokens import AccessTokens, Owner
from awx_ratelimit.management.dispatch import Dispatcher, limited
from awx_ratelimit.management.limits import (
    CUSTOMER_CALLS,
    BlockingLimiter,
    IssuedKey,
    KeyIssuer,
    checked_service,
    rates_only,
)
from awx_ratelimit.management.routing import RESOURCES, Action, Match
from awx_ratelimit.management.usage import live_usage
from awx_ratelimit.management.usage_history import HistoryRequest

#: The default limit on creations and rotations per account.
CREATIONS: Final = Plan.of("key-creations", per_minute=10)
#: The default limit on other calls per account, except revocations.
CALLS: Final = Plan.of("key-calls", per_minute=120)
_LIMITED_ACTIONS: Final[frozenset[Action]] = frozenset(("list", "get", "rename", "usage", "usage_history"))


class _AuthorizedRequest(NamedTuple):
    """A request with the owner from its access token."""

    owner: Owner
    key_id: str
    full_request: FullRequest

    def numbers(self, *allowed: str) -> dict[str, int]:
        """Return the numbers in the query."""
        return formats.numbers(self.full_request.query, allowed)

    def fields(self, *allowed: str, required: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fields of the body. The query must be empty."""
        self.numbers()
        return formats.fields(self.full_request, allowed, required)


class ManagementApi:
    """Handles full requests for `AsgiApp` and `WsgiApp`, and blocks. Paths begin with `base`.

    Give it the gate's `limiter` and `plans`: ``/usage`` reports from them. The limiter also enforces the plans
    `creations` (for creations and rotations) and `calls` (for the rest) per account. Revocations are never limited,
    because they may be needed to stop a flood. The first key of an unknown account creates the account on the plan
    `new_account_plan`; None means the table's default. An AsyncLimiter works only with `AsgiApp`. Raises InvalidLimit
    if `creations` or `calls` has concurrent slots, and if `plans` has no plan `new_account_plan`.
    """

    def __init__(
        self,
        keys: KeyService,
        tokens: AccessTokens,
        *,
        limiter: Limiter | AsyncLimiter,
        plans: PlanTable,
        base: str = "/api/v1",
        new_account_plan: str | None = None,
        creations: Plan = CREATIONS,
        calls: Plan = CALLS,
    ) -> None:
        if not hasattr(tokens, "owner") or isinstance(tokens, type):
            raise TypeError(
                f"tokens: expected AccessTokens, got {type_name(tokens)}; "
                "write ManagementApi(KeyService(store), AccessTokens(...), ...)"
            )
        self._keys = checked_service(keys)
        self._owner = tokens.owner
        self._limiter = BlockingLimiter(limiter)
        #: Whether calls must come from a thread that `AsgiApp` has started.
        self.needs_loop = self._limiter.needs_loop
        self._plans = checked_plans(plans)
        self._base = base.rstrip("/")
        self._dispatch = Dispatcher(self._base, RESOURCES, self._handle, lambda: self.document)
        self._issuer = KeyIssuer(keys, self._limiter, self._plans, creations, new_account_plan)
        self._calls = rates_only("calls", calls)
        self._handlers: dict[Action, Callable[[_AuthorizedRequest], Reply]] = {
            "list": self._list,
            "create": self._create,
            "get": self._get,
            "rename": self._rename,
            "revoke": self._revoke,
            "rotate": self._rotate,
            "usage": self._usage,
            "usage_history": self._usage_history,
        }

    def __call__(self, full_request: FullRequest) -> Reply:
        """Return the reply. Never raises for anything a client sends, nor for an unavailable store or backend."""
        return self._dispatch(full_request)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document, also served at ``/openapi.json``."""
        return openapi.document(self._base)

    def _handle(self, action: Action, match: Match[Action], full_request: FullRequest) -> Reply:
        request = _AuthorizedRequest(self._owner(full_request.request), match.key_id, full_request)
        handler = self._handlers[action]
        if action not in _LIMITED_ACTIONS:
            return handler(request)
        subject = f"{CUSTOMER_CALLS}{request.owner.account_id}"
        return limited(self._limiter, subject, self._calls, lambda: handler(request))

    def _list(self, request: _AuthorizedRequest) -> Reply:
        keys, page_fields = self._requested_keys(request)
        return error_responses.document(HTTPStatus.OK, {"data": [formats.key_json(key) for key in keys], **page_fields})

    def _usage(self, request: _AuthorizedRequest) -> Reply:
        keys, page_fields = self._requested_keys(request)
        try:
            account = self._keys.accounts.get(request.owner.account_id)
        except AccountNotFound:
            # Its first key will create it.
            return error_responses.document(HTTPStatus.OK, {"data": [], **page_fields})
        shared, usages = live_usage(account, keys, self._plans, self._limiter.peek_many)
        account_fields = {} if shared is None else {"account": {"limits": [formats.limit_json(one) for one in shared]}}
        data = [formats.usage_json(usage) for usage in usages]
        return error_responses.document(HTTPStatus.OK, {**account_fields, "data": data, **page_fields})

    def _usage_history(self, request: _AuthorizedRequest) -> Reply:
        asked = HistoryRequest.of(request.full_request)
        return asked.reply(self._keys.usage.history(request.owner.account_id, **asked.arguments))

    def _requested_keys(self, request: _AuthorizedRequest) -> tuple[Sequence[ApiKey], dict[str, Any]]:
        """Return the keys of the account, or of the requested page with the fields that describe the page."""
        numbers = request.numbers("page_num", "page_size")
        if not numbers:
            return self._keys.all(request.owner.account_id), {}
        page = self._keys.list(request.owner.account_id, **numbers)
        return page.items, {"total": page.total, "has_more": page.has_more}

    def _get(self, request: _AuthorizedRequest) -> Reply:
        request.numbers()
        return error_responses.document(
            HTTPStatus.OK, formats.key_json(self._keys.get(request.owner.account_id, request.key_id))
        )

    def _rename(self, request: _AuthorizedRequest) -> Reply:
        account_id, actor = request.owner
        name = request.fields("name", required=["name"])["name"]
        return error_responses.document(
            HTTPStatus.OK, formats.key_json(self._keys.rename(account_id, request.key_id, name, actor=actor))
        )

    def _revoke(self, request: _AuthorizedRequest) -> Reply:
        account_id, actor = request.owner
        request.numbers()
        # Revocations are not limited, so look first: an unknown id must not cost a lock.
        self._keys.get(account_id, request.key_id)
        self._keys.revoke(account_id, request.key_id, actor=actor)
        return error_responses.no_content()

    def _create(self, request: _AuthorizedRequest) -> Reply:
        fields = request.fields("name", "expires_in_days", required=["name"])
        return _created_reply(self._issuer.create(request.owner, **fields))

    def _rotate(self, request: _AuthorizedRequest) -> Reply:
        fields = request.fields("grace_period_seconds")
        return _created_reply(self._issuer.rotate(request.owner, request.key_id, **fields))


def _created_reply(issued: IssuedKey) -> Reply:
    """Return the 201 with the new key, or the 429."""
    if issued.created is None:
        return limit_headers.refusal(issued.decision)
    return error_responses.document(
        HTTPStatus.CREATED, formats.created_key_json(issued.created), limit_headers.headers(issued.decision)
    )
