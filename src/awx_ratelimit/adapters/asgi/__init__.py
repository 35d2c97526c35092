"""The ASGI protocol: the middleware, and `AsgiApp`, which serves a handler such as ManagementApi as an app."""

from awx_ratelimit.adapters.asgi.app import AsgiApp

__all__ = ["AsgiApp"]
