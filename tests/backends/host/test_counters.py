"""Counters that processes read while their owner writes them."""

import os
from pathlib import Path

from tests.processes import in_child

from awx_ratelimit.backends.host.leases import LeaseCounters
from awx_ratelimit.backends.host.mapped_file import MappedFile

READS = 300_000


def test_no_process_reads_half_a_store(path: Path) -> None:
    """While a counter grows, another process reads only values that were stored."""
    counters = LeaseCounters(MappedFile(str(path), 1_000))
    counter = counters.allocate()
    least = counters.value(counter)
    writer = os.fork()
    if writer == 0:
        # Ends when it is killed.
        while True:
            for more in range(1_000):
                counters.store(counter, least + more)

    def read() -> bool:
        return all(least <= counters.value(counter) < least + 1_000 for _ in range(READS))

    try:
        only_stored = in_child(os.fork, read)
    finally:
        os.kill(writer, 9)
        os.waitpid(writer, 0)

    assert only_stored
