"""Reports as plain data, of runs and items that a test names: what a session would have written of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.synthetic import FULL_SCALE, run_ids

Json = dict[str, Any]

MODELS = ("judge-large-1", "judge-medium-1", "judge-small-1")
RUN_STATUSES = ("completed", "results", "failed", "partial", "missing", "conflict", "unsafe", "not_audited")
SLOT_STATUSES = ("complete", "missing", "failed", "agent_failed", "conflict", "unsafe", "not_audited")


def judge(score: float | None = 0.8, *, status: str = "", passed: bool | None = None, model: str | None = None) -> Json:
    """A judge slot; complete where it has a score."""
    if passed is None and score is not None:
        passed = score >= 0.6
    return {
        "status": status or ("missing" if score is None else "complete"),
        "score": score,
        "passed": passed,
        "model": model,
    }


def run(
    run_id: str,
    *scores: float | None,
    status: str = "completed",
    score: float | None = None,
    cost: float | None = 0.05,
    judges: Sequence[Json] | None = None,
) -> Json:
    """A run with one judge slot a score. It has a score itself where it is completed: the mean, if none is given."""
    judges = [judge(given) for given in scores] if judges is None else list(judges)
    for place, slot in enumerate(judges):
        slot["model"] = slot["model"] or MODELS[place % len(MODELS)]
    known = [slot["score"] for slot in judges if slot["score"] is not None]
    if score is None and status == "completed" and known:
        score = sum(known) / len(known)
    passed = None if score is None else score >= 0.6
    complete = sum(slot["status"] == "complete" for slot in judges)
    return {
        "id": run_id,
        "status": status,
        "score": score,
        "scored": score is not None and 2 * complete >= len(judges),
        "passed": passed,
        "cost_usd": cost,
        "judges": judges,
    }


def finding(code: str, file: str | None = None, *, message: str = "", pointer: str = "", warning: bool = False) -> Json:
    """A finding."""
    return {
        "code": code,
        "severity": "warning" if warning else "error",
        "file": file,
        "pointer": pointer,
        "message": message or "expected a record, found none",
    }


def action(level: str = "regenerate", *files: str, outcome: str = "done", **changes: Any) -> Json:
    """A repair."""
    return {
        "level": level,
        "what": files[0] if files else "item",
        "files": list(files),
        "solved": [],
        "sources": [],
        "outcome": outcome,
        "reason": None,
        "calls": 0,
        "cost_usd": 0,
        "seconds": 0.5,
        **changes,
    }


def item(
    item_id: str,
    *findings: Json,
    status: str = "results",
    before: str = "",
    outcome: str = "failed",
    actions: Iterable[Json] = (),
) -> Json:
    """An item that there is something to tell of."""
    kind = "judge_slot" if "/judge_" in item_id else "run" if "/" in item_id else item_id
    return {
        "id": item_id,
        "kind": kind,
        "nodeid": f"exp/{item_id}",
        "status_before": before or status,
        "status": status,
        "outcome": outcome,
        "findings": list(findings),
        "actions": list(actions),
    }


def experiment(runs: Sequence[Json], items: Sequence[Json] = (), **changes: Any) -> Json:
    """An experiment, with the counts that its runs amount to."""
    counts = counts_of(runs)
    for one in items:
        if any(found["code"] == "fallback" for found in one["findings"]):
            slots = counts["judge_slots"]
            slots["fallback"] += 1
            slots["by_slot"][str(int(one["id"][-2:]))]["fallback"] += 1
    expected = counts["runs"]["expected"] + counts["judge_slots"]["expected"]
    unseen = counts["runs"]["not_audited"] + counts["judge_slots"]["not_audited"]
    sound = counts["runs"]["completed"] + counts["judge_slots"]["complete"]
    return {
        "path": "exp",
        "experiment_id": "demo-001",
        "expected_from": "disk",
        "before": counts,
        "after": counts,
        "completeness": None if unseen or not expected else sound / expected,
        "selected": expected - unseen,
        "not_audited": unseen,
        "findings": [],
        "runs": list(runs),
        "repairs": {
            "regenerated": 0,
            "judge_calls": 0,
            "agent_runs": 0,
            "failed": 0,
            "refused": 0,
            "cost_usd": 0,
            "seconds": 0.0,
        },
        "items": list(items),
        "waived": sum(one["outcome"] == "waived" for one in items),
        **changes,
    }


def counts_of(runs: Sequence[Json]) -> Json:
    """The COUNTS of the report's contract."""
    slots = [(place, slot) for held in runs for place, slot in enumerate(held["judges"])]
    by_slot = {}
    for place in range(max((len(held["judges"]) for held in runs), default=0)):
        found = Counter(slot["status"] for at, slot in slots if at == place)
        by_slot[str(place + 1)] = {
            "model": MODELS[place % len(MODELS)],
            "expected": found.total(),
            **{status: found[status] for status in SLOT_STATUSES},
            "fallback": 0,
        }
    of_runs, of_slots = Counter(held["status"] for held in runs), Counter(slot["status"] for _, slot in slots)
    return {
        "runs": {"expected": len(runs), **{status: of_runs[status] for status in RUN_STATUSES}},
        "judge_slots": {
            "expected": len(slots),
            **{status: of_slots[status] for status in SLOT_STATUSES},
            "fallback": 0,
            "by_slot": by_slot,
        },
    }


