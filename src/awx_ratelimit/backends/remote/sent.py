"""What a batch sends, and what its replies mean to each caller."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from awx_ratelimit.backends.remote.replies import Call, Reply

R = TypeVar("R", covariant=True)  # noqa: PLC0105  # the name of its users


class Sent(Protocol[R]):
    """A batch of claims on its way to the server."""

    @property
    def calls(self) -> Sequence[Call]:
        """What carries it."""

    def received(self, replies: list[Reply]) -> None:
        """Note what the server has done besides, so that no later call repeats it. Called before `results`."""

    def results(self, replies: list[Reply]) -> Sequence[R]:
        """The result of each claim, in order."""

    def fail(self, error: BaseException) -> None:
        """Note that its claims got no result, although the server may have decided them. Never raises."""


class SentCalls:
    """A batch of calls that carry no claims: their results are the replies."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls

    def received(self, replies: list[Reply]) -> None:
        """See Sent."""

    def results(self, replies: list[Reply]) -> list[Reply]:
        """See Sent."""
        return replies

    def fail(self, error: BaseException) -> None:
        """See Sent. They take no leases, so there is nothing to give back."""


def ignore(_: Reply) -> None:
    """Nothing is to be given back of the reply to a call whose caller has gone."""
