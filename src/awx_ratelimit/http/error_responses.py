"""Error responses: each code with its status and message, in a JSON body with the keys code, type and message.

Only this module and `limit_headers`, which reports decisions, spell statuses, header names and bodies. Statuses follow
RFC 9110, challenges RFC 6750.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from awx_ratelimit.http.message import Reply

Headers = Iterable[tuple[bytes, bytes]]

RETRY_HEADER: Final = b"retry-after"
#: The code of the responses that a limit causes.
EXCEEDED: Final = "rate_limit_exceeded"
#: The challenge of the identifiers that read the header X-API-Key.
KEY_CHALLENGE: Final = 'ApiKey realm="api", header="X-API-Key"'
_KEY_CHALLENGE = KEY_CHALLENGE.encode()
_TOKEN_CHALLENGE = b'Bearer realm="api"'
#: The message for identifiers that do not read X-API-Key.
_CREDENTIALS_MISSING = "Credentials are missing."
_QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_RETRY_SOON = [(RETRY_HEADER, b"1")]


class _Error(NamedTuple):
    status: HTTPStatus
    type: str
    message: str
    headers: Headers = ()


def _invalid(status: HTTPStatus, message: str) -> _Error:
    return _Error(status, "invalid_request_error", message)


def _challenged(message: str, challenge: bytes) -> _Error:
    headers = [(b"www-authenticate", challenge)]
    return _Error(HTTPStatus.UNAUTHORIZED, "authentication_error", message, headers)


def _unavailable(what: str) -> _Error:
    message = f"{what} is unavailable. Retry after 1 second."
    return _Error(HTTPStatus.SERVICE_UNAVAILABLE, "internal_error", message, _RETRY_SOON)


_ERRORS: Final = {
    "invalid_request": _invalid(HTTPStatus.BAD_REQUEST, "The request is invalid."),
    "method_not_allowed": _invalid(HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here."),
    "request_timeout": _invalid(HTTPStatus.REQUEST_TIMEOUT, "The request body did not arrive in time."),
    "request_too_large": _invalid(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body of the request is too large."),
    "unsupported_media_type": _invalid(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json."),
    "api_key_missing": _challenged("API key is missing. Send it in the X-API-Key header.", _KEY_CHALLENGE),
    "invalid_api_key": _challenged("API key is invalid.", _KEY_CHALLENGE),
    "api_key_expired": _challenged("API key has expired.", _KEY_CHALLENGE),
    "api_key_revoked": _challenged("API key has been revoked.", _KEY_CHALLENGE),
    "access_token_missing": _challenged("Access token is missing. Send it as Authorization: Bearer.", _TOKEN_CHALLENGE),
    "invalid_access_token": _challenged("Access token is invalid.", _TOKEN_CHALLENGE + b', error="invalid_token"'),
    "access_token_expired": _challenged("Access token has expired.", _TOKEN_CHALLENGE + b', error="invalid_token"'),
    "access_token_required": _Error(
        HTTPStatus.FORBIDDEN, "authorization_error", "An API key cannot manage API keys. Send an access token."
    ),
    "csrf_failed": _Error(
        HTTPStatus.FORBIDDEN, "authorization_error", "The form has expired, or was not sent from this site."
    ),
    "not_found": _Error(HTTPStatus.NOT_FOUND, "not_found_error", "There is nothing here."),
    "api_key_not_found": _Error(HTTPStatus.NOT_FOUND, "not_found_error", "There is no such API key."),
    "account_not_found": _Error(HTTPStatus.NOT_FOUND, "not_found_error", "There is no such account."),
    "api_key_limit_reached": _invalid(HTTPStatus.CONFLICT, "The account has reached its maximum number of API keys."),
    "api_key_not_active": _invalid(HTTPStatus.CONFLICT, "The API key is not active."),
    "rate_limiter_unavailable": _unavailable("Rate limiter"),
    "key_store_unavailable": _unavailable("Key store"),
    "signing_keys_unavailable": _unavailable("Verification of access tokens"),
}


_UNKNOWN_CODE: Final = _challenged("The credentials are not accepted.", _TOKEN_CHALLENGE)


def status_of(code: str) -> int:
    """The status of the response with `code`. Codes of an identifier's own have that of wrong credentials."""
    return int(HTTPStatus.TOO_MANY_REQUESTS if code == EXCEEDED else _ERRORS.get(code, _UNKNOWN_CODE).status)


