"""A repair killed at any moment: files are old or new, never half; nothing is lost; the next repair finishes."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

import pytest_scylla
from benchmarks.synthetic import small, write_experiment
from tests.unit.damage import (
    CONSENSUS,
    JUDGMENT,
    OUTPUT,
    RESULT,
    RUN_RESULT,
    Run,
    change,
    cut,
    each,
    edit,
    lose,
    overwrite,
)
from tests.unit.repairing import Entry, Tree, digest, journal, quarantined, staged, tree

from .killer import Killer, in_two_threads, killer

REPAIRS = "tests.end_to_end.killing"
"""The program by which repairs are killed."""

MOVED = f"T0/00/run_01/{CONSENSUS}"
"""The place of a file where a directory lies: the one place that is empty for a moment."""


def directory_with_a_file(run: Run) -> None:
    run.delete(CONSENSUS)
    run.write(f"{CONSENSUS}/notes.txt", "somebody's\n")


DAMAGED = {
    "T0/00/run_01": each(
        lose("agent/stdout.log", RESULT), cut(JUDGMENT, 0.5), cut(RUN_RESULT, 0.5), directory_with_a_file
    ),
    "T0/00/run_02": each(
        cut(OUTPUT, 0.5),
        overwrite(RESULT, b""),
        edit(CONSENSUS, lambda record: record.update(score=0.123)),
        change(JUDGMENT, lambda data: data[: len(data) // 2]),
    ),
}


@dataclass(frozen=True)
class Repaired:
    """A damaged experiment: as it lies there, as a whole repair leaves it, and how many calls that repair makes."""

    root: Path
    before: Tree
    after: Tree
    calls: int

    def copied(self, root: Path) -> Repaired:
        """A copy of the damaged experiment."""
        shutil.copytree(self.root, root)
        return Repaired(root, self.before, relocated(self.after, self.root, root), self.calls)


def relocated(content: Tree, here: Path, there: Path) -> Tree:
    """The same in another place: a rebuilt run_result.json names where it is."""
    return {name: Entry(mode, data.replace(bytes(here), bytes(there))) for name, (mode, data) in content.items()}


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Repaired:
    place = tmp_path_factory.mktemp("crashes")
    root, whole = place / "damaged", place / "whole"
    write_experiment(root, small(tiers={"T0": ("00",)}, judge_models=("judge-a", "judge-b"), side_files=False))
    for run, damage in DAMAGED.items():
        damage(Run(root, run))
    (root / "T0/00/run_01" / RUN_RESULT).chmod(0o640)
    shutil.copytree(root, whole)
    with killer(REPAIRS) as process:
        calls = int(process.run(whole))
    return Repaired(root, tree(root), relocated(tree(whole), whole, root), calls)


def test_the_repair_that_is_killed_is_one_of_several_files_in_several_runs(repaired: Repaired, tmp_path: Path) -> None:
    changed = {name for name, entry in repaired.after.items() if repaired.before.get(name) != entry}
    assert {name.split("/")[2] for name in changed} == {"run_01", "run_02"}
    assert len(changed) >= 8
    assert 60 < repaired.calls < 250
    assert stat.S_IMODE(repaired.after[f"T0/00/run_01/{RUN_RESULT}"].mode) == 0o640
    shutil.copytree(repaired.root, tmp_path / "exp")
    with killer(REPAIRS) as process:
        process.run(tmp_path / "exp")
    audits = list(pytest_scylla.audit(pytest_scylla.load(tmp_path / "exp")))
    assert [audit.status for audit in audits] == ["completed"] * 2


def test_killed_at_any_call_a_repair_leaves_files_old_or_new_and_the_next_one_finishes(
    repaired: Repaired, tmp_path: Path
) -> None:
    def kill_at(process: Killer, last: int) -> str:
        return kill_and_finish(process, repaired, tmp_path / f"exp-{last}", last)

    kills = {*in_two_threads(REPAIRS, range(1, repaired.calls + 1), kill_at)}
    assert kills == {f"killed at {name}" for name in ("write", "rename", "unlink", "mkdir", "fsync", "open", "utime")}
    with killer(REPAIRS) as process:
        assert process.run(shutil.copytree(repaired.root, tmp_path / "exp"), repaired.calls + 1) == str(repaired.calls)


def test_killed_twice_a_repair_still_leaves_files_old_or_new_and_the_next_one_finishes(
    repaired: Repaired, tmp_path: Path
) -> None:
    with killer(REPAIRS) as process:
        for first in range(5, repaired.calls, 9):
            second = first * 31 % 60 + 1
            kill_and_finish(process, repaired, tmp_path / f"exp-{first}-{second}", first, second)


def kill_and_finish(process: Killer, damaged: Repaired, root: Path, *calls: int) -> str:
    """Kill one repair after the other, each at its call; look at what it left, and repair again."""
    repaired = damaged.copied(root)
    ended = ""
    for last in calls:
        ended = process.run(root, last)
        where = f"{ended}, call {last} of {calls}"
        assert ended.startswith("killed at ") or last != calls[0], where
        left = tree(root)
        every_file_is_old_or_new(repaired, left, where)
        no_byte_is_lost(repaired, root, left, where)
        what_was_done_is_told(repaired, root, left, where)

    assert process.run(root).isdigit(), where
    assert tree(root) == repaired.after, where
    no_byte_is_lost(repaired, root, repaired.after, where)
    assert not staged(root), where

    everything = tree(root, but=None)
    assert process.run(root) == "0", where
    assert tree(root, but=None) == everything, where
    shutil.rmtree(root)
    return ended


def every_file_is_old_or_new(repaired: Repaired, left: Tree, where: str) -> None:
    for name in {*repaired.before, *repaired.after, *left}:
        possible: set[Entry | None] = {repaired.before.get(name), repaired.after.get(name)}
        if name == MOVED:
            possible.add(None)
        assert left.get(name) in possible, f"{where}: {name}"


def no_byte_is_lost(repaired: Repaired, root: Path, left: Tree, where: str) -> None:
    in_quarantine = quarantined(root)  # each of them whole, or its name would not be its hash
    moved = {path.name: path.read_bytes() for path in root.glob(".scylla/quarantine/*.*/*")}
    for name, entry in repaired.before.items():
        if stat.S_ISREG(entry.mode) and left.get(name) != entry:
            in_a_directory = name.startswith(f"{MOVED}/")
            kept = moved.get(Path(name).name) if in_a_directory else in_quarantine.get(digest(entry.content))
            assert kept == entry.content, f"{where}: {name}"


def what_was_done_is_told(repaired: Repaired, root: Path, left: Tree, where: str) -> None:
    told = {(entry["file"], entry["sha256"]) for entry in journal(root)}
    for name, entry in left.items():
        if stat.S_ISREG(entry.mode) and repaired.before.get(name) != entry:
            assert (name, digest(entry.content)) in told, f"{where}: {name}"
