"""Cross-file checks: do the records that derive from others say what those say?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..experiment.layout import run_named_in
from ..experiment.records import Record
from ..experiment.strict_json import Json
from ..experiment.wording import describe
from .agent_output import AgentOutput, TokenCounts
from .consensus import Consensus, agree, consensus_of, grades_near
from .evidence import RunEvidence
from .findings import Finding, finding, problem_finding
from .slot import SlotAudit, verdicts_of
from .verdicts import Verdict

_COUNTS = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_creation", "cache_creation_tokens"),
    ("cache_read", "cache_read_tokens"),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an agent's execution consumed, as one source has it."""

    tokens: TokenCounts
    cost_usd: float | None

    def agrees_with(self, other: Usage) -> bool:
        """Whether both say the same; a cost that one of them does not know is no contradiction."""
        unknown = self.cost_usd is None or other.cost_usd is None
        return self.tokens == other.tokens and (unknown or agree(self.cost_usd, other.cost_usd))

    def lost_cache_counts_of(self, other: Usage) -> bool:
        """Whether this is ``other`` after the old loss: the cache counts became 0, and nothing else changed."""
        mine, theirs = self.tokens, other.tokens
        return (
            (mine.cache_creation, mine.cache_read) == (0, 0)
            and Usage(
                TokenCounts(mine.input, mine.output, theirs.cache_creation, theirs.cache_read), self.cost_usd
            ).agrees_with(other)
            and mine != theirs
        )


def usage_of_reply(output: AgentOutput) -> Usage | None:
    """What the agent's own reply says it consumed."""
    reply = output.reply
    return Usage(reply.tokens, reply.cost_usd) if reply is not None and reply.tokens is not None else None


def usage_of_record(record: Record) -> Usage | None:
    """What agent/result.json or run_result.json says was consumed, if it is sound."""
    if not record.sound:
        return None
    return Usage(TokenCounts.from_stats(record.data["token_stats"]), record.data["cost_usd"])


def exit_codes(run: RunEvidence) -> dict[str, int]:
    """Every record's word on the agent's exit code, by file, the rawest first."""
    codes = {}
    if run.command_log.sound and run.command_log.data["commands"]:
        code = run.command_log.data["commands"][-1]["exit_code"]
        if code is not None:
            codes[run.command_log.file] = int(code)
    for record in (run.result, run.run_result):
        if record.sound:
            codes[record.file] = int(record.data["exit_code"])
    return codes


def foreign_paths(run: RunEvidence) -> Iterator[Finding]:
    """Stored paths whose tail names another tier, subtest or run."""
    stored: list[tuple[Record, str, Json]] = []
    if run.run_result.sound:
        stored += [
            (run.run_result, f"/{key}", run.run_result.data.get(key))
            for key in ("workspace_path", "logs_path", "command_log_path")
        ]
    if run.command_log.sound:
        stored += [
            (run.command_log, f"/commands/{index}/cwd", command.get("cwd"))
            for index, command in enumerate(run.command_log.data["commands"])
        ]
    own = str(run.run)
    for record, pointer, path in stored:
        named = run_named_in(path) if isinstance(path, str) else None
        if named is not None and named != own:
            message = f"expected a path of {own}, found one of {named}"
            yield finding("copied-from-another-run", record.file, message, pointer)


def contradicting_usage(run: RunEvidence, output: AgentOutput) -> Iterator[Finding]:
    """Sound records of the agent's consumption that cannot both be true.

    agent/result.json is no witness against its own output: where they differ it is stale, and the output counts. A
    run_result.json that merely follows a stale agent/result.json, or lost the cache counts, is stale as well.
    """
    own, stored, final = usage_of_reply(output), usage_of_record(run.result), usage_of_record(run.run_result)
    truth = own or stored
    if truth is None or final is None or final.agrees_with(truth) or final.lost_cache_counts_of(truth):
        return
    if own is not None and stored is not None and not stored.agrees_with(own) and final.agrees_with(stored):
        return
    source = "the agent's output" if own is not None else run.result.file
    yield from _usage_differences("agent-records-conflict", run.run_result.file, final, truth, source)


