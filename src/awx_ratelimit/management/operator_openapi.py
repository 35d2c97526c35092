"""The OpenAPI 3.1 document of the operator's API: its calls, their fields and all their status codes. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from awx_ratelimit.core.limit_schema import MAX_TIMES
from awx_ratelimit.keys.models import ACTIONS
from awx_ratelimit.keys.operator_reports import ORDERS, STATUSES
from awx_ratelimit.keys.validation import MAX_PAGE_SIZE
from awx_ratelimit.management.openapi_parts import (
    BY,
    COUNT,
    COUNTS,
    KEY_ID,
    SENT_TIME,
    TEXT,
    TIME,
    Schema,
    array_of,
    call,
    choice,
    document_of,
    integer,
    list_of,
    object_of,
    pages,
    queries,
    reference,
    usage_history_call,
    usage_schemas,
)
from awx_ratelimit.management.operator_requests import PLAN_PATTERN

_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_NUMBER: Final[Schema] = {"type": "integer"}
_FLAG: Final[Schema] = {"type": "boolean"}
_ACCOUNT_ID: Final[Schema] = {"type": "string", "pattern": "^[!-~]{1,128}$"}
#: As it is written in a path. Clients remove ``.`` and ``..``, so no segment begins with a dot.
_SEGMENT: Final[Schema] = {"type": "string", "pattern": "^([!-\\-0-}]|~[012])([!-.0-}]|~[012]){0,127}$"}
_PLAN: Final[Schema] = {"type": "string", "pattern": PLAN_PATTERN}
_MAX_KEYS: Final = integer(0, 1_000_000)
_MAX_SENT_NUMBER: Final = 999_999_999
_OF_ACCOUNT: Final = ["account_not_found"]
_OF_KEY: Final = ["api_key_not_found"]
_TIMES: Final = {"from": SENT_TIME, "to": SENT_TIME, "by": BY}


def document(base: str, plans: Sequence[str], has_gate: bool) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`. `plans` are the names of the plans."""
    paths, schemas = _paths(), _schemas(plans)
    if has_gate:
        asked = {"method": choice("GET", "POST", "PUT", "PATCH", "DELETE"), "key": KEY_ID}
        schema = TEXT | {"pattern": "^/[a-z0-9/_-]{0,200}$"}
        path: Schema = {"name": "path", "in": "query", "required": True, "schema": schema}
        summary = "What the gate would do with a request now; it charges nothing"
        parameters = [*queries(asked), path]
        paths["/explain"] = {"get": call("explain", summary, "Explanation", errors=_OF_KEY, parameters=parameters)}
        schemas["Explanation"] = {"type": "object", "required": ["method", "path", "outcome"]}
    description = "See and change the accounts of the service. It needs an operator's access token."
    return document_of(base, "Operator", description, paths, schemas)


def _paths() -> dict[str, Any]:
    account: Schema = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id, with ~0 for ~ and ~1 for /. A dot at its beginning is ~2.",
        "schema": _SEGMENT,
    }
    filters = {"prefix": _ACCOUNT_ID, "plan": _PLAN, "status": choice(*STATUSES), "order": choice(*ORDERS)}
    of_all = [*queries({**_TIMES, "number": integer(1, MAX_PAGE_SIZE)})]
    events = {"account": _ACCOUNT_ID, "action": choice(*ACTIONS), "before": integer(1, _MAX_SENT_NUMBER)}

    def one(name: str, summary: str, reply: str | None = "Account", **more: Any) -> dict[str, Any]:
        return call(name, summary, reply, errors=_OF_ACCOUNT, **more)

    paths = {
        "": {"get": one("getAccount", "One account with its limits and keys", "AccountDetails", parameters=pages()),
             "patch": one("changeAccount", "Change what is given, in one step", body="Changes")},
        "/override": {"put": one("setOverride", "Set limits that end by themselves", body="Override"),
                      "delete": one("endOverride", "End the temporary limits now", None, status=204)},
        "/suspend": {"post": one("suspendAccount", "Refuse all keys of the account", body="Nothing", required=False,
                                 is_limited=False)},
        "/resume": {"post": one("resumeAccount", "Accept its keys again", body="Nothing", required=False)},
        "/usage": {"get": one("getUsage", "What the account and its keys use now", "Usage", parameters=pages())},
        "/usage/history": {"get": usage_history_call(_OF_ACCOUNT)},
        "/shadow-refusals": {"get": one("getShadowRefusals", "What limits in shadow would have refused", "Shadows",
                                        parameters=queries({"key": KEY_ID, **_TIMES}))},
    }  # fmt: skip
    return {
        "/accounts": {"get": call("listAccounts", "Accounts, with their requests in a time", "Accounts",
                                  parameters=[*queries({**filters, **_TIMES}), *pages()])},
        **{f"/accounts/{{id}}{path}": {"parameters": [account], **calls} for path, calls in paths.items()},
        "/shadow-refusals": {"get": call("getAllShadowRefusals", "What limits in shadow would have refused of all",
                                         "AllShadows", parameters=of_all)},
        "/audit": {"get": call("getAudit", "The audit trail of all accounts, newest first", "Events",
                               parameters=[*queries(events), *pages()])},
    }  # fmt: skip


def _schemas(plans: Sequence[str]) -> dict[str, Schema]:
    any_object: Schema = {"type": "object"}
    object_or_null: Schema = {"type": ["object", "null"]}
    override = object_of({"overrides": any_object, "until": TIME})
    account = {
        "id": TEXT, "plan": _TEXT_OR_NULL, "overrides": object_or_null,
        "temporary_override": {"oneOf": [override, {"type": "null"}]}, "status": choice(*STATUSES), "max_keys": COUNT,
        "created_at": TIME,
    }  # fmt: skip
    limits = {"oneOf": [array_of("Limit"), {"type": "null"}]}
    times = {"by": BY, "from": TIME, "to": TIME}
    event = {"number": COUNT, "account_id": TEXT, "key_id": _TEXT_OR_NULL, "action": TEXT, "actor": _TEXT_OR_NULL,
             "at": TIME, "details": any_object}  # fmt: skip
    changes = {"plan": {"enum": [*plans, None]}, "overrides": object_or_null, "max_keys": _MAX_KEYS}
    times_number: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMES}
    sent = {"overrides": any_object | {"minProperties": 1}, "times": times_number, "until": SENT_TIME}
    return {
        **usage_schemas(),
        "Account": object_of(account),
        "AccountDetails": object_of({**account, "limits": limits, "keys": reference("ApiKeys")}),
        "AccountItem": object_of({**account, "allowed": COUNT, "refused": COUNT}),
        "Accounts": _report("AccountItem", times),
        "ApiKeys": list_of("ApiKey"),
        "Limit": object_of({"name": TEXT, "measure": TEXT, "limit": COUNT, "burst": COUNT, "shadow": _FLAG}),
        "Changes": object_of(changes, *changes) | {"minProperties": 1},
        "Override": object_of(sent, "overrides", "times")
        | {"oneOf": [{"required": ["overrides"]}, {"required": ["times"]}]},
        "Nothing": object_of({}),
        "Shadows": object_of({"limits": COUNTS}),
        "ShadowsOfAccount": object_of({"id": TEXT, "number": COUNT, "limits": COUNTS}),
        "AllShadows": object_of({**times, "limits": COUNTS, "accounts": array_of("ShadowsOfAccount")}),
        "Event": object_of(event),
        "Events": list_of("Event"),
    }


def _report(schema: str, times: Schema) -> Schema:
    return object_of({**times, "data": array_of(schema), "total": COUNT, "has_more": _FLAG})
