"""Bytes per subject, the longest pause, and threads: ``python -m benchmarks.bench_memory``.

Key strings and open leases are not counted: the strings exist before memory is first measured. A pause is the longest
single decision among a million subjects while the sweep runs. The control is the longest of as many calls that only
read the clock, which shows what the machine itself adds.
"""

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

from awx_ratelimit import Limiter, MemoryBackend, Plan

SUBJECTS = 1_000_000
PLAN = Plan.of("bench", per_minute=60, per_day=10_000, concurrent=5)
FAST = Plan.of("fast", per_minute=10**8, per_day=10**8, concurrent=1_000)
BYTES_TARGET = 200


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _filled(subjects: tuple[str, ...]) -> tuple[Limiter, float]:
    limiter = Limiter(MemoryBackend())
    gc.collect()
    before = _resident_bytes()
    for subject in subjects:
        limiter.release(limiter.acquire(subject, PLAN))
    # A little traffic on one key carries the sweep round, as it does in service.
    until = time.monotonic() + 6
    while time.monotonic() < until:
        limiter.release(limiter.acquire("busy", FAST))
    gc.collect()
    return limiter, (_resident_bytes() - before) / len(subjects)


def _longest_ms(calls: int, call: Callable[[int], object]) -> tuple[float, float]:
    """The longest of the calls, and the longest but for one in ten thousand."""
    durations = []
    for number in range(calls):
        begun = time.perf_counter()
        call(number)
        durations.append(time.perf_counter() - begun)
    durations.sort()
    return durations[-1] * 1000, durations[-calls // 10_000] * 1000


def _pairs_a_second(threads: int, *, same_key: bool) -> float:
    limiter = Limiter(MemoryBackend())
    begin = threading.Barrier(threads + 1)
    pairs = 100_000

    def work(name: str) -> None:
        begin.wait()
        for _ in range(pairs):
            limiter.release(limiter.acquire(name, FAST))

    names = ["key" if same_key else f"key_{number}" for number in range(threads)]
    running = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in running:
        thread.start()
    begin.wait()
    begun = time.perf_counter()
    for thread in running:
        thread.join()
    return threads * pairs / (time.perf_counter() - begun)


def main() -> None:
    """Print a table of each."""
    # A tuple of texts, which the collector does not walk: it is the benchmark's own, and not to be timed.
    subjects = tuple(f"key_{number:032x}" for number in range(SUBJECTS))
    limiter, bytes_each = _filled(subjects)
    met = "met" if bytes_each <= BYTES_TARGET else "NOT met"
    print(f"\n## A million subjects\n\n{bytes_each:.0f} bytes each, target {BYTES_TARGET}: {met}\n")
    ours = _longest_ms(400_000, lambda number: limiter.release(limiter.acquire(subjects[number * 7 % SUBJECTS], PLAN)))
    control = _longest_ms(400_000, lambda _: time.monotonic())
    print("| the longest of 400,000 calls | ms | but for one in 10,000, ms |\n| --- | --- | --- |")
    print(f"| a decision among a million subjects | {ours[0]:.2f} | {ours[1]:.3f} |")
    print(f"| reading the clock | {control[0]:.2f} | {control[1]:.3f} |")
    print("\n## Threads\n\n| threads | pairs a second, one key | pairs a second, a key each |\n| --- | --- | --- |")
    for threads in (1, 2, 4):
        same, other = (_pairs_a_second(threads, same_key=same_key) for same_key in (True, False))
        print(f"| {threads} | {same:,.0f} | {other:,.0f} |")


if __name__ == "__main__":
    main()
