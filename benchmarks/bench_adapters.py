"""Add a middleware to one request in process: key, rules, decision, headers, release.

The bare app is the control of each group. Not timed: creating the apps, and one request to warm them up.
"""

import pytest
from benchmarks.in_process import answerer
from benchmarks.peers.apps import APPS
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(group="request")
@pytest.mark.parametrize("name", APPS)
def bench_request(benchmark: BenchmarkFixture, name: str) -> None:
    """One request that is let in."""
    answer = answerer(name)
    assert answer() == 200

    benchmark(answer)

    assert answer() == 200
