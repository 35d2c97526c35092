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
_KEY: Final = says(
    KEY_ID, "The ID of one key, which may be revoked. Without it, the response covers all keys together."
)
_OF_ALL_TIMES: Final = {
    **TIMES,
    "from": says(
        TIMES["from"], f"{TIMES['from']['description']} At most 31 days, or 48 hours with `by=hour`, before the end."
    ),
}
_FILTERS: Final = {
    "prefix": says(_ACCOUNT_ID, "Return only accounts whose ID begins with this text."),
    "plan": says({"type": "string", "pattern": PLAN_PATTERN}, "Return only accounts with this plan."),
    "status": says(choice(*STATUSES), "Return only accounts with this status."),
    "order": says(
        choice(*ORDERS),
        "Sort by ID, or by requests or refusals, highest first. The last two leave out accounts without requests.",
        default="id",
    ),
}
_EVENTS: Final = {
    "account": says(_ACCOUNT_ID, "Return only events of the account with this ID."),
    "action": says(choice(*ACTIONS), "Return only events with this action."),
    "before": says(integer(1, 999_999_999), "Return only events before the one with this number."),
}
_ASKED: Final = {
    "path": says(TEXT | {"pattern": "^/[a-z0-9/_-]{0,200}$"}, "The path of the request, which begins with a slash."),
    "method": says(choice("GET", "POST", "PUT", "PATCH", "DELETE"), "The method of the request.", default="GET"),
    "key": says(
        KEY_ID, "The ID of the key that the request has, never the key itself. Without it, the request has no key."
    ),
    "address": says(
        TEXT | {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
        "The IP address of the client that sends it. Without it, the client has no address.",
    ),
}
_KEY_IN_PATH: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The ID of a key of any account.",
    "schema": KEY_ID,
}
_SHOWN: Final = {
    "key": says(
        TEXT | {"pattern": "^([a-z0-9_]{0,32}\\.{3}[0-9A-Za-z]{4}|key_[0-9A-Za-z]{16})$"},
        "What is shown of a key: `awx_...x4f2`, `...x4f2` for any prefix, or its ID. Never the key itself.",
    )
}
_OF_ACCOUNT: Final = ["account_not_found"]
_OF_KEY: Final = ["api_key_not_found"]


def document(base: str, plans: Sequence[str], has_gate: bool) -> dict[str, Any]:
    """Return the document of an API whose paths begin with `base`. `plans` are the names of the plans."""
    paths, schemas = _paths(), _schemas(plans)
    if has_gate:
        summary = "What the gate would do with a request now. Nothing is charged"
        parameters = queries(_ASKED, "path")
        paths["/explain"] = {"get": call("explain", summary, "Explanation", errors=_OF_KEY, parameters=parameters)}
        schemas |= explanation_schemas()
    description = "See and change the accounts of the service. It needs an operator's access token."
    return document_of(base, "Operator", description, paths, schemas, EXAMPLES)


