"""Every error that this library raises on purpose.

AwxRateLimitError
├── InvalidLimit          a rate, a plan or a plan table that cannot be what it says (also a ValueError)
├── ImpossibleClaim       a cost that no waiting will ever satisfy
├── BackendUnavailable    the backend could not decide
│   ├── BackendMisconfigured   and will not before somebody changes how it is set up
│   └── StateDamaged           of one subject, of which it holds what cannot be read
├── KeyRefused            credentials that are not accepted; carries the code and the message of the 401
├── TooManyWrongKeys      an address that has sent too many of them; carries the wait
├── AccessRefused         whoever wants to manage keys has not shown that they may; carries the code of the answer
├── SigningKeysUnavailable  the keys that access tokens are verified with could not be had
├── KeyStoreUnavailable   the key store gave no answer: nobody is let in without one
│   └── KeyStoreUnusable  it cannot be used as it is, and waiting will not help
└── KeyRequestRefused     a request about keys that is not carried out; carries a code, a field and a remedy
    ├── InvalidKeyRequest    a field that is not allowed (also a ValueError)
    ├── KeyNotFound          no such key for this account: unknown, another account's or revoked
    ├── KeyLimitReached      the account has as many keys as it may
    ├── KeyNotActive         a key that was rotated or has expired, or of an account that is suspended
    ├── KeyExists            a call that was to make a key once came again
    ├── AccountNotFound      no such account
    └── AccountExists        there is an account of this id already
"""

import re
from typing import ClassVar

_code = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_challenge = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch


class AwxRateLimitError(Exception):
    """The root: catch it to catch all that this library raises on purpose."""


class InvalidLimit(AwxRateLimitError, ValueError):
    """A rate, a plan or a plan table is invalid. The message is ``source: reason``; `source` may be None."""

    def __init__(self, reason: object, *, source: str | None = None) -> None:
        super().__init__(f"{source}: {reason}" if source else str(reason))
        self.reason = str(reason)
        self.source = source


class ImpossibleClaim(AwxRateLimitError):
    """The cost is above a rate's burst: refused before anything is asked or charged, for waiting cannot help."""


class BackendUnavailable(AwxRateLimitError):
    """The backend gave no decision; nothing is known to have been charged."""

    #: Whether this process did not get around to asking in time. Then the error says nothing about the backend.
    process_was_late: bool = False


class BackendMisconfigured(BackendUnavailable):
    """The backend cannot decide as it is set up; the message says what to change."""


class StateDamaged(BackendUnavailable):
    """What the backend holds of one subject cannot be read; of all others it decides. The message says what to do."""


class KeyRefused(AwxRateLimitError):
    """Raise it in an identifier to answer 401: the credentials that were sent are not accepted.

    `code` and `message` are what the client reads. `code` is one of the wire contract, such as ``invalid_api_key``, or
    your own, such as ``token_expired``; without a `message` the code's usual one is sent. `challenge` is the
    WWW-Authenticate header; None is the identifier's own, or one that fits the code. Never put credentials into any of
    them. `unknown` says that no such credentials exist: only those count against the client's address. By default
    only ``invalid_api_key`` does.

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
    """An address has sent so many wrong keys that none of its is looked up before `retry_after_ms` have passed."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"too many wrong keys; come back in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class AccessRefused(AwxRateLimitError):
    """A request to manage keys without an access token that is accepted.

    `code` is ``access_token_missing``, ``invalid_access_token``, ``access_token_expired``, ``access_token_required``
    where an API key was sent instead, or ``csrf_failed`` for a form that no page of ours sent. `reason` is for the log:
    it holds nothing of the token, and no answer tells it.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class SigningKeysUnavailable(AwxRateLimitError):
    """The keys that access tokens are verified with could not be had: nobody's token is accepted without."""

    code: ClassVar[str] = "signing_keys_unavailable"


class KeyStoreUnavailable(AwxRateLimitError):
    """The key store gave no answer, or not in time. Whether a write was carried out is not known."""

    code: ClassVar[str] = "key_store_unavailable"


class KeyStoreUnusable(KeyStoreUnavailable):
    """The store is not one that this code can use; the message says what is wrong with it and what to do."""


class KeyRequestRefused(AwxRateLimitError):
    """A request about keys or accounts that is not carried out; nothing was changed.

    `code` is for machines, `field` names what is wrong (None where it is no field's fault), and `remedy` says what
    to do about it. The text of a key is in none of them.
    """

    code: ClassVar[str] = "invalid_request"

    def __init__(self, what: str, *, remedy: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {what}; {remedy}" if field else f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy
        self.field = field


class InvalidKeyRequest(KeyRequestRefused, ValueError):
    """A field is not what it may be; the remedy says what is allowed."""


class KeyNotFound(KeyRequestRefused):
    """The account has no such key. Unknown, revoked and another account's are not told apart."""

    code = "api_key_not_found"


class KeyLimitReached(KeyRequestRefused):
    """The account has as many keys as it may have at once."""

    code = "api_key_limit_reached"


class KeyNotActive(KeyRequestRefused):
    """The key was rotated already or has expired, or its account is suspended: there is nothing to rotate or make."""

    code = "api_key_not_active"


class KeyExists(KeyRequestRefused):
    """A key of that id was made already, by the same call when it came first; it may be revoked since."""

    code = "api_key_exists"


class AccountNotFound(KeyRequestRefused):
    """There is no such account."""

    code = "account_not_found"


class AccountExists(KeyRequestRefused):
    """There is an account of this id already."""

    code = "account_exists"
