"""The smallest form of two engines for a host's limits: ``python -m benchmarks.host_engines``. Needs `lmdb`.

Both do the same under the same bounded lock, which the kernel releases when a process dies: they read 80 bytes of a
subject and write them back. One keeps them in LMDB (writemap, without sync) with a transaction per decision, the other
in a memory-mapped table, in the half that is not read. Rounds alternate, and a figure is the best of its rounds. Not
timed: starting and opening.
"""

import mmap
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from awx_ratelimit.backends.host.cell import encode_half, newest_half
from awx_ratelimit.backends.host.locks import ByteLock

PROCESSES = (1, 2, 4)
ROUNDS = 5
SECONDS = 0.3
BODY_BYTES = 80
CELL_BYTES = 512
Step = Callable[[], Any]


def _lmdb(folder: str, number: int) -> Step:
    environment = lmdb.open(f"{folder}/lmdb", map_size=1 << 24, writemap=True, sync=False, metasync=False, lock=True)
    key = b"key_%d" % number

    def step() -> None:
        with environment.begin(write=True) as transaction:
            body = transaction.get(key) or bytes(BODY_BYTES)
            transaction.put(key, body)

    return step


def _table(folder: str, number: int) -> Step:
    fd = os.open(f"{folder}/table", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * CELL_BYTES)
    memory, at = mmap.mmap(fd, 64 * CELL_BYTES), number * CELL_BYTES

    def step() -> None:
        said = newest_half(memory[at : at + CELL_BYTES])
        assert said is not None
        written = encode_half(said.write_number + 1, said.body or bytes(BODY_BYTES))
        place = at + CELL_BYTES // 2 - said.offset
        memory[place : place + len(written)] = written

    return step


def _work(made: Callable[[str, int], Step], folder: str, number: int, begin: Any, answers: Any) -> None:
    step = made(folder, number)
    # LMDB has one writer, whatever the subject is; the table has a shard for each.
    shard = number if made is _table else 0
    lock = ByteLock(os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT), shard)
    begin.wait()
    done, waits = 0, []
    begun_s = now_s = time.perf_counter()
    while now_s < begun_s + SECONDS:
        if lock.try_lock() and not lock.wait(1_000):
            raise TimeoutError
        step()
        lock.unlock()
        done += 1
        before_s, now_s = now_s, time.perf_counter()
        waits.append(now_s - before_s)
    waits.sort()
    answers.put((done / (now_s - begun_s), waits[len(waits) // 2], waits[len(waits) * 99 // 100]))


def _eviction_queue(made: Callable[[str, int], Step], folder: str, processes: int) -> tuple[float, float, float]:
    context = multiprocessing.get_context("fork")
    begin, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(made, folder, number, begin, answers)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    said = [answers.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join()
    return sum(each[0] for each in said), max(each[1] for each in said), max(each[2] for each in said)


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "lmdb").mkdir()
        candidates = {"LMDB, one transaction": _lmdb, "a table that is mapped": _table}
        rounds: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
        for _ in range(ROUNDS):
            for name, made in candidates.items():
                for processes in PROCESSES:
                    rounds.setdefault((name, processes), []).append(_eviction_queue(made, folder, processes))
    print("\n## Candidates for the file of a host, a subject each\n")
    print("| what | processes | steps a second | p50, us | p99, us |\n| --- | --- | --- | --- | --- |")
    for (name, processes), figures in rounds.items():
        a_second, p50_s, p99_s = max(f[0] for f in figures), min(f[1] for f in figures), min(f[2] for f in figures)
        print(f"| {name} | {processes} | {a_second:,.0f} | {p50_s * 1e6:.0f} | {p99_s * 1e6:,.0f} |")


if __name__ == "__main__":
    main()
