"""How a run ends: by itself, within its bounds; when it is asked to; and when what it needs is lost on the way."""

import json
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.commands import RATES, Files, children, ended, heard, runs, started
from tests.loadtest.conftest import Servers, begun
from tests.loadtest.gateways import PLAN
from tests.loadtest.hostile import hostile
from tests.processes import free_port

from awx_ratelimit.loadtest.load.client import Client
from awx_ratelimit.loadtest.load.context import BudgetSpent, LoadContext
from awx_ratelimit.loadtest.run_config import RunConfig

KEY = {"AWX_LOADTEST_KEY": "awx_test_key_0"}
SOAK = ("--profiles", "soak")


class Ended(NamedTuple):
    """How a command has ended: its status, what it said, its reports, and which of its processes are left."""

    status: int
    said: str
    report: dict[str, Any]
    junit: ET.Element
    page: str
    left: list[int]
    seconds: float


def how(files: Files, ended_with: tuple[int, str], began_s: float, processes: list[int]) -> Ended:
    """What has become of a command."""
    report, junit, page = files.read()
    left = [pid for pid in processes if runs(pid)]
    return Ended(*ended_with, json.loads(report), ET.fromstring(junit), page, left, time.monotonic() - began_s)


def signalled(number: int, signals: list[signal.Signals], servers: Servers, folder: Path) -> Ended:
    """In the middle of a run."""
    files, began_s = Files(folder), time.monotonic()
    url = f"{servers.url('gateways')}/honest-{number}"
    with started(url, *RATES, *SOAK, *files.words, **KEY) as process:
        heard(process, "soak")
        driver = children(process.pid)
        time.sleep(1.5)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.05)
        return how(files, ended(process), began_s, driver)


INTERRUPTED = (
    partial(signalled, 9, [signal.SIGINT]),
    partial(signalled, 8, [signal.SIGTERM, signal.SIGINT]),
)


@begun(*INTERRUPTED)
def test_asked_to_end_it_leaves_a_whole_report(outcome: Ended) -> None:
    """In the middle, once and twice: what was seen until then is in every report, and no process is left."""
    assert outcome.status == 130, outcome
    assert "interrupted" in outcome.said, outcome
    assert "Traceback" not in outcome.said, outcome
    assert outcome.report["interrupted"] is True
    assert outcome.report["requests"] > 0
    assert outcome.left == []
    assert "</html>" in outcome.page
    assert outcome.junit.tag == "testsuite"


def signalled_early(servers: Servers, folder: Path) -> Ended:
    """As soon as there is another process."""
    files, began_s = Files(folder), time.monotonic()
    with started(f"{servers.url('gateways')}/honest-6", *RATES, *SOAK, *files.words, **KEY) as process:
        while not (driver := children(process.pid)):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        return how(files, ended(process), began_s, driver)


@begun(signalled_early)
def test_asked_to_end_before_the_first_request(outcome: Ended) -> None:
    """While it starts there is nothing to be told, and that is what the report says."""
    assert outcome.status == 130, outcome
    assert "Traceback" not in outcome.said, outcome
    assert outcome.report["verdicts"][0]["detail"] == "interrupted before the first request", outcome


def driver_killed(servers: Servers, folder: Path) -> Ended:
    """In the middle of a run."""
    files, began_s = Files(folder), time.monotonic()
    with started(f"{servers.url('gateways')}/honest-5", *RATES, *SOAK, *files.words, **KEY) as process:
        heard(process, "soak")
        time.sleep(1.5)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        return how(files, ended(process), began_s, [])


@begun(driver_killed)
def test_a_driver_that_was_killed_is_said(outcome: Ended) -> None:
    """It is no fault of the gateway's: what was seen stands, the status says that the run is not whole."""
    report = outcome.report

    assert outcome.status == 2, outcome
    assert report["passed"] is False, outcome
    assert report["requests"] > 0, outcome
    assert "ended with status -9" in report["trouble"]
    assert report["verdicts"][0]["verdict"] == "passed"
    assert [outcome.junit.get(name) for name in ("errors", "failures")] == ["1", "0"]


