"""The audited servers, each in its own process: the tests' gateways, the demo, nginx and peers."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

import pytest
from tests.loadtest.gateways import KEYS
from tests.processes import answering, free_port, is_listening

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
UVICORN = "uvicorn {app} --host 127.0.0.1 --port {port} --log-level warning --timeout-graceful-shutdown 1"
GUNICORN = "gunicorn {app} --bind 127.0.0.1:{port} --workers 1 --worker-class gthread --threads 8"
_NGINX = Template("""daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; default_type text/plain;
  limit_req_zone $$http_x_api_key zone=rate:1m rate=5r/s;
  limit_conn_zone $$http_x_api_key zone=slots:1m;
  server {
    listen 127.0.0.1:$port;
    limit_req zone=rate burst=9 nodelay; limit_req_status 429;
    limit_conn slots 3; limit_conn_status 429;
    root $folder/files;
    location / { index fine; }
    location /stream { limit_rate 4k; }
  }
}
""")


@contextmanager
def serve_app(command: str, app: str, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve `app` with a Python server module; yields the URL."""
    port = free_port()
    words = [sys.executable, "-m", *command.format(app=app, port=port).split()]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with _process(words, port, folder, {**os.environ, "PYTHONPATH": path, **(environment or {})}):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Nginx with a rate and a connection limit for each key."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.fail("nginx is needed: install Debian's package of that name (`make test` does, as root)")
    port = free_port()
    (folder / "files").mkdir()
    (folder / "files" / "fine").write_text("fine\n")
    (folder / "files" / "stream").write_text("x" * 8_000)
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(_NGINX.substitute(port=port, folder=folder))
    with _process([binary, "-p", str(folder), "-c", "nginx.conf"], port, folder, dict(os.environ)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def demo(folder: Path, environment: Mapping[str, str] | None = None, *, workers: int = 1) -> Iterator[str]:
    """The demo's wallet API with the gateways' keys: 0 and 1 have the plan starter, 2 and 3 have enterprise."""
    plans = ("starter", "starter", "enterprise", "enterprise")
    keys = ",".join(f"{key}={plan}" for key, plan in zip(KEYS, plans, strict=True))
    variables = {"WALLET_API_KEYS": keys, **(environment or {})}
    with serve_app(f"{UVICORN} --workers {workers}", "examples.wallet_api:app", folder, variables) as url:
        yield url


@contextmanager
def _process(words: list[str], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    answers = partial(is_listening, "127.0.0.1", port)
    with answering(words, folder / "log.txt", answers, START_SECONDS, cwd=folder, env=environment):
        yield
