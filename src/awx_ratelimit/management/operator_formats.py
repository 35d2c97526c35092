"""The JSON of limits, keys, pages and reports in the replies of the operator's API."""

from typing import Any

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import CONCURRENT, Rate
from awx_ratelimit.keys.models import ApiKey, Page, TracedKey, utc_datetime
from awx_ratelimit.keys.operator_reports import ShadowRefusals
from awx_ratelimit.keys.usage_range import Range
from awx_ratelimit.management import formats
from awx_ratelimit.management.usage import SLOTS
from awx_ratelimit.runtime.clock import rfc3339


def limits_json(plan: Plan | None) -> list[dict[str, Any]] | None:
    """Return the limits of each key and, with the prefix ``account.``, those that all keys share. None: no plan."""
    if plan is None:
        return None
    shared = [] if plan.account is None else _limits_json(plan.account, "account.")
    return [*_limits_json(plan, ""), *shared]


def keys_json(page: Page[ApiKey]) -> dict[str, Any]:
    """Return a page of the keys of an account."""
    return page_json([formats.key_json(key) for key in page.items], page)


def found_key_json(found: TracedKey) -> dict[str, Any]:
    """Return a key as an operator finds it."""
    key = found.key
    revoked_at = None if found.revoked_at is None else rfc3339(found.revoked_at)
    expires_at = None if key.expires_at is None else rfc3339(key.expires_at)
    state = {"status": found.state, "expires_at": expires_at, "revoked_at": revoked_at}
    return {"account_id": key.account_id, "subject": key.family_id, **formats.key_json(key), **state}


def page_json(data: list[dict[str, Any]], page: Page[Any]) -> dict[str, Any]:
    """Return a page."""
    return {"data": data, "total": page.total, "has_more": page.has_more}


def times_json(times: Range) -> dict[str, Any]:
    """Return the time of a report."""
    begins_at, ends_at = (rfc3339(utc_datetime(at_ms)) for at_ms in (times.begins_ms, times.ends_ms))
    return {"by": times.by, "from": begins_at, "to": ends_at}


def shadow_refusals_json(found: ShadowRefusals) -> dict[str, Any]:
    """Return what shadow limits would have refused."""
    accounts = [{"id": one.account_id, "number": one.number, "limits": one.limits} for one in found.accounts]
    return {"limits": dict(found.limits), "accounts": accounts}


def _limits_json(plan: Plan, prefix: str) -> list[dict[str, Any]]:
    limits = [_rate_json(rate, plan, prefix) for rate in plan.rates]
    if plan.concurrency is not None:
        shadow = plan.shadow or plan.concurrency.shadow
        slots = plan.concurrency.slots
        limits.append(_limit_json(f"{prefix}{CONCURRENT}", SLOTS, slots, slots, shadow=shadow))
    return limits


def _rate_json(rate: Rate, plan: Plan, prefix: str) -> dict[str, Any]:
    return _limit_json(prefix + rate.name, rate.measure, rate.tokens, rate.burst, shadow=plan.shadow or rate.shadow)


def _limit_json(name: str, measure: str, limit: int, burst: int, *, shadow: bool) -> dict[str, Any]:
    return {"name": name, "measure": measure, "limit": limit, "burst": burst, "shadow": shadow}
