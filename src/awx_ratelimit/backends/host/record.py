"""The state of one record: its debts and its leases, as this process last saw them and as bytes in the file.

A record is a subject, or a subject in a scope. For each process that holds leases, it names one of its counters and how
many leases were granted on it. The counter says how many of them were released (see `leases`). Each lease that expires
has a separate counter.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812  # it is an error class
from typing import Any, NamedTuple
from zlib import crc32

from awx_ratelimit.backends.host.cell import CHECKSUM_BYTES, HEAD
from awx_ratelimit.backends.host.open_section import PackedClaims, decode_open
from awx_ratelimit.backends.host.rate_text import parse_rate, rate_text
from awx_ratelimit.backends.memory.debt import Debt
from awx_ratelimit.backends.memory.subject_state import FORGET_AFTER_MS, SubjectState
from awx_ratelimit.core.budget import Record
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.state_layout import Layout, layout_of
from awx_ratelimit.errors import AwxRateLimitError

#: The digest of a record: that of its subject, then that of its scope, which is zeros without a scope.
SUBJECT_DIGEST_BYTES = 16
DIGEST_BYTES = SUBJECT_DIGEST_BYTES + 8
#: Digest, time until which the record is kept, bytes of the two rate texts, number of grants and of expiring leases.
_FIXED_FORMAT = "24sqIIII"
_FIXED = Struct(f"<{_FIXED_FORMAT}")
#: The number of a counter in the file, and its value once everything granted on it is released.
_GRANT = Struct("<IQ")
#: The same for one lease with an end, and that end.
_EXPIRING = Struct("<IQq")
_TIME = Struct("<q")
_COUNTER_BYTES = 8
#: A record with the counters of at most 8 processes is packed in one call.
_MAX_FAST_GRANTS = 8
_FEW_KEPT = 4
#: The scopes of a subject are in this many neighboring buckets: few enough to search all of them in a reset.
SCOPE_BUCKETS = 64
_EMPTY_LAYOUT = layout_of(())


class InvalidRecord(Exception):
    """A record with a right checksum that cannot be decoded: another program or another version wrote it."""


class ExpiringLease(NamedTuple):
    """One lease with an end: its counter, that counter's value once the lease is released, and when it ends."""

    counter: int
    granted: int
    expires_at_ms: int


class HostLedger(SubjectState):
    """The debts of a record, the leases that this process holds, and the counters of those that others hold.

    `cell_at` is the offset of the record's cell, 0 if it has none. `cached_cell` is its identity when this ledger was
    last read or written, None if the ledger was changed since. `leases` are counted on `counter`, whose value is
    `granted` once all are released; each lease in `expiring` has its own counter. `others` and `other_expiring` hold
    those of other processes. After `evicted` is set, the process uses another ledger for the record.
    """

    __slots__ = (
        "bucket_hash", "cached_cell", "cell_at", "cell_bytes", "counter", "digest", "evicted", "expiring", "granted",
        "half_offset", "other_expiring", "others", "record", "session", "shard", "table", "write_number",
    )  # fmt: skip
    open_claims = PackedClaims

    def __init__(self, record: Record, session: object) -> None:
        super().__init__(_EMPTY_LAYOUT, [])
        self.record: Any = record  # typed so that a plain decision can use it as its subject
        self.session = session
        self.evicted = False
        self.granted = 0
        self.expiring: dict[int, ExpiringLease] = {}
        self.table: Any = None
        self.shard: Any = None
        self.place(b"")

    def place(self, digest: bytes) -> None:
        """Move to another file, where the record has this digest and, as far as known, no cell."""
        scope = digest[SUBJECT_DIGEST_BYTES:]
        self.digest = digest
        self.bucket_hash = int.from_bytes(digest[8:SUBJECT_DIGEST_BYTES]) ^ int.from_bytes(scope) % SCOPE_BUCKETS
        self.cell_at = self.cell_bytes = self.write_number = self.half_offset = self.counter = 0
        self.cached_cell: bytes | None = None
        self.clear()

    def clear(self) -> None:
        """Drop all debts and the leases of other processes."""
        self.forget()
        self.keep_until_ms = 0
        self.others: dict[int, int] = {}
        self.other_expiring: tuple[ExpiringLease, ...] = ()

    def start(self, plan: Plan) -> None:
        """Start without debts under the rates of `plan`."""
        self.layout, self.levels = plan.layout, [0, 0] * len(plan.rates)

    @property
    def open_rows(self) -> bytes | bytearray:
        """The rows of the open claims."""
        return self.open.rows if isinstance(self.open, PackedClaims) else b""

    def drop_drained_beyond_few(self, now_ms: int) -> None:
        """Remove drained debts of other limits if there are many: a few cost less to keep than to check each time."""
        if len(self.kept) > _FEW_KEPT:
            self.drop_drained(now_ms)

    def holds_leases(self) -> bool:
        """Whether this process holds a lease."""
        return bool(self.leases or self.expiring)


