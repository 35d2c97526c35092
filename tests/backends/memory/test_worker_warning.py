"""A limiter on a MemoryBackend warns if its process is one of several workers, and only then."""

import logging
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import _process_worker
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from awx_ratelimit import AsyncLimiter, HostBackend, Limiter, MemoryBackend, Plan
from awx_ratelimit.backends.memory import worker_warning
from awx_ratelimit.backends.resilience import expected_workers
from awx_ratelimit.backends.resilience.guarded_sync import GuardedBackend
from awx_ratelimit.runtime import server_workers
from awx_ratelimit.runtime.server_workers import SERVERS, workers_of_server

SPAWNED = "python\0-c\0from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=%d, pipe_handle=%d)"
PLAIN = "python\0/app/bin/serve.py"


@pytest.fixture(autouse=True)
def _first_time(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(worker_warning._warning, "is_logged", False)
    caplog.set_level(logging.WARNING, logger="awx_ratelimit")


def family(folder: Path, parent: str, own: str, others: list[tuple[str, float]]) -> str:
    """A /proc of this process, its parent, and other children of that: the command of each, and how much later."""
    ticks = os.sysconf("SC_CLK_TCK")
    members = [(os.getppid(), parent, 0.0), (os.getpid(), own, 100.0)]
    members += [(10_000_000 + number, command, 100.0 + later_s) for number, (command, later_s) in enumerate(others)]
    for pid, command, begun_s in members:
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "cmdline").write_text(command + "\0")
        fields = " ".join(["S", *["0"] * 18, str(int(begun_s * ticks)), "0"])
        (folder / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {fields}\n")
    children = folder / str(os.getppid()) / "task" / str(os.getppid())
    children.mkdir(parents=True)
    (children / "children").write_text(" ".join(str(pid) for pid, *_ in members[1:]))
    return str(folder)


@pytest.mark.parametrize(
    ("parent", "own", "others"),
    [
        ("/usr/bin/python3\0/venv/bin/gunicorn\0app:app", PLAIN, [(PLAIN, 0.1)]),
        ("gunicorn: master [app]", "gunicorn: worker [app]", [("gunicorn: worker [app]", 1.0)]),
        ("python\0-m\0uvicorn\0app:app\0--workers\04", SPAWNED % (5, 7), [(SPAWNED % (6, 19), 0.2)] * 3),
        ("/venv/bin/python\0-X\0dev\0-m\0hypercorn\0app", SPAWNED % (5, 7), [(SPAWNED % (5, 8), -0.2)]),
        ("/venv/bin/granian\0app", SPAWNED % (5, 7), [(SPAWNED % (5, 8), 0.0)]),
    ],
)
def test_workers_are_warned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parent: str, own: str, others: list[tuple[str, float]]
) -> None:
    """The warning has the number of workers and says which backends share limits."""
    proc = family(tmp_path, parent, own, others)
    for _ in range(3):
        worker_warning.warn_about_workers(proc)

    workers = len(others) + 1
    server = next(name for name in SERVERS if name in parent)
    assert caplog.messages == [
        f"MemoryBackend is per process: with {workers} {server} workers, clients get up to {workers} times the limit. "
        "Use HostBackend or Redis: see docs/choose-a-backend.md#memory-or-a-file"
    ]


@pytest.mark.parametrize(
    ("parent", "own", "others"),
    [
        ("gunicorn\0app", PLAIN, []),
        ("gunicorn\0app", PLAIN, [(PLAIN, -60.0)]),
        ("gunicorn\0app", PLAIN, [("python\0/app/bin/another.py", 0.0)]),
        ("uvicorn\0app\0--reload", SPAWNED % (5, 7), [("python\0-c\0from multiprocessing.resource_tracker", 0.0)]),
        ("/bin/bash", PLAIN, [(PLAIN, 0.0)] * 3),
        ("/usr/bin/supervisord", "gunicorn\0app", [("gunicorn\0app", 0.0)]),
        ("python\0-m\0pytest\0-n\04", PLAIN, [(PLAIN, 0.0)] * 3),
        ("vim\0/home/uvicorn/app.py", PLAIN, [(PLAIN, 0.0)] * 3),
    ],
)
def test_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parent: str, own: str, others: list[tuple[str, float]]
) -> None:
    """A single worker, a replacement and other programs are not warned."""
    worker_warning.warn_about_workers(family(tmp_path, parent, own, others))

    assert caplog.text == ""


