"""The OpenAPI 3.1 document of the operator's API: its calls, their fields and all their status codes. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from awx_ratelimit.keys.models import ACTIONS
from awx_ratelimit.keys.operator_reports import ORDERS, STATUSES
from awx_ratelimit.keys.validation import MAX_PAGE_SIZE
from awx_ratelimit.management import openapi_fields as fields
from awx_ratelimit.management.openapi_explanation import explanation_schemas
from awx_ratelimit.management.openapi_fields import BY, COUNT, COUNTS, KEY_ID, TEXT, TIME, Schema, choice, integer, says
from awx_ratelimit.management.openapi_parts import (
    TIMES,
    array_of,
    call,
    document_of,
    list_of,
    object_of,
    pages,
    queries,
    reference,
    usage_history_call,
    usage_schemas,
)
from awx_ratelimit.management.operator_openapi_examples import EXAMPLES
from awx_ratelimit.management.operator_requests import PLAN_PATTERN

_ACCOUNT_ID: Final[Schema] = {"type": "string", "pattern": "^[!-~]{1,128}$"}
#: As it is written in a path. Clients remove ``.`` and ``..``, so no segment begins with a dot.
_SEGMENT: Final[Schema] = {"type": "string", "pattern": "^([!-\\-0-}]|~[012])([!-.0-}]|~[012]){0,127}$"}
_ACCOUNT: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The ID of an account, with `~0` for `~` and `~1` for `/`. A dot at its beginning is `~2`.",
    "schema": _SEGMENT,
}
_KEY: Final = says(KEY_ID, "The ID of one key, also of a revoked one. Without it, all keys count together.")
_OF_ALL_TIMES: Final = {
    **TIMES,
    "from": says(TIMES["from"], f"{TIMES['from']['description']} It is at most 31 days, or 48 hours, before the end."),
}
_FILTERS: Final = {
    "prefix": says(_ACCOUNT_ID, "The beginning of the IDs."),
    "plan": says({"type": "string", "pattern": PLAN_PATTERN}, "The name of their plan."),
    "status": says(choice(*STATUSES), "Their status."),
    "order": says(
        choice(*ORDERS),
        "By ID, or by requests or refusals in the time, most first. The last two list only accounts with requests.",
        default="id",
    ),
}
_EVENTS: Final = {
    "account": says(_ACCOUNT_ID, "The ID of an account."),
    "action": says(choice(*ACTIONS), "What was done."),
    "before": says(integer(1, 999_999_999), "The number of an event: only older ones."),
}
_ASKED: Final = {
    "path": says(TEXT | {"pattern": "^/[a-z0-9/_-]{0,200}$"}, "The path of the request, which begins with a slash."),
    "method": says(choice("GET", "POST", "PUT", "PATCH", "DELETE"), "Its method.", default="GET"),
    "key": says(KEY_ID, "The ID of its key, never the key itself. Without it, the request has no key."),
    "address": says(
        TEXT | {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
        "The IP address of the client that sends it. Without it, the client has no address.",
    ),
}
_OF_ACCOUNT: Final = ["account_not_found"]
_OF_KEY: Final = ["api_key_not_found"]


def document(base: str, plans: Sequence[str], has_gate: bool) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`. `plans` are the names of the plans."""
    paths, schemas = _paths(), _schemas(plans)
    if has_gate:
        summary = "What the gate would do with a request now; it charges nothing"
        parameters = queries(_ASKED, "path")
        paths["/explain"] = {"get": call("explain", summary, "Explanation", errors=_OF_KEY, parameters=parameters)}
        schemas |= explanation_schemas()
    description = "See and change the accounts of the service. It needs an operator's access token."
    return document_of(base, "Operator", description, paths, schemas, EXAMPLES)


