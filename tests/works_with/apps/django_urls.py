"""What both Django apps have in common: the settings and the URLs, whose views are given."""

from collections.abc import Callable
from typing import Any

from django import setup
from django.conf import settings
from django.urls import path


def configure(plain: Callable[..., Any], stream: Callable[..., Any]) -> None:
    """Set up Django with these views, without a database and without other middlewares."""
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="test", MIDDLEWARE=[])
    setup()
    urlpatterns[:] = [path("health", plain), path("plain", plain), path("stream", stream)]


urlpatterns: list[Any] = []
