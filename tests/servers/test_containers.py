"""The image of docs/containers.md, without Docker: what it installs, and the command that it starts."""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

import pytest
from tests.docs.pages import ROOT
from tests.docs.test_containers_page import APP, COMMAND, DOCKERFILE
from tests.processes import answering, free_port, is_listening
from tests.servers.harness import START_SECONDS
from tests.servers.wire import HOST, TIMEOUT_SECONDS


@contextmanager
def started(programs: Path, folder: Path) -> Iterator[int]:
    """The command of the image, with the programs in a folder; yields its port."""
    (folder / "app.py").write_text(APP)
    port, log = free_port(), folder / "log.txt"
    words = [{"0.0.0.0": HOST, "8000": str(port)}.get(word, word) for word in COMMAND]
    limits = {"LIMITS_URL": f"host://{folder}/limits", "TRUSTED_PROXIES": HOST}
    command, answers = [str(programs / words[0]), *words[1:]], partial(is_listening, HOST, port)
    with answering(command, log, answers, START_SECONDS, cwd=folder, env={**os.environ, **limits}):
        yield port


def statuses(port: int, path: str, count: int, **headers: str) -> list[int]:
    """The statuses of requests, each over a new connection."""
    found = []
    for _ in range(count):
        connection = HTTPConnection(HOST, port, TIMEOUT_SECONDS)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        found.append(connection.getresponse().status)
        connection.close()
    return found


def check(port: int) -> None:
    """The workers are healthy, share the limit of a client, and give another client its own."""
    assert statuses(port, "/health", 1) == [200]
    begin = monotonic()
    found = statuses(port, "/agents", 45, x_forwarded_for="192.0.2.1")
    refilled = (monotonic() - begin) / 3 + 1

    assert 20 <= found.count(200) <= 20 + refilled
    assert found.count(429) == 45 - found.count(200)
    assert statuses(port, "/agents", 1, x_forwarded_for="192.0.2.2") == [200]


def test_command(tmp_path: Path) -> None:
    """The command of the image serves the app of the page, whose two workers share their limits."""
    with started(Path(sys.executable).parent, tmp_path) as port:
        check(port)


@pytest.mark.full
def test_image(tmp_path: Path) -> None:
    """What the image installs from a wheel into a fresh environment is enough for the app of the page."""
    wheels, programs = tmp_path / "wheels", tmp_path / "image/bin"
    building = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(building, check=True, timeout=300)
    venv.create(programs.parent, with_pip=True)
    (install,) = re.findall(r"^RUN (pip .*)$", DOCKERFILE, re.MULTILINE)
    pinned = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        install.replace("/wheels", str(wheels)), shell=True, check=True, timeout=300, env={**os.environ, **pinned}
    )

    with started(programs, tmp_path) as port:
        check(port)
