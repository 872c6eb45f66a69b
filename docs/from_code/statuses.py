"""The words for how items stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_scylla.aggregates.status import AGGREGATES_STATUSES
from pytest_scylla.auditing.checkpoint import CHECKPOINT_STATUSES
from pytest_scylla.auditing.findings import RUN_STATUSES, SLOT_STATUSES

from .wording import cell, prose

STATUSES: dict[str, Mapping[Any, str]] = {
    "run": RUN_STATUSES,
    "slot": SLOT_STATUSES,
    "checkpoint": CHECKPOINT_STATUSES,
    "aggregates": AGGREGATES_STATUSES,
}


def table(kind: str) -> str:
    """The statuses of a kind of items, with what each means."""
    rows = (f"| `{kind}:{status}` | {cell(prose(meaning))} |" for status, meaning in STATUSES[kind].items())
    return "\n".join(("| status | means |", "|---|---|", *rows))
