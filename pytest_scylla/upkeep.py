"""What follows from an experiment's runs as a whole, its checkpoint and its aggregates: audited, planned, put right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from .aggregates import repair as aggregates
from .aggregates.audit import audit_aggregates
from .aggregates.facts import RunFigures, read_figures
from .aggregates.status import aggregates_status, remedy_of_aggregates
from .auditing.agent_output import TokenCounts
from .auditing.checkpoint import RunFacts, audit_checkpoint, checkpoint_status, read_checkpoint
from .auditing.run import audit_all, examine, garbage_collection_paused
from .experiment.checkpoint import Checkpoint
from .experiment.errors import ExperimentGone
from .experiment.keeping import Keeping
from .experiment.layout import CHECKPOINT, RunId
from .experiment.wording import printable
from .experiment.writing import CannotWrite
from .items import experiment_gone
from .outcomes import AGGREGATES_ID, CHECKPOINT_ID, AuditedExperiment, ItemOutcome
from .repair.actions import Action
from .repair.checkpoint import planned_repair, repair_checkpoint
from .repair.remedies import remedy_of_checkpoint
from .repair.transaction import draft_repair

if TYPE_CHECKING:
    from .experiment.expected import Experiment
    from .repair.plan import Admits
    from .repair.request import Regenerate
    from .settings import Settings


class Foreseen(NamedTuple):
    """What the disk is going to prove of a run."""

    facts: RunFacts
    figures: RunFigures


_NO_TOKENS = TokenCounts(0, 0, 0, 0)

Ahead = Mapping[RunId, Foreseen | None]
"""The runs that are going to be repaired, with what the disk proves of them then; ``None`` where a judge decides."""


class Upkeep(ABC):
    """Keeping one thing as the runs have it; ``subject`` is a file of it that a person would open."""

    item_id: ClassVar[str]
    subject: ClassVar[str]

    def audit(self, audited: AuditedExperiment, settings: Settings) -> ItemOutcome:
        """Audit it, by what is known of the runs; those of which nothing is are audited."""
        try:
            return audited.unless_waived(self.item_id, self._audit(audited, settings))
        except ExperimentGone as error:
            return experiment_gone(error)

    def repair(self, audited: AuditedExperiment, settings: Settings) -> tuple[ItemOutcome, tuple[Action, ...]]:
        """Put it right by what the disk proves now; the outcome after it, and what was done."""
        try:
            try:
                with Keeping(audited.experiment.root) as keeping:
                    actions = self._repair(audited, settings, keeping)
            except CannotWrite as error:
                actions = (Action("regenerate", self.subject, "failed", reason=printable(str(error))),)
            return audited.unless_waived(self.item_id, self._audit(audited, settings)), actions
        except ExperimentGone as error:
            return experiment_gone(error), ()

    def plan(self, audited: AuditedExperiment, settings: Settings, ahead: Ahead) -> tuple[Action, ...]:
        """Plan the same for when the runs ``ahead`` are repaired."""
        try:
            return self._plan(audited, settings, ahead)
        except ExperimentGone:
            return ()

    def is_damaged(self, outcome: ItemOutcome) -> bool:
        """Whether anything is wrong with it, by its outcome, that a repair may solve."""
        return not outcome.sound

    @abstractmethod
    def _audit(self, audited: AuditedExperiment, settings: Settings) -> ItemOutcome: ...

    @abstractmethod
    def _repair(self, audited: AuditedExperiment, settings: Settings, keeping: Keeping) -> tuple[Action, ...]: ...

    @abstractmethod
    def _plan(self, audited: AuditedExperiment, settings: Settings, ahead: Ahead) -> tuple[Action, ...]: ...


class _CheckpointUpkeep(Upkeep):
    item_id = CHECKPOINT_ID
    subject = CHECKPOINT

    def _audit(self, audited: AuditedExperiment, settings: Settings) -> ItemOutcome:
        facts = _facts(audited, settings)
        findings = audit_checkpoint(*read_checkpoint(audited.experiment), facts)
        status = checkpoint_status(findings)
        if not findings:
            return ItemOutcome(status, "passed")
        remedy = remedy_of_checkpoint(status, planned_repair(audited.experiment, facts))
        return ItemOutcome(status, "failed", findings, str(remedy), level=remedy.level)

    def _repair(self, audited: AuditedExperiment, settings: Settings, keeping: Keeping) -> tuple[Action, ...]:
        def read_runs() -> dict[RunId, RunFacts]:
            found = {audit.run: RunFacts.of(audit) for audit in audit_all(audited.experiment, settings.policy)}
            audited.facts.update(found)
            return found

        action = repair_checkpoint(audited.experiment, keeping, read_runs)
        return () if action is None else (action,)

    def _plan(self, audited: AuditedExperiment, settings: Settings, ahead: Ahead) -> tuple[Action, ...]:
        """A judge's answer is taken to be the one that is recorded; where agents may run, each run is as it ends."""
        assert settings.repair is not None
        facts = _facts(audited, settings)
        checkpoint = Checkpoint(read_checkpoint(audited.experiment)[0].data)
        for run, foreseen in ahead.items():
            if foreseen is not None:
                facts[run] = foreseen.facts
            elif settings.repair.runs_agents:
                del facts[run]
            else:
                facts[run] = RunFacts("completed", checkpoint.ending_of(run) != "failed")
        action = planned_repair(audited.experiment, facts)
        return () if action is None else (action,)


