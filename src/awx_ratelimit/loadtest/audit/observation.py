"""`Observation`: one request as its client saw it. All that an audit knows of a gateway.

A gateway decides at some moment between sending and answering; nobody outside knows which. What is concluded from an
observation must be true for each of these moments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from typing import Any, Final

#: How many bytes of a refusal's body are kept: more than the contract's longest.
MOST_BODY_BYTES: Final = 1_024


class Outcome(StrEnum):
    """What became of a request. What is `failed` may have been charged, and may not."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Observation:
    """One request. Times are microseconds since the epoch, by the tester's steady clock.

    `key` is the number of the key that was sent, never the key. `answered_us` is when the head of the answer had come,
    or when the client gave up. `alive_us` is the last moment at which the body had surely not ended, `ended_us` when
    its last byte had come or the client hung up (`hung_up`). `status` is 0 where there was no answer; `error` then says
    why. Of an answer `headers` (names in small letters) are those that the contract is about, in their order, and
    `body` is kept of refusals alone.
    """

    profile: str
    key: int
    sent_us: int
    answered_us: int
    alive_us: int
    ended_us: int
    outcome: Outcome
    status: int
    cost: int = 1
    hung_up: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    error: str = ""

    def named(self, name: str) -> list[str]:
        """The values of the header `name`, as often as it was sent."""
        return [value for header, value in self.headers if header == name]

    @property
    def held(self) -> bool:
        """Whether it was seen to be under way for a while, as streams and WebSockets are."""
        return self.outcome is Outcome.ADMITTED and self.alive_us > self.answered_us

    def row(self) -> list[Any]:
        """What goes from process to process, as JSON."""
        return list(astuple(self))

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> "Observation":
        """The observation that a row says."""
        lines = tuple((name, value) for name, value in row[10])
        return replace(cls(*row), outcome=Outcome(row[6]), headers=lines)


def by_key(observations: Iterable[Observation]) -> dict[int, list[Observation]]:
    """The observations of each key, in the order of sending."""
    keys: dict[int, list[Observation]] = {}
    for one in sorted(observations, key=lambda one: one.sent_us):
        keys.setdefault(one.key, []).append(one)
    return keys


def admitted(observations: Iterable[Observation]) -> list[Observation]:
    """Those that were surely let in."""
    return [one for one in observations if one.outcome is Outcome.ADMITTED]
