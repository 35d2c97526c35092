"""`Observation`: one request as its client saw it. An audit knows nothing else about a gateway.

A gateway decides at some moment between sending and answering, and the client cannot know when. Every conclusion from
an observation must hold for each of these moments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

#: Microseconds in a second.
SECOND_US: Final = 1_000_000
#: How many bytes of a refusal's body are kept: more than the longest body of the contract.
MAX_BODY_BYTES: Final = 1_024


class Outcome(StrEnum):
    """The result of a request. A gateway may or may not have charged a `failed` or `unfinished` one.

    `unfinished`: the run ended before the client could know whether the request was admitted.
    """

    ADMITTED = "admitted"
    REFUSED = "refused"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Observation:
    """One request. Times are microseconds since the epoch, by a monotonic clock of the tester.

    - `key` is the index of the key that was sent, never the key itself.
    - `answered_us`: the head of the response was complete, or the client gave up.
    - `alive_us`: the last moment at which the body was certainly still open.
    - `ended_us`: the last byte arrived, or the client hung up (`hung_up`), also because the run ended.
    - `status` is 0 if there was no response; `error` then says why.
    - `headers`: the headers that the contract describes, in their order, with lower-case names.
    - `body` is kept for refusals only.
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

    def header_values(self, name: str) -> list[str]:
        """All values of the header `name`, in their order."""
        return [value for header, value in self.headers if header == name]

    @property
    def decided(self) -> bool:
        """Whether the client knows what the gateway has decided."""
        return self.outcome in (Outcome.ADMITTED, Outcome.REFUSED)

    @property
    def held(self) -> bool:
        """Whether the client saw the request stay open for a while, as streams and WebSockets do."""
        return self.outcome is Outcome.ADMITTED and self.alive_us > self.answered_us

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Observation":
        """The observation in a row that came from another process."""
        headers = tuple((name, value) for name, value in row[10])
        return replace(cls(*row), outcome=Outcome(row[6]), headers=headers)


def group_by_key(observations: Iterable[Observation]) -> dict[int, list[Observation]]:
    """The observations of each key, in the order in which they were sent."""
    keys: dict[int, list[Observation]] = {}
    for one in sorted(observations, key=lambda one: one.sent_us):
        keys.setdefault(one.key, []).append(one)
    return keys


def admitted(observations: Iterable[Observation]) -> list[Observation]:
    """The requests that were certainly admitted."""
    return [one for one in observations if one.outcome is Outcome.ADMITTED]


def in_flight(observations: Iterable[Observation]) -> list[tuple[int, int]]:
    """Pairs of (time in us, requests that are certainly in flight from then on), in the order of time.

    A request holds its slot from the head of its response until its body ends, so this count never exceeds the number
    of slots in use.
    """
    held = [one for one in admitted(observations) if one.held]
    # At equal times an end sorts before a start: the two requests need not have overlapped.
    changes = sorted([(one.answered_us, 1) for one in held] + [(one.alive_us, -1) for one in held])
    steps, number = [], 0
    for at_us, change in changes:
        number += change
        steps.append((at_us, number))
    return steps


def max_in_flight(observations: Sequence[Observation]) -> int:
    """The largest number of requests that were certainly in flight at once; 1 if requests never overlapped."""
    highest = max((number for _, number in in_flight(observations)), default=0)
    return max(highest, 1 if admitted(observations) else 0)
