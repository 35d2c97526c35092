"""A file of before the machine started anew: it goes on where it is sound, and is set aside where a power cut tore it.

What is written is whole whoever dies, but not whenever the power goes. So a file says in which boot of the machine it
was last found to be sound; one that is damaged in that same boot was damaged by somebody, who is told.
"""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from awx_ratelimit.backends.host.locks import ByteLock
from awx_ratelimit.backends.host.mapped_file import MAKING, FileDamaged, HostFile
from awx_ratelimit.backends.host.table import Table

#: Where the first page says it.
_BOOT_AT = 1024
_log = logging.getLogger("awx_ratelimit")


def _this_boot() -> bytes:
    """What is another one each time that the machine starts; nothing where that cannot be known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return b""


_BOOT = _this_boot()


def opened(path: str, wait_ms: int, *, allow_other_users: bool) -> Table:
    """The subjects in the file at `path`. Raises BackendMisconfigured; see HostFile."""
    until_s = time.monotonic() + wait_ms / 1000
    file = HostFile(path, wait_ms, allow_other_users=allow_other_users)
    try:
        table = Table(file)
    except FileDamaged:
        if not _is_of_another_boot(file):
            raise
        # A power cut is nobody's mistake.
        _set_aside(file, _left_ms(until_s))
        file = HostFile(path, _left_ms(until_s), allow_other_users=allow_other_users)
        table = Table(file)
    if _is_of_another_boot(file):
        os.pwrite(file.fd, _BOOT, _BOOT_AT)
    return table


def _is_of_another_boot(file: HostFile) -> bool:
    return os.pread(file.fd, len(_BOOT), _BOOT_AT) != _BOOT


def _left_ms(until_s: float) -> int:
    return max(0, round((until_s - time.monotonic()) * 1000))


def _set_aside(file: HostFile, wait_ms: int) -> None:
    """Give it another name, so that a new one can be made at its path, unless somebody else has. Closes it.

    Where the folder does not allow that, it stays, and is as damaged as before.
    """
    making = ByteLock(file.fd, MAKING)
    with suppress(OSError):
        if making.wait(wait_ms) and file.is_where_it_was():
            Path(file.path).rename(f"{file.path}.damaged")
            _log.error(
                "%s: it was damaged when the machine stopped, and is now %s.damaged; what was used until then is "
                "forgotten", file.path, file.path,
            )  # fmt: skip
    file.close()
