"""From a run to the outcomes of its items: by an audit, by a repair, or by the plan of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from .auditing.findings import finding
from .auditing.run import examine, garbage_collection_paused
from .experiment.checkpoint import update_checkpoint
from .experiment.errors import ExperimentGone
from .experiment.keeping import Keeping
from .experiment.layout import CONFIG, RunId
from .experiment.writing import CannotWrite
from .outcomes import AuditedExperiment, ItemOutcome, outcomes_of_run
from .repair.regenerate import regenerate as default_regenerate
from .repair.transaction import draft_repair, planned_actions, repair_run

if TYPE_CHECKING:
    from .aggregates.facts import RunFigures
    from .auditing.run import RunAudit
    from .auditing.status import Case
    from .judging.terms import JudgeTerms
    from .repair.actions import Action
    from .repair.plan import Admits, Plan
    from .repair.request import Regenerate
    from .settings import Settings

Outcomes = dict[str, ItemOutcome]
"""By item name: "judge_01", .., "run"."""

Actions = Mapping[str, "tuple[Action, ...]"]
"""What was done, by the name of the item that it was about."""


def audit_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run."""
    try:
        with garbage_collection_paused():
            case, audit = examine(audited.experiment, run, settings.policy)
            return outcomes_after(audited, case, audit, settings, figures=audited.learn(case, audit))
    except ExperimentGone as error:
        return gone(audited, run, error)


def draft_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run, and keep the plan of its repair at hand, as it is if nobody overrides the fixture."""
    try:
        case, audit, draft = draft_repair(audited.experiment, run, settings.policy, default_regenerate)
    except ExperimentGone as error:
        return gone(audited, run, error)
    figures = audited.learn(case, audit)
    if draft.plan.steps:
        audited.drafts[run] = draft.to_keep()
    for slot in case.evidence.slots:
        if "failed" not in slot.timing.data and (seconds := slot.timing.data.get("judge_duration_seconds")) is not None:
            audited.judge_seconds.append((slot.model, seconds))
    if (seconds := case.evidence.timing.data.get("agent_duration_seconds")) is not None:
        audited.agent_seconds.append((audited.agent_model, seconds))
    return outcomes_after(audited, case, audit, settings, figures=figures, plan=draft.plan)


def repair_items(
    audited: AuditedExperiment,
    run: RunId,
    settings: Settings,
    regenerate: Regenerate,
    admits: Admits,
    *,
    wait: bool = True,
) -> tuple[Outcomes, Actions]:
    """Rebuild what ``admits`` lets act on of a run; the outcomes after it, and what was done.

    :raises Held: another process is at work on the run, and this one was not to ``wait``.
    """
    try:
        draft = audited.drafts.pop(run, None) if regenerate is default_regenerate else None
        if draft is not None and not all(admits(item) for item in draft.plan.items):
            draft = None
        repaired = repair_run(audited.experiment, run, settings.policy, regenerate, admits, draft, wait=wait)
    except ExperimentGone as error:
        return gone(audited, run, error), {}
    return outcomes_after(audited, repaired.case, repaired.audit, settings), repaired.actions


def plan_items(
    audited: AuditedExperiment,
    run: RunId,
    settings: Settings,
    regenerate: Regenerate,
    admits: Admits,
    terms: JudgeTerms,
    to_judge: Iterable[str],
) -> tuple[Outcomes, Actions]:
    """Plan the same, and the judge calls for the slots ``to_judge``; nothing is written, nobody is asked."""
    experiment = audited.experiment
    try:
        case, audit, draft = draft_repair(experiment, run, settings.policy, regenerate, admits)
    except ExperimentGone as error:
        return gone(audited, run, error), {}
    actions = dict(planned_actions(draft.plan))
    to_judge = list(to_judge)
    if to_judge:
        from .judging.plan import planned_calls

        assert draft.plan.case is not None
        calls = planned_calls(
            experiment, draft.plan.case, draft.plan.audit, to_judge, settings.policy, terms, regenerate, admits
        )
        for name, planned in calls.items():
            actions[name] = (*actions.get(name, ()), *planned)
    return outcomes_after(audited, case, audit, settings), actions


def outcomes_after(
    audited: AuditedExperiment,
    case: Case,
    audit: RunAudit,
    settings: Settings,
    *,
    figures: RunFigures | None = None,
    plan: Plan | None = None,
) -> Outcomes:
    """The outcomes of a run by its audit, such as after something was done to it; what may stay as it is is waived.

    :param figures: what the run amounts to, if that is at hand.
    :param plan: the plan of the free repair of all of it, if that is at hand.
    """
    found = outcomes_of_run(audited.experiment, case, audit, strict=settings.strict, figures=figures, plan=plan)
    if audited.waivers is not None:
        for name, item_id in audited.items_of(audit.run):
            found[name] = audited.unless_waived(item_id, found[name])
    return found


def record_run(audited: AuditedExperiment, audit: RunAudit) -> None:
    """Record in the checkpoint how a run ended, once it did."""
    if audit.status == "completed" and audit.passed is not None:
        # What cannot be recorded is told by the checkpoint's own item.
        with suppress(CannotWrite), Keeping(audited.experiment.root) as keeping:
            update_checkpoint(audited.experiment, keeping, {audit.run: "passed" if audit.passed else "failed"})


def gone(audited: AuditedExperiment, run: RunId, error: ExperimentGone) -> Outcomes:
    """The outcomes of a run whose experiment can no longer be opened."""
    return dict.fromkeys((name for name, _ in audited.items_of(run)), experiment_gone(error))


def experiment_gone(error: ExperimentGone) -> ItemOutcome:
    """The outcome of an item whose experiment can no longer be opened."""
    found = finding("experiment-gone", CONFIG, f"expected an experiment, found {os.strerror(error.errno or 0)}")
    return ItemOutcome("unsafe", "failed", (found,), "none")
