"""The WSGI app under test: a Flask app with a blueprint, and a bare app mounted in it.

Exceptions reach the server, as in bare WSGI apps.
"""

import io
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Blueprint, Flask, Response, request, send_file
from tests.servers.limits import (
    CLOCK,
    IMPORT_SUBJECT,
    LARGE_DRAIN_BYTES,
    MAX_OPEN_SECONDS,
    PLANS,
    RULES,
    TICK_SECONDS,
    AppError,
    folder,
    free_slots,
    may_end,
    plan_of,
    static_keys,
)
from tests.servers.stored import management, operator, store, stored_keys
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wsgi import wrap_file

from awx_ratelimit import Gate, Limiter, MemoryBackend
from awx_ratelimit.adapters.werkzeug import RateLimitMiddleware
from awx_ratelimit.adapters.wsgi import WsgiApp

LIMITER = Limiter(MemoryBackend(clock=CLOCK))
GATE = Gate(LIMITER, plans=PLANS, identify=static_keys(), rules=RULES)
AT_IMPORT = LIMITER.acquire(IMPORT_SUBJECT, plan_of(IMPORT_SUBJECT))

app = Flask(__name__)
app.config["PROPAGATE_EXCEPTIONS"] = True
blueprint = Blueprint("blueprint", __name__, url_prefix="/blueprint")


@app.get("/health")
def health() -> str:
    return "healthy"


@app.get("/plain")
@blueprint.get("/plain")
def plain() -> str:
    return "hello"


@app.get("/dwell")
def dwell() -> str:
    time.sleep(0.05)
    return "hello"


@app.post("/upload")
def upload() -> str:
    return str(len(request.get_data()))


@app.get("/free/<subject>")
def free(subject: str) -> str:
    return str(free_slots(LIMITER.peek(subject, plan_of(subject))))


@app.post("/clock/<int:ms>")
def clock(ms: int) -> str:
    CLOCK.advance(ms)
    return "later"


@app.post("/release-import")
def release_import() -> str:
    LIMITER.release(AT_IMPORT)
    return "released"


@app.get("/stream/<name>")
def stream(name: str) -> Response:
    """A body of ticks, each of them the slots that are free while it is open."""
    return Response(_ticks(request.headers["X-API-Key"].removeprefix("awx_test_"), name))


def _ticks(subject: str, name: str) -> Iterator[bytes]:
    until = time.monotonic() + MAX_OPEN_SECONDS
    while time.monotonic() < until and not may_end(name):
        yield b"%d\n" % free_slots(LIMITER.peek(subject, plan_of(subject)))
        time.sleep(TICK_SECONDS)


@app.get("/silent/<name>")
def silent(name: str) -> Response:
    """A body that says one word and then nothing until it is let go."""
    return Response(_one_word(name))


def _one_word(name: str) -> Iterator[bytes]:
    yield b"open\n"
    until = time.monotonic() + MAX_OPEN_SECONDS
    while time.monotonic() < until and not may_end(name):
        time.sleep(TICK_SECONDS)


@app.get("/raises/before")
def raises_before() -> str:
    raise AppError


@app.get("/raises/during")
def raises_during() -> Response:
    return Response(_broken())


def _broken() -> Iterator[bytes]:
    yield b"begun\n"
    raise AppError


@app.get("/file")
def download() -> Response:
    return send_file(folder() / "file.bin")


class _CountedFile(io.FileIO):
    """A file that leaves behind, when it is closed, how often it was read by Python."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)

    def close(self) -> None:
        if not self.closed:
            (folder() / "reads").write_text(str(self.reads))
        super().close()


@app.get("/counted-file")
def counted_download() -> Response:
    return Response(wrap_file(request.environ, _CountedFile(folder() / "file.bin")), direct_passthrough=True)


app.register_blueprint(blueprint)
stored = Flask("stored")
stored.add_url_rule("/plain", view_func=plain)
STORE = store()
STORED_GATE = Gate(LIMITER, plans=PLANS, identify=stored_keys(STORE))
stored.wsgi_app = RateLimitMiddleware(stored.wsgi_app, gate=STORED_GATE)  # type: ignore[method-assign]
mounted = Flask("mounted")
mounted.add_url_rule("/plain", view_func=plain)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mounted": mounted})  # type: ignore[method-assign]
app.wsgi_app = RateLimitMiddleware(app.wsgi_app, gate=GATE)  # type: ignore[method-assign]


def unread(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An app without a limiter that refuses an upload: it answers without reading the body."""
    start_response("429 Too Many Requests", [("Content-Length", "2")])
    return [b"no"]


def read(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An app that reads all that PEP 3333 lets it read, and refuses then."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return unread(environ, start_response)


# A separate gate, outside the other one.
MOUNTS = {
    "/stored": stored,
    "/api/v1": WsgiApp(management(STORE, LIMITER)),
    "/api/v1/operator": WsgiApp(operator(STORE, LIMITER)),
    "/large": RateLimitMiddleware(mounted, gate=GATE, max_drain_bytes=LARGE_DRAIN_BYTES),
    "/unread": unread,
    "/read": read,
}
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, MOUNTS)  # type: ignore[method-assign, arg-type]
