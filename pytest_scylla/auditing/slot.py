"""The verdict on a judge slot, by its own evidence.

What the run makes of it (a slot that needs judging while there is no agent result is ``agent_failed``) is decided in
:mod:`.status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..experiment.attempts import attempts_folder
from ..experiment.layout import SlotId
from ..experiment.records import Record
from ..experiment.strict_json import Json
from ..experiment.timestamps import moment
from ..experiment.wording import describe, printable
from .consensus import agree
from .evidence import Policy, RunEvidence, SlotEvidence
from .findings import Finding, SlotStatus, finding, problem_finding
from .verdicts import Verdict, verdicts_in

_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class SlotAudit:
    """The verdict on one judge slot.

    ``score`` (0 to 1) and ``passed`` are those of a ``complete`` slot's judgment, else ``None``; ``fallback`` says that
    they are a heuristic's. ``judgment`` is the sound record itself, ``None`` where there is none.
    """

    slot: SlotId
    model: str
    status: SlotStatus
    findings: tuple[Finding, ...]
    score: float | None = None
    passed: bool | None = None
    fallback: bool = False
    judgment: Mapping[str, Json] | None = None

    @property
    def complete(self) -> bool:
        """Whether a sound judgment is there."""
        return self.status == "complete"

    @property
    def exhausted(self) -> bool:
        """Whether its judge was asked as often as is enough, and gave no verdict."""
        return any(found.code == "exhausted" for found in self.findings)

    @property
    def verdict(self) -> Verdict | None:
        """The judgment as a verdict, if the slot is complete."""
        if self.judgment is None or self.score is None or self.passed is None:
            return None
        return Verdict(self.score, self.passed, dict(self.judgment))

    def with_findings(self, findings: tuple[Finding, ...]) -> SlotAudit:
        """The same slot with these findings instead of its own."""
        return replace(self, findings=findings)

    def with_status(self, status: SlotStatus, *findings: Finding) -> SlotAudit:
        """The same slot under another status, for the reason that ``findings`` give.

        What was found in the slot stays; that nothing is there would add nothing.
        """
        own = () if self.status == "missing" else self.findings
        return replace(self, status=status, findings=(*findings, *own), score=None, passed=None, judgment=None)


def audit_slot(evidence: SlotEvidence, run: RunEvidence, policy: Policy) -> SlotAudit:
    """Judge the slot by its own files, and by run_result.json where no reply of the judge is left."""

    def result(status: SlotStatus, *findings: Finding) -> SlotAudit:
        return SlotAudit(evidence.slot, evidence.model, status, findings)

    def lacking(status: SlotStatus, *findings: Finding) -> SlotAudit:
        return result(status, *_with_attempts(findings, evidence, run, policy))

    folder, judgment = evidence.folder, evidence.judgment
    if folder.state == "absent":
        return lacking("missing", finding("judge-slot-missing", folder.file, "expected a directory, found none"))
    if folder.state == "malformed":
        return lacking("failed", finding("judge-slot-malformed", folder.file, folder.reason))
    for place, reason in ((folder, folder.reason), (judgment, _first_message(judgment))):
        if place.state == "unsafe":
            return result("unsafe", finding("unsafe-object", place.file, reason))
    if faults := _judgment_faults(evidence, policy):
        return lacking("failed", *faults)
    given = [] if evidence.fallback else verdicts_of(evidence)
    if contradictions := _contradictions(evidence, run, given):
        return result("conflict", *contradictions)
    return SlotAudit(
        evidence.slot,
        evidence.model,
        "complete",
        tuple(_warnings(evidence, run, given)),
        score=float(judgment.data["score"]),
        passed=judgment.data["passed"],
        fallback=evidence.fallback,
        judgment=judgment.data,
    )


def verdicts_of(evidence: SlotEvidence) -> list[Verdict]:
    """The verdicts of the slot's replies: response.txt's, and stdout.log's after them where it says something else."""
    return [verdict for reply in evidence.replies for verdict in verdicts_in(reply.text)]


def listed_verdict(run: RunEvidence, slot: SlotId) -> tuple[int, Mapping[str, Any]] | None:
    """What a sound run_result.json lists for ``slot``: the index in its ``judges``, and the entry."""
    if run.run_result.sound:
        for index, entry in enumerate(run.run_result.data["judges"]):
            if entry["judge_number"] == slot.number:
                return index, entry
    return None


def _first_message(record: Record) -> str:
    return record.problems[0].message if record.problems else ""


