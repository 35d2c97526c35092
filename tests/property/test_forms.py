"""The two forms of the library, pure Python and compiled, do the same.

The tests run on one of them: on the source, or in `make test-compiled` on the compiled wheel. A child process always
runs the source.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.forms import PLANS, STRANGE, Player
from tests.strategies import with_examples

ROOT = Path(__file__).parent.parent.parent
History = list[list[Any]]
Play = Callable[[History], list[str]]

wrong: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "2", b"k", 2**53 + 1, 2**70, [], {}, *STRANGE]
)
subjects = st.sampled_from(["a", "b", "é", "subclass of str"]) | st.sampled_from(["a", "b"])
plans = st.integers(0, len(PLANS) - 1) | st.sampled_from([0, 0, 1])
costs = st.sampled_from([1, 1, 1, 2, 3, 50_000, "subclass of int", {"requests": 1, "tokens": 8}, {"tokens": 3}, {}])
scopes = st.sampled_from([None, None, "account", "service"])
budgets = st.tuples(subjects, plans, st.sampled_from(["account", "service", "third"]))
others = st.lists(budgets, max_size=3)
numbers = st.integers(0, 9)


def step(verb: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(verb), *arguments).map(list)


def perhaps(argument: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The argument, and rarely a wrong one."""
    return st.integers(0, 9).flatmap(lambda number: argument if number else wrong)


verbs = st.sampled_from(["release", "refund", "settle", "acquire_joint", "peek_joint"])
times = st.sampled_from([1.5, True, "noon", [], 2**70, "subclass of int"])

steps = st.one_of(
    step("acquire", subjects, plans, st.just(1), st.none(), st.just([]), st.just(False)),
    step("acquire", perhaps(subjects), perhaps(plans), perhaps(costs), scopes, others, st.booleans()),
    step("direct", perhaps(subjects), perhaps(plans), perhaps(st.sampled_from([1, 1, 0, 2]))),
    step("peek", perhaps(subjects), perhaps(plans), perhaps(costs)),
    step("release", perhaps(numbers)),
    step("refund", perhaps(numbers)),
    step("settle", perhaps(numbers), perhaps(costs)),
    step("reset", perhaps(subjects), perhaps(scopes)),
    step("change", numbers, st.sampled_from(["cost", "levels", "allowed", "new"])),
    step("straight", verbs, perhaps(numbers)),
    step("told", times, st.just("direct"), subjects, plans, st.just(1)),
    step("told", times, st.just("acquire"), subjects, plans, costs, scopes, others, st.booleans()),
    step("told", times, st.just("straight"), verbs, numbers),
    step("told", times, st.just("peek"), subjects, plans, st.just(1)),
    step("copy", numbers),
    step("pickle", numbers),
    step("advance", st.sampled_from([1, 500, 1_001, 20_000, 61_000, 86_400_000, -100, -70_000, 2**62, 2**70])),
    step(
        "request",
        st.sampled_from(["GET", "POST", "OPTIONS"]),
        st.sampled_from(["/", "/free", "/five", "/1/none", "//five"]),
        st.sampled_from([b"awx_a", b"awx_b", b"awx_c", b"awx_unknown", b""]),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def play_source() -> Iterator[Play]:
    """Plays a history in a process that runs the source."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.property.forms"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        assert json.loads(stdout.readline()) == [False, str(ROOT / "src" / "awx_ratelimit" / "__init__.py")]

        def play(history: History) -> list[str]:
            stdin.write(f"{history!r}\n")
            stdin.flush()
            told: list[str] = json.loads(stdout.readline())
            return told

        yield play
        stdin.close()


@with_examples(120)
@given(history=st.lists(steps, min_size=1, max_size=25))
def test_forms_do_the_same(play_source: Play, history: History) -> None:
    """Decisions, headers and errors are the same in every byte, also for wrong arguments."""
    assert Player().play(history) == play_source(history)
