"""Aggregates of experiments for the tests: audited, rebuilt and mended by the library, and looked at."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest_scylla
from pytest_scylla.aggregates.audit import audit_aggregates
from pytest_scylla.aggregates.facts import RunFigures, read_figures
from pytest_scylla.aggregates.rebuild import rebuild_aggregates
from pytest_scylla.aggregates.repair import repair_aggregates
from pytest_scylla.auditing.agent_output import TokenCounts
from pytest_scylla.auditing.findings import Finding, RunStatus
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.repair.actions import Action

from .damage import Run, opinions, retell

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
ADDED = {"coverage", "scored_runs"}
"""The keys that rebuilt records have beside those of the recorded ones."""

RECORDS_OF_SUBTEST = ("report.json",)
RECORDS_OF_TIER = ("result.json", "report.json", "best_subtest.json")
RECORDS_OF_EXPERIMENT = ("result.json", "report.json", "tier_comparison.json")


def figures(root: Path) -> dict[RunId, RunFigures]:
    return read_figures(pytest_scylla.load(root))


def audit(root: Path, runs: Mapping[RunId, RunFigures] | None = None) -> tuple[Finding, ...]:
    return audit_aggregates(pytest_scylla.load(root), figures(root) if runs is None else runs)


def faults(root: Path, runs: Mapping[RunId, RunFigures] | None = None) -> dict[str, list[str]]:
    """The codes of what is wrong, by file."""
    found: dict[str, list[str]] = {}
    for one in audit(root, runs):
        assert one.message.isprintable()
        assert one.file.isprintable()
        found.setdefault(one.file, []).append(one.code)
    return found


def rebuild(root: Path, tiers: Collection[str] | None = None, now: datetime = NOW) -> dict[str, bytes]:
    return rebuild_aggregates(pytest_scylla.load(root), figures(root), tiers, now=now)


def mend(root: Path) -> tuple[Action, ...]:
    with Keeping(root) as keeping:
        return repair_aggregates(pytest_scylla.load(root), keeping, lambda: figures(root))


def put_in_place(root: Path, files: Mapping[str, bytes]) -> None:
    for file, data in files.items():
        (root / file).write_bytes(data)


def load(root: Path, file: str) -> Any:
    return json.loads((root / file).read_bytes())


def store(root: Path, file: str, record: object) -> None:
    (root / file).write_text(json.dumps(record, indent=2))


def edit(root: Path, file: str, **changes: Any) -> None:
    store(root, file, {**load(root, file), **changes})


def judged(root: Path, run: str, *verdicts: tuple[float, bool]) -> None:
    """Let the three judges of a run have said something else, in all of the run's records."""
    retell(judgments=opinions(*verdicts))(Run(root, run))


def aggregates_of(run: str, *, stage: str = "") -> list[str]:
    """The records of a run's subtest, its tier and the experiment, in that order."""
    tier, subtest, _ = run.split("/")
    place = f"{stage}{tier}"
    return [
        *(f"{place}/{subtest}/{name}" for name in RECORDS_OF_SUBTEST),
        *(f"{place}/{name}" for name in RECORDS_OF_TIER),
        *RECORDS_OF_EXPERIMENT,
    ]


def aggregates_in(root: Path, *, markdown: bool = True) -> list[str]:
    """Every aggregate that is there: above the runs, JSON by its name, and Markdown reports."""
    names = {*RECORDS_OF_TIER, *RECORDS_OF_EXPERIMENT, *(("report.md", "summary.md") if markdown else ())}
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.name in names and path.is_file())
    return sorted(file for file in found if "run_" not in file and not file.startswith("."))


def one_run(
    number: int = 1,
    score: float | None = 0.5,
    *,
    passed: bool = True,
    grade: str | None = None,
    cost: float | None = 0.1,
    judges: int = 3,
    sound: int = 3,
    fallback: bool = False,
    status: RunStatus = "completed",
    tokens: int = 100,
    tier: str = "T0",
    subtest: str = "00",
) -> RunFigures:
    """The figures of a run."""
    blank = RunFigures(RunId(tier, subtest, number), status, judges, sound, fallback)
    if score is None:
        return blank
    return RunFigures(
        *(blank.run, status, judges, sound, fallback),
        score=score,
        passed=passed,
        grade=grade or "B",
        cost_usd=cost,
        tokens=TokenCounts(tokens, 0, 0, 0),
        digest=b"digest",
    )


def runs_with(scores: Sequence[float], **named: Any) -> tuple[RunFigures, ...]:
    return tuple(one_run(number, score, **named) for number, score in enumerate(scores, 1))
