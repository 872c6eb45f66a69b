"""Workspaces of runs, with real git: what another attempt starts from, and that nothing else is lost or changed by it.

The experiments here are the small healthy one with the runs T0/00, T1/01 and T1/02, two of each, whose workspaces are
set up as the program that runs experiments does it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from pytest_scylla.experiment.locks import locked
from pytest_scylla.running import workspace as module
from pytest_scylla.running.git import clone
from pytest_scylla.running.workspace import (
    MOST_DIFF,
    CannotCompare,
    CannotPrepare,
    Changes,
    MakeWorkspace,
    Workspace,
    WorkspaceRequest,
    after_move,
    check_workspace,
    list_changes,
    make_workspace,
    restore_workspace,
)

from .repairing import run_named
from .repositories import (
    AGENT_WORK,
    CONFIGURATION,
    Setting,
    branches,
    central_place,
    commit,
    edit_config,
    everything,
    git,
    make_task,
    needs_git,
    registrations,
    with_repository,
    write,
)

pytestmark = needs_git

RUN, SIBLING = "T0/00/run_01", "T0/00/run_02"


@pytest.fixture
def bare(experiment_dir: Path) -> Setting:
    """An experiment whose base repository has no branch of a run."""
    return with_repository(experiment_dir)


@pytest.fixture
def setting(bare: Setting) -> Setting:
    """An experiment with workspaces of three runs; one of them was archived, and is to be run again."""
    for run in (RUN, SIBLING, "T1/01/run_01"):
        bare.set_up(run)
    archive(bare, RUN)
    return bare


def archive(setting: Setting, run: str, name: str = "") -> Path:
    """Move a run to its subtest's archive, as a session that runs it again does; return where it is then."""
    place = setting.root / run
    target = place.parent / ".failed" / (name or place.name)
    target.parent.mkdir(exist_ok=True)
    place.rename(target)
    return target


def request(setting: Setting, run: str = RUN, attempt: int = 2, stage: str = "") -> WorkspaceRequest:
    experiment = pytest_scylla.load(setting.root)
    return WorkspaceRequest(experiment, run_named(experiment, run), attempt, setting.root / stage / run)


def make(setting: Setting, run: str = RUN, attempt: int = 2) -> Workspace:
    """Check that a workspace can be made, and make it."""
    check_workspace(request(setting, run, attempt))
    return make_workspace(request(setting, run, attempt))


def refusal(call: Callable[[], Any]) -> str:
    """Why something is refused."""
    with pytest.raises(CannotPrepare) as caught:
        call()
    told = str(caught.value)
    assert told
    assert told.isprintable()
    return told


def refused(setting: Setting, run: str = RUN, *, checked: bool = True) -> str:
    """Why there can be no workspace; and nothing is changed by asking for one, but that a lock may be made."""
    locks = [str(setting.root / ".scylla"), str(setting.base.with_name(f".{setting.base.name}.lock"))]
    before = without(everything(setting.root.parent), locks)
    told = refusal(lambda: make_workspace(request(setting, run)))
    if checked:
        assert refusal(lambda: check_workspace(request(setting, run))) == told
    assert without(everything(setting.root.parent), locks) == before
    return told


