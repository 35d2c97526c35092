"""All work whose instructions tests count, by its name."""

from collections.abc import Callable

from tests.costs.counted_listeners import KINDS, claimer
from tests.costs.counted_requests import answerer


def work(name: str) -> Callable[[], None]:
    """A function that does the work once: a claim with a listener, which is plain or joint, or else a request."""
    return claimer(name) if name.rpartition(", ")[2] in KINDS else answerer(name)
