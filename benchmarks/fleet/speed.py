"""How fast this machine is at any moment: ``python -m benchmarks.fleet.speed CORE FILE`` watches one core.

The host of a virtual machine runs others on the same processors, which halve their speed for a tenth of a second or for
minutes. So `Watch` lets each core do a small piece of work thirty times a second. Measured times are divided by how
much longer these pieces took meanwhile, and a simulation of a run has cores with the speed that they had in that run.
"""

import asyncio
import os
import struct
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.fleet.stops import Stop

_T = TypeVar("_T")
_TASKS, _PAUSE_S = 5, 0.03
_FIRST_S = 1.0
#: A moment is as fast as the pieces of each core from so long before it until so long after it.
_MARGIN_S = 2 * _PAUSE_S
_PIECE = struct.Struct("dd")
_FOLDER = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Course:
    """How slow a core was: in each part of a time, of so many seconds. It stays as it was at the end.

    `stops` are the moments in which it did nothing.
    """

    part_s: float
    slowness: Sequence[float]
    stops: Sequence[Stop] = ()

    def at(self, time_s: float) -> float:
        """How many times longer than at full speed a step takes that begins at this time."""
        return self.slowness[min(int(time_s / self.part_s), len(self.slowness) - 1)]


class Watch:
    """Knows how fast each core was. `piece_s` is the processor time of a piece at full speed."""

    def __init__(self, places: list[Path], piece_s: float) -> None:
        self._places = places
        self._read = [0] * len(places)
        #: When each piece of each core ended, and its processor time.
        self._pieces: list[list[tuple[float, float]]] = [[] for _ in places]
        self.piece_s = piece_s

    def slowness(self, begin_s: float, end_s: float) -> list[float]:
        """How many times longer than at full speed each core took in this time of the monotonic clock."""
        return [_usual_s(pieces, begin_s, end_s) / self.piece_s for pieces in self._seen()]

    def courses(self, begin_s: float, end_s: float) -> list[Course]:
        """How slow each core was in the course of this time."""
        times_s = [begin_s + number * _PAUSE_S for number in range(int((end_s - begin_s) / _PAUSE_S) + 1)]
        each = [self.slowness(time_s, time_s + _PAUSE_S) for time_s in times_s]
        return [Course(_PAUSE_S, list(slowness)) for slowness in zip(*each, strict=True)]

    async def rounds(self, number: int, act: Callable[[], Awaitable[_T]]) -> list[tuple[_T, list[float]]]:
        """What `act` returned in so many rounds, each with the slowness of each core meanwhile."""
        done = list[tuple[float, float, _T]]()
        for _ in range(number):
            begin_s, result = time.monotonic(), await act()
            done.append((begin_s, time.monotonic(), result))
        await asyncio.sleep(_MARGIN_S + _PAUSE_S)
        return [(result, self.slowness(begin_s, end_s)) for begin_s, end_s, result in done]

    async def times_s(self, number: int, act: Callable[[], Awaitable[float]], core: int) -> list[float]:
        """The times that `act` took on this core in so many rounds, at full speed."""
        return [took_s / slowness[core] for took_s, slowness in await self.rounds(number, act)]

    def _seen(self) -> list[list[tuple[float, float]]]:
        """All pieces until now."""
        for number, place in enumerate(self._places):
            with place.open("rb") as file:
                file.seek(self._read[number])
                # Each piece is written by one system call, so it is whole.
                self._pieces[number].extend(_PIECE.iter_unpack(file.read()))
                self._read[number] = file.tell()
        return self._pieces


def _usual_s(pieces: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """The median of the pieces around this time. There are some, however late the core was."""
    first, last = (bisect_left(pieces, (at_s,)) for at_s in (begin_s - _MARGIN_S, end_s + _MARGIN_S))
    return median(took_s for _, took_s in pieces[max(0, first - 1) : last + 1])


@contextmanager
def watching(piece_s: float = 0.0) -> Iterator[Watch]:
    """Watch the cores that this process may use, during a block.

    Without a known `piece_s`, it is that of the fastest tenth of the pieces in the first second.
    """
    with TemporaryDirectory() as folder, ExitStack() as stack:
        places = [Path(folder, str(core)) for core in sorted(os.sched_getaffinity(0))]
        for place in places:
            place.touch()
            command = [sys.executable, "-m", "benchmarks.fleet.speed", place.name, str(place)]
            program = stack.enter_context(subprocess.Popen(command, cwd=_FOLDER))
            stack.callback(program.terminate)
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + _FIRST_S or not all(place.stat().st_size for place in places):
            time.sleep(_PAUSE_S)
        first_s = [took_s for place in places for _, took_s in _PIECE.iter_unpack(place.read_bytes())]
        yield Watch(places, piece_s or quantiles(first_s, n=10)[0])


def main() -> None:
    """Watch one core until the process that has started this one ends."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    with Path(sys.argv[2]).open("ab", buffering=0) as file:
        asyncio.run(_watch(file))


async def _watch(file: RawIOBase) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        # The first takes longer on a core that has slept, or whose caches belong to others.
        await _piece()
        begin_s = time.thread_time()
        await _piece()
        file.write(_PIECE.pack(time.monotonic(), time.thread_time() - begin_s))
        await asyncio.sleep(_PAUSE_S)


async def _piece() -> None:
    """Tasks that wait and go on, as those of a process that claims."""
    waits = [asyncio.get_running_loop().create_future() for _ in range(_TASKS)]
    tasks = [asyncio.create_task(_goes_on(wait)) for wait in waits]
    await asyncio.sleep(0)
    for wait in waits:
        wait.set_result(None)
    await asyncio.gather(*tasks)


async def _goes_on(wait: asyncio.Future[None]) -> None:
    await wait


if __name__ == "__main__":
    main()
