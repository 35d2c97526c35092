"""What one subject owes and holds on a host, in bytes and as this process last saw it.

For each process that holds leases a record says how many it was granted by which word; the word, on the desk of that
process, says how many of them it gave back (see `_host_desks`). A lease that ends by itself has a word of its own.
"""

import re
from collections.abc import Callable
from functools import cache
from struct import Struct
from struct import error as StructError  # noqa: N812  # what it is: an error class
from typing import Any, NamedTuple
from zlib import crc32

from awx_ratelimit.backends.host.cell import CHECK_BYTES, HEAD
from awx_ratelimit.backends.memory.subject_state import FORGET_AFTER_MS, Debt, SubjectState
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.rate import Rate
from awx_ratelimit.core.state_layout import Layout, layout_of
from awx_ratelimit.errors import AwxRateLimitError

DIGEST_BYTES = 16
#: Digest, until when it is kept, bytes of both texts, words by which leases are held, and by which those that end.
_FIXED = "16sqIIII"
_FIXED_OF = Struct(f"<{_FIXED}")
#: A word, counted in words from the beginning of the file, and what it says when all that was granted is given back.
_GRANT = Struct("<IQ")
#: The same for one lease that ends at this time.
_BOUND = Struct("<IQq")
_TIME = Struct("<q")
_WORD_BYTES = 8
#: So many processes that hold leases of a subject are written in one go.
_MOST_AT_ONCE = 8
_RATE = re.compile(r"([a-z0-9_.-]{1,32}):(\d+)/(\d+)\+(\d+)(c?)(s?)")
_NOTHING = layout_of(())


class Damaged(Exception):
    """A record whose checksum is right and which says nothing: not written by this library, or by another version."""


class Bound(NamedTuple):
    """One lease that ends by itself: its word, what that says once it is given back, and when it ends."""

    word: int
    granted: int
    until_ms: int


class HostLedger(SubjectState):
    """A ledger of which this process knows its own leases, and the file the rest.

    `at` is where its cell lies, 0 while it has none; `seen` is that cell as it was when this ledger was last read or
    written, None where it may have changed since. `leases` are held by `word`, which says `granted` once all are given
    back; those of `bounded` have words of their own. `others` and `other_bounds` are the words of other processes.
    Once it is `left` the process has another ledger for the subject.
    """

    __slots__ = (
        "at", "bounded", "cell_bytes", "digest", "granted", "home", "left", "number", "other_bounds", "others", "seen",
        "stripe", "subject", "table", "word", "write", "write_at",
    )  # fmt: skip

    def __init__(self, subject: str, home: object) -> None:
        super().__init__(_NOTHING, [])
        self.subject = subject
        self.home = home
        self.left = False
        self.granted = 0
        self.bounded: dict[int, Bound] = {}
        self.table: Any = None
        self.stripe: Any = None
        self.place(b"", 0)

    def place(self, digest: bytes, number: int) -> None:
        """Lie in another file: by this digest and number."""
        self.digest, self.number = digest, number
        self.at = self.cell_bytes = self.write = self.write_at = self.word = 0
        self.seen: bytes | None = None
        self.forget_all()

    def forget_all(self) -> None:
        """Owe nothing, and know of no other process."""
        self.forget()
        self.keep_until_ms = 0
        self.others: dict[int, int] = {}
        self.other_bounds: tuple[Bound, ...] = ()

    def begin(self, plan: Plan) -> None:
        """Owe nothing by `plan`."""
        self.layout, self.levels = plan.layout, [0, 0] * len(plan.rates)

    def holds(self) -> bool:
        """Whether this process holds a lease."""
        return bool(self.leases or self.bounded)


class _Form(NamedTuple):
    """How the levels of one layout are written."""

    layout: Layout
    text: bytes
    text_bytes: int
    #: With so many words by which leases are held behind it: how it is packed, and how long its body is.
    packs: list[tuple[Any, int]]
    unpack_levels: Any


