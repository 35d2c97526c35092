"""The examples of docs/migration run as their first lines say, each in its own process."""

import os
import subprocess
import sys

import pytest
from tests.migration.peers import PEERS, ROOT
from tests.selection import parameters

_PROGRAM = """
import sys
from importlib import import_module

module = import_module(sys.argv[1])
if "fastapi" in sys.modules:
    from starlette.testclient import TestClient

    client, more = TestClient(module.app, client=("192.0.2.1", 4711)), {}
else:
    from django.core.wsgi import get_wsgi_application
    from werkzeug.test import Client

    client = Client(getattr(module, "app", None) or get_wsgi_application())
    more = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
print([client.get("/search", **more).status_code for _ in range(6)])
"""
_MODULES = {f"{peer.name}.{name}": f"{peer.name}.{name}" for peer in PEERS for name in ("before", "after", "shadow")}
#: The framework reads the settings when it is imported, so that this differs most from what the other tests run.
_QUICK = {"drf.before"}


@pytest.mark.parametrize("module", parameters(_MODULES, full=_MODULES.keys() - _QUICK))
def test_example(module: str) -> None:
    """An example admits five requests to its search, and refuses the sixth."""
    name = f"examples.migration.{module}"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, name],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": name, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == str([200] * 5 + [429]), done.stderr
