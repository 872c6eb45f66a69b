"""The base repository of workspaces, with real git: which one it is, how it is cloned, and when it is not trusted."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.running import repository
from pytest_scylla.running.changes import list_changes
from pytest_scylla.running.git import clone
from pytest_scylla.running.workspace import check_workspace, clone_if_lost, make_workspace

from .repositories import (
    AGENT_WORK,
    RUN,
    SIBLING,
    Setting,
    archive,
    branches,
    central_place,
    commit,
    edit_config,
    everything,
    git,
    make,
    needs_git,
    program,
    refusal,
    refused,
    request,
    with_repository,
    write,
)

pytestmark = needs_git


# ------------------------------------------------------------------------------------------------- the base repository


def test_without_a_repository_it_is_told_which_are_lacking(setting: Setting) -> None:
    shutil.rmtree(setting.base)
    place = central_place(setting.root, setting.task)
    assert refusal(lambda: check_workspace(request(setting))) == (
        f"neither {setting.base} nor {place} is a git repository: restore one of them, or let a repair clone task_repo "
        "to the latter, and then make a branch T0_00_run_01--a0-start there, at the commit to start from"
    )
    assert not place.parent.exists()


def test_a_lost_repository_is_cloned_and_then_it_is_told_what_that_lacks(setting: Setting) -> None:
    shutil.rmtree(setting.base)
    experiment, place = pytest_scylla.load(setting.root), central_place(setting.root, setting.task)
    clone_if_lost(experiment)
    told = refusal(lambda: check_workspace(request(setting)))
    assert re.match(rf"no branch in {place} tells .*Make a branch T0_00_run_01--a0-start at the commit", told)
    before = everything(place)
    clone_if_lost(experiment)
    assert everything(place) == before


def test_where_there_is_a_repository_nothing_is_cloned(setting: Setting) -> None:
    clone_if_lost(pytest_scylla.load(setting.root))
    assert not (setting.root.parent / "repos").exists()


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

    monkeypatch.setattr(repository, "clone", counted)
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
    told = refusal(lambda: clone_if_lost(pytest_scylla.load(setting.root)))
    assert told.startswith(
        f"neither {setting.base} nor {central_place(setting.root, setting.task)} is a git repository"
    )
    lacking = f"config/experiment.json: a clone of task_repo lacks the commit {'1234567890' * 4}, its task_commit"
    assert f"task_repo cannot be cloned: {'git clone: ' if lost == 'source' else lacking}" in told
    assert ".part" not in told
    refusal(lambda: make_workspace(request(setting)))
    assert [name for name in os.listdir(setting.root.parent / "repos") if not name.endswith(".lock")] == []


@pytest.mark.parametrize(
    "source",
    ["--upload-pack=x", "ext::sh -c x", "http://example.org/x", "git://example.org/x", "../task", "task", "file\n:///x",
     "https://me:secret@example.org\x1b/x", "ext::https://x"],
)  # fmt: skip
def test_a_repository_that_may_not_be_cloned_is_told(setting: Setting, source: str) -> None:
    shutil.rmtree(setting.base)
    edit_config(setting.root, task_repo=source)
    for attempt in (check_workspace, make_workspace):
        told = refusal(lambda attempt=attempt: attempt(request(setting)))  # type: ignore[misc]
        assert "config/experiment.json: " in told
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


# ------------------------------------------------------------------------------------------------- another experiment


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


# -------------------------------------------------------------------------------------------- a stranger's repository


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


def test_a_repository_that_was_cloned_on_another_system_will_do(setting: Setting) -> None:
    """What a clone writes there of the file system."""
    for name, value in {"filemode": "false", "ignorecase": "true", "precomposeunicode": "true"}.items():
        git(setting.base, "config", "--file", ".git/config", f"core.{name}", value)
    git(setting.base, "config", "--file", ".git/config", "core.symlinks", "false")
    made = make(setting)
    write(made.path, AGENT_WORK)
    assert list_changes(pytest_scylla.load(setting.root), made).names == ("added tally.py",)


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