def without(state: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """What lies anywhere else than in some places."""
    return {
        path: found
        for path, found in state.items()
        if not any(path == place or path.startswith(place + os.sep) for place in places)
    }


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
    archived = archive(replace(setting, root=link), RUN, "run_01_failed_1") / "workspace"
    after_move(pytest_scylla.load(link), made.path, archived)
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
    moved = archive(setting, RUN) / "workspace"
    after_move(pytest_scylla.load(setting.root), setting.workspace(RUN), moved)
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
    making.join(20)
    assert setting.workspace(RUN).exists()


# -------------------------------------------------------------------------------------------------- what it starts from


def test_it_is_the_commit_of_a_sibling_where_the_run_itself_never_had_a_branch(bare: Setting) -> None:
    bare.set_up(SIBLING)
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(SIBLING)


def test_it_is_the_commit_of_the_runs_own_branch_where_no_sibling_has_one(bare: Setting) -> None:
    bare.set_up(RUN)
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(RUN)


def test_it_is_the_first_commit_after_the_tasks_however_many_follow(bare: Setting) -> None:
    place = bare.set_up(SIBLING)
    for number in range(3):
        write(place, {f"more{number}": "", "CLAUDE.md": f"{number}"})
        commit(place, "More", f"--date=2001-01-0{number + 1}T00:00:00")
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(SIBLING)
    assert git(bare.base, "log", "-1", "--format=%s", bare.start(SIBLING)) == "Configuration"


def test_a_branch_of_an_earlier_attempt_is_a_siblings_too(setting: Setting) -> None:
    start = setting.start(RUN)
    make(setting)
    for branch in ("T0_00_run_01", "T0_00_run_02"):
        git(setting.base, "update-ref", "-d", f"refs/heads/{branch}")
    archive(setting, RUN, "run_01_failed_1")
    assert make(setting, attempt=3).base_commit == start


def test_branches_that_are_named_after_the_experiment_are_found(bare: Setting) -> None:
    bare.set_up(SIBLING, branch="syntheti_T0_00_run_02")
    archive(bare, RUN)
    assert make(bare).base_commit == git(bare.base, "rev-parse", "syntheti_T0_00_run_02^")


@pytest.mark.parametrize(
    "branch",
    ["T0_01_run_02", "T1_00_run_02", "T0_00_run_2", "other_T0_00_run_02", "T0_00_run_02--b2-x", "T0_00_run_02x"],
)
def test_branches_of_other_subtests_and_experiments_are_not(bare: Setting, branch: str) -> None:
    bare.set_up(SIBLING, branch=branch)
    archive(bare, RUN)
    told = refused(bare)
    assert "it has none of this subtest's runs" in told
    assert "T0_00_run_01--a0-start" in told


def test_siblings_that_have_the_same_configuration_at_different_times_agree(bare: Setting) -> None:
    bare.set_up(SIBLING)
    bare.set_up(RUN, work=None)
    place = bare.workspace(RUN)
    git(place, "commit", "--quiet", "--amend", "--no-edit", "--date=2001-01-01T00:00:00")
    archive(bare, RUN)
    assert bare.start(RUN) != bare.start(SIBLING)
    assert make(bare).base_commit in (bare.start(RUN), bare.start(SIBLING))


def test_siblings_that_do_not_agree_are_named(bare: Setting) -> None:
    bare.set_up(RUN)
    bare.set_up(SIBLING, {**CONFIGURATION, "CLAUDE.md": "Do not think.\n"})
    archive(bare, RUN)
    told = refused(bare)
    assert "T0_00_run_01 and T0_00_run_02 do not agree" in told
    assert bare.start(SIBLING)[:12] in told


def test_a_tier_without_configuration_starts_at_the_tasks_commit(bare: Setting) -> None:
    bare.set_up(SIBLING, configuration=None, work=None)
    archive(bare, RUN)
    made = make(bare)
    assert made.base_commit == bare.task_commit
    assert not (made.path / "CLAUDE.md").exists()
    archive(bare, RUN, "run_01_failed_1")
    git(bare.base, "update-ref", "-d", "refs/heads/T0_00_run_02")
    assert make(bare, attempt=3).base_commit == bare.task_commit


def test_that_an_agent_ran_without_configuration_is_seen_in_the_archive_too(bare: Setting) -> None:
    bare.set_up(RUN, configuration=None, work=None)
    archive(bare, RUN, "run_01_failed_1")
    assert make(bare).base_commit == bare.task_commit


def test_a_commit_without_changes_is_no_configuration(bare: Setting) -> None:
    place = bare.set_up(SIBLING, configuration=None, work=None)
    commit(place, "Agent changes", "--allow-empty")
    archive(bare, RUN)
    assert make(bare).base_commit == bare.task_commit


@pytest.mark.parametrize("again", [RUN, SIBLING])
def test_a_run_that_was_stopped_before_it_was_configured_says_nothing(bare: Setting, again: str) -> None:
    """Whether its tier has a configuration at all, its branch does not tell."""
    bare.set_up(RUN, configuration=None, work=None)
    shutil.rmtree(bare.root / RUN / "agent")
    archive(bare, again)
    assert "T0_00_run_01 was not configured yet" in refused(bare, again)
    bare.set_up("T0/00/run_07")
    assert make(bare, again).base_commit == bare.start("T0/00/run_07")


def test_a_run_without_configuration_does_not_agree_with_one_that_has_it(bare: Setting) -> None:
    bare.set_up(RUN)
    bare.set_up(SIBLING, configuration=None, work=None)
    archive(bare, RUN)
    assert "do not agree" in refused(bare)


def test_a_run_that_was_first_stopped_early_is_told_of_by_its_next_attempt(bare: Setting) -> None:
    bare.set_up(RUN, configuration=None, work=None)
    bare.set_up(SIBLING)
    (bare.root / RUN / "agent").rename(bare.root / "agent")
    archive(bare, RUN)
    make(bare)
    (bare.root / "agent").rename(bare.root / RUN / "agent")
    archive(bare, RUN, "run_01_failed_1")
    assert make(bare, attempt=3).base_commit == bare.start(SIBLING)


def test_what_an_agent_did_is_never_taken_for_a_configuration(bare: Setting) -> None:
    """Where there was none to commit, the first commit is the agent's, and would give the next one its solution."""
    for run in (RUN, SIBLING):
        bare.set_up(run, configuration=None)
    archive(bare, RUN)
    told = refused(bare)
    assert 'T0_00_run_01 has no configuration first, but a change of "tally.py"' in told
    assert "Make a branch T0_00_run_01--a0-start" in told
    git(bare.base, "branch", "T0_00_run_01--a0-start", bare.task_commit)
    assert make(bare).base_commit == bare.task_commit


def test_a_configuration_that_an_agent_amended_says_nothing(bare: Setting) -> None:
    place = bare.set_up(RUN, work=None)
    write(place, AGENT_WORK)
    commit(place, "Configuration", "--amend")
    archive(bare, RUN)
    assert "tally.py" in refused(bare)
    bare.set_up(SIBLING)
    assert make(bare).base_commit == bare.start(SIBLING)


def test_a_branch_that_does_not_go_on_from_the_tasks_commit_says_nothing(bare: Setting) -> None:
    git(bare.base, "branch", "T0_00_run_02", git(bare.base, "commit-tree", "-m", "Another root", "HEAD^{tree}"))
    archive(bare, RUN)
    assert "T0_00_run_02 does not go on from the task's commit" in refused(bare)


def test_a_branch_that_is_joined_from_several_says_nothing(bare: Setting) -> None:
    place = bare.set_up(SIBLING)
    git(place, "checkout", "--quiet", "-b", "side", bare.task_commit)
    write(place, {"CLAUDE.md": "Do not think.\n"})
    commit(place, "Side")
    git(place, "checkout", "--quiet", "T0_00_run_02")
    git(place, "merge", "--quiet", "--strategy=ours", "-m", "Merge", "side")
    archive(bare, RUN)
    assert "T0_00_run_02 is joined from several" in refused(bare)


# ------------------------------------------------------------------------------------------------- the base repository


def test_without_a_repository_it_is_told_which_are_lacking(setting: Setting) -> None:
    shutil.rmtree(setting.base)
    told = refusal(lambda: check_workspace(request(setting)))
    assert str(setting.base) in told
    assert str(central_place(setting.root, setting.task)) in told
    assert not central_place(setting.root, setting.task).parent.exists()


def test_the_central_clone_is_used_where_the_experiment_has_none(experiment_dir: Path) -> None:
    setting = with_repository(experiment_dir, central=True)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    assert made.branch in branches(setting.base)


def test_the_experiments_own_repository_comes_first(experiment_dir: Path) -> None:
    shared = with_repository(experiment_dir, central=True)
    setting = with_repository(experiment_dir)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    assert made.branch in branches(setting.base)
    assert made.branch not in branches(shared.base)


def test_branches_in_a_shared_clone_whose_worktrees_are_in_another_experiment_are_not_siblings(
    experiment_dir: Path,
) -> None:
    setting = with_repository(experiment_dir, central=True)
    other = experiment_dir.parent / "other"
    shutil.copytree(experiment_dir, other)
    replace(setting, root=other).set_up(SIBLING)
    archive(setting, RUN)
    assert "it has none of this subtest's runs" in refused(setting)
    shutil.rmtree(other)  # then it may as well be this experiment, before it was moved
    make(setting)


def test_two_experiments_that_share_a_clone_exclude_one_another(experiment_dir: Path) -> None:
    setting = with_repository(experiment_dir, central=True)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    other = experiment_dir.parent / "other"
    shutil.copytree(experiment_dir, other, symlinks=True)
    shutil.rmtree(other / SIBLING / "workspace")
    git(setting.base, "branch", "T0_00_run_03--a0-start", setting.start(SIBLING))
    requests = [request(setting), request(replace(setting, root=other))]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(make_workspace, requests)
    assert first.branch != second.branch
    assert first.path.is_relative_to(setting.root)
    assert second.path.is_relative_to(other)
    assert not list(setting.root.glob(".scylla/locks/repository*"))


def test_a_lost_repository_is_cloned_once_and_refused_until_somebody_says_where_to_start(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(setting.base)
    clones: list[str] = []

    def counted(source: str, target: Path) -> None:
        clones.append(source)
        clone(source, target)

    monkeypatch.setattr(module, "clone", counted)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: refusal(lambda: make_workspace(request(setting))), range(4)))
    assert clones == [str(setting.task)]
    place = central_place(setting.root, setting.task)
    assert sorted(os.listdir(place.parent)) == [f".{place.name}.lock", place.name]
    (reason,) = set(told)
    branch = re.search(r"Make a branch (\S+) at the commit", reason)
    assert branch is not None
    git(place, "branch", branch[1], setting.task_commit)
    assert (make(setting).path / "README").is_file()
    assert branches(setting.task).keys() == {"main"}


