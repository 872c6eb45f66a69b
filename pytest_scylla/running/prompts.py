"""What the agent is asked, and what its judges are told of what it did."""

from __future__ import annotations

from collections.abc import Sequence

from ..experiment.records import Blob, Folder
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


def require_prompts(root: Folder) -> None:
    """Make sure that both the agent and its judges can be told what they need to know.

    :raises PromptLost: they cannot.
    """
    _required(root, "prompt.md")
    _measure(root)


def judge_prompt(root: Folder, output: bytes, names: Sequence[str], diff: str, check: str | None) -> bytes:
    """What a judge is to go by: rubric, task, the agent's output, what it changed, and what a check said, if any.

    ``names`` are the changes in words, such as "added hello.py"; ``diff`` shows them.

    :raises PromptLost: prompt.md is lost, or blank, or there is nothing to judge by.
    """
    changed = "\n".join(f"- {name}" for name in names) or "The agent changed no file."
    parts = [
        _measure(root),
        f"## Task Given to Agent\n\n{_required(root, 'prompt.md').decode('utf-8', 'replace').strip()}",
        f"## Agent's Output\n\n{output.decode('utf-8', 'replace').strip()}",
        f"## Workspace State After Agent Execution\n\n{changed}",
        f"## Changes\n\n{_fenced(diff, 'diff')}" if diff.strip() else "",
        f"## Check Results\n\n{_fenced(check, '')}" if check is not None else "",
        "---\n\nEvaluate the agent's work using the rubric and criteria above.\n",
    ]
    return "\n\n".join(filter(None, parts)).encode("utf-8", "replace")


def _measure(root: Folder) -> str:
    """What a judge is to judge by: the rubric, or the criteria in an experiment that has no rubric.

    :raises PromptLost: there is neither, or the rubric may not be read. A judge would make up what counts.
    """
    rubric = root.read("rubric.yaml")
    if rubric.state == "absent" and (criteria := root.read("criteria.md").text.strip()):
        return f"## Success Criteria\n\n{criteria}"
    return f"## Rubric (Evaluation Criteria)\n\n```yaml\n{_text(rubric, 'a rubric').strip()}\n```"


def _required(root: Folder, name: str) -> bytes:
    blob = root.read(name)
    _text(blob, "a prompt")
    return blob.data


def _text(blob: Blob, what: str) -> str:
    if not blob.data.strip():
        raise PromptLost(f"{blob.file}: {blob.reason or f'expected {what}, found none'}")
    return blob.text


def _fenced(text: str, language: str) -> str:
    """A block that nothing in the text ends."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