def _with_attempts(
    findings: tuple[Finding, ...], evidence: SlotEvidence, run: RunEvidence, policy: Policy
) -> tuple[Finding, ...]:
    """What is wrong with a slot that needs judging, and how often its judge was asked for that in vain."""
    asked = [attempt for attempt in evidence.attempts_with(run.judge_prompt) if attempt.counts]
    if not asked:
        return findings
    reason = printable(asked[-1].reason or "", _LONGEST_REASON)
    if len(asked) < policy.attempts:
        times = "once" if len(asked) == 1 else f"{len(asked)} times"
        first, *others = findings
        return replace(first, message=f"{first.message}; asked {times}: {reason}"), *others
    limit = f"{policy.attempts} attempt{'s' * (policy.attempts != 1)}"
    message = f"expected a verdict within {limit}, found none; the last: {reason}"
    return *findings, finding("exhausted", attempts_folder(evidence.slot), message)


def _judgment_faults(evidence: SlotEvidence, policy: Policy) -> list[Finding]:
    judgment = evidence.judgment
    if judgment.state == "absent":
        message = "expected a judgment, found none"
        if evidence.timing.data.get("failed") is True:
            message += "; timing.json says that the judge call failed"
        return [finding("judgment-missing", judgment.file, message)]
    if judgment.state == "malformed":
        return [problem_finding("judgment-malformed", judgment.file, problem) for problem in judgment.problems]
    if judgment.state == "invalid":
        return [
            problem_finding(
                "score-out-of-range"
                if problem.pointer == "/score" and problem.keyword in ("minimum", "maximum")
                else "judgment-invalid",
                judgment.file,
                problem,
            )
            for problem in judgment.problems
        ]
    if judgment.data.get("is_valid", True) is not True:
        return [finding("judgment-not-valid", judgment.file, "expected true, found false", "/is_valid")]
    if evidence.fallback and policy.fallback == "fail":
        return [finding("fallback-refused", judgment.file, "expected a judge's verdict, found a fallback")]
    return []


def _contradictions(evidence: SlotEvidence, run: RunEvidence, given: list[Verdict]) -> list[Finding]:
    judgment, found = evidence.judgment, []
    score, passed = judgment.data["score"], judgment.data["passed"]
    stored = f"score {describe(score)}, passed {describe(passed)}"
    if given and not any(verdict.agrees_with(score, passed) for verdict in given):
        said = "; ".join(f"score {verdict.score:g}, passed {describe(verdict.passed)}" for verdict in given[:3])
        found.append(
            finding(
                "judgment-differs-from-reply", judgment.file, f"expected what the reply says ({said}), found {stored}"
            )
        )
    if not evidence.replies and not evidence.fallback and (listed := listed_verdict(run, evidence.slot)):
        entry = listed[1]
        if entry["passed"] is not passed or not agree(entry["score"], score):
            said = f"score {describe(entry['score'])}, passed {describe(entry['passed'])}"
            found.append(
                finding(
                    "judgment-differs-from-run-result",
                    judgment.file,
                    f"expected what run_result.json lists ({said}), found {stored}",
                )
            )
    named = evidence.named_model
    if named is not None and evidence.model and named != evidence.model:
        found.append(
            finding(
                "judge-model-differs",
                evidence.model_file.file,
                f"expected {describe(evidence.model)}, found {describe(named)}",
            )
        )
    return found


def _warnings(evidence: SlotEvidence, run: RunEvidence, given: list[Verdict]) -> list[Finding]:
    judgment, found = evidence.judgment, []
    if evidence.fallback:
        reason = judgment.data.get("fallback_reason")
        message = "expected a judge's verdict, found a fallback"
        found.append(finding("fallback", judgment.file, f"{message} ({describe(reason)})" if reason else message))
    score, passed = judgment.data["score"], judgment.data["passed"]
    if given and not given[-1].agrees_with(score, passed):
        last = f"score {given[-1].score:g}, passed {describe(given[-1].passed)}"
        found.append(
            finding(
                "verdict-revised",
                judgment.file,
                f"expected the last of {len(given)} verdicts ({last}), "
                f"found an earlier one (score {describe(score)}, passed {describe(passed)})",
            )
        )
    judged, finished = (moment(timing.data.get("measured_at")) for timing in (evidence.timing, run.timing))
    if judged and finished and judged < finished:
        found.append(
            finding(
                "stale",
                evidence.timing.file,
                f"expected a time after the agent's {finished.isoformat()}, found {judged.isoformat()}",
                "/measured_at",
            )
        )
    return found
