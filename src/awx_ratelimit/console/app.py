"""`Console`: the pages of Settings > API Keys, from a request to a reply.

Every page belongs to the owner whom the application reports as logged in. Only forms change anything, and each form
works once. A new key is in the response to its form and nowhere else.
"""

import logging
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final

from awx_ratelimit.console.csrf import CsrfProtection
from awx_ratelimit.console.form_handlers import FormHandlers
from awx_ratelimit.console.page_context import PageContext
from awx_ratelimit.console.page_handlers import PageHandlers
from awx_ratelimit.console.page_request import ROUTES, Action, Page, PageRequest, PageResponse, Settings
from awx_ratelimit.console.rendering import Renderer, asset_reply
from awx_ratelimit.console.usage_handlers import UsageHandlers
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
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
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.api import CREATIONS
from awx_ratelimit.management.auth.tokens import Owner
from awx_ratelimit.management.limits import BlockingLimiter, KeyIssuer, checked_service
from awx_ratelimit.management.routing import Match, Router
from awx_ratelimit.runtime.clock import Clock, WallClock

_log = logging.getLogger("awx_ratelimit.console")
Who = Callable[[Request], Owner | None]
_NOT_LOGGED_IN: Final = Page("problem.html", {"code": "not_logged_in"}, HTTPStatus.FORBIDDEN)


class Console:
    """Answers full requests, for `AsgiApp` and `WsgiApp`. It blocks. Paths include the prefix `base`.

    `who` takes the request and returns the Owner who is logged in, or None. Read your session cookie with
    ``request.cookie(name)``. Without an owner, users are redirected to `login_url`, if it is set. If `who` raises
    AccessRefused, nobody is logged in. If it raises anything else, the response is 503 and the error is logged.

    `secret` signs the forms: at least 32 bytes, the same in all processes. `limiter` and `plans` are those of the gate.
    `creations` and `new_account_plan` work as in ManagementApi; with one limiter, keys created here and there share
    the limit. `api_base` and `try_path` appear in the commands that users copy. `origins`, such as
    ``https://app.example.com``, are the origins that forms may come from. Set them behind a proxy that changes
    ``Host``; the default is the host of the request.

    An AsyncLimiter works with `AsgiApp` only. Pass ``threads=2`` to `AsgiApp`, so that pages left open do not slow
    down other requests. Raises ValueError for a secret that is too short.
    """

    def __init__(
        self,
        keys: KeyService,
        *,
        who: Who,
        secret: str | bytes,
        limiter: Limiter | AsyncLimiter,
        plans: PlanTable,
        base: str = "/console",
        new_account_plan: str | None = None,
        creations: Plan = CREATIONS,
        login_url: str | None = None,
        logout_url: str | None = None,
        api_base: str = "/api/v1",
        try_path: str = "/",
        origins: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        clock = clock or WallClock()
        csrf = CsrfProtection(secret, origins, clock)
        if isinstance(who, type) or not callable(who):
            raise TypeError(f"who: expected a function from a request to an Owner or None, got {type_name(who)}")
        blocking_limiter = BlockingLimiter(limiter)
        issuer = KeyIssuer(keys, blocking_limiter, creations, new_account_plan)
        settings = Settings(base.rstrip("/"), new_account_plan, login_url, logout_url, api_base, try_path)
        context = PageContext(checked_service(keys), checked_plans(plans), blocking_limiter, issuer, clock, settings)
        pages = PageHandlers(context)
        #: Whether calls must come from a thread of the event loop's `AsgiApp`.
        self.needs_loop = blocking_limiter.needs_loop
        self._who = who
        self._csrf = csrf
        self._settings = settings
        self._errors = SampledLog(_log, interval_s=1.0)
        self._routes = Router(settings.base, ROUTES)
        self._renderer = Renderer(csrf, settings)
        self._handlers = {
            **pages.handlers,
            **UsageHandlers(context).handlers,
            **FormHandlers(context, csrf, pages).handlers,
        }

    def __call__(self, full_request: FullRequest) -> Reply:
        """The reply. Never raises for anything a client sends, nor for an unavailable store or backend."""
        request = full_request.request
        route = self._routes.find(request.method, request.path)
        if route is not None and route.action == "asset":
            return asset_reply(route.key_id, request)
        try:
            owner = self._owner(request)
        except Exception as error:
            return self._renderer.render(_login_unavailable(error), PageRequest.anonymous(full_request))
        if owner is None:
            return self._not_logged_in(route, full_request)
        key_id = route.key_id if route else ""
        page_request = PageRequest(owner, full_request, key_id, self._csrf.cookie(request))
        return self._renderer.render(self._respond(route, page_request), page_request)

    def _owner(self, request: Request) -> Owner | None:
        try:
            owner = self._who(request)
        except AccessRefused as error:
            _log.info("not logged in: %s", error.reason)
            return None
        if owner is not None and not isinstance(owner, Owner):
            raise TypeError(f"who: expected an Owner or None as the result, got {type_name(owner)}")
        return owner

    def _respond(self, route: Match[Action] | None, request: PageRequest) -> PageResponse:
        if route is None:
            return _problem("not_found")
        if route.action is None:
            return _problem("method_not_allowed", headers=((b"allow", ", ".join(route.allowed_methods).encode()),))
        try:
            return self._handlers[route.action](request)
        except AccessRefused as error:
            self._errors.write(logging.WARNING, error.reason, "a form was refused: %s", error.reason)
            return _problem(error.code)
        except KeyRequestRefused as error:
            return _problem(error.code, error)
        except (KeyStoreUnavailable, BackendUnavailable, InvalidLimit) as error:
            code = error.code if isinstance(error, KeyStoreUnavailable) else "rate_limiter_unavailable"
            self._errors.write(logging.ERROR, code, "%s: %s", code, error)
            return _problem(code)

    def _not_logged_in(self, route: Match[Action] | None, full_request: FullRequest) -> Reply:
        if route is not None and route.action == "live":
            # 204 tells the browser to close the event stream for good.
            return error_responses.no_content()
        if self._settings.login_url is not None:
            return self._renderer.see_other(self._settings.login_url)
        return self._renderer.render(_NOT_LOGGED_IN, PageRequest.anonymous(full_request))


def _login_unavailable(error: Exception) -> Page:
    if isinstance(error, KeyStoreUnavailable | SigningKeysUnavailable):
        _log.error("%s: %s", error.code, error)
    else:
        _log.error("who raised %s; access is refused", type(error).__name__, exc_info=error)
    return Page("problem.html", {"code": "login_unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)


def _problem(
    code: str, error: KeyRequestRefused | None = None, *, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Page:
    variables = {"code": code, "what": error.what if error else "", "remedy": error.remedy if error else ""}
    return Page("problem.html", variables, HTTPStatus(error_responses.status_of(code)), headers)
