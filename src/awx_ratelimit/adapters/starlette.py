"""The middleware for Starlette, FastAPI, Litestar, Quart, Django and any other ASGI app. It imports no framework."""

from awx_ratelimit.adapters.asgi.middleware import RateLimitMiddleware

__all__ = ["RateLimitMiddleware"]
