"""Cells and records of a host file: they read back as written, and survive an interrupted write."""

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import plans

from awx_ratelimit import Plan, Rate
from awx_ratelimit.backends.host.cell import NEVER_WRITTEN, OVERHEAD_BYTES, encode_half, newest_half
from awx_ratelimit.backends.host.open_row import OpenRow
from awx_ratelimit.backends.host.open_section import MAX_ROW_BYTES, PackedClaims, decode_open
from awx_ratelimit.backends.host.rate_text import parse_rate, rate_text
from awx_ratelimit.backends.host.record import ExpiringLease, HostLedger, InvalidRecord, decode, encode
from awx_ratelimit.backends.memory.debt import Debt
from awx_ratelimit.core.open_claims import MAX_OPEN, OpenClaims

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


ZONES = st.sampled_from(("UTC", "Europe/Berlin", "Etc/GMT+3", "America/Argentina/Buenos_Aires"))
RATES = st.one_of(
    st.builds(
        Rate, st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 2), measure=st.sampled_from(("requests", "t")),
        refill=st.sampled_from(("continuous", "calendar")), shadow=st.booleans(),
    ),
    st.builds(Rate, st.just("a"), st.integers(1, 3), st.integers(1, 2), burst=st.integers(1, 3)),
    st.builds(Rate, st.just("a"), st.just(5), period=st.just("week"), anchor_day=st.integers(1, 7), timezone=ZONES),
    st.builds(
        Rate, st.just("a"), st.just(5), period=st.just("year"), anchor_day=st.integers(1, 31),
        anchor_month=st.integers(1, 12), timezone=ZONES, measure=st.sampled_from(("requests", "t")),
        shadow=st.booleans(),
    ),
)  # fmt: skip
NUMBERS = st.integers(0, 2**53)
TIMES = st.integers(-(2**62), 2**62)
NAMES = st.sampled_from(("minute", "day", "a-limit-of-another-plan"))
OPEN = st.builds(OpenRow, st.integers(0, 2**112), TIMES, st.sets(NAMES, min_size=1), st.dictionaries(NAMES, NUMBERS))
COUNTERS = st.integers(1, 2**32 - 1).map(lambda number: 8 * number)


@given(plans(), plans(), st.data())
def test_record_round_trip(plan: Plan, other: Plan, data: Any) -> None:
    """Levels, kept limits and the leases of other processes are the same after encoding and decoding."""
    ledger = HostLedger("s", None)
    ledger.digest = data.draw(st.binary(min_size=24, max_size=24))
    ledger.start(plan)
    ledger.levels = [number for _ in plan.rates for number in (data.draw(NUMBERS), data.draw(TIMES))]
    ledger.kept = {rate.name: Debt(data.draw(NUMBERS), data.draw(TIMES), rate) for rate in other.rates}
    ledger.keep_until_ms = data.draw(TIMES)
    ledger.others = data.draw(st.dictionaries(COUNTERS, st.integers(0, 2**64 - 1), max_size=9))
    ledger.other_expiring = tuple(
        data.draw(st.lists(st.builds(ExpiringLease, COUNTERS, st.integers(0, 2**64 - 1), TIMES)))
    )
    ledger.open = data.draw(st.none() | st.lists(OPEN, min_size=1, max_size=5).map(PackedClaims.of))
    ledger.write_number = data.draw(st.integers(0, 2**60))

    again = HostLedger("s", None)
    half = newest_half(encode(ledger, ledger.write_number + 1).ljust(65_536, b"\0") + bytes(65_536))
    assert half is not None
    decode(again, half.body, lambda _: False)
    if isinstance(again.open, PackedClaims):
        again.open.load_rows(partial(_first, bytes(ledger.open_rows)))
    fields = ("layout", "levels", "kept", "keep_until_ms", "others", "other_expiring")
    assert [getattr(again, name) for name in fields] == [getattr(ledger, name) for name in fields]
    assert _open(again) == _open(ledger)
    assert half.write_number == ledger.write_number + 1
    assert half.body[:24] == ledger.digest


def _open(ledger: HostLedger) -> list[OpenRow]:
    return ledger.open.unpacked() if isinstance(ledger.open, PackedClaims) else []


def test_too_many_open_claims() -> None:
    """The latest claims are kept: at least 1,000 with up to 8 limits, and as many as fit into a cell with more."""
    many = MAX_OPEN + 100
    for limits, added in ((1, many), (8, many), (20, many), (500, 200)):
        debts = {f"a-limit-with-a-long-name-{number:06}": number for number in range(limits)}
        claims = PackedClaims()
        for number in range(added):
            claims.add(number, 0, debts)
        kept = [claim.id for claim in claims.unpacked()]

        assert len(claims.rows) <= MAX_ROW_BYTES
        assert kept == [*range(added)][-len(kept) :]
        assert len(kept) >= MAX_OPEN or limits > 8
        assert len(kept) < added


def _first(content: bytes, number: int) -> bytes:
    return content[:number]


STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 9), st.integers(0, 800_000), st.dictionaries(NAMES, st.integers(0, 9))),
    st.tuples(st.just("note"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("give_back"), st.integers(0, 9), NAMES, st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("close"), st.integers(0, 9)),
    st.tuples(st.just("forget"), st.lists(NAMES)),
    st.tuples(st.just("drop_old"), st.integers(0, 800_000)),
)


@given(st.lists(STEPS, max_size=60))
def test_packed_claims_are_open_claims(steps: list[Any]) -> None:
    """On any sequence of calls, packed claims answer and contain what OpenClaims do, also after they were stored."""
    plain, packed = OpenClaims(), PackedClaims()
    for verb, *arguments in steps:
        if verb == "add" and arguments[0] in [claim.id for claim in plain.claims]:
            continue
        if len(plain) or verb in ("add", "close", "forget", "drop_old"):
            assert getattr(packed, verb)(*arguments) == getattr(plain, verb)(*arguments)
        rows = [(row.id, row.charged_at_ms, row.limits) for row in packed.unpacked()]
        assert rows == [(claim.id, claim.charged_at_ms, claim.limits) for claim in plain.claims]
        if len(packed):
            stored, section = bytes(packed.rows), packed.section()
            packed = decode_open(section)
            packed.load_rows(partial(_first, stored))


@given(st.data())
def test_rates_as_text(data: Any) -> None:
    """Rates of every measure, period, anchor and time zone are the same after they were text, and differ there."""
    first, second = (data.draw(RATES) for _ in range(2))

    assert parse_rate(rate_text(first)) == first
    assert (rate_text(first) == rate_text(second)) == (first == second)
    assert " " not in rate_text(first)


@given(st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_own_leases_are_not_decoded(count: int, own: set[int]) -> None:
    """Decoding skips the leases of the process that reads, which knows them itself."""
    ledger = HostLedger("s", None)
    ledger.digest = bytes(24)
    ledger.others = {8 + 8 * number: number for number in range(count)}
    again = HostLedger("s", None)
    half = newest_half(encode(ledger, ledger.write_number + 1).ljust(512, b"\0") + bytes(512))
    assert half is not None
    decode(again, half.body, lambda counter: counter // 8 - 1 in own)

    assert again.others == {8 + 8 * number: number for number in range(count) if number not in own}
