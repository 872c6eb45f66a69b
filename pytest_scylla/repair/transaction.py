"""Carrying out a plan: one run, under its lock, all new files prepared before the first of them takes its place.

Raw files take theirs before derived ones. Killed anywhere, a run holds old files or new ones, never halves, and the
next repair finishes. Then the run is audited again, through the reader that every audit uses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ..auditing.evidence import Policy, fingerprint
from ..auditing.run import RunAudit, examine
from ..auditing.status import Case
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.locks import locked
from ..experiment.records import open_experiment, read_below
from ..experiment.replacing import NewFile, put_files
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite, naming
from .actions import Action, Ending
from .plan import Admits, Plan, Step, faults_of, make_plan
from .request import Regenerate


@dataclass(frozen=True, slots=True)
class Draft:
    """A run's plan, and the state of the run's files that it was made from."""

    fingerprint: bytes
    plan: Plan

    def to_keep(self) -> Draft:
        """The same without what was read of the run: it takes most of the room, and is not needed again."""
        slots = tuple(replace(slot, judgment=None) for slot in self.plan.audit.slots)
        return replace(self, plan=replace(self.plan, audit=replace(self.plan.audit, slots=slots), case=None))


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """A run after its repair: how it stands, and what was done, by the item whose file it was ("run", "judge_01")."""

    case: Case
    audit: RunAudit
    actions: Mapping[str, tuple[Action, ...]]


def draft_repair(
    experiment: Experiment, run: RunId, policy: Policy, regenerate: Regenerate, admits: Admits = lambda item: True
) -> tuple[Case, RunAudit, Draft]:
    """Audit a run and plan its free repair; nothing is written.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    state = fingerprint(experiment, run)
    case, audit = examine(experiment, run, policy)
    return case, audit, Draft(state, make_plan(experiment, case, audit, regenerate, admits))


def repair_run(
    experiment: Experiment,
    run: RunId,
    policy: Policy,
    regenerate: Regenerate,
    admits: Admits = lambda item: True,
    draft: Draft | None = None,
    *,
    wait: bool = True,
) -> RepairOutcome:
    """Rebuild what is lost of a run and survives elsewhere in it, as far as ``admits`` lets it.

    ``draft`` is what was planned for it before with the same ``regenerate`` and ``admits``, if that is at hand; it is
    carried out if the run is still as it was planned from. ``wait``: for another process that is at work on the run.

    A reason of the place (a full disk, a directory that may not be written) makes the actions fail, and nothing half.

    :raises Held: there is one, and it was not to wait.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    if draft is None:
        case, audit, draft = draft_repair(experiment, run, policy, regenerate, admits)
        if not draft.plan.steps:
            return RepairOutcome(case, audit, _by_item(draft.plan, {}))
    try:
        with run_locked(experiment, run, wait=wait) as keeping:
            if fingerprint(experiment, run) != draft.fingerprint:  # somebody else was here meanwhile
                _, _, draft = draft_repair(experiment, run, policy, regenerate, admits)
            return carry_out(experiment, run, policy, draft.plan, keeping)
    except CannotWrite as error:
        return _conclude(experiment, run, policy, draft.plan, {}, printable(str(error)), 0.0)


@contextmanager
def run_locked(experiment: Experiment, run: RunId, *, wait: bool = True) -> Iterator[Keeping]:
    """Have a run for this process alone, waiting for as long as another one has it; with what repairs keep, open.

    :param wait: otherwise do not wait.
    :raises CannotWrite: the lock cannot be made.
    :raises Held: another process has it, and this one was not to wait.
    """
    with ExitStack() as held:
        keeping = held.enter_context(Keeping(experiment.root))
        with naming(str(keeping.lock_path(run).relative_to(experiment.root))):
            held.enter_context(locked(keeping.lock_path(run), wait=wait))
        yield keeping


def carry_out(experiment: Experiment, run: RunId, policy: Policy, plan: Plan, keeping: Keeping) -> RepairOutcome:
    """Write what is planned for a run that this process has locked, and audit it again.

    A reason of the place makes the actions fail, and nothing half.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    start = time.perf_counter()
    done: dict[str, Action] = {}
    failure = ""
    try:
        steps = {step.file: step for step in plan.steps}
        for written in put_files(keeping, [_new_file(run, step) for step in plan.steps]):
            step = steps[written.file]
            done[step.name] = _action(step, "done")
    except CannotWrite as error:
        failure = printable(str(error))
    return _conclude(experiment, run, policy, plan, done, failure, time.perf_counter() - start)


def _conclude(
    experiment: Experiment,
    run: RunId,
    policy: Policy,
    plan: Plan,
    done: dict[str, Action],
    failure: str,
    seconds: float,
) -> RepairOutcome:
    """Audit a run again after so many seconds of writing, and hold every step to what is there now."""
    start = time.perf_counter()
    case, audit = examine(experiment, run, policy)
    found = {file.file: file.raw for file in case.evidence.files()}
    for step in plan.steps:
        if step.name not in done:
            done[step.name] = replace(_action(step, "failed"), files=(), solved=(), reason=failure)
        elif left := faults_of(audit, step.name):
            done[step.name] = replace(
                _action(step, "failed"), solved=(), reason=f"audited again, it still has {left[0]}"
            )
        elif (found[step.file] if step.file in found else _read_back(experiment, step)) != step.data:
            # Also where an audit finds nothing wrong with what is there instead.
            reason = "read again, it is not what was written"
            done[step.name] = replace(_action(step, "failed"), solved=(), reason=reason)
    each = (seconds + time.perf_counter() - start) / max(len(done), 1)
    timed = {name: replace(action, seconds=round(each, 6)) for name, action in done.items()}
    return RepairOutcome(case, audit, _by_item(plan, timed))


def _read_back(experiment: Experiment, step: Step) -> bytes:
    """What lies in the place of a file that no verdict rests on."""
    with open_experiment(experiment.root) as root:
        return read_below(root, step.file, len(step.data) + 1).data


def planned_actions(plan: Plan) -> Mapping[str, tuple[Action, ...]]:
    """What the plan would do and what it declines, by item."""
    return _by_item(plan, {step.name: _action(step, "planned") for step in plan.steps})


def _by_item(plan: Plan, actions: Mapping[str, Action]) -> dict[str, tuple[Action, ...]]:
    found: dict[str, tuple[Action, ...]] = {}
    for step in plan.steps:
        found[step.item] = (*found.get(step.item, ()), actions[step.name])
    for refusal in plan.refusals:
        refused = Action("regenerate", refusal.name, "refused", reason=refusal.reason)
        found[refusal.item] = (*found.get(refusal.item, ()), refused)
    return found


def _action(step: Step, outcome: Ending) -> Action:
    return Action(
        step.level,
        step.name,
        outcome,
        files=(step.file,),
        solved=step.solves,
        sources=tuple(source.file for source in step.sources),
    )


def _new_file(run: RunId, step: Step) -> NewFile:
    item = str(run) if step.item == "run" else f"{run}/{step.item}"
    sources = tuple((source.file, source.sha256) for source in step.sources)
    return NewFile(step.file, step.data, item, step.level, step.solves, sources)
