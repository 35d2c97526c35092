"""The open declared claims of a record, as the last section of its bytes. A record without any has no such section.

The section begins with the names of the limits. A row for each claim follows: its id, the time of its charge, for each
limit the lowest debt until the next claim, and for each limit whether the claim was charged by it. The rows are changed
in place: a charge while a thousand claims are open decodes one of them.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812  # it is an error class

from awx_ratelimit.core.open_claims import MAX_OPEN, OPEN_MS, OpenClaim, OpenClaims

_NAMES = Struct("<I")
_NUMBER = Struct("<q")
_ID_BYTES = 16
_TIME_AT = _ID_BYTES
_LOWS_AT = _TIME_AT + _NUMBER.size
_UNKNOWN = -1
#: The oldest claims beyond this are forgotten, so that a record with many limits still fits into its cell.
MAX_SECTION_BYTES = 100_000


class PackedClaims(OpenClaims):
    """OpenClaims as rows of bytes."""

    __slots__ = ("_names", "_row_bytes", "_rows")

    def __init__(self, names: Sequence[str] = (), rows: bytes = b"") -> None:
        self._names = names
        self._row_bytes = _row(len(names)).size
        self._rows = bytearray(rows)

    @classmethod
    def of(cls, claims: Iterable[OpenClaim]) -> "PackedClaims":
        """These claims, packed."""
        claims = [*claims]
        names = sorted({name for claim in claims for name in (*claim.limits, *claim.lows)})
        return cls(names, b"".join(_packed(claim, names) for claim in claims))

    def __len__(self) -> int:
        return len(self._rows) // self._row_bytes

    def add(self, claim_id: int, now_ms: int, debts: dict[str, int]) -> None:
        self.drop_old(now_ms)
        self._know(debts)
        try:
            self._rows += _packed(OpenClaim(claim_id, now_ms, set(debts), debts), self._names)
        except StructError:
            raise ValueError("the clock returned a time in milliseconds that does not fit in 64 bits") from None
        most = min(MAX_OPEN, (MAX_SECTION_BYTES - sum(len(name) + 1 for name in self._names)) // self._row_bytes)
        del self._rows[: max(0, len(self) - max(1, most)) * self._row_bytes]

    def note(self, limit: str, debt: int) -> None:
        self._know((limit,))
        self._lower(len(self._rows) - self._row_bytes, limit, debt)

    def give_back(self, claim_id: int, limit: str, amount: int, debt: int) -> int | None:
        self.note(limit, debt)
        at = self._find(claim_id)
        if at < 0 or not self._rows[self._flag_at(at, limit)]:
            return None
        lows_at = range(self._low_at(at, limit), len(self._rows), self._row_bytes)
        rows = self._rows
        known = [(low_at, low) for low_at in lows_at if (low := _NUMBER.unpack_from(rows, low_at)[0]) != _UNKNOWN]
        given: int = min(amount, *(low for _, low in known))
        if given:
            for low_at, low in known:
                _NUMBER.pack_into(rows, low_at, low - given)
        return given

    def close(self, claim_id: int) -> None:
        at = self._find(claim_id)
        if at < 0:
            return
        for limit in self._names if at else ():
            low = self._low(at, limit)
            if low != _UNKNOWN:
                self._lower(at - self._row_bytes, limit, low)
        del self._rows[at : at + self._row_bytes]

    def forget(self, limits: Iterable[str]) -> None:
        for limit in {*limits} & {*self._names}:
            for at in range(0, len(self._rows), self._row_bytes):
                self._rows[self._flag_at(at, limit)] = False
                _NUMBER.pack_into(self._rows, self._low_at(at, limit), _UNKNOWN)

    def drop_old(self, now_ms: int) -> None:
        while self._rows and now_ms - _NUMBER.unpack_from(self._rows, _TIME_AT)[0] > OPEN_MS:
            del self._rows[: self._row_bytes]

    def unpacked(self) -> list[OpenClaim]:
        """The claims, each as an object."""
        claims = []
        for claim_id, charged_at_ms, *numbers in _row(len(self._names)).iter_unpack(self._rows):
            lows = {name: low for name, low in zip(self._names, numbers, strict=False) if low != _UNKNOWN}
            flags = zip(self._names, numbers[len(self._names) :], strict=True)
            limits = {name for name, charged in flags if charged}
            claims.append(OpenClaim(int.from_bytes(claim_id, "little"), charged_at_ms, limits, lows))
        return claims

    def section(self) -> bytes:
        """The bytes of these claims."""
        text = " ".join(self._names).encode()
        return _NAMES.pack(len(text)) + text + self._rows

    def _know(self, limits: Iterable[str]) -> None:
        """Make room for these limits in every row. Nearly always there is."""
        names = self._names
        if all(limit in names for limit in limits):
            return
        claims, self._names = self.unpacked(), sorted({*names, *limits})
        self._row_bytes = _row(len(self._names)).size
        self._rows = bytearray().join(_packed(claim, self._names) for claim in claims)

    def _find(self, claim_id: int) -> int:
        """Where the row of a claim begins; -1 if it is not open."""
        wanted = claim_id.to_bytes(_ID_BYTES, "little")
        at = self._rows.find(wanted)
        while at % self._row_bytes and at > 0:
            at = self._rows.find(wanted, at + 1)
        return at

    def _low_at(self, at: int, limit: str) -> int:
        return at + _LOWS_AT + self._names.index(limit) * _NUMBER.size

    def _flag_at(self, at: int, limit: str) -> int:
        return at + _LOWS_AT + len(self._names) * _NUMBER.size + self._names.index(limit)

    def _low(self, at: int, limit: str) -> int:
        low: int = _NUMBER.unpack_from(self._rows, self._low_at(at, limit))[0]
        return low

    def _lower(self, at: int, limit: str, debt: int) -> None:
        """Lower the lowest debt in the row at `at` to `debt`."""
        low = self._low(at, limit)
        if low == _UNKNOWN or debt < low:
            _NUMBER.pack_into(self._rows, self._low_at(at, limit), debt)


def decode_open(section: bytes) -> PackedClaims | None:
    """The claims of a section. Raises struct.error or ValueError for other bytes."""
    (text_bytes,) = _NAMES.unpack_from(section)
    at = _NAMES.size + text_bytes
    names = section[_NAMES.size : at].decode().split()
    if (len(section) - at) % _row(len(names)).size:
        raise ValueError(names)
    claims = PackedClaims(names, section[at:])
    return claims if len(claims) else None


def _packed(claim: OpenClaim, names: Sequence[str]) -> bytes:
    return _row(len(names)).pack(
        claim.id.to_bytes(_ID_BYTES, "little"),
        claim.charged_at_ms,
        *[claim.lows.get(name, _UNKNOWN) for name in names],
        *[name in claim.limits for name in names],
    )


@cache
def _row(limits: int) -> Struct:
    return Struct(f"<{_ID_BYTES}sq{limits}q{limits}?")
