"""What surviving files give back: pure functions from evidence to a record."""

from __future__ import annotations

from ..auditing.consensus import agree
from ..auditing.evidence import RunEvidence, SlotEvidence
from ..auditing.slot import listed_verdict, verdicts_of
from ..auditing.verdicts import Verdict


def recoverable_verdict(slot: SlotEvidence, run: RunEvidence) -> Verdict | None:
    """The verdict from which the slot's judgment.json can be rebuilt, or ``None``.

    It has to be unmistakable: the only one that the replies hold, or, of several different ones, the first that
    run_result.json lists for this slot. A slot whose call failed, or whose judgment says that it is not valid, gives
    nothing back, whatever its replies hold.
    """
    if slot.timing.data.get("failed") is True or slot.judgment.data.get("is_valid", True) is not True:
        return None
    given = [verdict for verdict in verdicts_of(slot) if isinstance(verdict.record.get("reasoning"), str)]
    if not given:
        return None
    if all(verdict.agrees_with(given[0].score, given[0].passed) for verdict in given):
        return given[0]
    listed = listed_verdict(run, slot.slot)
    if listed is None:
        return None
    entry = listed[1]
    for verdict in given:
        same = all(verdict.record.get(key) == entry[key] for key in ("passed", "grade", "reasoning"))
        if same and agree(verdict.score, entry["score"]):
            return verdict
    return None
