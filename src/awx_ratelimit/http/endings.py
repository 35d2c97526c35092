"""What ends with a request: the charges of its gate and its routes are settled, and their slots released.

An adapter has an object for each request that a gate has admitted. It derives from `Settles`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from awx_ratelimit.core.claim import Caller
from awx_ratelimit.core.decision import Decision, JointDecision
from awx_ratelimit.http.settling import check_measures, cost_in, depends_on_status, is_declared

NOTHING_NOTED: Final[Mapping[str, int]] = {}


class Charge(NamedTuple):
    """A gate, and what it has decided for a request."""

    gate: Any
    decision: Decision


class Ending:
    """What is known of the end of a request. `noted` is what it has cost, as the application says."""

    __slots__ = ("is_settled", "noted", "routes", "status")

    def __init__(self) -> None:
        self.noted: dict[str, int] = {}
        #: The charges of limits of the request's route.
        self.routes: list[Charge] = []
        #: None until the response begins.
        self.status: int | None = None
        self.is_settled = False


#: The ending of every request that is over. Nothing changes it.
OVER: Final = Ending()
OVER.is_settled = True


def ending_of(decision: Decision | None) -> Ending | None:
    """Where to note the end of a request that `decision` has admitted; None if there is nothing to settle so far."""
    return Ending() if decision.__class__ is JointDecision and is_declared(decision) else None


class Settles:
    """Releases the slots of a request and settles its charges. `caller` is whose request it is.

    `claimed` is what `gate` has decided, and `decision` too until its slot is released; then it is None.

    `ending` is None for nearly all requests: those that nothing is settled for. See `ending_of`.
    """

    __slots__ = ("caller", "claimed", "decision", "ending", "gate")
    gate: Any
    caller: Caller | None
    claimed: Decision | None
    decision: Decision | None
    ending: Ending | None

    def note(self, cost: Mapping[str, int]) -> None:
        """The application says what the request has cost. The last value of each measure counts."""
        self._begun().noted.update(cost)

    def note_status(self, status: int | None) -> None:
        """The response begins with `status`; None if it says nothing of what the application did."""
        if not self.is_settled:
            self._begun().status = status

    def add_route(self, gate: Any, decision: Decision | None) -> None:
        """A limit of the request's route has admitted it too. After the request it stays charged, and keeps no slot."""
        if decision is None:
            return
        if self.ending is OVER:
            gate.release(decision)
        else:
            self._begun().routes.append(Charge(gate, decision))

    def end(self) -> None:
        """Release the slots, once. It does not suspend, so a cancellation cannot interrupt it, and it never raises."""
        try:
            decision = self.decision
        except AttributeError:
            # A signal handler has raised while this object was created.
            return
        self.decision = None
        try:
            if decision is not None:
                _release(self.gate, decision)
        finally:
            if self.ending is not None:
                _release_all(self.ending.routes)

    def due(self, *, is_over: bool) -> list[Charge]:
        """The charges to settle now; each is returned once.

        While the request is not over, its cost may still be noted. So then they are due only if it has been noted, or
        depends on the status of the response.
        """
        ending = self._begun()
        charges = [Charge(self.gate, self.claimed), *ending.routes] if self.claimed is not None else ending.routes
        due = [each for each in charges if ending.noted or is_declared(each.decision)]
        if ending.is_settled or not (is_over or ending.noted or any(depends_on_status(each.decision) for each in due)):
            return []
        check_measures(ending.noted)
        ending.is_settled = bool(due)
        return due

    @property
    def is_settled(self) -> bool:
        """Whether the charges are settled, or the request is over. What is noted then changes nothing."""
        return self.ending is not None and self.ending.is_settled

    @property
    def noted(self) -> Mapping[str, int]:
        """What the application says that the request has cost."""
        return NOTHING_NOTED if self.ending is None else self.ending.noted

    @property
    def status(self) -> int | None:
        """The status of the response; None if it is not known."""
        return None if self.ending is None else self.ending.status

    def _begun(self) -> Ending:
        if self.ending is None:
            self.ending = Ending()
        return self.ending


def _release(gate: Any, decision: Decision) -> None:
    try:
        gate.release(decision)
    except BaseException:
        # A signal handler has raised. A second release does nothing if the first has freed the slot.
        gate.release(decision)
        raise


def _release_all(charges: Sequence[Charge]) -> None:
    """Release each of them, also if a signal handler raises meanwhile."""
    if charges:
        try:
            _release(*charges[0])
        finally:
            _release_all(charges[1:])


def note_header(holders: Iterable[Settles], values: Iterable[bytes]) -> None:
    """Note the cost in the header RateLimit-Cost for all gates around an application.

    The first that sees the header removes it. A malformed one is logged and ignored.
    """
    cost = cost_in(values)
    for holder in holders if cost else ():
        if not holder.is_settled:
            holder.note(cost)
