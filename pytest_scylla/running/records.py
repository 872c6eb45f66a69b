"""The files of an execution, as an experiment keeps them below agent/, and the prompt of its judges beside them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from ..auditing.agent_output import TokenCounts
from ..experiment.layout import CONFIG
from ..experiment.strict_json import Json
from ..repair.agent_files import model_file, token_stats
from .contract import AgentReply

_TOLD = ("PATH", "HOME", "USER", "SHELL", "LANG")
"""The only variables of the environment that the command log repeats: none of these holds a secret."""

WriteRecord = Callable[[dict[str, Json]], bytes]


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
) -> dict[str, bytes]:
    """The files of a run whose agent came to an end, by name, in the order in which to write them.

    The agent's output comes last: until it is there, the run counts as one whose agent is still to run, and the next
    repair goes on from what the command printed.

    :param task: the task as it is given to all; ``prompt`` is what this agent was given.
    :param seconds: how long the agent took; it ended at ``ended_at``, which has a time zone.
    :param environ: of which what is known to hold no secret is told.
    """
    moment = ended_at.isoformat()
    command = {
        "timestamp": moment,
        "command": list(reply.command),
        "cwd": str(workspace),
        "env_vars": {name: environ[name] for name in _TOLD if name in environ},
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
        "agent/cmd_0000_stdout.log": reply.stdout,
        "agent/stdout.log": reply.stdout,
        "agent/output.txt": reply.stdout,
    }
    if (result := _result(reply)) is not None:
        files["agent/result.json"] = write(result)
    return files


def _result(reply: AgentReply) -> dict[str, Json] | None:
    """agent/result.json of an agent that counts its tokens elsewhere than in its output; ``None`` where nobody does."""
    tokens = None if reply.usage is None else TokenCounts.from_usage(reply.usage)
    if tokens is None:
        return None
    try:
        stdout = reply.stdout.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return {
        "exit_code": reply.exit_code,
        "stdout": stdout,
        "stderr": reply.stderr.decode("utf-8", "replace"),
        "token_stats": token_stats(tokens),
        "cost_usd": reply.cost_usd,
        "api_calls": None,
    }


def _replay(command: tuple[str, ...], workspace: Path) -> bytes:
    """A script by which a person may run the agent again; nothing of this package runs it."""
    words = f"{shlex.join(command)} < ../agent/prompt.md" if command else "# it was no command line"
    return f"#!/bin/sh\ncd {shlex.quote(str(workspace))} || exit\n{words}\n".encode("utf-8", "surrogateescape")
