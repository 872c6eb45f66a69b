"""Warnings about files that no verdict rests on, and that are still worth having."""

from __future__ import annotations

from collections.abc import Iterator

from ..experiment.records import Blob, Problem, Record
from .agent_output import AgentOutput
from .evidence import RunEvidence, SlotEvidence
from .findings import Finding, finding, problem_finding


def run_side_files(run: RunEvidence, output: AgentOutput) -> Iterator[Finding]:
    """Side files of a run whose agent finished."""
    for copy in (run.stdout_log, run.command_stdout):
        yield from _lost(copy)
        if copy.state == "sound" and output.data is not None and copy.data != output.data:
            if output.data.startswith(copy.data):
                found = f"found its first {len(copy.data)} bytes"
            else:
                found = "found another text"
            yield finding("side-file-malformed", copy.file, f"expected the text of the agent's output, {found}")
    yield from _lost(run.stderr)
    yield from _unsound(run.timing)
    yield from _unsound(run.command_log)
    yield from _model_file(run.model_file, run.named_model)
    yield from _lost(run.judge_prompt)
    if run.judge_prompt.state == "sound" and not run.judge_prompt.data.strip():
        yield finding("side-file-malformed", run.judge_prompt.file, "expected the judges' prompt, found it blank")
    yield from _unsound(run.judge_timing)


def slot_side_files(slot: SlotEvidence) -> Iterator[Finding]:
    """Side files of a complete judge slot."""
    for reply in (slot.response, slot.stdout):
        yield from _lost(reply)
        if reply.state == "sound" and not reply.data.strip():
            yield finding("side-file-malformed", reply.file, "expected the judge's reply, found it blank")
    yield from _unsound(slot.timing)
    yield from _model_file(slot.model_file, slot.named_model)


def _lost(blob: Blob) -> Iterator[Finding]:
    if blob.state == "absent":
        yield finding("side-file-missing", blob.file, "expected a file, found none")
    elif blob.state != "sound":
        yield finding(_code(blob.state), blob.file, blob.reason)


def _unsound(record: Record) -> Iterator[Finding]:
    if record.state == "absent":
        yield finding("side-file-missing", record.file, "expected a record, found none")
    elif not record.sound:
        problem = record.problems[0] if record.problems else Problem("", "")
        yield problem_finding(_code(record.state), record.file, problem)


def _model_file(blob: Blob, named: str | None) -> Iterator[Finding]:
    yield from _lost(blob)
    if blob.state == "sound" and named is None:
        yield finding("side-file-malformed", blob.file, "expected a line **Model**: <name>, found none")


def _code(state: str) -> str:
    return "side-file-unsafe" if state == "unsafe" else "side-file-malformed"
