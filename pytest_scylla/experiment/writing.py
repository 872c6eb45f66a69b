"""Writing into an experiment: whole or not at all, and never through a link.

A file is written elsewhere on the same file system, brought to the disk, and then renamed into its place, so that
whoever reads sees the old file or the new one. All of it goes through open directories, as reading does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from .records import Blob, Folder

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class CannotWrite(Exception):
    """A file could not be written, for a reason of the place; ``str()`` is one line: the file and the reason."""


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Tell a failure in the block as one to write ``file``.

    :raises CannotWrite: the block raised :class:`OSError`.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{file}: {os.strerror(error.errno) if error.errno else error}") from error


def directory(parent: Folder, name: str) -> Folder:
    """Open the directory ``name`` below ``parent``, making it if there is none; the caller closes it.

    :raises OSError: it cannot be made.
    :raises CannotWrite: something else has its place.
    """
    opened = parent.open(name)
    if isinstance(opened, Blob) and opened.state == "absent":
        with suppress(FileExistsError):  # another process, at work on another run, made it meanwhile
            os.mkdir(name, dir_fd=parent.descriptor)
        os.fsync(parent.descriptor)
        opened = parent.open(name)
    if isinstance(opened, Blob):
        raise CannotWrite(f"{opened.file}: {opened.reason or 'it disappeared'}")
    return opened


@contextmanager
def directory_below(root: Folder, names: Iterable[str]) -> Iterator[Folder]:
    """Have a directory some levels below ``root`` open, making those that there are not; without names, ``root``.

    :raises OSError: one of them cannot be made.
    :raises CannotWrite: something else has the place of one.
    """
    with ExitStack() as opened:
        folder = root
        for name in names:
            folder = opened.enter_context(directory(folder, name))
        yield folder


def write_new(folder: Folder, name: str, data: bytes, *, like: os.stat_result | None = None) -> None:
    """Write the file ``name`` anew and bring it to the disk; a file that an unfinished repair left there is replaced.

    :param like: the state of a file whose mode the new one is to have.
    :raises OSError: it cannot be written; nothing is left of it then.
    """
    remove(folder, name)
    fd = os.open(name, _NEW, 0o666, dir_fd=folder.descriptor)
    try:
        try:
            if like is not None:
                os.fchmod(fd, like.st_mode & 0o777)
            _write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        remove(folder, name)
        raise


def append(folder: Folder, name: str, lines: bytes) -> None:
    """Append whole ``lines`` to the file ``name`` and bring it to the disk.

    A line that a killed process left unfinished there is ended first, so that it spoils no other.

    :raises OSError: it cannot be written.
    :raises CannotWrite: it is no file of its own.
    """
    fd = os.open(name, _APPEND, 0o666, dir_fd=folder.descriptor)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # a hard link may lead out of the experiment
            raise CannotWrite(f"{folder.file}/{name}: expected a file with no other name")
        size = status.st_size
        unfinished = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        _write_all(fd, b"\n" * unfinished + lines)
        os.fsync(fd)
        if not size:
            os.fsync(folder.descriptor)
    finally:
        os.close(fd)


def move(source: Folder, name: str, target: Folder, new_name: str) -> None:
    """Rename within the file system, replacing what is there.

    :raises OSError: it cannot be renamed.
    """
    os.rename(name, new_name, src_dir_fd=source.descriptor, dst_dir_fd=target.descriptor)


def remove(folder: Folder, name: str) -> None:
    """Remove the file ``name`` if there is one.

    :raises OSError: it cannot be removed.
    """
    try:
        os.unlink(name, dir_fd=folder.descriptor)
    except FileNotFoundError:
        return


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
