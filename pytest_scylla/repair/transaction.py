"""Carrying out a plan: one run, under its lock, all new files prepared before the first of them takes its place.

In this order: new content to ``.scylla/staging/``, what it replaces to ``.scylla/quarantine/``, the journal, and then
one renaming a file, raw files before derived. Killed anywhere, a run holds old files or new ones, never halves, and the
next repair finishes. Then the run is audited again, through the reader that every audit uses.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256

from ..auditing.evidence import Policy, fingerprint
from ..auditing.run import RunAudit, examine
from ..auditing.status import Case
from ..experiment.expected import Experiment
from ..experiment.journal import stamp
from ..experiment.keeping import Keeping, Kept
from ..experiment.layout import RunId
from ..experiment.locks import locked
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.strict_json import Json
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite, directory, naming
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
        for step in _write(keeping, run, plan.steps):
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
    *parts, name = step.file.split("/")
    with open_experiment(experiment.root) as root:
        folder = open_below(root, parts)
        if isinstance(folder, Blob):
            return b""
        with folder:
            return folder.read(name, len(step.data) + 1).data


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


# Writing


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step's file goes: its directory, and what lies there now."""

    step: Step
    folder: Folder
    replaced: Kept | None
    mode: int | None
    modified: str | None


def _write(keeping: Keeping, run: RunId, steps: tuple[Step, ...]) -> Iterator[Step]:
    """Write the files, yielding each step once its file is in its place.

    :raises CannotWrite: one of them could not be written; those that were not yielded are as before.
    """
    with ExitStack() as opened:
        for step in steps:
            opened.callback(keeping.discard, step.file)
        places = [_prepare(keeping, opened, step) for step in steps]
        if places:
            keeping.write_journal(_journal(run, places))
        for place in places:
            if place.replaced is not None and place.replaced.sha256 is None:
                keeping.move_directory(place.step.file, place.folder, place.replaced)
            keeping.put_in_place(place.step.file, place.folder)
            with naming(place.step.file):
                os.fsync(place.folder.descriptor)
            yield place.step


def _prepare(keeping: Keeping, opened: ExitStack, step: Step) -> _Place:
    *parts, name = step.file.split("/")
    folder = keeping.experiment
    for part in parts:
        with naming(step.file):
            folder = opened.enter_context(directory(folder, part))
    with naming(step.file):
        try:
            status = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            keeping.stage(step.file, step.data)
            return _Place(step, folder, None, None, None)
    if stat.S_ISDIR(status.st_mode):
        keeping.stage(step.file, step.data)
        kept = keeping.place_for_directory(step.file)
    else:
        old = folder.read(name, status.st_size)
        if old.state != "sound":
            raise CannotWrite(f"{step.file}: {old.reason or 'it disappeared'}")
        keeping.stage(step.file, step.data, status)
        kept = keeping.quarantine(step.file, old.data, status)
    return _Place(step, folder, kept, status.st_mode & 0o7777, _modified(status))


def _modified(status: os.stat_result) -> str | None:
    try:
        return datetime.fromtimestamp(status.st_mtime, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):  # a file may claim a year beyond the calendar's
        return None


def _journal(run: RunId, places: list[_Place]) -> bytes:
    """One line a file, written before any of the files is."""
    lines = []
    for place in places:
        step, kept = place.step, place.replaced
        replaced: dict[str, Json] | None = None
        if kept is not None:
            replaced = {**kept.as_data(), "mode": f"{place.mode:04o}", "modified": place.modified}
        entry = {
            **stamp(),
            "item": str(run) if step.item == "run" else f"{run}/{step.item}",
            "what": step.level,
            "file": step.file,
            "sha256": sha256(step.data).hexdigest(),
            "solves": list(step.solves),
            "sources": [{"file": source.file, "sha256": source.sha256} for source in step.sources],
            "replaced": replaced,
        }
        lines.append(json.dumps(entry) + "\n")
    return "".join(lines).encode()
