"""Experiments with git repositories, as the program that runs experiments makes them, and all that is in them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pytest_scylla
from pytest_scylla.running.contract import CannotPrepare, Workspace, WorkspaceRequest
from pytest_scylla.running.workspace import check_workspace, make_workspace

from .repairing import run_named

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

RUN, SIBLING = "T0/00/run_01", "T0/00/run_02"
CONFIGURATION = {"CLAUDE.md": "Think first.\n", ".claude/settings.json": '{"alwaysThinkingEnabled": false}\n'}
AGENT_WORK = {"tally.py": "print(412)\n"}
TASK = {"README": "Count words.\n", "src/words.txt": "the\nquick\nfox\n", ".gitignore": "build/\n"}

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_NAME": "someone" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "someone@example.org" for who in ("AUTHOR", "COMMITTER")},
}


def git(place: Path, *arguments: str) -> str:
    """Run git in a directory, as anyone would."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=place, env={**own, **_ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def write(place: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)


def commit(place: Path, message: str, *options: str) -> str:
    """Commit whatever there is, and return the commit."""
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", message, *options)
    return git(place, "rev-parse", "HEAD")


def make_task(place: Path, files: Mapping[str, str] = TASK) -> str:
    """Make a task's repository, and return its commit."""
    place.mkdir(parents=True)
    git(place, "init", "--quiet", "--initial-branch=main")
    write(place, files)
    return commit(place, "The task")


def edit_config(root: Path, **changes: Any) -> None:
    place = root / "config" / "experiment.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}, indent=2))


def central_place(root: Path, task: Path | str) -> Path:
    """Where a clone of the task's repository lies that experiments share."""
    return root.parent / "repos" / sha256(str(task).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Setting:
    """An experiment with its base repository, the task's repository that this is a clone of, and the task's commit."""

    root: Path
    base: Path
    task: Path
    task_commit: str

    def workspace(self, run: str) -> Path:
        return self.root / run / "workspace"

    def set_up(
        self,
        run: str,
        configuration: Mapping[str, str] | None = CONFIGURATION,
        work: Mapping[str, str] | None = AGENT_WORK,
        branch: str = "",
    ) -> Path:
        """Set up a run's workspace, commit its configuration if it has one, and let its agent work and commit."""
        place = self.workspace(run)
        branch = branch or run.replace("/", "_")
        git(self.base, "worktree", "add", "--quiet", "-b", branch, str(place), self.task_commit)
        if configuration is not None:
            write(place, configuration)
            commit(place, "Configuration")
        if work is not None:
            write(place, work)
            commit(place, "Work")
        return place

    def start(self, run: str) -> str:
        """The first commit after the task's on a run's branch."""
        branch = run.replace("/", "_")
        return git(self.base, "rev-list", "--reverse", f"{self.task_commit}..{branch}").split()[0]


def with_repository(root: Path, *, central: bool = False) -> Setting:
    """Give an experiment a base repository: ``repo/`` in it, or a clone in ``repos/`` beside it."""
    task = root.parent / "task"
    task_commit = git(task, "rev-parse", "HEAD") if task.exists() else make_task(task)
    base = central_place(root, task) if central else root / "repo"
    base.parent.mkdir(exist_ok=True)
    git(root.parent, "clone", "--quiet", "--template=", str(task), str(base))
    edit_config(root, task_repo=str(task), task_commit=task_commit)
    return Setting(root, base, task, task_commit)


class State(NamedTuple):
    """What lies at a path, with everything about it that a change would show in."""

    mode: int
    modified: int
    inode: int
    content: bytes


def everything(*places: Path) -> dict[str, State]:
    """All that is in some directories, by path. Of directories themselves only that they are there.

    Nor is it told when a lock was taken last, which leaves its time in the file with some versions of filelock.
    """
    found = {}
    for place in places:
        for folder, names, files in os.walk(place):
            for name in (*names, *files):
                path = Path(folder, name)
                status = path.lstat()
                content, modified = b"", status.st_mtime_ns
                if stat.S_ISLNK(status.st_mode):
                    content = os.fsencode(os.readlink(path))
                elif stat.S_ISREG(status.st_mode):
                    with path.open("rb") as file:
                        content = b"%d %b" % (status.st_size, file.read(8 * 1024 * 1024))
                if stat.S_ISDIR(status.st_mode) or ".scylla/locks" in folder:
                    modified = 0
                found[str(path)] = State(status.st_mode, modified, status.st_ino, content)
    return found


def registrations(base: Path) -> dict[str, str]:
    """The worktrees of a repository by path, each with what git says of it."""
    found = {}
    for entry in git(base, "worktree", "list", "--porcelain", "-z").split("\0\0"):
        lines = entry.strip("\0").split("\0")
        if lines[0]:
            found[lines[0].removeprefix("worktree ")] = "\n".join(lines[1:])
    return found


def branches(base: Path) -> dict[str, str]:
    """The branches of a repository, each with its commit."""
    pairs = git(base, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/").splitlines()
    return dict(pair.split(" ") for pair in pairs)


def with_workspaces(setting: Setting) -> Setting:
    """Set up the workspaces of three runs; one of them was archived, and is to be run again."""
    for run in (RUN, SIBLING, "T1/01/run_01"):
        setting.set_up(run)
    archive(setting, RUN)
    return setting


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


def program(place: Path, ran: Path) -> Path:
    """A program that leaves a trace."""
    write(place.parent, {place.name: f"#!/bin/sh\necho >> {ran}\ncat\n"})
    place.chmod(0o755)
    return place
