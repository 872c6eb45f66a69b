"""The agent's files, from each other: its output and its copies, its standard error, and the records of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..auditing.agent_output import AgentOutput, TokenCounts
from ..auditing.derived import exit_codes, usage_of_record, usage_of_reply
from ..auditing.evidence import RunEvidence
from ..experiment.layout import CONFIG
from ..experiment.records import Record
from ..experiment.strict_json import Json
from .request import CannotRegenerate, Regenerated, RegenerateRequest, with_unknown_keys, without


def output_copy(request: RegenerateRequest) -> Regenerated:
    """agent/output.txt and its copies: the text that the sound copies agree on."""
    output = request.case.output
    source = output_source(output, but=request.file)
    if output.data is None or not source:
        raise CannotRegenerate("no sound copy of the agent's output is left")
    return Regenerated(output.data, source)


def output_source(output: AgentOutput, but: str = "") -> tuple[str, ...]:
    """The first file, another than ``but``, that holds the agent's output; none where there is none."""
    # A copy inside of a record is named with a pointer behind the file.
    files = [copy.file.partition(" ")[0] for copy in output.sound if copy.data == output.data and copy.file != but]
    return tuple(files[:1])


def stderr_copy(request: RegenerateRequest) -> Regenerated:
    """agent/stderr.log: from its copy, else from agent/result.json."""
    found = _error_text(request.evidence)
    if found is None:
        raise CannotRegenerate("no copy of the agent's standard error is left")
    return found


def _error_text(run: RunEvidence) -> Regenerated | None:
    for blob in (run.stderr, run.command_stderr):
        if blob.state == "sound":
            return Regenerated(blob.data, (blob.file,))
    text = run.result.data.get("stderr")
    return None if text is None else Regenerated(text.encode("utf-8", "surrogatepass"), (run.result.file,))


def agent_timing(request: RegenerateRequest) -> Regenerated:
    """agent/timing.json: the last command's duration, measured when the log of it was written."""
    log = request.evidence.command_log
    duration, written = last_command(log).get("duration_seconds"), log.data.get("generated_at")
    if duration is None or written is None:
        raise CannotRegenerate("command_log.json does not say how long the agent took, and until when")
    return request.record({"agent_duration_seconds": duration, "measured_at": written}, log.file)


def agent_model(request: RegenerateRequest) -> Regenerated:
    """agent/MODEL.md: the model that the command names, which has to be one of the configuration's; or its only one."""
    log, configured = request.evidence.command_log, request.experiment.config.agent_models
    words: Sequence[str] = last_command(log).get("command") or ()
    named = [value for option, value in pairwise(words) if option == "--model"]
    models = set(named or configured)
    if len(models) != 1 or not models <= set(configured):
        raise CannotRegenerate("configuration and command_log.json do not agree on one model")
    return model_file("Agent", models.pop(), log.file if named else CONFIG)


def model_file(role: str, model: str, source: str) -> Regenerated:
    """A MODEL.md that says what is known of it: the model. ``role`` is "Agent" or "Judge"."""
    text = f"# {role} Model Information\n\n**Model**: {model}\n"
    return Regenerated(text.encode("utf-8", "surrogatepass"), (source,))


def agent_result(request: RegenerateRequest) -> Regenerated:
    """agent/result.json: tokens, cost and calls from the agent's own reply, the exit code from the command log."""
    run, case = request.evidence, request.case
    usage = usage_of_reply(case.output) or usage_of_record(run.result)
    if case.output.data is None or usage is None or case.usage is None:
        raise CannotRegenerate("the agent's output holds no token counts")
    codes = without(exit_codes(run), run.result.file) or exit_codes(run)
    if not codes:
        raise CannotRegenerate("no record holds the exit code")
    try:
        stdout = case.output.data.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotRegenerate("the agent's output is not UTF-8, and JSON cannot hold it") from None
    reply, errors = case.output.reply, _error_text(run)
    turns = reply.turns if reply is not None else None
    record = {
        "exit_code": next(iter(codes.values())),
        "stdout": stdout,
        "stderr": None if errors is None else errors.data.decode("utf-8", "replace"),
        "token_stats": token_stats(usage.tokens),
        "cost_usd": case.usage.cost_usd,
        "api_calls": run.result.data.get("api_calls") if turns is None else turns,
    }
    sources = (*output_source(case.output), next(iter(codes)), *(errors.sources if errors else ()))
    return request.record(with_unknown_keys(record, run.result), *sources)


def token_stats(tokens: TokenCounts) -> dict[str, int]:
    """The counts under their short names, which is how they are written today."""
    return {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_creation_tokens": tokens.cache_creation,
        "cache_read_tokens": tokens.cache_read,
    }


def last_command(log: Record) -> Mapping[str, Json]:
    """The command that ran the agent, as command_log.json has it; empty where that is lost or lists none."""
    commands: Sequence[Mapping[str, Json]] = log.data.get("commands") or ()
    return commands[-1] if commands else {}
