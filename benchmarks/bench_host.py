"""Several processes of one host share limits: ``python -m benchmarks.bench_host``.

A decision acquires two rates and a slot, and releases it. It is compared with our Redis backend over a unix socket (if
redis-server is installed) and with pyrate-limiter's SQLite bucket on the same disk, which has no slots. Rounds are
short and alternate. A figure is the best of its rounds, because other programs disturb the rest. After all rounds the
number of admitted claims is compared with the charges.

Not timed: starting the processes, opening, and a warm-up. A wait is one acquire, timed in separate rounds, because
reading the clock takes as long as a part of it.
"""

import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pyrate_limiter import Duration, SQLiteBucket
from pyrate_limiter import Limiter as PyrateLimiter
from pyrate_limiter import Rate as PyrateRate

from awx_ratelimit import BackendUnavailable, Concurrency, Limiter, Plan, Rate
from awx_ratelimit.backends.base import Backend
from awx_ratelimit.backends.host import HostBackend
from awx_ratelimit.backends.redis import RedisBackend

PROCESSES = (1, 2, 4)
SUBJECTS = ("one key", "a key each")
ROUNDS = 16
SECONDS = 0.2
WARM_UP = 50
MOST = 10**7
#: What nobody uses up, and of which nothing comes back in the time that this takes: it can be counted.
PLAN = Plan(
    "bench", (Rate("day", 1, 86_400_000, burst=MOST), Rate("week", 1, 604_800_000, burst=MOST)), Concurrency(1_000)
)
TIMES = 10
WAIT_MS = 1.0


class Decider(Protocol):
    """Decides in one process, for what all processes share."""

    def acquire(self, subject: str) -> Any:
        """Decide once; what is not true was not let in."""
        ...

    def release(self, acquired: Any) -> None:
        """Give back what has to be."""
        ...

    def charged(self, subject: str) -> int:
        """How often the subject was let in, by any process."""
        ...


class Ours:
    """A limiter over a backend: two rates and a slot."""

    def __init__(self, backend: Backend) -> None:
        self._limiter = Limiter(backend)
        self.release = self._limiter.release

    def acquire(self, subject: str) -> Any:
        """See Decider."""
        return self._limiter.acquire(subject, PLAN)

    def charged(self, subject: str) -> int:
        """See Decider."""
        return MOST - self._limiter.peek(subject, PLAN).usages[0].remaining


