"""Tries the gates of a configuration, for the system checks and the command.

These may run as another user than the server. A file of limits that they create would belong to the wrong user.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from asgiref.sync import iscoroutinefunction

from awx_ratelimit.adapters.django.configuration import Configuration, never_waits, one_error
from awx_ratelimit.backends.open import check_folder
from awx_ratelimit.runtime.looking import looking


@contextmanager
def tried(found: Configuration) -> Iterator[Configuration]:
    """A copy of `found` that has made the gates of each kind that its backend serves, which end with the block.

    A missing file of limits is not created. Raises ImproperlyConfigured for what is wrong.
    """
    copied = _unopened(found)
    with looking():
        try:
            _make_gates(copied)
            yield copied
        finally:
            _close(copied)


def _unopened(found: Configuration) -> Configuration:
    """A copy that has made no gate yet, and whose gates tell no listener."""
    copied = copy(found)
    copied.listeners = ()
    for made in ("gate", "async_gate", "limiter"):
        vars(copied).pop(made, None)
    return copied


def _make_gates(tried: Configuration) -> None:
    backend = tried.backend
    if isinstance(backend, str):
        with one_error():
            check_folder(backend)
    if backend is None or isinstance(backend, str):
        kinds: tuple[str, ...] = "gate", "async_gate"
    elif iscoroutinefunction(getattr(backend, "acquire", None)):
        kinds = ("async_gate",)
    else:
        kinds = ("gate", "async_gate") if never_waits(backend) else ("gate",)
    for kind in kinds if tried.makes_gates else ():
        getattr(tried, kind)


def _close(tried: Configuration) -> None:
    """Close what was opened here. A backend object belongs to the project."""
    # A backend for event loops has opened nothing: it would connect for the first request.
    if isinstance(tried.backend, str) and "limiter" in vars(tried):
        tried.limiter.close()
