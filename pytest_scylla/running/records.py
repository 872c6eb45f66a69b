"""The files of an execution, as an experiment keeps them below agent/, and the prompt of its judges beside them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ..auditing.agent_output import AgentReply as ToldByAgent
from ..auditing.agent_output import TokenCounts, read_copies
from ..experiment.journal import known_cost
from ..experiment.layout import CONFIG
from ..experiment.schemas import is_valid
from ..experiment.strict_json import Json
from ..repair.agent_files import model_file, token_stats
from ..repair.request import WriteRecord
from .contract import AgentReply

_TOLD = ("PATH", "HOME", "USER", "SHELL", "LANG")
"""The only variables of the environment that the command log repeats: none of these holds a secret."""


def execution_files(
    reply: AgentReply,
    *,
    model: str,
    prompt: bytes,
    workspace: Path,
    ended_at: datetime,
    seconds: float,
    environ: Mapping[str, str],
    task: bytes,
    judge_prompt: bytes,
    write: WriteRecord,
    broken_off: str | None = None,
) -> dict[str, bytes]:
    """The files of a run whose agent came to an end, by name, in the order in which to write them.

    The agent's output comes last, in all its copies: until one is there, the run counts as one whose agent is still to
    run, and the next repair goes on from what the command printed. So whatever does not follow from it comes before.

    :param task: the task as it is given to all; ``prompt`` is what this agent was given.
    :param seconds: how long the agent took; it ended at ``ended_at``, which has a time zone.
    :param environ: of which what is known to hold no secret is told.
    :param broken_off: why the agent did not come to a good end, if it did not. Then what it printed is its output only
        if it is a whole reply: the beginning of one would be judged as if it were all.
    """
    moment = ended_at.isoformat()
    told = read_copies([("", reply.stdout)]).reply
    unfinished = b""
    if broken_off is not None:
        reply = replace(reply, stderr=reply.stderr + f"{broken_off}\n".encode())
        if told is None or (told.tokens is None and not told.service_error):
            reply, unfinished = replace(reply, stdout=b""), reply.stdout
    command = {
        "timestamp": moment,
        "command": list(map(_text, reply.command)),
        "cwd": _text(str(workspace)),
        "env_vars": {name: _text(environ[name]) for name in _TOLD if name in environ},
        "exit_code": reply.exit_code,
        "stdout_file": "cmd_0000_stdout.log",
        "stderr_file": "cmd_0000_stderr.log",
        "duration_seconds": seconds,
    }
    files = {
        "task_prompt.md": task,
        "judge_prompt.md": judge_prompt,
        "agent/prompt.md": prompt,
        "agent/MODEL.md": model_file("Agent", model, CONFIG).data,
        "agent/replay.sh": _replay(reply.command, workspace),
        "agent/command_log.json": write({"generated_at": moment, "total_commands": 1, "commands": [command]}),
        "agent/timing.json": write({"agent_duration_seconds": seconds, "measured_at": moment}),
        "agent/stderr.log": reply.stderr,
        "agent/cmd_0000_stderr.log": reply.stderr,
    }
    if unfinished:
        files["agent/unfinished.log"] = unfinished
    if (result := _result(reply, told)) is not None:
        files["agent/result.json"] = write(result)
    return {
        **files,
        "agent/cmd_0000_stdout.log": reply.stdout,
        "agent/stdout.log": reply.stdout,
        "agent/output.txt": reply.stdout,
    }


def _result(reply: AgentReply, told: ToldByAgent | None) -> dict[str, Json] | None:
    """agent/result.json: what the agent's output tells, or else its caller; ``None`` where nobody counted tokens."""
    tokens = None if told is None else told.tokens
    if tokens is None and reply.usage is not None and is_valid("agent-reply", {"usage": reply.usage}):
        tokens = TokenCounts.from_usage(reply.usage)
    if tokens is None:
        return None
    cost, turns = (None, None) if told is None else (told.cost_usd, told.turns)
    try:
        stdout = reply.stdout.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return {
        "exit_code": reply.exit_code,
        "stdout": stdout,
        "stderr": reply.stderr.decode("utf-8", "replace"),
        "token_stats": token_stats(tokens),
        "cost_usd": known_cost(reply.cost_usd) if cost is None else cost,
        "api_calls": turns,
    }


def _text(text: str) -> str:
    """``text`` without the half characters that stand for bytes of another encoding, which no JSON may hold."""
    return text.encode("utf-8", "replace").decode()


def _replay(command: tuple[str, ...], workspace: Path) -> bytes:
    """A script by which a person may run the agent again; nothing of this package runs it."""
    words = f"{shlex.join(command)} < ../agent/prompt.md" if command else "# it was no command line"
    return f"#!/bin/sh\ncd {shlex.quote(str(workspace))} || exit\n{words}\n".encode("utf-8", "surrogateescape")
