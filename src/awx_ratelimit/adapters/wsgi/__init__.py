"""The WSGI protocol: the middleware, and `WsgiApp`, which serves a handler such as ManagementApi as an app."""

from awx_ratelimit.adapters.wsgi.app import WsgiApp

__all__ = ["WsgiApp"]
