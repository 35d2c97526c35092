"""How a run ends: at its limits, on a signal, or because a process, a worker or a port is missing."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loadtest.commands import RATES, ReportPaths, children, is_running, read_until, running, wait_for_end
from tests.loadtest.conftest import Servers, scenarios
from tests.loadtest.gateways import CUTS, PLAN
from tests.loadtest.hostile import hostile
from tests.processes import free_port

from awx_ratelimit.loadtest.load.client import BudgetSpent, Client, LoadContext
from awx_ratelimit.loadtest.run_config import RunConfig

KEY = {"AWX_LOADTEST_KEY": "awx_test_key_0"}
SOAK = ("--profiles", "soak")


class Ended(NamedTuple):
    """An ended command: its status, its output, its reports, and which of its processes still run."""

    status: int
    output: str
    report: dict[str, Any]
    junit: ET.Element
    page: str
    left: list[int]
    seconds: float


def read_outcome(paths: ReportPaths, ended: tuple[int, str], began_s: float, processes: list[int]) -> Ended:
    """The outcome of a command that has ended."""
    report, junit, page = paths.read()
    left = [pid for pid in processes if is_running(pid)]
    return Ended(*ended, json.loads(report), ET.fromstring(junit), page, left, time.monotonic() - began_s)


def signalled(number: int, signals: list[signal.Signals], servers: Servers, folder: Path) -> Ended:
    """A soak that gets signals in the middle of its run."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    url = f"{servers.url('gateways')}/honest-{number}"
    with running(url, *RATES, *SOAK, *paths.options, **KEY) as process:
        read_until(process, "soak")
        driver = children(process.pid)
        time.sleep(1.5)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.05)
        return read_outcome(paths, wait_for_end(process), began_s, driver)


SIGNALLED = (
    partial(signalled, 9, [signal.SIGINT]),
    partial(signalled, 8, [signal.SIGTERM, signal.SIGINT]),
)


@scenarios(*SIGNALLED)
def test_signals_leave_complete_reports(outcome: Ended) -> None:
    """After one or two signals every report contains the observations so far, and no process is left."""
    assert outcome.status == 130, outcome
    assert "interrupted" in outcome.output, outcome
    assert "Traceback" not in outcome.output, outcome
    assert outcome.report["interrupted"] is True
    assert outcome.report["requests"] > 0
    assert outcome.left == []
    assert "</html>" in outcome.page
    assert outcome.junit.tag == "testsuite"


def signalled_early(servers: Servers, folder: Path) -> Ended:
    """A soak that gets a signal as soon as its driver process exists."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    with running(f"{servers.url('gateways')}/honest-6", *RATES, *SOAK, *paths.options, **KEY) as process:
        while not (driver := children(process.pid)):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        return read_outcome(paths, wait_for_end(process), began_s, driver)


@scenarios(signalled_early)
def test_signal_before_the_first_request(outcome: Ended) -> None:
    """The report of a run that was interrupted while it started says so."""
    assert outcome.status == 130, outcome
    assert "Traceback" not in outcome.output, outcome
    assert outcome.report["verdicts"][0]["detail"] == "interrupted before the first request", outcome


def driver_killed(servers: Servers, folder: Path) -> Ended:
    """A soak whose driver process is killed in the middle of the run."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    with running(f"{servers.url('gateways')}/honest-5", *RATES, *SOAK, *paths.options, **KEY) as process:
        read_until(process, "soak")
        time.sleep(1.5)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        return read_outcome(paths, wait_for_end(process), began_s, [])


@scenarios(driver_killed)
def test_killed_driver(outcome: Ended) -> None:
    """A dead driver keeps the verdicts so far, and is an error of the run instead of a failure of the gateway."""
    report = outcome.report

    assert outcome.status == 2, outcome
    assert report["passed"] is False, outcome
    assert report["requests"] > 0, outcome
    assert "ended with status -9" in report["trouble"]
    assert report["verdicts"][0]["verdict"] == "passed"
    assert outcome.junit.get("errors") == "1"
    assert outcome.junit.get("failures") == "0"


