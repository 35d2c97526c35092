"""`Leases`: the open leases of one subject, which are also the holder of its decisions."""


class Leases(set[int]):
    """Ids of leases. `owner` is an object that only the backend of these leases has."""

    __slots__ = ("owner",)
    owner: object


def leases_of(owner: object) -> Leases:
    """No leases, of this owner."""
    leases = Leases()
    leases.owner = owner
    return leases
