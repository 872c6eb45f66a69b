"""Whether the program that runs an experiment is still at work on it, by its checkpoint."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from .layout import CHECKPOINT
from .processes import is_at_work
from .records import Folder, open_experiment
from .strict_json import Json, MalformedJSON, parse_object
from .timestamps import moment
from .wording import describe

RECENT = timedelta(minutes=10)
"""A running checkpoint updated within this is somebody's, whatever host its process is on."""

_AHEAD = timedelta(days=1)
"""How far ahead of this host's clock an update may be: a moment without a zone is read as UTC, and may be local."""

_AT_WORK = ("running", "paused_rate_limit")


def live_runner(root: Path, now: datetime | None = None) -> str | None:
    """Who holds the experiment at ``root``, in words; ``None`` where nobody does.

    A runner does whose checkpoint says that it is at work and whose process is alive on this host, or that was updated
    within ten minutes. No more of the checkpoint is looked at: one of a version yet unknown holds as well. One that
    cannot be read holds nothing.

    :raises OSError: the experiment cannot be opened.
    """
    with open_experiment(root) as folder:
        checkpoint = _read(folder)
    status, pid = checkpoint.get("status"), checkpoint.get("pid")
    if status not in _AT_WORK:
        return None
    told = f"checkpoint.json says {describe(status)}"
    if type(pid) is int and is_at_work(pid):
        return f"{told}, and its process {pid} is alive on this host"
    updates = filter(None, (moment(checkpoint.get(key)) for key in ("last_updated_at", "last_heartbeat")))
    updated = max(updates, default=None)
    age = None if updated is None else (now or datetime.now(timezone.utc)) - updated
    if age is not None and -_AHEAD < age < RECENT:
        return f"{told}, updated {max(int(age.total_seconds()), 0)} seconds ago by process {describe(pid)}"
    return None


def _read(folder: Folder) -> dict[str, Json]:
    try:
        return parse_object(folder.read(CHECKPOINT).data)
    except MalformedJSON:
        return {}
