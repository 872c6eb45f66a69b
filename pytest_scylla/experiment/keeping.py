"""``.scylla/``: what repairs keep below an experiment's root.

- ``locks/``: one file a run that was repaired.
- ``staging/``: files on their way to their place.
- ``quarantine/``: what was replaced, each file under the hash of its content.
- ``journal/``: what was done, a file a process.
- ``attempts/``: what came of asking a judge, a directory a slot.
- ``pauses/``: which calls wait for a limit to end, a file a command and model.
- ``budget/``: what the calls of a session cost, a file a session.

It is input like everything else in an experiment: nothing in it is followed if it is a link, or believed unchecked.
"""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from .layout import RunId
from .records import Folder, open_experiment
from .strict_json import Json
from .writing import CannotWrite, append, directory, move, naming, remove, write_new

KEEPING = ".scylla"


@dataclass(frozen=True, slots=True)
class Kept:
    """Something in the quarantine: where, and, unless it is a directory, the hash and size of its content."""

    quarantine: str
    sha256: str | None
    size: int | None

    def as_data(self) -> dict[str, Json]:
        """The same as plain data."""
        return {"quarantine": self.quarantine, "sha256": self.sha256, "size": self.size}


class Keeping:
    """An experiment's ``.scylla/``, open for a repair. Use it as a context manager.

    :raises CannotWrite: it cannot be made, or opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened = ExitStack()
        try:
            with naming(KEEPING):
                self.experiment = self._opened.enter_context(open_experiment(root))
                self._own = self._opened.enter_context(directory(self.experiment, KEEPING))
            self._folders = {name: self._make(name) for name in ("locks", "staging", "quarantine", "journal")}
        except BaseException:
            self._opened.close()
            raise

    def __enter__(self) -> Keeping:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _make(self, name: str) -> Folder:
        with naming(f"{KEEPING}/{name}"):
            return self._opened.enter_context(directory(self._own, name))

    def folder(self, name: str) -> Folder:
        """The directory ``name`` of ``.scylla/``, made when it is first asked for, and closed with the rest.

        :raises CannotWrite: it cannot be made, or opened.
        """
        if name not in self._folders:
            self._folders[name] = self._make(name)
        return self._folders[name]

    def lock_path(self, of: RunId | str) -> Path:
        """The file by which a process locks a run, or what else has a name unlike a run's, such as "pauses"."""
        return self.root / KEEPING / "locks" / f"{_flat(str(of))}.lock"

    def stage(self, file: str, data: bytes, like: os.stat_result | None = None) -> None:
        """Write what is to become ``file``, so that only a renaming is left. Under the lock of the file's run.

        :raises CannotWrite: it cannot be written.
        """
        with naming(file):
            write_new(self._folders["staging"], _flat(file), data, like=like)

    def put_in_place(self, file: str, folder: Folder) -> None:
        """Rename what was staged for ``file`` into ``folder``, which is its directory.

        :raises CannotWrite: it cannot be renamed.
        """
        with naming(file):
            move(self._folders["staging"], _flat(file), folder, file.rpartition("/")[2])

    def discard(self, file: str) -> None:
        """Drop what was staged for ``file``, if that is still there."""
        with suppress(OSError):
            remove(self._folders["staging"], _flat(file))

    def quarantine(self, file: str, data: bytes, like: os.stat_result) -> Kept:
        """Keep a copy of ``data``, the content of ``file`` whose state is ``like``.

        :raises CannotWrite: it cannot be written, or something else is in its place.
        """
        digest = sha256(data).hexdigest()
        kept = Kept(f"{KEEPING}/quarantine/{digest[:2]}/{digest}", digest, len(data))
        with naming(kept.quarantine), directory(self._folders["quarantine"], digest[:2]) as folder:
            existing = folder.read(digest, max(len(data), 1))
            if existing.state == "absent":
                staging, name = self._folders["staging"], _flat(f"{file}.old")
                write_new(staging, name, data, like=like)
                try:
                    os.utime(name, ns=(like.st_atime_ns, like.st_mtime_ns), dir_fd=staging.descriptor)
                    move(staging, name, folder, digest)
                except BaseException:
                    remove(staging, name)
                    raise
                os.fsync(folder.descriptor)
            elif existing.state != "sound" or existing.data != data:
                raise CannotWrite(f"{kept.quarantine}: expected the content that its name is the hash of")
        return kept

    def place_for_directory(self, file: str) -> Kept:
        """Where in the quarantine a directory goes that lies in the place of ``file``."""
        return Kept(f"{KEEPING}/quarantine/{_flat(file)}.{time.time_ns()}", None, None)

    def move_directory(self, file: str, folder: Folder, kept: Kept) -> None:
        """Move the directory that lies in the place of ``file``, in ``folder``, to the quarantine as it is.

        :raises CannotWrite: it cannot be moved.
        """
        with naming(file):
            target = self._folders["quarantine"]
            move(folder, file.rpartition("/")[2], target, kept.quarantine.rpartition("/")[2])
            os.fsync(target.descriptor)

    def write_journal(self, lines: bytes) -> None:
        """Append to this process's journal.

        :raises CannotWrite: it cannot be written.
        """
        name = f"{host_name()}-{os.getpid()}.jsonl"
        with naming(f"{KEEPING}/journal/{name}"):
            append(self._folders["journal"], name, lines)


def _flat(file: str) -> str:
    return file.replace("/", "-")


def host_name() -> str:
    """This host, as what is kept names it."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", platform.node())[:64] or "host"