def worker_killed(servers: Servers, folder: Path) -> Ended:
    """One of two."""
    files, began_s = Files(folder), time.monotonic()
    url = f"{servers.url('gateways')}/honest-4"
    with started(url, *RATES, *SOAK, "--workers", "2", *files.words, **KEY) as process:
        heard(process, "soak")
        (driver,) = children(process.pid)
        workers = children(driver)
        os.kill(workers[0], signal.SIGKILL)
        return how(files, ended(process), began_s, [driver, *workers])


@begun(worker_killed)
def test_a_worker_that_was_killed_is_said(outcome: Ended) -> None:
    """The run ends in some seconds, and not at the end of its time."""
    assert outcome.status == 2, outcome
    assert outcome.report["trouble"] == "only 1 of 2 workers are left", outcome
    assert outcome.left == [], outcome
    assert outcome.seconds < 60


def bounded(servers: Servers, folder: Path) -> Ended:
    """A soak has no end of its own."""
    files, began_s = Files(folder), time.monotonic()
    words = (*SOAK, "--seconds", "3", *files.words)
    with started(f"{servers.url('gateways')}/honest-3", *RATES, *words, **KEY) as process:
        return how(files, ended(process), began_s, [])


@begun(bounded)
def test_it_ends_by_itself(outcome: Ended) -> None:
    """After its time."""
    assert outcome.status == 0, outcome
    assert 0 < outcome.report["seconds"] <= 4, outcome


def test_it_makes_no_more_requests_than_it_may() -> None:
    """Whoever would make one more is stopped."""
    with hostile() as (url, requests):
        config = RunConfig(url, PLAN, path="/fine")
        context = LoadContext(config, [], seconds_left=60, requests=2, on_request=lambda *_: None)
        client = Client(context, "burst")
        client.send()
        client.send()
        with pytest.raises(BudgetSpent):
            client.send()

    assert len(requests) == 2


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 3))
def test_workers_together_make_no_more_requests_than_a_run(requests: int, workers: int, more: int) -> None:
    """And no fewer, whoever else comes."""
    config = RunConfig("http://h", PLAN, requests=requests, workers=workers)

    assert sum(config.requests_of_worker(number) for number in range(workers + more)) == requests


def other_keys(servers: Servers, folder: Path) -> tuple[int, str, str]:
    """A worker from elsewhere has none."""
    address = f"127.0.0.1:{(port := free_port())}"
    words = (*RATES, *SOAK, "--workers", "1", "--remote", "--bind", address)
    with (
        started(f"{servers.url('gateways')}/honest-1", *words, **KEY) as process,
        started("127.0.0.1", "--port", str(port), command="loadtest-worker") as worker,
    ):
        status, said = ended(process)
        return status, said, ended(worker)[1]


@begun(other_keys)
def test_a_worker_that_has_other_keys_is_said(outcome: tuple[int, str, str]) -> None:
    """What another machine has in its environment is compared before the first request."""
    status, said, worker_said = outcome

    assert status == 2, outcome
    assert "a worker has 0 keys" in said, outcome
    assert "Traceback" not in worker_said, outcome


def page_taken(servers: Servers, folder: Path) -> Ended:
    """Somebody else listens where Locust's page is to be."""
    files, began_s = Files(folder), time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = (*SOAK, *files.words, "--web", f"127.0.0.1:{other.getsockname()[1]}")
        with started(f"{servers.url('gateways')}/honest-1", *RATES, *words, **KEY) as process:
            return how(files, ended(process), began_s, [])


@begun(page_taken)
def test_a_page_that_cannot_be_served_is_said(outcome: Ended) -> None:
    """Before anything is asked of the gateway."""
    assert outcome.status == 2
    assert outcome.report["requests"] == 0
    assert "the web page cannot be served at" in outcome.said
