"""The errors that are not a limit's: each code with its status and its text, in the envelope of three keys.

With `render`, which has the limits' own, it is where statuses, header names and bodies are spelled, and nowhere else.
Statuses are those of RFC 9110; challenges those of RFC 6750 and of the wire contract.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from awx_ratelimit.http.message import Reply

Lines = Iterable[tuple[bytes, bytes]]

RETRY_HEADER: Final = b"retry-after"
#: The challenge of the identifiers that read the header X-API-Key.
KEY_CHALLENGE: Final = 'ApiKey realm="api", header="X-API-Key"'
_KEY_CHALLENGE = KEY_CHALLENGE.encode()
_TOKEN_CHALLENGE = b'Bearer realm="api"'
#: For identifiers that may read anything.
_MISSING = "Credentials are missing."
_LATER = [(RETRY_HEADER, b"1")]


class _Failure(NamedTuple):
    status: HTTPStatus
    type: str
    message: str
    more: Lines = ()


def _invalid(status: HTTPStatus, message: str) -> _Failure:
    return _Failure(status, "invalid_request_error", message)


def _challenged(message: str, challenge: bytes) -> _Failure:
    more = [(b"www-authenticate", challenge)]
    return _Failure(HTTPStatus.UNAUTHORIZED, "authentication_error", message, more)


def _unavailable(what: str) -> _Failure:
    message = f"{what} is unavailable. Retry after 1 second."
    return _Failure(HTTPStatus.SERVICE_UNAVAILABLE, "internal_error", message, _LATER)


_FAILURES: Final = {
    "invalid_request": _invalid(HTTPStatus.BAD_REQUEST, "The request is invalid."),
    "method_not_allowed": _invalid(HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here."),
    "request_timeout": _invalid(HTTPStatus.REQUEST_TIMEOUT, "The body of the request did not come in time."),
    "request_too_large": _invalid(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body of the request is too large."),
    "unsupported_media_type": _invalid(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json."),
    "api_key_missing": _challenged("API key is missing. Send it in the X-API-Key header.", _KEY_CHALLENGE),
    "invalid_api_key": _challenged("API key is invalid.", _KEY_CHALLENGE),
    "api_key_expired": _challenged("API key has expired.", _KEY_CHALLENGE),
    "api_key_revoked": _challenged("API key has been revoked.", _KEY_CHALLENGE),
    "access_token_missing": _challenged("Access token is missing. Send it as Authorization: Bearer.", _TOKEN_CHALLENGE),
    "invalid_access_token": _challenged("Access token is invalid.", _TOKEN_CHALLENGE + b', error="invalid_token"'),
    "access_token_expired": _challenged("Access token has expired.", _TOKEN_CHALLENGE + b', error="invalid_token"'),
    "access_token_required": _Failure(
        HTTPStatus.FORBIDDEN, "authorization_error", "An API key cannot manage API keys. Send an access token."
    ),
    "csrf_failed": _Failure(
        HTTPStatus.FORBIDDEN, "authorization_error", "The form is too old, or was not sent from its own page."
    ),
    "not_found": _Failure(HTTPStatus.NOT_FOUND, "not_found_error", "There is nothing here."),
    "api_key_not_found": _Failure(HTTPStatus.NOT_FOUND, "not_found_error", "There is no such API key."),
    "api_key_limit_reached": _invalid(HTTPStatus.CONFLICT, "There are as many API keys as may be."),
    "api_key_not_active": _invalid(HTTPStatus.CONFLICT, "The API key is not active."),
    "rate_limiter_unavailable": _unavailable("Rate limiter"),
    "key_store_unavailable": _unavailable("Key store"),
    "signing_keys_unavailable": _unavailable("Verification of access tokens"),
}


_UNKNOWN_CODE: Final = _challenged("The credentials are not accepted.", _TOKEN_CHALLENGE)


def failure(code: str, message: str | None = None, more: Lines = ()) -> Reply:
    """The error of this code, with a text of its own where that says more."""
    failed = _FAILURES[code]
    return error(failed.status, code, failed.type, message or failed.message, [*failed.more, *more])


def unauthorized(code: str, message: str | None = None, challenge: str | None = KEY_CHALLENGE) -> Reply:
    """401 with any code, one of the contract or of an identifier's own.

    `message` None is the usual one of the code. `challenge` None fits the code and claims no header.
    """
    failed = _FAILURES.get(code, _UNKNOWN_CODE)
    if failed.status != HTTPStatus.UNAUTHORIZED:
        failed = _UNKNOWN_CODE
    usual = _MISSING if code == "api_key_missing" and challenge != KEY_CHALLENGE else failed.message
    more = failed.more
    if challenge is not None:
        more = [(b"www-authenticate", challenge.encode())]
    elif "api_key" in code:
        more = [(b"www-authenticate", b'ApiKey realm="api"')]
    return error(HTTPStatus.UNAUTHORIZED, code, failed.type, message or usual, more)


def status_of(code: str) -> int:
    """The status that a code is sent with."""
    return _FAILURES[code].status.value


def error(status: HTTPStatus, code: str, type: str, message: str, more: Lines = ()) -> Reply:
    """An error in the envelope of three keys."""
    return document(status, {"code": code, "type": type, "message": message}, more)


def document(status: HTTPStatus, body: object, more: Lines = (), *, kind: bytes = b"application/json") -> Reply:
    """An answer in JSON, which nobody keeps."""
    text = json.dumps(body, separators=(",", ":")).encode()
    lines = [(b"content-type", kind), (b"content-length", b"%d" % len(text)), (b"cache-control", b"no-store")]
    return Reply(status.value, [*lines, *more], text)


def nothing(more: Lines = ()) -> Reply:
    """204: it is done, and there is nothing to say of it."""
    return Reply(HTTPStatus.NO_CONTENT.value, [(b"cache-control", b"no-store"), *more], b"")
