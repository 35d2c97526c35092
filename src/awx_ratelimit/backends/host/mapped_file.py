"""The file that the processes of one host share: made, checked, mapped, made larger.

A page that says whose file it is, a page of roots for each stripe, then room that was given to stripes and processes
and never comes back. All of it was allocated when it was given, so that a full disk is an error then and no fault of
memory later.
"""

import ctypes
import errno
import mmap
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from struct import Struct
from typing import Final, NoReturn

from awx_ratelimit.backends.host.cell import CHECK_BYTES, check, half
from awx_ratelimit.backends.host.locks import ByteLock, Stripe
from awx_ratelimit.backends.host.waits import WAIT_MS
from awx_ratelimit.core.validation import describe
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.files import UnusableFile, open_owned

PAGE_BYTES: Final = 4096
STRIPES: Final = 64
ROOM_AT: Final = PAGE_BYTES * (1 + STRIPES)
#: Where the first page says which is the first desk.
DESKS_AT: Final = 2048
_MAGIC = b"AWX host"
_VERSION = 1
#: Magic, version, stripes, the secret by which subjects are spread, when it was made.
_HEADER = Struct("<8sHH32sQ")
_EMPTY_ROOT = half(1, b"")
_HEADER_BYTES = _HEADER.size + CHECK_BYTES
#: The lock of who makes it or moves it away, and of who makes it larger.
MAKING, _GROWING = STRIPES, STRIPES + 1
_lseek = ctypes.PyDLL(None)["lseek"]
_lseek.restype = ctypes.c_int64
#: Python knows only the one that, where a file system cannot do it, writes zeros over what others write meanwhile.
_fallocate = ctypes.CDLL(None, use_errno=True)["fallocate"]

_REMEDIES = {
    errno.ENOENT: "its folder does not exist; create it",
    errno.EACCES: "this process may not read and write it; give it the rights, or choose another path",
    errno.EPERM: "this process may not read and write it; give it the rights, or choose another path",
    errno.EROFS: "it is on a file system that is read-only; choose another path",
    errno.EISDIR: "it is a folder; name a file in it",
    errno.ENOTDIR: "a part of the path is no folder; choose another path",
    errno.ELOOP: "the symbolic links of its folder lead nowhere; remove them",
    errno.ENOSPC: "there is no space left for it; make room, or choose another path",
    errno.EDQUOT: "there is no quota left for it; make room, or choose another path",
    errno.EFBIG: "it may not become larger; raise the limit on the size of files",
}


class FileDamaged(BackendMisconfigured):
    """What is in the file cannot be read any more."""


class FileBeingMade(BackendMisconfigured):
    """Another process makes the file, and has not finished in time."""


