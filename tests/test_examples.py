"""The demo, run as its readers run it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx2
import pytest
from tests.machine import eventually

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DEMO = (sys.executable, str(EXAMPLES / "demo.py"))
#: A demo takes 10 seconds on an idle machine.
DEADLINE_SECONDS = 120.0
pytestmark = pytest.mark.timeout(2 * DEADLINE_SECONDS)


#: Each row of the demo's table, and the longest wait that its refusal may promise. On a slow machine tokens refill
#: while the requests are sent. The wait for a slot is an estimate.
PROMISED = {
    "Starter, 60 requests a minute": "1 s",
    "Starter, transfers, cost 5 each": "5 s",
    "Growth, 300 requests a minute": "1 s",
    "Enterprise, 120 in a burst, then 10/s": "1 s",
    "Starter, 5 reports at once": "~1 s",
    "Growth, 25 reports at once": "~1 s",
    "Starter, a WebSocket and 4 reports": "~1 s",
    "Starter, a key and its successor": "1 s",
    "Starter, a key that is revoked": "1 s",
    "Starter, a route's own limit": "6 s",
    "Starter, 20 more than 5 at once": "~1 s",
}
#: One more row if there are several processes.
RESTARTED = {"Starter, all processes replaced": ""}
ROW = re.compile(r"^(\w+) +(\S.*?)  +\d+ +\d+ +\d+ +(~?\d+ s)?.*\n +([✓✗]) (.*)$", re.MULTILINE)

#: The wallet API with a sixth slot for starter keys, which reports one second for every wait.
BROKEN_APP = """
import re
from pathlib import Path

from examples import wallet_api

wallet_api.PLANS = Path(__file__).with_name("plans.toml")


def create_app():
    app = wallet_api.create_app()

    async def hurried(scope, receive, send):
        async def send_hurried(message):
            if "headers" in message:
                lines = [line for line in message["headers"] if line[0] != b"content-length"]
                message["headers"] = [(name, b"1" if name == b"retry-after" else value) for name, value in lines]
            if "body" in message:
                message["body"] = re.sub(rb"after [0-9]+ seconds", b"after 1 second", message["body"])
            await send(message)

        await app(scope, receive, send_hurried)

    return hurried
"""


def environment(**more: str) -> dict[str, str]:
    """The environment of a program, without variables that change its keys or the encoding of its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    return kept | {"PYTHONIOENCODING": "utf-8"} | more


