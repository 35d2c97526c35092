"""What an operator must change after an error of a server, and what to write."""

import re
from typing import Final, NamedTuple

from redis import exceptions

from awx_ratelimit.backends.redis.endpoint import Endpoint

MIN_VERSION: Final = (7, 0)
NEEDS_VERSION: Final = f"{MIN_VERSION[0]}.{MIN_VERSION[1]} or newer is needed"
_ALLOW: Final = "allow its user {permissions}"


class _Case(NamedTuple):
    """The class of an error, or a part of its text, and a remedy. `problem` says more than the text of the error."""

    sign: type[Exception] | re.Pattern[str]
    remedy: str
    problem: str = ""


def _part(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text))


#: Errors of scripts have no class.
_CASES: Final = (
    _Case(exceptions.NoPermissionError, _ALLOW),
    _Case(_part("The user executing the script can't"), _ALLOW),
    _Case(exceptions.ReadOnlyError, "name its primary in the URL", "it is a read-only replica"),
    _Case(
        _part("DB index is out of range"),
        "correct the number in the URL. A server has 16 by default, 0 to 15; its setting `databases` allows more",
        "it has no database {database}",
    ),
    _Case(
        re.compile("certificate verify failed: (Hostname|IP address) mismatch"),
        "name the server in the URL as its certificate does",
    ),
    _Case(
        _part("certificate verify failed"),
        "name the authority of its certificate with ?ssl_ca_certs=/path/to/ca.pem",
    ),
    _Case(re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE"), "write redis://", "it does not use TLS"),
    _Case(
        re.compile(r"(unknown|unsupported)\b.*\bhello\b|NOPROTO|unsupported protocol", re.IGNORECASE),
        f"if it is a proxy, add ?protocol=2 to the URL; if a server, it is too old: {NEEDS_VERSION}",
        "it does not know HELLO",
    ),
    _Case(_part("unknown command"), NEEDS_VERSION, "it is too old"),
    # The first line of a script, with its flags, is new in Redis 7.
    _Case(_part("unexpected symbol near '#'"), NEEDS_VERSION, "it is too old"),
)
_USER: Final = "redis://user:password@host:6379"


def advice_for(error: BaseException, text: str, endpoint: Endpoint, permissions: str) -> str:
    """What is wrong by `error`, whose text is `text`, and what to change; empty if only waiting helps."""
    if isinstance(error, exceptions.AuthenticationError):
        return _login_advice(text, endpoint)
    for sign, remedy, problem in _CASES:
        if sign.search(text) if isinstance(sign, re.Pattern) else isinstance(error, sign):
            filled = [each.format(permissions=permissions, database=endpoint.database) for each in (problem, remedy)]
            said = f"{filled[0] or text}; {filled[1]}"
            return f"{said} ({text})" if problem else said
    return ""


def _login_advice(text: str, endpoint: Endpoint) -> str:
    if "without any password" in text or "no password is set" in text:
        return f"{text}; remove the password from the URL"
    if not (endpoint.username or endpoint.password):
        return f"it needs a password; write redis://:password@host:6379 or {_USER}"
    if not endpoint.password:
        return (
            f"{text}; the URL has a user and no password. Write {_USER}, or redis://:password@host:6379 for a password "
            "without a user"
        )
    if not endpoint.username:
        return f"{text}; correct the password in the URL, or name its user: {_USER}"
    return f"{text}; correct user and password in the URL"
