"""An execution under way: what it is about, and what its agent printed, in ``.scylla/running/``.

What an agent prints goes there as it comes, and how it ended is noted behind it, by a process that outlives the session
for that moment. So an agent that came to its end is never run again, whenever the session is killed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..experiment.keeping import KEEPING, Keeping
from ..experiment.layout import RunId
from ..experiment.records import Blob, Folder
from ..experiment.strict_json import MalformedJSON, parse_object
from ..experiment.writing import directory, move, naming, remove, write_new

_FOLDER, _RECORD = "running", "execution.json"


@dataclass(frozen=True, slots=True)
class Pending:
    """An execution: which attempt at the run, of which model, with which prompt (its hash), from which commit."""

    attempt: int
    model: str
    prompt_sha256: str
    branch: str
    base_commit: str


def outputs_of(root: Path, run: RunId) -> Path:
    """The directory for what the agent of a run prints."""
    return root / KEEPING / _FOLDER / _name(run)


def begin(keeping: Keeping, run: RunId, pending: Pending) -> None:
    """Make the directory of an execution, empty but for what it is about; what is left of another is kept aside.

    :raises CannotWrite: it cannot be made.
    """
    name, parent = _name(run), keeping.folder(_FOLDER)
    file = f"{parent.file}/{name}"
    with naming(file):
        if parent.kind(name) is not None:
            keeping.move_directory(file, parent, keeping.place_for_directory(file))
        staging, staged = keeping.folder("staging"), f"{name}-{_RECORD}"
        with directory(parent, name) as folder:
            write_new(staging, staged, json.dumps(asdict(pending), indent=2).encode())
            move(staging, staged, folder, _RECORD)
            os.fsync(folder.descriptor)


def unfinished(keeping: Keeping, run: RunId) -> Pending | None:
    """What an execution of ``run`` is about whose files are not all in their place; ``None`` if there is none.

    :raises CannotWrite: the directory of all executions cannot be opened.
    """
    folder = keeping.folder(_FOLDER).open(_name(run))
    if isinstance(folder, Blob):
        return None
    with folder:
        return _read(folder)


def end(keeping: Keeping, run: RunId) -> None:
    """Remove what is kept of an execution whose files are in their place."""
    parent, name = keeping.folder(_FOLDER), _name(run)
    folder = parent.open(name)
    if isinstance(folder, Blob):
        return
    with folder, suppress(OSError):
        for file in ("notes", "stdout", "stderr", _RECORD):  # without notes, nothing is made of the rest
            remove(folder, file)
        Path(outputs_of(keeping.root, run)).rmdir()


def _name(run: RunId) -> str:
    return str(run).replace("/", "-")


def _read(folder: Folder) -> Pending | None:
    try:
        found = parse_object(folder.read(_RECORD).data)
    except MalformedJSON:
        return None
    texts = [found.get(name) for name in ("model", "prompt_sha256", "branch", "base_commit")]
    attempt = found.get("attempt")
    if type(attempt) is not int or not all(isinstance(text, str) for text in texts):
        return None
    return Pending(attempt, *(str(text) for text in texts))
