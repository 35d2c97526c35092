"""How the processes of a load test begin."""

import json
import subprocess
import sys

#: Prints what gevent asked the installed packages for, whether sockets are patched, and whether others can still ask.
STARTED = """
from importlib import metadata
look, asked = metadata.entry_points, []
def looked(**how):
    asked.append(how.get("group", ""))
    return look(**how)
metadata.entry_points = looked
import awx_ratelimit.loadtest.load.driver
import json
from gevent import monkey
groups = [group for group in asked if group.startswith("gevent.")]
print(json.dumps([groups, monkey.is_module_patched("socket"), metadata.entry_points is looked]))
"""


def test_start() -> None:
    """Sockets are patched, and the installed packages are read once for each kind of event: each time takes 25 ms."""
    started = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    groups, is_patched, is_restored = json.loads(started.stdout)

    assert "gevent.plugins.monkey.did_patch_all" in groups
    assert len(groups) == len(set(groups))
    assert is_patched
    assert is_restored
