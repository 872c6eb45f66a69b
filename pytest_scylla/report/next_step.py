"""What to type next, after a session that left something that is not sound."""

from __future__ import annotations

import shlex

from ..experiment.wording import printable
from ..outcomes import AuditedExperiment
from ..repair.actions import LEVELS, Level
from ..repair.remedies import ASKED_ENOUGH
from ..settings import DEFAULT_LEVEL, MOST_UNASKED, RepairSettings, Settings
from .causes import command_for

_NOT_COVERED = ("budget: ", "calls: ")
"""How the reasons begin for which an allowance left something."""


def next_command(audited: AuditedExperiment, settings: Settings) -> str:
    """The command that a person would type next; "" where there is nothing more to do, or nothing that helps.

    A repair that has to ask somebody is planned before it is done. What was left for a reason that passes is taken up
    by the same command again; what an allowance did not cover is planned, since the next session has one of its own.
    """
    left = [item_id for item_id, found in audited.outcomes.items() if found.outcome in ("failed", "not-run", "crashed")]
    if not left:
        return ""
    repair = settings.repair
    needed = _needed_levels(audited, repair)
    if repair is None:
        if not needed:
            return command_for(audited, left[0], settings)
        first = "--repair" if needed == ["regenerate"] else "--repair-plan"
        return _command(audited, settings, first, "agents" if needed == ["agents"] else DEFAULT_LEVEL)
    within = [level for level in needed if LEVELS.index(level) <= LEVELS.index(repair.level)]
    reasons = [action.left_for for _, action in audited.actions()]
    if within and not repair.plan_only and any(reason.startswith(_NOT_COVERED) for reason in reasons):
        return _command(audited, settings, "--repair-plan", repair.level)
    if within and (repair.plan_only or any(reasons)):
        return _command(audited, settings, "--repair", repair.level)
    beyond = [level for level in needed if level not in within]
    return _command(audited, settings, "--repair-plan", beyond[0]) if beyond else ""


def _needed_levels(audited: AuditedExperiment, repair: RepairSettings | None) -> list[Level]:
    """How far repairs have to go for what is left and they act on, the cheapest first."""
    left = [found for found in audited.outcomes.values() if found.outcome in ("failed", "not-run", "crashed")]
    if repair is None or not (repair.retry or repair.judge.fallback):
        left = [found for found in left if found.remedy != str(ASKED_ENOUGH)]
    levels = {found.level for found in left}
    return [level for level in LEVELS if level in levels]


def _command(audited: AuditedExperiment, settings: Settings, what: str, level: Level) -> str:
    words = ["pytest", what, f"--scylla-exp={audited.experiment.given}"]
    if level != DEFAULT_LEVEL:
        words.append(f"--repair-level={level}")
    calls = sum(action.calls for _, action in audited.actions() if action.outcome == "planned")
    repair = settings.repair
    bounded = repair is not None and (repair.budget_usd is not None or repair.max_calls is not None)
    if what == "--repair" and calls > MOST_UNASKED and not bounded:
        words.append(f"--repair-max-calls={calls}")
    if settings.subtests is not None:
        words.append(f"--scylla-subtests={settings.subtests}")
    words += [f"--scylla-select={glob}" for glob in settings.select]
    if repair is not None:
        words += [f"--repair-status={status}" for status in sorted(repair.statuses)]
        words += ["--repair-fresh"] * repair.fresh
        words += ["--repair-retry"] * repair.retry
        words += repair.terms
    return printable(shlex.join(words), 1000)
