"""Every error that this library raises on purpose.

AwxRateLimitError
├── InvalidLimit          a rate, a plan or a plan table is invalid (also a ValueError)
├── RateLimited           a limited function was not called; has the decision and the wait
├── ImpossibleClaim       the cost is above a burst, so no wait can help
├── ImpossibleRequest     a request that nobody has sent cannot be explained (also a ValueError)
├── BackendUnavailable    the backend could not decide
│   ├── BackendMisconfigured   it needs a change of its configuration first
│   └── StateDamaged           its data of one subject is corrupt
├── KeyRefused            the credentials are not accepted; has the code and the message of the 401
├── TooManyWrongKeys      an address has sent too many wrong keys; has the wait
├── AccessRefused         a request to manage keys without a valid access token; has the code of the response
├── SigningKeysUnavailable  the keys that verify access tokens could not be loaded
├── KeyStoreUnavailable   the key store did not answer; requests are refused without it
│   └── KeyStoreUnusable  the store cannot be used as it is, and waiting does not help
└── KeyRequestRefused     a request about keys was not carried out; has a code, a field and a remedy
    ├── InvalidKeyRequest    a field has a wrong value (also a ValueError)
    ├── KeyNotFound          the account has no such key: unknown, another account's or revoked
    ├── KeyLimitReached      the account has its maximum number of keys
    ├── KeyNotActive         the key was rotated or has expired, or the account is suspended
    ├── KeyExists            a key with this id already exists
    ├── AccountNotFound      the account does not exist
    ├── AccountExists        an account with this id already exists
    └── AccountChanged       the account is not what it was when the caller read it
"""

import re
from typing import Any, ClassVar

_code = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_challenge = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch


class AwxRateLimitError(Exception):
    """The base class of every error that this library raises on purpose."""


class InvalidLimit(AwxRateLimitError, ValueError):
    """A rate, a plan or a plan table is invalid. The message is ``source: reason``; `source` may be None."""

    def __init__(self, reason: object, *, source: str | None = None) -> None:
        super().__init__(f"{source}: {reason}" if source else str(reason))
        self.reason = str(reason)
        self.source = source


