"""The login of the wallet API's console. A link logs you in once, and sets a session cookie.

A real application has its own login. The console needs one function of it, like `who` here.
"""

import secrets
import time
from typing import Any, Final

import jwt
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from awx_ratelimit import AsyncLimiter, Plan, Request
from awx_ratelimit.console import Owner

#: Because of its prefix, browsers keep it to this host and send it only over TLS (or on this machine).
COOKIE: Final = "__Host-wallet-session"
LINK_SECONDS: Final = 3_600
SESSION_SECONDS: Final = 43_200
#: A limiter shared by all processes lets a link work only once.
ONCE: Final = Plan.of("login", per_day=1)


class Login:
    """Links and sessions, signed with `secret`."""

    def __init__(self, secret: str, limiter: AsyncLimiter) -> None:
        self._secret = secret
        self._limiter = limiter
        self.routes: list[BaseRoute] = [Route("/login/{link}", self._enter), Route("/logout", self._leave)]

    def who(self, request: Request) -> Owner | None:
        """The account of the request's session; None without one."""
        claims = _read(request.cookie(COOKIE) or "", self._secret, "session")
        return None if claims is None else Owner(claims["sub"], f"{claims['sub']}@example.com")

    async def _enter(self, request: StarletteRequest) -> Response:
        claims = _read(request.path_params["link"], self._secret, "login")
        if claims is None or not await self._limiter.acquire(f"login:{claims['jti']}", ONCE):
            return PlainTextResponse("This link has expired or was already used.\n", status_code=403)
        session = _signed(claims["sub"], self._secret, "session", SESSION_SECONDS)
        response = RedirectResponse("/console/", status_code=303, headers={"cache-control": "no-store"})
        response.set_cookie(COOKIE, session, secure=True, httponly=True, samesite="lax")
        return response

    async def _leave(self, _: StarletteRequest) -> Response:
        response = PlainTextResponse("You are logged out.\n")
        response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax")
        return response


def login_path(account: str, secret: str) -> str:
    """A path that logs you in to that account."""
    return f"/login/{_signed(account, secret, 'login', LINK_SECONDS)}"


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
