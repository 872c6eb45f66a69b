"""Workspaces of runs, with real git: what there is in a fresh one, and that nothing else is lost or changed by it.

The experiments are the small healthy one with the runs T0/00, T1/01 and T1/02, two of each, whose workspaces are set up
as the program that runs experiments does it.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.experiment.locks import locked
from pytest_scylla.running.changes import list_changes
from pytest_scylla.running.contract import MakeWorkspace, Workspace
from pytest_scylla.running.workspace import (
    after_return,
    before_move,
    check_workspace,
    make_workspace,
    remove_workspace,
    restore_workspace,
)

from .repairing import tree
from .repositories import (
    AGENT_WORK,
    CONFIGURATION,
    RUN,
    SIBLING,
    Setting,
    archive,
    branches,
    commit,
    edit_config,
    everything,
    git,
    make,
    make_task,
    needs_git,
    refusal,
    refused,
    registrations,
    request,
    with_repository,
    without,
    write,
)

pytestmark = needs_git


def move(setting: Setting, run: str, name: str = "") -> tuple[Path, Path]:
    """Archive a run with its workspace, and let git know; return where that was, and where it is."""
    old = setting.workspace(run)
    new = setting.root / "T0/00/.failed" / (name or old.parent.name) / "workspace"
    before_move(pytest_scylla.load(setting.root), old, new)
    archive(setting, run, name)
    return old, new


def test_the_function_keeps_to_the_contract() -> None:
    contract: MakeWorkspace = make_workspace
    assert contract is make_workspace


# --------------------------------------------------------------------------------------------------- a fresh workspace


def test_a_workspace_holds_the_task_and_the_configuration_and_nothing_of_what_agents_did(setting: Setting) -> None:
    made = make(setting)
    assert made.path == setting.workspace(RUN)
    assert made.base_commit == setting.start(RUN)
    files = {str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file()}
    assert files == {"README", "src/words.txt", ".gitignore", ".git", *CONFIGURATION}
    assert (made.path / "CLAUDE.md").read_text() == CONFIGURATION["CLAUDE.md"]
    assert git(made.path, "status", "--porcelain") == ""
    assert git(made.path, "rev-parse", "HEAD") == made.base_commit
    assert git(made.path, "symbolic-ref", "--short", "HEAD") == made.branch


def test_each_attempt_has_a_branch_of_its_own(setting: Setting) -> None:
    first = make(setting)
    assert re.fullmatch(r"T0_00_run_01--a2-[0-9a-f]{8}", first.branch)
    archive(setting, RUN, "run_01_failed_1")
    second = make(setting)
    archive(setting, RUN, "run_01_failed_2")
    third = make(setting, attempt=3)
    assert third.branch.startswith("T0_00_run_01--a3-")
    assert len({first.branch, second.branch, third.branch, "T0_00_run_01"} & branches(setting.base).keys()) == 4


def test_a_run_that_never_had_a_directory_gets_one(setting: Setting) -> None:
    shutil.rmtree(setting.root / "T0" / "00")
    made = make(setting)
    assert (made.path / "README").is_file()


def test_an_empty_directory_is_as_good_as_none(setting: Setting) -> None:
    setting.workspace(RUN).mkdir(parents=True)
    assert (make(setting).path / "README").is_file()


def test_a_run_of_the_later_layout_has_its_workspace_there(setting: Setting) -> None:
    (setting.root / "in_progress").mkdir()
    for tier in ("T0", "T1"):
        (setting.root / tier).rename(setting.root / "in_progress" / tier)
    made = make_workspace(request(setting, stage="in_progress"))
    assert made.path == setting.root / "in_progress" / RUN / "workspace"
    assert (made.path / "CLAUDE.md").is_file()


def test_an_agent_can_commit_in_it(setting: Setting) -> None:
    made = make(setting)
    write(made.path, AGENT_WORK)
    done = commit(made.path, "Work")
    assert branches(setting.base)[made.branch] == done
    assert git(made.path, "rev-parse", "HEAD^") == made.base_commit


def test_the_experiment_may_be_reached_through_a_link(setting: Setting) -> None:
    link = setting.root.with_name("link")
    link.symlink_to(setting.root)
    made = make(replace(setting, root=link))
    assert made.path == link / RUN / "workspace"
    assert made.base_commit == setting.start(RUN)
    write(made.path, AGENT_WORK)
    assert list_changes(pytest_scylla.load(link), made).names == ("added tally.py",)
    move(replace(setting, root=link), RUN, "run_01_failed_1")
    assert "locked" in registrations(setting.base)[str(setting.root / "T0/00/.failed/run_01_failed_1/workspace")]


# ------------------------------------------------------------------------------------------------------- preservation


def own(setting: Setting, made: Workspace) -> list[str]:
    """What belongs to a workspace: its directory, its branch and that one's log, its registration."""
    git_dir = setting.base / ".git"
    name = next(
        place.parent.name
        for place in (git_dir / "worktrees").glob("*/gitdir")
        if place.read_text().strip() == str(made.path / ".git")
    )
    return [
        str(made.path),
        str(git_dir / "refs" / "heads" / made.branch),
        str(git_dir / "logs" / "refs" / "heads" / made.branch),
        str(git_dir / "worktrees" / name),
    ]


