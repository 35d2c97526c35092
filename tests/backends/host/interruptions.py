"""Interrupt code at every line where a signal handler can run.

CPython runs signal handlers at the start of a function, after a call and at the end of a loop's turn. An exception that
a handler raises then counts as raised by that call. So of the lines that are run, a test can interrupt those that come
first in a function, after a jump backwards, or after a call that the same `try` covers.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from types import CodeType
from typing import Any

#: A decision has more lines than this, so a test that interrupts fewer is wrong.
_MIN_LINES = 30


class Interrupted(Exception):
    """What the signal handlers of these tests raise."""


class Interruption:
    """One run of a block, interrupted at the line `number` of those that can be interrupted, counted from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.happened = False

    @contextmanager
    def calling(self, act: Callable[[], Any]) -> Iterator[None]:
        """Call `act` at that line, as a signal handler."""
        lines = 0
        offsets: dict[int, int] = {}

        def trace(frame: Any, event: str, _arg: Any) -> Any:
            nonlocal lines
            if "awx_ratelimit" not in frame.f_code.co_filename or _is_finalizer(frame):
                return trace
            previous = offsets.get(id(frame), -1) if event == "line" else -1
            offsets[id(frame)] = frame.f_lasti if event == "line" else -1
            if event == "line" and _can_run_handler(frame.f_code, previous, frame.f_lasti):
                lines += 1
                if lines == self.number:
                    self.happened = True
                    act()
            return trace

        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(None)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Interrupted at that line, and continue after the block."""

        def interrupt() -> None:
            raise Interrupted

        with suppress(Interrupted), self.calling(interrupt):
            yield


def every_interruption() -> Iterator[Interruption]:
    """An interruption at the first line, at the second line and so on, until a run ends before it gets that far."""
    for number in count(1):
        interruption = Interruption(number)
        yield interruption
        if not interruption.happened:
            assert number > _MIN_LINES, "hardly anything was interrupted"
            return


def _is_finalizer(frame: Any) -> bool:
    """Whether garbage collection runs this code, at a line that differs from run to run."""
    while frame and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


@cache
def _can_run_handler(code: CodeType, previous: int, at: int) -> bool:
    """Whether a handler can run between the line at offset `previous` and the line at `at`."""
    if at <= previous or previous < 0:
        return True
    end = next((start for start, _ in dis.findlinestarts(code) if start > previous), len(code.co_code))
    bytecode = dis.Bytecode(code)
    calls = [each.offset for each in bytecode if previous <= each.offset < end and each.opname.startswith("CALL")]
    return bool(calls) and _handler(bytecode, calls[-1]) == _handler(bytecode, at)


def _handler(bytecode: Any, offset: int) -> int | None:
    """Where an exception at `offset` continues within the function; None if it leaves the function."""
    return next((entry.target for entry in bytecode.exception_entries if entry.start <= offset < entry.end), None)
