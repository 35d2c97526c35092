"""The program whose instructions are counted. Two children of it do the same work a different number of times.

``calls MODULE:FUNCTION FEW MANY ARGUMENT...`` calls what the function returns for each of the arguments: one child
calls it FEW times, another MANY times. ``server NAME`` serves an app: it prints the key and the port first. A child
prints its process id when it starts, and ends after its calls or requests.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

#: How often the first child does the work, and the second one.
Lengths = tuple[int, int]
LENGTHS: Lengths = (300, 800)


def calls(function: str, few: str, many: str, *arguments: str) -> None:
    """Call what the function at ``MODULE:FUNCTION`` returns for each of the arguments."""
    module, _, name = function.partition(":")
    made = [getattr(import_module(module), name)(argument) for argument in arguments]
    # Else a rare collection of all that is loaded counts for the few calls around it.
    gc.collect()
    gc.freeze()
    for call in made:
        _fork_children(partial(_repeat, call), (int(few), int(many)))


def _repeat(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()


def server(name: str) -> None:
    """Serve the app `name`: with uvicorn, or if it is a WSGI app with a worker of gunicorn."""
    app = import_module("benchmarks.peers.apps").APPS[name][0]()
    listener = socket.create_server(("127.0.0.1", 0))
    print(app.key, listener.getsockname()[1], flush=True)
    (_gunicorn if app.is_wsgi else _uvicorn)(app, listener)


def _fork_children(work: Callable[[int], Any], lengths: Lengths) -> None:
    for length in lengths:
        pid = os.fork()
        if pid == 0:
            print(os.getpid(), flush=True)
            work(length)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit(f"a child ended with status {status}")


def _uvicorn(app: Any, listener: socket.socket) -> None:
    import uvicorn

    def serve(length: int) -> None:
        config = uvicorn.Config(app.call, log_level="error", access_log=False, limit_max_requests=length)
        uvicorn.Server(config).run(sockets=[listener])

    _fork_children(serve, LENGTHS)


def _gunicorn(app: Any, listener: socket.socket) -> None:
    base: Any = import_module("gunicorn.app.base").BaseApplication

    def begin(_: Any, worker: Any) -> None:
        if worker.age > len(LENGTHS):
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        worker.max_requests = LENGTHS[worker.age - 1]
        print(os.getpid(), flush=True)

    class Server(base):  # type: ignore[misc]  # gunicorn has no types
        def load_config(self) -> None:
            for name, value in {"bind": f"fd://{listener.fileno()}", "post_fork": begin, "loglevel": "error"}.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return app.call

    Server().run()


if __name__ == "__main__":
    main: Callable[..., None] = server if sys.argv[1] == "server" else calls
    main(*sys.argv[2:])
