"""The login of the wallet API's consoles. A link logs you in once, and sets a session cookie.

A real application has its own login. Each console needs one function of it, like `who` and `operator` here.
"""

import secrets
import time
from typing import Any, Final, NamedTuple

import jwt
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from awx_ratelimit import AsyncLimiter, Plan
from awx_ratelimit import Request as GateRequest
from awx_ratelimit.console import Operator, Owner

LINK_SECONDS: Final = 3_600
SESSION_SECONDS: Final = 43_200
#: A limiter shared by all processes lets a link work only once.
ONCE: Final = Plan.of("login", per_day=1)


class Entrance(NamedTuple):
    """Who may enter: the purposes of the link and of the session, the cookie of the session, and the first page."""

    link: str
    session: str
    cookie: str
    page: str


# Because of their prefix, browsers keep the cookies to this host and send them only over TLS (or on this machine).
# A link and a session of one entrance are worth nothing at the other.
CUSTOMERS: Final = Entrance("login", "session", "__Host-wallet-session", "/console/")
OPERATORS: Final = Entrance("operator-login", "operator-session", "__Host-wallet-operator", "/operator/")


class Login:
    """Links and sessions, signed with `secret`."""

    def __init__(self, secret: str, limiter: AsyncLimiter) -> None:
        self._secret = secret
        self._limiter = limiter
        self.routes: list[BaseRoute] = [Route("/login/{link}", self._enter), Route("/logout", self._leave)]

    def who(self, request: GateRequest) -> Owner | None:
        """The account of the request's session; None without one."""
        account = self._logged_in(request, CUSTOMERS)
        return None if account is None else Owner(account, f"{account}@example.com")

    def operator(self, request: GateRequest) -> Operator | None:
        """The operator of the request's session; None without one."""
        name = self._logged_in(request, OPERATORS)
        return None if name is None else Operator(name)

    def _logged_in(self, request: GateRequest, entrance: Entrance) -> str | None:
        claims = _read(request.cookie(entrance.cookie) or "", self._secret, entrance.session)
        return None if claims is None else str(claims["sub"])

    async def _enter(self, request: StarletteRequest) -> Response:
        for entrance in (CUSTOMERS, OPERATORS):
            claims = _read(request.path_params["link"], self._secret, entrance.link)
            if claims and await self._limiter.acquire(f"login:{claims['jti']}", ONCE):
                session = _signed(claims["sub"], self._secret, entrance.session, SESSION_SECONDS)
                response = RedirectResponse(entrance.page, status_code=303, headers={"cache-control": "no-store"})
                response.set_cookie(entrance.cookie, session, secure=True, httponly=True, samesite="lax")
                return response
        return PlainTextResponse("This link has expired or was already used.\n", status_code=403)

    async def _leave(self, _: StarletteRequest) -> Response:
        response = PlainTextResponse("You are logged out.\n")
        for entrance in (CUSTOMERS, OPERATORS):
            response.delete_cookie(entrance.cookie, secure=True, httponly=True, samesite="lax")
        return response


def login_path(account: str, secret: str) -> str:
    """A path that logs you in to that account."""
    return f"/login/{_signed(account, secret, CUSTOMERS.link, LINK_SECONDS)}"


def operator_login_path(name: str, secret: str) -> str:
    """A path that logs you in as that operator of the service."""
    return f"/login/{_signed(name, secret, OPERATORS.link, LINK_SECONDS)}"


def _signed(account: str, secret: str, purpose: str, seconds: int) -> str:
    claims = {"sub": account, "aud": purpose, "exp": int(time.time()) + seconds, "jti": secrets.token_urlsafe(8)}
    return jwt.encode(claims, secret, algorithm="HS256")


def _read(token: str, secret: str, purpose: str) -> dict[str, Any] | None:
    required = {"require": ["sub", "aud", "exp", "jti"]}
    try:
        claims: dict[str, Any] = jwt.decode(token, secret, ["HS256"], audience=purpose, options=required)  # type: ignore[arg-type]
    except jwt.InvalidTokenError:
        return None
    return claims
