"""What a token whose signature is right must say before anybody is believed to be someone. Pure.

A library that decodes tokens accepts what it was not told to refuse: no end, an end as text, no audience. So each claim
is looked at here, by its type first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.keys.validation import account_id, readable_text

_MAX_CHARACTERS = 128
_MOST_S = 2**53


class Owner(NamedTuple):
    """Whose keys may be managed, and who does it: a user may act for an account that is not named like them."""

    account_id: str
    actor: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What claims are held to."""

    issuer: str
    audience: str
    account_claim: str
    max_lifetime_s: int
    leeway_s: int


def owner_of(claims: Mapping[str, Any], rules: Rules, now_ms: int) -> Owner:
    """Who `claims` say that it is. Raises AccessRefused; 'expired' is said of a token that was good once, alone."""
    _require(claims.get("iss") == rules.issuer, f"it is another issuer's; iss must be {rules.issuer!r}")
    _require(
        rules.audience in _audiences(claims.get("aud")),
        f"it is for another audience; aud must be or contain {rules.audience!r}",
    )
    owner = _owner(claims, rules.account_claim)
    now_s = now_ms / 1000
    until_s = _moment(claims, "exp")
    if until_s is None:
        raise AccessRefused("invalid_access_token", "it has no end; exp is required")
    begins_s = [moment for moment in (_moment(claims, "iat"), _moment(claims, "nbf")) if moment is not None]
    _require(
        all(moment <= now_s + rules.leeway_s for moment in begins_s),
        "it is not good yet: iat or nbf is in the future; compare the clocks, or raise leeway_s",
    )
    # From its own beginning where it says one, and in any case from now.
    longest_s = max(until_s - moment for moment in [now_s, *begins_s])
    _require(
        longest_s <= rules.max_lifetime_s + rules.leeway_s,
        f"it lives longer than {rules.max_lifetime_s} s; issue tokens that expire sooner, or raise max_lifetime_s",
    )
    if now_s >= until_s + rules.leeway_s:
        raise AccessRefused("access_token_expired", "it has expired")
    return owner


def _owner(claims: Mapping[str, Any], account_claim: str) -> Owner:
    try:
        actor = readable_text(claims.get("sub"), field="sub", max_characters=_MAX_CHARACTERS)
        return Owner(account_id(claims.get(account_claim), field=account_claim), actor)
    except InvalidKeyRequest as error:
        raise AccessRefused(
            "invalid_access_token", f"its claim {error.field} is missing, or is not a valid id"
        ) from error


def _audiences(claim: object) -> list[object]:
    return claim if isinstance(claim, list) else [claim]


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """A time in seconds since the epoch (NumericDate of RFC 7519); None where it is not said."""
    if name not in claims:
        return None
    moment = claims[name]
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not abs(moment) < _MOST_S:
        raise AccessRefused("invalid_access_token", f"its claim {name} is not a time in seconds since 1970")
    return moment


def _require(held: object, otherwise: str) -> None:
    if not held:
        raise AccessRefused("invalid_access_token", otherwise)
