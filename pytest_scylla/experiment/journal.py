"""The journal, ``.scylla/journal/``: what repairs did, a file a process, a line an entry.

An entry tells of a file that was written, or of a call: that it was begun, and then what came of it. One that was begun
and has no end was made by a process that was killed meanwhile. What tells of files is for people to look up; calls that
ended are read back: they show what a call takes and costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from .keeping import KEEPING
from .records import Folder, open_below, open_experiment
from .schemas import is_valid
from .strict_json import Json, MalformedJSON, parse_object
from .timestamps import moment
from .wording import printable

CallKind = Literal["judge-call", "agent-run"]
"""What is called: a judge for a slot, or an agent for a run."""

CallOutcome = Literal["answered", "unusable", "limit", "transient", "timeout", "permanent", "interrupted"]
"""What came of a call: a verdict, an answer that is none, a limit, a failure that may pass, no answer in time, a
failure that will not pass, an interruption."""

MOST_SECONDS = 7 * 24 * 3600
"""No call takes longer: a number beyond it, in a file, is none."""

MOST_USD = 1_000_000
"""No call costs more."""

_MOST_USAGE = 10_000  # characters
_CALLS = ("judge-call", "agent-run")


@dataclass(frozen=True, slots=True)
class CallEntry:
    """A call of a judge, or of an agent, as the journal tells of its end.

    ``item`` is the slot's id, or the run's; ``command`` and ``model`` are what was called; ``attempt`` counts from 1.
    ``cost_usd`` and ``usage`` are ``None`` where they are not known. The texts are as they were read, so not fit to be
    shown.
    """

    time: datetime
    what: CallKind
    item: str
    command: str
    model: str
    attempt: int
    outcome: CallOutcome
    reason: str | None
    cost_usd: float | None
    usage: Mapping[str, Json] | None
    seconds: float


def stamp() -> dict[str, Json]:
    """What every entry begins with: the time, and what wrote it."""
    return {"time": datetime.now(timezone.utc).isoformat(), "tool": f"pytest-scylla {__version__}"}


def begun_entry(*, what: CallKind, item: str, command: str, model: str, attempt: int) -> bytes:
    """The line that tells, before a call for ``item``, that it is made; see :func:`call_entry`."""
    entry = {
        **stamp(),
        "item": item,
        "what": f"{what}-begun",
        "command": command,
        "model": model,
        "attempt": attempt,
    }
    return json.dumps(entry).encode() + b"\n"


def call_entry(
    *,
    what: CallKind,
    item: str,
    command: str,
    model: str,
    attempt: int,
    outcome: CallOutcome,
    seconds: float,
    reason: str | None = None,
    cost_usd: float | None = None,
    usage: Mapping[str, Any] | None = None,
) -> bytes:
    """The line that tells what came of a call for ``item``, for :meth:`.keeping.Keeping.write_journal`.

    What somebody reported as its cost (USD) or usage may be anything; what is no such thing is told of as not known.
    """
    entry = {
        **stamp(),
        "item": item,
        "what": what,
        "command": command,
        "model": model,
        "attempt": attempt,
        "outcome": outcome,
        "reason": None if reason is None else printable(reason),
        "cost_usd": known_cost(cost_usd),
        "usage": _known_usage(usage),
        "seconds": seconds,
    }
    return json.dumps(entry).encode() + b"\n"


def calls_in(root: Path) -> Iterator[CallEntry]:
    """The calls of which the journals of the experiment ``root`` tell the end, a journal after the other.

    What is no sound entry is passed over, as is a journal that may not be read. Nothing is written.

    :raises OSError: the experiment cannot be opened.
    """
    with open_experiment(root) as folder:
        for entry in _entries(folder):
            time = moment(entry["time"])
            if entry["what"] in _CALLS and time is not None:
                yield CallEntry(
                    time=time,
                    what=entry["what"],
                    item=entry["item"],
                    command=entry["command"],
                    model=entry["model"],
                    attempt=int(entry["attempt"]),
                    outcome=entry["outcome"],
                    reason=entry["reason"],
                    cost_usd=entry["cost_usd"],
                    usage=entry["usage"],
                    seconds=entry["seconds"],
                )


def known_cost(reported: object) -> float | None:
    """A cost in USD as somebody reported it; ``None`` where that is no such number."""
    if isinstance(reported, (int, float)) and not isinstance(reported, bool) and 0 <= reported <= MOST_USD:
        return float(reported)
    return None


def _known_usage(reported: object) -> dict[str, Json] | None:
    try:
        text = json.dumps(reported)
        return parse_object(text) if len(text) <= _MOST_USAGE else None
    except (TypeError, ValueError, RecursionError):
        return None


def _entries(root: Folder) -> Iterator[dict[str, Json]]:
    folder = open_below(root, (KEEPING, "journal"))
    if not isinstance(folder, Folder):
        return
    with folder:
        for name in sorted(_names(folder)):
            for line in BytesIO(folder.read(name).data):
                try:
                    entry = parse_object(line)
                except MalformedJSON:
                    continue
                if is_valid("journal-entry", entry):
                    yield entry


def _names(folder: Folder) -> list[str]:
    try:
        return [name for name in folder.names() if name.endswith(".jsonl")]
    except OSError:
        return []
