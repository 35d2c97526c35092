"""A real nginx in front of the servers: one for all of them, told by the path where to go and how."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import NamedTuple

import pytest
from tests.processes import answering, free_port, is_listening
from tests.servers.harness import START_SECONDS, Server
from tests.servers.wire import HOST

CONFIG = Template("""daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; client_max_body_size 100m;
  proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
  proxy_http_version 1.1;
  server {
    listen $host:$port;
    location ~ ^/buffered/(?<upstream>\\d+)(?<rest>/.*)$$ {
      proxy_pass http://$host:$$upstream$$rest;
    }
    location ~ ^/http-1.0/(?<upstream>\\d+)(?<rest>/.*)$$ {
      proxy_http_version 1.0; proxy_pass http://$host:$$upstream$$rest;
    }
    location ~ ^/streamed/(?<upstream>\\d+)(?<rest>/.*)$$ {
      proxy_request_buffering off; proxy_pass http://$host:$$upstream$$rest;
    }
    location ~ ^/unix/(?<socket>[^/]+)(?<rest>/.*)$$ {
      proxy_pass http://unix:$folder/$$socket:$$rest;
    }
    location ~ ^/uwsgi/(?<upstream>\\d+)(?<rest>/.*)$$ {
      uwsgi_param QUERY_STRING $$query_string; uwsgi_param REQUEST_METHOD $$request_method;
      uwsgi_param CONTENT_TYPE $$content_type; uwsgi_param CONTENT_LENGTH $$content_length;
      uwsgi_param PATH_INFO $$rest; uwsgi_param SERVER_PROTOCOL $$server_protocol;
      uwsgi_param REMOTE_ADDR $$remote_addr; uwsgi_param SERVER_NAME $$server_name;
      uwsgi_param SERVER_PORT $$server_port;
      uwsgi_param HTTP_X_FORWARDED_FOR $$proxy_add_x_forwarded_for; uwsgi_pass $host:$$upstream;
    }
  }
}
""")


class Nginx(NamedTuple):
    """An nginx that listens, and the paths by which it passes requests on."""

    port: int
    #: Where it looks for the sockets of servers.
    folder: Path

    def path(self, way: str, server: Server, path: str) -> str:
        """The path on nginx of `path` on `server`; `way` is buffered, streamed, http-1.0 or uwsgi."""
        return f"/{way}/{server.uwsgi_port if way == 'uwsgi' else server.port}{path}"


@contextmanager
def running_nginx(folder: Path) -> Iterator[Nginx]:
    """Debian's nginx, with the configuration of this module."""
    port = free_port()
    with started_nginx(folder, CONFIG.substitute(host=HOST, port=port, folder=folder), port):
        yield Nginx(port, folder)


@contextmanager
def started_nginx(folder: Path, configuration: str, port: int) -> Iterator[None]:
    """Debian's nginx, which listens at `port`. Whatever happens, no process of it is left afterwards."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.fail("nginx is needed: install Debian's package of that name (`make test` does, as root)")
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text(configuration)
    command = [binary, "-p", str(folder), "-c", "nginx.conf"]
    with answering(command, folder / "log.txt", lambda: is_listening(HOST, port), START_SECONDS):
        yield
