"""`Leases`: the open leases of one subject, which are also the holder of its decisions."""

from collections.abc import Iterable
from typing import Any, TypeAlias


class Leases(set[int]):
    """Ids of leases. `owner` is an object that only the backend of these leases has."""

    __slots__ = ("owner",)
    owner: object


def leases_of(owner: object) -> Leases:
    """No leases, of this owner."""
    leases = Leases()
    leases.owner = owner
    return leases


class _DeclaredId(int):
    """The id of a declared claim, among the sets of leases in its holder."""

    def discard(self, _: int) -> None:
        """A release frees slots, and the claim can still be settled."""


#: The holder of an allowed JointClaim: the Leases in which it has taken a slot, or empty ones, and a _DeclaredId.
JointHolder: TypeAlias = tuple[Any, ...]


def joint_holder(leased: Iterable[Leases], claim_id: int, *, declared: bool) -> JointHolder:
    """The holder of a claim that has taken slots in `leased`."""
    return (*leased, _DeclaredId(claim_id)) if declared else tuple(leased)


def declared_id(holder: JointHolder | Leases) -> int:
    """The id of a declared claim; 0 for any other."""
    return int(holder[-1]) if isinstance(holder, tuple) and isinstance(holder[-1], _DeclaredId) else 0


def discard_all(holder: JointHolder, lease_id: int) -> None:
    """Free the slots of a joint claim."""
    for leases in holder:
        leases.discard(lease_id)