def encoded(ledger: HostLedger, write: int) -> bytes:
    """The half that says what `ledger` says, as this write. Raises ValueError for times beyond 64 bits."""
    form, others = _form(ledger.layout), ledger.others
    try:
        if ledger.bounded or ledger.other_bounds or ledger.kept or len(others) >= _MOST_AT_ONCE:
            written = _encoded_at_length(ledger, write, form)
        else:
            # What nearly all records say, in one go.
            words = [ledger.word // _WORD_BYTES, ledger.granted] if ledger.leases else []
            for word, granted in others.items():
                words += (word // _WORD_BYTES, granted)
            grants = len(words) // 2
            pack, body_bytes = form.packs[grants]
            written = pack(
                write, body_bytes, ledger.digest, ledger.keep_until_ms, form.text_bytes, 0, grants, 0, form.text,
                *ledger.levels, *words,
            )  # fmt: skip
    except StructError:
        raise ValueError("the clock says a time in milliseconds that 64 bits do not hold") from None
    return written + crc32(written).to_bytes(CHECK_BYTES, "little")


def _encoded_at_length(ledger: HostLedger, write: int, form: _Form) -> bytes:
    kept_bytes, tail = _encoded_kept(ledger.kept) if ledger.kept else (0, b"")
    grants = [*ledger.others.items()]
    if ledger.leases:
        grants.append((ledger.word, ledger.granted))
    bounds = (*ledger.other_bounds, *ledger.bounded.values())
    tail += b"".join([_GRANT.pack(word // _WORD_BYTES, granted) for word, granted in grants])
    tail += b"".join([_BOUND.pack(bound.word // _WORD_BYTES, *bound[1:]) for bound in bounds])
    pack, body_bytes = form.packs[0]
    written: bytes = pack(
        write, body_bytes + len(tail), ledger.digest, ledger.keep_until_ms, form.text_bytes,
        kept_bytes, len(grants), len(bounds), form.text, *ledger.levels,
    )  # fmt: skip
    return written + tail


def decode(ledger: HostLedger, body: bytes, is_mine: Callable[[int], bool]) -> None:
    """Make `ledger` say what `body` says, less what it says of this process. Raises Damaged."""
    try:
        _, keep_until_ms, text_bytes, kept_bytes, grants, bounds = _FIXED_OF.unpack_from(body)
        at = _FIXED_OF.size + text_bytes
        layout, levels, at = _decoded_levels(body, at, text_bytes)
        kept: dict[str, Debt] = {}
        if kept_bytes:
            kept_layout, numbers, at = _decoded_levels(body, at + kept_bytes, kept_bytes)
            pairs = zip(kept_layout.rates, numbers[::2], numbers[1::2], strict=True)
            kept = {rate.name: Debt(debt, at_ms, rate) for rate, debt, at_ms in pairs}
        others: dict[int, int] = {}
        other_bounds: tuple[Bound, ...] = ()
        if grants:
            end = at + grants * _GRANT.size
            for number, granted in _GRANT.iter_unpack(body[at:end]):
                if not is_mine(number * _WORD_BYTES):
                    others[number * _WORD_BYTES] = granted
            at = end
        if bounds:
            ends = _BOUND.iter_unpack(body[at : at + bounds * _BOUND.size])
            said = (Bound(number * _WORD_BYTES, granted, until_ms) for number, granted, until_ms in ends)
            other_bounds = tuple(bound for bound in said if not is_mine(bound.word))
    except (StructError, ValueError, AwxRateLimitError) as error:
        raise Damaged from error
    ledger.layout, ledger.levels, ledger.kept, ledger.keep_until_ms = layout, levels, kept, keep_until_ms
    ledger.others, ledger.other_bounds = others, other_bounds


def charged_of_late(body: bytes, now_ms: int) -> bool:
    """Whether the first of its rates was charged so shortly ago that it is kept, seen without reading all of it."""
    try:
        text_bytes = _FIXED_OF.unpack_from(body)[2]
        return (
            bool(text_bytes) and now_ms - _TIME.unpack_from(body, _FIXED_OF.size + text_bytes + 8)[0] < FORGET_AFTER_MS
        )
    except StructError:
        return False


def _decoded_levels(body: bytes, at: int, text_bytes: int) -> tuple[Layout, list[int], int]:
    """The layout whose text ends at `at`, the levels behind it, and where they end."""
    form = _read_form(body[at - text_bytes : at])
    levels = [*form.unpack_levels(body, at)]
    # One int where the times are equal: `charge` goes its straight way.
    for time_at in range(3, len(levels), 2):
        if levels[time_at] == levels[1]:
            levels[time_at] = levels[1]
    return form.layout, levels, at + 8 * len(levels)


def _encoded_kept(kept: dict[str, Debt]) -> tuple[int, bytes]:
    """How many bytes the text has, and it and the numbers."""
    text = _form(layout_of(tuple(debt.rate for debt in kept.values()))).text
    numbers = [number for debt in kept.values() for number in debt[:2]]
    return len(text), text + Struct(f"<{len(numbers)}q").pack(*numbers)


@cache
def _form(layout: Layout) -> _Form:
    text = " ".join(_said(rate) for rate in layout.rates).encode()
    fixed = f"<{HEAD.format[1:]}{_FIXED}{len(text)}s{2 * len(layout.rates)}q"
    structs = [Struct(fixed + grants * _GRANT.format[1:]) for grants in range(_MOST_AT_ONCE + 1)]
    levels = Struct(f"<{2 * len(layout.rates)}q")
    return _Form(layout, text, len(text), [(each.pack, each.size - HEAD.size) for each in structs], levels.unpack_from)


def _said(rate: Rate) -> str:
    """The rate in words: equal rates have equal texts, and others have others."""
    calendar, shadow = "c" if rate.calendar else "", "s" if rate.shadow else ""
    return f"{rate.name}:{rate.tokens}/{rate.period_ms}+{rate.burst}{calendar}{shadow}"


@cache
def _read_form(text: bytes) -> _Form:
    return _form(layout_of(tuple(_read(said) for said in text.decode().split())))


def _read(said: str) -> Rate:
    match = _RATE.fullmatch(said)
    if match is None:
        raise ValueError(said)
    name, tokens, period_ms, burst, calendar, shadow = match.groups()
    refill: Any = "calendar" if calendar else "continuous"
    return Rate(name, int(tokens), int(period_ms), int(burst), refill, bool(shadow))
