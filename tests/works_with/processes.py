"""Starts the app of a row in a server of its own."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from string import Template

import pytest
from tests.processes import answering, free_port
from tests.servers.harness import START_SECONDS
from tests.servers.wire import HOST
from tests.works_with.clients import Http1, Http2
from tests.works_with.limits import END
from tests.works_with.rows import Ask, Row

import awx_ratelimit

ROOT = Path(__file__).parents[2]
_MOD_WSGI = Path("/usr/lib/apache2/modules/mod_wsgi.so")
_APACHE = Template("""ServerRoot $folder
ServerName $host
Listen $host:$port
PidFile $folder/apache.pid
DefaultRuntimeDir $folder
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule wsgi_module $module
$user
WSGISocketPrefix $folder/wsgi
WSGIDaemonProcess row processes=1 threads=8 python-path=$paths
WSGIScriptAlias / $folder/app.wsgi process-group=row application-group=%{GLOBAL}
<Directory $folder>
  Require all granted
</Directory>
""")


class App:
    """A row's app that answers, and its client."""

    def __init__(self, row: Row, port: int, folder: Path) -> None:
        self.row = row
        self.client: Http1 | Http2 = Http2(port) if row.server.speaks_http2 else Http1(port)
        self._end = folder / END

    def let_end(self) -> None:
        """Let the open stream end."""
        self._end.touch()

    def keep_open(self) -> None:
        """Let the next stream stay open."""
        self._end.unlink(missing_ok=True)


@contextmanager
def running(row: Row) -> Iterator[App]:
    """Run the app of a row. No process of it is left afterwards."""
    # Apache's workers belong to another user if root starts them, and must reach the folder.
    with tempfile.TemporaryDirectory(prefix="awx-row-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        app = App(row, port, folder)
        command, environment = _command(row, port, folder), {"PYTHONPATH": _paths(), "AWX_TEST_FOLDER": name}
        answers, log = partial(_is_up, app), folder / "log.txt"
        with answering(command, log, answers, START_SECONDS, cwd=folder, env={**os.environ, **environment}):
            yield app


def _paths() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _command(row: Row, port: int, folder: Path) -> list[str]:
    if row.server.name == "mod_wsgi":
        return _apache(row, port, folder)
    app = f"tests.works_with.apps.{row.framework.module}:app"
    words = row.server.command.format(app=app, host=HOST, port=port).split()
    if words[0] == "uwsgi":
        program = Path(sys.executable).with_name("uwsgi")
        if not program.exists():
            pytest.fail("uWSGI is needed: `make uwsgi` compiles it")
        return [str(program), *words[1:], "--home", sys.prefix, "--callable", "app", "--die-on-term"]
    return [sys.executable, "-m", *words]


def _apache(row: Row, port: int, folder: Path) -> list[str]:
    program = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or not _MOD_WSGI.exists():
        pytest.fail("mod_wsgi is needed: `make mod_wsgi` installs it")
    if not _MOD_WSGI.resolve().name.endswith(f"-{sys.version_info[0]}.{sys.version_info[1]}"):
        pytest.skip(f"mod_wsgi was built for another Python: {_MOD_WSGI.resolve().name}")
    packages = next(path for path in sys.path if path.startswith(sys.prefix) and path.endswith("site-packages"))
    (folder / "app.wsgi").write_text(
        f"import os\nos.environ['AWX_TEST_FOLDER'] = {str(folder)!r}\n"
        f"from tests.works_with.apps.{row.framework.module} import app as application\n"
    )
    config = folder / "apache.conf"
    config.write_text(
        _APACHE.substitute(
            folder=folder,
            host=HOST,
            port=port,
            module=_MOD_WSGI,
            user="" if os.getuid() else "User www-data\nGroup www-data",
            paths=os.pathsep.join([str(ROOT), str(Path(awx_ratelimit.__file__).parent.parent), packages]),
        )
    )
    return [program, "-f", str(config), "-DFOREGROUND"]


def _is_up(app: App) -> bool:
    with contextlib.suppress(OSError):
        return app.client.ask(Ask("GET", "/health")).status == 200
    return False
