"""The archive of earlier attempts at a run: whole, under names of their own, and with what git knows of them.

The experiment is the small healthy one, with a real repository and workspaces in it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.experiment.expected import Experiment
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.writing import CannotWrite
from pytest_scylla.running import archive as module
from pytest_scylla.running.archive import archive_run, attempts_at, bring_back
from pytest_scylla.running.workspace import before_move

from .repairing import journal, run_named, tree
from .repositories import Setting, branches, everything, git, needs_git, registrations, with_repository

RUN = "T0/00/run_01"
FIRST, SECOND, THIRD = (f"T0/00/.failed/run_01{number}" for number in ("", "_failed_1", "_failed_2"))


@pytest.fixture
def setting(experiment_dir: Path) -> Setting:
    return with_repository(experiment_dir)


@pytest.fixture
def experiment(experiment_dir: Path) -> Experiment:
    return pytest_scylla.load(experiment_dir)


@pytest.fixture
def keeping(experiment_dir: Path) -> Iterator[Keeping]:
    with Keeping(experiment_dir) as opened:
        yield opened


def archive(experiment: Experiment, keeping: Keeping, run: str = RUN, place: str = "") -> str | None:
    return archive_run(experiment, keeping, run_named(experiment, run), place or run)


def bring(experiment: Experiment, keeping: Keeping, archived: str) -> None:
    bring_back(experiment, keeping, run_named(experiment, RUN), archived, RUN)


def make_attempt(root: Path, text: str) -> None:
    (root / RUN).mkdir()
    (root / RUN / "attempt.txt").write_text(text)


# Names


def test_the_first_attempt_keeps_its_name_and_those_after_it_are_numbered(
    experiment: Experiment, keeping: Keeping
) -> None:
    root = experiment.root
    before = tree(root / RUN)
    assert archive(experiment, keeping) == FIRST
    for text, place in (("second", SECOND), ("third", THIRD)):
        make_attempt(root, text)
        assert archive(experiment, keeping) == place
        assert (root / place / "attempt.txt").read_text() == text
    assert tree(root / FIRST) == before
    assert not (root / RUN).exists()
    assert sorted(os.listdir(root / "T0/00/.failed")) == ["run_01", "run_01_failed_1", "run_01_failed_2"]


def test_nothing_that_is_in_the_archive_is_ever_overwritten(experiment: Experiment, keeping: Keeping) -> None:
    root = experiment.root
    for name, text in (("run_01", "somebody's"), ("run_01_failed_2", "somebody's, too")):
        (root / "T0/00/.failed" / name).mkdir(parents=True)
        (root / "T0/00/.failed" / name / "notes.txt").write_text(text)
    before = tree(root / "T0/00/.failed")
    assert archive(experiment, keeping) == SECOND
    after = tree(root / "T0/00/.failed")
    assert before.items() <= after.items()
    make_attempt(root, "third")
    assert archive(experiment, keeping) == f"{FIRST}_failed_3"


def test_a_file_of_an_attempts_name_is_not_overwritten_either(experiment: Experiment, keeping: Keeping) -> None:
    place = experiment.root / "T0/00/.failed/run_01"
    place.parent.mkdir()
    place.write_text("a file")
    assert archive(experiment, keeping) == SECOND
    assert place.read_text() == "a file"


def test_attempts_are_counted_with_the_one_that_is_there(experiment: Experiment, keeping: Keeping) -> None:
    assert attempts_at(keeping, RUN) == 1
    archive(experiment, keeping)
    assert attempts_at(keeping, RUN) == 1
    make_attempt(experiment.root, "second")
    assert attempts_at(keeping, RUN) == 2
    (experiment.root / "T0/00/.failed/run_010").mkdir()  # another run's
    (experiment.root / "T0/00/.failed/run_02").mkdir()
    assert attempts_at(keeping, RUN) == 2


def test_counting_makes_nothing(experiment: Experiment, keeping: Keeping) -> None:
    shutil.rmtree(experiment.root / "T0")
    assert attempts_at(keeping, RUN) == 0
    assert archive(experiment, keeping) is None
    assert not (experiment.root / "T0").exists()
    shutil.rmtree(experiment.root / "T1/01/run_01")
    assert archive(experiment, keeping, "T1/01/run_01") is None
    assert not (experiment.root / "T1/01/.failed").exists()


def test_a_run_of_the_later_layout_goes_to_the_archive_beside_it(experiment: Experiment, keeping: Keeping) -> None:
    (experiment.root / "completed/T0").mkdir(parents=True)
    (experiment.root / "T0/00").rename(experiment.root / "completed/T0/00")
    assert archive(experiment, keeping, place=f"completed/{RUN}") == f"completed/{FIRST}"
    assert (experiment.root / "completed" / FIRST / "run_result.json").exists()


# What is told


def test_the_journal_tells_what_was_moved_from_where_to_where(experiment: Experiment, keeping: Keeping) -> None:
    archive(experiment, keeping)
    bring(experiment, keeping, FIRST)
    moves = [
        (entry["item"], entry["from"], entry["to"]) for entry in journal(experiment.root) if entry["what"] == "move"
    ]
    assert moves == [(RUN, RUN, FIRST), (RUN, FIRST, RUN)]


# Coming back


def test_what_is_brought_back_is_as_it_was(experiment: Experiment, keeping: Keeping) -> None:
    before = everything(experiment.root / RUN)
    archived = archive(experiment, keeping)
    assert archived is not None
    bring(experiment, keeping, archived)
    assert everything(experiment.root / RUN) == before
    assert os.listdir(experiment.root / "T0/00/.failed") == []


def test_it_does_not_come_back_over_another_attempt(experiment: Experiment, keeping: Keeping) -> None:
    archive(experiment, keeping)
    make_attempt(experiment.root, "second")
    with pytest.raises(CannotWrite, match=f"^{FIRST}: expected nothing|^{RUN}: expected nothing"):
        bring(experiment, keeping, FIRST)
    assert (experiment.root / RUN / "attempt.txt").read_text() == "second"
    assert (experiment.root / FIRST / "run_result.json").exists()


@pytest.mark.parametrize("lost", ["T0/00/.failed", "T0"])
def test_what_is_gone_from_the_archive_cannot_come_back(experiment: Experiment, keeping: Keeping, lost: str) -> None:
    archive(experiment, keeping)
    shutil.rmtree(experiment.root / lost)
    with pytest.raises(CannotWrite, match=FIRST):
        bring(experiment, keeping, FIRST)


# What is in the way


def test_an_archive_that_is_a_link_is_not_followed(experiment: Experiment, keeping: Keeping, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (experiment.root / "T0/00/.failed").symlink_to(outside)
    before = tree(experiment.root)
    for attempt in (lambda: archive(experiment, keeping), lambda: attempts_at(keeping, RUN)):
        with pytest.raises(CannotWrite, match=r"^T0/00/\.failed: expected"):
            attempt()
    assert tree(experiment.root) == before
    assert os.listdir(outside) == []


def test_a_subtest_that_is_a_link_is_not_followed(experiment: Experiment, keeping: Keeping, tmp_path: Path) -> None:
    (experiment.root / "T0/00").rename(tmp_path / "00")
    (experiment.root / "T0/00").symlink_to(tmp_path / "00")
    with pytest.raises(CannotWrite, match=r"^T0/00: expected"):
        archive(experiment, keeping)
    assert (tmp_path / "00/run_01/run_result.json").exists()


def test_a_link_in_the_place_of_a_run_is_archived_as_a_link(
    experiment: Experiment, keeping: Keeping, tmp_path: Path
) -> None:
    (experiment.root / RUN).rename(tmp_path / "elsewhere")
    (experiment.root / RUN).symlink_to(tmp_path / "elsewhere")
    assert archive(experiment, keeping) == FIRST
    assert os.readlink(experiment.root / FIRST) == str(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/run_result.json").exists()


# Workspaces


@needs_git
def test_a_workspace_moves_along_and_git_knows_where_and_keeps_it(
    setting: Setting, experiment: Experiment, keeping: Keeping
) -> None:
    setting.set_up(RUN)
    other = setting.set_up("T0/00/run_02")
    (setting.workspace(RUN) / "unsaved.txt").write_text("not committed")
    registered, known = registrations(setting.base), branches(setting.base)
    archive(experiment, keeping)
    now = registrations(setting.base)
    told = now.pop(str(setting.root / FIRST / "workspace")).splitlines()
    assert told[:2] == registered.pop(str(setting.workspace(RUN))).splitlines()
    assert told[2].startswith("locked pytest-scylla: archived from ")
    assert now == registered
    assert str(other) in now
    assert branches(setting.base) == known
    assert git(setting.root / FIRST / "workspace", "status", "--porcelain") == "?? unsaved.txt"
    git(setting.base, "worktree", "prune", "--expire=now")
    assert str(setting.root / FIRST / "workspace") in registrations(setting.base)


@needs_git
def test_a_workspace_that_is_brought_back_is_known_at_its_place(
    setting: Setting, experiment: Experiment, keeping: Keeping
) -> None:
    setting.set_up(RUN)
    registered = registrations(setting.base)
    archive(experiment, keeping)
    bring(experiment, keeping, FIRST)
    assert registrations(setting.base) == registered  # and is not locked
    assert git(setting.workspace(RUN), "status", "--porcelain") == ""


@needs_git
def test_it_stays_locked_if_it_was_locked_before(setting: Setting, experiment: Experiment, keeping: Keeping) -> None:
    workspace = setting.set_up(RUN)
    git(setting.base, "worktree", "lock", "--reason", "mine", str(workspace))
    registered = registrations(setting.base)
    archive(experiment, keeping)
    bring(experiment, keeping, FIRST)
    assert registrations(setting.base) == registered


@needs_git
def test_in_a_moved_experiment_it_is_known_in_the_archive_and_back_at_its_place(
    setting: Setting, experiment: Experiment, tmp_path: Path
) -> None:
    setting.set_up(RUN)
    (told,) = [told for place, told in registrations(setting.base).items() if place == str(setting.workspace(RUN))]
    moved = setting.root.rename(setting.root.with_name("moved"))
    experiment = pytest_scylla.load(moved)
    with Keeping(moved) as keeping:
        archive(experiment, keeping)
        assert registrations(moved / "repo")[str(moved / FIRST / "workspace")].startswith(f"{told}\nlocked ")
        bring(experiment, keeping, FIRST)
    assert registrations(moved / "repo")[str(moved / RUN / "workspace")] == told


@needs_git
def test_whoever_was_killed_before_the_move_is_followed_by_one_who_comes_to_the_same(
    setting: Setting, experiment: Experiment, keeping: Keeping
) -> None:
    workspace = setting.set_up(RUN)
    before_move(experiment, workspace, setting.root / FIRST / "workspace")
    git(setting.base, "worktree", "prune", "--expire=now")
    assert git(workspace, "status", "--porcelain") == ""
    assert archive(experiment, keeping) == FIRST
    assert str(setting.root / FIRST / "workspace") in registrations(setting.base)
    assert git(setting.root / FIRST / "workspace", "status", "--porcelain") == ""


@needs_git
def test_where_the_move_fails_git_knows_the_workspace_at_its_place(
    setting: Setting, experiment: Experiment, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = setting.set_up(RUN)
    registered = registrations(setting.base)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "move", no_room)
    with pytest.raises(CannotWrite, match=f"^{RUN}: No space left on device$"):
        archive(experiment, keeping)
    assert registrations(setting.base) == registered
    assert str(workspace) in registered


@needs_git
def test_without_the_base_repository_the_workspace_moves_all_the_same(
    setting: Setting, experiment: Experiment, keeping: Keeping
) -> None:
    setting.set_up(RUN)
    shutil.rmtree(setting.base)
    assert archive(experiment, keeping) == FIRST
    assert (setting.root / FIRST / "workspace/tally.py").exists()
    bring(experiment, keeping, FIRST)
    assert (setting.workspace(RUN) / "tally.py").exists()
