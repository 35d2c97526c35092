"""A process that takes slots and ends: ``python -m tests.integration.redis_exits URL WAY [TIMEOUT_MS [PID]]``.

If it exits normally, the last line that it prints is the duration of its exit in seconds.
"""

import asyncio
import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def say_how_long() -> None:
    """Print the duration of the exit. Registered first, and so called last."""
    print(time.monotonic() - ended_s, flush=True)  # noqa: T201  # what the test reads


ended_s = time.monotonic()
atexit.register(say_how_long)

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, Plan  # noqa: E402  # after what is called last
from awx_ratelimit.backends.open import open_async_backend, open_backend  # noqa: E402

if __name__ == "__mp_main__":
    # Like most apps, import this at the top: a new interpreter imports the main module before `multiprocessing` begins.
    import awx_ratelimit.backends.redis.backend  # noqa: F401  # for what its import does

PLAN = Plan("exits", (), Concurrency(20, ttl_ms=3_600_000))
kept: list[Any] = []


def url() -> str:
    timeout_ms = sys.argv[3] if len(sys.argv) > 3 else "5000"
    return f"{sys.argv[1]}?budget_ms={timeout_ms}&on_outage=closed"


def taken(limiter: Limiter) -> Limiter:
    """Take a slot that is never released."""
    kept.append(limiter.acquire("s", PLAN))
    assert kept[-1].allowed
    kept.append(limiter)
    return limiter


def hold() -> None:
    """Release a slot in the last moment, with a limiter that is not referenced any more."""
    with Limiter(open_backend(url())).hold("s", PLAN) as decision:
        assert decision.allowed


def released() -> None:
    """Release a slot in the last moment."""
    taken(Limiter(open_backend(url()))).release(kept[0])


def held() -> None:
    """Never release a slot."""
    taken(Limiter(open_backend(url())))


def exits() -> None:
    """Call sys.exit."""
    held()
    sys.exit(0)


def raises() -> None:
    """End by an exception."""
    held()
    sys.excepthook = lambda *_: None
    raise RuntimeError


def thread() -> None:
    """End while a daemon thread works."""
    limiter, has = Limiter(open_backend(url())), threading.Event()

    def work() -> None:
        with limiter.hold("s", PLAN):
            has.set()
            threading.Event().wait()

    kept.append(limiter)
    threading.Thread(target=work, daemon=True).start()
    assert has.wait(10)


def busy_threads() -> None:
    """End while daemon threads take slots until the last moment."""
    limiter, begun = Limiter(open_backend(url())), threading.Barrier(5)

    def work() -> None:
        begun.wait()
        while True:
            limiter.release(limiter.acquire("s", PLAN))

    kept.append(limiter)
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    begun.wait()
    # Each thread has made a decision, and makes another one.
    for _ in range(20):
        limiter.peek("s", PLAN)


def left() -> None:
    """Keep a decision, after the limiter that made it was collected."""
    kept.append(Limiter(open_backend(url())).acquire("s", PLAN))
    thread = next(each for each in threading.enumerate() if each.name == "awx_ratelimit leases")
    thread.join(20)


def tasks() -> None:
    """End after an event loop has ended, without closing the limiter."""

    async def main() -> None:
        limiter = AsyncLimiter(open_async_backend(url()))
        kept.extend([limiter, await limiter.acquire("s", PLAN), await limiter.acquire("s", PLAN)])
        await limiter.release(kept[-1])

    asyncio.run(main())


def flushed() -> None:
    """Flush the limiter, and end the process without exit functions."""
    limiter = taken(Limiter(open_backend(url())))
    limiter.release(kept[0])
    limiter.flush()
    os._exit(0)


def flushed_by_a_task() -> None:
    """Flush the limiter in an event loop, and end the process without exit functions."""

    async def main() -> None:
        limiter = AsyncLimiter(open_async_backend(url()))
        await limiter.release(await limiter.acquire("s", PLAN))
        await limiter.flush()
        os._exit(0)

    asyncio.run(main())


def closed() -> None:
    """Close a limiter with a slot taken, and end the process without exit functions."""
    taken(Limiter(open_backend(url()))).close()
    os._exit(0)


def forked() -> None:
    """Exit normally in a child, but not in its parent."""
    limiter = Limiter(open_backend(url()))
    limiter.peek("s", PLAN)
    if os.fork() == 0:
        taken(limiter)
        sys.exit(0)
    os.wait()
    os._exit(0)


def _started(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    limiter = Limiter(open_backend(url()))
    limiter.peek("s", PLAN)
    target, args = (taken, (limiter,)) if method == "fork" else (held, ())
    child = context.Process(target=target, args=args)
    child.start()
    child.join()
    os._exit(child.exitcode)


def multiprocessing_fork() -> None:
    """Exit in a child that `multiprocessing` forks, which calls no `atexit` functions."""
    _started("fork")


def multiprocessing_spawn() -> None:
    """Exit in a child that `multiprocessing` spawns."""
    _started("spawn")


def multiprocessing_forkserver() -> None:
    """Exit in a child of `multiprocessing`'s fork server, which imports everything before it begins."""
    _started("forkserver")


def multiprocessing_late() -> None:
    """Exit in a child that `multiprocessing` forks before there is a limiter."""
    child = multiprocessing.get_context("fork").Process(target=held)
    child.start()
    child.join()
    os._exit(child.exitcode or 0)


def executor() -> None:
    """Exit in a worker of a process pool."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(held).result(20)
    os._exit(0)


def hangs() -> None:
    """Stop the server, and exit."""
    taken(Limiter(open_backend(url())))
    os.kill(int(sys.argv[4]), signal.SIGSTOP)


def is_gone() -> None:
    """End the server, and exit."""
    taken(Limiter(open_backend(url())))
    os.kill(int(sys.argv[4]), signal.SIGKILL)


def stays_the_parents() -> None:
    """Exit in an unused child, which must not release its parent's slots."""
    limiter = Limiter(open_backend(url()))
    taken(limiter)
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    assert limiter.peek("s", PLAN).held == 1


if __name__ == "__main__":
    try:
        globals()[sys.argv[2]]()
    finally:
        ended_s = time.monotonic()
