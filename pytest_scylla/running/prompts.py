"""What the agent is asked, and what its judges are told of what it did."""

from __future__ import annotations

from collections.abc import Sequence

from ..experiment.records import Folder
from ..experiment.strict_json import Json

_KEYWORDS = {"Low": "think", "High": "think hard", "UltraThink": "ultrathink"}
"""The words by which Claude Code is told to think longer, by the configuration's thinking_mode."""


class PromptLost(Exception):
    """A prompt cannot be made, since a file of the experiment is lost; ``str()`` names it."""


def task_prompt(root: Folder, thinking_mode: Json) -> bytes:
    """The experiment's task, with the keyword of ``thinking_mode`` on a line before it.

    :raises PromptLost: prompt.md is lost, or blank.
    """
    task = _required(root, "prompt.md")
    keyword = _KEYWORDS.get(thinking_mode) if isinstance(thinking_mode, str) else None
    return task if keyword is None else keyword.encode() + b"\n\n" + task


def judge_prompt(root: Folder, output: bytes, names: Sequence[str], diff: str, check: str | None) -> bytes:
    """What a judge is to go by: rubric, task, the agent's output, what it changed, and what a check said, if any.

    ``names`` are the changes in words, such as "added hello.py"; ``diff`` shows them.

    :raises PromptLost: prompt.md is lost, or blank.
    """
    rubric = root.read("rubric.yaml").text.strip()
    criteria = root.read("criteria.md").text.strip()
    changed = "\n".join(f"- {name}" for name in names) or "The agent changed no file."
    parts = [
        f"## Rubric (Evaluation Criteria)\n\n```yaml\n{rubric}\n```" if rubric else "",
        f"## Success Criteria\n\n{criteria}" if criteria and not rubric else "",
        f"## Task Given to Agent\n\n{_required(root, 'prompt.md').decode('utf-8', 'replace').strip()}",
        f"## Agent's Output\n\n{output.decode('utf-8', 'replace').strip()}",
        f"## Workspace State After Agent Execution\n\n{changed}",
        f"## Changes\n\n{_fenced(diff, 'diff')}" if diff.strip() else "",
        f"## Check Results\n\n{_fenced(check, '')}" if check is not None else "",
        "---\n\nEvaluate the agent's work using the rubric and criteria above.\n",
    ]
    return "\n\n".join(filter(None, parts)).encode("utf-8", "replace")


def _required(root: Folder, name: str) -> bytes:
    blob = root.read(name)
    if not blob.data.strip():
        raise PromptLost(f"{name}: {blob.reason or 'expected a prompt, found none'}")
    return blob.data


def _fenced(text: str, language: str) -> str:
    """A block that nothing in the text ends."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
