"""Reading an experiment's files: bounded, and never through a link.

An experiment may hold anything: an agent worked in it, disks filled up, directories were copied. So a path is walked
one component at a time from the experiment's root, no component may be a symbolic link, and only regular files of
bounded size are opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple

from .strict_json import Json

State = Literal["absent", "sound", "malformed", "invalid", "unsafe"]
"""What can be said of a file: it is not there; it can be relied on; it is not readable as what it should be; it is
readable but breaks its schema; it may not be opened at all."""

EntryKind = Literal["file", "directory", "unsafe"]
"""What a directory entry is; "unsafe" are links, FIFOs, sockets and devices."""

EntryState = tuple[str, int, int, int, int]
"""A directory entry's name, and what changes whenever the entry does: inode, size, and two times."""

MAX_FILE_SIZE = 64 * 1024 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO take the file's place between listing and opening, the audit does not hang on it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Blob(NamedTuple):
    """A file as it was found: its bytes, or why there are none.

    ``file`` is relative to the experiment, with ``/``. ``state`` is never "invalid" here. ``too_large``: it was not
    read, for no other reason than its size.
    """

    file: str
    state: State
    data: bytes = b""
    reason: str = ""
    too_large: bool = False

    @property
    def raw(self) -> bytes:
        """The bytes, under the name that they have in a record."""
        return self.data

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 shows as replacement characters."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a record: a JSON pointer, and a sentence with the expected and the found value.

    ``keyword`` is the JSON Schema keyword that failed ("" for what is not a schema's matter).
    """

    pointer: str
    message: str
    keyword: str = ""


class Record(NamedTuple):
    """A JSON file as it was found.

    ``data`` is empty unless ``state`` is "sound"; ``raw`` are the bytes, wherever they could be read. ``too_large`` is
    as for a :class:`Blob`.
    """

    file: str
    state: State
    data: Mapping[str, Json]
    problems: tuple[Problem, ...] = ()
    raw: bytes = b""
    too_large: bool = False

    def __repr__(self) -> str:
        """Without the content, which may hold secrets and would stand in a traceback."""
        return f"Record({self.file!r}, {self.state!r}, problems={self.problems!r})"

    @property
    def sound(self) -> bool:
        """Whether the record can be relied on."""
        return self.state == "sound"


class Folder:
    """An open directory of an experiment, reached without following a link.

    Use it as a context manager. What it lists is of one moment; every opening checks again.
    """

    __slots__ = ("_fd", "_prefix", "file")

    def __init__(self, fd: int, file: str) -> None:
        self._fd = fd
        self.file = file
        self._prefix = file + "/" if file else ""

    @property
    def descriptor(self) -> int:
        """The open directory, for the calls that take one."""
        return self._fd

    def names(self) -> list[str]:
        """The names of the entries.

        :raises OSError: the directory may be entered but not read.
        """
        return os.listdir(self._fd)

    def states(self) -> list[EntryState]:
        """The state of every entry, by name.

        :raises OSError: the directory may be entered but not read.
        """
        found = []
        with os.scandir(self._fd) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                found.append((entry.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return sorted(found)

    def kind(self, name: str) -> EntryKind | None:
        """What the entry ``name`` is, without following it; ``None`` where there is none."""
        try:
            return _kind(os.stat(name, dir_fd=self._fd, follow_symlinks=False)) if _is_entry(name) else None
        except OSError:
            return None

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; nothing can be opened in it afterwards."""
        os.close(self._fd)

    def open(self, name: str) -> Folder | Blob:
        """Open the directory ``name``; a :class:`Blob` says why that is not possible (never "sound")."""
        file = self._prefix + name
        if not _is_entry(name):
            return Blob(file, "absent")
        try:
            return Folder(os.open(name, _DIRECTORY, dir_fd=self._fd), file)
        except FileNotFoundError:
            return Blob(file, "absent")
        except OSError as error:
            kind = self.kind(name)
            return _refused(file, error) if kind in (None, "directory") else _not_openable(file, kind, "directory")

    def read(self, name: str, max_size: int = MAX_FILE_SIZE) -> Blob:
        """Read the regular file ``name``, of at most ``max_size`` bytes."""
        file = self._prefix + name
        if not _is_entry(name):
            return Blob(file, "absent")
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return _not_openable(file, _kind(status), "file")
            if status.st_size > max_size:
                reason = f"expected at most {max_size} bytes, found {status.st_size}"
                return Blob(file, "unsafe", reason=reason, too_large=True)
            fd = os.open(name, _FILE, dir_fd=self._fd)
        except FileNotFoundError:
            return Blob(file, "absent")
        except OSError as error:
            return _refused(file, error)
        try:
            data = os.read(fd, status.st_size + 1)
            if len(data) != status.st_size:  # another file has its place since, or it came in part
                while len(data) <= max_size and (more := os.read(fd, max_size + 1 - len(data))):
                    data += more
                if len(data) > max_size:
                    reason = f"expected at most {max_size} bytes, found more"
                    return Blob(file, "unsafe", reason=reason, too_large=True)
            return Blob(file, "sound", data)
        except OSError as error:
            return _refused(file, error)
        finally:
            os.close(fd)


def open_experiment(root: str | os.PathLike[str]) -> Folder:
    """Open an experiment's root directory. The root itself may be named through links: the user named it.

    :raises OSError: it is not a directory that can be opened.
    """
    return Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")


def open_below(root: Folder, names: Iterable[str]) -> Folder | Blob:
    """Open a directory some levels below ``root``, which stays open; the caller closes what it gets.

    A :class:`Blob` says which directory on the way could not be opened.
    """
    current = root
    for name in names:
        opened = current.open(name)
        if current is not root:
            current.close()
        if isinstance(opened, Blob):
            return opened
        current = opened
    return current


def read_below(root: Folder, file: str, max_size: int = MAX_FILE_SIZE) -> Blob:
    """Read a regular file of at most ``max_size`` bytes, named relative to ``root``, with ``/``.

    What comes back may be about a directory on the way: the one that could not be opened.
    """
    *parts, name = file.split("/")
    folder = open_below(root, parts)
    if isinstance(folder, Blob):
        return folder
    try:
        return folder.read(name, max_size)
    finally:
        if folder is not root:
            folder.close()


def has_directory(root: Folder, place: str) -> bool:
    """Whether ``place``, relative to ``root``, is a directory that can be opened without following a link."""
    opened = open_below(root, place.split("/"))
    if isinstance(opened, Blob):
        return False
    opened.close()
    return True


def _is_entry(name: str) -> bool:
    """Whether a directory can have an entry of this name, which rules out every path that leads elsewhere."""
    return "/" not in name and "\0" not in name and name not in ("", ".", "..")


def _kind(status: os.stat_result) -> EntryKind:
    if stat.S_ISREG(status.st_mode):
        return "file"
    return "directory" if stat.S_ISDIR(status.st_mode) else "unsafe"


def _not_openable(file: str, kind: EntryKind, expected: str) -> Blob:
    if kind == "unsafe":
        return Blob(file, "unsafe", reason=f"expected a {expected}, found a link, pipe, socket or device")
    return Blob(file, "malformed", reason=f"expected a {expected}, found a {kind}")


def _refused(file: str, error: OSError) -> Blob:
    if error.errno == errno.ENOENT:
        return Blob(file, "absent")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return Blob(file, "unsafe", reason="expected no link, pipe, socket or device")
    return Blob(file, "unsafe", reason=f"cannot be read: {os.strerror(error.errno or 0)}")
