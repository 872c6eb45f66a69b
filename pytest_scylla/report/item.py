"""What a person reads of one item."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..outcomes import BEYOND, ItemOutcome
from ..repair.actions import Action

_SOURCES = 3
_MOST_LINES = 20
"""How many findings, and how many actions, of one item are told a line each: aggregates may have hundreds."""


def headline(outcome: ItemOutcome) -> str:
    """An outcome in a few words: its status, and the codes of its findings."""
    codes = ", ".join(dict.fromkeys(found.code for found in outcome.errors or outcome.findings))
    return f"{outcome.status} ({codes})"


def failure_text(item_id: str, outcome: ItemOutcome) -> str:
    """A failing item: id and status, one line a finding, what was done about it, and what would repair it."""
    lines = [f"{item_id}: {headline(outcome)}"]
    lines += _first([f"{'' if found.severity == 'error' else 'warning: '}{found}" for found in outcome.findings])
    lines += _first([line for action in outcome.actions if (line := action_line(action, outcome.remedy))])
    lines.append(f"  repair: {outcome.remedy}")
    return "\n".join(lines)


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    shown = lines[:_MOST_LINES] + ([f"and {more} more: --scylla-report=FILE.json has them all"] if more > 0 else [])
    return [f"  {line}" for line in shown]


def action_line(action: Action, remedy: str = "") -> str:
    """One action in one line; nothing for a refusal that says no more than ``remedy`` does."""
    if action.outcome in ("done", "planned"):
        return _rebuilt(action) if action.level == "regenerate" else _called(action)
    if action.reason == remedy:
        return ""
    if action.outcome == "failed":
        calls = f" ({_calls(action)})" if action.calls else ""
        return f"{action.what} failed{calls}: {action.reason}"
    return f"{'no repair' if action.what in BEYOND else f'{action.what} not rebuilt'}: {action.reason}"


def money(cost_usd: float | None) -> str:
    """A cost in people's words."""
    return "cost unknown" if cost_usd is None else f"{cost_usd:.2f} USD"


def total_cost(actions: Iterable[Action]) -> float | None:
    """What actions cost together, in USD; ``None`` where that is not known of one of them."""
    costs = [action.cost_usd for action in actions]
    return None if None in costs else math.fsum(cost for cost in costs if cost is not None)


def total_seconds(actions: Iterable[Action]) -> float | None:
    """How long actions take, one after the other; ``None`` where that is not known of one of them."""
    times = [action.seconds for action in actions]
    return None if None in times else math.fsum(seconds for seconds in times if seconds is not None)


def duration(seconds: float) -> str:
    """A duration in people's words, to the two largest units.

    >>> duration(42.4), duration(630), duration(7260)
    ('42 s', '10 min 30 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _rebuilt(action: Action) -> str:
    verb = "rebuilt" if action.outcome == "done" else "would rebuild"
    return f"{verb} {', '.join(action.files)}{_from(action)}"


def _called(action: Action) -> str:
    """What was asked of a judge, or of an agent."""
    reason = f"; {action.reason}" if action.reason else ""
    what = "run the agent" if action.level == "agents" else "ask the judge"
    if action.outcome == "planned" and action.calls:
        return f"would {what} ({_calls(action)}){f' for {_last(action)}' if action.files else ''}{reason}"
    if action.calls:
        done = "ran the agent" if action.level == "agents" else "asked the judge"
        return f"{done} ({_calls(action)}), wrote {_last(action)}{reason}"
    kept = (
        " from what the agent printed before"
        if action.level == "agents"
        else " from the answer that the judge gave before"
    )
    wrote = "would write" if action.outcome == "planned" else "wrote"
    return f"{wrote} {_last(action)}{reason or kept}"


def _calls(action: Action) -> str:
    noun = "run" if action.level == "agents" else "call"
    return f"{action.calls} {noun}{'s' * (action.calls != 1)}, {money(action.cost_usd)}"


def _last(action: Action) -> str:
    """The last of its files, which is the one that counts, and how many others."""
    others = len(action.files) - 1
    return f"{action.files[-1]}{f' and {others} more' if others else ''}"


def _from(action: Action) -> str:
    """The first of its sources, those in its own run without the run's name."""
    run = "/".join(action.files[0].split("/")[:-1]).partition("/judge")[0].removesuffix("/agent") + "/"
    shown = [source.removeprefix(run) for source in action.sources[:_SOURCES]]
    more = len(action.sources) - len(shown)
    return f" from {', '.join(shown)}{f' and {more} more' if more else ''}" if shown else ""
