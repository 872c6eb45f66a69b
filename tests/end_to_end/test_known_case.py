"""The case to think of: 1,130 runs of which one lost its record and two lost a judgment, made whole by one command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import FULL_SCALE, write_experiment
from tests.plugin.support import ALONE

RECORD_LOST = "T5/13/run_10"
SLOT_EMPTY = "T1/10/run_09"
"""Its judge_01 is an empty directory, and its workspace was cleaned up."""
CALL_FAILED = "T4/07/run_09"
"""Its judge_01 holds nothing but a timing.json that says that the call failed. Its workspace is there."""
TO_JUDGE = (SLOT_EMPTY, CALL_FAILED)

SLOT_FILES = ("MODEL.md", "judgment.json", "response.txt", "stderr.log", "stdout.log", "timing.json")
VERDICT = {"score": 0.8, "passed": True, "grade": "A", "reasoning": "Every item but R3 is met.", "categories": {}}
COST = 0.25  # USD

ROOM = 512 * 1024 * 1024
"""What the case may take, in bytes; it takes half of that."""

CLAUDE = """\
import json, os, sys

prompt = sys.stdin.read()
with open({log!r}, "a") as log:
    print(json.dumps([sys.argv[1:], prompt, os.listdir()]), file=log)
answer = "The script runs.\\n\\n```json\\n" + {verdict!r} + "\\n```\\n"
reply = {{"type": "result", "is_error": False, "result": answer, "total_cost_usd": {cost}}}
print(json.dumps({{**reply, "usage": {{"output_tokens": 99}}}}))
"""

State = dict[str, tuple[int, int, bytes]]
"""What lies in a directory: of each path the mode, the time of the last change, and the digest of a file's content."""


@dataclass(frozen=True)
class Call:
    """A call of the judge's command: its arguments, what it was told, and what it found in its working directory."""

    arguments: list[str]
    prompt: str
    working_directory: list[str]


@dataclass(frozen=True)
class Session:
    """A session that has ended: what it printed, its report, the calls it made, and what lay there afterwards."""

    exit_code: int
    printed: str
    report: dict[str, Any]
    calls: list[Call]
    left: State

    @property
    def experiment(self) -> dict[str, Any]:
        """The report's one experiment."""
        (experiment,) = self.report["experiments"]
        assert isinstance(experiment, dict)
        return experiment


@dataclass(frozen=True)
class KnownCase:
    """The case as it was ``damaged``, and the sessions on it in their order. ``lost`` is the record that it lost."""

    root: Path
    lost: dict[str, Any]
    prompts: dict[str, str]
    damaged: State
    audited: Session
    repaired: Session
    repaired_again: Session


def state_of(root: Path) -> State:
    found: State = {}
    for folder, names, files in os.walk(root):
        for path in (os.path.join(folder, name) for name in (*names, *files)):
            status = os.lstat(path)
            digest = b""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).digest()
            found[os.path.relpath(path, root)] = (status.st_mode, status.st_mtime_ns, digest)
    return found


def in_place(state: State) -> State:
    """What lies in the experiment's own places: beside what repairs keep, and without times of directories."""
    return {
        path: (mode, 0 if stat.S_ISDIR(mode) else modified, digest)
        for path, (mode, modified, digest) in state.items()
        if path.split("/")[0] != ".scylla"
    }


def damage(root: Path) -> None:
    (root / RECORD_LOST / "run_result.json").unlink()
    for run in TO_JUDGE:
        slot = root / run / "judge/judge_01"
        timing = json.loads((slot / "timing.json").read_text("utf-8"))
        shutil.rmtree(slot)
        slot.mkdir()
        if run == CALL_FAILED:
            (slot / "timing.json").write_text(json.dumps({**timing, "failed": True}, indent=2), "utf-8")
            (root / run / "workspace").mkdir()
            (root / run / "workspace/tally.py").write_text("print(0)\n", "utf-8")