class Pyrate:
    """One bucket of two rates for a subject, each in a table of its own, with the file lock that processes need."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._buckets: dict[str, SQLiteBucket] = {}
        self._limiters: dict[str, PyrateLimiter] = {}

    def acquire(self, subject: str) -> Any:
        """See Decider."""
        if subject not in self._limiters:
            rates = [PyrateRate(MOST, Duration.DAY), PyrateRate(MOST + 1, Duration.WEEK)]
            bucket = SQLiteBucket.init_from_file(rates, subject, self._path, use_file_lock=True)
            self._buckets[subject], self._limiters[subject] = bucket, PyrateLimiter(bucket)
        return self._limiters[subject].try_acquire(subject)

    def release(self, acquired: Any) -> None:
        """See Decider: it has no slots."""

    def charged(self, subject: str) -> int:
        """See Decider, the one that this asks for included."""
        self.acquire(subject)
        return self._buckets[subject].count() - 1


class Round(NamedTuple):
    """What the processes of one round came to: together, and the worst of them."""

    a_second: float
    p50_us: float
    p99_us: float


def _work(made: Callable[[], Decider], subject: str, timed: bool, begin: Any, answers: Any) -> None:
    decider, clock = made(), time.perf_counter
    acquire, release = decider.acquire, decider.release
    let_in = sum(_decided(decider, subject) for _ in range(WARM_UP))
    waits: list[float] = []
    done = 0
    begin.wait()
    begun_s = now_s = clock()
    while now_s < begun_s + SECONDS:
        try:
            acquired = acquire(subject)
        except BackendUnavailable:
            now_s = clock()
            continue
        if timed:
            waits.append(clock() - now_s)
        release(acquired)
        done += 1
        let_in += bool(acquired)
        now_s = clock()
    waits.sort()
    answers.put(
        (subject, let_in, done / (now_s - begun_s), waits[len(waits) // 2 :][:1], waits[len(waits) * 99 // 100 :][:1])
    )


def _decided(decider: Decider, subject: str) -> bool:
    acquired = decider.acquire(subject)
    decider.release(acquired)
    return bool(acquired)


class Engine:
    """One way to decide, its rounds, and what was let in during all of them."""

    def __init__(self, name: str, made: Callable[[], Decider], processes: Sequence[int] = PROCESSES) -> None:
        self.name = name
        self.processes = processes
        self.rounds: dict[tuple[int, str], list[Round]] = {}
        self._made = made
        self._let_in: Counter[str] = Counter()

    def round(self, processes: int, subjects: str, *, timed: bool) -> None:
        """One round of so many processes."""
        context = multiprocessing.get_context("fork")
        begin, answers = context.Barrier(processes), context.Queue()
        names = [f"key_{number if subjects == SUBJECTS[1] else 0}" for number in range(processes)]
        workers = [context.Process(target=_work, args=(self._made, name, timed, begin, answers)) for name in names]
        for worker in workers:
            worker.start()
        said = [answers.get(timeout=20) for _ in workers]
        for worker in workers:
            worker.join()
        for subject, let_in, *_ in said:
            self._let_in[subject] += let_in
        waits = [max((wait for answer in said for wait in answer[place]), default=0.0) * 1e6 for place in (3, 4)]
        self.rounds.setdefault((processes, subjects), []).append(Round(sum(answer[2] for answer in said), *waits))

    def check(self) -> None:
        """Raise RuntimeError unless what was let in is what was charged, for each subject."""
        decider = self._made()
        charged = {subject: decider.charged(subject) for subject in self._let_in}
        if charged != dict(self._let_in):
            raise RuntimeError(f"{self.name}: let in {dict(self._let_in)}, charged {charged}")

    def best(self, processes: int, subjects: str) -> Round:
        """The most decisions a second, and the shortest waits, of all rounds."""
        rounds = self.rounds[processes, subjects]
        timed = [each for each in rounds if each.p99_us]
        return Round(max(each.a_second for each in rounds), min(e.p50_us for e in timed), min(e.p99_us for e in timed))


@contextmanager
def _redis(folder: Path) -> Iterator[str | None]:
    """The URL of a server of our own; None where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    socket = folder / "redis.sock"
    command = [binary, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        while not socket.exists():
            time.sleep(0.01)
        try:
            yield f"unix://{socket}"
        finally:
            server.terminate()


def main() -> None:
    """Print a table of each, and the targets."""
    with tempfile.TemporaryDirectory() as name, _redis(Path(name)) as url:
        engines = [Engine("HostBackend", lambda: Ours(HostBackend(f"{name}/limits")))]
        if url is not None:
            engines.append(
                Engine("RedisBackend, unix socket", lambda: Ours(RedisBackend.from_url(url, timeout_ms=5_000)))
            )
        engines.append(Engine("pyrate-limiter, SQLite, no slots", lambda: Pyrate(f"{name}/sqlite"), (1, 2)))
        for number in range(ROUNDS):
            for subjects in SUBJECTS:
                for engine in engines:
                    for processes in engine.processes:
                        engine.round(processes, subjects, timed=bool(number % 2))
        for engine in engines:
            engine.check()
    for subjects in SUBJECTS:
        _print_table(engines, subjects)
    _print_targets(engines)


def _print_table(engines: Sequence[Engine], subjects: str) -> None:
    print(f"\n## Processes of one host, {subjects}\n")
    print("| what | processes | decisions a second | wait p50, us | p99, us |\n| --- | --- | --- | --- | --- |")
    for engine in engines:
        for processes in engine.processes:
            best = engine.best(processes, subjects)
            print(f"| {engine.name} | {processes} | {best.a_second:,.0f} | {best.p50_us:.0f} | {best.p99_us:,.0f} |")


def _print_targets(engines: Sequence[Engine]) -> None:
    print("\nTargets; what was let in is what was charged, to the last decision:")
    ours, *others = engines
    for other in others:
        for subjects in SUBJECTS:
            times = ours.best(2, subjects).a_second / other.best(2, subjects).a_second
            print(f"- at least {TIMES}x {other.name}, 2 processes, {subjects}: {times:.1f}x, {_met(times >= TIMES)}")
    for subjects in SUBJECTS:
        p99_ms = ours.best(4, subjects).p99_us / 1000
        print(f"- p99 below {WAIT_MS:.0f} ms, 4 processes, {subjects}: {p99_ms:.2f} ms, {_met(p99_ms < WAIT_MS)}")


def _met(met: bool) -> str:
    return "met" if met else "NOT met"


if __name__ == "__main__":
    main()
