"""The console: Settings > API Keys as web pages, mounted in an ASGI or WSGI application.

    console = Console(KeyService(store), who=logged_in, secret=secret, limiter=limiter, plans=plans)
    Mount("/console", AsgiApp(console, threads=2))        # awx_ratelimit.adapters.asgi, or WsgiApp from .wsgi

The application decides who is logged in. The pages work without JavaScript and load nothing from other hosts.
Requires the extra ``console``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from awx_ratelimit.runtime.extras import check_versions

if TYPE_CHECKING:
    from awx_ratelimit.console.app import Console
    from awx_ratelimit.management.auth.claims import Owner

__all__ = ["Console", "Owner"]

_MODULES = {"Console": "awx_ratelimit.console.app", "Owner": "awx_ratelimit.management.auth.claims"}
_PACKAGES = {"jinja2": "Jinja2", "jwt": "PyJWT", "sqlalchemy": "SQLAlchemy"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_versions(name, "console", "jinja2", "pyjwt", "sqlalchemy")
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        package = _PACKAGES[error.name]
        raise ImportError(f"{name} needs {package}; install it with: pip install 'awx-ratelimit[console]'") from error
    return getattr(module, name)
