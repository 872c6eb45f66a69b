"""What a person reads of one item."""

from __future__ import annotations

from ..outcomes import BEYOND, ItemOutcome
from ..repair.actions import Action

_SOURCES = 3


def headline(outcome: ItemOutcome) -> str:
    """An outcome in a few words: its status, and the codes of its findings."""
    codes = ", ".join(dict.fromkeys(found.code for found in outcome.errors or outcome.findings))
    return f"{outcome.status} ({codes})"


def failure_text(item_id: str, outcome: ItemOutcome) -> str:
    """A failing item: id and status, one line a finding, what was done about it, and what would repair it."""
    lines = [f"{item_id}: {headline(outcome)}"]
    lines += [f"  {found}" if found.severity == "error" else f"  warning: {found}" for found in outcome.findings]
    lines += [f"  {line}" for action in outcome.actions if (line := action_line(action, outcome.remedy))]
    lines.append(f"  repair: {outcome.remedy}")
    return "\n".join(lines)


def action_line(action: Action, remedy: str = "") -> str:
    """One action in one line; nothing for a refusal that says no more than ``remedy`` does."""
    if action.outcome in ("done", "planned"):
        verb = "rebuilt" if action.outcome == "done" else "would rebuild"
        return f"{verb} {', '.join(action.files)}{_from(action)}"
    if action.reason == remedy:
        return ""
    if action.outcome == "failed":
        return f"{action.what} failed: {action.reason}"
    return f"{'no repair' if action.what in BEYOND else f'{action.what} not rebuilt'}: {action.reason}"


def _from(action: Action) -> str:
    """The first of its sources, those in its own run without the run's name."""
    run = "/".join(action.files[0].split("/")[:-1]).partition("/judge")[0].removesuffix("/agent") + "/"
    shown = [source.removeprefix(run) for source in action.sources[:_SOURCES]]
    more = len(action.sources) - len(shown)
    return f" from {', '.join(shown)}{f' and {more} more' if more else ''}" if shown else ""