class HostFile:
    """One opened file, its locks, and the process as one that holds leases in it.

    Waits `wait_ms` for another process that makes the file. Raises BackendMisconfigured, which names the path and what
    to do, for a path that cannot be used and for a file that is none of ours, of another version, or damaged; and for
    one that other users own or can write, unless `allow_other_users`.
    """

    def __init__(self, path: str, wait_ms: int, *, allow_other_users: bool = False) -> None:
        self.path = path
        self.wait_ms = wait_ms
        try:
            self.fd = open_owned(path, allow_other_users=allow_other_users)
        except UnusableFile as error:
            raise BackendMisconfigured(f"{path}: {error}") from error
        except OSError as error:
            raise self._unusable(error) from error
        self._closed = False
        self._owns_fd = True
        self.mapped_bytes = 0
        #: How large the file is now. C, as the locks are: it must not let go of the interpreter.
        self.file_bytes: Callable[[], int] = partial(_lseek, self.fd, ctypes.c_int64(0), os.SEEK_END)
        try:
            self._open()
        except OSError as error:
            raise self._unusable(error) from error

    def _open(self) -> None:
        making = ByteLock(self.fd, MAKING)
        if not making.wait(self.wait_ms):
            self.close()
            raise FileBeingMade(
                f"{self.path}: another process has been making it for {self.wait_ms} ms; is it stopped?"
            )
        try:
            if self._is_unmade():
                self._make()
        finally:
            making.give()
        self.header = os.pread(self.fd, _HEADER_BYTES, 0)
        self.secret = self._checked()
        self._fill_holes()
        self.map()
        self.stripes = [Stripe(self, number) for number in range(STRIPES)]
        #: Who makes it larger is alone in this one, and may be in another before.
        self.growing = Stripe(self, _GROWING)

    def _is_unmade(self) -> bool:
        """Whether nobody has made it, or who began to was killed: the header is written last, and roots before it."""
        if self.file_bytes() > ROOM_AT:
            return False
        pages = (os.pread(self.fd, PAGE_BYTES, at) for at in range(0, ROOM_AT, PAGE_BYTES))
        return not any(any(page) and not page.startswith(_EMPTY_ROOT) for page in pages)

    def _make(self) -> None:
        os.posix_fallocate(self.fd, 0, ROOM_AT)
        for number in range(STRIPES):
            os.pwrite(self.fd, _EMPTY_ROOT, PAGE_BYTES * (1 + number))
        header = _HEADER.pack(_MAGIC, _VERSION, STRIPES, os.urandom(32), time.time_ns() // 1_000_000)
        os.pwrite(self.fd, header + check(header), 0)
        # A power cut may lose what is written later, but not whose file it is.
        os.fsync(self.fd)

    def _fill_holes(self) -> None:
        """Allocate what is there: a copy may have holes, and on a full disk a store into one would be death."""
        if _fallocate(self.fd, 0, ctypes.c_int64(0), ctypes.c_int64(self.file_bytes())):
            number = ctypes.get_errno()
            if number in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(number, os.strerror(number))

    def _checked(self) -> bytes:
        """The file's secret, if it is a file of ours."""
        magic, version, stripes, secret, _ = _HEADER.unpack_from(self.header.ljust(_HEADER_BYTES, b"\0"))
        if magic != _MAGIC:
            self._refuse("it is a file of something else; choose another path")
        if version != _VERSION:
            self._refuse(
                f"it is of version {version}, and this library reads version {_VERSION}; stop who uses it and remove it"
            )
        right = stripes == STRIPES and self.header[_HEADER.size :] == check(self.header[: _HEADER.size])
        if not right or self.file_bytes() < ROOM_AT:
            self.close()
            raise self.damaged("it is damaged")
        return bytes(secret)

    def _refuse(self, why: str) -> NoReturn:
        self.close()
        raise BackendMisconfigured(f"{self.path}: {why}")

    def _unusable(self, error: OSError) -> BackendMisconfigured:
        if hasattr(self, "fd"):
            self.close()
        return BackendMisconfigured(f"{self.path}: {_REMEDIES.get(error.errno or 0, error.strerror)}")

    def map(self) -> None:
        """See all of the file as it is now. Raises BackendMisconfigured."""
        size = self.file_bytes()
        try:
            self.memory = mmap.mmap(self.fd, size)
        except (OSError, ValueError) as error:
            # A file system that maps nothing, no memory, or a file that was cut short this very moment.
            raise BackendMisconfigured(f"{self.path}: it cannot be mapped: {error}") from error
        self.mapped_bytes = size

    def damaged(self, what: str) -> FileDamaged:
        """The error for what cannot be read any more."""
        return FileDamaged(f"{self.path}: {what}; stop who uses it and remove it: what was used until now is forgotten")

    def grow(self, wanted_bytes: int) -> int:
        """Room of so many bytes, all zero and allocated: where it begins. Raises BackendUnavailable."""
        return self.growing.run(self.grow_alone, wanted_bytes)

    def grow_alone(self, wanted_bytes: int) -> int:
        """The same, for who is alone in `growing` already."""
        at = -(-self.file_bytes() // PAGE_BYTES) * PAGE_BYTES
        try:
            os.posix_fallocate(self.fd, at, wanted_bytes)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, error.strerror)
            raise BackendUnavailable(f"{self.path}: {remedy}") from error
        self.map()
        return at

    def is_where_it_was(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            there, opened = Path(self.path).lstat(), os.fstat(self.fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)

    def is_intact(self) -> bool:
        """Whether it is still what was opened, and as large at least."""
        size = self.file_bytes()
        if size < 0:
            # Somebody closed the descriptor. Its number is soon another file's, which is not ours to close.
            self._owns_fd = False
        return size >= self.mapped_bytes and os.pread(self.fd, _HEADER_BYTES, 0) == self.header

    def shut(self) -> None:
        """Close it when nobody is in it; a thread that stays in keeps it open."""
        until_s = time.monotonic() + WAIT_MS / 1000
        emptied = [stripe.shut(until_s) for stripe in (*self.stripes, self.growing)]
        if all(emptied):
            self.close()

    def close(self) -> None:
        """Let go of it, and so of every lock and lease. Harmless twice.

        In a forked child it must come soon: what is opened is shared, and its locks live until both have closed it.
        """
        if self._closed:
            return
        self._closed = True
        # The number of the descriptor may soon be a larger file's: who looks must not find that all is there.
        mapped, self.mapped_bytes = self.mapped_bytes, sys.maxsize
        if mapped:
            # It has a descriptor of its own, which keeps the locks as well.
            self.memory.close()
        if self._owns_fd:
            with suppress(OSError):
                os.close(self.fd)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()


def absolute_path(path: object) -> str:
    """`path` as text. Raises TypeError or ValueError for anything but an absolute path."""
    if not isinstance(path, str | PurePath):
        raise TypeError(f"path is {describe(path)}; use an absolute path such as '/var/lib/app/limits'")
    text = str(path)
    if "://" in text:
        # Not shown: a URL may hold a password.
        raise ValueError("path is a URL; write open_backend(url), or HostBackend('/var/lib/app/limits')")
    if not Path(text).is_absolute():
        raise ValueError(f"path is {text!r}; allowed is an absolute one such as '/var/lib/app/limits'")
    return text
