"""`OperatorConsole`: the pages for the operator of the service, from a request to a reply.

They show every account, so no customer may get here. Each act of an operator is in the audit trail with the
operator's name, and applies in every process within a second.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from awx_ratelimit.console.csrf import CsrfProtection, FormSigner
from awx_ratelimit.console.forms import Forms
from awx_ratelimit.console.operator.account_forms import AccountForms
from awx_ratelimit.console.operator.account_list import AccountList
from awx_ratelimit.console.operator.account_pages import AccountPages
from awx_ratelimit.console.operator.context import OperatorContext
from awx_ratelimit.console.operator.explain_page import ExplainPage
from awx_ratelimit.console.operator.identity import Operator, OperatorRequest
from awx_ratelimit.console.operator.key_search import KeySearch
from awx_ratelimit.console.operator.report_pages import ReportPages
from awx_ratelimit.console.operator.routes import EXPLAIN_ROUTES, OPERATOR_ROUTES
from awx_ratelimit.console.page_request import Settings
from awx_ratelimit.console.rendering import Look
from awx_ratelimit.console.secured_pages import ConsoleKind, Handler, SecuredPages
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import type_name
from awx_ratelimit.http.explain import AnyGate
from awx_ratelimit.http.gate import AsyncGate
from awx_ratelimit.http.gate_sync import Gate
from awx_ratelimit.http.message import Request
from awx_ratelimit.http.validation import checked_plans
from awx_ratelimit.keys.service import KeyService
from awx_ratelimit.limiter import AsyncLimiter
from awx_ratelimit.limiter_sync import Limiter
from awx_ratelimit.management.limits import BlockingLimiter, checked_service
from awx_ratelimit.runtime.clock import Clock, WallClock

Who = Callable[[Request], Operator | None]
_KIND: Final = ConsoleKind(
    Operator,
    OperatorRequest,
    FormSigner("__Host-awx-operator", b"awx_ratelimit.operator_console"),
    Look(("operator", ""), ("console.css", "operator.css", "console.js", "icon.svg")),
)


@dataclass(frozen=True, slots=True)
class OperatorSettings(Settings):
    """What the application configures for the operator's console. `can_explain`: it has a gate."""

    can_explain: bool


class OperatorConsole(SecuredPages):
    """Answers full requests, for `AsgiApp` and `WsgiApp`. It blocks. Paths include the prefix `base`.

    `who` takes the request and returns ``Operator("ann@example.com")`` if an operator of the service is logged in, and
    None otherwise. Its name is in the audit trail after ``operator:``. Everything else works as in Console: without an
    operator, users are redirected to `login_url`, if it is set; if `who` raises anything but AccessRefused, or
    returns an Owner, the response is 503 and the error is logged.

    `secret` signs the forms: at least 32 bytes, the same in all processes. It may be the Console's: a form of one is
    never valid in the other. `limiter` and `plans` are the same as the gate's. With `gate`, operators can let it
    explain requests. `origins`, such as ``https://app.example.com``, are the origins that forms may come from; the
    default is the host of the request.

    An AsyncLimiter or an AsyncGate works with `AsgiApp` only. Raises ValueError for a secret that is too short.
    """

    def __init__(
        self,
        keys: KeyService,
        *,
        who: Who,
        secret: str | bytes,
        limiter: Limiter | AsyncLimiter,
        plans: PlanTable,
        gate: AnyGate | None = None,
        base: str = "/operator",
        login_url: str | None = None,
        logout_url: str | None = None,
        origins: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        clock = clock or WallClock()
        csrf = CsrfProtection(_KIND.signer, secret, origins, clock)
        blocking_limiter = BlockingLimiter(limiter)
        context = OperatorContext(checked_service(keys), checked_plans(plans), blocking_limiter, clock)
        gate = _checked_gate(gate)
        forms, pages = Forms(csrf, context.keys.finder), AccountPages(context)
        handlers: dict[Any, Handler] = {
            **AccountList(context, forms).handlers,
            **pages.handlers,
            **AccountForms(context, forms, pages).handlers,
            **KeySearch(context, forms).handlers,
            **ReportPages(context, forms).handlers,
        }
        routes = OPERATOR_ROUTES
        if gate is not None:
            routes = (*routes, *EXPLAIN_ROUTES)
            handlers |= ExplainPage(context, forms, gate).handlers
        #: Whether calls must come from a thread of the event loop's `AsgiApp`.
        self.needs_loop = blocking_limiter.needs_loop or isinstance(gate, AsyncGate)
        settings = OperatorSettings(base.rstrip("/"), login_url, logout_url, gate is not None)
        super().__init__(_KIND, who, settings, csrf, routes, handlers)


def _checked_gate(gate: Any) -> AnyGate | None:
    if gate is None or isinstance(gate, Gate | AsyncGate):
        return gate
    raise TypeError(f"gate: expected a Gate, an AsyncGate or None, got {type_name(gate)}")
