"""Putting new files in their places in an experiment, so that nothing which lay there is lost.

In this order: new content to ``.scylla/staging/``, what it replaces to ``.scylla/quarantine/``, the journal, and then
one renaming a file. Killed anywhere, there are old files or new ones, never halves, and what is not there any more can
be put back by the journal.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256

from .journal import stamp
from .keeping import Keeping, Kept
from .records import Folder
from .strict_json import Json
from .writing import CannotWrite, directory_below, naming


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write, and what the journal says of it.

    ``file`` is relative to the experiment. ``item`` is whose it is: the id of a run or slot, "checkpoint",
    "aggregates"; ``what`` says where ``data`` comes from: "regenerate", "judges" or "agents". ``solves`` are the codes
    of the findings that go away with it; ``sources`` are the files that it comes from, each with the hash of what it
    held, if that is known.
    """

    file: str
    data: bytes
    item: str
    what: str
    solves: tuple[str, ...] = ()
    sources: tuple[tuple[str, str | None], ...] = ()


def put_files(keeping: Keeping, files: Sequence[NewFile]) -> Iterator[NewFile]:
    """Write files in this order, yielding each once it is in its place. Under the lock of what they belong to.

    Nothing is replaced before all are staged, what they replace is kept, and the journal tells of it. Directories that
    they need are made; one that lies in the place of a file is moved to the quarantine as it is.

    :raises CannotWrite: a file could not be written; it was not yielded, and none behind it is in its place.
    """
    with ExitStack() as opened:
        for new in files:
            opened.callback(keeping.discard, new.file)
        places = [_prepare(keeping, opened, new) for new in files]
        if places:
            keeping.write_journal(b"".join(place.journal_entry() for place in places))
        for place in places:
            file = place.new.file
            if place.kept is not None and place.kept.sha256 is None:
                keeping.move_directory(file, place.folder, place.kept)
            _put(keeping, file, place.folder)
            yield place.new


def put_file(keeping: Keeping, new: NewFile) -> None:
    """Write one file as :func:`put_files` does."""
    for _ in put_files(keeping, (new,)):
        pass


def put_update(keeping: Keeping, file: str, data: bytes) -> None:
    """Write ``data`` in the place of ``file``, all of which it carries over: so nothing is kept, and nothing told of.

    Under the lock of what it belongs to.

    :raises CannotWrite: it could not be written, or something else has its place; what was there still is.
    """
    with ExitStack() as opened:
        opened.callback(keeping.discard, file)
        folder = _directory_of(keeping, opened, file)
        status = _status(file, folder)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise CannotWrite(f"{file}: expected a file, found something else")
        keeping.stage(file, data, status)
        _put(keeping, file, folder)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a new file goes: its directory, what lies there now, and where that is kept."""

    new: NewFile
    folder: Folder
    status: os.stat_result | None
    kept: Kept | None

    def journal_entry(self) -> bytes:
        new = self.new
        replaced: dict[str, Json] | None = None
        if self.kept is not None and self.status is not None:
            mode = f"{self.status.st_mode & 0o7777:04o}"
            replaced = {**self.kept.as_data(), "mode": mode, "modified": _modified(self.status)}
        entry = {
            **stamp(),
            "item": new.item,
            "what": new.what,
            "file": new.file,
            "sha256": sha256(new.data).hexdigest(),
            "solves": list(new.solves),
            "sources": [{"file": file, "sha256": digest} for file, digest in new.sources],
            "replaced": replaced,
        }
        return json.dumps(entry).encode() + b"\n"


def _prepare(keeping: Keeping, opened: ExitStack, new: NewFile) -> _Place:
    folder = _directory_of(keeping, opened, new.file)
    status = _status(new.file, folder)
    if status is None:
        keeping.stage(new.file, new.data)
        return _Place(new, folder, None, None)
    if stat.S_ISDIR(status.st_mode):
        keeping.stage(new.file, new.data)
        return _Place(new, folder, status, keeping.place_for_directory(new.file))
    old = folder.read(_name(new.file), status.st_size)
    if old.state != "sound":
        raise CannotWrite(f"{new.file}: {old.reason or 'it disappeared'}")
    keeping.stage(new.file, new.data, status)
    return _Place(new, folder, status, keeping.quarantine(new.file, old.data, status))


def _directory_of(keeping: Keeping, opened: ExitStack, file: str) -> Folder:
    with naming(file):
        return opened.enter_context(directory_below(keeping.experiment, file.split("/")[:-1]))


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def _put(keeping: Keeping, file: str, folder: Folder) -> None:
    keeping.put_in_place(file, folder)
    with naming(file):
        os.fsync(folder.descriptor)


def _status(file: str, folder: Folder) -> os.stat_result | None:
    """The state of what lies in the place of ``file``, in ``folder``; ``None`` where nothing does."""
    with naming(file):
        try:
            return os.stat(_name(file), dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None


def _modified(status: os.stat_result) -> str | None:
    try:
        return datetime.fromtimestamp(status.st_mtime, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):  # a file may claim a year beyond the calendar's
        return None