class _AggregatesUpkeep(Upkeep):
    item_id = AGGREGATES_ID
    subject = "result.json"

    def _audit(self, audited: AuditedExperiment, settings: Settings) -> ItemOutcome:
        figures = _figures(audited, settings)
        findings = audit_aggregates(audited.experiment, figures, settings.policy)
        status = aggregates_status(findings)
        if status == "sound" and not (settings.strict and findings):
            return ItemOutcome(status, "passed", findings)
        planned = aggregates.planned_repair(audited.experiment, figures, settings.policy)
        remedy = remedy_of_aggregates(status, planned)
        return ItemOutcome(status, "failed", findings, str(remedy), level=remedy.level)

    def _repair(self, audited: AuditedExperiment, settings: Settings, keeping: Keeping) -> tuple[Action, ...]:
        def read_runs() -> dict[RunId, RunFigures]:
            found = read_figures(audited.experiment, settings.policy)
            audited.figures.update(found)
            return found

        return aggregates.repair_aggregates(audited.experiment, keeping, read_runs, settings.policy)

    def _plan(self, audited: AuditedExperiment, settings: Settings, ahead: Ahead) -> tuple[Action, ...]:
        """What counts runs of which a judge decides is rebuilt after that."""
        experiment = audited.experiment
        figures = _figures(audited, settings)
        undecided = {run for run, foreseen in ahead.items() if foreseen is None}
        for run, foreseen in ahead.items():
            figures[run] = _undecided(experiment, run) if foreseen is None else foreseen.figures
        return aggregates.planned_repair(experiment, figures, settings.policy, undecided=undecided)

    def is_damaged(self, outcome: ItemOutcome) -> bool:
        return not outcome.sound or any(found.code in aggregates.REBUILDABLE for found in outcome.findings)


UPKEEP: dict[str, Upkeep] = {upkeep.item_id: upkeep for upkeep in (_CheckpointUpkeep(), _AggregatesUpkeep())}
"""By item id, in the order in which one follows from another."""


def foresee(
    audited: AuditedExperiment, run: RunId, settings: Settings, regenerate: Regenerate, admits: Admits
) -> Foreseen | None:
    """What the disk proves of a run once its free repair is done; ``None`` if it can no longer be read."""
    try:
        plan = draft_repair(audited.experiment, run, settings.policy, regenerate, admits)[2].plan
    except ExperimentGone:
        return None
    assert plan.case is not None
    return Foreseen(RunFacts.of(plan.audit), RunFigures.of(plan.case, plan.audit))


def _undecided(experiment: Experiment, run: RunId) -> RunFigures:
    """The figures of a run that is yet to be judged: it counts, with a score that nothing recorded can agree with."""
    judges = experiment.judges_per_run
    return RunFigures(run, "completed", judges, judges, False, score=-1.0, passed=False, grade="F", tokens=_NO_TOKENS)


def _facts(audited: AuditedExperiment, settings: Settings) -> dict[RunId, RunFacts]:
    _learn_rest(audited, settings, audited.facts)
    return {run: audited.facts[run] for run in audited.experiment.runs()}


def _figures(audited: AuditedExperiment, settings: Settings) -> dict[RunId, RunFigures]:
    _learn_rest(audited, settings, audited.figures)
    return {run: audited.figures[run] for run in audited.experiment.runs()}


def _learn_rest(audited: AuditedExperiment, settings: Settings, known: Mapping[RunId, object]) -> None:
    for run in audited.experiment.runs():
        if run not in known:
            with garbage_collection_paused():
                audited.learn(*examine(audited.experiment, run, settings.policy))


def settle(audited: AuditedExperiment, settings: Settings) -> None:
    """Forget what was found of the runs that a repair may change; that of the others need not be found out again."""
    assert settings.repair is not None
    again = settings.select if settings.repair.fresh else ()
    settled = {
        run: audited.before[str(run)].passed
        for run in audited.experiment.runs()
        if all(audited.before[item_id].outcome == "passed" for _, item_id in audited.items_of(run))
        and str(run) not in again
    }
    audited.facts = {run: RunFacts("completed", passed) for run, passed in settled.items()}
    audited.figures = {run: figures for run, figures in audited.figures.items() if run in settled}
