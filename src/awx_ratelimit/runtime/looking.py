"""`looking`: code that only looks at limits, such as a command. It may run as another user than the app.

A file of limits that it created would belong to the wrong user, and what it does is no request of a client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_is_looking: Final = ContextVar("is_looking", default=False)
#: Whether this code only looks: in this thread, or in this task of an event loop.
is_looking: Final = _is_looking.get


@contextmanager
def looking(*, only: bool = True) -> Iterator[None]:
    """In the block no file of limits is created: a missing one counts as an empty one, which no other process sees.

    No warning is logged about clients or about a server that does not answer: they are for apps. With `only` False,
    the block does more than look.
    """
    token = _is_looking.set(only)
    try:
        yield
    finally:
        _is_looking.reset(token)
