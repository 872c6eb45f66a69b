"""Limits that were met: until when no call of a command and model is made, whoever would make it.

A pause is a file below the experiment, so that all workers know of it, on all hosts that share the directory. It ends
by itself; whoever knows better, for they have bought credit or changed the account, deletes the file.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

from ..experiment.keeping import KEEPING, Keeping
from ..experiment.locks import locked
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.schemas import is_valid
from ..experiment.strict_json import MalformedJSON, parse_object
from ..experiment.timestamps import moment
from ..experiment.wording import printable
from ..experiment.writing import naming

LONGEST = timedelta(days=7)
"""No pause reaches further ahead: neither a wrong clock nor a forged file stops the calls for good."""

_FOLDER = "pauses"
_MAX_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Pause:
    """No call of ``command`` and ``model`` is made before ``until`` (in UTC), for the ``reason``, one printable line.

    ``command`` and ``model`` are as they were called, and are not fit to be shown as they are.
    """

    command: str
    model: str
    until: datetime
    reason: str


def set_pause(keeping: Keeping, command: str, model: str, until: datetime, reason: str) -> None:
    """Let no call of ``command`` and ``model`` be made before ``until``, which has a time zone.

    Of that, at most :data:`LONGEST` is kept. A pause that is there already and ends later stays; a moment that has
    passed pauses nothing.

    :raises CannotWrite: it cannot be written.
    """
    now = datetime.now(timezone.utc)
    if until <= now:
        return
    until = min(until, now + LONGEST).astimezone(timezone.utc)
    name, file = _name_for(command, model), pause_file(command, model)
    entry = {"command": command, "model": model, "until": until.isoformat(), "reason": printable(reason)}
    folder = keeping.folder(_FOLDER)
    with ExitStack() as held:
        with naming(file):
            held.enter_context(locked(keeping.lock_path(_FOLDER)))
        present = _read(folder, name, now)
        if present is None or present.until < until:
            held.callback(keeping.discard, file)
            keeping.stage(file, json.dumps(entry, indent=2).encode())
            keeping.put_in_place(file, folder)
            with naming(file):
                os.fsync(folder.descriptor)


def pause_file(command: str, model: str) -> str:
    """Where the pause of ``command`` and ``model`` is kept, relative to the experiment; without it, there is none."""
    return f"{KEEPING}/{_FOLDER}/{_name_for(command, model)}"


def paused_until(experiment: Path | Folder, command: str, model: str, now: datetime) -> Pause | None:
    """The pause of ``command`` and ``model`` that holds at ``now``, which has a time zone; ``None`` where none does.

    ``experiment`` is an experiment's root. Nothing is written; a file that is no sound pause of these two holds nobody.

    :raises OSError: the experiment cannot be opened.
    """
    with ExitStack() as opened:
        folder = _open(experiment, opened)
        return None if folder is None else _read(folder, _name_for(command, model), now)


def pauses(experiment: Path | Folder, now: datetime) -> tuple[Pause, ...]:
    """All pauses that hold at ``now``, as :func:`paused_until` finds them, by command and model.

    :raises OSError: the experiment cannot be opened, or its pauses not be listed.
    """
    with ExitStack() as opened:
        folder = _open(experiment, opened)
        if folder is None:
            return ()
        found = [pause for name in folder.names() if (pause := _read(folder, name, now)) is not None]
    return tuple(sorted(found, key=lambda pause: (pause.command, pause.model)))


def _open(experiment: Path | Folder, opened: ExitStack) -> Folder | None:
    if isinstance(experiment, Path):
        experiment = opened.enter_context(open_experiment(experiment))
    folder = open_below(experiment, (KEEPING, _FOLDER))
    return None if isinstance(folder, Blob) else opened.enter_context(folder)


def _read(folder: Folder, name: str, now: datetime) -> Pause | None:
    try:
        entry = parse_object(folder.read(name, _MAX_SIZE).data)
    except MalformedJSON:
        return None
    until = moment(entry.get("until"))
    if not is_valid("pause", entry) or until is None or not now < until <= now + LONGEST:
        return None
    pause = Pause(entry["command"], entry["model"], until.astimezone(timezone.utc), printable(entry["reason"]))
    return pause if name == _name_for(pause.command, pause.model) else None


def _name_for(command: str, model: str) -> str:
    # As JSON, so that no other two give the same text.
    return sha256(json.dumps([command, model]).encode()).hexdigest() + ".json"
