"""Reading an experiment's files: strict, bounded, and never through a link.

An experiment may hold anything: an agent worked in it, disks filled up, directories were copied. So a path is walked
one component at a time from the experiment's root, no component may be a symbolic link, only regular files of bounded
size are opened, and JSON is accepted only where every reader would agree on what it says.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from .wording import describe, printable

Json = Any
"""What :mod:`json` returns: dict, list, str, int, float, bool or None."""

State = Literal["absent", "sound", "malformed", "invalid", "unsafe"]
"""What can be said of a file: it is not there; it can be relied on; it is not readable as what it should be; it is
readable but breaks its schema; it may not be opened at all."""

MAX_FILE_SIZE = 64 * 1024 * 1024
MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 18

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO take the file's place between listing and opening, the audit does not hang on it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MalformedJSON(ValueError):
    """A text is not the sound JSON that a record has to be; the message says why, in one printable line."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file as it was found: its bytes, or why there are none.

    ``file`` is relative to the experiment, with ``/``. ``state`` is never "invalid" here.
    """

    file: str
    state: State
    data: bytes = b""
    reason: str = ""

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


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON file as it was found. ``data`` is empty unless ``state`` is "sound"."""

    file: str
    state: State
    data: Mapping[str, Json]
    problems: tuple[Problem, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether the record can be relied on."""
        return self.state == "sound"


class Folder:
    """An open directory of an experiment, reached without following a link.

    Use it as a context manager. ``names`` maps each entry to "file", "directory" or "unsafe" (links, FIFOs, sockets,
    devices); it is a listing of one moment, and every opening checks again.
    """

    __slots__ = ("_fd", "_prefix", "file", "names")

    def __init__(self, fd: int, file: str) -> None:
        self._fd = fd
        self.file = file
        self._prefix = file + "/" if file else ""
        self.names: dict[str, Literal["file", "directory", "unsafe"]] = {}
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        self.names[entry.name] = "file"
                    elif entry.is_dir(follow_symlinks=False):
                        self.names[entry.name] = "directory"
                    else:
                        self.names[entry.name] = "unsafe"
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; nothing can be opened in it afterwards."""
        os.close(self._fd)

    def path(self, name: str) -> str:
        """The path of the entry ``name``, relative to the experiment."""
        return self._prefix + name

    def open(self, name: str) -> Folder | Blob:
        """Open the directory ``name``; a :class:`Blob` says why that is not possible (never "sound")."""
        file = self._prefix + name
        kind = self.names.get(name)
        if kind is None:
            return Blob(file, "absent")
        if kind != "directory":
            return _not_openable(file, kind, "directory")
        try:
            return Folder(os.open(name, _DIRECTORY, dir_fd=self._fd), file)
        except OSError as error:
            return _refused(file, error)

    def look(self, name: str) -> Blob:
        """Say what lies at ``name`` where a regular file belongs, without opening it; the data stays empty."""
        kind = self.names.get(name)
        if kind == "file":
            return Blob(self._prefix + name, "sound")
        if kind is None:
            return Blob(self._prefix + name, "absent")
        return _not_openable(self._prefix + name, kind, "file")

    def read(self, name: str, max_size: int = MAX_FILE_SIZE) -> Blob:
        """Read the regular file ``name``, of at most ``max_size`` bytes."""
        file = self._prefix + name
        kind = self.names.get(name)
        if kind is None:
            return Blob(file, "absent")
        if kind != "file":
            return _not_openable(file, kind, "file")
        try:
            fd = os.open(name, _FILE, dir_fd=self._fd)
        except OSError as error:
            return _refused(file, error)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return _not_openable(file, "unsafe", "file")
            if status.st_size > max_size:
                return Blob(file, "unsafe", reason=f"expected at most {max_size} bytes, found {status.st_size}")
            data = os.read(fd, status.st_size + 1)
            while len(data) < status.st_size and (more := os.read(fd, status.st_size - len(data))):
                data += more
            return Blob(file, "sound", data)
        except OSError as error:
            return _refused(file, error)
        finally:
            os.close(fd)


def open_experiment(root: str | os.PathLike[str]) -> Folder:
    """Open an experiment's root directory. The root itself may be named through links: the user named it.

    :raises OSError: it is not a directory that can be listed.
    """
    return Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")


def _not_openable(file: str, kind: str, expected: str) -> Blob:
    if kind == "unsafe":
        return Blob(file, "unsafe", reason=f"expected a {expected}, found a link, pipe, socket or device")
    return Blob(file, "malformed", reason=f"expected a {expected}, found a {kind}")


def _refused(file: str, error: OSError) -> Blob:
    if error.errno == errno.ENOENT:
        return Blob(file, "absent")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return Blob(file, "unsafe", reason="expected no link, pipe, socket or device")
    return Blob(file, "unsafe", reason=f"cannot be read: {os.strerror(error.errno or 0)}")


def parse_object(data: bytes | str) -> dict[str, Json]:
    """Parse one JSON object, strictly: what two readers could understand differently is refused.

    Refused are: bytes that are not UTF-8, a byte order mark, anything but one object, a key given twice, NaN,
    Infinity and numbers that no double or 64-bit integer holds, and nesting deeper than 100. A ``\\uD800``-style escape
    without its partner is accepted, as JSON allows it: text cut in the middle of a character is still evidence.

    :raises MalformedJSON: with the reason.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedJSON(f"expected UTF-8, found another byte at offset {error.start}") from None
    except RecursionError:
        raise MalformedJSON(f"expected nesting of at most {MAX_DEPTH}, found deeper") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise MalformedJSON("expected a JSON object, found an empty file") from None
        if error.pos >= len(text.rstrip()):
            raise MalformedJSON(f"expected a whole JSON object, found that it ends at line {error.lineno}") from None
        raise MalformedJSON(f"expected JSON, found {error.msg} at line {error.lineno} column {error.colno}") from None
    except MalformedJSON:
        raise
    except ValueError as error:
        raise MalformedJSON(f"expected JSON, found {printable(str(error), 100)}") from None
    if type(value) is not dict:
        raise MalformedJSON(f"expected a JSON object, found {describe(value)}")
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedJSON(f"expected nesting of at most {MAX_DEPTH}, found deeper")
    return value


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedJSON(f"expected every key once, found {describe(key)} twice")
            seen.add(key)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise MalformedJSON(f"expected a finite number, found {printable(text, 20)}")
    return value


def _bounded(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise MalformedJSON(f"expected a 64-bit integer, found one of {len(text)} digits")
    return int(text)


def _no_constant(text: str) -> float:
    raise MalformedJSON(f"expected a finite number, found {text}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_finite, parse_int=_bounded, parse_constant=_no_constant
)


def decode_object_at(text: str, start: int) -> tuple[dict[str, Json], int]:
    """Parse the object that begins at ``text[start]``, by the rules of :func:`parse_object`; return it and its end.

    :raises MalformedJSON: there is none.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        raise MalformedJSON("expected a JSON object") from None
    if type(value) is not dict:
        raise MalformedJSON("expected a JSON object")
    brackets = text.count("{", start, end) + text.count("[", start, end)
    if brackets > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedJSON("expected a JSON object")
    return value, end


def _deeper_than(value: Json, limit: int) -> bool:
    # By level, not by recursion: the text decides how deep this goes.
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
