"""The audit of checkpoint.json: does it say what the runs' own files say?

The checkpoint is the last to know: where it and the disk differ, the disk counts. What is wrong with it is found run by
run (:func:`faults_of`) and told a kind at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..experiment.checkpoint import (
    AGENT_STEPS,
    EARLY_STEPS,
    FINISHED_STEPS,
    GIVEN_UP_STEPS,
    Checkpoint,
    State,
    checkpoint_record,
    configuration_record,
    differences,
)
from ..experiment.errors import ExperimentGone
from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from ..experiment.records import Record, open_experiment
from ..experiment.wording import describe
from .findings import RUN_STATUSES, Finding, RunStatus, finding, problem_finding
from .run import RunAudit

CheckpointStatus = Literal["sound", "stale", "missing", "malformed", "conflict", "unsafe"]

CHECKPOINT_STATUSES: dict[CheckpointStatus, str] = {
    "sound": "it says what the runs' own files say",
    "stale": "it says something else than the runs' own files",
    "missing": "there is none",
    "malformed": "it is not JSON that can be relied on, or breaks its schema",
    "conflict": "it was written under another configuration, so only a person can decide",
    "unsafe": RUN_STATUSES["unsafe"],
}

_MOST_EXAMPLES = 3
_KNOWN_STEPS = EARLY_STEPS | AGENT_STEPS | FINISHED_STEPS | GIVEN_UP_STEPS
_EXPECTED = {
    "checkpoint-records-absent-run": "expected every recorded run to be there",
    "checkpoint-lacks-run": "expected every run that is finished, or whose agent is, to be recorded",
    "checkpoint-state-differs": "expected every run to be recorded as its own files say",
}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the disk proves of a run: its status, and whether its judges passed it.

    ``judge_passed`` is ``None`` where a judgment is lacking. ``has_workspace``: its workspace is still there.
    """

    status: RunStatus
    judge_passed: bool | None
    has_workspace: bool = False

    @classmethod
    def of(cls, audit: RunAudit) -> RunFacts:
        """What the audit of a run proves: its consensus, or, if that is lost, what all its judges amount to."""
        if audit.status != "results":
            return cls(audit.status, audit.passed, audit.has_workspace)
        consensus = audit.consensus_of_slots
        return cls(audit.status, None if consensus is None else consensus.passed, audit.has_workspace)


@dataclass(frozen=True, slots=True)
class Fault:
    """A run that the checkpoint has wrong: the finding's code, the table that has it wrong, and how, in a few words.

    ``due`` is how the run has to be recorded; ``None`` where nothing of it may be recorded as done.
    """

    code: str
    run: RunId
    table: Literal["completed_runs", "run_states"]
    told: str
    due: State | None