@pytest.mark.parametrize("lost", ["source", "commit"])
def test_a_clone_that_fails_leaves_nothing(setting: Setting, lost: str) -> None:
    shutil.rmtree(setting.base)
    if lost == "source":
        shutil.rmtree(setting.task)
    else:
        edit_config(setting.root, task_commit="1234567890" * 4)
    told = refusal(lambda: make_workspace(request(setting)))
    assert ("git clone" if lost == "source" else "1234567890") in told
    assert [name for name in os.listdir(setting.root.parent / "repos") if not name.endswith(".lock")] == []


@pytest.mark.parametrize(
    "source",
    ["--upload-pack=x", "ext::sh -c x", "http://example.org/x", "git://example.org/x", "../task", "task", "file\n:///x",
     "https://me:secret@example.org\x1b/x", "ext::https://x"],
)  # fmt: skip
def test_a_repository_that_may_not_be_cloned_is_told(setting: Setting, source: str) -> None:
    shutil.rmtree(setting.base)
    edit_config(setting.root, task_repo=source)
    told = refusal(lambda: make_workspace(request(setting)))
    assert "task_repo" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "revision", ["--output=x", "-x", "HEAD --", "a b", "HEAD@{0}", ":/Task", "main^{tree}", "main:README", "é", "\n"]
)
def test_a_task_commit_that_may_be_no_commit_is_told(setting: Setting, revision: str) -> None:
    edit_config(setting.root, task_commit=revision)
    assert "task_commit" in refused(setting)


