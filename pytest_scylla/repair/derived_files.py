"""What follows from the agent's records and the judgments: the consensus, its timing, and run_result.json."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..auditing.consensus import agree, consensus_of, grades_near
from ..auditing.derived import as_given, exit_codes
from ..auditing.evidence import RunEvidence
from ..auditing.slot import SlotAudit
from ..auditing.verdicts import Verdict
from ..experiment.records import Record
from ..experiment.strict_json import Json
from ..experiment.timestamps import moment
from .agent_files import last_command, output_source, token_stats
from .request import CannotRegenerate, LacksJudgment, Regenerated, RegenerateRequest, with_unknown_keys, without

_TIE = 1e-9
"""Two judgments as far from the mean as each other differ by no more than this, which rounding accounts for."""


def judge_timing(request: RegenerateRequest) -> Regenerated:
    """judge/timing.json: run_result.json's duration if that is the slots' sum; measured with the last slot."""
    run = request.evidence
    timings = [slot.timing for slot in run.slots]
    moments = [(moment(timing.data.get("measured_at")), timing) for timing in timings]
    if not all(when for when, _ in moments):
        raise CannotRegenerate("not every slot's timing.json says how long the judge took, and until when")
    duration = _sum_of(timings)
    stored = run.run_result.data.get("judge_duration_seconds")
    # Measured around all calls, it exceeds their sum by some milliseconds.
    if stored is not None and abs(stored - duration) <= 0.01 * len(timings):
        duration = stored
    last = max(((when, timing) for when, timing in moments if when), key=lambda found: found[0])[1]
    record = {"judge_duration_seconds": duration, "measured_at": last.data["measured_at"]}
    return request.record(record, *(timing.file for timing in timings))


def consensus(request: RegenerateRequest) -> Regenerated:
    """judge/result.json: from run_result.json where it lists a verdict that no slot holds, else from the slots."""
    run, slots = request.evidence, request.case.slots
    if any(slot.status in ("conflict", "unsafe") for slot in slots):
        raise CannotRegenerate("a judge slot is in conflict, or unsafe")
    complete = [slot for slot in slots if slot.verdict]
    listed = run.run_result.data.get("judges", ())
    lost = {slot.slot.number for slot in slots if not slot.complete}
    if len(listed) > len(complete) or any(entry["judge_number"] in lost for entry in listed):
        return request.record(with_unknown_keys(_listed_consensus(run, complete), run.consensus), run.run_result.file)
    verdicts = [slot.verdict for slot in complete if slot.verdict]
    result = consensus_of(verdicts)
    if result is None:
        raise LacksJudgment("no judgment survives")
    reasoning = run.run_result.data.get("judge_reasoning")
    chosen = next((slot for slot in complete if slot.judgment and slot.judgment["reasoning"] == reasoning), None)
    voice = chosen.judgment if chosen is not None and chosen.judgment else _closest(verdicts, result.score).record
    record = {
        "score": result.score,
        "passed": result.passed,
        "grade": result.grade,
        "reasoning": voice["reasoning"],
        "is_valid": True,
        "criteria_scores": voice.get("criteria_scores"),
    }
    return request.record(with_unknown_keys(record, run.consensus), *(_judgment_file(run, slot) for slot in complete))


def _listed_consensus(run: RunEvidence, complete: Sequence[SlotAudit]) -> dict[str, Json]:
    final = run.run_result.data
    listed = [as_given(entry) for entry in final["judges"]]
    result = consensus_of(listed)
    assert result is not None
    score, passed, grade, reasoning = (final[f"judge_{key}"] for key in ("score", "passed", "grade", "reasoning"))
    if not (agree(score, result.score) and passed is result.passed and grade in grades_near(result.score)):
        # What it lists is nearer to the judges than what it makes of that.
        score, passed, grade = result.score, result.passed, result.grade
        reasoning = _closest(listed, score).record["reasoning"]
    judgments = [slot.judgment for slot in complete if slot.judgment and slot.judgment["reasoning"] == reasoning]
    return {
        "score": score,
        "passed": passed,
        "grade": grade,
        "reasoning": reasoning,
        "is_valid": True,
        "criteria_scores": (judgments[0] if judgments else final).get("criteria_scores"),
    }


def _closest(verdicts: Sequence[Verdict], mean: float) -> Verdict:
    nearest = min(abs(verdict.score - mean) for verdict in verdicts)
    return next(verdict for verdict in verdicts if abs(verdict.score - mean) <= nearest + _TIE)


def run_result(request: RegenerateRequest) -> Regenerated:
    """run_result.json: from the agent's records, the consensus and the judgments, and what it alone still lists."""
    run, case, old = request.evidence, request.case, request.evidence.run_result
    usage, codes = case.usage, exit_codes(run)
    if usage is None or not codes:
        raise CannotRegenerate("no record holds the agent's token counts and exit code")
    agent, agent_source = _agent_duration(run)
    if not run.consensus.sound or any(found.severity == "error" for found in case.consensus_findings):
        raise LacksJudgment("judge/result.json, which it repeats, cannot be relied on")
    judges = _judges(run, case.slots)
    if not judges:
        raise LacksJudgment("no judgment survives")
    judging, judging_sources = _judge_duration(run, case.slots)
    consensus = run.consensus.data
    record = {
        "run_number": run.run.number,
        "exit_code": next(iter(codes.values())),
        "token_stats": token_stats(usage.tokens),
        "tokens_input": usage.tokens.input + usage.tokens.cache_read,
        "tokens_output": usage.tokens.output,
        "cost_usd": usage.cost_usd,
        "duration_seconds": agent + judging,
        "agent_duration_seconds": agent,
        "judge_duration_seconds": judging,
        "judge_score": consensus["score"],
        "judge_passed": consensus["passed"],
        "judge_grade": consensus["grade"],
        "judge_reasoning": consensus["reasoning"],
        "judges": judges,
        **_paths(request),
        "criteria_scores": consensus.get("criteria_scores", old.data.get("criteria_scores", {})),
    }
    judgments = [_judgment_file(run, slot) for slot in case.slots if slot.judgment is not None]
    known = [
        *output_source(case.output),
        next(iter(codes)),
        agent_source,
        *judging_sources,
        run.consensus.file,
        *judgments,
    ]
    if len(judges) > len(judgments):
        known.append(old.file)
    return request.record(with_unknown_keys(record, old), *known)