class _LayoutCodec(NamedTuple):
    """How records of one layout are packed and unpacked."""

    layout: Layout
    text: bytes
    text_bytes: int
    #: By number of grants: the function that packs a record, and the length of its body.
    packs: list[tuple[Any, int]]
    unpack_levels: Any


def encode(ledger: HostLedger, write_number: int) -> bytes:
    """The half that stores `ledger`. Raises ValueError for times that do not fit in 64 bits."""
    codec, others = _layout_codec(ledger.layout), ledger.others
    try:
        if (
            ledger.expiring
            or ledger.other_expiring
            or ledger.kept
            or ledger.open is not None
            or len(others) >= _MAX_FAST_GRANTS
        ):
            content = _encode_long(ledger, write_number, codec)
        else:
            # Nearly every record: one call packs it.
            grants = [ledger.counter // _COUNTER_BYTES, ledger.granted] if ledger.leases else []
            for counter, granted in others.items():
                grants += (counter // _COUNTER_BYTES, granted)
            count = len(grants) // 2
            pack, body_bytes = codec.packs[count]
            content = pack(
                write_number, body_bytes, ledger.digest, ledger.keep_until_ms, codec.text_bytes, 0, count, 0,
                codec.text, *ledger.levels, *grants,
            )  # fmt: skip
    except StructError:
        raise ValueError("the clock returned a time in milliseconds that does not fit in 64 bits") from None
    return content + crc32(content).to_bytes(CHECKSUM_BYTES, "little")


def _encode_long(ledger: HostLedger, write_number: int, codec: _LayoutCodec) -> bytes:
    kept_bytes, tail = _encode_kept(ledger.kept) if ledger.kept else (0, b"")
    grants = [*ledger.others.items()]
    if ledger.leases:
        grants.append((ledger.counter, ledger.granted))
    expiring = (*ledger.other_expiring, *ledger.expiring.values())
    tail += b"".join([_GRANT.pack(counter // _COUNTER_BYTES, granted) for counter, granted in grants])
    tail += b"".join([_EXPIRING.pack(lease.counter // _COUNTER_BYTES, *lease[1:]) for lease in expiring])
    if isinstance(ledger.open, PackedClaims):
        tail += ledger.open.section()
    pack, body_bytes = codec.packs[0]
    content: bytes = pack(
        write_number, body_bytes + len(tail), ledger.digest, ledger.keep_until_ms, codec.text_bytes,
        kept_bytes, len(grants), len(expiring), codec.text, *ledger.levels,
    )  # fmt: skip
    return content + tail


def decode(ledger: HostLedger, body: bytes, is_own: Callable[[int], bool]) -> None:
    """Load `body` into `ledger`, without the leases on counters of this process. Raises InvalidRecord."""
    try:
        _, keep_until_ms, text_bytes, kept_bytes, grants, expiring = _FIXED.unpack_from(body)
        at = _FIXED.size + text_bytes
        layout, levels, at = _decode_levels(body, at, text_bytes)
        kept: dict[str, Debt] = {}
        if kept_bytes:
            kept_layout, numbers, at = _decode_levels(body, at + kept_bytes, kept_bytes)
            pairs = zip(kept_layout.rates, numbers[::2], numbers[1::2], strict=True)
            kept = {rate.name: Debt(debt, at_ms, rate) for rate, debt, at_ms in pairs}
        others: dict[int, int] = {}
        other_expiring: tuple[ExpiringLease, ...] = ()
        if grants:
            end = at + grants * _GRANT.size
            for number, granted in _GRANT.iter_unpack(body[at:end]):
                if not is_own(number * _COUNTER_BYTES):
                    others[number * _COUNTER_BYTES] = granted
            at = end
        if expiring:
            end = at + expiring * _EXPIRING.size
            rows = _EXPIRING.iter_unpack(body[at:end])
            leases = (ExpiringLease(number * _COUNTER_BYTES, *row) for number, *row in rows)
            other_expiring = tuple(lease for lease in leases if not is_own(lease.counter))
            at = end
        open_claims = decode_open(body[at:]) if at < len(body) else None
    except (StructError, ValueError, AwxRateLimitError) as error:
        raise InvalidRecord from error
    ledger.layout, ledger.levels, ledger.kept, ledger.keep_until_ms = layout, levels, kept, keep_until_ms
    ledger.others, ledger.other_expiring, ledger.open = others, other_expiring, open_claims


def is_recent(body: bytes, now_ms: int) -> bool:
    """Whether the first rate was charged so recently that the record must stay, without decoding the rest."""
    try:
        text_bytes = _FIXED.unpack_from(body)[2]
        charged_at_ms = _TIME.unpack_from(body, _FIXED.size + text_bytes + 8)[0] if text_bytes else None
    except StructError:
        return False
    return charged_at_ms is not None and now_ms - charged_at_ms < FORGET_AFTER_MS


def _decode_levels(body: bytes, at: int, text_bytes: int) -> tuple[Layout, list[int], int]:
    """The layout whose text ends at `at`, the levels after it, and where they end."""
    codec = _layout_codec_of_text(body[at - text_bytes : at])
    levels = [*codec.unpack_levels(body, at)]
    # Equal times become one int object, which the fast path of the decision tests by identity.
    for time_at in range(3, len(levels), 2):
        if levels[time_at] == levels[1]:
            levels[time_at] = levels[1]
    return codec.layout, levels, at + 8 * len(levels)


def _encode_kept(kept: dict[str, Debt]) -> tuple[int, bytes]:
    """The length of the text of the rates, and that text with their levels."""
    text = _layout_codec(layout_of(tuple(debt.rate for debt in kept.values()))).text
    numbers = [number for debt in kept.values() for number in debt[:2]]
    return len(text), text + Struct(f"<{len(numbers)}q").pack(*numbers)


@cache
def _layout_codec(layout: Layout) -> _LayoutCodec:
    text = " ".join(rate_text(rate) for rate in layout.rates).encode()
    fixed = f"<{HEAD.format[1:]}{_FIXED_FORMAT}{len(text)}s{2 * len(layout.rates)}q"
    structs = [Struct(fixed + grants * _GRANT.format[1:]) for grants in range(_MAX_FAST_GRANTS + 1)]
    packs = [(struct.pack, struct.size - HEAD.size) for struct in structs]
    return _LayoutCodec(layout, text, len(text), packs, Struct(f"<{2 * len(layout.rates)}q").unpack_from)


@cache
def _layout_codec_of_text(text: bytes) -> _LayoutCodec:
    return _layout_codec(layout_of(tuple(parse_rate(rate) for rate in text.decode().split())))
