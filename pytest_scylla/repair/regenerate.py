"""What surviving files give back: the default of the fixture ``scylla_regenerate``.

Pure functions from what was read of a run to the bytes of one of its files; where a value comes from is said beside it.
Nothing is invented: a value that no sound record holds makes a file one that cannot be rebuilt.
"""

from __future__ import annotations

from . import agent_files, derived_files, slot_files
from .request import CannotRegenerate, Regenerate, Regenerated, RegenerateRequest

_OF_A_RUN: dict[str, Regenerate] = {
    "agent/output.txt": agent_files.output_copy,
    "agent/stdout.log": agent_files.output_copy,
    "agent/cmd_0000_stdout.log": agent_files.output_copy,
    "agent/stderr.log": agent_files.stderr_copy,
    "agent/timing.json": agent_files.agent_timing,
    "agent/MODEL.md": agent_files.agent_model,
    "agent/result.json": agent_files.agent_result,
    "judge/timing.json": derived_files.judge_timing,
    "judge/result.json": derived_files.consensus,
    "run_result.json": derived_files.run_result,
}
_OF_A_SLOT: dict[str, Regenerate] = {
    "judgment.json": slot_files.judgment,
    "response.txt": slot_files.reply_copy,
    "stdout.log": slot_files.reply_copy,
    "MODEL.md": slot_files.judge_model,
}


def regenerate(request: RegenerateRequest) -> Regenerated:
    """Rebuild a file from those that survive.

    :raises CannotRegenerate: they do not give it back.
    """
    name = request.name
    rebuild = _OF_A_SLOT.get(name.rpartition("/")[2]) if name.startswith("judge/judge_") else _OF_A_RUN.get(name)
    if rebuild is None:
        raise CannotRegenerate("no other file holds what it said")
    return rebuild(request)