def message_of(code: str) -> str:
    """The usual message of a response with `code`."""
    return _ERRORS.get(code, _UNKNOWN_CODE).message


def failure(code: str, message: str | None = None, headers: Headers = ()) -> Reply:
    """The error response for `code`. `message` None means the usual message of the code."""
    error = _ERRORS[code]
    return error_reply(error.status, code, error.type, message or error.message, [*error.headers, *headers])


def unauthorized(code: str, message: str | None = None, challenge: str | None = KEY_CHALLENGE) -> Reply:
    """A 401 with one of the codes above, or with an identifier's own code.

    `message` None means the usual message of the code. `challenge` None derives WWW-Authenticate from the code, without
    naming a header.
    """
    error = _ERRORS.get(code, _UNKNOWN_CODE)
    if error.status != HTTPStatus.UNAUTHORIZED:
        error = _UNKNOWN_CODE
    usual = _CREDENTIALS_MISSING if code == "api_key_missing" and challenge != KEY_CHALLENGE else error.message
    headers = error.headers
    if challenge is not None:
        headers = [(b"www-authenticate", challenge.encode())]
    elif "api_key" in code:
        headers = [(b"www-authenticate", b'ApiKey realm="api"')]
    return error_reply(HTTPStatus.UNAUTHORIZED, code, error.type, message or usual, headers)


def retry_later(retry_after_ms: int, violated: list[str], headers: Headers = (), *, problem: bool = False) -> Reply:
    """A 429 with the wait in Retry-After and in the message. With `problem` it names the `violated` limits."""
    seconds = whole_seconds(retry_after_ms)
    message = f"Rate limit exceeded. Retry after {seconds} second{'' if seconds == 1 else 's'}."
    return too_many_requests(message, [(RETRY_HEADER, b"%d" % seconds), *headers], violated if problem else None)


def too_many_requests(message: str, headers: Headers, violated: list[str] | None) -> Reply:
    """A 429. If `violated` is a list, the body is an RFC 9457 problem document that names these limits."""
    status = HTTPStatus.TOO_MANY_REQUESTS
    if violated is None:
        return error_reply(status, EXCEEDED, "rate_limit_error", message, headers)
    problem = {
        "type": _QUOTA_EXCEEDED,
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": status.value,
        "detail": message,
        "violated-policies": violated,
    }
    return document(status, problem, headers, kind=b"application/problem+json")


def is_refusal(reply: Reply | None) -> bool:
    """Whether `reply` is a 429."""
    return reply is not None and reply.status == HTTPStatus.TOO_MANY_REQUESTS


def whole_seconds(ms: int) -> int:
    """Milliseconds in whole seconds, rounded up, at least 1."""
    return max(1, -(-ms // 1000))


def error_reply(status: HTTPStatus, code: str, type: str, message: str, headers: Headers = ()) -> Reply:
    """An error response with the three keys code, type and message."""
    return document(status, {"code": code, "type": type, "message": message}, headers)


def document(status: HTTPStatus, body: object, headers: Headers = (), *, kind: bytes = b"application/json") -> Reply:
    """A JSON response that must not be cached."""
    text = json.dumps(body, separators=(",", ":")).encode()
    own = [(b"content-type", kind), (b"content-length", b"%d" % len(text)), (b"cache-control", b"no-store")]
    return Reply(status.value, [*own, *headers], text)


def download(text: str, kind: bytes, name: str) -> Reply:
    """A response that must not be cached, and that a browser saves in a file."""
    body = text.encode()
    disposition = f'attachment; filename="{name}"'.encode()
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    return Reply(HTTPStatus.OK.value, [*headers, (b"content-disposition", disposition)], body)


def no_content(headers: Headers = ()) -> Reply:
    """A 204 response."""
    return Reply(HTTPStatus.NO_CONTENT.value, [(b"cache-control", b"no-store"), *headers], b"")
