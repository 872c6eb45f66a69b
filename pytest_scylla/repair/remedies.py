"""What it would take to make an item sound: the cheapest level that suffices, and its cost."""

from __future__ import annotations

from dataclasses import dataclass

from ..auditing.checkpoint import CheckpointStatus
from ..auditing.evidence import SlotEvidence
from ..auditing.findings import RunStatus, SlotStatus
from ..auditing.run import RunAudit
from ..auditing.slot import SlotAudit
from ..auditing.status import Case
from ..experiment.records import Blob
from .actions import Action, Level
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would make an item sound.

    ``level`` is ``None`` where no repair may act; ``cost`` is in people's words; ``calls`` are how
    often that asks somebody.
    """

    level: Level | None
    cost: str
    action: str
    calls: int = 0

    def __str__(self) -> str:
        return f"{self.cost} ({self.action})" if self.cost else self.action


_AGENT_RUN = Remedy("agents", "agent run", "run the agent again, then its judges", calls=1)
_PERSON = Remedy(None, "", "none: sound records contradict each other, a person has to decide")
UNSAFE = Remedy(
    None, "", "none: put a regular file or directory in its place first; for a larger one, raise scylla_max_file_mib"
)
ASKED_ENOUGH = Remedy("judges", "", "none until --repair-retry asks again: a judge was asked as often as allowed")
_REBUILD = Remedy("regenerate", "free", "rebuild it from files that survive")
_WARNING = Remedy(None, "", "none needed: only --scylla-strict makes a warning fail")


_FOR_RUNS: dict[RunStatus, Remedy] = {
    "completed": _WARNING,
    "failed": _AGENT_RUN,
    "partial": _AGENT_RUN,
    "missing": _AGENT_RUN,
    "conflict": _PERSON,
    "unsafe": UNSAFE,
}
_FOR_SLOTS: dict[SlotStatus, Remedy] = {
    "complete": _WARNING,
    "agent_failed": _AGENT_RUN,
    "conflict": _PERSON,
    "unsafe": UNSAFE,
}


def remedies(case: Case, audit: RunAudit, plan: Plan) -> dict[str, Remedy]:
    """The remedy of a run ("run") and of each of its slots ("judge_01", ..), given the plan of its free repair."""
    found = {
        slot.slot.name: _for_slot(case, slot, planned)
        for slot, planned in zip(audit.slots, plan.audit.slots, strict=True)
    }
    return {**found, "run": _for_run(audit, plan, [remedy for remedy in found.values() if remedy.level == "judges"])}


def remedy_of_checkpoint(status: CheckpointStatus, planned: Action | None) -> Remedy:
    """The remedy of a checkpoint that is not sound, given the plan of its repair."""
    if status == "conflict":
        return _PERSON
    if status == "unsafe":
        return UNSAFE
    if planned is not None and planned.outcome == "refused":
        return Remedy(None, "", f"none: {planned.reason}")
    return Remedy("regenerate", "free", "record what the runs' own files say")


def _for_slot(case: Case, slot: SlotAudit, planned: SlotAudit) -> Remedy:
    if slot.status in _FOR_SLOTS:
        return _FOR_SLOTS[slot.status]
    if planned.complete:
        return Remedy("regenerate", "free", "rebuild judgment.json from the judge's reply")
    if not case.evidence.judge_prompt.data.strip():
        return Remedy(None, "", "none: judge_prompt.md is lost, so nobody can ask the judge again (evidence-gone)")
    if slot.exhausted:
        return ASKED_ENOUGH
    if has_kept_answer(case.evidence.slots[slot.slot.number - 1], case.evidence.judge_prompt):
        return Remedy("judges", "free", "store the answer that the judge gave before")
    return Remedy("judges", "1 judge call", f"ask {slot.slot.name}'s model again", calls=1)


def has_kept_answer(slot: SlotEvidence, prompt: Blob) -> bool:
    """Whether the judge gave an answer before that may be stored, from an attempt with this prompt."""
    return not slot.disowned and any(not attempt.counts for attempt in slot.attempts_with(prompt))


def _for_run(audit: RunAudit, plan: Plan, judging: list[Remedy]) -> Remedy:
    """The remedy of a run; ``judging`` are those of its slots for which judges are asked, or were."""
    if audit.status != "results":
        return _FOR_RUNS[audit.status]
    if plan.audit.status == "completed":
        return _REBUILD
    for refusal in plan.refusals:
        if refusal.item == "run" and not refusal.lacks_judgment:
            return Remedy(None, "", f"none: {refusal.name} cannot be rebuilt, for {refusal.reason}")
    if any(slot.status in ("unsafe", "conflict") for slot in audit.slots):
        return Remedy(None, "", "none until the judge slots in conflict, or unsafe, are put right")
    if not judging:
        return Remedy(None, "", "none: judgments are lacking, and judge_prompt.md is lost (evidence-gone)")
    if all(remedy == ASKED_ENOUGH for remedy in judging):
        return ASKED_ENOUGH
    calls = sum(remedy.calls for remedy in judging)
    cost = f"{calls} judge call{'s' * (calls != 1)}" if calls else "free"
    return Remedy("judges", cost, "judge its slots, then rebuild what follows from them")
