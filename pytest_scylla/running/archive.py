"""Where earlier attempts at a run go: ``.failed/`` beside it, each under a name of its own, and whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from ..experiment.expected import Experiment
from ..experiment.journal import stamp
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.records import Blob, Folder, open_below
from ..experiment.writing import CannotWrite, directory, move, naming
from .contract import CannotPrepare
from .workspace import WORKSPACE, after_return, before_move

FAILED = ".failed"


def attempts_at(keeping: Keeping, place: str) -> int:
    """How many attempts there were at the run in ``place``, relative to the experiment: those archived, and that there.

    :raises CannotWrite: the archive is not a directory.
    """
    with _subtest(keeping, place) as subtest:
        if subtest is None:
            return 0
        with _archive(subtest) as archive:
            there = subtest.kind(place.rpartition("/")[2]) is not None
            return there + (0 if archive is None else len(_names(archive, place)))


def archive_run(experiment: Experiment, keeping: Keeping, run: RunId, place: str) -> str | None:
    """Move a run from its ``place`` to the archive; return where it is then, ``None`` if there was nothing.

    The first attempt is ``.failed/run_01``, the others are ``.failed/run_01_failed_1`` and so on; none is overwritten.

    :raises CannotWrite: it cannot be moved.
    """
    with _subtest(keeping, place) as subtest:
        if subtest is None or subtest.kind(run.name) is None:
            return None
        with naming(f"{subtest.file}/{FAILED}"), directory(subtest, FAILED) as archive:
            taken = _names(archive, place)
            names = (run.name if not number else f"{run.name}_failed_{number}" for number in range(len(taken) + 1))
            name = next(name for name in names if name not in taken)
            target = f"{place.rpartition('/')[0]}/{FAILED}/{name}"
            _tell(keeping, run, place, target)
            with _registered(experiment, place, target):
                _move(subtest, run.name, archive, name)
    return target


def bring_back(experiment: Experiment, keeping: Keeping, run: RunId, archived: str, place: str) -> None:
    """Move an archived attempt back to where it was, which is free.

    :raises CannotWrite: it cannot be moved.
    """
    with _subtest(keeping, place) as subtest:
        if subtest is None:
            raise CannotWrite(f"{archived}: it disappeared")
        with _archive(subtest) as archive:
            if archive is None:
                raise CannotWrite(f"{archived}: it disappeared")
            _tell(keeping, run, archived, place)
            _move(archive, archived.rpartition("/")[2], subtest, run.name)
    before, after = _workspaces(experiment, archived, place)
    if after.is_dir():
        with suppress(CannotPrepare):  # it is where it was to go; only git may not know
            after_return(experiment, before, after)


def remove_empty(keeping: Keeping, place: str) -> bool:
    """Remove the directory of a run in ``place``, if it is empty; return whether nothing is there then.

    :raises CannotWrite: something else has the place of its subtest.
    """
    with _subtest(keeping, place) as subtest:
        if subtest is not None:
            try:
                os.rmdir(place.rpartition("/")[2], dir_fd=subtest.descriptor)
            except FileNotFoundError:
                return True
            except OSError:
                return False
    return True


def _subtest(keeping: Keeping, place: str) -> AbstractContextManager[Folder | None]:
    """The directory of a run's subtest; ``None`` where it is absent."""
    return _if_there(open_below(keeping.experiment, place.split("/")[:-1]))


def _archive(subtest: Folder) -> AbstractContextManager[Folder | None]:
    """The archive of a subtest's runs; ``None`` where it is absent."""
    return _if_there(subtest.open(FAILED))


@contextmanager
def _if_there(opened: Folder | Blob) -> Iterator[Folder | None]:
    if isinstance(opened, Blob):
        if opened.state != "absent":
            raise CannotWrite(f"{opened.file}: {opened.reason}")
        yield None
        return
    with opened:
        yield opened


def _names(archive: Folder, place: str) -> set[str]:
    name = place.rpartition("/")[2]
    return {found for found in archive.names() if found == name or found.startswith(f"{name}_failed_")}


def _move(source: Folder, name: str, target: Folder, new_name: str) -> None:
    file = f"{source.file}/{name}"
    with naming(file):
        if target.kind(new_name) is not None:
            raise CannotWrite(f"{target.file}/{new_name}: expected nothing there, found something")
        move(source, name, target, new_name)
        os.fsync(target.descriptor)
        os.fsync(source.descriptor)


def _tell(keeping: Keeping, run: RunId, file: str, target: str) -> None:
    entry = {**stamp(), "item": str(run), "what": "move", "from": file, "to": target}
    keeping.write_journal(json.dumps(entry).encode() + b"\n")


@contextmanager
def _registered(experiment: Experiment, old: str, new: str) -> Iterator[None]:
    """Let git know of a workspace that the block moves, so that nobody's tidying up loses it.

    Before it is moved: if the block is killed, the next archiving chooses the same target.
    """
    before, after = _workspaces(experiment, old, new)
    if not before.is_dir():
        yield
        return
    with suppress(CannotPrepare):  # it is to go all the same; only git may not know
        before_move(experiment, before, after)
    try:
        yield
    except BaseException:
        with suppress(CannotPrepare):
            after_return(experiment, after, before)
        raise


def _workspaces(experiment: Experiment, old: str, new: str) -> tuple[Path, Path]:
    return Path(experiment.root, old, WORKSPACE), Path(experiment.root, new, WORKSPACE)
