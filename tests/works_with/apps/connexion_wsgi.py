"""Connexion on WSGI, as its documentation deploys it: its ASGI app in a2wsgi."""

from a2wsgi import ASGIMiddleware
from connexion import FlaskApp
from flask import Response
from tests.works_with.apps.connexion_document import document
from tests.works_with.limits import ticks, wsgi_limited


def plain() -> str:
    """Answer /plain."""
    return "hello"


def health() -> str:
    """Answer /health."""
    return "healthy"


def stream() -> Response:
    """Answer /stream."""
    return Response(ticks())


_connexion = FlaskApp(__name__)
_connexion.add_api(document(__name__))
app = wsgi_limited(ASGIMiddleware(_connexion))
