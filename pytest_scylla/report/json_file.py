"""The machine-readable report; its schema is ``schemas/report.schema.json``."""

from __future__ import annotations

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from .. import __version__
from ..auditing.experiment import audit_experiment
from ..auditing.findings import Finding
from ..experiment.layout import RunId
from ..outcomes import NOT_AUDITED, AuditedExperiment, ItemOutcome, kind_of
from ..repair.actions import Action
from .counts import UNKNOWN, completeness, count
from .item import total_cost

REPAIRED = 1
STOPPED_EARLY = 2
DAMAGE_LEFT = 4
OPERATIONAL_ERROR = 8


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report to ``path`` in the format that its suffix says, whole or not at all.

    :raises OSError: it cannot be written.
    """
    text = _rendered(report, path.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _rendered(report: dict[str, Any], suffix: str) -> str:
    if suffix == ".html":
        from .page import render

        return render(report)
    if suffix == ".md":
        from .markdown import render as render_markdown

        return render_markdown(report)
    return json.dumps(report, indent=2)


def make(experiments: Iterable[AuditedExperiment], *, interrupted: bool, stopped: bool) -> dict[str, Any]:
    """The report as plain data.

    :param interrupted: whether somebody interrupted the session.
    :param stopped: whether it ended before its last item, for whatever reason.
    """
    experiments = tuple(experiments)
    parts = [experiment_part(audited) for audited in experiments]
    damage = any(item["outcome"] not in ("passed", "repaired", "waived") for part in parts for item in part["items"])
    ends = {action.outcome for audited in experiments for _, action in audited.actions()}
    return {
        "format": "pytest-scylla/report",
        "version": 1,
        "generated_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "tool": {
            "pytest_scylla": __version__,
            "pytest": pytest.__version__,
            "python": platform.python_version(),
        },
        "exit_bits": REPAIRED * ("done" in ends)
        + STOPPED_EARLY * stopped
        + DAMAGE_LEFT * damage
        + OPERATIONAL_ERROR * ("failed" in ends),
        "experiments": parts,
    }


def experiment_part(audited: AuditedExperiment) -> dict[str, Any]:
    """The part about one experiment."""
    experiment = audited.experiment
    counts = count(audited)
    return {
        "path": experiment.given,
        "experiment_id": experiment.config.experiment_id,
        "expected_from": experiment.expected_from,
        "before": count(audited, before=True),
        "after": counts,
        "completeness": completeness(audited),
        "selected": audited.selected,
        "not_audited": counts["runs"][NOT_AUDITED] + counts["judge_slots"][NOT_AUDITED],
        "findings": [_finding(found) for found in audit_experiment(experiment)],
        "runs": [_run(audited, run) for run in experiment.runs()],
        "repairs": _repairs([action for _, action in audited.actions()]),
        "items": [
            _item(audited, item_id, audited.outcomes[item_id])
            for item_id in sorted(audited.outcomes)
            if _is_told(audited.outcomes[item_id])
        ],
        "waived": sum(outcome.outcome == "waived" for outcome in audited.outcomes.values()),
        **(audited.conclusion.as_data() if audited.conclusion is not None else {}),
    }


def _is_told(outcome: ItemOutcome) -> bool:
    return outcome.outcome != "passed" or bool(outcome.findings) or bool(outcome.actions)


def _repairs(actions: list[Action]) -> dict[str, Any]:
    ends = Counter(action.outcome for action in actions)
    made = [action for action in actions if action.outcome != "planned"]
    calls = Counter[str]()
    for action in made:
        calls[action.level] += action.calls
    return {
        "regenerated": sum(len(action.files) for action in made if action.level == "regenerate"),
        "judge_calls": calls["judges"],
        "agent_runs": calls["agents"],
        "failed": ends["failed"],
        "refused": ends["refused"],
        "cost_usd": total_cost(made),
        "seconds": round(math.fsum(action.seconds or 0.0 for action in made), 6),
    }


def _run(audited: AuditedExperiment, run: RunId) -> dict[str, Any]:
    outcome = audited.outcomes.get(str(run), UNKNOWN)
    judges = []
    for slot, model in audited.experiment.slots(run):
        judged = audited.outcomes.get(str(slot), UNKNOWN)
        judges.append({"status": judged.status, "score": judged.score, "passed": judged.passed, "model": model})
    return {
        "id": str(run),
        "status": outcome.status,
        "score": outcome.score,
        "scored": outcome.scored,
        "passed": outcome.passed,
        "cost_usd": outcome.cost_usd,
        "judges": judges,
    }


def _item(audited: AuditedExperiment, item_id: str, outcome: ItemOutcome) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": item_id,
        "kind": kind_of(item_id),
        "nodeid": audited.nodeid(item_id),
        "status_before": audited.status_before(item_id) or outcome.status,
        "status": outcome.status,
        "outcome": outcome.outcome,
        "remedy": outcome.remedy or None,
        "level": outcome.level,
        "findings": [_finding(found) for found in outcome.findings],
        "actions": [action.as_data() for action in outcome.actions],
    }
    if outcome.outcome == "waived" and audited.waivers and (waiver := audited.waivers.waiver_of(item_id)):
        made["waiver"] = {"line": waiver.line, "reason": waiver.reason, "until": waiver.until.isoformat()}
    return made


def _finding(found: Finding) -> dict[str, str]:
    return {
        "code": found.code,
        "severity": found.severity,
        "file": found.file,
        "pointer": found.pointer,
        "message": found.message,
    }
