"""`Console`: the pages of Settings > API Keys, from a request to a reply.

Every page belongs to the owner whom the application reports as logged in. Only forms change anything, and each form
works once. A new key is in the response to its form and nowhere else.
"""

from collections.abc import Callable, Collection
from typing import Final

from awx_ratelimit.console.csrf import CsrfProtection, FormSigner
from awx_ratelimit.console.form_handlers import FormHandlers
from awx_ratelimit.console.page_context import ConsoleSettings, PageContext
from awx_ratelimit.console.page_handlers import PageHandlers
from awx_ratelimit.console.page_request import PageRequest
from awx_ratelimit.console.rendering import Look
from awx_ratelimit.console.routes import ROUTES
from awx_ratelimit.console.secured_pages import ConsoleKind, SecuredPages
from awx_ratelimit.console.usage_handlers import UsageHandlers
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.api import CREATIONS
from awx_ratelimit.management.auth.tokens import Owner
from awx_ratelimit.management.limits import BlockingLimiter, KeyIssuer, checked_service
from awx_ratelimit.runtime.clock import Clock, WallClock

Who = Callable[[Request], Owner | None]
_KIND: Final = ConsoleKind(
    Owner,
    PageRequest,
    FormSigner("__Host-awx-console", b"awx_ratelimit.console"),
    Look(("",), ("console.css", "console.js", "icon.svg")),
)


class Console(SecuredPages):
    """Answers full requests, for `AsgiApp` and `WsgiApp`. It blocks. Paths include the prefix `base`.

    `who` takes the request and returns the Owner who is logged in, or None. Read your session cookie with
    ``request.cookie(name)``. Without an owner, users are redirected to `login_url`, if it is set. If `who` raises
    AccessRefused, nobody is logged in. If it raises anything else, the response is 503 and the error is logged.

    `secret` signs the forms: at least 32 bytes, the same in all processes. `limiter` and `plans` are the same as the
    gate's. `creations` and `new_account_plan` work as in ManagementApi; with one limiter, keys created here and there
    share the limit. `api_base` and `try_path` appear in the commands that users copy. `origins`, such as
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
        csrf = CsrfProtection(_KIND.signer, secret, origins, clock)
        blocking_limiter = BlockingLimiter(limiter)
        issuer = KeyIssuer(keys, blocking_limiter, checked_plans(plans), creations, new_account_plan)
        settings = ConsoleSettings(base.rstrip("/"), login_url, logout_url, new_account_plan, api_base, try_path)
        context = PageContext(checked_service(keys), plans, blocking_limiter, issuer, clock, settings)
        pages = PageHandlers(context)
        #: Whether calls must come from a thread of the event loop's `AsgiApp`.
        self.needs_loop = blocking_limiter.needs_loop
        handlers = {
            **pages.handlers,
            **UsageHandlers(context).handlers,
            **FormHandlers(context, csrf, pages).handlers,
        }
        super().__init__(_KIND, who, settings, csrf, ROUTES, handlers)