def _paths() -> dict[str, Any]:
    of_all = queries(
        {
            **_OF_ALL_TIMES,
            "number": says(
                integer(1, MAX_PAGE_SIZE), "The maximum number of limits and of accounts in the response.", default=20
            ),
        }
    )
    shadows = queries({"key": _KEY, **TIMES})

    def one(name: str, summary: str, reply: str | None = "Account", **more: Any) -> dict[str, Any]:
        return call(name, summary, reply, errors=_OF_ACCOUNT, **more)

    paths = {
        "": {"get": one("getAccount", "One account with its limits and keys", "AccountDetails",
                        parameters=queries(pages())),
             "patch": one("changeAccount", "Change the fields that you send, in one step", body="Changes")},
        "/override": {"put": one("setOverride", "Set temporary limits, which end by themselves", body="Override"),
                      "delete": one("endOverride", "End the temporary limits now", None, status=204)},
        "/suspend": {"post": one("suspendAccount", "Refuse all keys of the account", body="Nothing", required=False,
                                 is_limited=False)},
        "/resume": {"post": one("resumeAccount", "Accept the account's keys again", body="Nothing", required=False)},
        "/usage": {"get": one("getUsage", "What the account and its keys use of their limits now", "Usage",
                              parameters=queries(pages()))},
        "/usage/history": {"get": usage_history_call(_OF_ACCOUNT)},
        "/shadow-refusals": {"get": one("getShadowRefusals", "What shadow limits would have refused", "Shadows",
                                        parameters=shadows)},
    }  # fmt: skip
    return {
        "/accounts": {"get": call("listAccounts", "Accounts, and their requests in a range of time", "Accounts",
                                  parameters=queries({**_FILTERS, **_OF_ALL_TIMES, **pages()}))},
        **{f"/accounts/{{id}}{path}": {"parameters": [_ACCOUNT], **calls} for path, calls in paths.items()},
        "/shadow-refusals": {"get": call("getAllShadowRefusals",
                                         "What shadow limits would have refused, for all accounts",
                                         "AllShadows", parameters=of_all)},
        "/audit": {"get": call("getAudit", "The audit trail of all accounts, newest first", "Events",
                               parameters=queries({**_EVENTS, **pages()}))},
        "/api-keys": {"get": call("findKeys", "The keys of all accounts that are shown like this, up to 100",
                                  "FoundKeys", parameters=queries(_SHOWN, "key"))},
        "/api-keys/{id}": {"parameters": [_KEY_IN_PATH],
                           "delete": call("revokeKey", "Revoke a key of any account", None, status=204, errors=_OF_KEY,
                                          is_limited=False)},
        "/reset": {"post": call("resetUsage", "Reset what is counted for a subject. Requests in flight stay counted",
                                "WasReset", body="Reset", errors=_OF_KEY)},
    }  # fmt: skip


def _schemas(plans: Sequence[str]) -> dict[str, Schema]:
    limits = {"oneOf": [array_of("Limit", "The limits."), {"type": "null"}]}
    times = {
        "by": says(BY, "The length of a period."),
        "from": says(TIME, "When the first period begins."),
        "to": says(TIME, "When the last period ends."),
    }
    requests = {
        "allowed": says(COUNT, "The number of its allowed requests in this range."),
        "refused": says(COUNT, "The number of its refused requests in this range."),
    }
    changes = {
        "plan": says(
            {"enum": [*plans, None]}, "The name of the new plan. null restores the default plan of the plan table."
        ),
        "overrides": says(
            fields.OBJECT_OR_NULL, f"Limits of this account alone, {fields.OVERRIDES_FORM}. null removes them."
        ),
        "max_keys": says(integer(0, 1_000_000), "The maximum number of keys. Existing keys are kept."),
    }
    sent = {
        "overrides": says(
            fields.TEMPORARY["overrides"], "The temporary limits. Send either these or `times`.", minProperties=1
        ),
        "times": fields.TIMES_FACTOR,
        "until": says(fields.SENT_TIME, "When the limits end: a date or a time in UTC, at most 3,650 days from now."),
    }
    details = {
        "limits": says(
            limits,
            "The limits of each key, and with `account.` those of all keys together. null: the table lacks its plan.",
        ),
        "keys": says(reference("ApiKeys"), "A page of its keys."),
    }
    shadows = says(COUNTS, "How many allowed requests each limit would have refused.")
    number = says(COUNT, "How many times shadow limits would have refused its requests.")
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
            {
                **times,
                "limits": shadows,
                "accounts": array_of("ShadowsOfAccount", "The accounts with the most of them first."),
            }
        ),
        "FoundKey": object_of(fields.FOUND_KEY),
        "FoundKeys": object_of({"data": array_of("FoundKey", "The keys, by account, newest first.")}),
        "Reset": object_of(fields.RESET, "scope"),
        "WasReset": object_of(fields.WAS_RESET),
        "Event": object_of(fields.EVENT),
        "Events": list_of("Event", "The events, newest first."),
    }
