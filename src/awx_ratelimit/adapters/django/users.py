"""`DjangoUser`: the logged-in user as the caller."""

import inspect
from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.utils.functional import LazyObject

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.validation import describe, type_name
from awx_ratelimit.http.known_callers import NamesCallers
from awx_ratelimit.http.message import Request

_PREFIX: Final = "user_"


class DjangoUser(NamesCallers):
    """Identifies a request by its logged-in user, with the subject ``user_<primary key>``.

    `plan` is the name of the users' plan, a Plan, or a function from a user to one of these; None is the default plan.
    Under ASGI the function runs in the event loop, so it must not query the database. Requests of anonymous users have
    no caller. Put the middleware after Django's AuthenticationMiddleware. Under ASGI the user is loaded by
    ``await request.auser()``.

    Raises TypeError for a `plan` of another type, and for a request without a user.
    """

    challenge = 'Cookie realm="api"'

    def __init__(self, plan: str | Plan | Callable[[Any], str | Plan | None] | None = None) -> None:
        if inspect.iscoroutinefunction(plan) or not (plan is None or isinstance(plan, str | Plan) or callable(plan)):
            raise TypeError(
                "DjangoUser: plan: expected the name of a plan, a Plan or a plain function of the user, "
                f"got {describe(plan)}; write DjangoUser(plan='starter')"
            )
        self._plan = plan

    def __call__(self, request: Request) -> Caller | None:
        """The caller of a request. It may query the database."""
        return self._caller(_user(request))

    async def call_async(self, request: Request) -> Caller | None:
        """As a call, for an event loop."""
        user = _user(request)
        # The lazy user of AuthenticationMiddleware would query the database. Django REST framework sets a real one.
        if issubclass(type(user), LazyObject):
            load = getattr(request.source, "auser", None)
            if load is None:
                return await sync_to_async(self, thread_sensitive=True)(request)
            user = await load()
        return self._caller(user)

    def sends_key(self, _request: Request) -> bool:
        """Whether the request has something in the place of a key: it never has."""
        return False

    def caller_named(self, subject: str) -> Caller | None:
        """The caller with this subject, for commands; None if there is no such user. It may query the database."""
        key = subject.removeprefix(_PREFIX)
        if key == subject:
            return None
        if not callable(self._plan):
            return Caller(subject, self._plan)
        try:
            user = get_user_model()._default_manager.filter(pk=key).first()  # noqa: SLF001  # Django's name
        except (TypeError, ValueError, OverflowError, ValidationError):
            # No primary key can have this text.
            return None
        if user is None or f"{_PREFIX}{user.pk}" != subject:
            # Django also reads other texts of a key, such as 07, but no request has that subject.
            return None
        return self._caller(user)

    def _caller(self, user: Any) -> Caller | None:
        if not user.is_authenticated:
            return None
        plan = self._plan(user) if callable(self._plan) else self._plan
        return Caller(f"{_PREFIX}{user.pk}", plan)


def _user(request: Request) -> Any:
    user = getattr(request.source, "user", None)
    if user is None:
        raise TypeError(
            f"DjangoUser: expected a request of Django with a user, got {type_name(request.source)}; put "
            "'awx_ratelimit.adapters.django.RateLimitMiddleware' after AuthenticationMiddleware in MIDDLEWARE"
        )
    return user
