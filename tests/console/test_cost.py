"""The cost of pages for an account with many keys, and of pages that are left open."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from jinja2 import Environment
from tests.browser.site import DAY_MS, SESSION, Site
from tests.console.conftest import Client, Send
from tests.keys.store_probes import statements
from tests.machine import eventually
from tests.processes import free_port, guarded, stop
from tests.processor_time import cpu_ratio

from awx_ratelimit import Request
from awx_ratelimit.http.message import FullRequest
from awx_ratelimit.keys import KeyService, KeyStore
from awx_ratelimit.keys.storage.schema import KEYS
from awx_ratelimit.keys.storage.usage import add
from awx_ratelimit.observability.subject_counts import HourUsage

KEY_COUNT = 1_000
START_SECONDS = 20.0
PAGES = ["/", "/?show=old", "/?show=unused", "/?page=20", "/live", "/usage", "/activity", "/plans", "/new"]
ALL_OLD_DAYS = 120


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str, str]]:
    """An account with one key, and one with a thousand keys, all old and unused, which is the most expensive case."""
    store = KeyStore.open(tmp_path_factory.mktemp("many") / "keys.db")
    site = Site(store)
    few, many = site.account(), site.account(max_keys=KEY_COUNT)
    site.record(site.key(few, "n", days_old=ALL_OLD_DAYS), 0, 1)
    at_ms = site.clock.now_ms() - ALL_OLD_DAYS * DAY_MS
    row = {"account_id": many, "name": "n", "prefix": "awx_", "last4": "abcd", "created_at_ms": at_ms}
    ids = [f"key_{number:016}" for number in range(KEY_COUNT)]
    rows = [{**row, "id": key_id, "family_id": key_id, "key_hash": key_id.encode()} for key_id in ids]
    with store._engines.writing.begin() as connection:
        connection.execute(KEYS.insert(), rows)
        today_ms = site.clock.now_ms() // DAY_MS * DAY_MS
        usages = [HourUsage(key_id, today_ms, 5, 1, 1, today_ms, {"tokens": 5}, {"minute": 1}) for key_id in ids]
        add(connection, "other tests", 1, today_ms, usages)
    yield site, few, many
    store.close()


def get(site: Site, account: str, path: str) -> bytes:
    """Open a page."""
    path, _, query = path.partition("?")
    lines = {b"cookie": [f"{SESSION}={account}".encode()], b"accept": [b"text/html"]}
    request = Request("GET", f"/console{path}", None, lambda name: lines.get(name, []))
    reply = site.console(FullRequest(request, query.encode(), b""))
    assert reply.status == 200
    return reply.body


@pytest.mark.parametrize("path", PAGES)
def test_statements_per_page(accounts: tuple[Site, str, str], path: str) -> None:
    """A page sends the same number of statements, at most six, for one key and for a thousand."""
    site, few, many = accounts
    counts = []
    for account in (few, many):
        with statements(site.store) as seen:
            get(site, account, path)
        counts.append(len(seen))

    assert counts[0] == counts[1] <= 6


@pytest.mark.parametrize("path", PAGES)
def test_page_of_a_thousand_keys(accounts: tuple[Site, str, str], path: str) -> None:
    """A page takes less than five times as long as reading its thousand keys."""
    site, _, many = accounts

    assert cpu_ratio(lambda: get(site, many, path), lambda: site.service.all(many), 5) < 5


def test_templates_are_compiled_once(mounted: Callable[[Site], Send], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second console compiles no template again."""

    def heading() -> str:
        store = KeyStore.open("sqlite://")
        site = Site(store)
        shown = Client(mounted(site), site.account()).get("/").heading
        store.close()
        return shown

    first = heading()
    monkeypatch.setattr(Environment, "compile", lambda *_, **__: pytest.fail("compiled again"))

    assert heading() == first


def test_open_pages(tmp_path: Path) -> None:
    """Ten open pages with fifty keys each use less than a tenth of a processor."""
    stopped, events = threading.Event(), list[int]()
    with running_server(tmp_path) as (process, port):
        pages = [threading.Thread(target=keep_page_open, args=(port, stopped, events)) for _ in range(10)]
        for page in pages:
            page.start()
        assert eventually(lambda: len(events) >= 10, expected=True)
        began_s, used_s = time.monotonic(), cpu_s(process)
        stopped.wait(4.4)
        share = (cpu_s(process) - used_s) / (time.monotonic() - began_s)
        stopped.set()
        for page in pages:
            page.join()

    # Each page polls every two seconds. benchmarks/README.md has the measured figures.
    assert len(events) >= 20
    assert share < 0.1, share


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """The processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_server(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A server with an account ``acme`` that has fifty keys; yields its process and its port."""
    store = KeyStore.open(folder / "keys.db")
    service = KeyService(store)
    service.accounts.create("acme", plan="starter")
    for number in range(50):
        service.create("acme", f"n{number}")
    store.close()
    port, root = free_port(), str(Path(__file__).parents[2])
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "tests.console.served_app:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    process = subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root, "AWX_TEST_FOLDER": str(folder)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    guard = guarded(process)
    try:
        until_s = time.monotonic() + START_SECONDS
        while not is_up(port) and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        yield process, port
    finally:
        stop(process, guard)


def is_up(port: int) -> bool:
    """Whether the server has started."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read() == b"ok"
    except OSError:
        return False
    finally:
        connection.close()


def keep_page_open(port: int, stopped: threading.Event, events: list[int]) -> None:
    """Request the usage, and again after the time that each event gives, as an open page does."""
    while not stopped.is_set():
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/console/live", headers={"cookie": f"{SESSION}=acme"})
        text = connection.getresponse().read()
        connection.close()
        assert text.count(b'"bars"') == 50
        events.append(1)
        stopped.wait(int(text.split(b"\n")[0].removeprefix(b"retry: ")) / 1000)
