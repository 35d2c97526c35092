"""The REST API for keys: a function from a full request to a reply, which ASGI and WSGI serve alike.

    tokens = AccessTokens(secret, algorithms=["HS256"], issuer="https://login.example.com", audience="wallet-api")
    api = ManagementApi(KeyService(store), tokens, limiter=limiter, plans=plans)
    Mount("/api/v1", AsgiApp(api))                        # awx_ratelimit.adapters.asgi, or WsgiApp of .wsgi

It needs the extra ``keys``. Access tokens are verified here, and issued elsewhere.
"""

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
