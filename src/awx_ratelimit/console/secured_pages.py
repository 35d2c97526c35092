"""`SecuredPages`: the one way from a request to a reply, for the customer's and the operator's console.

Pages are for the user whom the application reports as logged in. Only forms change anything.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from awx_ratelimit.console.assets import asset_reply
from awx_ratelimit.console.csrf import CsrfProtection, FormSigner
from awx_ratelimit.console.page_request import ConsoleRequest, Page, PageResponse, Settings, User
from awx_ratelimit.console.rendering import Look, Renderer
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.errors import (
    AccessRefused,
    BackendUnavailable,
    InvalidLimit,
    KeyRequestRefused,
    KeyStoreUnavailable,
    SigningKeysUnavailable,
)
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import FullRequest, Reply, Request
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.management.auth.tokens import OPERATOR_PREFIX, Owner, is_operators_name
from awx_ratelimit.management.routing import Match, Router

_log = logging.getLogger("awx_ratelimit.console")
Handler = Callable[[Any], PageResponse]
_NOT_LOGGED_IN: Final = Page("problem.html", {"code": "not_logged_in"}, HTTPStatus.FORBIDDEN)


class ConsoleKind(NamedTuple):
    """What one console has and the other has not. `user_type` is the type that `who` returns."""

    user_type: type
    request_type: type[ConsoleRequest]
    signer: FormSigner
    look: Look


class SecuredPages:
    """Answers full requests, for `AsgiApp` and `WsgiApp`. It blocks.

    `handlers` has a function for each action of `routes`. Raises TypeError if `who` is not a function.
    """

    def __init__(
        self,
        kind: ConsoleKind,
        who: Callable[[Request], User | None],
        settings: Settings,
        csrf: CsrfProtection,
        routes: Sequence[tuple[str, Mapping[str, str]]],
        handlers: Mapping[Any, Handler],
    ) -> None:
        if isinstance(who, type) or not callable(who):
            expected = f"a function from a request to an {kind.user_type.__name__} or None"
            raise TypeError(f"who: expected {expected}, got {type_name(who)}")
        self._kind = kind
        self._who = who
        self._csrf = csrf
        self._settings = settings
        self._errors = SampledLog(_log, interval_s=1.0)
        self._routes = Router(settings.base, routes)
        self._renderer = Renderer(kind.look, csrf, settings)
        self._handlers = handlers

    def __call__(self, full_request: FullRequest) -> Reply:
        """The reply. Never raises for anything a client sends, nor for an unavailable store or backend."""
        request = full_request.request
        route = self._routes.find(request.method, request.path)
        if route is not None and route.action == "asset":
            return asset_reply(self._kind.look.assets, route.key_id, request)
        try:
            user = self._user(request)
        except Exception as error:
            return self._renderer.render(_login_unavailable(error), self._kind.request_type.anonymous(full_request))
        if user is None:
            return self._not_logged_in(route, full_request)
        path_id = route.key_id if route else ""
        page_request = self._kind.request_type(user, full_request, path_id, self._csrf.cookie(request))
        return self._renderer.render(self._respond(route, page_request), page_request)

    def _user(self, request: Request) -> User | None:
        try:
            user = self._who(request)
        except AccessRefused as error:
            _log.info("not logged in: %s", error.reason)
            return None
        if user is not None and not isinstance(user, self._kind.user_type):
            expected = self._kind.user_type.__name__
            raise TypeError(f"who: expected an {expected} or None as the result, got {type_name(user)}")
        if isinstance(user, Owner) and is_operators_name(user.actor):
            raise ValueError(f"who: expected an Owner whose actor does not begin with {OPERATOR_PREFIX!r}")
        return user

    def _respond(self, route: Match[str] | None, request: ConsoleRequest) -> PageResponse:
        if route is None:
            return problem("not_found")
        if route.action is None:
            return problem("method_not_allowed", headers=((b"allow", ", ".join(route.allowed_methods).encode()),))
        try:
            return self._handlers[route.action](request)
        except AccessRefused as error:
            self._errors.write(logging.WARNING, error.reason, "a form was refused: %s", error.reason)
            return problem(error.code)
        except KeyRequestRefused as error:
            return problem(error.code, error)
        except (KeyStoreUnavailable, BackendUnavailable, InvalidLimit) as error:
            code = error.code if isinstance(error, KeyStoreUnavailable) else "rate_limiter_unavailable"
            self._errors.write(logging.ERROR, code, "%s: %s", code, error)
            return problem(code)

    def _not_logged_in(self, route: Match[str] | None, full_request: FullRequest) -> Reply:
        if route is not None and route.action == "live":
            # 204 tells the browser to close the event stream for good.
            return error_responses.no_content()
        if self._settings.login_url is not None:
            return self._renderer.see_other(self._settings.login_url)
        return self._renderer.render(_NOT_LOGGED_IN, self._kind.request_type.anonymous(full_request))


def problem(
    code: str, error: KeyRequestRefused | None = None, *, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Page:
    """The page for an error. Clients that do not accept HTML get it as JSON."""
    variables = {"code": code, "what": error.what if error else "", "remedy": error.remedy if error else ""}
    return Page("problem.html", variables, HTTPStatus(error_responses.status_of(code)), headers)


def _login_unavailable(error: Exception) -> Page:
    if isinstance(error, KeyStoreUnavailable | SigningKeysUnavailable):
        _log.error("%s: %s", error.code, error)
    else:
        _log.error("who raised %s; access is refused", type(error).__name__, exc_info=error)
    return Page("problem.html", {"code": "login_unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