def put_on_path(place: Path, log: Path) -> str:
    """Make a command ``claude`` that logs its calls and always gives the same verdict; return the PATH with it."""
    place.mkdir()
    script = place / "claude.py"
    script.write_text(CLAUDE.format(log=str(log), verdict=json.dumps(VERDICT), cost=COST), "utf-8")
    command = place / "claude"
    words = shlex.join((sys.executable, "-I", "-S", str(script)))
    command.write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    command.chmod(0o755)
    return os.pathsep.join((str(place), os.environ.get("PATH", os.defpath)))


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A directory for 35,000 files, in memory where there is room: to make and delete them takes some disks a minute.

    It is deleted at the end, where pytest would keep those of three sessions.
    """
    in_memory = Path("/dev/shm")
    if in_memory.is_dir() and os.access(in_memory, os.W_OK) and shutil.disk_usage(in_memory).free >= ROOM:
        where: Path | None = in_memory
    else:
        where = None
    with tempfile.TemporaryDirectory(prefix="known-case-", dir=where) as name:
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def known_case(project: Path) -> KnownCase:
    """The case audited, repaired, and repaired again, each by one command."""
    root, log, report = project / "exp", project / "calls.jsonl", project / "report.json"
    path = put_on_path(project / "bin", log)

    def run_session(*options: str) -> Session:
        log.write_text("")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ALONE]
        result = subprocess.run(
            [*command, "--scylla-exp=exp", "--scylla-report=report.json", *options],
            cwd=project,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert report.exists(), result.stdout + result.stderr
        told = json.loads(report.read_text("utf-8"))
        report.unlink()
        calls = [Call(*json.loads(line)) for line in log.read_text("utf-8").splitlines()]
        return Session(result.returncode, result.stdout + result.stderr, told, calls, state_of(root))

    write_experiment(root, replace(FULL_SCALE, side_files=False))
    lost = json.loads((root / RECORD_LOST / "run_result.json").read_text("utf-8"))
    damage(root)
    return KnownCase(
        root,
        lost,
        {run: (root / run / "judge_prompt.md").read_text("utf-8") for run in TO_JUDGE},
        state_of(root),
        run_session(),
        run_session("--repair"),
        run_session("--repair"),
    )


def counts(experiment: dict[str, Any], when: str) -> tuple[dict[str, int], dict[str, int]]:
    """The runs and the judge slots of a report by status, without statuses that none has."""
    runs, slots = experiment[when]["runs"], experiment[when]["judge_slots"]
    return (
        {status: count for status, count in runs.items() if count},
        {status: count for status, count in slots.items() if count and status != "by_slot"},
    )


ABOVE = {
    f"{place}/{name}".lstrip("/")
    for run in TO_JUDGE
    for place in ("", run.split("/")[0], os.path.dirname(run))
    for name in ("report.json", "result.json", "best_subtest.json", "tier_comparison.json")
}
"""The aggregates that the two runs count in: those of their subtests, of their tiers, and of the experiment."""

BROKEN = ({"expected": 1130, "completed": 1129, "results": 1}, {"expected": 3390, "complete": 3388, "failed": 2})
WHOLE = ({"expected": 1130, "completed": 1130}, {"expected": 3390, "complete": 3390})


def summary(session: Session) -> list[str]:
    """The lines that count runs and judge slots."""
    lines = re.findall(r"^(?:runs|judge slots) .*$", session.printed, re.M)
    return [" ".join(line.split()) for line in lines]


def test_an_audit_finds_1129_of_1130_runs_completed_and_3388_of_3390_judge_slots_complete(
    known_case: KnownCase,
) -> None:
    session = known_case.audited
    assert session.exit_code == 1, session.printed
    assert summary(session) == [
        "runs 1130 expected: 1129 completed, 1 results",
        "judge slots 3390 expected: 3388 complete, 2 failed",
    ]
    assert counts(session.experiment, "after") == counts(session.experiment, "before") == BROKEN
    assert {item["id"]: item["status"] for item in session.experiment["items"]} == {
        RECORD_LOST: "results",
        **{f"{run}/judge_01": "failed" for run in TO_JUDGE},
    }
    assert session.report["exit_bits"] == 4
    assert session.calls == []
    assert session.left == known_case.damaged


def test_one_command_makes_it_whole_with_two_judge_calls(known_case: KnownCase) -> None:
    session = known_case.repaired
    assert session.exit_code == 0, session.printed
    assert summary(session) == [
        "runs 1130 expected: 1130 completed",
        "judge slots 3390 expected: 3390 complete",
    ]
    assert len(session.calls) == 2
    assert counts(session.experiment, "before") == BROKEN
    assert counts(session.experiment, "after") == WHOLE
    assert session.experiment["completeness"] == 1.0
    assert {item["id"]: (item["status"], item["outcome"]) for item in session.experiment["items"]} == {
        RECORD_LOST: ("completed", "repaired"),
        **{f"{run}/judge_01": ("complete", "repaired") for run in TO_JUDGE},
        "aggregates": ("sound", "repaired"),
    }
    repairs = session.experiment["repairs"]
    assert (repairs["judge_calls"], repairs["cost_usd"], repairs["agent_runs"]) == (2, 2 * COST, 0)
    assert (repairs["failed"], repairs["refused"]) == (0, 0)
    assert session.report["exit_bits"] == 1


def test_each_lost_judgment_is_asked_for_by_its_own_prompt_and_model(known_case: KnownCase) -> None:
    by_prompt = {call.prompt: call for call in known_case.repaired.calls}
    assert set(by_prompt) == set(known_case.prompts.values())
    for call in by_prompt.values():
        assert f"--model={FULL_SCALE.judge_models[0]}" in call.arguments
        assert call.working_directory == []


def test_a_judge_looks_into_the_workspace_where_there_is_one(known_case: KnownCase) -> None:
    workspace = str((known_case.root / CALL_FAILED / "workspace").resolve())
    by_prompt = {call.prompt: call.arguments for call in known_case.repaired.calls}
    assert any(workspace in argument for argument in by_prompt[known_case.prompts[CALL_FAILED]])
    assert not any("/workspace" in argument for argument in by_prompt[known_case.prompts[SLOT_EMPTY]])


def test_a_lost_record_is_rebuilt_as_it_was_with_the_paths_of_today(known_case: KnownCase) -> None:
    run = known_case.root / RECORD_LOST
    assert json.loads((run / "run_result.json").read_text("utf-8")) == {
        **known_case.lost,
        "workspace_path": str(run / "workspace"),
        "logs_path": str(run / "agent"),
        "command_log_path": str(run / "agent/command_log.json"),
    }


@pytest.mark.parametrize("run", TO_JUDGE)
def test_the_new_verdict_counts_for_its_run(known_case: KnownCase, run: str) -> None:
    def load(name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((known_case.root / run / name).read_text("utf-8"))
        return record

    judgments = [load(f"judge/judge_{number:02d}/judgment.json") for number in (1, 2, 3)]
    assert {key: judgments[0][key] for key in ("score", "passed", "grade", "reasoning")} == {
        key: VERDICT[key] for key in ("score", "passed", "grade", "reasoning")
    }
    result, mean = load("run_result.json"), statistics.fmean(judgment["score"] for judgment in judgments)
    assert load("judge/result.json")["score"] == pytest.approx(mean)
    assert result["judge_score"] == pytest.approx(mean)
    assert [verdict["score"] for verdict in result["judges"]] == [judgment["score"] for judgment in judgments]


def test_nothing_else_is_touched_and_nothing_is_lost(known_case: KnownCase) -> None:
    before, after = in_place(known_case.damaged), in_place(known_case.repaired.left)
    replaced = {path for run in TO_JUDGE for path in (f"{run}/run_result.json", f"{run}/judge/result.json")}
    replaced.add(f"{CALL_FAILED}/judge/judge_01/timing.json")
    replaced |= {file for file in before if file in ABOVE and after.get(file) != before[file]}
    assert replaced >= {f"{os.path.dirname(run)}/report.json" for run in TO_JUDGE}
    written = {f"{run}/judge/judge_01/{name}" for run in TO_JUDGE for name in SLOT_FILES}
    written.add(f"{RECORD_LOST}/run_result.json")
    assert {path for path in before if after.get(path) != before[path]} == replaced
    assert set(after) - set(before) == written - replaced
    kept = {digest for path, (_, _, digest) in known_case.repaired.left.items() if "/quarantine/" in path}
    assert {before[path][2] for path in replaced} <= kept


def test_a_second_repair_calls_nobody_and_changes_nothing_at_all(known_case: KnownCase) -> None:
    session = known_case.repaired_again
    assert session.exit_code == 0, session.printed
    assert session.calls == []
    assert session.left == known_case.repaired.left
    assert counts(session.experiment, "before") == counts(session.experiment, "after") == WHOLE
    assert session.experiment["items"] == []
    repairs = session.experiment["repairs"]
    assert (repairs["regenerated"], repairs["judge_calls"], repairs["cost_usd"]) == (0, 0, 0)
    assert session.report["exit_bits"] == 0