def read_checkpoint(experiment: Experiment) -> tuple[Record, Record]:
    """Read an experiment's checkpoint and its configuration.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    try:
        with open_experiment(experiment.root) as root:
            return checkpoint_record(root), configuration_record(root)
    except OSError as error:
        raise ExperimentGone(error.errno, error.strerror) from error


def audit_checkpoint(record: Record, config: Record, runs: Mapping[RunId, RunFacts]) -> tuple[Finding, ...]:
    """Judge a checkpoint by the configuration and by what the disk proves of ``runs``; errors, all of them.

    What it records of other runs is left alone.
    """
    if record.state == "unsafe":
        return tuple(problem_finding("unsafe-object", record.file, problem) for problem in record.problems)
    if record.state == "absent":
        return (finding("checkpoint-missing", record.file, "expected a record, found none"),)
    if not record.sound:
        return tuple(problem_finding(f"checkpoint-{record.state}", record.file, problem) for problem in record.problems)
    found = [
        finding("checkpoint-config-differs", record.file, message, pointer)
        for pointer, message in differences(record.data, config.data if config.sound else {})
    ]
    by_code: dict[str, list[Fault]] = {}
    for fault in faults_of(Checkpoint(record.data), runs):
        by_code.setdefault(fault.code, []).append(fault)
    found += [_finding(record, code, by_code[code]) for code in _EXPECTED if code in by_code]
    return tuple(found)


def checkpoint_status(findings: Sequence[Finding]) -> CheckpointStatus:
    """The status of a checkpoint that an audit has these findings about."""
    codes = {found.code for found in findings}
    if "unsafe-object" in codes:
        return "unsafe"
    if "checkpoint-missing" in codes:
        return "missing"
    if codes & {"checkpoint-malformed", "checkpoint-invalid"}:
        return "malformed"
    if "checkpoint-config-differs" in codes:
        return "conflict"
    return "stale" if codes else "sound"


def faults_of(checkpoint: Checkpoint, runs: Mapping[RunId, RunFacts]) -> Iterator[Fault]:
    """The runs that the checkpoint has wrong, in their order.

    A run in conflict, or an unsafe one, proves nothing, so whatever is recorded of it stands. So does that a run
    passed, while its workspace is there, however much of its other files is lost: that word keeps it from being run
    again.
    """
    for run, facts in runs.items():
        proven = _proven(facts)
        if facts.has_workspace and proven == (None,) and checkpoint.ending_of(run) == "passed":
            continue
        if proven and not any(_agrees(checkpoint, run, state) for state in proven):
            yield _fault(checkpoint, run, facts, proven)


def _proven(facts: RunFacts) -> tuple[State | None, ...]:
    """How a run may be recorded, the first choice first; nothing where the disk proves nothing.

    A run is finished once all its records are. Where one of them is lost again, or stale, what its judges said stands.
    """
    judged: tuple[State, ...] = ()
    if facts.judge_passed is not None:
        judged = ("passed",) if facts.judge_passed else ("failed",)
    if facts.status == "completed":
        return judged
    if facts.status == "results":
        return ("agent_complete", *judged)
    return (None,) if facts.status in ("failed", "partial", "missing") else ()


def _agrees(checkpoint: Checkpoint, run: RunId, state: State | None) -> bool:
    """Whether ``run`` is recorded as ``state`` throughout. A step that is not known contradicts nothing."""
    ending, step = checkpoint.ending_of(run), checkpoint.step_of(run)
    if state is None:
        return step in GIVEN_UP_STEPS or (ending is None and step not in FINISHED_STEPS | AGENT_STEPS)
    steps = AGENT_STEPS if state == "agent_complete" else FINISHED_STEPS
    in_step = step in steps or (step is not None and step not in _KNOWN_STEPS)
    return ending == state and (in_step or not checkpoint.has_steps)


def _fault(checkpoint: Checkpoint, run: RunId, facts: RunFacts, proven: Sequence[State | None]) -> Fault:
    ending, step = checkpoint.ending_of(run), checkpoint.step_of(run)
    table: Literal["completed_runs", "run_states"] = "run_states" if ending in proven else "completed_runs"
    recorded = ending if table == "completed_runs" else step
    due = ending if ending in proven else proven[0]
    if facts.status == "missing":
        return Fault("checkpoint-records-absent-run", run, table, describe(recorded), due)
    if due is None:
        told = f"{describe(recorded)}, and the run is {facts.status}"
    elif recorded is None:
        return Fault("checkpoint-lacks-run", run, table, due, due)
    else:
        told = f"{describe(recorded)} instead of {describe(due)}"
    return Fault("checkpoint-state-differs", run, table, told, due)


def _finding(record: Record, code: str, faults: Sequence[Fault]) -> Finding:
    examples = [f"{fault.run} ({fault.told})" for fault in faults[:_MOST_EXAMPLES]]
    more = len(faults) - len(examples)
    listed = ", ".join(examples) + (f" and {more} more" if more else "")
    found = f"{len(faults)} that {'are' if len(faults) > 1 else 'is'} not: {listed}"
    tables = {fault.table for fault in faults}
    pointer = f"/{tables.pop()}" if len(tables) == 1 else ""
    if len(faults) == 1:
        run = faults[0].run
        pointer = f"{pointer}/{run.tier}/{run.subtest}/{run.number}"
    return finding(code, record.file, f"{_EXPECTED[code]}, found {found}", pointer)
