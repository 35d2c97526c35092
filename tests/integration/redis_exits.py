"""A process that takes slots and ends: ``python -m tests.integration.redis_exits URL WAY [TIMEOUT_MS [PID]]``.

Last of all it says how long its end took, in seconds, where it ends in order.
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
    """Registered first, and so called last."""
    print(time.monotonic() - ended_s, flush=True)  # noqa: T201  # what the test reads


ended_s = time.monotonic()
atexit.register(say_how_long)

from awx_ratelimit import AsyncLimiter, Concurrency, Limiter, Plan  # noqa: E402  # after what is called last
from awx_ratelimit.backends.open import open_async_backend, open_backend  # noqa: E402

if __name__ == "__mp_main__":
    # A new interpreter imports the main module before its `multiprocessing` begins, and this as most apps do.
    import awx_ratelimit.backends.redis.backend  # noqa: F401  # for what its import does

PLAN = Plan("exits", (), Concurrency(20, ttl_ms=3_600_000))
kept: list[Any] = []


def url() -> str:
    timeout_ms = sys.argv[3] if len(sys.argv) > 3 else "5000"
    return f"{sys.argv[1]}?budget_ms={timeout_ms}&on_outage=closed"


def taken(limiter: Limiter) -> Limiter:
    """Takes a slot, for good."""
    kept.append(limiter.acquire("s", PLAN))
    assert kept[-1].allowed
    kept.append(limiter)
    return limiter


def hold() -> None:
    """A slot is given back in the last moment, by a limiter that nobody has any more."""
    with Limiter(open_backend(url())).hold("s", PLAN) as decision:
        assert decision.allowed


def released() -> None:
    """A slot is given back in the last moment."""
    taken(Limiter(open_backend(url()))).release(kept[0])


def held() -> None:
    """A slot is never given back."""
    taken(Limiter(open_backend(url())))


def exits() -> None:
    """It asks to end."""
    held()
    sys.exit(0)


def raises() -> None:
    """It ends by an exception."""
    held()
    sys.excepthook = lambda *_: None
    raise RuntimeError


def thread() -> None:
    """A thread that does not keep the process alive is in the middle of its work."""
    limiter, has = Limiter(open_backend(url())), threading.Event()

    def work() -> None:
        with limiter.hold("s", PLAN):
            has.set()
            threading.Event().wait()

    kept.append(limiter)
    threading.Thread(target=work, daemon=True).start()
    assert has.wait(10)


def busy_threads() -> None:
    """Threads that do not keep the process alive take slots until its last moment."""
    limiter, begun = Limiter(open_backend(url())), threading.Barrier(5)

    def work() -> None:
        begun.wait()
        while True:
            limiter.release(limiter.acquire("s", PLAN))

    kept.append(limiter)
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    begun.wait()
    # Each thread has decided, and decides again.
    for _ in range(20):
        limiter.peek("s", PLAN)


def left() -> None:
    """A decision is kept, and the limiter that made it is collected."""
    kept.append(Limiter(open_backend(url())).acquire("s", PLAN))
    thread = next(each for each in threading.enumerate() if each.name == "awx_ratelimit leases")
    thread.join(20)


def tasks() -> None:
    """An event loop has ended, and its limiter was not closed."""

    async def main() -> None:
        limiter = AsyncLimiter(open_async_backend(url()))
        kept.extend([limiter, await limiter.acquire("s", PLAN), await limiter.acquire("s", PLAN)])
        await limiter.release(kept[-1])

    asyncio.run(main())


def flushed() -> None:
    """What waits is sent, and the process ends by no orderly way at all."""
    limiter = taken(Limiter(open_backend(url())))
    limiter.release(kept[0])
    limiter.flush()
    os._exit(0)


def flushed_by_a_task() -> None:
    """The same within an event loop."""

    async def main() -> None:
        limiter = AsyncLimiter(open_async_backend(url()))
        await limiter.release(await limiter.acquire("s", PLAN))
        await limiter.flush()
        os._exit(0)

    asyncio.run(main())


def closed() -> None:
    """A limiter is closed with a slot taken, and the process ends by no orderly way at all."""
    taken(Limiter(open_backend(url()))).close()
    os._exit(0)


def forked() -> None:
    """A child ends in order; its parent does not."""
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
    """A child that `multiprocessing` forks ends without `atexit`."""
    _started("fork")


def multiprocessing_spawn() -> None:
    """A child that `multiprocessing` starts anew."""
    _started("spawn")


def multiprocessing_forkserver() -> None:
    """A child that the server of `multiprocessing` forks: it imports everything before it begins."""
    _started("forkserver")


def multiprocessing_late() -> None:
    """A child that `multiprocessing` forks before there is any limiter."""
    child = multiprocessing.get_context("fork").Process(target=held)
    child.start()
    child.join()
    os._exit(child.exitcode or 0)


def executor() -> None:
    """A worker of a pool of processes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(held).result(20)
    os._exit(0)


def hangs() -> None:
    """The server stops to answer, and then the process ends."""
    taken(Limiter(open_backend(url())))
    os.kill(int(sys.argv[4]), signal.SIGSTOP)


def is_gone() -> None:
    """The server ends, and then the process does."""
    taken(Limiter(open_backend(url())))
    os.kill(int(sys.argv[4]), signal.SIGKILL)


def stays_the_parents() -> None:
    """A child that has used nothing gives nothing back of what its parent holds."""
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
