"""The middleware for Flask, Django, Falcon, Bottle and any other WSGI app. It imports no framework."""

from awx_ratelimit.adapters.wsgi.middleware import RateLimitMiddleware

__all__ = ["RateLimitMiddleware"]
