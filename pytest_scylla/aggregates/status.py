"""How an experiment's aggregates stand, all of them together, and what would put them right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..auditing.findings import RUN_STATUSES, Finding
from ..repair.actions import Action
from ..repair.remedies import UNSAFE, Remedy

AggregatesStatus = Literal["sound", "stale", "missing", "malformed", "unsafe"]

AGGREGATES_STATUSES: dict[AggregatesStatus, str] = {
    "sound": "they say what the runs amount to",
    "stale": "one says something else than the runs",
    "missing": "one is absent, and all its runs are there",
    "malformed": "one is not JSON that can be relied on, or breaks its schema",
    "unsafe": RUN_STATUSES["unsafe"],
}


def aggregates_status(findings: Sequence[Finding]) -> AggregatesStatus:
    """The status of aggregates that an audit has these findings about: that of the worst of them."""
    codes = {found.code for found in findings if found.severity == "error"}
    if "unsafe-object" in codes:
        return "unsafe"
    if codes & {"aggregate-malformed", "aggregate-invalid"}:
        return "malformed"
    if "aggregate-missing" in codes:
        return "missing"
    return "stale" if codes else "sound"


def remedy_of_aggregates(status: AggregatesStatus, planned: Sequence[Action]) -> Remedy:
    """The remedy of aggregates that are not sound, given the plan of their repair."""
    if status == "unsafe":
        return UNSAFE
    refused = next((action.reason for action in planned if action.outcome == "refused"), None)
    but = "" if refused is None else f"; but {refused}"
    return Remedy("regenerate", "free", f"rebuild them from the runs{but}")
