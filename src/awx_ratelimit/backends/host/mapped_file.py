"""The file that the processes of one host share: creating, checking, mapping and growing it.

The first page is the header, then comes a root page for each shard, then space that is allocated to shards and
processes and never returned. It is allocated before it is used, so a full disk is an error, and not a SIGBUS later.
"""

import ctypes
import errno
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Final, NoReturn

from awx_ratelimit.backends.host.cell import CHECKSUM_BYTES, checksum, encode_half
from awx_ratelimit.backends.host.locks import WAIT_MS, ByteLock
from awx_ratelimit.backends.host.shard import Shard, SharedLock
from awx_ratelimit.errors import BackendMisconfigured, BackendUnavailable
from awx_ratelimit.runtime.files import Create, UnusableFile, create_owned, open_owned

PAGE_BYTES: Final = 4096
SHARDS: Final = 64
#: Where allocated space begins.
SPACE_AT: Final = PAGE_BYTES * (1 + SHARDS)
#: Where the header stores the offset of the first counter page.
FIRST_COUNTER_PAGE_AT: Final = 2048
_MAGIC = b"AWX host"
#: Increase this number with every change of the file's layout.
_VERSION = 2
#: Magic, version, number of shards, the secret that spreads the subjects, and the time of creation.
_HEADER = Struct("<8sHH32sQ")
_HEADER_BYTES = _HEADER.size + CHECKSUM_BYTES
_WORD_BYTES = 8
_EMPTY_ROOT = encode_half(1, b"")
#: The locks for creating the file or moving it away, and for making it larger.
CREATION_LOCK, _GROWTH_LOCK = SHARDS, SHARDS + 1
_lseek = ctypes.PyDLL(None)["lseek"]
_lseek.restype = ctypes.c_int64
#: Python has only `posix_fallocate`. Where a file system cannot allocate, that one writes zeros over the writes of
#: other processes.
_fallocate = ctypes.CDLL(None, use_errno=True)["fallocate"]

_NO_RIGHTS = "this process may not read and write the file; change its permissions, or choose another path"
_REMEDIES = {
    errno.ENOENT: "its folder does not exist; create it",
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.EROFS: "its file system is read-only; choose another path",
    errno.EISDIR: "this is a folder; name a file in it",
    errno.ENOTDIR: "a part of the path is not a folder; choose another path",
    errno.ELOOP: "the symbolic links in its folder's path form a loop; remove them",
    errno.ENOSPC: "there is no space left on the disk; free some, or choose another path",
    errno.EDQUOT: "the disk quota is used up; raise it, or choose another path",
    errno.EFBIG: "the file may not grow; raise the limit on the size of files",
}


class FileDamaged(BackendMisconfigured):
    """The content of the file cannot be read."""


class FileBeingCreated(BackendMisconfigured):
    """Another process is creating the file, and did not finish in time."""