def test_a_task_commit_may_be_short_or_a_name(setting: Setting) -> None:
    for revision in (setting.task_commit[:10], "main", "origin/main"):
        edit_config(setting.root, task_commit=revision)
        check_workspace(request(setting))


def test_a_repository_that_lacks_the_tasks_commit_is_told_before_anything_is_archived(setting: Setting) -> None:
    """A clone that holds only part of the history, or another repository."""
    write(setting.task, {"more": ""})
    commit(setting.task, "More")
    shutil.rmtree(setting.base)
    git(setting.root.parent, "clone", "--quiet", "--depth=1", setting.task.as_uri(), str(setting.base))
    told = refused(setting)
    assert f"{setting.base} lacks the commit {setting.task_commit}" in told


def test_a_shallow_clone_of_the_tasks_commit_will_do(experiment_dir: Path) -> None:
    setting = with_repository(experiment_dir)
    write(setting.task, {"more": ""})
    latest = commit(setting.task, "More")
    shutil.rmtree(setting.base)
    git(setting.root.parent, "clone", "--quiet", "--depth=1", setting.task.as_uri(), str(setting.base))
    edit_config(setting.root, task_commit=latest)
    setting = replace(setting, task_commit=latest)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    assert make(setting).base_commit == setting.start(SIBLING)


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


@pytest.mark.parametrize("link", ["repo", ".git", "gitfile", "commondir", "refs", "refs/heads", "worktrees", "logs"])
def test_a_repository_that_belongs_elsewhere_is_refused(setting: Setting, tmp_path: Path, link: str) -> None:
    """A commit there would move the branches of another experiment."""
    other = tmp_path / "original"
    shutil.copytree(setting.base, other, symlinks=True)
    git_dir = setting.base / ".git"
    if link == "repo":
        setting.base.rename(tmp_path / "away")
        setting.base.symlink_to(other)
    elif link == ".git":
        git_dir.rename(tmp_path / "away")
        git_dir.symlink_to(other / ".git")
    elif link == "gitfile":
        git_dir.rename(tmp_path / "away")
        git_dir.write_text(f"gitdir: {other}/.git\n")
    elif link == "commondir":
        (git_dir / "commondir").write_text(f"{other}/.git\n")
    else:
        (git_dir / link).rename(tmp_path / "away")
        (git_dir / link).symlink_to(other / ".git" / link)
    before = everything(other)
    assert str(setting.base) in refused(setting)
    assert everything(other) == before


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
    refusal(lambda: restore_workspace(wrong))


# -------------------------------------------------------------------------------------------- a stranger's repository


def program(place: Path, ran: Path) -> Path:
    """A program that leaves a trace."""
    write(place.parent, {place.name: f"#!/bin/sh\necho >> {ran}\ncat\n"})
    place.chmod(0o755)
    return place


@pytest.mark.parametrize(
    "key", ["filter.evil.smudge", "core.fsmonitor", "core.hooksPath", "core.worktree", "include.path", "alias.worktree",
            "extensions.worktreeConfig", "diff.external", "core.sshCommand"],
)  # fmt: skip
def test_a_repository_with_settings_that_may_run_a_program_is_refused(
    setting: Setting, tmp_path: Path, key: str
) -> None:
    evil = program(tmp_path / "evil", tmp_path / "ran")
    git(setting.base, "config", "--file", ".git/config", key, str(evil))
    write(setting.base, {".git/info/attributes": "* filter=evil\n"})
    told = refused(setting)
    assert key.lower() in told
    assert "Remove that" in told
    assert not (tmp_path / "ran").exists()


def test_a_configuration_that_is_a_link_is_refused(setting: Setting, tmp_path: Path) -> None:
    config = setting.base / ".git" / "config"
    config.rename(tmp_path / "config")
    config.symlink_to(tmp_path / "config")
    assert ".git/config" in refused(setting)


def test_nothing_that_a_repository_holds_is_run(setting: Setting, tmp_path: Path) -> None:
    """Hooks, and a filter that a user's own configuration knows, for a file of the task's."""
    evil = program(tmp_path / "evil", tmp_path / "ran")
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-commit"):
        shutil.copy(evil, program(setting.base / ".git" / "hooks" / hook, tmp_path / "ran"))
    write(setting.base, {".git/info/attributes": "* filter=evil\n"})
    make(setting)
    assert not (tmp_path / "ran").exists()
    git(setting.base, "worktree", "add", "--detach", str(tmp_path / "other"))
    assert (tmp_path / "ran").exists()  # it would have


