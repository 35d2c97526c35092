"""How `make fleet` knows how fast the machine is at any moment."""

import asyncio
import os
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.fleet.speed import Watch, watching
from benchmarks.fleet.stops import observed_stops

FULL_S, SLOW_S = 0.000_1, 0.000_2


def pieces(took_s: dict[int, float]) -> bytes:
    """A second of pieces of work, one each 10 ms. Those with these numbers took so long."""
    return b"".join(struct.pack("dd", number / 100, took_s.get(number, FULL_S)) for number in range(100))


@pytest.fixture
def cores(tmp_path: Path) -> list[Path]:
    """Two cores, of which the second is slow in the middle of a second."""
    places = [tmp_path / "0", tmp_path / "1"]
    places[0].write_bytes(pieces({}))
    places[1].write_bytes(pieces(dict.fromkeys(range(40, 60), SLOW_S)))
    return places


def test_slowness(cores: list[Path]) -> None:
    """A core is as slow as most of its pieces, so one interrupted piece does not count."""
    cores[0].write_bytes(pieces({20: 1.0}))
    speed = Watch(cores, FULL_S)

    assert speed.slowness(0.1, 0.3) == pytest.approx([1.0, 1.0])
    assert speed.slowness(0.45, 0.55) == pytest.approx([1.0, 2.0])


def test_a_late_core(cores: list[Path]) -> None:
    """A core without pieces at that time was as slow as in the pieces before and after."""
    assert Watch(cores, FULL_S).slowness(2.0, 2.5) == pytest.approx([1.0, 1.0])


def test_pieces_that_come_later(cores: list[Path]) -> None:
    """What the cores do after the first look counts too."""
    speed = Watch(cores, FULL_S)
    speed.slowness(0.1, 0.2)
    with cores[0].open("ab") as file:
        file.write(b"".join(struct.pack("dd", 1 + number / 100, 3 * FULL_S) for number in range(100)))

    assert speed.slowness(1.5, 1.6) == pytest.approx([3.0, 1.0])


def test_course(cores: list[Path]) -> None:
    """How slow each core was at each time since the begin. Afterwards it stays so."""
    first, second = Watch(cores, FULL_S).courses(0.3, 0.5)

    assert [first.at(time_s) for time_s in (0.0, 0.15, 9.0)] == pytest.approx([1.0, 1.0, 1.0])
    assert [second.at(time_s) for time_s in (0.0, 0.15, 9.0)] == pytest.approx([1.0, 2.0, 2.0])


def test_times_at_full_speed(cores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured times are divided by the slowness of their core meanwhile."""
    monkeypatch.setattr(Watch, "slowness", lambda *_: [1.0, 2.0])

    async def act() -> float:
        return 3.0

    assert asyncio.run(Watch(cores, FULL_S).times_s(2, act, 1)) == [1.5, 1.5]


def test_cores_of_this_machine() -> None:
    """Each core is watched; at the begin it is about as fast as it can be."""
    with watching() as speed:
        assert 0 < speed.piece_s < 0.1
        assert min(speed.slowness(0.0, 1e12)) >= 0.9


def test_stops_of_this_machine() -> None:
    """The stops of each core follow one another within the time."""
    each = observed_stops(0.2)

    assert len(each) == len(os.sched_getaffinity(0))
    for stops in each:
        assert all(for_s > 0 for _, for_s in stops)
        assert all(first + for_s <= second for (first, for_s), (second, _) in pairwise(stops))