class MappedFile:
    """One opened file, its mapping and its locks.

    Waits `wait_ms` for another process that creates the file. Raises BackendMisconfigured, which names the path and
    the remedy, for an unusable path, and for a file that is not a limits file, has another version or is damaged.
    Unless `allow_other_users`, files that others own or can write are errors too. `create` is as in `open_owned`.
    """

    def __init__(
        self, path: str, wait_ms: int, *, allow_other_users: bool = False, create: Create = create_owned
    ) -> None:
        self.path = path
        self.wait_ms = wait_ms
        try:
            self.fd = open_owned(path, allow_other_users=allow_other_users, create=create)
        except UnusableFile as error:
            raise BackendMisconfigured(f"{path}: {error}") from error
        except OSError as error:
            raise self._unusable(error) from error
        self._closed, self._owns_fd = False, True
        self.mapped_bytes = 0
        self._mapping = threading.Lock()
        #: The size of the file now. A C function, like the locks: it must not release the interpreter.
        self.file_bytes: Callable[[], int] = partial(_lseek, self.fd, ctypes.c_int64(0), os.SEEK_END)
        try:
            self._open()
        except OSError as error:
            raise self._unusable(error) from error

    def _open(self) -> None:
        creation_lock = ByteLock(self.fd, CREATION_LOCK)
        if not creation_lock.wait(self.wait_ms):
            self.close()
            raise FileBeingCreated(
                f"{self.path}: another process has been creating the file for {self.wait_ms} ms; check whether it is "
                "stopped"
            )
        try:
            if self._is_incomplete():
                self._create()
        finally:
            creation_lock.unlock()
        self.header = os.pread(self.fd, _HEADER_BYTES, 0)
        self.secret = self._check_header()
        self._fill_holes()
        self.map()
        self.shards = [Shard(self, number) for number in range(SHARDS)]
        #: Held while the file grows, by processes that may hold the lock of a shard already.
        self.growth_lock = SharedLock(self, _GROWTH_LOCK)

    def _is_incomplete(self) -> bool:
        """Whether the file is new, or its creator was killed: it writes the roots first and the header last."""
        if self.file_bytes() > SPACE_AT:
            return False
        pages = (os.pread(self.fd, PAGE_BYTES, at) for at in range(0, SPACE_AT, PAGE_BYTES))
        return not any(any(page) and not page.startswith(_EMPTY_ROOT) for page in pages)

    def _create(self) -> None:
        os.posix_fallocate(self.fd, 0, SPACE_AT)
        for number in range(SHARDS):
            os.pwrite(self.fd, _EMPTY_ROOT, PAGE_BYTES * (1 + number))
        header = _HEADER.pack(_MAGIC, _VERSION, SHARDS, os.urandom(32), time.time_ns() // 1_000_000)
        os.pwrite(self.fd, header + checksum(header), 0)
        # A power cut may lose later writes, but it must not lose the header.
        os.fsync(self.fd)

    def _fill_holes(self) -> None:
        """Allocate the whole file: a copy may have holes, and on a full disk a write into one raises SIGBUS."""
        if _fallocate(self.fd, 0, ctypes.c_int64(0), ctypes.c_int64(self.file_bytes())):
            number = ctypes.get_errno()
            if number in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(number, os.strerror(number))

    def _check_header(self) -> bytes:
        """The file's secret. Raises BackendMisconfigured if this is not a valid limits file."""
        magic, version, shards, secret, _ = _HEADER.unpack_from(self.header.ljust(_HEADER_BYTES, b"\0"))
        if magic != _MAGIC:
            self._refuse("this is not a limits file; choose another path")
        if version != _VERSION:
            self._refuse(
                f"the file has version {version}, and this library reads version {_VERSION}; stop the processes that "
                "use it and delete it"
            )
        valid = shards == SHARDS and self.header[_HEADER.size :] == checksum(self.header[: _HEADER.size])
        if not valid or self.file_bytes() < SPACE_AT:
            self.close()
            raise self.damaged("the file is damaged")
        return bytes(secret)

    def _refuse(self, reason: str) -> NoReturn:
        self.close()
        raise BackendMisconfigured(f"{self.path}: {reason}")

    def _unusable(self, error: OSError) -> BackendMisconfigured:
        if hasattr(self, "fd"):
            self.close()
        return BackendMisconfigured(f"{self.path}: {_REMEDIES.get(error.errno or 0, error.strerror)}")

    def map(self) -> None:
        """Map the file at its present size, if it is larger than its mapping. Raises BackendMisconfigured."""
        # Without the lock, a thread that has read an older size could replace a larger mapping by a smaller one.
        with self._mapping:
            size = self.file_bytes()
            if size <= self.mapped_bytes:
                return
            try:
                self.memory = mmap.mmap(self.fd, size)
                #: As integers of eight bytes. Setting one is a single store; a Struct's `pack_into` stores zeros first.
                self.words = memoryview(self.memory)[: size // _WORD_BYTES * _WORD_BYTES].cast("Q")
            except (OSError, ValueError) as error:
                # The file system has no mappings, memory is short, or the file was truncated at this very moment.
                raise BackendMisconfigured(f"{self.path}: cannot map the file into memory: {error}") from error
            self.mapped_bytes = size

    def damaged(self, reason: str) -> FileDamaged:
        """The error for content that cannot be read."""
        return FileDamaged(
            f"{self.path}: {reason}; stop the processes that use it and delete it (its recorded usage is lost)"
        )

    def allocate(self, wanted_bytes: int) -> int:
        """Make the file larger by that many zero bytes; their offset. Raises BackendUnavailable."""
        return self.growth_lock.run(self.allocate_locked, wanted_bytes)

    def allocate_locked(self, wanted_bytes: int) -> int:
        """`allocate` for a caller that holds `growth_lock` already."""
        at = -(-self.file_bytes() // PAGE_BYTES) * PAGE_BYTES
        try:
            os.posix_fallocate(self.fd, at, wanted_bytes)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, error.strerror)
            raise BackendUnavailable(f"{self.path}: {remedy}") from error
        self.map()
        return at

    def is_at_path(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            at_path, opened = Path(self.path).lstat(), os.fstat(self.fd)
        except OSError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)

    def is_intact(self) -> bool:
        """Whether the file has its header still and is not smaller than its mapping."""
        size = self.file_bytes()
        if size < 0:
            # Somebody closed the descriptor. Its number may soon belong to another file, which is not ours to close.
            self._owns_fd = False
        return size >= self.mapped_bytes and os.pread(self.fd, _HEADER_BYTES, 0) == self.header

    def close_when_idle(self) -> None:
        """Close the file as soon as no thread uses it. A thread that stays in keeps it open."""
        until_s = time.monotonic() + WAIT_MS / 1000
        idle = [lock.close(until_s) for lock in (*self.shards, self.growth_lock)]
        if all(idle):
            self.close()

    def close(self) -> None:
        """Close the file at once, and with it give up every lock and lease. May be called twice.

        A forked child must do this soon: it shares the open file, and its locks live until both have closed it.
        """
        if self._closed:
            return
        self._closed = True
        # The number of the descriptor may soon belong to a larger file. This value makes every size check fail.
        mapped_bytes, self.mapped_bytes = self.mapped_bytes, sys.maxsize
        if mapped_bytes:
            self.words.release()
            # The mapping has a descriptor of its own, which holds the locks as well.
            self.memory.close()
        if self._owns_fd:
            with suppress(OSError):
                os.close(self.fd)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()