def _paths() -> dict[str, Any]:
    of_all = queries(
        {**_OF_ALL_TIMES, "number": says(integer(1, MAX_PAGE_SIZE), "How many limits and accounts.", default=20)}
    )
    shadows = queries({"key": _KEY, **TIMES})

    def one(name: str, summary: str, reply: str | None = "Account", **more: Any) -> dict[str, Any]:
        return call(name, summary, reply, errors=_OF_ACCOUNT, **more)

    paths = {
        "": {"get": one("getAccount", "One account with its limits and keys", "AccountDetails",
                        parameters=queries(pages())),
             "patch": one("changeAccount", "Change the fields that you send, in one step", body="Changes")},
        "/override": {"put": one("setOverride", "Set limits that end by themselves", body="Override"),
                      "delete": one("endOverride", "End the temporary limits now", None, status=204)},
        "/suspend": {"post": one("suspendAccount", "Refuse all keys of the account", body="Nothing", required=False,
                                 is_limited=False)},
        "/resume": {"post": one("resumeAccount", "Accept its keys again", body="Nothing", required=False)},
        "/usage": {"get": one("getUsage", "What the account and its keys now use of their limits", "Usage",
                              parameters=queries(pages()))},
        "/usage/history": {"get": usage_history_call(_OF_ACCOUNT)},
        "/shadow-refusals": {"get": one("getShadowRefusals", "What limits in shadow would have refused", "Shadows",
                                        parameters=shadows)},
    }  # fmt: skip
    return {
        "/accounts": {"get": call("listAccounts", "Accounts, with their requests in a period of time", "Accounts",
                                  parameters=queries({**_FILTERS, **_OF_ALL_TIMES, **pages()}))},
        **{f"/accounts/{{id}}{path}": {"parameters": [_ACCOUNT], **calls} for path, calls in paths.items()},
        "/shadow-refusals": {"get": call("getAllShadowRefusals",
                                         "What limits in shadow would have refused, for all accounts",
                                         "AllShadows", parameters=of_all)},
        "/audit": {"get": call("getAudit", "The audit trail of all accounts, newest first", "Events",
                               parameters=queries({**_EVENTS, **pages()}))},
    }  # fmt: skip


def _schemas(plans: Sequence[str]) -> dict[str, Schema]:
    limits = {"oneOf": [array_of("Limit", "The limits."), {"type": "null"}]}
    times = {
        "by": says(BY, "The length of a period."),
        "from": says(TIME, "When the first period begins."),
        "to": says(TIME, "When the last period ends."),
    }
    requests = {
        "allowed": says(COUNT, "Its allowed requests in this time."),
        "refused": says(COUNT, "Its refused requests in this time."),
    }
    changes = {
        "plan": says({"enum": [*plans, None]}, "The name of its new plan. null: the default of the plan table."),
        "overrides": says(fields.OBJECT_OR_NULL, f"Its own limits, {fields.OVERRIDES_FORM}. null: none."),
        "max_keys": says(integer(0, 1_000_000), "How many keys it may have. It keeps those that it has."),
    }
    sent = {
        "overrides": says(fields.TEMPORARY["overrides"], "The limits. Send either these or `times`.", minProperties=1),
        "times": fields.TIMES_FACTOR,
        "until": says(fields.SENT_TIME, "When they end: a date or a time in UTC, in the next 3,650 days."),
    }
    details = {
        "limits": says(
            limits,
            "What applies to each key, and with `account.` to all of them. null: the table does not have its plan.",
        ),
        "keys": says(reference("ApiKeys"), "A page of its keys."),
    }
    shadows = says(COUNTS, "How many allowed requests each limit would have refused.")
    number = says(COUNT, "How often limits in shadow would have refused its requests.")
    return {
        **usage_schemas(),
        "Account": object_of(fields.ACCOUNT),
        "TemporaryOverride": object_of(fields.TEMPORARY),
        "AccountDetails": object_of({**fields.ACCOUNT, **details}),
        "AccountItem": object_of({**fields.ACCOUNT, **requests}),
        "Accounts": object_of({**times, **list_of("AccountItem", "The accounts.")["properties"]}),
        "ApiKeys": list_of("ApiKey", "The keys, newest first."),
        "Limit": object_of(fields.LIMIT),
        "Changes": object_of(changes, *changes) | {"minProperties": 1},
        "Override": object_of(sent, "overrides", "times")
        | {"oneOf": [{"required": ["overrides"]}, {"required": ["times"]}]},
        "Nothing": object_of({}),
        "Shadows": object_of({"limits": shadows}),
        "ShadowsOfAccount": object_of({"id": fields.ACCOUNT["id"], "number": number, "limits": shadows}),
        "AllShadows": object_of(
            {**times, "limits": shadows, "accounts": array_of("ShadowsOfAccount", "Those with most of them, first.")}
        ),
        "Event": object_of(fields.EVENT),
        "Events": list_of("Event", "The events, newest first."),
    }
