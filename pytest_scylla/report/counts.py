"""How many runs and judge slots have which status, over the whole matrix whatever was selected."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..auditing.findings import RUN_STATUSES, SLOT_STATUSES
from ..outcomes import NOT_AUDITED, AuditedExperiment, ItemOutcome

Counts = dict[str, Any]

UNKNOWN = ItemOutcome(NOT_AUDITED, "not-run")


def count(audited: AuditedExperiment, *, before: bool = False) -> Counts:
    """Return the COUNTS of the report's contract: ``runs`` and ``judge_slots`` by status.

    :param before: as first audited, in a session that repairs; what it left is what there is in any other.
    """
    runs: Counts = {"expected": 0, **dict.fromkeys(RUN_STATUSES, 0), NOT_AUDITED: 0}
    slots: Counts = {"expected": 0, **dict.fromkeys(SLOT_STATUSES, 0), NOT_AUDITED: 0, "fallback": 0}
    by_slot: dict[str, Counts] = {
        str(number): {
            "model": model,
            "expected": 0,
            **dict.fromkeys(SLOT_STATUSES, 0),
            NOT_AUDITED: 0,
            "fallback": 0,
        }
        for number, model in enumerate(audited.experiment.config.judge_models, 1)
    }
    names = [(number, f"judge_{int(number):02d}") for number in by_slot]
    outcomes = (before and audited.before) or audited.outcomes
    for run in audited.experiment.runs():
        run_id = str(run)
        runs["expected"] += 1
        runs[outcomes.get(run_id, UNKNOWN).status] += 1
        for number, name in names:
            outcome = outcomes.get(f"{run_id}/{name}", UNKNOWN)
            for row in (slots, by_slot[number]):
                row["expected"] += 1
                row[outcome.status] += 1
                row["fallback"] += outcome.fallback and outcome.status == "complete"
    return {"runs": runs, "judge_slots": {**slots, "by_slot": by_slot}}


def count_by_tier(audited: AuditedExperiment) -> dict[str, Counts]:
    """The same by tier, but for the single slots: ``runs`` and ``judge_slots`` by status, those that occur."""
    tiers: dict[str, Counts] = {}
    for run in audited.experiment.runs():
        row = tiers.setdefault(run.tier, {"runs": Counter(), "judge_slots": Counter()})
        for name, item_id in audited.items_of(run):
            row["runs" if name == "run" else "judge_slots"][audited.outcomes.get(item_id, UNKNOWN).status] += 1
    return tiers


def completeness(audited: AuditedExperiment) -> float | None:
    """Sound items / expected items; ``None`` unless every expected item is known and was audited."""
    expected = audited.expected_items
    if audited.experiment.unknown_tiers or not expected or audited.audited_items < expected:
        return None
    sound = sum(found.status in ("completed", "complete") for found in audited.outcomes.values())
    return sound / expected
