"""`Console`: the pages of Settings > API Keys, from a whole request to a reply.

Every page is for whoever the application says is logged in. What changes something is a form of one of these pages,
sent once; a new key is in the answer to that form, and in no other.
"""

import logging
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final

from awx_ratelimit.console import assets
from awx_ratelimit.console.csrf import Forms
from awx_ratelimit.console.form_handlers import Changing
from awx_ratelimit.console.page_context import Settings, Sources
from awx_ratelimit.console.page_handlers import Reading
from awx_ratelimit.console.page_request import Answered, Page, Visit
from awx_ratelimit.console.rendering import Pages
from awx_ratelimit.console.routes import RESOURCES, Shown
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import kind
from awx_ratelimit.errors import (
    AccessRefused,
    BackendUnavailable,
    InvalidLimit,
    KeyRequestRefused,
    KeyStoreUnavailable,
    SigningKeysUnavailable,
)
from awx_ratelimit.http import error_responses
from awx_ratelimit.http.message import Reply, Request, WholeRequest
from awx_ratelimit.http.sampled_log import SampledLog
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.clock import Clock, WallClock
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.api import CREATIONS
from awx_ratelimit.management.auth.claims import Owner
from awx_ratelimit.management.blocking_limiter import Deciding
from awx_ratelimit.management.issuing import Making, checked_service
from awx_ratelimit.management.routing import Found, Routes

_log = logging.getLogger("awx_ratelimit.console")
Who = Callable[[Request], Owner | None]
_NOT_LOGGED_IN: Final = Page("problem.html", {"code": "not_logged_in"}, HTTPStatus.FORBIDDEN)


class Console:
    """Answers whole requests, for `AsgiApp` and `WsgiApp`; it blocks. Paths are whole, and begin with `base`.

    `who` says who is logged in, by a cookie of the application's own or however it knows: an Owner, or None for nobody,
    who is sent to `login_url` where there is one. Read cookies with ``request.cookie(name)``. If `who` raises, nobody
    is let in: AccessRefused means that nobody is logged in, anything else is a 503 and an error in the log. `secret`
    signs forms: 32 bytes or more, the same in all processes. `limiter` and `plans` are the gate's, `creations` and
    `new_account_plan` as ManagementApi has them: with one limiter, keys that are made here and there count together.
    `api_base` and `try_path` stand in the lines that are shown to be copied. `origins` (``https://app.example.com``)
    are where forms may come from, for who is behind a proxy that changes ``Host``; it is the host of the request itself
    otherwise. An AsyncLimiter can be asked by `AsgiApp` alone; give that ``threads=2``, so that pages which are left
    open leave requests alone.
    Raises ValueError for a secret that is too short.
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
        self._forms = Forms(secret, origins, clock)
        if isinstance(who, type) or not callable(who):
            raise TypeError(f"who is {kind(who)}; use a function that takes the request and returns an Owner or None")
        deciding = Deciding(limiter)
        making = Making(keys, deciding, creations, new_account_plan)
        settings = Settings(base.rstrip("/"), new_account_plan, login_url, logout_url, api_base, try_path)
        sources = Sources(checked_service(keys), checked_plans(plans), deciding, making, clock, settings)
        #: Whether it has to be called from a thread of an event loop.
        self.needs_loop = deciding.needs_loop
        self._who = who
        self._clock = clock
        self._settings = settings
        self._log = SampledLog(_log, interval_s=1.0)
        self._routes = Routes(settings.base, RESOURCES)
        self._pages = Pages(self._forms, settings)
        self._acts = {**Reading(sources).acts, **Changing(sources, self._forms).acts}

    def __call__(self, whole: WholeRequest) -> Reply:
        """The answer. It never raises for what a client sends, nor for a store or a backend without an answer."""
        method, path, _, _, _ = whole.request
        found = self._routes.find(method, path)
        if found is not None and found.act == "asset":
            return assets.reply(found.key_id, whole.request)
        try:
            owner = self._owner(whole.request)
        except Exception as error:
            return self._pages.reply(_login_problem(error), Visit.of_nobody(whole))
        if owner is None:
            return self._nobody(found, whole)
        visit = Visit(owner, whole, found.key_id if found else "", self._forms.browser(whole.request))
        if found is None:
            return self._pages.reply(_problem("not_found"), visit)
        if found.act is None:
            allow = [(b"allow", ", ".join(found.allowed).encode())]
            return self._pages.reply(_problem("method_not_allowed", more=allow), visit)
        return self._pages.reply(self._answer(found.act, visit), visit)

    def _owner(self, request: Request) -> Owner | None:
        try:
            owner = self._who(request)
        except AccessRefused as error:
            _log.info("nobody is logged in: %s", error.reason)
            return None
        if owner is not None and not isinstance(owner, Owner):
            raise TypeError(f"who returned {type(owner).__name__}; return an Owner, or None if nobody is logged in")
        return owner

    def _answer(self, act: Shown, visit: Visit) -> Answered:
        try:
            return self._acts[act](visit)
        except AccessRefused as error:
            self._log.write(logging.WARNING, error.reason, "a form was refused: %s", error.reason)
            return _problem(error.code)
        except KeyRequestRefused as error:
            return _problem(error.code, error)
        except KeyStoreUnavailable as error:
            code = error.code
            self._log.write(logging.ERROR, code, "%s: %s", code, error)
        except (BackendUnavailable, InvalidLimit) as error:
            code = "rate_limiter_unavailable"
            self._log.write(logging.ERROR, code, "%s: %s", code, error)
        return _problem(code)

    def _nobody(self, found: Found[Shown] | None, whole: WholeRequest) -> Reply:
        if found is not None and found.act == "usage":
            # By this answer a page that is still open asks no more.
            return error_responses.nothing()
        if self._settings.login_url is not None:
            return self._pages.see_other(self._settings.login_url)
        return self._pages.reply(_NOT_LOGGED_IN, Visit.of_nobody(whole))


def _login_problem(error: Exception) -> Page:
    if isinstance(error, KeyStoreUnavailable | SigningKeysUnavailable):
        _log.error("%s: %s", error.code, error)
    else:
        _log.error("who raised %s: nobody is let in", type(error).__name__, exc_info=error)
    return Page("problem.html", {"code": "login_unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)


def _problem(code: str, error: KeyRequestRefused | None = None, *, more: error_responses.Lines = ()) -> Page:
    said = {"code": code, "what": error.what if error else "", "remedy": error.remedy if error else ""}
    return Page("problem.html", said, HTTPStatus(error_responses.status_of(code)), tuple(more))