def _judges(run: RunEvidence, slots: Sequence[SlotAudit]) -> list[dict[str, Json]]:
    """An entry a complete slot; of any other the one that a sound run_result.json still lists."""
    entries = {entry["judge_number"]: dict(entry) for entry in run.run_result.data.get("judges", ())}
    for slot, evidence in zip(slots, run.slots, strict=True):
        if slot.judgment is not None:
            number = slot.slot.number
            entries[number] = {
                **entries.get(number, {}),
                "model": evidence.named_model or slot.model,
                **{key: slot.judgment[key] for key in ("score", "passed", "grade", "reasoning")},
                "judge_number": number,
            }
    return [_in_order(entries[number]) for number in sorted(entries)]


def _in_order(entry: dict[str, Json]) -> dict[str, Json]:
    keys = ("model", "score", "passed", "grade", "reasoning", "judge_number")
    return {**{key: entry[key] for key in keys if key in entry}, **without(entry, *keys)}


def _agent_duration(run: RunEvidence) -> tuple[float, str]:
    """In seconds, and the file it comes from: timing.json, else the last command's, else an old run_result.json's."""
    for record, seconds in (
        (run.timing, run.timing.data.get("agent_duration_seconds")),
        (run.command_log, last_command(run.command_log).get("duration_seconds")),
        (run.run_result, run.run_result.data.get("agent_duration_seconds")),
    ):
        if seconds is not None:
            return seconds, record.file
    raise CannotRegenerate("no record holds the agent's duration")


def _judge_duration(run: RunEvidence, slots: Sequence[SlotAudit]) -> tuple[float, tuple[str, ...]]:
    """In seconds, and the files it comes from.

    judge/timing.json's if that is at least as new as every slot's, else the slots' sum: a slot may have been judged
    again since. Where a slot's is lost as well, an old run_result.json's.
    """
    timings = [slot.timing for slot in run.slots if slot.timing.sound]
    whole = run.judge_timing
    moments = [when for timing in timings if (when := moment(timing.data["measured_at"]))]
    ended = moment(whole.data.get("measured_at"))
    if whole.sound and (not moments or (ended is not None and ended >= max(moments))):
        return whole.data["judge_duration_seconds"], (whole.file,)
    if all(evidence.timing.sound for slot, evidence in zip(slots, run.slots, strict=True) if slot.complete):
        return _sum_of(timings), tuple(timing.file for timing in timings)
    old = run.run_result.data.get("judge_duration_seconds")
    if old is None:
        raise CannotRegenerate("no record holds the judges' duration")
    return old, (run.run_result.file,)


def _sum_of(timings: Sequence[Record]) -> float:
    return math.fsum(timing.data["judge_duration_seconds"] for timing in timings)


def _paths(request: RegenerateRequest) -> dict[str, Json]:
    """Absolute as of the day they are written; those of a sound record are kept."""
    old = request.evidence.run_result.data
    run = f"{request.experiment.root}/{request.evidence.folder.file}"
    today = {
        "workspace_path": f"{run}/workspace",
        "logs_path": f"{run}/agent",
        "command_log_path": f"{run}/agent/command_log.json",
    }
    return {key: old.get(key, path) for key, path in today.items()}


def _judgment_file(run: RunEvidence, slot: SlotAudit) -> str:
    return run.slots[slot.slot.number - 1].judgment.file
