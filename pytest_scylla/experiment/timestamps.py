"""Moments as an experiment's files write them: ISO 8601."""

from __future__ import annotations

from datetime import datetime, timezone

from .strict_json import Json


def moment(text: Json) -> datetime | None:
    """Read a moment, in UTC where it names no zone; ``None`` where ``text`` is none.

    >>> moment("2026-01-20T06:13:51Z") == moment("2026-01-20T06:13:51+00:00")
    True
    """
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
