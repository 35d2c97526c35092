"""Code that only looks at limits: `looking` is for a program that does nothing else, and `quiet` also for a server.

A command may run as another user than the app. A file of limits that it created would belong to the wrong user. What it
does is no request of a client, and neither is an explanation in a server.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_is_looking: Final = ContextVar("is_looking", default=False)
_is_quiet: Final = ContextVar("is_quiet", default=False)
#: Whether this code only looks: in this thread, or in this task of an event loop.
is_looking: Final = _is_looking.get
#: Whether no warning about clients is logged here.
is_quiet: Final = _is_quiet.get


@contextmanager
def looking(*, only: bool = True) -> Iterator[None]:
    """In the block no file of limits is created: a missing one counts as an empty one, which no other process sees.

    Nothing that the block makes may be kept. No warning is logged about clients or about a server that does not answer:
    they are for apps. With `only` False, the block does more than look.
    """
    with _having(_is_looking, only), quiet():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """In the block no warning is logged about clients. What the app makes in it works as anywhere else."""
    with _having(_is_quiet, True):
        yield


@contextmanager
def _having(variable: ContextVar[bool], value: bool) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
