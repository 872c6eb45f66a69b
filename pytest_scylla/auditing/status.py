"""The status of a run: the rules, in their order. The first that holds decides.

Each rule looks at a :class:`Case` and returns the findings that make it hold; none, and the next rule is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..experiment.records import Blob, Record
from ..experiment.wording import describe
from . import derived
from .agent_output import AgentOutput, read_copies
from .evidence import Policy, RunEvidence, SlotEvidence
from .findings import Finding, RunStatus, SlotStatus, finding
from .side_files import run_side_files, slot_side_files
from .slot import SlotAudit, audit_slot


@dataclass
class Case:
    """One run's evidence, and what follows from it, worked out when a rule first asks for it."""

    evidence: RunEvidence
    policy: Policy

    def with_file(self, name: str, data: bytes) -> Case:
        """The case if the run's file ``name`` were ``data``.

        What that file does not bear on is not worked out again.
        """
        case = Case(self.evidence.with_file(name, data), self.policy)
        if not name.startswith("agent/"):
            case.output = self.output
            case.slots = case._slots_after(self, name)
        return case

    def _slots_after(self, before: Case, name: str) -> tuple[SlotAudit, ...]:
        """The slots, given those of the same case ``before`` its file ``name`` changed."""
        known = zip(before.slots, before.evidence.slots, self.evidence.slots, strict=True)
        return tuple(
            # Only a slot without a reply of its judge is compared with run_result.json.
            slot if now is then and (now.replies or name != "run_result.json") else self._slot(now)
            for slot, then, now in known
        )

    def _slot(self, slot: SlotEvidence) -> SlotAudit:
        return audit_slot(slot, self.evidence, self.policy)

    @cached_property
    def slots(self) -> tuple[SlotAudit, ...]:
        """The configured slots, each by its own evidence."""
        return tuple(map(self._slot, self.evidence.slots))

    @cached_property
    def extra_slots(self) -> tuple[SlotAudit, ...]:
        """The slots beyond the configuration."""
        return tuple(map(self._slot, self.evidence.extra_slots))

    @cached_property
    def output(self) -> AgentOutput:
        """What the copies of the agent's output say."""
        run = self.evidence
        copies = [
            (blob.file, blob.data) for blob in (run.output, run.stdout_log, run.command_stdout) if blob.state == "sound"
        ]
        if run.result.sound:
            stdout = run.result.data["stdout"].encode("utf-8", "surrogatepass")
            copies.append((f"{run.result.file} /stdout", stdout))
        return read_copies(copies)

    @cached_property
    def consensus_findings(self) -> tuple[Finding, ...]:
        """What is wrong with the consensus, and what is worth knowing about it."""
        return tuple(derived.stale_consensus(self.evidence, self.slots, self.extra_slots))

    @cached_property
    def run_result_findings(self) -> tuple[Finding, ...]:
        """What is wrong with run_result.json."""
        return tuple(derived.stale_run_result(self.evidence, self.output, self.slots))

    @cached_property
    def exit_code(self) -> int | None:
        """The agent's exit code, by the rawest record that has one."""
        return next(iter(derived.exit_codes(self.evidence).values()), None)

    @cached_property
    def usage(self) -> derived.Usage | None:
        """What the agent consumed, by the rawest record that tells."""
        accounts = (
            derived.usage_of_reply(self.output),
            derived.usage_of_record(self.evidence.result),
            derived.usage_of_record(self.evidence.run_result),
        )
        known = [usage for usage in accounts if usage is not None]
        if not known:
            return None
        cost = next((usage.cost_usd for usage in known if usage.cost_usd is not None), None)
        return derived.Usage(known[0].tokens, cost)


def _never_started(case: Case) -> Iterator[Finding]:
    run = case.evidence
    if run.folder.state == "absent":
        yield finding("run-missing", run.folder.file, "expected a run, found none or nothing but prompts")


def _unsafe_evidence(case: Case) -> Iterator[Finding]:
    run = case.evidence
    blobs: tuple[Blob, ...] = (run.folder, run.agent, run.judge, run.output)
    records: tuple[Record, ...] = (run.result, run.consensus, run.run_result)
    for blob in blobs:
        if blob.state == "unsafe":
            yield finding("unsafe-object", blob.file, blob.reason)
    for record in records:
        if record.state == "unsafe":
            yield finding("unsafe-object", record.file, record.problems[0].message)


def _in_two_places(case: Case) -> Iterator[Finding]:
    run = case.evidence
    for place in run.also_at:
        yield finding("run-in-two-places", place, f"expected the run in one place, found it also at {run.folder.file}")


def _copied(case: Case) -> Iterator[Finding]:
    return derived.foreign_paths(case.evidence)


def _agent_failed(case: Case) -> Iterator[Finding]:
    run, usage, code = case.evidence, case.usage, case.exit_code
    if usage is not None and usage.tokens.none_at_all and code is not None and code != 0:
        place = next(iter(derived.exit_codes(run)))
        name = "agent-never-ran" if code == -1 else "agent-error"
        yield finding(name, place, f"expected an execution, found exit code {code} and no token counted")
    elif case.output.reply is not None and case.output.reply.service_error:
        status = case.output.reply.record["api_error_status"]
        message = f"expected the agent's result, found an error of its service (api_error_status {describe(status)})"
        yield finding("agent-error", derived.output_file(case.output), message)
    elif not case.output.sound and _ended_without_output(case):
        yield finding("agent-output-missing", run.output.file, "expected the agent's output, found only its stderr.log")


