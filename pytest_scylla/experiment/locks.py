"""One process at a time on a run: a lock that a dead process never holds.

Where the kernel locks files for all who see them (``flock``), the kernel also lets go of a dead process's. On a file
system that other hosts share it may lock for its own host only; there the lock is a file that its holder refreshes, and
that anyone may take over who saw it go without for half a minute.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs\w*|glusterfs|ocfs2|gfs2?|pvfs2|orangefs|fuse\..*|virtiofs"
)
_PATIENCE = 30.0
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_OCTAL = re.compile(r"\\([0-7]{3})")


class Held(Exception):
    """Another process has the lock."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock ``path``, waiting for as long as another process does.

    :param wait: otherwise do not wait.
    :raises OSError: it cannot be made.
    :raises Held: another process has it, and this one was not to wait.
    """
    lock = None if _lies_on_a_shared_one(path.parent) else _flocked(path, wait=wait)
    if lock is None:
        # Under a name of its own: to a lease, the empty file that flock leaves behind is held for ever.
        lock = _leased(path.with_suffix(".lease"), wait=wait)
    try:
        yield
    finally:
        lock.release()


@cache
def _lies_on_a_shared_one(directory: Path) -> bool:
    # Where a link on the way leads to another file system, that one decides.
    return is_shared(file_system_of(Path(os.path.realpath(directory)), _mounts()))


def _flocked(path: Path, *, wait: bool) -> BaseFileLock | None:
    """Lock by the kernel; ``None`` where it cannot."""
    import filelock  # 28 ms, which only a session that repairs something pays

    _refuse_another(path)
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        raise Held(path) from None
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        raise
    return lock


def _leased(path: Path, *, wait: bool) -> BaseFileLock:
    import filelock

    _refuse_another(path)
    lock = filelock.SoftFileLease(path)
    while not lock.is_locked:
        unsigned = _unsigned(path)
        try:
            lock.acquire(timeout=_PATIENCE if wait else 0)
        except filelock.Timeout:
            if not wait:
                raise Held(path) from None
            # Whoever was killed between making its lease and signing it left an empty one, which filelock never breaks.
            if unsigned is not None and unsigned == _unsigned(path):
                with suppress(FileNotFoundError):
                    path.unlink()
        except filelock.LeaseSettingsMismatch as error:
            raise OSError(errno.EINVAL, str(error)) from error
    return lock


def _refuse_another(path: Path) -> None:
    """Refuse what is no lock: older releases of filelock empty the file, which may be one outside by another name.

    :raises OSError: something else has the lock's place.
    """
    with suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError("expected a file with no other name")


def _unsigned(path: Path) -> tuple[int, int] | None:
    """What tells an empty lease from every other, if there is an empty one."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return None if status.st_size else (status.st_ino, status.st_mtime_ns)


def is_shared(file_system: str) -> bool:
    """Whether hosts may share a file system of this type, so that ``flock`` cannot be relied on between them."""
    return _SHARED.fullmatch(file_system) is not None


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that ``path`` lies on, by the text of Linux's mountinfo; "" where that is not known.

    >>> file_system_of(Path("/data/exp"), "36 35 98:0 / /data rw,noatime master:1 - nfs4 server:/data rw")
    'nfs4'
    """
    best, found = -1, ""
    # Split at the two characters that mountinfo escapes: a path may hold others that count as blanks or line ends.
    for line in mounts.split("\n"):
        fields, separator, kind = line.partition(" - ")
        words = fields.split(" ")
        if separator and len(words) > 4 and kind.split():
            place = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), words[4]))
            # Of mounts on one place the last is on top.
            if path.is_relative_to(place) and len(place.parts) >= best:
                best, found = len(place.parts), kind.split()[0]
    return found


def _mounts() -> str:
    try:
        return _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
