"""The checkpoint is mended by one session at a time, killed at anything that it does: it is the old one or the new one.

The one that was replaced is kept, and told of; the next session finishes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.synthetic import small, write_experiment
from tests.unit.repairing import Tree, digest, journal, quarantined, staged, tree

from .agents import StandIns, end_state, run_session
from .killer import Killer, in_two_threads, killer

SESSIONS = "tests.end_to_end.agents"
"""The program by which sessions are killed."""

CHECKPOINT = "checkpoint.json"


def not_recorded(file: Path) -> None:
    data = json.loads(file.read_text())
    del data["completed_runs"]["T0"]["00"]["2"]
    file.write_text(json.dumps(data, indent=2))


def cut_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


FAULTS: dict[str, Callable[[Path], None]] = {
    "a run is not recorded": not_recorded,
    "cut off": cut_off,
    "absent": Path.unlink,
}


@pytest.fixture(params=FAULTS)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A healthy experiment of two runs but for its checkpoint."""
    root = tmp_path / "damaged"
    write_experiment(root, small(tiers={"T0": ("00",)}, runs_per_subtest=2, judge_models=("judge-a",)))
    FAULTS[request.param](root / CHECKPOINT)
    return root


def project_of(damaged: Path, name: str) -> tuple[Path, StandIns]:
    """A project with a copy of it as the experiment exp, and what stands in for agents and judges."""
    place = damaged.parent / name
    place.mkdir()
    shutil.copytree(damaged, place / "exp")
    return place, StandIns(place)


def but_for_it(files: Tree) -> Tree:
    """All that no repair is to change here."""
    return {name: entry for name, entry in files.items() if name != CHECKPOINT}


def assert_mended(root: Path) -> None:
    """Check that the checkpoint records each run as its judges have it."""
    results = {number: json.loads((root / f"T0/00/run_0{number}/run_result.json").read_text()) for number in "12"}
    judged = {number: "passed" if result["judge_passed"] else "failed" for number, result in results.items()}
    assert json.loads((root / CHECKPOINT).read_text())["completed_runs"] == {"T0": {"00": judged}}


def checkpoint_of(files: Tree) -> bytes | None:
    return files[CHECKPOINT].content if CHECKPOINT in files else None


def assert_kept(root: Path, old: bytes | None) -> None:
    """Check that the old checkpoint is in the quarantine, whole, and nothing else is."""
    assert quarantined(root) == ({} if old is None else {digest(old): old})


def recorded(root: Path) -> list[str]:
    """The hash of each checkpoint that was put in its place, as the journal has it."""
    return [entry["sha256"] for entry in journal(root) if entry["file"] == CHECKPOINT]


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are killed with all that descends from them in /proc")
def test_killed_at_anything_it_does_a_session_leaves_it_old_or_new_and_the_next_one_comes_to_the_same_end(
    damaged: Path,
) -> None:
    before = tree(damaged)
    old = checkpoint_of(before)
    whole, _ = project_of(damaged, "whole")
    with killer(SESSIONS) as process:
        count = int(process.run(whole))
    end = end_state(whole / "exp")
    assert_mended(whole / "exp")

    def kill_and_finish(process: Killer, last: int) -> tuple[str, bool]:
        project, _ = project_of(damaged, str(last))
        root = project / "exp"
        ended = process.run(project, last)
        left = tree(root)
        where = f"{ended}, {last} of {count}"
        assert but_for_it(left) == but_for_it(before), where
        mended = checkpoint_of(left) != old
        if mended:
            assert end_state(root) == end, where
            assert_kept(root, old)
            assert digest(left[CHECKPOINT].content) in recorded(root), where

        assert process.run(project).isdigit(), f"{where}: {(project / 'session.log').read_text()}"
        assert end_state(root) == end, where
        assert_kept(root, old)
        assert digest((root / CHECKPOINT).read_bytes()) in recorded(root), where
        assert staged(root) == [], where
        shutil.rmtree(project)
        return ended, mended

    told = in_two_threads(SESSIONS, range(1, count + 1), kill_and_finish)
    assert {ended for ended, _ in told} >= {f"killed at {call}" for call in ("write", "rename", "mkdir", "open")}
    assert {mended for _, mended in told} == {False, True}


BOTH_ARE_ABOUT_TO_MEND_IT = """\
import os
import time
from pathlib import Path


def pytest_runtest_setup(item):
    if item.nodeid.endswith("::checkpoint"):
        Path(f"about-{os.getpid()}").touch()
        deadline = time.monotonic() + 600
        while len(list(Path().glob("about-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_two_sessions_at_once_mend_it_once(damaged: Path, workers: str) -> None:
    before = tree(damaged)
    project, stand_ins = project_of(damaged, "project")
    root = project / "exp"
    (project / "conftest.py").write_text(BOTH_ARE_ABOUT_TO_MEND_IT)

    def repair(report: str) -> int:
        done = run_session(project, stand_ins, "-n", workers, f"--scylla-report={report}")
        assert done.returncode == 0, done.stdout + done.stderr
        (experiment,) = json.loads((project / report).read_text())["experiments"]
        return sum(action["what"] == CHECKPOINT for item in experiment["items"] for action in item["actions"])

    with ThreadPoolExecutor(2) as two:
        assert sorted(two.map(repair, ("1.json", "2.json"))) == [0, 1]
    left = tree(root)
    assert but_for_it(left) == but_for_it(before)
    assert_mended(root)
    assert recorded(root) == [digest(left[CHECKPOINT].content)]
    assert_kept(root, checkpoint_of(before))
    assert staged(root) == []
    assert stand_ins.calls == []