def worker_killed(servers: Servers, folder: Path) -> Ended:
    """A soak of two workers, one of which is killed."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    url = f"{servers.url('gateways')}/honest-4"
    with running(url, *RATES, *SOAK, "--workers", "2", *paths.options, **KEY) as process:
        read_until(process, "soak")
        (driver,) = children(process.pid)
        workers = children(driver)
        os.kill(workers[0], signal.SIGKILL)
        return read_outcome(paths, wait_for_end(process), began_s, [driver, *workers])


@scenarios(worker_killed)
def test_killed_worker(outcome: Ended) -> None:
    """A lost worker ends the run within seconds instead of at the end of its time."""
    assert outcome.status == 2, outcome
    assert outcome.report["trouble"] == "only 1 of 2 workers are left", outcome
    assert outcome.junit.get("failures") == "0", outcome
    assert outcome.left == [], outcome
    assert outcome.seconds < 60


def cut(name: str, servers: Servers, folder: Path) -> Ended:
    """Streams that hold all slots of the honest gateway of that name, until the run is cut."""
    words, number_of_signals, killed = CUT_RUNS[name]
    paths, began_s = ReportPaths(folder), time.monotonic()
    options = f"--profiles streams --stream-path /endless {words}".split()
    with running(f"{servers.url('gateways')}/honest-{name}", *RATES, *options, *paths.options, **KEY) as process:
        read_until(process, "streams")
        time.sleep(1.5)
        for _ in range(number_of_signals):
            process.terminate()
        for pid in killed(process.pid):
            os.kill(pid, signal.SIGKILL)
        return read_outcome(paths, wait_for_end(process), began_s, [])


#: Options of the run, how often it gets SIGTERM, and which of its processes are killed.
CUT_RUNS: dict[str, tuple[str, int, Callable[[int], list[int]]]] = {
    "time": ("--seconds 3", 0, lambda _: []),
    "signal": ("", 1, lambda _: []),
    "two-signals": ("", 2, lambda _: []),
    "killed-driver": ("", 0, children),
    "killed-worker": ("--workers 1", 0, lambda pid: children(children(pid)[0])),
}


@scenarios(*(partial(cut, name) for name in CUTS))
def test_cut_run_of_an_honest_gateway(outcome: Ended) -> None:
    """The verdicts know the requests in flight when a run is cut, which justify the refusals that they caused."""
    verdicts = {one["name"]: one["verdict"] for one in outcome.report["verdicts"]}
    (profile,) = outcome.report["profiles"]

    assert "failed" not in verdicts.values(), outcome
    assert verdicts["slots"] == "passed", outcome
    assert (profile["admitted"], profile["refused"]) == (3, 2), outcome
    assert outcome.report["missing_profiles"] == {"streams": "was cut short"}, outcome


def bounded(servers: Servers, folder: Path) -> Ended:
    """A soak with a time limit, without which it would never end."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    words = (*SOAK, "--seconds", "3", *paths.options)
    with running(f"{servers.url('gateways')}/honest-3", *RATES, *words, **KEY) as process:
        return read_outcome(paths, wait_for_end(process), began_s, [])


@scenarios(bounded)
def test_time_limit(outcome: Ended) -> None:
    """A run ends after `--seconds`."""
    assert outcome.status == 0, outcome
    assert outcome.report["missing_profiles"] == {}
    assert 0 < outcome.report["seconds"] <= 4, outcome


def test_request_limit() -> None:
    """A client that exceeds the run's number of requests gets BudgetSpent and sends nothing."""
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
def test_workers_share_the_request_limit(requests: int, workers: int, surplus: int) -> None:
    """All workers together may make exactly the run's requests, even if surplus workers join."""
    config = RunConfig("http://h", PLAN, requests=requests, workers=workers)

    assert sum(config.requests_of_worker(number) for number in range(workers + surplus)) == requests


def other_keys(servers: Servers, folder: Path) -> tuple[int, str, str]:
    """A remote worker without keys."""
    address = f"127.0.0.1:{(port := free_port())}"
    words = (*RATES, *SOAK, "--workers", "1", "--remote", "--bind", address)
    with (
        running(f"{servers.url('gateways')}/honest-1", *words, **KEY) as process,
        running("127.0.0.1", "--port", str(port), command="loadtest-worker") as worker,
    ):
        status, output = wait_for_end(process)
        return status, output, wait_for_end(worker)[1]


@scenarios(other_keys)
def test_worker_with_other_keys(outcome: tuple[int, str, str]) -> None:
    """A worker whose environment has another number of keys ends the run before the first request."""
    status, output, worker_output = outcome

    assert status == 2, outcome
    assert "a worker has 0 keys" in output, outcome
    assert "Traceback" not in worker_output, outcome


def page_port_taken(servers: Servers, folder: Path) -> Ended:
    """A run whose port for Locust's page is in use."""
    paths, began_s = ReportPaths(folder), time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = (*SOAK, *paths.options, "--web", f"127.0.0.1:{other.getsockname()[1]}")
        with running(f"{servers.url('gateways')}/honest-1", *RATES, *words, **KEY) as process:
            return read_outcome(paths, wait_for_end(process), began_s, [])


@scenarios(page_port_taken)
def test_web_page_port_in_use(outcome: Ended) -> None:
    """A run that cannot serve its web page ends before the first request."""
    assert outcome.status == 2
    assert outcome.report["requests"] == 0
    assert "the web page cannot be served at" in outcome.output
