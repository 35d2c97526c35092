"""`ManagementApi`: create, list, rename, rotate and revoke API keys over HTTP, from a whole request to a reply.

Who asks is said by an access token, and never by an API key: a key that leaked must not make more keys. An account sees
its own keys alone; ids of others, revoked and unknown ones are the same 404.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import (
    AccessRefused,
    BackendUnavailable,
    InvalidLimit,
    KeyNotFound,
    KeyRequestRefused,
    KeyStoreUnavailable,
    SigningKeysUnavailable,
)
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.message import FullRequest, Reply
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.models import ApiKey
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management import openapi, request_parsing, serializers
from awx_ratelimit.management.auth.claims import Owner
from awx_ratelimit.management.auth.tokens import AccessTokens
from awx_ratelimit.management.blocking_limiter import BlockingLimiter
from awx_ratelimit.management.issuing import IssuedKey, KeyIssuer, checked_service, rates_only
from awx_ratelimit.management.routing import RESOURCES, Action, Match, Router
from awx_ratelimit.management.usage import live_usage

_log = logging.getLogger("awx_ratelimit.management")
#: How many keys an account may make in a minute, by creating and by rotating.
CREATIONS: Final = Plan.of("key-creations", per_minute=10)
#: How often it may read and rename them.
CALLS: Final = Plan.of("key-calls", per_minute=120)
_COUNTED: Final[frozenset[Action]] = frozenset(("list", "get", "rename", "usage"))


class _Asked(NamedTuple):
    """A request whose owner is known."""

    owner: Owner
    key_id: str
    whole: FullRequest

    def numbers(self, *allowed: str) -> dict[str, int]:
        """What the query gives."""
        return request_parsing.numbers(self.whole.query, allowed)

    def fields(self, *allowed: str, required: Sequence[str] = ()) -> dict[str, Any]:
        """What the body gives; nothing may stand in the query then."""
        self.numbers()
        return request_parsing.fields(self.whole, allowed, required)


class ManagementApi:
    """Answers whole requests, for `AsgiApp` and `WsgiApp`; it blocks. Paths are whole, and begin with `base`.

    `limiter` and `plans` are the gate's: ``/usage`` shows what they say, and `creations` (rotations among them) and
    other `calls` are counted there, by account. To revoke is never refused: it may be what ends a flood. An account
    that is not known yet is made with its first key, on the plan `new_account_plan` (None: the default of the table).
    An AsyncLimiter can be asked by `AsgiApp` alone. Raises InvalidLimit for a plan of calls that has slots.
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
                f"tokens is {type_name(tokens)}; write ManagementApi(KeyService(store), AccessTokens(...), ...)"
            )
        self._keys = checked_service(keys)
        self._owner = tokens.owner
        self._deciding = BlockingLimiter(limiter)
        #: Whether it has to be called from a thread of an event loop.
        self.needs_loop = self._deciding.needs_loop
        self._plans = checked_plans(plans)
        self._base = base.rstrip("/")
        self._log = SampledLog(_log, interval_s=1.0)
        self._routes = Router(self._base, RESOURCES)
        self._making = KeyIssuer(keys, self._deciding, creations, new_account_plan)
        self._calls = rates_only("calls", calls)
        self._acts: dict[Action, Callable[[_Asked], Reply]] = {
            "list": self._list,
            "create": self._create,
            "get": self._get,
            "rename": self._rename,
            "revoke": self._revoke,
            "rotate": self._rotate,
            "usage": self._usage,
        }

    def __call__(self, whole: FullRequest) -> Reply:
        """The answer. It never raises for what a client sends, nor for a store or a backend without an answer."""
        method, path, _, _, _ = whole.request
        found = self._routes.find(method, path)
        if found is None:
            return error_responses.failure("not_found")
        if found.action is None:
            allow = [(b"allow", ", ".join(found.allowed_methods).encode())]
            return (
                error_responses.no_content(allow)
                if method == "OPTIONS"
                else error_responses.failure("method_not_allowed", None, allow)
            )
        if found.action == "document":
            return error_responses.document(HTTPStatus.OK, self.document)
        return self._answer(found.action, found, whole)

    @cached_property
    def document(self) -> dict[str, Any]:
        """Its OpenAPI document, which it also serves."""
        return openapi.document(self._base)

    def _answer(self, act: Action, found: Match[Action], whole: FullRequest) -> Reply:
        try:
            asked = _Asked(self._owner(whole.request), found.key_id, whole)
            return self._counted(act, asked) if act in _COUNTED else self._acts[act](asked)
        except AccessRefused as error:
            return error_responses.failure(error.code)
        except KeyRequestRefused as error:
            return error_responses.failure(error.code, None if isinstance(error, KeyNotFound) else _sentence(error))
        except (KeyStoreUnavailable, SigningKeysUnavailable) as error:
            code = error.code
            self._log.write(logging.ERROR, code, "%s: %s", code, error)
        except (BackendUnavailable, InvalidLimit) as error:
            code = "rate_limiter_unavailable"
            self._log.write(logging.ERROR, code, "%s: %s", code, error)
        return error_responses.failure(code)

    def _counted(self, act: Action, asked: _Asked) -> Reply:
        """The answer to a call that makes no key, where there were not too many."""
        try:
            decision = self._deciding.acquire(f"api-key-calls:{asked.owner.account_id}", self._calls)
        except BackendUnavailable:
            # What only reads goes on without a decision.
            return self._acts[act](asked)
        if not decision.allowed:
            return limit_headers.refusal(decision)
        reply = self._acts[act](asked)
        return reply._replace(headers=[*reply.headers, *limit_headers.headers(decision)])

    def _list(self, asked: _Asked) -> Reply:
        keys, more = self._chosen(asked)
        return error_responses.document(HTTPStatus.OK, {"data": [serializers.item(key) for key in keys], **more})

    def _usage(self, asked: _Asked) -> Reply:
        keys, more = self._chosen(asked)
        used = []
        if keys:
            account = self._keys.accounts.get(asked.owner.account_id)
            used = live_usage(account, keys, self._plans, self._deciding.peek_many)
        return error_responses.document(HTTPStatus.OK, {"data": [serializers.usage(usage) for usage in used], **more})

    def _chosen(self, asked: _Asked) -> tuple[Sequence[ApiKey], dict[str, Any]]:
        """All keys of the account, or the page that was asked for and what is said of it."""
        numbers = asked.numbers("page_num", "page_size")
        if not numbers:
            return self._keys.all(asked.owner.account_id), {}
        page = self._keys.list(asked.owner.account_id, **numbers)
        return page.items, {"total": page.total, "has_more": page.has_more}

    def _get(self, asked: _Asked) -> Reply:
        asked.numbers()
        return error_responses.document(
            HTTPStatus.OK, serializers.item(self._keys.get(asked.owner.account_id, asked.key_id))
        )

    def _rename(self, asked: _Asked) -> Reply:
        account_id, actor = asked.owner
        name = asked.fields("name", required=["name"])["name"]
        return error_responses.document(
            HTTPStatus.OK, serializers.item(self._keys.rename(account_id, asked.key_id, name, actor=actor))
        )

    def _revoke(self, asked: _Asked) -> Reply:
        account_id, actor = asked.owner
        asked.numbers()
        # As nobody counts this, what is not there must take no lock for it.
        self._keys.get(account_id, asked.key_id)
        self._keys.revoke(account_id, asked.key_id, actor=actor)
        return error_responses.no_content()

    def _create(self, asked: _Asked) -> Reply:
        fields = asked.fields("name", "expires_in_days", required=["name"])
        return _told(self._making.create(asked.owner, **fields))

    def _rotate(self, asked: _Asked) -> Reply:
        fields = asked.fields("grace_period_seconds")
        return _told(self._making.rotate(asked.owner, asked.key_id, **fields))


def _told(made: IssuedKey) -> Reply:
    """A new key, where the account has not just made many."""
    if made.created is None:
        return limit_headers.refusal(made.decision)
    return error_responses.document(
        HTTPStatus.CREATED, serializers.created(made.created), limit_headers.headers(made.decision)
    )


def _sentence(error: KeyRequestRefused) -> str:
    text = str(error)
    return f"{text}." if error.field else f"{text[0].upper()}{text[1:]}."