def test_no_proc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without /proc there is no warning."""
    worker_warning.warn_about_workers(str(tmp_path))

    assert caplog.text == ""


def test_single_process(caplog: pytest.LogCaptureFixture) -> None:
    """A program of one process is not warned, for any environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEB_CONCURRENCY", "4")
        Limiter(MemoryBackend())

    assert caplog.text == ""


def test_only_limiters_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both limiters cause the check; a backend without a limiter does not."""
    asked: list[str] = []
    monkeypatch.setattr("awx_ratelimit.backends.memory.backend.warn_about_workers", lambda: asked.append("asked"))
    backends = [MemoryBackend() for _ in range(3)]
    before = list(asked)
    Limiter(backends[0])
    AsyncLimiter(backends[1])
    for backend in backends:
        backend._warn_of_workers()

    assert before == []
    assert len(asked) == 4


def start_worker() -> None:
    """What a server runs in a worker."""


start_worker.__module__ = "uvicorn._subprocess"


@pytest.mark.parametrize(("target", "warns"), [(start_worker, True), (_process_worker, False), (None, False)])
def test_processes_of_a_pool(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, target: Any, warns: bool
) -> None:
    """Processes that a worker starts for other work are no workers, although their parent is a server."""
    own = SimpleNamespace(_target=target)
    processes = SimpleNamespace(parent_process=lambda: "a process", current_process=lambda: own)
    monkeypatch.setitem(sys.modules, "multiprocessing.process", processes)
    spawned = SPAWNED % (5, 7)
    worker_warning.warn_about_workers(family(tmp_path, "python\0-m\0uvicorn\0app:app", spawned, [(spawned, 0.1)]))

    assert bool(caplog.messages) == warns


@pytest.mark.own_process
def test_pool_of_a_forked_worker(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The process of a pool that a single worker forks logs nothing, also if it decides."""
    monkeypatch.setattr("awx_ratelimit.runtime.server_workers._server_name", lambda _: "gunicorn")
    monkeypatch.setattr("awx_ratelimit.runtime.server_workers._command_pattern", lambda *_: b"gunicorn")
    limiter, plan = Limiter(MemoryBackend()), Plan.of("p", per_minute=60)
    caplog.clear()
    worker_warning._warning.is_logged = False

    def messages() -> list[str]:
        limiter.acquire("s", plan)
        return [*caplog.messages]

    with ProcessPoolExecutor(2, get_context("fork")) as executor:
        _pool_work.append(messages)
        tasks = [executor.submit(_run_pool_work) for _ in range(4)]
        said = [task.result(30) for task in tasks]

    assert said == [[]] * 4


_pool_work: list[Any] = []


def _run_pool_work() -> Any:
    return _pool_work[-1]()


@pytest.mark.parametrize(
    ("on_outage", "expected", "warned"),
    [("local", 1, True), ("local", 2, True), ("local", 3, False), ("local", 40, False), ("open", 1, False)],
)
def test_expected_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, on_outage: Any, expected: int,
    warned: bool,
) -> None:  # fmt: skip
    """A guard that divides limits by fewer workers than its server has says what to write, once."""
    monkeypatch.setattr(expected_workers._warning, "is_logged", False)
    proc = family(tmp_path, "gunicorn: master [app]", "gunicorn: worker [app]", [("gunicorn: worker [app]", 1.0)] * 2)
    monkeypatch.setattr(server_workers, "workers_of_server", lambda _: workers_of_server(proc))
    for _ in range(2):
        GuardedBackend(HostBackend(tmp_path / "limits"), on_outage=on_outage, expected_workers=expected)

    assert caplog.messages == warned * [
        f"expected_workers is {expected}, and this process is one of 3 gunicorn workers. During an outage each worker "
        f"admits a limit divided by {expected}; write expected_workers=3, or the number of workers on all hosts "
        "together: see docs/workers.md#redis-and-postgresql"
    ]


@pytest.mark.parametrize(("processes", "warned"), [(5, True), (1, False)])
def test_mod_wsgi(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    warned: bool,
) -> None:
    """mod_wsgi tells its number of processes."""
    monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace(maximum_processes=processes))
    worker_warning.warn_about_workers(family(tmp_path, "/usr/sbin/apache2\0-k\0start", "(wsgi:app)", []))

    assert ["with 5 mod_wsgi workers" in message for message in caplog.messages] == [True] * warned


def test_mod_wsgi_package_outside_apache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package that installs mod_wsgi's commands causes no warning."""
    monkeypatch.setitem(sys.modules, "mod_wsgi", SimpleNamespace())
    worker_warning.warn_about_workers(family(tmp_path, "/bin/bash", PLAIN, []))

    assert caplog.messages == []