def stale_agent_result(run: RunEvidence, output: AgentOutput) -> Iterator[Finding]:
    """agent/result.json: absent, unsound, or not what the agent's output says."""
    if not run.result.sound:
        yield from unsound("agent-result", run.result)
        return
    own, stored = usage_of_reply(output), usage_of_record(run.result)
    if own is not None and stored is not None and not stored.agrees_with(own):
        yield from _usage_differences("agent-result-stale", run.result.file, stored, own, "the agent's output")
    if output.data is not None and _encoded(run.result.data["stdout"]) != output.data:
        message = f"expected the text of {output_file(output)}, found another"
        yield finding("agent-result-stale", run.result.file, message, "/stdout")
    yield from _exit_code_difference(run, run.result)


def stale_consensus(run: RunEvidence, slots: Sequence[SlotAudit], extra: Sequence[SlotAudit]) -> Iterator[Finding]:
    """judge/result.json: absent, unsound, or not what the judgments amount to."""
    record = run.consensus
    if not record.sound:
        yield from unsound("consensus", record)
        return
    basis, source = _basis(run, slots)
    expected = consensus_of(basis)
    if expected is None:
        return
    differences = _consensus_differences(record.data, expected)
    if not differences and record.data.get("is_valid", True) is False and all(slot.complete for slot in slots):
        differences = [("/is_valid", "expected true, since every judgment is valid, found false")]
    if differences and extra:
        surplus = [slot.verdict for slot in extra if slot.verdict]
        with_extra = consensus_of([*basis, *surplus])
        if surplus and with_extra and not _consensus_differences(record.data, with_extra):
            message = f"expected {len(basis)} judgments to count, found {with_extra.count}"
            yield finding("consensus-includes-extra", record.file, message)
            return
    for pointer, message in differences:
        yield finding("consensus-stale", record.file, f"{message} ({source})", pointer)


def stale_run_result(run: RunEvidence, output: AgentOutput, slots: Sequence[SlotAudit]) -> Iterator[Finding]:
    """run_result.json: absent, unsound, or not what the files below it say."""
    record = run.run_result
    if not record.sound:
        yield from unsound("run-result", record)
        return
    data = record.data
    if data["run_number"] != run.run.number:
        message = f"expected {run.run.number}, as the directory is named, found {describe(data['run_number'])}"
        yield finding("run-result-stale", record.file, message, "/run_number")
    yield from _exit_code_difference(run, record)
    yield from _stale_usage(run, output)
    agent, judge, total = (
        data[key] for key in ("agent_duration_seconds", "judge_duration_seconds", "duration_seconds")
    )
    if agent is not None and judge is not None and total is not None and not agree(total, agent + judge):
        message = f"expected agent + judge = {agent + judge:.6f}, found {describe(total)}"
        yield finding("run-result-stale", record.file, message, "/duration_seconds")
    if run.consensus.sound:
        for key in ("score", "passed", "grade"):
            mine, theirs = data[f"judge_{key}"], run.consensus.data[key]
            if not (agree(mine, theirs) if key == "score" else mine == theirs):
                message = f"expected judge/result.json's {describe(theirs)}, found {describe(mine)}"
                yield finding("run-result-stale", record.file, message, f"/judge_{key}")
    yield from _listed_judges(run, slots)


def unsound(subject: str, record: Record) -> Iterator[Finding]:
    """The findings on a derived record that is absent, malformed or invalid."""
    if record.state == "absent":
        yield finding(f"{subject}-missing", record.file, "expected a record, found none")
    for problem in record.problems:
        yield problem_finding(f"{subject}-{record.state}", record.file, problem)


def output_file(output: AgentOutput) -> str:
    """The first file that holds the true output."""
    return next((copy.file for copy in output.sound if copy.data == output.data), "the agent's output")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _basis(run: RunEvidence, slots: Sequence[SlotAudit]) -> tuple[list[Verdict], str]:
    """The judgments that the consensus has to follow, and their name in a sentence.

    While slots are lost, run_result.json still lists what they said.
    """
    complete = [slot.verdict for slot in slots if slot.verdict]
    if len(complete) < len(slots) and run.run_result.sound:
        listed = [as_given(entry) for entry in run.run_result.data["judges"] if not _never_given(run, entry)]
        if listed:
            return listed, "run_result.json's judges"
    return complete, f"{len(complete)} complete judge slot{'s' * (len(complete) != 1)}"


def as_given(entry: Mapping[str, Json]) -> Verdict:
    """An entry of run_result.json's ``judges`` as the verdict that it lists."""
    return Verdict(float(entry["score"]), entry["passed"], dict(entry))


