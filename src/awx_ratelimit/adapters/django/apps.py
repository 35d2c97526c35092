"""The app for INSTALLED_APPS, which adds the system checks and the management command."""

from django.apps import AppConfig
from django.core.checks import register

from awx_ratelimit.adapters.django.checks import check_settings


class RateLimitConfig(AppConfig):
    """``"awx_ratelimit.adapters.django"`` in INSTALLED_APPS. It has no models."""

    name = "awx_ratelimit.adapters.django"
    label = "awx_ratelimit"
    verbose_name = "Rate limits"

    def ready(self) -> None:
        register(check_settings, "awx_ratelimit")
