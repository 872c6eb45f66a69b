"""The machine-readable report; its schema is ``schemas/report.schema.json``."""

from __future__ import annotations

import json
import os
import platform
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
from .counts import UNKNOWN, completeness, count

STOPPED_EARLY = 2
DAMAGE_LEFT = 4


def write(path: Path, experiments: Iterable[AuditedExperiment], *, interrupted: bool, stopped: bool) -> None:
    """Write the report to ``path``, whole or not at all.

    :param interrupted: whether somebody interrupted the session.
    :param stopped: whether it ended before its last item, for whatever reason.
    :raises OSError: it cannot be written.
    """
    text = json.dumps(make(experiments, interrupted=interrupted, stopped=stopped), indent=2)
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


def make(experiments: Iterable[AuditedExperiment], *, interrupted: bool, stopped: bool) -> dict[str, Any]:
    """The report as plain data."""
    parts = [_experiment(audited) for audited in experiments]
    damage = any(item["outcome"] not in ("passed", "repaired", "waived") for part in parts for item in part["items"])
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
        "exit_bits": STOPPED_EARLY * stopped + DAMAGE_LEFT * damage,
        "experiments": parts,
    }


def _experiment(audited: AuditedExperiment) -> dict[str, Any]:
    experiment = audited.experiment
    counts = count(audited)
    return {
        "path": experiment.given,
        "experiment_id": experiment.config.experiment_id,
        "expected_from": experiment.expected_from,
        "before": counts,
        "after": counts,
        "completeness": completeness(audited),
        "selected": audited.selected,
        "not_audited": counts["runs"][NOT_AUDITED] + counts["judge_slots"][NOT_AUDITED],
        "findings": [_finding(found) for found in audit_experiment(experiment)],
        "runs": [_run(audited, run) for run in experiment.runs()],
        "repairs": {
            "regenerated": 0,
            "judge_calls": 0,
            "agent_runs": 0,
            "failed": 0,
            "refused": 0,
            "cost_usd": 0,
            "seconds": 0,
        },
        "items": [
            _item(audited, item_id, audited.outcomes[item_id])
            for item_id in sorted(audited.outcomes)
            if audited.outcomes[item_id].outcome != "passed" or audited.outcomes[item_id].findings
        ],
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
        "passed": outcome.passed,
        "cost_usd": outcome.cost_usd,
        "judges": judges,
    }


def _item(audited: AuditedExperiment, item_id: str, outcome: ItemOutcome) -> dict[str, Any]:
    return {
        "id": item_id,
        "kind": kind_of(item_id),
        "nodeid": audited.nodeid(item_id),
        "status_before": outcome.status,
        "status": outcome.status,
        "outcome": outcome.outcome,
        "findings": [_finding(found) for found in outcome.findings],
        "actions": [],
    }


def _finding(found: Finding) -> dict[str, str]:
    return {
        "code": found.code,
        "severity": found.severity,
        "file": found.file,
        "pointer": found.pointer,
        "message": found.message,
    }
