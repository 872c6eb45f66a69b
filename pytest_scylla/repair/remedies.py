"""What it would take to make an item sound: the cheapest level that suffices, and its cost."""

from __future__ import annotations

from dataclasses import dataclass

from ..auditing.derived import exit_codes, usage_of_record, usage_of_reply
from ..auditing.evidence import SlotEvidence
from ..auditing.findings import RunStatus, SlotStatus
from ..auditing.run import RunAudit
from ..auditing.slot import SlotAudit, listed_verdict, verdicts_of
from ..auditing.status import Case
from .actions import Level
from .derived_files import lacking_duration
from .slot_files import recoverable_verdict


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would make an item sound. ``level`` is ``None`` where no repair may act; ``cost`` is in people's words."""

    level: Level | None
    cost: str
    action: str

    def __str__(self) -> str:
        return f"{self.cost} ({self.action})" if self.cost else self.action


_AGENT_RUN = Remedy("agents", "agent run", "run the agent again, then its judges")
_PERSON = Remedy(None, "", "none: sound records contradict each other, a person has to decide")
_UNSAFE = Remedy(None, "", "none: put a regular file or directory in its place first")
_REBUILD = Remedy("regenerate", "free", "rebuild it from files that survive")
_WARNING = Remedy(None, "", "none needed: only --scylla-strict makes a warning fail")


_FOR_RUNS: dict[RunStatus, Remedy] = {
    "completed": _WARNING,
    "failed": _AGENT_RUN,
    "partial": _AGENT_RUN,
    "missing": _AGENT_RUN,
    "conflict": _PERSON,
    "unsafe": _UNSAFE,
}
_FOR_SLOTS: dict[SlotStatus, Remedy] = {
    "complete": _WARNING,
    "agent_failed": _AGENT_RUN,
    "conflict": _PERSON,
    "unsafe": _UNSAFE,
}


def remedy_for_run(case: Case, audit: RunAudit) -> Remedy:
    """The remedy for the run's own item."""
    if audit.status != "results":
        return _FOR_RUNS[audit.status]
    codes = {found.code for found in audit.findings if found.severity == "error"}
    if lacking := _irreplaceable(case, audit, codes):
        return Remedy(None, "", f"none: {lacking}")
    if "no-complete-slot" in codes or any(code.startswith("consensus-") for code in codes):
        return _remedy_by_judgments(case, audit)
    return _REBUILD


def remedy_for_slot(case: Case, audit: RunAudit, slot: SlotAudit) -> Remedy:
    """The remedy for one of the run's judge slots."""
    if slot.status in _FOR_SLOTS:
        return _FOR_SLOTS[slot.status]
    evidence = case.evidence.slots[slot.slot.number - 1]
    refused = any(found.code == "fallback-refused" for found in slot.findings)  # a sound record: nothing to rebuild
    if not refused and recoverable_verdict(evidence, case.evidence) is not None:
        return Remedy("regenerate", "free", "rebuild judgment.json from the judge's reply")
    return _judge_call(case, evidence)


def _judge_call(case: Case, evidence: SlotEvidence) -> Remedy:
    if not case.evidence.judge_prompt.data.strip():
        return Remedy(None, "", "none: judge_prompt.md is lost, so nobody can ask the judge again (evidence-gone)")
    return Remedy("judges", "1 judge call", f"ask {evidence.slot.name}'s model again")


def _remedy_by_judgments(case: Case, audit: RunAudit) -> Remedy:
    """A consensus needs judgments: those that are complete, or can be rebuilt, or else are asked for again."""
    if any(slot.status in ("unsafe", "conflict") for slot in audit.slots):
        return Remedy(None, "", "none until the judge slots in conflict, or unsafe, are put right")
    remedies = [remedy_for_slot(case, audit, slot) for slot in audit.slots if not slot.complete]
    calls = sum(remedy.level == "judges" for remedy in remedies)
    at_hand = len(audit.slots) - len(remedies) + sum(remedy.level == "regenerate" for remedy in remedies)
    if at_hand and not _counts_a_failure(case):
        return _REBUILD
    if not calls:
        return Remedy(None, "", "none: judgments are lacking, and judge_prompt.md is lost (evidence-gone)")
    plural = "s" * (calls != 1)
    return Remedy("judges", f"{calls} judge call{plural}", "judge its slots, then rebuild what follows from them")


def _counts_a_failure(case: Case) -> bool:
    """Whether run_result.json lists a verdict that nobody gave: its judgment is not valid, and no reply bears it out.

    The consensus must not count it, and must not be made of fewer verdicts than are listed.
    """
    run = case.evidence
    return any(
        (listed := listed_verdict(run, slot.slot)) is not None
        and slot.judgment.data.get("is_valid", True) is not True
        and not any(given.agrees_with(listed[1]["score"], listed[1]["passed"]) for given in verdicts_of(slot))
        for slot in run.slots
    )


def _irreplaceable(case: Case, audit: RunAudit, codes: set[str]) -> str:
    """Why a derived file of the run cannot be rebuilt; "" if it can."""
    run = case.evidence
    if any(code.startswith("agent-result-") for code in codes):
        if (usage_of_reply(case.output) or usage_of_record(run.result)) is None:
            return "agent/result.json cannot be rebuilt, for the agent's output holds no token counts"
        if not exit_codes(run):
            return "agent/result.json cannot be rebuilt, for no record holds the exit code"
    if any(code.startswith("run-result-") for code in codes) and not run.run_result.sound:
        # The slots that are complete by the time it is rebuilt.
        judged = [
            slot.slot.number
            for slot in audit.slots
            if slot.complete or remedy_for_slot(case, audit, slot).level == "regenerate"
        ]
        if lacking := lacking_duration(run, judged):
            return f"run_result.json cannot be rebuilt, for {lacking}"
    return ""