class RateLimited(AwxRateLimitError):
    """A limited function was not called, because its limit refused. No limit charged the call.

    `decision` is the refusal; None in a copy that another process has sent. `retry_after_ms` is the wait until the same
    call is allowed. The message has the name of the function and no argument.
    """

    def __init__(self, message: str, *, decision: Any = None, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.decision = decision
        self.retry_after_ms: int = retry_after_ms if decision is None else decision.retry_after_ms

    def __reduce__(self) -> Any:
        # A Decision cannot be pickled, and task queues pickle exceptions.
        return _unpickled, (type(self), *self.args, self.retry_after_ms)


def _unpickled(kind: type[RateLimited], message: str, retry_after_ms: int) -> RateLimited:
    return kind(message, retry_after_ms=retry_after_ms)


class ImpossibleClaim(AwxRateLimitError):
    """The cost is above the burst of a rate, so no wait can help. Nothing was charged."""


class ImpossibleRequest(AwxRateLimitError, ValueError):
    """A request cannot be explained: it is malformed, or a function of the app needs more than a method and a path."""


class BackendUnavailable(AwxRateLimitError):
    """The backend did not decide. As far as this process knows, nothing was charged."""

    #: This process was too late to send the claim, so the error says nothing about the backend.
    process_was_late: bool = False
    #: Another program has locked the data of one subject, so the error says nothing about other claims.
    record_is_locked: bool = False


class BackendMisconfigured(BackendUnavailable):
    """The backend cannot decide with its configuration. The message says what to change."""


class StateDamaged(BackendUnavailable):
    """The backend's data of one subject is corrupt. Other subjects are not affected. The message says what to do."""


class KeyRefused(AwxRateLimitError):
    """Raise it in an identifier to respond with a 401: the credentials are not accepted.

    The client sees `code` and `message`. `code` is one of the wire contract, such as ``invalid_api_key``, or your own,
    such as ``token_expired``. The default `message` belongs to the code. `challenge` is the WWW-Authenticate header;
    None uses the identifier's, or one that fits the code. Never put credentials into any of them. `unknown`: the
    credentials do not exist. Only such credentials count against the client's address. By default it is true for
    ``invalid_api_key`` only.

    Raises ValueError for a code or a challenge that cannot be sent.
    """

    def __init__(
        self,
        code: str = "invalid_api_key",
        message: str | None = None,
        *,
        challenge: str | None = None,
        unknown: bool | None = None,
    ) -> None:
        if not (isinstance(code, str) and _code(code)):
            raise ValueError(f"code: expected 1 to 64 of [A-Za-z0-9_.-], such as 'token_expired'; got {code!r}")
        if challenge is not None and not (isinstance(challenge, str) and _challenge(challenge)):
            raise ValueError(f"challenge: expected visible ASCII, such as 'Bearer realm=\"api\"'; got {challenge!r}")
        super().__init__(code)
        self.code = code
        self.message = message
        self.challenge = challenge
        self.unknown = code == "invalid_api_key" if unknown is None else unknown


class TooManyWrongKeys(AwxRateLimitError):
    """An address has sent too many wrong keys. Its keys are not looked up for `retry_after_ms`."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"too many wrong keys; retry in {retry_after_ms / 1_000:g} seconds")
        self.retry_after_ms = retry_after_ms


class AccessRefused(AwxRateLimitError):
    """A request to manage keys has no valid access token.

    `code` is ``access_token_missing``, ``invalid_access_token``, ``access_token_expired``, ``access_token_required``
    (an API key was sent instead) or ``csrf_failed`` (the form was not sent by a page of this console). `reason` is for
    the log: it contains no part of the token, and no response shows it.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class SigningKeysUnavailable(AwxRateLimitError):
    """The keys that verify access tokens could not be loaded. No token is accepted without them."""

    code: ClassVar[str] = "signing_keys_unavailable"


class KeyStoreUnavailable(AwxRateLimitError):
    """The key store did not answer in time. Whether a write was carried out is unknown."""

    code: ClassVar[str] = "key_store_unavailable"


class KeyStoreUnusable(KeyStoreUnavailable):
    """The key store cannot be used. The message says what is wrong and what to do."""


class KeyRequestRefused(AwxRateLimitError):
    """A request about keys or accounts was not carried out. Nothing was changed.

    `code` is for programs. `field` is the wrong field, or None. `remedy` says what to do. None of them contains the
    text of a key.
    """

    code: ClassVar[str] = "invalid_request"

    def __init__(self, what: str, *, remedy: str, field: str | None = None) -> None:
        text = f"{remedy}, {what}" if what.startswith("got ") else f"{what}; {remedy}"
        super().__init__(f"{field}: {text}" if field else text)
        self.what = what
        self.remedy = remedy
        self.field = field


class InvalidKeyRequest(KeyRequestRefused, ValueError):
    """A field has a wrong value. The remedy says what is allowed."""


class KeyNotFound(KeyRequestRefused):
    """The account has no such key: it is unknown, revoked, or belongs to another account."""

    code = "api_key_not_found"


class KeyLimitReached(KeyRequestRefused):
    """The account has its maximum number of keys."""

    code = "api_key_limit_reached"


class KeyNotActive(KeyRequestRefused):
    """The key cannot be rotated: it was rotated before or has expired, or its account is suspended."""

    code = "api_key_not_active"


class KeyExists(KeyRequestRefused):
    """A key with this id already exists: a repeated call created it the first time. It may have been revoked since."""

    code = "api_key_exists"


class AccountNotFound(KeyRequestRefused):
    """The account does not exist."""

    code = "account_not_found"


class AccountExists(KeyRequestRefused):
    """An account with this id already exists."""

    code = "account_exists"


class AccountChanged(KeyRequestRefused):
    """The account has changed since the caller read it. Nothing was changed by this call."""

    code = "account_changed"
