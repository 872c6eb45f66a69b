"""One process at a time on a run: a lock that a dead process never holds.

Where the kernel locks files for all who see them (``flock``), the kernel also lets go of a dead process's. On a file
system that other hosts share it may lock for its own host only; there the lock is a file that its holder refreshes, and
that anyone may take over who saw it go without for half a minute.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs\w*|glusterfs|ocfs2|gfs2?|pvfs2|orangefs|fuse\..*|virtiofs"
)
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_OCTAL = re.compile(r"\\([0-7]{3})")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock ``path``, waiting for as long as another process does.

    :raises OSError: it cannot be made.
    """
    import filelock  # 28 ms, which only a session that repairs something pays

    lock: filelock.BaseFileLock = filelock.FileLock(path)
    if is_shared(file_system_of(path, _mounts())):
        lock = filelock.SoftFileLease(path)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_FLOCK or isinstance(lock, filelock.SoftFileLease):
            raise
        lock = filelock.SoftFileLease(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_shared(file_system: str) -> bool:
    """Whether hosts may share a file system of this type, so that ``flock`` cannot be relied on between them."""
    return _SHARED.fullmatch(file_system) is not None


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that ``path`` lies on, by the text of Linux's mountinfo; "" where that is not known.

    >>> file_system_of(Path("/data/exp"), "36 35 98:0 / /data rw,noatime master:1 - nfs4 server:/data rw")
    'nfs4'
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields, separator, kind = line.partition(" - ")
        words = fields.split()
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
