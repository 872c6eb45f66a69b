"""The corpus of faults under repair: whatever happened to a run, a free repair keeps what it guarantees.

Every fault of `test_fault_corpus` is done to a healthy experiment, all of whose runs are then repaired twice.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla import RunAudit, RunId
from pytest_scylla.auditing.run import conclude, examine
from pytest_scylla.auditing.status import Case
from pytest_scylla.experiment.expected import Experiment
from pytest_scylla.experiment.keeping import KEEPING
from pytest_scylla.repair.actions import Action
from pytest_scylla.repair.plan import Plan, make_plan
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.remedies import Remedy, remedies
from pytest_scylla.repair.transaction import RepairOutcome, planned_actions, repair_run

from .damage import CONSENSUS, RESULT, RUN_RESULT, Run
from .test_fault_corpus import FAULTS, RUN, Entry, Fault, Snapshot, Workbench, look_at, snapshot

SOUND = ("completed", "complete")
RANK = {"regenerate": 0, "judges": 1, "agents": 2, None: 3}
"""The levels of a remedy, the cheapest first; none is the worst."""


@dataclass(frozen=True)
class Standing:
    """How an item stands, and what would make it sound."""

    status: str
    remedy: Remedy


Standings = dict[str, Standing]
"""By the item: "run", "judge_01", .."""


@dataclass(frozen=True)
class RunRepair:
    """One run before, in and after its repair."""

    experiment: Experiment
    case: Case
    audit: RunAudit
    before: Standings
    plan: Plan
    outcome: RepairOutcome
    after: Standings
    written: dict[str, bytes]
    """The bytes of the plan's files after the repair."""


@dataclass(frozen=True)
class Repaired:
    """A damaged experiment under repair: its runs, and everything on disk before, behind, and behind a second one.

    The paths of the snapshots are relative to the place of the experiment.
    """

    runs: dict[str, RunRepair]
    before: Snapshot
    after: Snapshot
    again: Snapshot

    @property
    def changed(self) -> set[bytes]:
        """The files and other objects, but no directories, that are new or other than before; not in `.scylla/`."""
        return {
            name
            for name in self.before.keys() | self.after.keys()
            if not is_kept(name) and substance(self.before.get(name)) != substance(self.after.get(name))
        }


Repair = Callable[[Fault], Repaired]


def is_kept(name: bytes) -> bool:
    return KEEPING.encode() in name.split(b"/")


def substance(entry: Entry | None) -> tuple[int, bytes] | None:
    """What an object is, and its content; nothing for a directory, which changes with what is in it."""
    return None if entry is None or stat.S_ISDIR(entry[0][0]) else (entry[0][0], entry[2])


def standings(experiment: Experiment, case: Case, audit: RunAudit) -> Standings:
    statuses = {"run": str(audit.status), **{slot.slot.name: slot.status for slot in audit.slots}}
    found = remedies(case, audit, make_plan(experiment, case, audit, regenerate))
    return {item: Standing(status, found[item]) for item, status in statuses.items()}


class RepairBench(Workbench):
    """A workbench whose experiment is repaired: once a fault, however many tests look at it."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._repaired: dict[str, Repaired] = {}

    def repair(self, fault: Fault) -> Repaired:
        if fault.name not in self._repaired:
            try:
                fault.damage(Run(self.root, RUN))
                before = snapshot(self.place)
                experiment = pytest_scylla.load(self.root)
                runs = {str(run): self._repair_run(experiment, run, fault) for run in experiment.runs()}
                after = snapshot(self.place)
                for run in experiment.runs():
                    repair_run(experiment, run, fault.policy, regenerate)
                self._repaired[fault.name] = Repaired(
                    runs, self._relative(before), self._relative(after), self._relative(snapshot(self.place))
                )
            finally:
                self._mend(snapshot(self.place))
        return self._repaired[fault.name]

    def _repair_run(self, experiment: Experiment, run: RunId, fault: Fault) -> RunRepair:
        case, audit = examine(experiment, run, fault.policy)
        plan = make_plan(experiment, case, audit, regenerate)
        outcome = repair_run(experiment, run, fault.policy, regenerate)
        written = {step.file: look_at(os.fsencode(self.root / step.file))[2] for step in plan.steps}
        before = after = standings(experiment, case, audit)
        if outcome.actions:
            after = standings(experiment, *examine(experiment, run, fault.policy))
        return RunRepair(experiment, case, audit, before, plan, outcome, after, written)

    def _relative(self, found: Snapshot) -> Snapshot:
        return {os.path.relpath(name, os.fsencode(self.place)): entry for name, entry in found.items()}


@pytest.fixture(scope="session")
def repair() -> Iterator[Repair]:
    """The function that damages an experiment and repairs it, where possible in memory."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield RepairBench(Path(place)).repair


