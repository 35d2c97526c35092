"""The open declared claims of a record, as bytes. A record without any has none.

Each claim has the lowest debts from its charge until the next claim. The newest claim is in the section, the last one
of a record, because every charge can lower its debts. The others are the rows. They follow the checksum of the record
and have one of their own, so that a charge neither decodes them nor computes their checksum again, and a declared claim
adds one row.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from zlib import crc32

from awx_ratelimit.backends.host.open_row import (
    ID_BYTES,
    LOWS_AT,
    NUMBER_BYTES,
    UNKNOWN,
    OpenRow,
    packed_row,
    row_struct,
    unpacked_row,
)
from awx_ratelimit.core.open_claims import MAX_OPEN, OPEN_MS, OpenClaims

#: The bytes of the names, and the bytes and the checksum of the rows.
_HEAD = Struct("<III")
_TIME = Struct("<q")
#: The oldest claims beyond this are forgotten, so that a record with more than 8 limits still fits into its cell.
MAX_ROW_BYTES = 100_000
_DROPPED_AT_ONCE = 32


class PackedClaims(OpenClaims):
    """OpenClaims as rows of bytes."""

    __slots__ = ("_checksum", "_names", "_newest", "_row_bytes", "_stored_bytes", "rows")

    def __init__(
        self,
        names: Sequence[str] = (),
        newest: OpenRow | None = None,
        stored_bytes: int = 0,
        checksum: int | None = None,
    ) -> None:
        self._names = names
        self._row_bytes = row_struct(len(names)).size
        self._newest = newest
        self.rows = bytearray()
        self._stored_bytes = stored_bytes
        #: Of the rows; None if they were changed since.
        self._checksum = checksum

    @classmethod
    def of(cls, claims: Iterable[OpenRow]) -> "PackedClaims":
        """These claims, packed."""
        claims, packed = [*claims], cls()
        packed._newest = claims[-1]  # so that `_replace` takes it for the newest one
        packed._replace(claims, {name for claim in claims for name in (*claim.limits, *claim.lows)})
        return packed

    def __len__(self) -> int:
        return 0 if self._newest is None else 1 + len(self.rows) // self._row_bytes

    def add(self, claim_id: int, now_ms: int, debts: dict[str, int]) -> None:
        self.drop_old(now_ms)
        self._know(debts)
        if self._newest is not None:
            row = packed_row(self._newest, self._names)
            if self._checksum is not None:
                self._checksum = crc32(row, self._checksum)
            self.rows += row
        self._newest = OpenRow(claim_id, now_ms, {*debts}, {**debts})
        most = min(MAX_OPEN + _DROPPED_AT_ONCE, MAX_ROW_BYTES // self._row_bytes)
        if len(self) > most:
            # Many at once, because what is left needs a new checksum.
            self.drop_oldest(min(_DROPPED_AT_ONCE, most - 1))

    def note(self, limit: str, debt: int) -> None:
        assert self._newest is not None
        lows = self._newest.lows
        if debt < lows.get(limit, UNKNOWN):
            lows[limit] = debt

    def give_back(self, claim_id: int, limit: str, amount: int, debt: int) -> int | None:
        self.note(limit, debt)
        assert self._newest is not None
        lows = self._newest.lows
        if claim_id == self._newest.id:
            given = min(amount, lows[limit]) if limit in self._newest.limits else None
        else:
            given = self._given_back_to_older(claim_id, limit, min(amount, lows[limit]))
        if given:
            lows[limit] -= given
        return given

    def _given_back_to_older(self, claim_id: int, limit: str, amount: int) -> int | None:
        at = self._find(claim_id)
        if at < 0 or limit not in self._row_at(at).limits:
            return None
        stride = self._row_bytes // NUMBER_BYTES
        first = at // NUMBER_BYTES + LOWS_AT + self._names.index(limit)
        with memoryview(self.rows) as rows, rows.cast("q") as numbers, numbers[first::stride] as column:
            lows = column.tolist()
            given = min(amount, *lows)
            if given:
                column[:] = array("q", [low if low == UNKNOWN else low - given for low in lows])
                self._checksum = None
        return given

    def close(self, claim_id: int) -> None:
        if self._newest is not None and self._newest.id == claim_id:
            newest, before = self._newest, len(self.rows) - self._row_bytes
            self._newest = None
        else:
            at = self._find(claim_id)
            if at < 0:
                return
            newest, before = self._row_at(at), at - self._row_bytes
            del self.rows[at : at + self._row_bytes]
            self._checksum = None
        if before >= 0:
            self._lower(before, newest.lows)

    def _lower(self, at: int, lows: dict[str, int]) -> None:
        """Lower the lowest debts of the claim in the row at `at`. Without a newest claim it becomes that."""
        claim = self._row_at(at)
        for limit, low in lows.items():
            claim.lows[limit] = min(low, claim.lows.get(limit, low))
        self._checksum = None
        if self._newest is None:
            self._newest = claim
            del self.rows[at:]
        else:
            self.rows[at : at + self._row_bytes] = packed_row(claim, self._names)

    def forget(self, limits: Iterable[str]) -> None:
        claims = self.unpacked()
        for claim in claims:
            for limit in limits:
                claim.limits.discard(limit)
                claim.lows.pop(limit, None)
        self._replace(claims)

    def drop_old(self, now_ms: int) -> None:
        old = 0
        while old < len(self.rows) and abs(now_ms - _TIME.unpack_from(self.rows, old + ID_BYTES)[0]) > OPEN_MS:
            old += self._row_bytes
        self.drop_oldest(old // self._row_bytes)
        if not self.rows and self._newest is not None and abs(now_ms - self._newest.charged_at_ms) > OPEN_MS:
            self._newest = None

    def drop_oldest(self, number: int) -> None:
        """Forget that many claims, but not the newest."""
        if number:
            del self.rows[: number * self._row_bytes]
            self._checksum = None

    def drop_bytes(self, number: int) -> bool:
        """Forget the oldest claims that need this many bytes; whether that is possible."""
        is_possible = number <= len(self.rows)
        if is_possible:
            self.drop_oldest(-(-number // self._row_bytes))
        return is_possible

    def unpacked(self) -> list[OpenRow]:
        """The claims, each as an object."""
        claims = [self._row_at(at) for at in range(0, len(self.rows), self._row_bytes)]
        return claims if self._newest is None else [*claims, self._newest]

    def section(self) -> bytes:
        """The bytes of these claims without `rows`."""
        assert self._newest is not None
        if self._checksum is None:
            self._checksum = crc32(self.rows)
        text = " ".join(self._names).encode()
        return _HEAD.pack(len(text), len(self.rows), self._checksum) + text + packed_row(self._newest, self._names)

    def load_rows(self, rows_of: Callable[[int], bytes]) -> None:
        """Load the rows; `rows_of` returns so many bytes of them.

        Without rows that have the right checksum, only the newest claim is still open: a power cut may lose them.
        """
        rows = rows_of(self._stored_bytes)
        if len(rows) == self._stored_bytes and crc32(rows) == self._checksum:
            self.rows = bytearray(rows)
        else:
            self._checksum = None

    def _know(self, limits: Iterable[str]) -> None:
        """Make room for these limits in every row. Nearly always there is."""
        names = self._names
        if any(limit not in names for limit in limits):
            self._replace(self.unpacked(), {*names, *limits})

    def _replace(self, claims: list[OpenRow], names: Iterable[str] | None = None) -> None:
        if names is not None:
            self._names = sorted(names)
            self._row_bytes = row_struct(len(self._names)).size
        rows = claims if self._newest is None else claims[:-1]
        self.rows = bytearray().join(packed_row(claim, self._names) for claim in rows)
        self._newest = claims[-1] if claims else None
        self._checksum = None

    def _find(self, claim_id: int) -> int:
        """Where the row of a claim begins; -1 if there is none."""
        wanted = claim_id.to_bytes(ID_BYTES, "little")
        at = self.rows.find(wanted)
        while at % self._row_bytes and at > 0:
            at = self.rows.find(wanted, at + 1)
        return at

    def _row_at(self, at: int) -> OpenRow:
        return unpacked_row(self._names, self.rows, at)


def decode_open(section: bytes) -> PackedClaims:
    """The claims of a section, whose rows must be loaded. Raises struct.error or ValueError for other bytes."""
    text_bytes, stored_bytes, checksum = _HEAD.unpack_from(section)
    at = _HEAD.size + text_bytes
    names = section[_HEAD.size : at].decode().split()
    if len(section) - at != row_struct(len(names)).size:
        raise ValueError(names)
    return PackedClaims(names, unpacked_row(names, section, at), stored_bytes, checksum)
