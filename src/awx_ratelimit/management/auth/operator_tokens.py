"""`OperatorTokens`: verifies the JWTs of the operators of the service."""

from collections.abc import Mapping, Sequence
from typing import Any

from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import AccessRefused, InvalidKeyRequest
from awx_ratelimit.http.message import Request
from awx_ratelimit.keys.format import PREFIX
from awx_ratelimit.keys.validation import readable_text
from awx_ratelimit.management.auth.jwks import Jwks
from awx_ratelimit.management.auth.tokens import MAX_OPERATOR_CHARACTERS, OPERATOR_PREFIX, OPERATOR_SCOPE, AccessTokens
from awx_ratelimit.runtime.clock import Clock


class OperatorTokens:
    """Verifies access tokens for the `OperatorApi`. It takes the arguments of AccessTokens.

    A token needs the scope ``awx:operator`` among the words of its claim ``scope``, and `audience` as its only
    audience: choose one that no customer's token has. So a customer's token is never accepted here. An AccessTokens
    refuses each token with that scope, so an operator's token is never accepted by the customers' API, whatever its
    audience. ``sub`` is the actor in the audit trail, after ``operator:``.

    Raises InvalidKeyRequest for an invalid configuration.
    """

    def __init__(
        self,
        key: str | bytes | Mapping[str, Any] | Jwks,
        *,
        algorithms: Sequence[str],
        issuer: str,
        audience: str,
        max_lifetime_s: int = 3_600,
        leeway_s: int = 10,
        prefix: str = PREFIX,
        clock: Clock | None = None,
    ) -> None:
        self._audience = audience
        self._tokens = AccessTokens(
            key,
            algorithms=algorithms,
            issuer=issuer,
            audience=audience,
            max_lifetime_s=max_lifetime_s,
            leeway_s=leeway_s,
            prefix=prefix,
            clock=clock,
        )

    def operator(self, request: Request) -> str:
        """Return the actor of the request, such as ``operator:ada``. Raises AccessRefused, SigningKeysUnavailable."""
        return self._tokens.authorized(request, self._actor)

    def _actor(self, token: bytes) -> str:
        claims = self._tokens.any_claims_of(token)
        if claims["aud"] not in (self._audience, [self._audience]):
            raise AccessRefused("invalid_access_token", "it is for other audiences too")
        scope = claims.get("scope")
        if not isinstance(scope, str) or OPERATOR_SCOPE not in scope.split(" "):
            raise AccessRefused("invalid_access_token", f"its claim scope has no {OPERATOR_SCOPE!r}")
        try:
            name = readable_text(claims.get("sub"), field="sub", max_characters=MAX_OPERATOR_CHARACTERS)
        except InvalidKeyRequest as error:
            raise AccessRefused("invalid_access_token", "its claim sub is missing or not a valid id") from error
        return OPERATOR_PREFIX + name


def checked_operator_tokens(tokens: object) -> OperatorTokens:
    """Return `tokens` if it is an OperatorTokens; an AccessTokens is for customers. Raises TypeError."""
    if not isinstance(tokens, OperatorTokens):
        raise TypeError(
            f"tokens: expected OperatorTokens, got {describe(tokens)}; "
            "write OperatorApi(keys, OperatorTokens(...), ...): tokens of customers must not work here"
        )
    return tokens