@pytest.mark.parametrize("central", [False, True])
def test_beside_a_new_workspace_nothing_is_touched(experiment_dir: Path, central: bool) -> None:
    """Other workspaces, with their times; branches, logs, index, configuration and registrations of the base."""
    setting = with_repository(experiment_dir, central=central)
    for run in (RUN, SIBLING, "T1/01/run_01", "T1/01/run_02"):
        setting.set_up(run)
    write(setting.workspace(SIBLING), {"uncommitted": "work", "build/ignored": "work", "README": "changed"})
    git(setting.workspace("T1/01/run_02"), "add", "--intent-to-add", ".")
    move(setting, RUN)
    before = everything(setting.root.parent)
    known = registrations(setting.base)
    made = make(setting)
    after = everything(setting.root.parent)
    new = [*own(setting, made), str(setting.root / RUN), str(setting.root / ".scylla")]
    if central:
        new.append(str(setting.base.with_name(f".{setting.base.name}.lock")))
    assert without(after, new) == without(before, new[-1:])
    assert not before.keys() & set(new[:-1])
    assert {path: told for path, told in registrations(setting.base).items() if path != str(made.path)} == known


def test_checking_writes_nothing_at_all(setting: Setting) -> None:
    before = everything(setting.root.parent)
    check_workspace(request(setting))
    assert everything(setting.root.parent) == before
    assert not (setting.root / ".scylla").exists()


def test_a_workspace_can_be_checked_before_the_old_one_is_archived(setting: Setting) -> None:
    check_workspace(request(setting, SIBLING))


@pytest.mark.parametrize("there", ["a file in it", "a file", "a link", "a link to nothing"])
def test_what_lies_in_the_place_stays(setting: Setting, tmp_path: Path, there: str) -> None:
    place = setting.workspace(RUN)
    place.parent.mkdir()
    if there == "a file in it":
        write(place, {"result": "worth a lot"})
    elif there == "a file":
        place.write_text("worth a lot")
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / ("elsewhere" if there == "a link" else "nothing"))
    assert "Move it away" in refused(setting, checked=False)


def test_a_run_whose_workspace_exists_is_never_set_up_again(setting: Setting) -> None:
    assert "run_02/workspace" in refused(setting, SIBLING, checked=False)


# ------------------------------------------------------------------------------------------ what git knows of the place


@pytest.mark.parametrize("parent", [True, False])
def test_a_place_that_is_registered_for_a_deleted_worktree_is_free(setting: Setting, parent: bool) -> None:
    """Git alone refuses it, and leaves the new branch behind; or, without the directory above, registers it twice."""
    shutil.rmtree(setting.root / "T0" / "00" / ".failed")
    if parent:
        setting.workspace(RUN).parent.mkdir()
        refused_by_git(setting)
    known = registrations(setting.base)
    made = make(setting)
    now = registrations(setting.base)
    (lost,) = now.keys() - known.keys()
    assert lost.startswith(f"{made.path}--lost-")
    told = known[str(made.path)].partition("\nprunable")[0]
    assert now[lost].startswith(f"{told}\nlocked pytest-scylla: gone from")
    places = (setting.base / ".git" / "worktrees").glob("*/gitdir")
    assert [place.read_text() for place in places].count(f"{made.path}/.git\n") == 1
    assert {path: now[path] for path in known if path != str(made.path)} == {
        path: told for path, told in known.items() if path != str(made.path)
    }


def refused_by_git(setting: Setting) -> None:
    with pytest.raises(AssertionError, match="missing but already registered"):
        git(setting.base, "worktree", "add", "-b", "x", str(setting.workspace(RUN)))
    assert "x" in branches(setting.base)


