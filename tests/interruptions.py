"""Interrupt code at every line, or after every instruction, where a signal handler can run.

CPython runs signal handlers at the start of a function, after a call and at the end of a loop's turn. An exception that
a handler raises then counts as raised by that call. So of the lines that are run, a test can interrupt those that come
first in a function, after a jump backwards, or after a call that the same `try` covers. Of the instructions, it can
interrupt those that come after such a jump or call, if that was not a call of a Python function.
"""

import dis
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from types import CodeType
from typing import Any

from tests.selection import EXAMPLES

from awx_ratelimit.runtime.compiled import IS_COMPILED

#: A decision has more lines than this, so a test that interrupts fewer is wrong.
_MIN_LINES = 30
#: A release in memory has more instructions after which a handler can run than this.
_MIN_INSTRUCTIONS = 4
_RETURNED = -2
#: `make test` interrupts every eleventh place, `make test-full` every one.
_STEP = 1 if EXAMPLES > 1 else 11


class Interrupted(Exception):
    """What the signal handlers of these tests raise."""


class Interruption:
    """One run of a block, interrupted at the place `number` of those that can be interrupted, counted from 1."""

    def __init__(self, number: int, *, at_instructions: bool = False) -> None:
        self.number = number
        self.happened = False
        self._places = 0
        self._event = "opcode" if at_instructions else "line"
        self._can_run_handler = _can_run_after if at_instructions else _can_run_handler

    @contextmanager
    def calling(self, act: Callable[[], Any]) -> Iterator[None]:
        """Call `act` at that place, as a signal handler."""
        offsets: dict[int, int] = {}

        def trace(frame: Any, event: str, _arg: Any) -> Any:
            if event == "call" and ("awx_ratelimit" not in frame.f_code.co_filename or _is_finalizer(frame)):
                return None
            # CPython 3.13 reports instructions only if the frame has its trace function first.
            frame.f_trace = trace
            frame.f_trace_opcodes, frame.f_trace_lines = self._event == "opcode", self._event == "line"
            if event == "call" and self._event == "opcode" and not _is_unpacking_call(frame.f_back):
                # No handler runs between the end of a Python function and the next instruction of its caller.
                offsets[id(frame.f_back)] = _RETURNED
            previous = offsets.get(id(frame), -1)
            offsets[id(frame)] = frame.f_lasti if event == self._event else -1
            # A generator that is closed has no line, and loses the exception.
            has_line = frame.f_lineno is not None
            if event == self._event and has_line and self._can_run_handler(frame.f_code, previous, frame.f_lasti):
                self._places += 1
                if self._places == self.number:
                    self.happened = True
                    # Tracing takes most of the time of these tests.
                    sys.settrace(None)
                    act()
            return trace

        # CPython 3.12 reports instructions only if a frame has asked for them before.
        sys._getframe().f_trace_opcodes = self._event == "opcode"
        # Coroutines that are garbage warn when they are collected, which fails in some frames of `dis`.
        gc.disable()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(None)
            gc.enable()

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Interrupted at that place, and continue after the block."""

        def interrupt() -> None:
            raise Interrupted

        with suppress(Interrupted), self.calling(interrupt):
            yield


def every_interruption(*, at_instructions: bool = False) -> Iterator[Interruption]:
    """An interruption at one place after another, until a run ends before it gets that far. See `_STEP`."""
    for number in count(1, _STEP):
        interruption = Interruption(number, at_instructions=at_instructions)
        yield interruption
        if not interruption.happened:
            # Compiled code runs no signal handlers between its own instructions, so hardly anything is left.
            assert IS_COMPILED or number > (_MIN_INSTRUCTIONS if at_instructions else _MIN_LINES), (
                "hardly anything was interrupted"
            )
            return


def _is_unpacking_call(frame: Any) -> bool:
    """Whether `frame` is at a call such as ``f(*arguments)``: after it, a handler can run, whatever `f` is."""
    return bool(dis.opname[frame.f_code.co_code[frame.f_lasti]] == "CALL_FUNCTION_EX")


@contextmanager
def alarms(armed: list[bool]) -> Iterator[None]:
    """Raise TimeoutError from a signal handler every half millisecond of processor time, while `armed` has an item."""

    def alarm(*_: object) -> None:
        if armed:
            armed.clear()
            raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


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


@cache
def _can_run_after(code: CodeType, previous: int, at: int) -> bool:
    """Whether a handler can run between the instruction at offset `previous` and the one at `at`."""
    if previous < 0:
        return False
    bytecode = dis.Bytecode(code)
    name = next(each.opname for each in bytecode if each.offset == previous)
    is_checked = name == "RESUME" or name.startswith(("CALL", "JUMP_BACKWARD"))
    return is_checked and _handler(bytecode, previous) == _handler(bytecode, at)


def _handler(bytecode: Any, offset: int) -> int | None:
    """Where an exception at `offset` continues within the function; None if it leaves the function."""
    return next((entry.target for entry in bytecode.exception_entries if entry.start <= offset < entry.end), None)