def _never_given(run: RunEvidence, entry: Mapping[str, Json]) -> bool:
    """Whether a listed verdict is a failure that was written down as a score.

    Its judgment says itself that it is not valid, and no reply of the judge bears it out.
    """
    slot = next((slot for slot in run.slots if slot.slot.number == entry["judge_number"]), None)
    if slot is None or not slot.disowned:
        return False
    return not any(verdict.agrees_with(entry["score"], entry["passed"]) for verdict in verdicts_of(slot))


def _consensus_differences(data: Mapping[str, Json], expected: Consensus) -> list[tuple[str, str]]:
    found = []
    if not agree(data["score"], expected.score):
        found.append(("/score", f"expected the mean {expected.score:.6g}, found {describe(data['score'])}"))
    if data["passed"] is not expected.passed:
        found.append(
            ("/passed", f"expected the majority's {describe(expected.passed)}, found {describe(data['passed'])}")
        )
    if data["grade"] not in grades_near(expected.score):
        found.append(("/grade", f"expected {describe(expected.grade)}, found {describe(data['grade'])}"))
    return found


def _exit_code_difference(run: RunEvidence, record: Record) -> Iterator[Finding]:
    codes = exit_codes(run)
    (file, code), *_ = codes.items()
    if codes[record.file] != code:
        message = f"expected {code}, as in {file}, found {codes[record.file]}"
        yield finding("exit-code-differs", record.file, message, "/exit_code")


def _stale_usage(run: RunEvidence, output: AgentOutput) -> Iterator[Finding]:
    data, file = run.run_result.data, run.run_result.file
    final = usage_of_record(run.run_result)
    truth = usage_of_reply(output) or usage_of_record(run.result)
    assert final is not None
    if truth is not None and not final.agrees_with(truth):
        lost = final.lost_cache_counts_of(truth)
        code = "token-counts-lost" if lost else "run-result-stale"
        yield from _usage_differences(code, file, final, truth, "the agent's records")
        if lost:
            return
    tokens = final.tokens
    for key, sum_, count in (
        ("tokens_input", "input_tokens + cache_read_tokens", tokens.input + tokens.cache_read),
        ("tokens_output", "output_tokens", tokens.output),
    ):
        if data[key] != count:
            message = f"expected {sum_} = {count}, found {describe(data[key])}"
            yield finding("run-result-stale", file, message, f"/{key}")


def _usage_differences(code: str, file: str, found: Usage, expected: Usage, source: str) -> Iterator[Finding]:
    for attribute, key in _COUNTS:
        mine, theirs = getattr(found.tokens, attribute), getattr(expected.tokens, attribute)
        if mine != theirs:
            yield finding(code, file, f"expected {theirs}, as in {source}, found {mine}", f"/token_stats/{key}")
    if found.cost_usd is not None and expected.cost_usd is not None and not agree(found.cost_usd, expected.cost_usd):
        message = f"expected {expected.cost_usd}, as in {source}, found {found.cost_usd}"
        yield finding(code, file, message, "/cost_usd")


def _listed_judges(run: RunEvidence, slots: Sequence[SlotAudit]) -> Iterator[Finding]:
    file = run.run_result.file
    listed: dict[int, tuple[int, Mapping[str, Json]]] = {}
    for index, entry in enumerate(run.run_result.data["judges"]):
        number = int(entry["judge_number"])
        if number in listed:
            message = f"expected every judge once, found {number} twice"
            yield finding("run-result-stale", file, message, f"/judges/{index}/judge_number")
        listed.setdefault(number, (index, entry))
    for slot in slots:
        if slot.judgment is None:
            continue
        if slot.slot.number not in listed:
            message = f"expected an entry for {slot.slot.name}, which is complete, found none"
            yield finding("run-result-stale", file, message, "/judges")
            continue
        index, entry = listed[slot.slot.number]
        for key in ("score", "passed", "grade", "reasoning"):
            mine, theirs = entry[key], slot.judgment[key]
            if not (agree(mine, theirs) if key == "score" else mine == theirs):
                message = f"expected {slot.slot.name}'s {describe(theirs)}, found {describe(mine)}"
                yield finding("run-result-stale", file, message, f"/judges/{index}/{key}")
