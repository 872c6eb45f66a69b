"""What an agent changed in its workspace, with real git: all of it; and nothing that it left is run or believed."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.running import changes as module
from pytest_scylla.running.changes import MOST_DIFF, CannotCompare, Changes, list_changes
from pytest_scylla.running.contract import Workspace

from .repositories import (
    RUN,
    SIBLING,
    Setting,
    archive,
    commit,
    edit_config,
    everything,
    git,
    make,
    make_task,
    needs_git,
    program,
    with_repository,
    write,
)

pytestmark = needs_git


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
