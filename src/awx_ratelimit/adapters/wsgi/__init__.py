"""The WSGI protocol: a whole application made of a handler, and what the middleware needs of an environ."""

from awx_ratelimit.adapters.wsgi.app import WsgiApp

__all__ = ["WsgiApp"]
