"""What to type next, after a session that left something that is not sound."""

from __future__ import annotations

import shlex

from ..experiment.wording import printable
from ..outcomes import AuditedExperiment
from ..repair.actions import LEVELS, Action, Level
from ..settings import DEFAULT_LEVEL, MOST_UNASKED, Settings
from .causes import command_for


def next_command(audited: AuditedExperiment, settings: Settings) -> str:
    """The command that a person would type next; "" where there is nothing more to do, or nothing that helps.

    A repair that has to ask somebody is planned before it is done. What was left for a reason that passes is taken up
    by the same command again.
    """
    left = [item_id for item_id, found in audited.outcomes.items() if found.outcome in ("failed", "not-run", "crashed")]
    if not left:
        return ""
    repair = settings.repair
    needed = _needed_levels(audited)
    if repair is None:
        if not needed:
            return command_for(audited, left[0], settings)
        first = "--repair" if needed == ["regenerate"] else "--repair-plan"
        return _command(audited, settings, first, "agents" if needed == ["agents"] else DEFAULT_LEVEL)
    within = [level for level in needed if LEVELS.index(level) <= LEVELS.index(repair.level)]
    if within and (repair.plan_only or any(_passes(action) for _, action in audited.actions())):
        return _command(audited, settings, "--repair", repair.level)
    beyond = [level for level in needed if level not in within]
    return _command(audited, settings, "--repair-plan", beyond[0]) if beyond else ""


def _needed_levels(audited: AuditedExperiment) -> list[Level]:
    """How far repairs have to go for what is left, the cheapest first."""
    levels = {found.level for found in audited.outcomes.values() if found.outcome in ("failed", "not-run", "crashed")}
    return [level for level in LEVELS if level in levels]


def _passes(action: Action) -> bool:
    return (action.reason or "").startswith("not-run: ")


def _command(audited: AuditedExperiment, settings: Settings, what: str, level: Level) -> str:
    words = ["pytest", what, f"--scylla-exp={audited.experiment.given}"]
    if level != DEFAULT_LEVEL:
        words.append(f"--repair-level={level}")
    calls = sum(action.calls for _, action in audited.actions() if action.outcome == "planned")
    if what == "--repair" and calls > MOST_UNASKED:
        words.append(f"--repair-max-calls={calls}")
    if settings.subtests is not None:
        words.append(f"--scylla-subtests={settings.subtests}")
    words += [f"--scylla-select={glob}" for glob in settings.select]
    if settings.repair is not None:
        words += [f"--repair-status={status}" for status in sorted(settings.repair.statuses)]
        words += ["--repair-fresh"] * settings.repair.fresh
    return printable(shlex.join(words), 1000)
