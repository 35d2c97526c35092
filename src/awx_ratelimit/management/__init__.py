"""The REST API for keys: a function from a full request to a reply, which ASGI and WSGI serve alike.

    tokens = AccessTokens(secret, algorithms=["HS256"], issuer="https://login.example.com", audience="wallet-api")
    api = ManagementApi(KeyService(store), tokens, limiter=limiter, plans=plans)
    Mount("/api/v1", AsgiApp(api))                        # awx_ratelimit.adapters.asgi, or WsgiApp of .wsgi

It needs the extra ``keys``. Access tokens are verified here, and issued elsewhere.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.management.api import ManagementApi
    from awx_ratelimit.management.auth.jwks import Jwks
    from awx_ratelimit.management.auth.operator_tokens import OperatorTokens
    from awx_ratelimit.management.auth.tokens import AccessTokens, Owner
    from awx_ratelimit.management.operator_api import OperatorApi
    from awx_ratelimit.management.usage import AccountUsage, KeyUsage, LimitUsage, live_usage

__all__ = [
    "AccessTokens",
    "AccountUsage",
    "Jwks",
    "KeyUsage",
    "LimitUsage",
    "ManagementApi",
    "OperatorApi",
    "OperatorTokens",
    "Owner",
    "live_usage",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AccessTokens": f"{__name__}.auth.tokens",
        "AccountUsage": f"{__name__}.usage",
        "Jwks": f"{__name__}.auth.jwks",
        "KeyUsage": f"{__name__}.usage",
        "LimitUsage": f"{__name__}.usage",
        "ManagementApi": f"{__name__}.api",
        "OperatorApi": f"{__name__}.operator_api",
        "OperatorTokens": f"{__name__}.auth.operator_tokens",
        "Owner": f"{__name__}.auth.tokens",
        "live_usage": f"{__name__}.usage",
    },
    extra="keys",
    packages={"jwt": "PyJWT", "sqlalchemy": "SQLAlchemy"},
)