def test_a_repository_with_a_hostile_name_is_told_in_one_line(setting: Setting) -> None:
    git(setting.base, "config", "--file", ".git/config", "filter.a\x1b[31m::error::.clean", "x")
    assert "\\x1b" in refused(setting)


def test_without_git_there_is_no_workspace(setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = request(setting)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(lambda: check_workspace(asked)).startswith("git ")
    assert refusal(lambda: make_workspace(asked)).startswith("git ")


# ----------------------------------------------------------------------------------------------- after a run was moved


def test_the_workspace_of_an_archived_run_survives_every_prune(setting: Setting) -> None:
    """Moved, it works only until somebody prunes; after that nothing mends it."""
    old, new = setting.workspace(SIBLING), archive(setting, SIBLING, "run_02_failed_1") / "workspace"
    write(new, {"uncommitted": "work"})
    others = {path: told for path, told in registrations(setting.base).items() if path != str(old)}
    before = everything(new)
    after_move(pytest_scylla.load(setting.root), old, new)
    assert everything(new) == before
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
    old, new = setting.workspace(SIBLING), archive(setting, SIBLING) / "workspace"
    before = everything(tmp_path / "users", tmp_path / "tree")
    after_move(pytest_scylla.load(setting.root), old, new)
    assert everything(tmp_path / "users", tmp_path / "tree") == before
    assert str(new) in registrations(setting.base)


def test_a_lock_that_was_there_stays(setting: Setting) -> None:
    git(setting.base, "worktree", "lock", "--reason", "mine", str(setting.workspace(SIBLING)))
    old, new = setting.workspace(SIBLING), archive(setting, SIBLING) / "workspace"
    after_move(pytest_scylla.load(setting.root), old, new)
    assert registrations(setting.base)[str(new)].endswith("locked mine")


def test_what_is_not_registered_is_left_alone(setting: Setting) -> None:
    experiment = pytest_scylla.load(setting.root)
    place = setting.root / "T1" / "02" / "run_01" / "workspace"
    place.mkdir()
    known = registrations(setting.base)
    after_move(experiment, place.with_name("old"), place)
    assert registrations(setting.base) == known
    shutil.rmtree(setting.base)
    after_move(experiment, place.with_name("old"), place)


def test_a_workspace_that_was_made_meanwhile_is_not_taken_for_the_one_that_was_moved(setting: Setting) -> None:
    made = make(setting)
    known = registrations(setting.base)
    archived = setting.root / "T0" / "00" / ".failed" / "run_01" / "workspace"
    refusal(lambda: after_move(pytest_scylla.load(setting.root), made.path, archived))
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
    refusal(lambda: after_move(pytest_scylla.load(setting.root), old, new))
    assert registrations(setting.base) == known


# -------------------------------------------------------------------------------------------- bringing a workspace back


@pytest.mark.parametrize("how", ["deleted", "pruned", "emptied"])
def test_a_deleted_workspace_comes_back_as_its_agent_committed_it(setting: Setting, how: str) -> None:
    shutil.rmtree(setting.workspace(SIBLING))
    if how == "pruned":
        git(setting.base, "worktree", "prune", "--expire", "now")
    elif how == "emptied":
        setting.workspace(SIBLING).mkdir()
    known, tips = registrations(setting.base), branches(setting.base)
    restored = restore_workspace(request(setting, SIBLING, attempt=1))
    assert restored == Workspace(setting.workspace(SIBLING), "T0_00_run_02", setting.start(SIBLING))
    assert (restored.path / "tally.py").read_text() == AGENT_WORK["tally.py"]
    assert git(restored.path, "status", "--porcelain") == ""
    assert git(restored.path, "symbolic-ref", "--short", "HEAD") == "T0_00_run_02"
    assert branches(setting.base) == tips
    now = registrations(setting.base)
    assert {path: now[path] for path in known if path != str(restored.path)} == {
        path: told for path, told in known.items() if path != str(restored.path)
    }
    assert list_changes(pytest_scylla.load(setting.root), restored).names == ("added tally.py",)


def test_the_workspace_of_a_further_attempt_comes_back(setting: Setting) -> None:
    made = make(setting)
    write(made.path, AGENT_WORK)
    commit(made.path, "Work")
    shutil.rmtree(made.path)
    assert restore_workspace(request(setting, attempt=2)) == made
    assert (made.path / "tally.py").is_file()


@pytest.mark.parametrize("reason", ["not empty", "no branch", "checked out elsewhere", "two branches", "no repository"])
def test_a_workspace_that_cannot_come_back_is_told_of(setting: Setting, reason: str) -> None:
    place = setting.workspace(SIBLING)
    if reason == "no branch":
        shutil.rmtree(place)
        git(setting.base, "worktree", "prune")
        git(setting.base, "update-ref", "-d", "refs/heads/T0_00_run_02")
    elif reason == "checked out elsewhere":
        new = archive(setting, SIBLING) / "workspace"
        after_move(pytest_scylla.load(setting.root), place, new)
    elif reason == "two branches":
        shutil.rmtree(place)
        git(setting.base, "worktree", "prune")
        git(setting.base, "branch", "T0_00_run_02--a1-x", "T0_00_run_02")
    elif reason == "no repository":
        shutil.rmtree(place)
        shutil.rmtree(setting.base)
    tips = branches(setting.base) if setting.base.exists() else {}
    expected = {
        "not empty": "it is not empty", "no branch": "found none", "checked out elsewhere": "is checked out in",
        "two branches": "T0_00_run_02--a1-x", "no repository": "is gone",
    }[reason]  # fmt: skip
    assert expected in refusal(lambda: restore_workspace(request(setting, SIBLING, attempt=1)))
    assert (branches(setting.base) if setting.base.exists() else {}) == tips


# ------------------------------------------------------------------------------------------------ what an agent changed


@pytest.fixture
def made(setting: Setting) -> Workspace:
    """A fresh workspace."""
    return make(setting)


def changes(setting: Setting, made: Workspace) -> Changes:
    """What an agent changed; finding that out changes nothing, in the workspace, the repository or beside them."""
    before = everything(setting.root.parent)
    found = list_changes(pytest_scylla.load(setting.root), made)
    assert everything(setting.root.parent) == before
    assert all(name.isprintable() for name in found.names)
    return found


def test_an_agent_that_did_nothing_changed_nothing(setting: Setting, made: Workspace) -> None:
    assert changes(setting, made) == Changes((), "")


def test_whatever_an_agent_changed_is_listed_committed_or_not(setting: Setting, made: Workspace) -> None:
    write(made.path, {"committed.py": "1\n"})
    commit(made.path, "Work")
    write(made.path, {"staged.py": "2\n"})
    git(made.path, "add", "staged.py")
    write(made.path, {"src/untracked.py": "3\n", "src/words.txt": "the\nslow\nfox\n", "build/ignored": "4\n"})
    (made.path / "README").unlink()
    found = changes(setting, made)
    assert found.names == (
        "added committed.py",
        "added src/untracked.py",
        "added staged.py",
        "deleted README",
        "modified src/words.txt",
    )
    assert "\n-quick\n+slow\n" in found.diff
    assert "\n+3\n" in found.diff
    assert "\n-Count words.\n" in found.diff
    assert "ignored" not in found.diff
    assert found.diff.count("diff --git ") == 5


def test_ignored_files_are_listed_where_they_were_committed(setting: Setting, made: Workspace) -> None:
    write(made.path, {"build/result": "1\n", "build/other": "2\n"})
    git(made.path, "add", "--force", "build/result")
    git(made.path, "commit", "--quiet", "-m", "Work")
    assert changes(setting, made).names == ("added build/result",)
    git(setting.base, "pack-refs", "--all")
    assert changes(setting, made).names == ("added build/result",)


def test_a_change_that_was_taken_back_is_none(setting: Setting, made: Workspace) -> None:
    write(made.path, {"README": "Changed\n"})
    commit(made.path, "Work")
    write(made.path, {"README": "Count words.\n"})
    assert changes(setting, made) == Changes((), "")


def test_a_change_of_the_same_length_is_seen(setting: Setting, made: Workspace) -> None:
    write(made.path, {"README": "Count w0rds.\n"})
    assert changes(setting, made).names == ("modified README",)


def test_links_are_shown_as_such_and_not_followed(setting: Setting, made: Workspace, tmp_path: Path) -> None:
    write(tmp_path, {"secret/file": "nobody's business\n"})
    (made.path / "file").symlink_to(tmp_path / "secret" / "file")
    (made.path / "directory").symlink_to(tmp_path / "secret")
    (made.path / "README").unlink()
    (made.path / "README").symlink_to(tmp_path / "secret" / "file")
    shutil.rmtree(made.path / "src")
    (made.path / "src").symlink_to(tmp_path / "secret")
    write(tmp_path, {"secret/words.txt": "nobody's business\n"})
    found = changes(setting, made)
    assert found.names == ("added directory", "added file", "added src", "deleted src/words.txt", "modified README")
    assert "business" not in found.diff
    assert f"\n+{tmp_path}/secret/file\n" in found.diff
    assert "new file mode 120000" in found.diff


def test_files_and_directories_may_take_each_others_places(setting: Setting, made: Workspace) -> None:
    shutil.rmtree(made.path / "src")
    write(made.path, {"src": "a file\n"})
    (made.path / "README").unlink()
    write(made.path, {"README/inside": "a directory\n"})
    assert changes(setting, made).names == (
        "added README/inside",
        "added src",
        "deleted README",
        "deleted src/words.txt",
    )


def test_a_file_that_became_a_program_is_modified(setting: Setting, made: Workspace) -> None:
    (made.path / "README").chmod(0o755)
    found = changes(setting, made)
    assert found.names == ("modified README",)
    assert "new mode 100755" in found.diff


def test_binary_and_large_files_are_named(setting: Setting, made: Workspace) -> None:
    (made.path / "image.png").write_bytes(b"\x89PNG\0\0\xff" * 1000)
    (made.path / "large.txt").write_text("large\n" * 300_000)
    with (made.path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with (made.path / "README").open("r+b") as file:
        file.truncate(1 << 40)
    found = changes(setting, made)
    assert found.names == (
        "added image.png",
        "added large.txt (1,800,000 bytes, not shown)",
        "added sparse (1,099,511,627,776 bytes, not shown)",
        "modified README (1,099,511,627,776 bytes, not shown)",
    )
    assert "Binary files /dev/null and b/image.png differ" in found.diff
    assert "large" not in found.diff


def test_a_large_file_of_the_task_that_is_as_it_was_is_not_named(bare: Setting) -> None:
    write(bare.task, {"large.txt": "large\n" * 300_000})
    latest = commit(bare.task, "Large")
    git(bare.base, "fetch", "--quiet")
    edit_config(bare.root, task_commit=latest)
    setting = replace(bare, task_commit=latest)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    assert changes(setting, made) == Changes((), "")
    (made.path / "large.txt").write_text("small\n" * 300_000)
    assert changes(setting, made).names == ("modified large.txt",)


def test_no_more_is_read_than_fits(setting: Setting, made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_READ", 1000)
    write(made.path, {f"{number}": "x" * 400 for number in range(4)})
    assert changes(setting, made).names == (
        "added 0",
        "added 1",
        "added 2 (400 bytes, not shown)",
        "added 3 (400 bytes, not shown)",
    )


def test_a_long_diff_is_cut(setting: Setting, made: Workspace) -> None:
    write(made.path, {"long.txt": "a long story\n" * 30_000})
    found = changes(setting, made)
    assert len(found.diff) < MOST_DIFF + 100
    assert found.diff.endswith("\n[the diff goes on]\n")
    write(made.path, {"long.txt": "a story\n"})
    assert "goes on" not in changes(setting, made).diff


def test_of_many_names_the_first_are_listed(setting: Setting, made: Workspace) -> None:
    write(made.path, {f"{number:04d}": "" for number in range(1234)})
    found = changes(setting, made)
    assert len(found.names) == 1001
    assert found.names[-1] == "and 234 more"


@pytest.mark.parametrize("commits", [True, False])
def test_a_repository_in_the_workspace_is_shown_as_such_and_runs_nothing(
    setting: Setting, made: Workspace, tmp_path: Path, commits: bool
) -> None:
    nested = made.path / "nested"
    if commits:
        make_task(nested)
    else:
        nested.mkdir()
        git(nested, "init", "--quiet")
        write(nested, {"file": ""})
    git(nested, "config", "core.fsmonitor", str(program(tmp_path / "evil", tmp_path / "ran")))
    assert changes(setting, made) == Changes(("repository nested/",), "")
    assert not (tmp_path / "ran").exists()


def test_a_submodule_of_the_tasks_is_not_entered(bare: Setting, tmp_path: Path) -> None:
    """Asked whether a submodule changed, git runs itself inside, with the configuration in there."""
    make_task(tmp_path / "module")
    git(
        bare.task, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "module"), "module"
    )
    latest = commit(bare.task, "With a submodule")
    git(bare.base, "fetch", "--quiet")
    edit_config(bare.root, task_commit=latest)
    setting = replace(bare, task_commit=latest)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    assert changes(setting, made) == Changes((), "")
    shutil.rmtree(made.path / "module")
    make_task(made.path / "module")
    git(made.path / "module", "config", "core.fsmonitor", str(program(tmp_path / "evil", tmp_path / "ran")))
    write(made.path / "module", {"README": "changed"})
    assert changes(setting, made) == Changes((), "")
    assert not (tmp_path / "ran").exists()
    git(made.path, "status")
    assert (tmp_path / "ran").exists()  # it would have
    shutil.rmtree(made.path / "module")
    found = changes(setting, made)
    assert found.names == ("deleted module",)
    assert "-Subproject commit " in found.diff


def test_what_an_agent_made_of_git_is_neither_run_nor_believed(
    setting: Setting, made: Workspace, tmp_path: Path
) -> None:
    """In its workspace, in its registration and in the base repository, into all of which it may write."""
    evil = str(program(tmp_path / "evil", tmp_path / "ran"))
    write(made.path, {"work.py": "1\n", ".gitattributes": "* filter=evil diff=evil\n*.py -diff\n"})
    for key in ("core.fsmonitor", "filter.evil.clean", "diff.evil.textconv", "diff.evil.command", "diff.external"):
        git(setting.base, "config", "--file", ".git/config", key, evil)
    registration = Path((made.path / ".git").read_text().removeprefix("gitdir: ").strip())
    git(setting.base, "init", "--quiet", str(tmp_path / "hostile"))
    for key in ("core.fsmonitor", "filter.evil.clean"):
        git(tmp_path / "hostile", "config", key, evil)
    (registration / "commondir").write_text(f"{tmp_path}/hostile/.git\n")
    (made.path / ".git").write_text(f"gitdir: {tmp_path}/hostile/.git\n")
    found = changes(setting, made)
    assert found.names == ("added .gitattributes", "added work.py")
    assert "\n+1\n" in found.diff
    assert not (tmp_path / "ran").exists()
    (made.path / ".git").unlink()
    git(made.path, "init", "--quiet")
    assert changes(setting, made) == found
    shutil.rmtree(made.path / ".git")
    assert changes(setting, made) == found


def test_names_are_told_whatever_they_are(setting: Setting, made: Workspace) -> None:
    for name in ("a\nb", "\x1b[31m", "-x", "::error::", "git~1", "caf\udce9", 'a"b', "a\\b", "con", "a:b"):
        (made.path / name).write_text("1\n")
    (made.path / ".GIT").mkdir()
    write(made.path, {".GIT/x": "1\n"})
    found = changes(setting, made)
    assert len(found.names) == 11
    assert "added a\\nb" in found.names
    assert "added \\x1b[31m" in found.names
    assert "added .GIT/x (2 bytes, not shown)" in found.names
    assert found.diff.count("\n+1\n") == 10


def test_pipes_and_files_that_cannot_be_read_stop_nothing(setting: Setting, made: Workspace) -> None:
    os.mkfifo(made.path / "pipe")
    (made.path / "README").unlink()
    os.mkfifo(made.path / "README")
    write(made.path, {"work.py": "1\n"})
    expected = ["added work.py", "unreadable README"]
    if os.geteuid():
        write(made.path, {"closed": ""})
        (made.path / "closed").chmod(0)
        expected.append("unreadable closed")
    assert changes(setting, made).names == tuple(expected)


def test_a_pipe_that_git_would_read_stops_it_only_for_so_long(
    setting: Setting, made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMPARE_TIMEOUT", 1.0)
    (made.path / ".gitignore").unlink()
    os.mkfifo(made.path / ".gitignore")
    with pytest.raises(CannotCompare, match="not finished within 1 s"):
        list_changes(pytest_scylla.load(setting.root), made)


def test_line_ends_that_the_task_converts_are_no_change(bare: Setting) -> None:
    write(bare.task, {".gitattributes": "*.txt text eol=crlf\n"})
    latest = commit(bare.task, "Line ends")
    git(bare.base, "fetch", "--quiet")
    edit_config(bare.root, task_commit=latest)
    setting = replace(bare, task_commit=latest)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    assert b"\r\n" in (made.path / "src" / "words.txt").read_bytes()
    assert changes(setting, made) == Changes((), "")


def test_the_users_own_git_configuration_changes_nothing(
    setting: Setting, made: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"home/.config/git/ignore": "*.py\n", "home/.config/git/attributes": "*.py binary\n",
                     "home/.gitconfig": "[color]\nui = always\n[diff]\nnoprefix = true\n"})  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    write(made.path, {"work.py": "1\n"})
    found = changes(setting, made)
    assert found.names == ("added work.py",)
    assert found.diff.startswith("diff --git a/work.py b/work.py\n")
    assert "\n+1\n" in found.diff


def test_a_path_may_hold_whatever_separates_paths(experiment_dir: Path) -> None:
    root = experiment_dir.parent / 'a:b "c" \\d é' / "exp"
    shutil.copytree(experiment_dir, root)
    setting = with_repository(root)
    setting.set_up(SIBLING)
    archive(setting, RUN)
    made = make(setting)
    write(made.path, {"work.py": "1\n"})
    assert changes(setting, made).names == ("added work.py",)


@pytest.mark.parametrize("lost", ["workspace", "link", "repository", "commit", "id", "elsewhere"])
def test_what_cannot_be_compared_is_told_of(setting: Setting, made: Workspace, tmp_path: Path, lost: str) -> None:
    if lost == "workspace":
        shutil.rmtree(made.path)
    elif lost == "link":
        made.path.rename(tmp_path / "away")
        made.path.symlink_to(tmp_path / "away")
    elif lost == "repository":
        shutil.rmtree(setting.base)
    elif lost == "commit":
        made = replace(made, base_commit="1234567890" * 4)
    elif lost == "id":
        made = replace(made, base_commit="--output=x")
    elif lost == "elsewhere":
        made = replace(made, path=tmp_path)
    with pytest.raises(CannotCompare) as caught:
        list_changes(pytest_scylla.load(setting.root), made)
    assert str(caught.value).isprintable()


def test_no_temporary_directory_is_left(setting: Setting, made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = setting.root.parent / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    list_changes(pytest_scylla.load(setting.root), made)
    assert os.listdir(place) == []
