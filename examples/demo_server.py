"""The server of the demo: an app under uvicorn, in a separate process, on a free port of this machine.

The demo calls `start`. Run as a program, this module is that process: ``demo_server.py FD MODULE:FACTORY WORKERS``.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import httpx2
import uvicorn
from uvicorn.supervisors import Multiprocess

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 20.0
STOP_SECONDS = 3.0
LAST_LINES = 12


class ServerFailed(Exception):
    """The server exited, or did not answer in time. The text is the end of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A started server. It may not be ready yet."""

    url: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    async def ready(self, client: httpx2.AsyncClient) -> None:
        """Wait until /health answers 200. Raises ServerFailed after READY_SECONDS, or if the process exits."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_healthy(client):  # noqa: ASYNC110  # another process sends no event
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerFailed(f"no answer from {self.url}/health in {READY_SECONDS:.0f} s") from None

    async def replace_workers(self) -> None:
        """Replace every server process. Raises ServerFailed."""
        old = self._workers()
        self.process.send_signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while old & self._workers() or len(self._workers()) < len(old):  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerFailed(f"its processes were not replaced within {READY_SECONDS:.0f} s") from None

    def _workers(self) -> set[str]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}

    async def _is_healthy(self, client: httpx2.AsyncClient) -> bool:
        if self.process.poll() is not None:
            raise ServerFailed(f"the server ended with status {self.process.returncode}\n{self._end_of_output()}")
        try:
            return (await client.get("/health")).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    def _end_of_output(self) -> str:
        self.errors.seek(0)
        return "\n".join(self.errors.read().decode(errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def start(app: str, environment: Mapping[str, str], *, workers: int = 1) -> Iterator[Server]:
    """Start `app` (MODULE:FACTORY) without waiting until it is ready. It is stopped at the end of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, TemporaryFile() as errors:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, __file__, str(fd), app, str(workers)],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            pass_fds=[fd],
            env=os.environ | environment,
            # Ctrl-C reaches every process of a session; the demo stops the server.
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Only the server listens now: if it dies, connections are refused and do not hang.
        listener.close()
        try:
            yield Server(url, process, errors)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve(fd: int, app: str, workers: int) -> None:
    sys.path.insert(0, str(ROOT))
    config = uvicorn.Config(app, factory=True, log_level="warning", timeout_graceful_shutdown=1, workers=workers)
    threading.Thread(target=_end_with_the_demo, daemon=True).start()
    sockets = [socket.socket(fileno=fd)]
    if workers > 1:
        Multiprocess(config, sockets).run()
    else:
        uvicorn.Server(config).run(sockets=sockets)


def _end_with_the_demo() -> None:
    """Stop when stdin ends, which happens when the demo ends, even by SIGKILL."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
