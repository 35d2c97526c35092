"""Refuses a second rate limit on one app. Each request would be charged twice, and nothing would say so.

An app that is mounted into another one may have a rate limit too: its requests are charged by both, which users do on
purpose. It is no part of the chain of middlewares that is looked through here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

#: Where middlewares and frameworks keep the app that they are around.
_INNER: Final = ("app", "wsgi_app", "asgi_app", "middleware_stack", "_middleware_chain", "__wrapped__", "get_response")
#: Longer chains are not looked through to their end.
_MAX_OBJECTS: Final = 200


class LimitsApp:
    """A middleware that limits a whole app."""

    #: The class by which error messages name it.
    way_in: ClassVar[str] = "RateLimitMiddleware"
    #: Its gate.
    gate: Any
    #: Whether it has made the gate of plain arguments. With a gate of their own, two middlewares on one app are meant.
    has_made_gate = False

    def check_is_first(self, app: Any) -> None:
        """Raise TypeError if `app` has a rate limit already, unless both have the same gate, or were given gates."""
        for gate, has_made_gate, way_in in _limits_of(app):
            if gate is not self.gate and (has_made_gate or self.has_made_gate):
                raise TypeError(f"{second_limit(way_in)}, or give both a gate=... if both must decide")


def second_limit(way_in: str) -> str:
    """The error for an app that `way_in`, a public class, limits already."""
    return (
        f"app: expected an app without a rate limit, got one that {way_in} limits already, and each request would be "
        "charged twice; write only one of them"
    )


def _limits_of(app: Any) -> Iterator[tuple[Any, bool, str]]:
    """The gate of each middleware of this library on `app`, whether it has made its gate, and its public class."""
    pending, seen = [app], set[int]()
    while pending and len(seen) < _MAX_OBJECTS:
        found = pending.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, LimitsApp):
            yield found.gate, found.has_made_gate, found.way_in
        # Only what is stored: reading a property of somebody else's app may do anything.
        stored: Mapping[str, Any] = getattr(found, "__dict__", {})
        for listed in stored.get("user_middleware") or ():
            # Starlette makes its middlewares for the first request.
            made_by = getattr(listed, "cls", None)
            if isinstance(made_by, type) and issubclass(made_by, LimitsApp):
                gate = getattr(listed, "kwargs", {}).get("gate")
                yield gate, gate is None, made_by.way_in
        pending += [stored[name] for name in _INNER if stored.get(name) is not None]
