"""The ASGI protocol: a whole application made of a handler, and what the middleware needs of a scope."""

from awx_ratelimit.adapters.asgi.app import AsgiApp

__all__ = ["AsgiApp"]
