"""Reads TOML files, and loads a file again when it changes."""

import logging
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Generic, TypeVar

from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.files import UnusableFile, read_regular_file
from awx_ratelimit.runtime.forks import register_after_fork, renew_if_forked

_log = logging.getLogger("awx_ratelimit")
_CHECK_INTERVAL_S = 1.0
#: A request may have to read the file. 4 MiB hold some 50,000 overrides.
_MAX_BYTES = 4_194_304
_Value = TypeVar("_Value")


def read_toml(path: str | PurePath) -> dict[str, Any]:
    """The content of the TOML file at `path`, a regular file of at most 4 MiB.

    Pipes and devices are never opened. Raises InvalidLimit, with the path, for a file that cannot be read or parsed.
    """
    try:
        return tomllib.loads(read_regular_file(path, _MAX_BYTES).decode())
    except UnusableFile as error:
        raise InvalidLimit(f"{path}: cannot be read: {error}") from error
    except OSError as error:
        raise InvalidLimit(f"{path}: cannot be read: {error.strerror}; use the path of a readable TOML file") from error
    except (ValueError, RecursionError) as error:
        raise InvalidLimit(f"{path}: is not TOML: {error}") from error


class WatchedFile(Generic[_Value]):
    """Holds `load(path)` as `value`, and loads it again when the file has changed.

    The owner calls `check` once the monotonic clock has reached `check_at_s`, which is once a second at most. If `load`
    raises InvalidLimit, the previous value stays and the error is logged, once for each version of the file.
    """

    def __init__(self, path: str | PurePath, load: Callable[[str | PurePath], _Value]) -> None:
        self._path = Path(path)
        self._load = load
        # The version comes first: a change while the file is read is then seen by the next check.
        self._version = self._read_version()
        self.value = load(path)
        self.check_at_s = time.monotonic() + _CHECK_INTERVAL_S
        self._renew_lock()
        register_after_fork(self._renew_lock)

    def check(self) -> None:
        """Load the file again if it has changed. Returns at once while another thread does so."""
        renew_if_forked()
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.check_at_s = time.monotonic() + _CHECK_INTERVAL_S
            version = self._read_version()
            if version != self._version:
                self._version = version
                self.value = self._load(self._path)
                _log.info("%s: loaded again after a change", self._path)
        except InvalidLimit as error:
            _log.error("%s; the previous version stays in use", error)
        finally:
            self._lock.release()

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _read_version(self) -> tuple[int, ...] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
