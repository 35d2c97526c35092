"""docs/reference/ shows every member that users may call, and the class of everything that such a member returns."""

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from textwrap import dedent
from types import FunctionType, MethodDescriptorType
from typing import Any

from tests.docs.internal_members import INTERNAL, OPAQUE
from tests.docs.pages import text_of
from tests.docs.test_reference import PAGES

from awx_ratelimit.backends.base import AsyncBackend, Backend
from awx_ratelimit.observability.observers import Observer
from awx_ratelimit.testing.drivers import Driver

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$(?:\n    options:\n      members: (.+)$)?", re.MULTILINE)
#: The members that each section shows: None for all of them.
SHOWN = {
    path: None if not listed else [] if listed == "false" else listed.strip("[]").split(", ")
    for page in PAGES
    for path, listed in _DIRECTIVE.findall(text_of(page))
}


# Django is configured by the first import of an example; its adapters need that.
import_module("examples.django_app")


def found(path: str) -> Any:
    """The object at a path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


CLASSES = {path: found(path) for path in SHOWN if isinstance(found(path), type)}
#: What a limiter calls on every backend and every listener, and a contract on every driver. Users do not.
_OF_PROTOCOLS = {name for protocol in (Backend, AsyncBackend, Observer, Driver) for name in dir(protocol)}


def members(cls: type) -> dict[str, Any]:
    """The public methods, properties and attributes of a class that this package defines, without its fields."""
    # The methods of a compiled class are method descriptors.
    kinds = (FunctionType, MethodDescriptorType, classmethod, staticmethod, property, cached_property)
    ours = [each for each in reversed(cls.__mro__) if each.__module__.startswith("awx_ratelimit")]
    named = {name: value for each in ours for name, value in vars(each).items() if isinstance(value, kinds)}
    attributes = {name: None for each in ours for name in _attributes(each)}
    # Those of the contracts are tests, which run by themselves.
    return {name: value for name, value in {**attributes, **named}.items() if not name.startswith(("_", "test_"))}


def _attributes(cls: type) -> Iterator[str]:
    """The public attributes that `__init__` sets: those with a comment, and those that are no argument."""
    init = inspect.unwrap(vars(cls).get("__init__", object.__init__))
    if not isinstance(init, FunctionType) or init.__code__.co_filename.startswith("<"):
        return
    source = dedent(inspect.getsource(init))
    arguments, lines = set(inspect.signature(init).parameters), source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        if node.attr not in arguments or lines[node.lineno - 2].strip().startswith("#:"):
            yield node.attr


def returned(path: str) -> Iterator[type]:
    """The classes of this package that the shown members of a class return, and those of its fields."""
    cls = CLASSES[path]
    shown = SHOWN[path]
    for name, value in members(cls).items():
        if shown is None or name in shown:
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if callable(function):
                yield from _classes(inspect.signature(function).return_annotation, function)
    for field in (*getattr(cls, "_fields", ()), *getattr(cls, "__dataclass_fields__", ())):
        if not field.startswith("_"):
            yield from _classes(inspect.get_annotations(cls).get(field), cls)


def _classes(annotation: Any, source: Any) -> Iterator[type]:
    if isinstance(annotation, str):
        annotation = vars(import_module(source.__module__)).get(annotation.split("[")[0])
    if isinstance(annotation, type) and annotation.__module__.startswith("awx_ratelimit"):
        yield annotation
    for part in (typing.get_origin(annotation), *typing.get_args(annotation)):
        if part is not None:
            yield from _classes(part, source)


def test_members() -> None:
    """A section shows each member of its class, except those that are for other parts of the package."""
    known = {path: set(members(cls)) - _OF_PROTOCOLS for path, cls in CLASSES.items()}
    hidden = {path: names - set(SHOWN[path] or ()) for path, names in known.items() if SHOWN[path] is not None}

    assert {path: names for path, names in hidden.items() if names} == INTERNAL


def test_shown_members() -> None:
    """A section lists only members that exist."""
    fields = {
        path: {*getattr(cls, "_fields", ()), *getattr(cls, "__dataclass_fields__", ())} for path, cls in CLASSES.items()
    }
    missing = {path: set(SHOWN[path] or ()) - set(members(cls)) - fields[path] for path, cls in CLASSES.items()}

    assert {path: names for path, names in missing.items() if names} == {}


def test_results() -> None:
    """The class of everything that a shown member returns has a section of its own."""
    documented = {id(cls) for cls in CLASSES.values()}
    missing = {
        f"{path}: {cls.__module__}.{cls.__qualname__}"
        for path in CLASSES
        for cls in returned(path)
        if id(cls) not in documented and cls.__name__ not in OPAQUE and not cls.__name__.startswith("_")
    }

    assert missing == set()
