"""The console: Settings > API Keys as web pages, mounted in an ASGI or WSGI application.

    console = Console(KeyService(store), who=logged_in, secret=secret, limiter=limiter, plans=plans)
    Mount("/console", AsgiApp(console, threads=2))        # awx_ratelimit.adapters.asgi, or WsgiApp from .wsgi

    operators = OperatorConsole(KeyService(store), who=operator, secret=secret, limiter=limiter, plans=plans, gate=gate)
    Mount("/operator", AsgiApp(operators))

`Console` is for customers, and `OperatorConsole` for the operator of the service. The application decides who is logged
in. The pages work without JavaScript and load nothing from other hosts.
Requires the extra ``console``.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.console.app import Console
    from awx_ratelimit.console.operator.app import OperatorConsole
    from awx_ratelimit.console.operator.identity import Operator
    from awx_ratelimit.management.auth.tokens import Owner

__all__ = ["Console", "Operator", "OperatorConsole", "Owner"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Console": f"{__name__}.app",
        "Operator": f"{__name__}.operator.identity",
        "OperatorConsole": f"{__name__}.operator.app",
        "Owner": "awx_ratelimit.management.auth.tokens",
    },
    extra="console",
    packages={"jinja2": "Jinja2", "jwt": "PyJWT", "sqlalchemy": "SQLAlchemy"},
)