def test_a_worktree_that_was_moved_away_without_a_word_is_not_forgotten(setting: Setting) -> None:
    """What it has staged, and a commit on no branch, are kept by nothing else than its registration."""
    place = setting.root / "T0" / "00" / ".failed" / "run_01" / "workspace"
    git(place, "checkout", "--quiet", "--detach")
    write(place, {"detached": "work"})
    detached = commit(place, "On no branch")
    write(place, {"staged": "work"})
    git(place, "add", "staged")
    staged = git(place, "ls-files", "--stage", "staged").split()[1]
    make(setting)
    git(setting.base, "worktree", "prune", "--expire", "now")
    git(setting.base, "reflog", "expire", "--expire=now", "--all")
    git(setting.base, "gc", "--quiet", "--prune=now")
    assert git(place, "rev-parse", "HEAD") == detached
    assert git(place, "diff", "--cached", "--name-only") == "staged"
    assert git(setting.base, "cat-file", "-t", staged) == "blob"


def test_a_run_that_was_moved_to_another_stage_keeps_its_workspace(setting: Setting) -> None:
    """Once a run is complete, a program may move it; git then knows it where another attempt is to go."""
    shutil.rmtree(setting.root / "T0" / "00" / ".failed")
    setting.workspace(SIBLING).parent.rename(setting.root / "elsewhere")
    place = setting.root / "elsewhere" / "workspace"
    make(setting, SIBLING)
    git(setting.base, "worktree", "prune", "--expire", "now")
    assert git(place, "log", "-1", "--format=%s") == "Work"
    assert git(place, "status", "--porcelain") == ""


