"""The system checks of the app: ``manage.py check`` and every start of a development server run them."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from awx_ratelimit.adapters.django.configuration import NAME, configuration, is_configured
from awx_ratelimit.adapters.django.trial import tried
from awx_ratelimit.runtime.documentation import page

ENTRY = "awx_ratelimit.adapters.django.RateLimitMiddleware"
_ENTRIES = (ENTRY, "awx_ratelimit.adapters.django.middleware.RateLimitMiddleware")
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """E001: a wrong setting. E002: users are the callers, and are not known yet. W001: the setting is not used."""
    if not is_configured() and not _positions(*_ENTRIES):
        return []
    try:
        found = configuration()
        with tried(found):
            pass
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), hint=f"See {page('django', 'the-setting')}.", id="awx_ratelimit.E001")]
    return list(_order(found.identifies_users))


def _order(identifies_users: bool) -> Iterator[checks.CheckMessage]:
    ours, authentication = _positions(*_ENTRIES), _positions(_AUTHENTICATION)
    if not ours:
        yield checks.Warning(
            f"{NAME} is in the settings, but MIDDLEWARE has no {ENTRY!r}, so only views with limit(...) are limited",
            hint=f"Add {ENTRY!r} to MIDDLEWARE.",
            id="awx_ratelimit.W001",
        )
    elif identifies_users and (not authentication or authentication[0] > ours[0]):
        yield checks.Error(
            f"identify: DjangoUser needs request.user, and {ENTRY!r} comes before AuthenticationMiddleware",
            hint=f"Write {ENTRY!r} after {_AUTHENTICATION!r} in MIDDLEWARE.",
            id="awx_ratelimit.E002",
        )


def _positions(*names: str) -> list[int]:
    return [at for at, name in enumerate(settings.MIDDLEWARE) if name in names]