@contextmanager
def running(
    command: Sequence[str],
    output: IO[bytes] | None = None,
    fds: Sequence[int] = (),
    more: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running program with `more` variables in its environment, which is always ended by its pid."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(**more or {}), stdout=output, stderr=output, pass_fds=fds
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS / 3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def served(command: str, **more: str) -> Iterator[str]:
    """The address of the server that ``python -m command`` starts on the socket {fd}.

    The socket listens before the server starts, so no port is guessed, and requests wait for the start.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Servers do this for their own sockets. Without it each response would wait for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd, port = listener.fileno(), listener.getsockname()[1]
        with running([sys.executable, "-m", *command.format(fd=fd).split()], fds=[fd], more=more):
            # Now a server that fails at its start is noticed at once.
            listener.close()
            yield f"http://127.0.0.1:{port}"


def client(url: str, key: str = "awx_demo_starter") -> httpx2.Client:
    """A client with this key, which connects without a proxy."""
    return httpx2.Client(base_url=url, headers={"X-API-Key": key}, timeout=DEADLINE_SECONDS, trust_env=False)


def run_demo(*arguments: str, path: Path = ROOT) -> tuple[int, str]:
    """Run the demo to its end; its exit status and output."""
    command = (*DEMO, "--once", *arguments)
    ended = subprocess.run(
        command,
        cwd=path,
        env=environment(PYTHONPATH=os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])),
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout.decode() + ended.stderr.decode()


def rows(printed: str, mark: str) -> dict[str, str]:
    """The rows of the table with this mark, and the wait that each promised."""
    return {f"{plan}, {traffic}": wait for plan, traffic, wait, its_mark, _ in ROW.findall(printed) if its_mark == mark}


def assert_promised(printed: str, longest: dict[str, str]) -> None:
    """Every row of the table has a check mark, and no wait is longer than its limit allows."""
    kept = rows(printed, "✓")

    assert rows(printed, "✗") == {}, printed
    assert kept.keys() == longest.keys(), printed
    waits = {name: int(wait.strip("~ s") or 0) for name, wait in kept.items()}
    assert [name for name, wait_s in waits.items() if wait_s > int(longest[name].strip("~ s") or 0)] == [], printed


@pytest.fixture(scope="module", autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The demo keeps its limits in a file of its user. Another version may have left one that it cannot read."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(tmp_path_factory.mktemp("demo")))
        yield


@pytest.fixture(scope="module")
def demo() -> tuple[int, str]:
    """One complete run of the demo."""
    return run_demo()


def test_demo(demo: tuple[int, str]) -> None:
    """`demo.py --once` ends with status 0, and every row of its table has a check mark and the promised wait."""
    status, printed = demo

    assert status == 0, printed
    assert_promised(printed, PROMISED)


# `make test` runs the demo with one process.
@pytest.mark.full
def test_demo_on_redis() -> None:
    """With its own Redis and four workers, the demo keeps every promise."""
    status, printed = run_demo("--backend", "redis", "--workers", "4")

    assert status == 0, printed
    assert_promised(printed, PROMISED | RESTARTED)


@pytest.mark.full
def test_demo_on_a_file() -> None:
    """With two workers the demo keeps every promise, and the day's usage after both were restarted."""
    status, printed = run_demo("--workers", "2")

    assert status == 0, printed
    assert_promised(printed, PROMISED | RESTARTED)


def test_demo_on_memory_with_workers() -> None:
    """Several workers without a shared backend are an error that names the remedy."""
    status, printed = run_demo("--workers", "2", "--backend", "memory")

    assert status == 2, printed
    assert "use --backend host, redis or postgres" in " ".join(printed.split()), printed


def test_output_of_the_demo(demo: tuple[int, str]) -> None:
    """Into a pipe the demo prints no control characters, no line over 80 columns, and the table once."""
    _, printed = demo

    controls = re.findall(r"[\x00-\x09\x0b-\x1f\x7f]", printed)
    wide = [line for line in printed.splitlines() if len(line) > 80]
    assert controls == [], printed
    assert wide == [], printed
    assert len(ROW.findall(printed)) == len(PROMISED), printed


def test_demo_of_a_broken_app(tmp_path: Path) -> None:
    """For an app with one slot too many and waits that are too short, the demo names the broken rows, with status 1."""
    plans = (EXAMPLES / "plans.toml").read_text()
    (tmp_path / "plans.toml").write_text(plans.replace("concurrent = 5", "concurrent = 6"))
    (tmp_path / "broken_app.py").write_text(BROKEN_APP)

    status, printed = run_demo("--app", "broken_app:create_app", path=tmp_path)

    broken = {name for name in PROMISED if name.startswith("Starter") and not re.search("minute|a key", name)}
    waits = {name for name in broken if re.search("transfers|route", name)}
    named = set(re.findall(r"^  (\w+, .*)$", printed.split("promises were broken:")[-1], re.MULTILINE))
    assert status == 1, printed
    # A machine that stalls for as long as the whole wait hides that its Retry-After was too short.
    assert broken - waits < named <= broken, printed
    assert set(rows(printed, "✗")) == named, printed


def test_demo_of_an_app_that_cannot_start() -> None:
    """If the app cannot start, the demo exits with status 1 and shows the server's output."""
    status, printed = run_demo("--app", "examples.no_such_app:create_app")

    said = printed.splitlines()[-2:]
    assert status == 1, printed
    assert said == [
        "The server failed: the server ended with status 3",
        'ERROR:    Error loading ASGI app. Could not import module "examples.no_such_app".',
    ], printed


@pytest.mark.full
def test_demo_after_the_table(tmp_path: Path) -> None:
    """After the table the demo accepts the key, the token and the logins that it printed, until Ctrl-C."""
    with (tmp_path / "printed").open("w+b") as output, running(DEMO, output) as process:
        printed = printed_until(output, "/api/v1/usage")
        url = re.findall(r"http://[0-9.:]+", printed)[0]
        key, token = (re.findall(pattern, printed)[0] for pattern in (r"X-API-Key: (\w+)", r"TOKEN=(\S+)"))
        with client(url) as reader:
            answer = reader.get("/v1/agents", headers={"X-API-Key": key})
            made = reader.post("/api/v1/api-keys", json={"name": "mine"}, headers={"Authorization": f"Bearer {token}"})
            links = re.findall(r"http://\S+(/login/\S+)", printed)
            logins = [reader.get(link) for link in (links[0], links[0], links[1])]
            customer, _, operator = (
                {"Cookie": login.headers.get("set-cookie", "").partition(";")[0]} for login in logins
            )
            console = reader.get("/console/", headers=customer)
            accounts = reader.get("/operator/", headers=operator)
            strangers = [reader.get("/operator/", headers=customer), reader.get("/console/", headers=operator)]
        process.send_signal(signal.SIGINT)
        status = process.wait(DEADLINE_SECONDS)
        last = printed_until(output, "").splitlines()[-1]

    assert answer.headers["ratelimit"][:16] == '"minute";r=59;t='
    assert made.status_code == 201
    # Each link logs its reader in once, and to one console.
    assert [login.status_code for login in logins] == [303, 403, 303]
    assert [stranger.status_code for stranger in strangers] == [403, 403]
    assert accounts.status_code == 200
    assert "starter" in accounts.text
    assert console.status_code == 200
    assert "mine" in console.text
    assert status == 0
    assert last == "Stopped."
    assert is_up(url) is False


def test_interrupted_demo(tmp_path: Path) -> None:
    """Ctrl-C before the table is complete ends the demo and its server, with status 130."""
    with (tmp_path / "printed").open("w+b") as output, running(DEMO, output) as process:
        url = re.findall(r"http://[0-9.:]+", printed_until(output, "under uvicorn, http://127.0.0.1:"))[0]
        was_there = eventually(lambda: is_up(url), expected=True, seconds=DEADLINE_SECONDS)
        process.send_signal(signal.SIGINT)
        status = process.wait(DEADLINE_SECONDS)
        last = printed_until(output, "").splitlines()[-1]

    assert was_there is True
    assert status == 130
    assert last == "Stopped before the end."
    assert is_up(url) is False


def test_killed_demo(tmp_path: Path) -> None:
    """The server of a killed demo ends by itself."""
    with (tmp_path / "printed").open("w+b") as output, running(DEMO, output) as process:
        url = re.findall(r"http://[0-9.:]+", printed_until(output, "under uvicorn, http://127.0.0.1:"))[0]
        was_there = eventually(lambda: is_up(url), expected=True, seconds=DEADLINE_SECONDS)
        process.kill()
        process.wait()

    assert was_there is True
    assert eventually(lambda: is_up(url), expected=False, seconds=DEADLINE_SECONDS) is False


def printed_until(output: IO[bytes], words: str) -> str:
    """What a program has printed, as soon as that contains `words`."""
    eventually(lambda: words in _printed(output), expected=True, seconds=DEADLINE_SECONDS)
    return _printed(output)


def _printed(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode()


def is_up(url: str) -> bool:
    """Whether the server responds."""
    try:
        return httpx2.get(f"{url}/health", trust_env=False, timeout=DEADLINE_SECONDS).is_success
    except httpx2.TransportError:
        return False
