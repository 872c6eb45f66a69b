"""The audit of one run: read its evidence once, judge the run and each of its slots."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from .consensus import Consensus, consensus_of
from .derived import usage_of_reply
from .evidence import DEFAULT_POLICY, Policy, read_run
from .findings import Finding, RunStatus
from .slot import SlotAudit
from .status import Case, decide


@dataclass(frozen=True, slots=True)
class RunAudit:
    """The verdict on one run and its judge slots.

    ``score`` (0 to 1) and ``passed`` are the consensus of a ``completed`` run, else ``None``. ``cost_usd`` is what the
    agent's own records say it cost, ``None`` where none says it. ``has_workspace``: its workspace is still there.
    """

    run: RunId
    status: RunStatus
    findings: tuple[Finding, ...]
    slots: tuple[SlotAudit, ...]
    score: float | None = None
    passed: bool | None = None
    cost_usd: float | None = None
    has_workspace: bool = False

    @property
    def consensus_of_slots(self) -> Consensus | None:
        """What all its judges amount to, whatever is recorded; ``None`` while one of them has not judged."""
        verdicts = [slot.verdict for slot in self.slots if slot.verdict is not None]
        return consensus_of(verdicts) if len(verdicts) == len(self.slots) else None


def audit_run(experiment: Experiment, run: RunId, policy: Policy = DEFAULT_POLICY) -> RunAudit:
    """Audit one run of ``experiment``: every file is read once, nothing is written or executed.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with garbage_collection_paused():
        return examine(experiment, run, policy)[1]


def audit_all(experiment: Experiment, policy: Policy = DEFAULT_POLICY) -> Iterator[RunAudit]:
    """Audit every expected run of ``experiment``, in the order of tier, subtest, number, each when it is asked for.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    for run in experiment.runs():
        yield audit_run(experiment, run, policy)


def examine(experiment: Experiment, run: RunId, policy: Policy) -> tuple[Case, RunAudit]:
    """Audit one run, and keep what was read of it: a repair is planned from that.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    case = Case(read_run(experiment, run, policy), policy)
    return case, conclude(case)


def conclude(case: Case) -> RunAudit:
    """Judge what was read of a run, or what a repair would leave to be read."""
    evidence = case.evidence
    status, findings, slots = decide(case)
    score = passed = None
    if status == "completed":
        score, passed = evidence.run_result.data["judge_score"], evidence.run_result.data["judge_passed"]
    own = usage_of_reply(case.output)
    cost = own.cost_usd if own is not None else evidence.result.data.get("cost_usd")
    return RunAudit(evidence.run, status, findings, slots, score, passed, cost, evidence.has_workspace)


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Keep Python from looking for cyclic garbage while a run is audited and its evidence is alive.

    An audit makes thousands of objects and no cycle, and has let go of them at its end; looking through them meanwhile
    takes a sixth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
