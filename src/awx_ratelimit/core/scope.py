"""The scope of a limit of one route or one function: the name that keeps its buckets apart from all others."""

import inspect
import re
from collections.abc import Callable
from hashlib import blake2s
from typing import Any

from awx_ratelimit.core.budget import MAX_SCOPE_LENGTH, RESERVED_SCOPES, is_scope

#: The function that a scope without a hash belongs to, and the line of the function that an identity belongs to.
_OWNERS: dict[str, str] = {}


def scope_of_function(function: Callable[..., Any]) -> str:
    """The scope of a decorated function: its name, with a hash of its place if another one has that name.

    A function that a framework has made of a class of views has the name that the framework gave it, or that class.
    """
    function = getattr(function, "view_class", function)
    qualified = getattr(function, "__qualname__", type(function).__qualname__)
    name = qualified.rpartition("<locals>.")[2]
    given = getattr(function, "__name__", "")
    if given and given != name.rpartition(".")[2]:
        name = qualified = given
    return scope_among(_OWNERS, name, qualified, function)


def scope_among(owners: dict[str, str], name: str, qualified: str, function: Any) -> str:
    """The scope of `function`, which is called `name` and is `qualified` in its module.

    `owners` are the functions that have scopes already; this one is added.
    """
    identity = f"{getattr(function, '__module__', '')}:{qualified}"
    line = str(getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", ""))
    if owners.setdefault(identity, line) != line:
        # Lambdas, and functions that a later one of the same name has replaced.
        identity = f"{identity}:{line}"
    return scope_of(name, identity, is_unique=owners.setdefault(name, identity) == identity)


def scope_of(name: str, identity: str, *, is_unique: bool) -> str:
    """The scope of the route called `name`: the name itself if it can be one and `is_unique`, else with a hash.

    `identity` is a text that no other route has and that is the same in all processes of the app.
    """
    scope = re.sub(r"[^a-z0-9_-]", "_", name.lower())
    if is_unique and is_scope(name) and name not in RESERVED_SCOPES:
        return name
    return f"{scope[: MAX_SCOPE_LENGTH - 8]}-{blake2s(identity.encode(), digest_size=4).hexdigest()[:7]}"
