"""``.scylla/attempts/``: what came of asking a judge, a directory a slot.

``NN.json`` tells of one attempt; beside it lies what the judge replied: ``NN.response.txt``, ``NN.stdout.log``,
``NN.stderr.log``. The number counts from 01, over all sessions, and none is ever given twice: a reply was paid for,
whatever it is worth.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from .journal import known_cost
from .keeping import KEEPING, Keeping
from .layout import SlotId
from .records import Folder, open_below
from .schemas import as_record
from .timestamps import moment
from .wording import printable
from .writing import CannotWrite, directory, move, naming, remove, write_new

MOST_ATTEMPTS = 999
"""How many attempts at a slot can be kept."""

_ATTEMPTS = "attempts"
_REPLY_FILES = ("response.txt", "stdout.log", "stderr.log")
_NAME = re.compile(rf"([0-9]{{2,3}})\.({'|'.join(map(re.escape, ('json', *_REPLY_FILES)))})")
_LONGEST_RECORD = 64 * 1024


class KeptReply(NamedTuple):
    """What a judge replied: the text of its answer, and what its command line printed; empty where there is none."""

    response: bytes
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a judge was asked for a slot's verdict and answered, or failed for a reason of the slot.

    ``prompt_sha256`` is of the run's judge_prompt.md. ``failure`` says in one line why no answer came, and ``unusable``
    why the answer that came is no verdict; each is ``None`` where that is not so. ``cost_usd`` is ``None`` where it is
    not known.
    """

    number: int
    model: str
    prompt_sha256: str
    ended_at: datetime
    seconds: float
    cost_usd: float | None
    failure: str | None
    unusable: str | None

    @property
    def reason(self) -> str | None:
        """Why it came to no verdict; ``None`` where it did come to one."""
        return self.unusable if self.failure is None else self.failure

    @property
    def counts(self) -> bool:
        """Whether it is one of those of which a slot has only so many."""
        return self.reason is not None


def attempts_folder(slot: SlotId) -> str:
    """Where a slot's attempts are kept, relative to the experiment."""
    return "/".join(_parts(slot))


def keep_attempt(
    keeping: Keeping,
    slot: SlotId,
    *,
    model: str,
    prompt_sha256: str,
    ended_at: datetime,
    seconds: float,
    cost_usd: float | None = None,
    failure: str | None = None,
    unusable: str | None = None,
    response: bytes = b"",
    stdout: bytes = b"",
    stderr: bytes = b"",
) -> Attempt:
    """Keep an attempt under the number after the last. Under the lock of the slot's run.

    :param ended_at: with a time zone.
    :param cost_usd: as the judge reported it; what is no cost counts as not known.
    :param response: the text of the answer that came; ``stdout`` and ``stderr`` are what a command line printed.
    :raises CannotWrite: it cannot be written; a number that it took remains taken.
    """
    place, base = attempts_folder(slot), _parts(slot)[-1]
    with naming(place), directory(keeping.folder(_ATTEMPTS), base) as folder:
        number = max(_numbers(folder.names()), default=0) + 1
        if number > MOST_ATTEMPTS:
            raise CannotWrite(f"{place}: expected at most {MOST_ATTEMPTS} attempts")
        attempt = Attempt(
            number,
            model,
            prompt_sha256,
            ended_at,
            float(seconds),
            known_cost(cost_usd),
            _one_line(failure),
            _one_line(unusable),
        )
        for name, data in zip(_REPLY_FILES, (response, stdout, stderr), strict=True):
            write_new(folder, f"{number:02d}.{name}", data)
        _put_record(keeping.folder("staging"), folder, slot, attempt)
    return attempt


def attempts_of(root: Folder, slot: SlotId) -> tuple[Attempt, ...]:
    """The attempts at ``slot`` in the experiment ``root``, in their order; nothing is written.

    What is no sound record of an attempt at this slot is passed over.
    """
    folder = open_below(root, _parts(slot))
    if not isinstance(folder, Folder):
        return ()
    with folder:
        try:
            numbers = sorted(_numbers(name for name in folder.names() if name.endswith(".json")))
        except OSError:
            return ()
        found = (_read(folder, slot, number) for number in numbers)
        return tuple(attempt for attempt in found if attempt is not None)


def kept_reply(root: Folder, slot: SlotId, attempt: Attempt) -> KeptReply | None:
    """What the judge replied in an attempt at ``slot``; ``None`` where not all of it is left to be read."""
    folder = open_below(root, _parts(slot))
    if not isinstance(folder, Folder):
        return None
    with folder:
        blobs = [folder.read(f"{attempt.number:02d}.{name}") for name in _REPLY_FILES]
    if any(blob.state != "sound" for blob in blobs):
        return None
    return KeptReply(*(blob.data for blob in blobs))


def _parts(slot: SlotId) -> tuple[str, str, str]:
    return KEEPING, _ATTEMPTS, str(slot).replace("/", "-")


def _numbers(names: Iterable[str]) -> set[int]:
    """The numbers that files of these names have, whatever the files are."""
    return {int(match[1]) for name in names if (match := _NAME.fullmatch(name)) is not None}


def _one_line(reason: str | None) -> str | None:
    return None if reason is None else printable(reason).strip() or "no reason was given"


def _put_record(staging: Folder, folder: Folder, slot: SlotId, attempt: Attempt) -> None:
    record = {
        "slot": str(slot),
        "number": attempt.number,
        "model": attempt.model,
        "prompt_sha256": attempt.prompt_sha256,
        "ended_at": attempt.ended_at.isoformat(),
        "seconds": attempt.seconds,
        "cost_usd": attempt.cost_usd,
        "failure": attempt.failure,
        "unusable": attempt.unusable,
    }
    name = f"{_parts(slot)[-1]}-attempt.json"
    write_new(staging, name, json.dumps(record, indent=2).encode())
    try:
        move(staging, name, folder, f"{attempt.number:02d}.json")
    except BaseException:
        remove(staging, name)
        raise
    os.fsync(folder.descriptor)


def _read(folder: Folder, slot: SlotId, number: int) -> Attempt | None:
    record = as_record(folder.read(f"{number:02d}.json", _LONGEST_RECORD), "attempt")
    data = record.data
    if not record.sound or (data["slot"], data["number"]) != (str(slot), number):
        return None
    ended_at = moment(data["ended_at"])
    if ended_at is None:
        return None
    return Attempt(
        number,
        data["model"],
        data["prompt_sha256"],
        ended_at,
        float(data["seconds"]),
        known_cost(data["cost_usd"]),
        _one_line(data["failure"]),
        _one_line(data["unusable"]),
    )
