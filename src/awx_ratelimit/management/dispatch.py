"""`Dispatcher`: takes a request to its handler, and turns what the handler raises into a reply."""

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from awx_ratelimit.core.plan import Plan
from awx_ratelimit.errors import (
    AccessRefused,
    AccountNotFound,
    BackendUnavailable,
    InvalidLimit,
    KeyNotFound,
    KeyRequestRefused,
    KeyStoreUnavailable,
    SigningKeysUnavailable,
)
from awx_ratelimit.http import error_responses, limit_headers
from awx_ratelimit.http.message import FullRequest, Reply
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.management.limits import BlockingLimiter
from awx_ratelimit.management.routing import Match, Router
from awx_ratelimit.runtime.documentation import page

_log = logging.getLogger("awx_ratelimit.management")
_Action = TypeVar("_Action", bound=str)
Resources = Sequence[tuple[str, Mapping[str, _Action]]]
#: The action that returns the OpenAPI document.
_DOCUMENT: Final = "document"


class Dispatcher(Generic[_Action]):
    """Calls `handle` with the action of a request. `document` returns the OpenAPI document, if it needs no token."""

    def __init__(
        self,
        base: str,
        resources: Resources[_Action],
        handle: Callable[[_Action, Match[_Action], FullRequest], Reply],
        document: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._router = Router(base, resources)
        self._handle = handle
        self._document = document
        self._log = SampledLog(_log, interval_s=1.0)

    def __call__(self, full_request: FullRequest) -> Reply:
        """Return the reply. Never raises for anything a client sends, nor for an unavailable store or backend."""
        method, path = full_request.request[:2]
        match = self._router.find(method, path)
        if match is None:
            return error_responses.failure("not_found")
        if match.action is None:
            allow = [(b"allow", ", ".join(match.allowed_methods).encode())]
            return (
                error_responses.no_content(allow)
                if method == "OPTIONS"
                else error_responses.failure("method_not_allowed", None, allow)
            )
        if match.action == _DOCUMENT and self._document is not None:
            return error_responses.document(HTTPStatus.OK, self._document())
        return self._handled(match.action, match, full_request)

    def _handled(self, action: _Action, match: Match[_Action], full_request: FullRequest) -> Reply:
        try:
            return self._handle(action, match, full_request)
        except (AccessRefused, KeyNotFound, AccountNotFound) as error:
            return error_responses.failure(error.code)
        except KeyRequestRefused as error:
            return error_responses.failure(error.code, _sentence(error))
        except (KeyStoreUnavailable, SigningKeysUnavailable, BackendUnavailable, InvalidLimit) as error:
            code = getattr(error, "code", "rate_limiter_unavailable")
            self._log.write(logging.ERROR, code, "%s: %s. See %s", code, error, page("errors", code))
            return error_responses.failure(code)


def limited(limiter: BlockingLimiter, subject: str, plan: Plan, handle: Callable[[], Reply]) -> Reply:
    """Return the reply of `handle` with the limits of `plan` in its headers, or the 429.

    `handle` changes no limit, so it works without a decision while the backend is unavailable.
    """
    try:
        decision = limiter.acquire(subject, plan)
    except BackendUnavailable:
        return handle()
    if not decision.allowed:
        return limit_headers.refusal(decision)
    reply = handle()
    return reply._replace(headers=[*reply.headers, *limit_headers.headers(decision)])


def _sentence(error: KeyRequestRefused) -> str:
    text = str(error)
    return f"{text}." if error.field else f"{text[0].upper()}{text[1:]}."
