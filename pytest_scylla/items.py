"""From a run to the outcomes of its items: by an audit, by a repair, or by the plan of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .auditing.findings import finding
from .auditing.run import examine, garbage_collection_paused
from .experiment.errors import ExperimentGone
from .experiment.layout import CONFIG, RunId
from .outcomes import AuditedExperiment, ItemOutcome, outcomes_of_run
from .repair.regenerate import regenerate as default_regenerate
from .repair.transaction import draft_repair, planned_actions, repair_run

if TYPE_CHECKING:
    from .options import Settings
    from .repair.actions import Action
    from .repair.plan import Admits
    from .repair.request import Regenerate

Outcomes = dict[str, ItemOutcome]
"""By item name: "judge_01", .., "run"."""


def audit_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run."""
    try:
        with garbage_collection_paused():
            case, audit = examine(audited.experiment, run, settings.policy)
            return outcomes_of_run(audited.experiment, case, audit, strict=settings.strict)
    except ExperimentGone as error:
        return _gone(audited, run, error)


def draft_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run, and keep the plan of its repair at hand, as it is if nobody overrides the fixture."""
    try:
        case, audit, draft = draft_repair(audited.experiment, run, settings.policy, default_regenerate)
    except ExperimentGone as error:
        return _gone(audited, run, error)
    if draft.plan.steps:
        audited.drafts[run] = draft.to_keep()
    return outcomes_of_run(audited.experiment, case, audit, strict=settings.strict, plan=draft.plan)


def repair_items(
    audited: AuditedExperiment, run: RunId, settings: Settings, regenerate: Regenerate, admits: Admits
) -> tuple[Outcomes, Mapping[str, tuple[Action, ...]]]:
    """Repair what ``admits`` lets act on of a run, or plan it; the outcomes after it, and what was done by item."""
    assert settings.repair is not None
    experiment, policy = audited.experiment, settings.policy
    try:
        if settings.repair.plan_only:
            case, audit, draft = draft_repair(experiment, run, policy, regenerate, admits)
            return outcomes_of_run(experiment, case, audit, strict=settings.strict), planned_actions(draft.plan)
        draft_at_hand = audited.drafts.pop(run, None) if regenerate is default_regenerate else None
        if draft_at_hand is not None and not all(admits(item) for item in draft_at_hand.plan.items):
            draft_at_hand = None
        repaired = repair_run(experiment, run, policy, regenerate, admits, draft_at_hand)
    except ExperimentGone as error:
        return _gone(audited, run, error), {}
    outcomes = outcomes_of_run(experiment, repaired.case, repaired.audit, strict=settings.strict)
    return outcomes, repaired.actions


def _gone(audited: AuditedExperiment, run: RunId, error: ExperimentGone) -> Outcomes:
    gone = finding("experiment-gone", CONFIG, f"expected an experiment, found {os.strerror(error.errno or 0)}")
    names = [name for name, _ in audited.items_of(run)]
    return dict.fromkeys(names, ItemOutcome("unsafe", "failed", (gone,), "none"))
