"""Pyramid."""

import warnings

from tests.works_with.limits import ticks, wsgi_limited

with warnings.catch_warnings():
    # It imports `cgi` and `pkg_resources`, which are deprecated.
    warnings.simplefilter("ignore")
    from pyramid.config import Configurator
    from pyramid.response import Response

with Configurator() as _config:
    for _name in ("health", "plain"):
        _config.add_route(_name, f"/{_name}")
        _config.add_view(lambda _: Response("hello"), route_name=_name)
    _config.add_route("stream", "/stream")
    _config.add_view(lambda _: Response(app_iter=ticks()), route_name="stream")

app = wsgi_limited(_config.make_wsgi_app())
