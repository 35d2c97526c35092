"""Checks of the claims of a token whose signature is valid. Pure.

JWT libraries accept everything that they are not configured to refuse: no expiry, an expiry as text, no audience. So
this module checks each claim itself, beginning with its type.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.keys.validation import account_id, readable_text

_MAX_CHARACTERS = 128
_MAX_TIME_S = 2**53


class Owner(NamedTuple):
    """The account whose keys may be managed, and the user who does it. Their ids may differ."""

    account_id: str
    actor: str


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """The required values of claims."""

    issuer: str
    audience: str
    account_claim: str
    max_lifetime_s: int
    leeway_s: int


def owner_of(claims: Mapping[str, Any], rules: ClaimRules, now_ms: int) -> Owner:
    """Return the owner in `claims`. Raises AccessRefused; only a token that was valid once is reported as expired."""
    _require(claims.get("iss") == rules.issuer, f"its issuer is wrong; iss must be {rules.issuer!r}")
    _require(
        rules.audience in _audiences(claims.get("aud")),
        f"its audience is wrong; aud must be or contain {rules.audience!r}",
    )
    owner = _owner(claims, rules.account_claim)
    now_s = now_ms / 1000
    until_s = _time_claim(claims, "exp")
    if until_s is None:
        raise AccessRefused("invalid_access_token", "it has no expiry; exp is required")
    begins_s = [time_s for time_s in (_time_claim(claims, "iat"), _time_claim(claims, "nbf")) if time_s is not None]
    _require(
        all(time_s <= now_s + rules.leeway_s for time_s in begins_s),
        "it is not valid yet: iat or nbf is in the future; check the clocks, or increase leeway_s",
    )
    # The lifetime from iat or nbf, if there is one, and always from now.
    longest_s = max(until_s - time_s for time_s in [now_s, *begins_s])
    _require(
        longest_s <= rules.max_lifetime_s + rules.leeway_s,
        f"its lifetime exceeds {rules.max_lifetime_s} s; issue tokens that expire sooner, or raise max_lifetime_s",
    )
    if now_s >= until_s + rules.leeway_s:
        raise AccessRefused("access_token_expired", "it has expired")
    return owner


def _owner(claims: Mapping[str, Any], account_claim: str) -> Owner:
    try:
        actor = readable_text(claims.get("sub"), field="sub", max_characters=_MAX_CHARACTERS)
        return Owner(account_id(claims.get(account_claim), field=account_claim), actor)
    except InvalidKeyRequest as error:
        raise AccessRefused("invalid_access_token", f"its claim {error.field} is missing or not a valid id") from error


def _audiences(claim: object) -> list[object]:
    return claim if isinstance(claim, list) else [claim]


def _time_claim(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a time in seconds since the epoch (NumericDate of RFC 7519), or None if the claim is missing."""
    if name not in claims:
        return None
    time_s = claims[name]
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not abs(time_s) < _MAX_TIME_S:
        raise AccessRefused("invalid_access_token", f"its claim {name} is not a time in seconds since 1970")
    return time_s


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise AccessRefused("invalid_access_token", reason)
