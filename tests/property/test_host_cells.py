"""Cells and records of a host file: they read back as written, and survive an interrupted write."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import plans

from awx_ratelimit import Plan
from awx_ratelimit.backends.host.cell import NEVER_WRITTEN, OVERHEAD_BYTES, encode_half, newest_half
from awx_ratelimit.backends.host.record import ExpiringLease, HostLedger, InvalidRecord, decode, encode
from awx_ratelimit.backends.memory.subject_state import Debt

BODIES = st.binary(max_size=64 - OVERHEAD_BYTES)


def written(cell: bytes, body: bytes, max_bytes: int | None = None) -> bytes:
    """`cell` after a write of `body` that ended after `max_bytes`."""
    half = newest_half(cell)
    assert half is not None
    whole = encode_half(half.write_number + 1, body)[:max_bytes]
    at = len(cell) // 2 - half.offset
    return cell[:at] + whole + cell[at + len(whole) :]


@given(st.lists(BODIES), BODIES, st.data())
def test_interrupted_write_changes_nothing(before: list[bytes], body: bytes, data: Any) -> None:
    """A write that ends at any byte leaves the previous record, and the next write is read whole."""
    cell = bytes(128)
    for each in before:
        cell = written(cell, each)
    cut = written(cell, body, data.draw(st.integers(0, len(body) + OVERHEAD_BYTES - 1)))

    assert newest_half(cut) == newest_half(cell)
    half = newest_half(written(cut, body))
    assert half is not None
    assert half.body == body


def test_body_longer_than_its_half() -> None:
    """A half whose length exceeds its size is invalid, even if the checksum is right."""
    long = encode_half(1, bytes(70))
    cell = long.ljust(128, b"\0")

    assert newest_half(cell) is None


@given(st.binary(min_size=64, max_size=512), st.integers(0, 3))
def test_any_bytes_can_be_read(noise: bytes, number: int) -> None:
    """Random bytes are damaged, free or an invalid record, and raise nothing else."""
    cell = (noise * 2)[: len(noise) // 2 * 2]

    half = newest_half(cell)
    assert half is None or len(half.body) + OVERHEAD_BYTES <= len(cell) // 2 or half == NEVER_WRITTEN
    ledger = HostLedger("s", None)
    try:
        decode(ledger, noise[number:], lambda _: False)
    except InvalidRecord:
        return
    assert len(ledger.levels) == 2 * len(ledger.layout.rates)


NUMBERS = st.integers(0, 2**53)
TIMES = st.integers(-(2**62), 2**62)
COUNTERS = st.integers(1, 2**32 - 1).map(lambda number: 8 * number)


@given(plans(), plans(), st.data())
def test_record_round_trip(plan: Plan, other: Plan, data: Any) -> None:
    """Levels, kept limits and the leases of other processes are the same after encoding and decoding."""
    ledger = HostLedger("s", None)
    ledger.digest = data.draw(st.binary(min_size=16, max_size=16))
    ledger.start(plan)
    ledger.levels = [number for _ in plan.rates for number in (data.draw(NUMBERS), data.draw(TIMES))]
    ledger.kept = {rate.name: Debt(data.draw(NUMBERS), data.draw(TIMES), rate) for rate in other.rates}
    ledger.keep_until_ms = data.draw(TIMES)
    ledger.others = data.draw(st.dictionaries(COUNTERS, st.integers(0, 2**64 - 1), max_size=9))
    ledger.other_expiring = tuple(
        data.draw(st.lists(st.builds(ExpiringLease, COUNTERS, st.integers(0, 2**64 - 1), TIMES)))
    )
    ledger.write_number = data.draw(st.integers(0, 2**60))

    again = HostLedger("s", None)
    half = newest_half(encode(ledger, ledger.write_number + 1).ljust(65_536, b"\0") + bytes(65_536))
    assert half is not None
    decode(again, half.body, lambda _: False)
    fields = ("layout", "levels", "kept", "keep_until_ms", "others", "other_expiring")
    assert [getattr(again, name) for name in fields] == [getattr(ledger, name) for name in fields]
    assert half.write_number == ledger.write_number + 1
    assert half.body[:16] == ledger.digest


@given(st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_own_leases_are_not_decoded(count: int, own: set[int]) -> None:
    """Decoding skips the leases of the process that reads, which knows them itself."""
    ledger = HostLedger("s", None)
    ledger.digest = bytes(16)
    ledger.others = {8 + 8 * number: number for number in range(count)}
    again = HostLedger("s", None)
    half = newest_half(encode(ledger, ledger.write_number + 1).ljust(512, b"\0") + bytes(512))
    assert half is not None
    decode(again, half.body, lambda counter: counter // 8 - 1 in own)

    assert again.others == {8 + 8 * number: number for number in range(count) if number not in own}
