"""Reads the metrics that the processes of a server share in a folder, as files of prometheus_client."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import multiprocess
from prometheus_client.metrics_core import Metric

#: The environment variable that names the folder.
FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
#: This module of prometheus_client has no types.
_multiprocess: Any = multiprocess


class AllProcesses:
    """The sums over the processes that share a folder. Dead ones no longer hold leases."""

    def describe(self) -> Iterable[Metric]:
        """No names: other packages may have metrics there too."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        folder = Path(os.environ[FOLDER])
        for path in folder.glob("gauge_live*.db"):
            pid = path.stem.rpartition("_")[2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                # Another scrape may remove the file at the same time.
                with suppress(FileNotFoundError):
                    _multiprocess.mark_process_dead(int(pid))
        # A process that has just created a file has written nothing yet.
        files = [str(path) for path in folder.glob("*.db") if _size_bytes(path)]
        metrics: Iterable[Metric] = _multiprocess.MultiProcessCollector.merge(files)
        return metrics


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # A process of another user.
        return True
    return True
