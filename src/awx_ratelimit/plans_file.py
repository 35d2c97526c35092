"""A plan table from a TOML file, once or for as long as the file changes."""

import logging
import threading
import time
import tomllib
from pathlib import Path, PurePath
from typing import Any

from awx_ratelimit.core.caller import Caller
from awx_ratelimit.core.plan import Plan
from awx_ratelimit.core.plan_table import PlanTable
from awx_ratelimit.core.validation import kind
from awx_ratelimit.errors import InvalidLimit
from awx_ratelimit.runtime.files import UnusableFile, read_regular
from awx_ratelimit.runtime.forks import renew_if_forked, renewed_after_fork

_log = logging.getLogger("awx_ratelimit")
_LOOK_EVERY_S = 1.0
#: A request that looks at the file reads it: some 50,000 overrides.
_MAX_BYTES = 4_194_304


def load(path: str | PurePath) -> PlanTable:
    """See `PlanTable.from_toml`."""
    source = str(_checked(path))
    try:
        mapping = tomllib.loads(read_regular(path, _MAX_BYTES).decode())
    except UnusableFile as error:
        raise InvalidLimit(f"{source}: cannot be read: {error}") from error
    except OSError as error:
        raise InvalidLimit(f"{source}: cannot be read: {error.strerror}; name a TOML file that can") from error
    except (ValueError, RecursionError) as error:
        raise InvalidLimit(f"{source}: is not TOML: {error}") from error
    return PlanTable.from_mapping(mapping, source=source)


def _checked(path: Any) -> str | PurePath:
    if isinstance(path, str | PurePath):
        return path
    raise TypeError(f"path is {kind(path)}; use the path of a TOML file, or PlanTable.from_mapping(...)")


class WatchedPlanTable(PlanTable):
    """The table of a file, read again when the file has changed.

    It looks at the file when it resolves, at most once a second, from whichever thread comes first. A file that is
    wrong or gone leaves the table as it was and is an error in the log, once for each version of the file; so does
    what is not a regular file of at most 4 MiB, such as a pipe or a device, which is never opened. Usage is
    carried over: a changed plan is a plan change.
    """

    def __init__(self, path: str | PurePath) -> None:
        self._path = Path(_checked(path))
        self._version = self._file_version()
        self._table = load(path)
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        self._renew_lock()
        renewed_after_fork(self._renew_lock)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plans, in the order of the file as it was read last."""
        return self._table.plans

    def overridden(self) -> list[Plan]:
        """See PlanTable."""
        return self._table.overridden()

    def resolve(self, caller: Caller) -> Plan:
        """See PlanTable."""
        if time.monotonic() >= self._look_at_s:
            self._look()
        return self._table.resolve(caller)

    def _renew_lock(self) -> None:
        self._looking = threading.Lock()

    def _look(self) -> None:
        renew_if_forked()
        # Whoever finds another thread looking goes on with the table that is there: nobody waits for a file.
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S
            version = self._file_version()
            if version != self._version:
                self._version = version
                self._table = load(self._path)
                _log.info("%s: the plan table was read again", self._path)
        except InvalidLimit as error:
            _log.error("the plan table stays as it was: %s", error)
        finally:
            self._looking.release()

    def _file_version(self) -> tuple[int, ...] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
