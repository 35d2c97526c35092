"""Refuses a second rate limit of the same clients on one app. Each request would be charged twice, without a word.

Two limits that tell clients apart differently are meant, such as one by address around one by key. So are those of an
app and of another one that is mounted into it, which is no part of the chain of middlewares that is looked through.
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
    #: How it tells clients apart (see `counts_by`); None: by its gate.
    counts_by: Any = None

    def check_is_first(self, app: Any) -> None:
        """Raise TypeError if `app` has a rate limit that tells clients apart as this one does."""
        for known, way_in in _limits_of(app):
            if known is not None and known == self.counts_by:
                raise TypeError(f"{second_limit(way_in)}, or give both a gate=... if both must decide")


def counts_by(keys: Any, identify: Any, gate: Any) -> Any:
    """How a limit with these arguments tells clients apart; None for a gate of one's own: several are meant."""
    if gate is not None:
        return None
    return "keys" if keys is not None else identify or "address"


def second_limit(way_in: str) -> str:
    """The error for an app that `way_in`, a public class, limits already."""
    return (
        f"app: expected an app without a rate limit, got one that {way_in} limits already, and each request would be "
        "charged twice; write only one of them"
    )


def _limits_of(app: Any) -> Iterator[tuple[Any, str]]:
    """How each middleware of this library on `app` tells clients apart, and its public class."""
    pending, seen = [app], set[int]()
    while pending and len(seen) < _MAX_OBJECTS:
        found = pending.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, LimitsApp):
            yield found.counts_by, found.way_in
        # Only what is stored: reading a property of somebody else's app may do anything.
        stored: Mapping[str, Any] = getattr(found, "__dict__", {})
        for listed in stored.get("user_middleware") or ():
            # Starlette makes its middlewares for the first request.
            made_by = getattr(listed, "cls", None)
            if isinstance(made_by, type) and issubclass(made_by, LimitsApp):
                given = getattr(listed, "kwargs", {})
                yield counts_by(*map(given.get, ("keys", "identify", "gate"))), made_by.way_in
        pending += [stored[name] for name in _INNER if stored.get(name) is not None]
