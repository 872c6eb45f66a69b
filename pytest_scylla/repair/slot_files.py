"""A judge slot's files: the judgment from the judge's reply, and one copy of the reply from the other."""

from __future__ import annotations

from collections.abc import Mapping

from ..auditing.consensus import grade_of
from ..auditing.evidence import RunEvidence, SlotEvidence
from ..auditing.slot import listed_verdict, verdicts_of
from ..auditing.verdicts import Verdict, unwrapped, verdicts_in
from ..experiment.layout import CONFIG
from ..experiment.schemas import is_valid
from ..experiment.strict_json import Json
from .agent_files import model_file
from .request import CannotRegenerate, Regenerated, RegenerateRequest


def recoverable_verdict(slot: SlotEvidence, run: RunEvidence) -> Verdict | None:
    """The verdict from which the slot's judgment.json can be rebuilt, or ``None``.

    It has to be unmistakable: the first that run_result.json lists for this slot, or, where that lists none of them,
    the only one that the replies hold. A slot whose call failed, or whose judgment says that it is not valid, gives
    nothing back, whatever its replies hold.
    """
    if slot.timing.data.get("failed") is True or slot.disowned:
        return None
    verdicts = verdicts_of(slot)
    given = [verdict for verdict in verdicts if isinstance(verdict.record.get("reasoning"), str)]
    listed = listed_verdict(run, slot.slot)
    named = [verdict for verdict in given if listed and _is_listed(verdict, listed[1])]
    if listed and named:
        return next((verdict for verdict in named if verdict.record.get("grade") == listed[1]["grade"]), named[0])
    if given and all(verdict.agrees_with(given[0].score, given[0].passed) for verdict in verdicts):
        return given[0]
    return None


def _is_listed(verdict: Verdict, entry: Mapping[str, Json]) -> bool:
    return (
        verdict.agrees_with(entry["score"], entry["passed"])
        and verdict.record["reasoning"] == entry["reasoning"]
        and entry["grade"] in (verdict.record.get("grade"), grade_of(verdict.score))
    )


def judgment(request: RegenerateRequest) -> Regenerated:
    """judgment.json: the verdict as the judge's reply has it, the grade as its score gives it."""
    slot, run = request.slot, request.evidence
    verdict = recoverable_verdict(slot, run)
    if verdict is None:
        raise CannotRegenerate(_why_no_verdict(slot))
    first, *others = slot.replies
    if others and verdict.record not in [given.record for given in verdicts_in(first.text)]:
        (first,) = others
    record, sources = judgment_record(verdict), [first.file]
    listed = listed_verdict(run, slot.slot)
    if listed is not None and _is_listed(verdict, listed[1]):
        record["grade"] = listed[1]["grade"]
        sources.append(run.run_result.file)
    return request.record(record, *sources)


def judgment_record(verdict: Verdict) -> dict[str, Json]:
    """The judgment.json of a verdict with a reasoning: as the judge gave it, but for the grade, which is its score's.

    Criteria of a shape that no judgment may have are left out; they stay in the reply.
    """
    record = {
        "score": verdict.score,
        "passed": verdict.passed,
        "grade": grade_of(verdict.score),
        "reasoning": verdict.record["reasoning"],
        "is_valid": True,
        "criteria_scores": verdict.record.get("categories", verdict.record.get("criteria_scores")),
    }
    if not is_valid("judgment", record):
        record["criteria_scores"] = None
    return record


def _why_no_verdict(slot: SlotEvidence) -> str:
    if slot.timing.data.get("failed") is True:
        return "timing.json says that the judge call failed"
    if slot.disowned:
        return "judgment.json says itself that it is not valid"
    if not verdicts_of(slot):
        return "no reply of the judge holds a verdict"
    return "the judge gave several verdicts, and nothing tells which of them counted"


def reply_copy(request: RegenerateRequest) -> Regenerated:
    """A slot's response.txt or stdout.log from the other, which is the same text in slots that have both."""
    slot, siblings = request.slot, request.evidence.slots
    wants_response = request.name.endswith("/response.txt")
    other = slot.stdout if wants_response else slot.response
    if not other.data.strip():
        raise CannotRegenerate("no copy of the judge's reply is left")
    inner = unwrapped(other.text) if wants_response else None
    if inner is not None:
        return Regenerated(inner.encode("utf-8", "surrogatepass"), (other.file,))
    if any(len(sibling.replies) == 2 for sibling in siblings):
        raise CannotRegenerate("response.txt and stdout.log are not the same text in this run's other slots")
    return Regenerated(other.data, (other.file,))


def judge_model(request: RegenerateRequest) -> Regenerated:
    """A slot's MODEL.md: the model that the configuration gives the slot, unless run_result.json names another."""
    slot = request.slot
    listed = listed_verdict(request.evidence, slot.slot)
    if listed is not None and listed[1].get("model", slot.model) != slot.model:
        raise CannotRegenerate("configuration and run_result.json name different models")
    return model_file("Judge", slot.model, CONFIG)