def report(*experiments: Json, exit_bits: int | None = None, interrupted: bool = False) -> Json:
    """A report; its exit bits say what its items do, unless they are given."""
    outcomes = {one["outcome"] for part in experiments for one in part["items"]}
    bits = (1 if "repaired" in outcomes else 0) + (4 if outcomes & {"failed", "not-run", "crashed"} else 0)
    return {
        "format": "pytest-scylla/report",
        "version": 1,
        "generated_at": "2026-03-01T10:05:00+00:00",
        "interrupted": interrupted,
        "tool": {"pytest_scylla": "0.1.0", "pytest": "9.0.0", "python": "3.12.0"},
        "exit_bits": bits if exit_bits is None else exit_bits,
        "experiments": list(experiments),
    }


def full_scale(*, times: int = 1, seed: int = 5) -> Json:
    """A report on 1,130 runs, or so many times that; one in twenty of them lacks something."""
    draw = random.Random(seed)
    runs: list[Json] = []
    items: list[Json] = []
    for run_id in run_ids(FULL_SCALE):
        for again in range(times):
            name = run_id if not again else f"{run_id}{again}"
            runs.append(_drawn(name, draw, items))
    return report(experiment(runs, sorted(items, key=lambda one: str(one["id"]))))


def _drawn(run_id: str, draw: random.Random, items: list[Json]) -> Json:
    quality = min(1.0, max(0.0, draw.gauss(0.7, 0.2)))
    scores = [round(min(1.0, max(0.0, quality + draw.gauss(0, 0.06))), 3) for _ in MODELS]
    cost = round(draw.uniform(0.04, 0.27), 4)
    kind = draw.random()
    slot = f"{run_id}/judge_03"
    if kind < 0.02:
        items.append(item(run_id, finding("run-result-missing", f"{run_id}/run_result.json")))
        return run(run_id, *scores, status="results", cost=cost)
    if kind < 0.03:
        items.append(
            item(run_id, finding("run-missing", run_id, message="expected a run, found none"), status="missing")
        )
        for number in range(1, 4):
            waits = finding(
                "no-agent-result", run_id, message="expected an agent result to judge, found the run missing"
            )
            items.append(item(f"{run_id}/judge_{number:02d}", waits, status="agent_failed"))
        return run(run_id, status="missing", cost=None, judges=[judge(None, status="agent_failed") for _ in MODELS])
    if kind < 0.05:
        items.append(item(slot, finding("judge-slot-missing", f"{run_id}/judge/judge_03"), status="missing"))
        return run(run_id, *scores[:2], None, cost=cost)
    if kind < 0.06:
        items.append(item(slot, finding("fallback", warning=True), status="complete", outcome="passed"))
    return run(run_id, *scores, cost=cost)
