"""`OperatorApi`: the REST API by which the operator of the service sees and changes all accounts.

It is no part of the customers' API: it has its own base, its own tokens and its own document. Customers' tokens are
refused here, and operators' tokens there.
"""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.errors import ImpossibleRequest, InvalidKeyRequest, InvalidLimit
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.explain import AnyGate, explain_path
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.known_callers import no_such_key
from awx_ratelimit.http.message import FullRequest, Reply
from awx_ratelimit.http.resetting import reset_usage
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.json_fields import account_fields, event_fields
from awx_ratelimit.keys.models import Account
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management import formats, operator_formats, operator_openapi
from awx_ratelimit.management.auth.operator_tokens import OperatorTokens, checked_operator_tokens
from awx_ratelimit.management.dispatch import Dispatcher, limited
from awx_ratelimit.management.limits import OPERATOR_CALLS, BlockingLimiter, checked_service, rates_only
from awx_ratelimit.management.operator_requests import PAGE, TIMES, OperatorRequest
from awx_ratelimit.management.routing import OPERATOR_RESOURCES, Match, OperatorAction
from awx_ratelimit.management.usage import live_usage
from awx_ratelimit.management.usage_history import HistoryRequest

#: The default limit on calls per operator, except suspensions and revocations.
CALLS: Final = Plan.of("operator-calls", per_minute=300)
#: They may be needed to stop a flood.
_NEVER_LIMITED: Final = ("suspend", "revoke_key")
_log = logging.getLogger("awx_ratelimit.management")


