"""For Django: the entry of MIDDLEWARE, limits of single views, users as callers, and an app with checks and a command.

    MIDDLEWARE = [..., "awx_ratelimit.adapters.django.RateLimitMiddleware"]
    AWX_RATELIMIT = {"keys": {"awx_example_key": "starter"}}

Nothing here is imported before it is used, so that settings can import this package.
"""

from typing import TYPE_CHECKING

from awx_ratelimit.runtime.extras import lazy_exports

if TYPE_CHECKING:
    from awx_ratelimit.adapters.django.limits import limit
    from awx_ratelimit.adapters.django.middleware import RateLimitMiddleware
    from awx_ratelimit.adapters.django.users import DjangoUser

__all__ = ["DjangoUser", "RateLimitMiddleware", "limit"]

__getattr__ = lazy_exports(
    __name__,
    {
        "DjangoUser": "awx_ratelimit.adapters.django.users",
        "RateLimitMiddleware": "awx_ratelimit.adapters.django.middleware",
        "limit": "awx_ratelimit.adapters.django.limits",
    },
    extra="django",
    packages={"asgiref": "Django", "django": "Django"},
)
