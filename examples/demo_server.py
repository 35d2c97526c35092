"""The server of the demo: an app under uvicorn, in a process of its own, on a free port of this machine.

`start` is for the demo. Run as a program it is that process: ``demo_server.py FD MODULE:FACTORY WORKERS``.
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
    """The server ended, or did not answer in time; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started; it may not be ready yet."""

    url: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    async def ready(self, client: httpx2.AsyncClient) -> None:
        """Return when /health answers 200. Raises ServerFailed after READY_SECONDS, or when the process has ended."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_healthy(client):  # noqa: ASYNC110  # no event reaches from another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerFailed(f"no answer from {self.url}/health in {READY_SECONDS:.0f} s") from None

    async def replace_workers(self) -> None:
        """Let every process that serves end, and another one take its place. Raises ServerFailed."""
        old = self._workers()
        self.process.send_signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while old & self._workers() or len(self._workers()) < len(old):  # noqa: ASYNC110  # as above
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerFailed(f"its processes were not replaced in {READY_SECONDS:.0f} s") from None

    def _workers(self) -> set[str]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}

    async def _is_healthy(self, client: httpx2.AsyncClient) -> bool:
        if self.process.poll() is not None:
            raise ServerFailed(f"the server ended with status {self.process.returncode}\n{self._last_words()}")
        try:
            return (await client.get("/health")).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    def _last_words(self) -> str:
        self.errors.seek(0)
        return "\n".join(self.errors.read().decode(errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def start(app: str, environment: Mapping[str, str], *, workers: int = 1) -> Iterator[Server]:
    """Start `app` (MODULE:FACTORY) without waiting for it; in the end it is stopped, whatever happened."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, TemporaryFile() as errors:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, __file__, str(fd), app, str(workers)],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            pass_fds=[fd],
            env=os.environ | environment,
            # Ctrl-C goes to everyone in a session; the server is stopped by whoever started it.
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # From here on only the server listens: were it to die, connections would be refused and not wait for nobody.
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
    """Wait for the end of stdin, which comes when the demo ends, even by SIGKILL: no server is left behind."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
