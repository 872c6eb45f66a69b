"""From a run to the outcomes of its items: by an audit, by a repair, or by the plan of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from .auditing.checkpoint import RunFacts, audit_checkpoint, checkpoint_status, read_checkpoint
from .auditing.findings import finding
from .auditing.run import audit_all, audit_run, examine, garbage_collection_paused
from .experiment.checkpoint import Checkpoint, update_checkpoint
from .experiment.errors import ExperimentGone
from .experiment.keeping import Keeping
from .experiment.layout import CHECKPOINT, CONFIG, RunId
from .experiment.wording import printable
from .experiment.writing import CannotWrite
from .outcomes import CHECKPOINT_ID, AuditedExperiment, ItemOutcome, outcomes_of_run
from .repair.actions import Action
from .repair.checkpoint import planned_repair, repair_checkpoint
from .repair.regenerate import regenerate as default_regenerate
from .repair.remedies import remedy_of_checkpoint
from .repair.transaction import draft_repair, planned_actions, repair_run

if TYPE_CHECKING:
    from .auditing.run import RunAudit
    from .auditing.status import Case
    from .judging.terms import JudgeTerms
    from .repair.plan import Admits, Plan
    from .repair.request import Regenerate
    from .settings import Settings

Outcomes = dict[str, ItemOutcome]
"""By item name: "judge_01", .., "run"."""

Actions = Mapping[str, tuple[Action, ...]]
"""What was done, by the name of the item that it was about."""


def audit_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run."""
    try:
        with garbage_collection_paused():
            case, audit = examine(audited.experiment, run, settings.policy)
            audited.facts[run] = RunFacts.of(audit)
            return outcomes_after(audited, case, audit, settings)
    except ExperimentGone as error:
        return gone(audited, run, error)


def draft_items(audited: AuditedExperiment, run: RunId, settings: Settings) -> Outcomes:
    """Audit a run, and keep the plan of its repair at hand, as it is if nobody overrides the fixture."""
    try:
        case, audit, draft = draft_repair(audited.experiment, run, settings.policy, default_regenerate)
    except ExperimentGone as error:
        return gone(audited, run, error)
    audited.facts[run] = RunFacts.of(audit)
    if draft.plan.steps:
        audited.drafts[run] = draft.to_keep()
    for slot in case.evidence.slots:
        if "failed" not in slot.timing.data and (seconds := slot.timing.data.get("judge_duration_seconds")) is not None:
            audited.judge_seconds.append((slot.model, seconds))
    if (seconds := case.evidence.timing.data.get("agent_duration_seconds")) is not None:
        audited.agent_seconds.append((audited.agent_model, seconds))
    return outcomes_after(audited, case, audit, settings, draft.plan)


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
    audited: AuditedExperiment, case: Case, audit: RunAudit, settings: Settings, plan: Plan | None = None
) -> Outcomes:
    """The outcomes of a run by its audit, such as after something was done to it; what may stay as it is is waived.

    :param plan: the plan of the free repair of all of it, if that is at hand.
    """
    found = outcomes_of_run(audited.experiment, case, audit, strict=settings.strict, plan=plan)
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
    return dict.fromkeys((name for name, _ in audited.items_of(run)), _gone(error))


def _gone(error: ExperimentGone) -> ItemOutcome:
    found = finding("experiment-gone", CONFIG, f"expected an experiment, found {os.strerror(error.errno or 0)}")
    return ItemOutcome("unsafe", "failed", (found,), "none")


# The checkpoint


def audit_checkpoint_item(audited: AuditedExperiment, settings: Settings) -> ItemOutcome:
    """Audit the checkpoint, by what is known of the runs; those of which nothing is are audited."""
    try:
        return _judge_checkpoint(audited, _facts(audited, settings))
    except ExperimentGone as error:
        return _gone(error)


def repair_checkpoint_item(audited: AuditedExperiment, settings: Settings) -> tuple[ItemOutcome, tuple[Action, ...]]:
    """Mend the checkpoint by what the disk proves now; the outcome after it, and what was done."""
    experiment = audited.experiment
    facts: dict[RunId, RunFacts] = {}

    def read_runs() -> dict[RunId, RunFacts]:
        facts.update((audit.run, RunFacts.of(audit)) for audit in audit_all(experiment, settings.policy))
        return facts

    try:
        try:
            with Keeping(experiment.root) as keeping:
                action = repair_checkpoint(experiment, keeping, read_runs)
        except CannotWrite as error:
            action = Action("regenerate", CHECKPOINT, "failed", reason=printable(str(error)))
        after = _judge_checkpoint(audited, facts or _facts(audited, settings))
    except ExperimentGone as error:
        return _gone(error), ()
    return after, () if action is None else (action,)


def plan_checkpoint_item(
    audited: AuditedExperiment, settings: Settings, ahead: Mapping[RunId, RunFacts | None]
) -> tuple[Action, ...]:
    """Plan the same for when the runs ``ahead`` are repaired, with what the disk proves of them then.

    ``None`` stands for a run that judges decide about. Their answer is taken to be the one that is recorded, if any is;
    where agents may run, each run is recorded as it ends.
    """
    assert settings.repair is not None
    try:
        facts = _facts(audited, settings)
        checkpoint = Checkpoint(read_checkpoint(audited.experiment)[0].data)
        for run, found in ahead.items():
            if found is not None:
                facts[run] = found
            elif settings.repair.runs_agents:
                del facts[run]
            else:
                facts[run] = RunFacts("completed", checkpoint.ending_of(run) != "failed")
        action = planned_repair(audited.experiment, facts)
    except ExperimentGone:
        return ()
    return () if action is None else (action,)


def planned_facts(
    audited: AuditedExperiment, run: RunId, settings: Settings, regenerate: Regenerate, admits: Admits
) -> RunFacts | None:
    """What the disk proves of a run once its free repair is done; ``None`` if it can no longer be read."""
    try:
        return RunFacts.of(draft_repair(audited.experiment, run, settings.policy, regenerate, admits)[2].plan.audit)
    except ExperimentGone:
        return None


def settled_facts(audited: AuditedExperiment, settings: Settings) -> dict[RunId, RunFacts]:
    """What was found of the runs that a repair leaves as they are, so that it need not be found out again."""
    assert settings.repair is not None
    again = settings.select if settings.repair.fresh else ()
    return {
        run: RunFacts("completed", audited.before[str(run)].passed)
        for run in audited.experiment.runs()
        if all(audited.before[item_id].outcome == "passed" for _, item_id in audited.items_of(run))
        and str(run) not in again
    }


def _facts(audited: AuditedExperiment, settings: Settings) -> dict[RunId, RunFacts]:
    return {
        run: audited.facts.get(run) or RunFacts.of(audit_run(audited.experiment, run, settings.policy))
        for run in audited.experiment.runs()
    }


def _judge_checkpoint(audited: AuditedExperiment, facts: Mapping[RunId, RunFacts]) -> ItemOutcome:
    findings = audit_checkpoint(*read_checkpoint(audited.experiment), facts)
    if not findings:
        return ItemOutcome(checkpoint_status(findings), "passed")
    status = checkpoint_status(findings)
    remedy = remedy_of_checkpoint(status, planned_repair(audited.experiment, facts))
    outcome = ItemOutcome(status, "failed", findings, str(remedy), level=remedy.level)
    return audited.unless_waived(CHECKPOINT_ID, outcome)