def _ended_without_output(case: Case) -> bool:
    run = case.evidence
    usages = (derived.usage_of_record(run.result), derived.usage_of_record(run.run_result))
    return (
        run.stderr.state == "sound"
        and (run.output.state == "absent" or (run.output.state == "sound" and not run.output.data))
        and not any(slot.complete or slot.status == "conflict" for slot in case.slots)
        and not any(usage is not None and usage.tokens.output > 0 for usage in usages)
    )


def _output_lost(case: Case) -> Iterator[Finding]:
    run = case.evidence
    if case.output.sound:
        return
    for copy in case.output.faults:
        yield finding("agent-output-unsound", copy.file, copy.fault)
    if not case.output.faults:
        malformed = next((blob for blob in (run.folder, run.agent, run.output) if blob.state == "malformed"), None)
        if malformed is not None:
            yield finding("agent-output-unsound", malformed.file, malformed.reason)
        else:
            yield finding("agent-output-missing", run.output.file, "expected the agent's output, found no copy of it")


def _contradictions(case: Case) -> Iterator[Finding]:
    if case.output.conflicting:
        files = ", ".join(copy.file for copy in case.output.sound)
        message = f"expected copies of one text, found different ones in {files}"
        yield finding("output-copies-conflict", case.evidence.output.file, message)
    else:
        yield from derived.contradicting_usage(case.evidence, case.output)


def _derived_files(case: Case) -> Iterator[Finding]:
    run = case.evidence
    yield from _output_file(case)
    yield from derived.stale_agent_result(run, case.output)
    yield from (found for found in case.consensus_findings if found.severity == "error")
    yield from case.run_result_findings
    if not any(slot.complete for slot in case.slots):
        message = f"expected judgments, found none of {len(case.slots)} slots complete"
        yield finding("no-complete-slot", run.judge.file, message)


def _output_file(case: Case) -> Iterator[Finding]:
    blob, truth = case.evidence.output, case.output.data
    if blob.state == "absent":
        yield finding("output-missing", blob.file, "expected the agent's output, found none; another copy survives")
    elif blob.state == "malformed":
        yield finding("output-malformed", blob.file, blob.reason)
    elif truth is not None and blob.data != truth:
        fault = next((copy.fault for copy in case.output.faults if copy.file == blob.file), "")
        if truth.startswith(blob.data):
            source = derived.output_file(case.output)
            message = f"expected the {len(truth)} bytes of {source}, found the first {len(blob.data)}"
            yield finding("output-truncated", blob.file, message)
        elif fault:
            yield finding("output-malformed", blob.file, fault)
        else:
            message = f"expected the text of {derived.output_file(case.output)}, found another"
            yield finding("output-differs", blob.file, message)


RULES: tuple[tuple[RunStatus, Callable[[Case], Iterator[Finding]]], ...] = (
    ("missing", _never_started),
    ("unsafe", _unsafe_evidence),
    ("conflict", _in_two_places),
    ("conflict", _copied),
    ("failed", _agent_failed),
    ("partial", _output_lost),
    ("conflict", _contradictions),
    ("results", _derived_files),
)
"""The rules of a run in their order; where none holds, it is ``completed``."""


def decide(case: Case) -> tuple[RunStatus, tuple[Finding, ...], tuple[SlotAudit, ...]]:
    """Apply the rules: the run's status with its findings, and its slots as they stand in that run."""
    status, errors = _first_that_holds(case)
    warnings = tuple(_run_warnings(case)) if status in ("completed", "results", "conflict") else ()
    return status, errors + warnings, tuple(_settle(case, status, errors))


def _first_that_holds(case: Case) -> tuple[RunStatus, tuple[Finding, ...]]:
    for status, rule in RULES:
        if errors := tuple(rule(case)):
            return status, errors
    return "completed", ()


def _run_warnings(case: Case) -> Iterator[Finding]:
    yield from run_side_files(case.evidence, case.output)
    for extra in case.evidence.extra_slots:
        count = len(case.slots)
        yield finding("extra-slot", extra.folder.file, f"expected {count} judge{'s' * (count != 1)}, found another")
    yield from (found for found in case.consensus_findings if found.severity == "warning")


def _settle(case: Case, status: RunStatus, errors: tuple[Finding, ...]) -> Iterator[SlotAudit]:
    """The slots, given what became of their run."""
    for slot, evidence in zip(case.slots, case.evidence.slots, strict=True):
        imposed, reason = _imposed(case, status, errors, slot, bool(evidence.replies))
        if imposed is not None:
            yield slot.with_status(imposed, *reason)
        elif slot.complete and (warnings := tuple(slot_side_files(evidence))):
            yield slot.with_findings(slot.findings + warnings)
        else:
            yield slot


def _imposed(
    case: Case, status: RunStatus, errors: tuple[Finding, ...], slot: SlotAudit, replied: bool
) -> tuple[SlotStatus | None, tuple[Finding, ...]]:
    run = case.evidence
    if status == "unsafe":
        # The slots lie inside these two; whatever else is unsafe concerns the run alone.
        barred = tuple(error for error in errors if error.file in (run.folder.file, run.judge.file))
        return ("unsafe", barred) if barred else (None, ())
    if status == "conflict" and errors[0].code in ("run-in-two-places", "copied-from-another-run"):
        return "conflict", errors
    if status in ("missing", "failed", "partial"):
        kept = slot.status in ("complete", "conflict", "unsafe") or (slot.status == "failed" and replied)
        if not kept:
            message = f"expected an agent result to judge, found the run {status}"
            return "agent_failed", (finding("no-agent-result", str(run.run), message),)
    return None, ()
