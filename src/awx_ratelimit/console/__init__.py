"""Settings > API Keys as web pages, from a whole request to a reply: ASGI and WSGI serve the same.

    console = Console(KeyService(store), who=logged_in, secret=secret, limiter=limiter, plans=plans)
    Mount("/console", AsgiApp(console, threads=2))        # awx_ratelimit.adapters.asgi, or WsgiApp of .wsgi

Layer 6. It needs the extra ``console``. Who is logged in is said by the application that mounts it; the pages work
without JavaScript, and load nothing from anywhere else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from awx_ratelimit.runtime.extras import check_versions

if TYPE_CHECKING:
    from awx_ratelimit.console.app import Console
    from awx_ratelimit.management.auth.claims import Owner

__all__ = ["Console", "Owner"]

_HOMES = {"Console": "awx_ratelimit.console.app", "Owner": "awx_ratelimit.management.auth.claims"}
_THIRD_PARTIES = {"jinja2": "Jinja2", "jwt": "PyJWT", "sqlalchemy": "SQLAlchemy"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_versions(name, "console", "jinja2", "pyjwt", "sqlalchemy")
    try:
        home = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name not in _THIRD_PARTIES:
            raise
        needed = _THIRD_PARTIES[error.name]
        raise ImportError(f"{name} needs {needed}; install it with: pip install 'awx-ratelimit[console]'") from error
    return getattr(home, name)