class OperatorApi:
    """Handles full requests for `AsgiApp` and `WsgiApp`, and blocks. Paths begin with `base`.

    Give it the `limiter` and the `plans` of your gate, and the gate itself for ``/explain``. The limiter also enforces
    the plan `calls` for each operator. Suspensions and revocations are never limited, because they may be needed to
    stop a flood. With an AsyncLimiter or an AsyncGate it works only with `AsgiApp`.

    Raises TypeError for tokens that are not OperatorTokens, and InvalidLimit if `calls` has concurrent slots.
    """

    def __init__(
        self,
        keys: KeyService,
        tokens: OperatorTokens,
        *,
        limiter: Limiter | AsyncLimiter,
        plans: PlanTable,
        gate: AnyGate | None = None,
        base: str = "/api/v1/operator",
        calls: Plan = CALLS,
    ) -> None:
        self._operator = checked_operator_tokens(tokens).operator
        self._keys = checked_service(keys)
        self._limiter = BlockingLimiter(limiter)
        self._plans = checked_plans(plans)
        self._accounts = keys.accounts.checked_by(self._resolve)
        self._gate = gate
        #: Whether calls must come from a thread that `AsgiApp` has started.
        self.needs_loop = self._limiter.needs_loop or isinstance(gate, AsyncGate)
        self._base = base.rstrip("/")
        self._calls = rates_only("calls", calls)
        resources = [one for one in OPERATOR_RESOURCES if gate is not None or one[0] != "/explain"]
        self._dispatch = Dispatcher(self._base, resources, self._handle)
        self._handlers: dict[OperatorAction, Callable[[OperatorRequest], Mapping[str, Any] | Reply]] = {
            "accounts": self._list,
            "account": self._get,
            "change": self._change,
            "override": self._override,
            "end_override": self._end_override,
            "suspend": self._suspend,
            "resume": self._resume,
            "usage": self._usage,
            "usage_history": self._usage_history,
            "shadow_refusals": self._shadow_refusals,
            "all_shadow_refusals": self._all_shadow_refusals,
            "audit": self._audit,
            "find_keys": self._find_keys,
            "revoke_key": self._revoke_key,
            "reset": self._reset,
            "explain": self._explain,
            # Not without a token: it names the plans.
            "document": lambda _: self.document,
        }

    def __call__(self, full_request: FullRequest) -> Reply:
        """Return the reply. Never raises for anything a client sends, nor for an unavailable store or backend."""
        return self._dispatch(full_request)

    @property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document, also served to operators at ``/openapi.json``."""
        return operator_openapi.document(self._base, [plan.name for plan in self._plans.plans], self._gate is not None)

    def _handle(self, action: OperatorAction, match: Match[OperatorAction], full_request: FullRequest) -> Reply:
        request = OperatorRequest(self._operator(full_request.request), match.key_id, full_request)

        def handle() -> Reply:
            result = self._handlers[action](request)
            return result if isinstance(result, Reply) else error_responses.document(HTTPStatus.OK, result)

        if action in _NEVER_LIMITED:
            return handle()
        return limited(self._limiter, f"{OPERATOR_CALLS}{request.actor}", self._calls, handle)

    def _list(self, request: OperatorRequest) -> Mapping[str, Any]:
        asked = request.query("prefix", "plan", "status", "order", *TIMES, numbers=PAGE)
        page = self._keys.operator.accounts(**asked)
        data = [{**account_fields(one.account), "allowed": one.allowed, "refused": one.refused} for one in page.items]
        return {**self._times(asked), **operator_formats.page_json(data, page)}

    def _get(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        keys = self._keys.list(account.id, **request.query(numbers=PAGE))
        try:
            plan = self._resolve(account.plan, account.current_overrides)
        except InvalidLimit:
            # Its requests are a 503 until the operator gives it a plan, so show the account.
            plan = None
        limits = operator_formats.limits_json(plan)
        return {**account_fields(account), "limits": limits, "keys": operator_formats.keys_json(keys)}

    def _change(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        return _changed(self._accounts.change(account.id, **request.changes(), actor=request.actor))

    def _override(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        return _changed(self._accounts.override(account.id, **request.override(), actor=request.actor))

    def _end_override(self, request: OperatorRequest) -> Reply:
        account = self._accounts.get(request.account_id)
        request.query()
        self._accounts.end_override(account.id, actor=request.actor)
        return error_responses.no_content()

    def _suspend(self, request: OperatorRequest) -> Mapping[str, Any]:
        # Suspensions are not limited, so look first: an unknown id must not cost a lock.
        account = self._accounts.get(request.account_id)
        request.nothing()
        return _changed(self._accounts.suspend(account.id, actor=request.actor))

    def _resume(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        request.nothing()
        return _changed(self._accounts.activate(account.id, actor=request.actor))

    def _usage(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        page = self._keys.list(account.id, **request.query(numbers=PAGE))
        shared, usages = live_usage(account, page.items, self._plans, self._limiter.peek_many)
        of_account = {} if shared is None else {"account": {"limits": [formats.limit_json(one) for one in shared]}}
        return {**of_account, **operator_formats.page_json([formats.usage_json(one) for one in usages], page)}

    def _usage_history(self, request: OperatorRequest) -> Reply:
        account = self._accounts.get(request.account_id)
        asked = HistoryRequest.of(request.full_request)
        return asked.reply(self._keys.usage.history(account.id, **asked.arguments))

    def _shadow_refusals(self, request: OperatorRequest) -> Mapping[str, Any]:
        account = self._accounts.get(request.account_id)
        asked = request.query("key", *TIMES)
        key_id = asked.pop("key", None)
        return {"limits": self._keys.usage.shadow_refusals(account.id, key_id=key_id, **asked)}

    def _all_shadow_refusals(self, request: OperatorRequest) -> Mapping[str, Any]:
        asked = request.query(*TIMES, numbers=["number"])
        found = self._keys.operator.shadow_refusals(**asked)
        return {**self._times(asked), **operator_formats.shadow_refusals_json(found)}

    def _audit(self, request: OperatorRequest) -> Mapping[str, Any]:
        asked = request.query("account", "action", numbers=["before", *PAGE])
        page = self._keys.operator.events(account_id=asked.pop("account", None), **asked)
        return operator_formats.page_json([event_fields(event) for event in page.items], page)

    def _find_keys(self, request: OperatorRequest) -> Mapping[str, Any]:
        asked = request.query("key")
        if "key" not in asked:
            raise InvalidKeyRequest("is missing", remedy="this field is required", field="key")
        found = self._keys.operator.keys.shown_as(asked["key"])
        return {"data": [operator_formats.found_key_json(one) for one in found]}

    def _revoke_key(self, request: OperatorRequest) -> Reply:
        request.query()
        key_id = request.segment
        # Revocations are not limited, so look first: an unknown id must not cost a lock.
        caller = self._keys.operator.caller_of(key_id)
        if caller is None or caller.account is None:
            raise no_such_key(key_id)
        self._keys.revoke(caller.account, key_id, actor=request.actor)
        return error_responses.no_content()

    def _reset(self, request: OperatorRequest) -> Mapping[str, Any]:
        subject, scope = request.reset(self._keys.finder)
        done = reset_usage(
            lambda counted: self._limiter.reset(counted, scope), subject, scope, keys=self._keys, actor=request.actor
        )
        if done.was_counted and not done.is_recorded:
            where = "in all scopes" if scope is None else f"in the scope {scope}"
            _log.warning("%s has reset the usage of %r %s", request.actor, done.counted, where)
        return {"subject": done.counted, "scope": scope, "was_counted": done.was_counted}

    def _explain(self, request: OperatorRequest) -> Mapping[str, Any]:
        asked = request.query("method", "path", "key", "address")
        if "path" not in asked:
            raise InvalidKeyRequest("is missing", remedy="this field is required", field="path")
        key_id = asked.get("key")
        find_caller = None if key_id is None else lambda: self._accounts.caller(key_id)
        assert self._gate is not None  # without a gate there is no such resource
        try:
            explained = explain_path(
                self._gate, asked.get("method", "GET"), asked["path"], find_caller, asked.get("address")
            )
        except ImpossibleRequest as error:
            if str(error).startswith("address: "):
                raise InvalidKeyRequest(
                    "not an address", remedy="expected one such as 192.0.2.1", field="address"
                ) from error
            remedy = "expected a method and a path for which the gate's rules need neither headers nor a body"
            raise InvalidKeyRequest("cannot be explained", remedy=remedy, field="path") from error
        return explained.fields()

    def _times(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        times = {name: value for name, value in asked.items() if name in ("from_", "to", "by")}
        return operator_formats.times_json(self._keys.operator.times(**times))

    def _resolve(self, plan: str | None, overrides: Mapping[str, Any] | None) -> Plan:
        return self._plans.resolve(Caller("check", plan, overrides=overrides))


def _changed(account: Account) -> Mapping[str, Any]:
    return account_fields(account)
