"""The open declared claims of a record, as the last section of its bytes. A record without any has no such section.

The section begins with the names of the limits. A row for each claim follows: its id, the time of its charge, and for
each limit the lowest debt until the next claim and whether the claim was charged by it.
"""

from functools import cache
from struct import Struct

from awx_ratelimit.core.open_claims import OpenClaim, OpenClaims

_NAMES = Struct("<I")
_ID_BYTES = 16
_UNKNOWN = -1
#: The oldest claims beyond this are not stored, so that a record with many limits still fits into its cell.
MAX_SECTION_BYTES = 100_000


def encode_open(open_claims: OpenClaims) -> bytes:
    """The section of these claims, or of the latest of too many. Raises struct.error for times beyond 64 bits."""
    names = sorted({name for claim in open_claims.claims for name in (*claim.limits, *claim.lows)})
    text, row = " ".join(names).encode(), _row(len(names))
    count = max(1, (MAX_SECTION_BYTES - len(text)) // row.size)
    rows = [
        row.pack(
            claim.id.to_bytes(_ID_BYTES, "little"),
            claim.charged_at_ms,
            *[claim.lows.get(name, _UNKNOWN) for name in names],
            *[name in claim.limits for name in names],
        )
        for claim in open_claims.claims[-count:]
    ]
    return _NAMES.pack(len(text)) + text + b"".join(rows)


def decode_open(section: bytes) -> OpenClaims:
    """The claims of a section. Raises struct.error or ValueError for other bytes."""
    (text_bytes,) = _NAMES.unpack_from(section)
    at = _NAMES.size + text_bytes
    names = section[_NAMES.size : at].decode().split()
    claims = []
    for claim_id, charged_at_ms, *numbers in _row(len(names)).iter_unpack(section[at:]):
        lows = {name: low for name, low in zip(names, numbers, strict=False) if low != _UNKNOWN}
        limits = {name for name, charged in zip(names, numbers[len(names) :], strict=True) if charged}
        claims.append(OpenClaim(int.from_bytes(claim_id, "little"), charged_at_ms, limits, lows))
    return OpenClaims(claims)


@cache
def _row(limits: int) -> Struct:
    return Struct(f"<{_ID_BYTES}sq{limits}q{limits}?")
