"""The default agent: a command line, run in the workspace, as the runs of an experiment are.

It works there as its user lets it: what the workspace holds of settings, hooks and instructions is the subtest's
configuration, and is obeyed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ..auditing.agent_output import read_copies
from ..calling.presets import CLAUDE, CODEX, GEMINI, Preset, UnfitModel, argv, own_command, reduced
from ..calling.process import Finished, kept_from, run_command
from ..calling.replies import Failure, read_reply
from ..experiment.records import open_experiment
from ..experiment.strict_json import Json
from ..experiment.wording import printable
from .contract import Agent, AgentLimit, AgentPermanent, AgentReply, AgentRequest, AgentTimeout, AgentTransient

MAX_OUTPUT = 16 * 1024 * 1024
"""In agent/result.json, as JSON, it takes a multiple of that, and an audit reads no file that is larger than 64 MiB."""

_TURNS = re.compile(r"\{max_turns\}")
_GEMINI_COUNTS = ("prompt", "cached", "candidates", "thoughts")

_PRESETS: Mapping[str, Preset] = {
    "claude": replace(
        CLAUDE,
        # As in the experiments that are to be completed: the agent asks nobody before it acts.
        arguments=(
            "claude",
            "-p",
            "--output-format=json",
            "--model={model}",
            "--dangerously-skip-permissions",
            "--max-turns={max_turns}",
        ),
        without_workspace=(),
        with_workspace=None,
        environment={"NO_COLOR": "1"},
    ),
    "codex": replace(
        CODEX,
        arguments=(
            "codex",
            "exec",
            "--json",
            "--skip-git-repo-check",
            "--sandbox=workspace-write",
            "--color=never",
            "--model={model}",
            "-",
        ),
        environment={"NO_COLOR": "1"},
    ),
    "gemini": replace(
        GEMINI,
        arguments=(
            "gemini",
            "--output-format=json",
            "--model={model}",
            "--approval-mode=yolo",
            "--extensions=none",
            "--skip-trust",
        ),
        environment={"NO_COLOR": "1"},
        files={},
    ),
}


def command_agent(
    name: str, command: Sequence[str], further: Iterable[str], environ: Mapping[str, str] = os.environ
) -> Agent:
    """The agent that runs the user's own ``command``, or else the command line ``name``.

    Of ``environ`` it gets what it needs, and the variables ``further``. A word of the user's command that names
    ``{max_turns}`` is left out where the configuration sets no such limit.
    """
    preset = own_command(command) if command else _PRESETS[name]
    return _CommandAgent(preset, reduced(environ, preset, further))


class _CommandAgent:
    def __init__(self, preset: Preset, environment: Mapping[str, str]) -> None:
        self.command = preset.name
        self._preset = preset
        self._environment = {**environment, **preset.environment}

    def __call__(self, request: AgentRequest, /) -> AgentReply:
        """Run the command to its end."""
        words = self._words(request)
        finished = run_command(
            words,
            request.prompt,
            environment=self._environment,
            timeout=request.timeout,
            max_output=MAX_OUTPUT,
            inside=request.workspace,
            outputs=request.outputs,
        )
        return self._reply(words, finished)

    def recover(self, request: AgentRequest, /) -> AgentReply | None:
        """The reply of a command that came to its end, by what it left in the request's ``outputs``."""
        with open_experiment(request.outputs) as outputs:
            finished = kept_from(outputs, MAX_OUTPUT)
        return None if finished is None else self._reply(self._words(request), finished)

    def _words(self, request: AgentRequest) -> tuple[str, ...]:
        turns = "" if request.max_turns is None else str(request.max_turns)
        template = tuple(
            _TURNS.sub(turns, word)
            for word in (*self._preset.arguments, *self._preset.without_workspace)
            if turns or not _TURNS.search(word)
        )
        try:
            preset = replace(self._preset, arguments=template, without_workspace=())
            return argv(preset, model=request.model, system_prompt="", workspace=None)
        except UnfitModel as error:
            raise AgentPermanent(str(error), "model", made=False) from None

    def _reply(self, words: tuple[str, ...], finished: Finished) -> AgentReply:
        reply = read_reply(finished, self._preset.output, datetime.now().astimezone())
        stdout, cost, usage = finished.stdout, reply.cost_usd, None
        if isinstance(reply, Failure):
            self._raise_unless_it_worked(reply, finished)
        elif self._preset.output == "gemini-json":
            # An audit could not tell what it printed from a broken reply.
            stdout, usage = reply.text.encode("utf-8", "replace"), _usage_of_gemini(reply.usage)
        else:
            usage = reply.usage
        code = -1 if finished.exit_code is None else finished.exit_code
        return AgentReply(stdout, finished.stderr, code, words, cost, usage, finished.seconds)

    def _raise_unless_it_worked(self, failure: Failure, finished: Finished) -> None:
        """Raise unless the agent worked, and only did not come to a good end.

        One that exits with an error after it printed something is one that worked, unless that is no reply, or one that
        speaks of an error. So is one that came to the end of its turns, by the tokens that it took.
        """
        told = _with_tokens(finished.stdout)
        if told is not None and told.get("is_error") is not True:
            return
        reason = f"{printable(self.command)}: {failure.reason}"
        cost, stdout, stderr = failure.cost_usd, finished.stdout, finished.stderr
        if finished.ended == "timed-out":
            raise AgentTimeout(reason, cost_usd=cost, stdout=stdout, stderr=stderr)
        if failure.kind == "limit":
            raise AgentLimit(reason, failure.reset_at, cost_usd=cost, stdout=stdout, stderr=stderr)
        if failure.kind == "permanent" and (failure.scope in ("model", "all") or told is None):
            scope, made = failure.scope or "slot", finished.ended != "not-started"
            raise AgentPermanent(reason, scope, made=made, cost_usd=cost, stdout=stdout, stderr=stderr)
        if failure.kind == "transient" and not (self._preset.output == "text" and stdout.strip()):
            raise AgentTransient(reason, cost_usd=cost, stdout=stdout, stderr=stderr)


def _with_tokens(stdout: bytes) -> Mapping[str, Json] | None:
    """The reply that says of its agent that it took any token; ``None`` where there is none."""
    reply = read_copies([("", stdout)]).reply
    return None if reply is None or reply.tokens is None or reply.tokens.none_at_all else reply.record


def _usage_of_gemini(usage: Mapping[str, Json] | None) -> dict[str, int] | None:
    """The token counts of all models that gemini used, under the names that the records have; ``None`` if unknown.

    What it thought counts as output, as it is charged.
    """
    if not usage:
        return None
    total = dict.fromkeys(_GEMINI_COUNTS, 0)
    for tokens in usage.values():
        for name in _GEMINI_COUNTS:
            count = tokens.get(name) if isinstance(tokens, dict) else None
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                return None
            total[name] += count
    return {
        "input_tokens": max(total["prompt"] - total["cached"], 0),
        "output_tokens": total["candidates"] + total["thoughts"],
        "cache_read_input_tokens": total["cached"],
    }
