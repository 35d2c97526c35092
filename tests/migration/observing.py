"""What a scenario is, and the few words in which it says what a client observes."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.migration.sites import Answer, Site

REFUSED = 429


class Scenario(NamedTuple):
    """Something that a client does: a title for readers, and the function that does it and observes."""

    name: str
    title: str
    observe: Callable[[Site], str]
    #: Whether the storage of the limits is unreachable.
    is_outage: bool = False


SCENARIOS: dict[str, Scenario] = {}
_Observe = Callable[[Site], str]


def scenario(title: str, *, is_outage: bool = False) -> Callable[[_Observe], _Observe]:
    """Add the decorated function to SCENARIOS, under its name."""

    def add(observe: _Observe) -> _Observe:
        name = getattr(observe, "__name__", "")
        SCENARIOS[name] = Scenario(name, title, observe, is_outage)
        return observe

    return add


def admitted(answers: Iterable[Answer]) -> str:
    """How many were admitted; a page that does not exist was admitted, too."""
    statuses = [answer.status for answer in answers]
    others = Counter(status for status in statuses if status >= 400 and status != 404)
    if others.keys() - {REFUSED}:
        return ", ".join(f"{status} for {number_of(count, len(statuses))}" for status, count in sorted(others.items()))
    return f"{number_of(sum(status != REFUSED for status in statuses), len(statuses))} admitted"


def each(*answers: Answer) -> str:
    """Whether each was admitted, in their order; an error of the app has its status."""
    return ", ".join(_outcome(answer.status) for answer in answers)


def _outcome(status: int) -> str:
    if status >= 500:
        return str(status)
    return "refused" if status == REFUSED else "admitted"


def number_of(count: int, total: int) -> str:
    """`count` of `total`, in words."""
    return f"all {total}" if count == total else f"{count or 'none'} of {total}"
