"""The whole deployment of docs/deployment.md: its app, its command and its nginx, except for ports and files."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

import pytest
from tests.docs.pages import all_blocks
from tests.processes import answering, free_port, is_listening
from tests.servers.harness import START_SECONDS
from tests.servers.nginx import started_nginx
from tests.servers.wire import HOST, TIMEOUT_SECONDS

BLOCKS = all_blocks("docs/deployment.md")
APPS = {"uvicorn": BLOCKS[0].text, "gunicorn": BLOCKS[2].text}
COMMANDS = {"uvicorn": BLOCKS[1].text, "gunicorn": BLOCKS[3].text}
NGINX = BLOCKS[4].text
#: What Debian's nginx.conf has around the files of conf.d, with folders that a test may write.
AROUND = """daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  {}
}}
"""


@contextmanager
def deployed(server: str, folder: Path) -> Iterator[int]:
    """The server and nginx, whose port this is."""
    port, app_port, limits = free_port(), free_port(), folder / "limits"
    app = APPS[server].replace("host:///dev/shm/api-limits", f"host://{limits}")
    assert str(limits) in app
    (folder / "app.py").write_text(app)
    words = COMMANDS[server].replace("8000", str(app_port)).split()
    words[0] = str(Path(sys.executable).with_name(words[0]))
    answers, paths = partial(is_listening, HOST, app_port), {**os.environ, "PYTHONPATH": str(folder)}
    with answering(words, folder / "app.txt", answers, START_SECONDS, cwd=folder, env=paths):
        pages = re.sub(r"listen 80;.*", f"listen {HOST}:{port};", NGINX).replace("127.0.0.1:8000", f"{HOST}:{app_port}")
        with started_nginx(folder, AROUND.format(pages), port):
            yield port


def status(port: int, client: str) -> int:
    """The response to a client at the address `client`."""
    connection = HTTPConnection(HOST, port, TIMEOUT_SECONDS, source_address=(client, 0))
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("server", APPS)
def test_workers_share_the_limit_of_a_client(server: str, tmp_path: Path) -> None:
    """Behind nginx, two workers together admit 20 requests of an address a minute, and another address has its own."""
    with deployed(server, tmp_path) as port:
        begin = monotonic()
        statuses = [status(port, "127.0.0.2") for _ in range(45)]
        refilled = (monotonic() - begin) / 3 + 1
        other = status(port, "127.0.0.3")

    assert 20 <= statuses.count(200) <= 20 + refilled
    assert statuses.count(429) == 45 - statuses.count(200)
    assert other == 200
