"""`JwtSubject`: identifies callers by the JWT that they send as ``Authorization: Bearer``.

A verified token is kept until it expires, so that its next request costs a digest and not a signature.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from hashlib import blake2s
from typing import Any, ClassVar, Final

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import AccessRefused, KeyRefused, KeyStoreUnavailable, SigningKeysUnavailable
from awx_ratelimit.http.message import Request
from awx_ratelimit.management.auth.tokens import AccessTokens, bearer_token
from awx_ratelimit.runtime.event_loops import ThreadPool

_MAX_TOKENS: Final = 10_000
_MAX_CHARACTERS: Final = 128
_THREADS: Final = 8


class JwtSubject:
    """An `identify` for either gate: the caller is the subject of a JWT that `tokens` accepts.

    The subject, the account and the plan are the claims `subject_claim`, `account_claim` and `plan_claim`; None leaves
    the account or the plan out, and the gate's table has the default plan. A token without the subject is not accepted,
    nor one whose subject is empty, unprintable or longer than 128 characters. On an event loop a token is verified in a
    thread, unless it was verified before. 10,000 tokens are kept, as digests.

    A call raises KeyRefused for a token that is not accepted, and KeyStoreUnavailable (the gate answers 503) if the
    keys of a JWKS cannot be loaded. Raises TypeError for a `tokens` that is not an AccessTokens.
    """

    #: The WWW-Authenticate header of the 401s.
    challenge = 'Bearer realm="api"'
    #: On an event loop, verifications need asyncio.
    needs_asyncio: ClassVar[bool] = True

    def __init__(
        self,
        tokens: AccessTokens,
        *,
        subject_claim: str = "sub",
        account_claim: str | None = None,
        plan_claim: str | None = None,
    ) -> None:
        if not isinstance(tokens, AccessTokens):
            raise TypeError(
                f"tokens: expected an AccessTokens, got {describe(tokens)}; write JwtSubject(AccessTokens(...))"
            )
        self._tokens = tokens
        self._claims = (subject_claim, account_claim, plan_claim)
        self._now_ms = tokens.now_ms
        self._threads = ThreadPool(_THREADS)
        #: By the digest of a token: its caller, and when it expires. Least recently verified first.
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def __call__(self, request: Request) -> Caller | None:
        """The caller of the request's token, None without a token. It may block while keys are loaded."""
        token = _token(request)
        return None if token is None else self._known(token) or self._verify(token)

    def call_async(self, request: Request) -> Caller | Awaitable[Caller] | None:
        """As a call, for an event loop: the caller if the token is in memory, else an awaitable."""
        token = _token(request)
        return None if token is None else self._known(token) or self._threads.run(self._verify, token)

    def known(self, request: Request) -> Caller | None:
        """The caller if the token was verified before, or if keys in memory verify it. Raises KeyRefused as a call."""
        token = _token(request)
        return None if token is None else self._known(token) or self._verify(token, loads_keys=False)

    def sends_key(self, request: Request) -> bool:
        """Whether the request has an Authorization header."""
        return bool(request.values(b"authorization"))

    def _known(self, token: bytes) -> Caller | None:
        digest = blake2s(token).digest()
        caller, until_s = self._verified.get(digest, (None, 0.0))
        if caller is not None and self._now_ms() / 1000 >= until_s:
            self._verified.pop(digest, None)
            return None
        return caller

    def _verify(self, token: bytes, *, loads_keys: bool = True) -> Caller:
        try:
            claims = self._tokens.claims_of(token, loads_keys=loads_keys)
        except AccessRefused as error:
            # A wrong signature costs as much as a guess; an expired token was once accepted.
            raise KeyRefused(error.code, unknown=error.code != "access_token_expired") from None
        except SigningKeysUnavailable as error:
            raise KeyStoreUnavailable(str(error)) from error
        caller = self._caller(claims)
        self._verified[blake2s(token).digest()] = caller, float(claims["exp"])
        while len(self._verified) > _MAX_TOKENS:
            self._verified.popitem(last=False)
        return caller

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject, account, plan = (None if name is None else _text(claims, name) for name in self._claims)
        if subject is None:
            raise KeyRefused("invalid_access_token")
        return Caller(subject, plan, account)


def _token(request: Request) -> bytes | None:
    values = request.values(b"authorization")
    if not values:
        return None
    token = bearer_token(values)
    if token is None:
        raise KeyRefused("invalid_access_token", unknown=True)
    return token


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= _MAX_CHARACTERS:
        raise KeyRefused("invalid_access_token")
    return value
