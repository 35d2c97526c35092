"""What is written in a host's file: it comes back as it was, and whoever is killed while writing leaves what was."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import plans

from awx_ratelimit import Plan
from awx_ratelimit.backends.host.cell import OVERHEAD_BYTES, encode_half, newest_half
from awx_ratelimit.backends.host.record import ExpiringLease, HostLedger, InvalidRecord, decode, encode
from awx_ratelimit.backends.memory.subject_state import Debt

BODIES = st.binary(max_size=64 - OVERHEAD_BYTES)


def written(cell: bytes, body: bytes, most_bytes: int | None = None) -> bytes:
    """`cell` after a write of `body` of which so many bytes were done."""
    said = newest_half(cell)
    assert said is not None
    whole = encode_half(said.write_number + 1, body)[:most_bytes]
    at = len(cell) // 2 - said.offset
    return cell[:at] + whole + cell[at + len(whole) :]


@given(st.lists(BODIES), BODIES, st.data())
def test_a_write_that_is_cut_short_anywhere_changes_nothing(before: list[bytes], body: bytes, data: Any) -> None:
    """Of whoever is killed in the middle of a write, nothing is seen; then the next write is seen whole."""
    cell = bytes(128)
    for each in before:
        cell = written(cell, each)
    cut = written(cell, body, data.draw(st.integers(0, len(body) + OVERHEAD_BYTES - 1)))

    assert newest_half(cut) == newest_half(cell)
    said = newest_half(written(cut, body))
    assert said is not None
    assert said.body == body


def test_a_half_that_says_more_than_fits_in_it_is_not_read() -> None:
    """Whatever its checksum: what lies in the other half is not its."""
    long = encode_half(1, bytes(70))
    cell = long.ljust(128, b"\0")

    assert newest_half(cell) is None


@given(st.binary(min_size=64, max_size=512), st.integers(0, 3))
def test_no_bytes_are_too_strange_to_be_read(noise: bytes, number: int) -> None:
    """Noise is damage, or was never written, and raises nothing; as a record it says that it cannot be understood."""
    cell = (noise * 2)[: len(noise) // 2 * 2]

    assert newest_half(cell) is None or not any(cell) or newest_half(cell) is not None
    ledger = HostLedger("s", None)
    try:
        decode(ledger, noise[number:], lambda _: False)
    except InvalidRecord:
        return
    assert len(ledger.levels) == 2 * len(ledger.layout.rates)


NUMBERS = st.integers(0, 2**53)
TIMES = st.integers(-(2**62), 2**62)
WORDS = st.integers(1, 2**32 - 1).map(lambda number: 8 * number)


@given(plans(), plans(), st.data())
def test_a_record_comes_back_as_it_was(plan: Plan, other: Plan, data: Any) -> None:
    """Levels, limits that are kept, and the leases of others are the same when they are read."""
    ledger = HostLedger("s", None)
    ledger.digest = data.draw(st.binary(min_size=16, max_size=16))
    ledger.start(plan)
    ledger.levels = [number for _ in plan.rates for number in (data.draw(NUMBERS), data.draw(TIMES))]
    ledger.kept = {rate.name: Debt(data.draw(NUMBERS), data.draw(TIMES), rate) for rate in other.rates}
    ledger.keep_until_ms = data.draw(TIMES)
    ledger.others = data.draw(st.dictionaries(WORDS, st.integers(0, 2**64 - 1), max_size=9))
    ledger.other_expiring = tuple(
        data.draw(st.lists(st.builds(ExpiringLease, WORDS, st.integers(0, 2**64 - 1), TIMES)))
    )
    ledger.write_number = data.draw(st.integers(0, 2**60))

    again = HostLedger("s", None)
    said = newest_half(encode(ledger, ledger.write_number + 1).ljust(65_536, b"\0") + bytes(65_536))
    assert said is not None
    decode(again, said.body, lambda _: False)
    fields = ("layout", "levels", "kept", "keep_until_ms", "others", "other_expiring")
    assert [getattr(again, name) for name in fields] == [getattr(ledger, name) for name in fields]
    assert said.write_number == ledger.write_number + 1
    assert said.body[:16] == ledger.digest


@given(st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_a_process_leaves_its_own_leases_out(count: int, mine: set[int]) -> None:
    """What a record says of the process that reads it is what it knows itself."""
    ledger = HostLedger("s", None)
    ledger.digest = bytes(16)
    ledger.others = {8 + 8 * number: number for number in range(count)}
    again = HostLedger("s", None)
    said = newest_half(encode(ledger, ledger.write_number + 1).ljust(512, b"\0") + bytes(512))
    assert said is not None
    decode(again, said.body, lambda word: word // 8 - 1 in mine)

    assert again.others == {8 + 8 * number: number for number in range(count) if number not in mine}