def killed_add(setting: Setting, place: Path) -> None:
    """Kill ``worktree add`` when it has registered the worktree, and checks files out."""
    hooks = setting.root.parent / "hooks"
    write(hooks, {"reference-transaction": '#!/bin/sh\n[ "$1" = prepared ] || exit 0\nkill -9 0\n'})
    (hooks / "reference-transaction").chmod(0o755)
    done = subprocess.run(
        ["git", "-c", f"core.hooksPath={hooks}", "worktree", "add", "--detach", str(place)],
        cwd=setting.base, capture_output=True, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL


def test_an_add_that_was_killed_half_way_does_not_stop_the_next_attempt(bare: Setting) -> None:
    """The same command fails from then on, and no prune removes what is locked as "initializing"."""
    bare.set_up(SIBLING)
    archive(bare, RUN)
    killed_add(bare, bare.workspace(RUN))
    assert registrations(bare.base)[str(bare.workspace(RUN))].endswith("locked initializing")
    assert "is not empty" in refused(bare, checked=False)
    archive(bare, RUN, "run_01_failed_1")
    bare.workspace(RUN).parent.mkdir()
    with pytest.raises(AssertionError, match="missing but locked"):
        git(bare.base, "worktree", "add", "--force", "--detach", str(bare.workspace(RUN)))
    made = make(bare)
    assert (made.path / "CLAUDE.md").is_file()
    now = registrations(bare.base)
    assert "locked" not in now[str(made.path)]
    (lost,) = [path for path in now if path.startswith(f"{made.path}--lost-")]
    assert now[lost].endswith("locked initializing")


def test_many_workspaces_are_made_at_once(bare: Setting) -> None:
    bare.set_up(SIBLING)
    edit_config(bare.root, runs_per_subtest=10)
    wanted = [request(bare, f"T0/00/run_{number:02d}", attempt=1) for number in range(3, 11)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make_workspace, wanted))
    assert len({workspace.branch for workspace in made}) == 8
    known = registrations(bare.base)
    for workspace in made:
        assert f"branch refs/heads/{workspace.branch}" in known[str(workspace.path)]
        assert "locked" not in known[str(workspace.path)]
        assert git(workspace.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("central", [False, True])
def test_a_repository_is_written_into_by_one_at_a_time(experiment_dir: Path, central: bool) -> None:
    setting = with_repository(experiment_dir, central=central)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    lock = (
        setting.base.with_name(f".{setting.base.name}.lock")
        if central
        else setting.root / ".scylla/locks/repository.lock"
    )
    lock.parent.mkdir(parents=True, exist_ok=True)
    making = threading.Thread(target=make_workspace, args=(request(setting),))
    with locked(lock):
        making.start()
        making.join(0.5)
        assert making.is_alive()
        assert not setting.workspace(RUN).exists()
    making.join(300)
    assert setting.workspace(RUN).exists()


# -------------------------------------------------------------------------------- copied, moved, linked experiments


def test_a_copied_experiment_leaves_the_original_alone(setting: Setting) -> None:
    copy = setting.root.parent / "elsewhere" / "copy"
    shutil.copytree(setting.root, copy, symlinks=True)
    before = everything(setting.root)
    made = make(replace(setting, root=copy))
    assert made.path == copy / RUN / "workspace"
    assert made.branch in branches(copy / "repo")
    write(made.path, AGENT_WORK)
    commit(made.path, "Work")
    assert everything(setting.root) == before


def test_a_moved_experiment_goes_on(setting: Setting) -> None:
    moved = setting.root.parent / "moved"
    setting.root.rename(moved)
    made = make(replace(setting, root=moved))
    assert made.path == moved / RUN / "workspace"


@pytest.mark.parametrize("link", ["T0", "T0/00", RUN])
def test_a_link_on_the_way_to_the_place_is_refused(setting: Setting, tmp_path: Path, link: str) -> None:
    place = setting.root / link
    target = tmp_path / "target"
    if place.exists():
        place.rename(target)
    else:
        target.mkdir()
    place.symlink_to(target)
    assert link in refused(setting)
    assert link == RUN or not (target / "00" / "run_01").exists()


@pytest.mark.parametrize(
    "place", ["T0/00/run_02", "T0/00", "..", "T0/00/../00/run_01", "other/T0/00/run_01", "/elsewhere"]
)
def test_a_directory_that_is_not_the_runs_is_refused(setting: Setting, place: str) -> None:
    wrong = replace(request(setting), run_directory=setting.root / place)
    refusal(lambda: check_workspace(wrong))
    refusal(lambda: make_workspace(wrong))


# ----------------------------------------------------------------------------------------------- after a run was moved


def test_the_workspace_of_an_archived_run_survives_every_prune(setting: Setting) -> None:
    """Moved, it works only until somebody prunes; after that nothing mends it."""
    old = setting.workspace(SIBLING)
    write(old, {"uncommitted": "work"})
    others = {path: told for path, told in registrations(setting.base).items() if path != str(old)}
    before = tree(old)
    _, new = move(setting, SIBLING, "run_02_failed_1")
    assert tree(new) == before
    now = registrations(setting.base)
    assert "locked pytest-scylla: archived from" in now.pop(str(new))
    assert now == others
    git(setting.base, "worktree", "prune", "--expire", "now")
    assert git(new, "status", "--porcelain") == "?? uncommitted"
    assert git(new, "log", "-1", "--format=%s") == "Work"
    git(setting.base, "worktree", "repair")
    assert git(new, "rev-parse", "--show-toplevel") == str(new)
    make(setting, SIBLING)


def test_a_git_file_that_an_agent_made_to_name_another_repository_is_not_believed(
    setting: Setting, tmp_path: Path
) -> None:
    make_task(tmp_path / "users")
    git(tmp_path / "users", "worktree", "add", "--detach", str(tmp_path / "tree"))
    (setting.workspace(SIBLING) / ".git").write_text((tmp_path / "tree" / ".git").read_text())
    before = everything(tmp_path / "users", tmp_path / "tree")
    _, new = move(setting, SIBLING)
    assert everything(tmp_path / "users", tmp_path / "tree") == before
    assert str(new) in registrations(setting.base)


def test_a_lock_that_was_there_stays(setting: Setting) -> None:
    git(setting.base, "worktree", "lock", "--reason", "mine", str(setting.workspace(SIBLING)))
    old, new = move(setting, SIBLING)
    assert registrations(setting.base)[str(new)].endswith("locked mine")
    new.parent.rename(old.parent)
    after_return(pytest_scylla.load(setting.root), new, old)
    assert registrations(setting.base)[str(old)].endswith("locked mine")


def test_what_is_not_registered_is_left_alone(setting: Setting) -> None:
    experiment = pytest_scylla.load(setting.root)
    place = setting.root / "T1" / "02" / "run_01" / "workspace"
    place.mkdir()
    known = registrations(setting.base)
    before_move(experiment, place, place.with_name("new"))
    after_return(experiment, place.with_name("old"), place)
    assert registrations(setting.base) == known
    shutil.rmtree(setting.base)
    before_move(experiment, place, place.with_name("new"))
    after_return(experiment, place.with_name("old"), place)


def test_a_workspace_that_was_made_meanwhile_is_not_taken_for_the_one_that_was_moved(setting: Setting) -> None:
    made = make(setting)
    known = registrations(setting.base)
    archived = setting.root / "T0" / "00" / ".failed" / "run_01" / "workspace"
    refusal(lambda: after_return(pytest_scylla.load(setting.root), made.path, archived))
    assert registrations(setting.base) == known


@pytest.mark.parametrize("there", ["nothing", "a link", "elsewhere"])
def test_it_is_registered_only_for_a_directory_of_the_experiment(setting: Setting, tmp_path: Path, there: str) -> None:
    old, new = setting.workspace(SIBLING), setting.root / "T0" / "00" / ".failed" / "new"
    archive(setting, SIBLING)
    if there == "a link":
        new.symlink_to(tmp_path)
    elif there == "elsewhere":
        new = tmp_path
    known = registrations(setting.base)
    refusal(lambda: after_return(pytest_scylla.load(setting.root), old, new))
    assert registrations(setting.base) == known


# --------------------------------------------------------------------------------------------------- moved experiments


def moved_to(setting: Setting, place: Path) -> Setting:
    setting.root.rename(place)
    return replace(setting, root=place, base=place / "repo")


def assert_kept_by_a_prune(setting: Setting, workspace: Path) -> None:
    """Git knows a workspace in its place, whatever is tidied up; and gets it going once it is asked to repair it."""
    git(setting.base, "worktree", "prune", "--expire", "now")
    assert "locked pytest-scylla: archived from" in registrations(setting.base)[str(workspace)]
    git(setting.base, "worktree", "repair")
    assert git(workspace, "log", "-1", "--format=%s") == "Work"


def test_in_a_moved_experiment_an_archived_workspace_is_known_where_it_is(setting: Setting) -> None:
    """Git knows it where the experiment was."""
    moved = moved_to(setting, setting.root.with_name("moved"))
    _, new = move(moved, SIBLING)
    assert_kept_by_a_prune(moved, new)
    assert str(setting.workspace(SIBLING)) not in registrations(moved.base)


def test_as_is_one_whose_run_was_moved_to_another_stage_without_a_word(setting: Setting) -> None:
    (setting.root / "completed").mkdir()
    (setting.root / "T0").rename(setting.root / "completed/T0")
    old = setting.root / "completed" / SIBLING / "workspace"
    new = setting.root / "completed/T0/00/.failed/run_02/workspace"
    before_move(pytest_scylla.load(setting.root), old, new)
    new.parents[1].mkdir(exist_ok=True)
    old.parent.rename(new.parent)
    assert_kept_by_a_prune(setting, new)


def test_in_a_copied_experiment_that_shares_a_clone_the_originals_workspace_stays_known(experiment_dir: Path) -> None:
    setting = with_repository(experiment_dir, central=True)
    setting.set_up(SIBLING)
    copy = experiment_dir.with_name("copy")
    shutil.copytree(experiment_dir, copy, symlinks=True)
    known = registrations(setting.base)
    move(replace(setting, root=copy), SIBLING)
    assert registrations(setting.base) == known


@pytest.mark.parametrize("named", ["another run's", "none", "lost", "a link"])
def test_in_a_moved_experiment_a_git_file_is_not_believed_either(setting: Setting, tmp_path: Path, named: str) -> None:
    moved = moved_to(setting, setting.root.with_name("moved"))
    git_file = moved.workspace(SIBLING) / ".git"
    other = moved.workspace("T1/01/run_01") / ".git"
    if named == "another run's":
        git_file.write_text(other.read_text())
    elif named == "none":
        git_file.write_text("gitdir: /worktrees/../..\n")
    else:
        git_file.rename(tmp_path / "git")
        if named == "a link":
            git_file.symlink_to(tmp_path / "git")
    known = registrations(moved.base)
    move(moved, SIBLING)
    assert registrations(moved.base) == known


# ----------------------------------------------------------------------------------------- workspaces that nobody used


def test_a_workspace_that_nobody_touched_is_removed_with_its_branch_and_nothing_else_is(setting: Setting) -> None:
    archive(setting, SIBLING)
    make(setting, SIBLING)
    edit_config(setting.root, runs_per_subtest=3)
    setting.workspace("T0/00/run_03").parent.mkdir()
    before = everything(setting.root)
    made = make(setting, "T0/00/run_03")
    remove_workspace(pytest_scylla.load(setting.root), made)
    assert everything(setting.root) == before


def commit_in(setting: Setting, made: Workspace) -> None:
    write(made.path, AGENT_WORK)
    commit(made.path, "Work")


def commit_and_go_back(setting: Setting, made: Workspace) -> None:
    commit(made.path, "Nothing", "--allow-empty")


def commit_beside(setting: Setting, made: Workspace) -> None:
    git(made.path, "checkout", "--quiet", "-b", "another")


@pytest.mark.parametrize("change", [
    commit_in,
    commit_and_go_back,
    commit_beside,
    lambda setting, made: git(made.path, "checkout", "--quiet", "--detach"),
    lambda setting, made: write(made.path, {"README": "another text"}),
    lambda setting, made: write(made.path, {"more": ""}),
    lambda setting, made: git(setting.base, "worktree", "lock", str(made.path)),
    lambda setting, made: git(setting.base, "config", "alias.status", "!touch ran"),
    lambda setting, made: (made.path / ".git").write_text((setting.workspace(SIBLING) / ".git").read_text()),
])  # fmt: skip
def test_one_in_which_anything_was_done_is_left_as_it_is(
    setting: Setting, change: Callable[[Setting, Workspace], object]
) -> None:
    made = make(setting)
    change(setting, made)
    before = everything(setting.root)
    refusal(lambda: remove_workspace(pytest_scylla.load(setting.root), made))
    # Git looks at the files, and notes in the index what it found.
    index = [str(place) for place in (setting.base / ".git/worktrees").glob("*/index")]
    assert without(everything(setting.root), index) == without(before, index)


def test_so_is_one_that_is_none_of_the_repositorys(setting: Setting) -> None:
    experiment, made = pytest_scylla.load(setting.root), make(setting)
    place = setting.root / "T1/02/run_01/workspace"
    write(place, {"README": "mine"})
    before = everything(setting.root)
    refusal(lambda: remove_workspace(experiment, replace(made, path=place)))
    refusal(lambda: remove_workspace(experiment, replace(made, branch="T0_00_run_02")))
    assert everything(setting.root) == before
    shutil.rmtree(setting.base)
    refusal(lambda: remove_workspace(experiment, made))
    assert (made.path / "README").exists()


# ------------------------------------------------------------------------------------------------ workspaces that went


def delete(setting: Setting, made: Workspace) -> None:
    shutil.rmtree(made.path)


def delete_by_git(setting: Setting, made: Workspace) -> None:
    git(setting.base, "worktree", "remove", str(made.path))


@pytest.mark.parametrize("removed", [delete, delete_by_git])
def test_what_an_agent_committed_in_a_workspace_that_is_gone_is_checked_out_again_on_its_branch(
    setting: Setting, removed: Callable[[Setting, Workspace], None]
) -> None:
    made = make(setting)
    write(made.path, AGENT_WORK)
    done = commit(made.path, "Work")
    removed(setting, made)
    known = branches(setting.base)
    restore_workspace(request(setting), made)
    assert git(made.path, "rev-parse", "HEAD") == done
    assert git(made.path, "symbolic-ref", "--short", "HEAD") == made.branch
    assert git(made.path, "status", "--porcelain") == ""
    assert branches(setting.base) == known


def test_where_it_committed_nothing_there_is_nothing_to_check_out(setting: Setting) -> None:
    made = make(setting)
    delete(setting, made)
    assert "its branch has no commit of the agent's" in refusal(lambda: restore_workspace(request(setting), made))
    assert not made.path.exists()
    git(setting.base, "branch", "--move", made.branch, "elsewhere")
    refusal(lambda: restore_workspace(request(setting), made))


@pytest.mark.parametrize("branch", ["main", "T0_00_run_02", "T0_00_run_01", "--force", "../HEAD"])
def test_no_branch_of_another_attempt_is_checked_out(setting: Setting, branch: str) -> None:
    """Which one it is was read from a file."""
    made = make(setting)
    commit_in(setting, made)
    delete(setting, made)
    refusal(lambda: restore_workspace(request(setting), replace(made, branch=branch)))
    assert not made.path.exists()


def test_what_is_there_is_not_replaced_nor_what_was_moved_elsewhere(setting: Setting, tmp_path: Path) -> None:
    made = make(setting)
    commit_in(setting, made)
    before = everything(setting.root)
    refusal(lambda: restore_workspace(request(setting), made))
    assert everything(setting.root) == before
    git(setting.base, "worktree", "move", str(made.path), str(tmp_path / "elsewhere"))
    told = refusal(lambda: restore_workspace(request(setting), made))
    assert told == f"{made.branch} is checked out at {tmp_path / 'elsewhere'}"
    assert not made.path.exists()
