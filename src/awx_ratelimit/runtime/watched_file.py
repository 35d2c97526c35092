"""Loads a file again when it changes, without a thread."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Final, Generic, TypeVar

from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.forks import ForkSafeLock, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
_Value = TypeVar("_Value")
_CHECK_INTERVAL_S: Final = 1.0


class WatchedFile(Generic[_Value]):
    """Holds `load(path)` as `value`, and loads it again when the file has changed.

    The owner calls `check` once the monotonic clock has reached `check_at_s`, which is once a second at most. If `load`
    raises InvalidLimit, the previous value stays and the error is logged, once for each version of the file.
    `on_change` gets the path, the previous value and the new one.
    """

    def __init__(
        self,
        path: str | PurePath,
        load: Callable[[str | PurePath], _Value],
        on_change: Callable[[Path, _Value, _Value], None] = lambda *_: None,
    ) -> None:
        self._path = Path(path)
        self._load, self._on_change = load, on_change
        # The version comes first: a change while the file is read is then seen by the next check.
        self._version = self._read_version()
        self.value = load(path)
        self.check_at_s = time.monotonic() + _CHECK_INTERVAL_S
        self._lock = ForkSafeLock()

    def check(self) -> None:
        """Load the file again if it has changed. Returns at once while another thread does so."""
        renew_if_forked()
        lock = self._lock.current
        # A loop with one turn: between `acquire` and `try`, a signal handler could raise and leave the lock taken.
        for _ in iter(partial(lock.acquire, blocking=False), False):
            try:
                self._load_if_changed()
            finally:
                lock.release()
            return

    def _load_if_changed(self) -> None:
        self.check_at_s = time.monotonic() + _CHECK_INTERVAL_S
        version = self._read_version()
        if version == self._version:
            return
        self._version = version
        try:
            previous, self.value = self.value, self._load(self._path)
        except InvalidLimit as error:
            _log.error(
                "%s; this process keeps the previous version. Correct the file: a process that starts now refuses it",
                error,
            )
            return
        _log.info("%s: loaded again after a change", self._path)
        self._on_change(self._path, previous, self.value)

    def _read_version(self) -> tuple[int, ...] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