# ---------------------------------------------------------------------------------------------------------
# What a remedy promises


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_an_item_is_sound_after_a_free_repair_exactly_where_its_remedy_is_free(fault: Fault, repair: Repair) -> None:
    for run, repaired in repair(fault).runs.items():
        for item, before in repaired.before.items():
            after = repaired.after[item]
            said = f"{run} {item}: {before} -> {after}: {repaired.outcome.actions.get(item)}"
            if before.status in SOUND or before.remedy.level == "regenerate":
                assert after.status in SOUND, said
            else:
                assert after.status not in SOUND, said
                assert RANK[after.remedy.level] <= RANK[before.remedy.level], said


def test_what_a_repair_says_of_a_run_is_what_an_audit_finds_behind_it(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            assert standings(repaired.experiment, repaired.outcome.case, repaired.outcome.audit) == repaired.after, (
                fault
            )


# ---------------------------------------------------------------------------------------------------------
# The plan


def as_planned(actions: Mapping[str, tuple[Action, ...]]) -> dict[str, tuple[Action, ...]]:
    """Actions without what only doing them tells."""

    def planned(action: Action) -> Action:
        return replace(action, outcome="planned" if action.outcome == "done" else action.outcome, seconds=0.0)

    return {item: tuple(planned(action) for action in done) for item, done in actions.items()}


def test_the_plan_is_what_the_repair_then_does(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            assert as_planned(repaired.outcome.actions) == planned_actions(repaired.plan), fault
            assert repaired.written == {step.file: step.data for step in repaired.plan.steps}, fault
            assert repaired.plan.audit == repaired.outcome.audit, fault


def test_nothing_else_is_written_than_what_is_planned(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        planned = {f"exp/{step.file}".encode() for one in found.runs.values() for step in one.plan.steps}
        # Of a directory in the place of a file, everything in it goes with it.
        inside = {name for name in found.changed if any(name.startswith(file + b"/") for file in planned)}
        assert found.changed - inside == planned, fault


def test_a_step_solves_what_was_found_and_leaves_nothing_of_it(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            left = [
                *repaired.outcome.audit.findings,
                *(f for slot in repaired.outcome.audit.slots for f in slot.findings),
            ]
            for step in repaired.plan.steps:
                assert step.solves, (fault, step)
                assert not [found for found in left if found.file == step.file and found.code in step.solves], fault


def test_what_is_refused_has_an_error_and_a_reason(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            audit = repaired.outcome.audit
            errors = [
                found for findings in (audit.findings, *[slot.findings for slot in audit.slots]) for found in findings
            ]
            for refusal in repaired.plan.refusals:
                assert refusal.reason.strip(), (fault, refusal)
                assert refusal.reason.isprintable(), (fault, refusal)
                if audit.status == "results":
                    assert any(found.file == refusal.file for found in errors), (fault, refusal)
            assert {step.name for step in repaired.plan.steps}.isdisjoint(
                refusal.name for refusal in repaired.plan.refusals
            ), fault


def rank(name: str) -> int:
    """How far a file is from the raw ones."""
    if name.startswith("agent/"):
        return 1 if name == RESULT else 0
    return {"judge/timing.json": 3, CONSENSUS: 4, RUN_RESULT: 5}.get(name, 2)


def test_raw_files_are_repaired_before_those_that_derive_from_them(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            names = [step.name for step in repaired.plan.steps]
            if names[-2:] == [RUN_RESULT, RESULT]:
                names.pop()  # both were wrong alike: see the next test
            assert [rank(name) for name in names] == sorted(rank(name) for name in names), fault


def test_wherever_a_repair_is_killed_the_next_one_finishes_it(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            case = repaired.case
            for step in repaired.plan.steps[:-1]:
                case = Case(case.evidence.with_file(step.name, step.data), case.policy)
                rest = make_plan(repaired.experiment, case, conclude(case), regenerate)
                assert rest.audit == repaired.plan.audit, (fault, step.name)


# ---------------------------------------------------------------------------------------------------------
# What a repair leaves as it is


def test_a_second_repair_changes_nothing(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        assert found.again == found.after, fault


def test_where_nothing_can_be_done_not_even_a_directory_is_made(repair: Repair) -> None:
    idle = 0
    for fault in FAULTS:
        found = repair(fault)
        if not any(repaired.plan.steps for repaired in found.runs.values()):
            assert found.after == found.before, fault
            idle += 1
    assert idle > 100


def test_sound_runs_are_not_touched(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        for run, repaired in found.runs.items():
            if repaired.audit.status == "completed" and not repaired.audit.findings:
                own = [slot for slot in repaired.audit.slots if slot.findings]
                changed = {name for name in found.changed if f"/{run}/".encode() in name}
                assert all(any(f"/{slot.slot.name}/".encode() in name for slot in own) for name in changed), fault


def test_no_byte_is_lost(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        quarantined = {
            entry[2] for name, entry in found.after.items() if f"/{KEEPING}/quarantine/".encode() in name if entry[2]
        }
        for name in found.changed:
            old = found.before.get(name)
            if old is not None and not stat.S_ISDIR(old[0][0]):
                assert stat.S_ISREG(old[0][0]), (fault, name)
                assert not old[2] or old[2] in quarantined, (fault, name)


def test_the_mode_of_a_replaced_file_is_kept(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        for name in found.changed & found.before.keys() & found.after.keys():
            if stat.S_ISREG(found.before[name][0][0]):
                assert found.after[name][0][0] == found.before[name][0][0], (fault, name)


def done(repaired: RunRepair, item: str) -> list[str]:
    return [action.what for action in repaired.outcome.actions.get(item, ()) if action.outcome == "done"]


def test_an_unsafe_item_gets_no_repair_of_any_kind(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            for item, before in repaired.before.items():
                if before.status in ("unsafe", "missing", "agent_failed"):
                    assert item not in repaired.outcome.actions, (fault, item)


def test_what_only_a_person_can_decide_is_left_to_a_person(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            slots = [item for item in repaired.before if item != "run"]
            follows = [CONSENSUS] if any(done(repaired, slot) for slot in slots) else []
            for item, before in repaired.before.items():
                if before.status == "conflict":
                    assert set(done(repaired, item)) <= set(follows if item == "run" else []), (fault, item)


def test_a_run_without_an_agents_work_is_only_kept_in_step_with_its_slots(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            if repaired.audit.status in ("failed", "partial"):
                assert set(done(repaired, "run")) <= {CONSENSUS, RUN_RESULT}, fault


def test_no_item_is_worse_off(repair: Repair) -> None:
    for fault in FAULTS:
        for repaired in repair(fault).runs.values():
            for item, before in repaired.before.items():
                after = repaired.after[item].status
                assert after == before.status or after in SOUND, (fault, item, before.status, after)


def test_no_link_is_made_or_followed(repair: Repair) -> None:
    for fault in FAULTS:
        found = repair(fault)
        links = {name: entry[2] for name, entry in found.before.items() if stat.S_ISLNK(entry[0][0])}
        assert links == {name: entry[2] for name, entry in found.after.items() if stat.S_ISLNK(entry[0][0])}, fault
        assert all(name.startswith(b"exp/") or name == b"exp" for name in found.changed), fault
