"""What an agent changed in its workspace, as its judges are told."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from ..experiment.expected import Experiment
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import printable
from .contract import CannotPrepare, Workspace
from .git import MOST_OUTPUT, run_git
from .repository import COMMIT_ID, Repository, as_registered, find_repository, names_below, telling

MOST_DIFF = 200_000
"""How many bytes of a diff are listed."""

_GITLINK = "160000"
_MOST_NAMES = 1000
_LARGE = 1024 * 1024
"""From how many bytes on a file is only named."""
_MOST_READ = 64 * 1024 * 1024
"""How many bytes of new and changed files git may read in all."""
_COMPARE_TIMEOUT = 60.0
"""How many seconds a command may take that reads a workspace; where an agent left a pipe to read, it takes for ever."""
_WORDS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified"}


class CannotCompare(Exception):
    """What an agent changed cannot be found out; ``str()`` is one printable line."""


class Changes(NamedTuple):
    """What an agent changed.

    ``names`` are such as "modified src/tally.py", printable; a "repository" is what has a ``.git`` of its own. ``diff``
    is in git's format; binary and very large files are only named.
    """

    names: tuple[str, ...]
    diff: str


class _Kept(NamedTuple):
    """What a commit has at a path: git's mode of it, and the size of a file."""

    mode: str
    size: int


class _Seen(NamedTuple):
    """What lies at a path: a file or link, with its size, or what git is not to read."""

    kind: Literal["file", "directory", "unreadable"]
    size: int = 0


def list_changes(experiment: Experiment, workspace: Workspace) -> Changes:
    """What the agent in a workspace changed since it started, committed or not, as far as the files there now show it.

    What the workspace's ``.gitignore`` names counts only where it was committed. Nothing is written in the workspace or
    in the repository, and what an agent made of ``.git`` in there is not looked at: the files are compared by an index
    and a repository of our own, which only borrows the objects of the base repository.

    :raises CannotCompare: that cannot be found out.
    """
    try:
        with telling():
            return _compare(experiment, workspace)
    except CannotPrepare as error:
        raise CannotCompare(str(error)) from error


def _compare(experiment: Experiment, workspace: Workspace) -> Changes:
    repository = find_repository(experiment)
    if repository is None or not COMMIT_ID.fullmatch(workspace.base_commit):
        raise CannotPrepare("there is no repository with the commit that the agent started from")
    with ExitStack() as opened:
        root = opened.enter_context(open_experiment(experiment.root))
        files = open_below(root, names_below(experiment, workspace.path))
        if isinstance(files, Blob):
            raise CannotPrepare(f"{printable(files.file)}: {files.reason or 'absent'}")
        opened.enter_context(files)
        temporary = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        index = _OwnIndex(temporary, repository, as_registered(workspace.path))
        before = index.start_from(workspace.base_commit)
        others, nested = index.others()
        tip = repository.tip(workspace.branch)
        committed = set() if tip is None else index.tree(tip).keys() - before.keys()
        named = [f"repository {printable(name)}" for name in sorted(nested)]
        named += index.take(files, before, others | committed)
        return index.changes(workspace.base_commit, named)


class _OwnIndex:
    """An index and a repository of our own, in a temporary directory, for the files of a workspace."""

    def __init__(self, directory: Path, repository: Repository, work_tree: Path) -> None:
        self._git_dir = directory / "git"
        self._work_tree = work_tree
        self._borrowed = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(repository.path / ".git" / "objects")}
        self._environment = {
            "GIT_INDEX_FILE": os.fspath(directory / "index"),
            # Names that only another system could not have are to stop nothing.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "core.protectNTFS",
            "GIT_CONFIG_VALUE_0": "false",
            "GIT_CONFIG_KEY_1": "core.protectHFS",
            "GIT_CONFIG_VALUE_1": "false",
        }
        run_git(["init", "--quiet", "--bare", "--template=", os.fspath(self._git_dir)])

    def _git(self, *arguments: str, files: bool = False, most: int | None = None) -> bytes:
        """Run a git command, over the workspace's files only where that is said.

        ``most`` is how many bytes of what it prints are wanted.
        """
        return run_git(
            arguments,
            git_dir=self._git_dir,
            work_tree=self._work_tree if files else None,
            environment={**self._environment, **self._borrowed},
            timeout=_COMPARE_TIMEOUT,
            most=MOST_OUTPUT if most is None else most,
            cut=most is not None,
        )

    def _update(self, option: str, paths: Iterable[str]) -> None:
        """Do something to the index for each of the paths.

        Without what is borrowed: of an object that is there already, git would set the time of last use.
        """
        run_git(
            ["update-index", "-z", "--replace", option, "--stdin"],
            git_dir=self._git_dir,
            work_tree=self._work_tree,
            environment=self._environment,
            stdin=b"".join(os.fsencode(path) + b"\0" for path in paths),
            timeout=_COMPARE_TIMEOUT,
        )

    def start_from(self, commit: str) -> dict[str, _Kept]:
        """Fill the index from a commit, and return what that has."""
        self._git("read-tree", commit)
        return self.tree(commit)

    def tree(self, commit: str) -> dict[str, _Kept]:
        """What a commit has, by path."""
        found = {}
        for entry in os.fsdecode(self._git("ls-tree", "-r", "-z", "--long", "--full-tree", commit)).split("\0")[:-1]:
            kept, _, path = entry.partition("\t")
            mode, _, _, size = kept.split()
            found[path] = _Kept(mode, int(size) if size.isdecimal() else 0)
        return found

    def others(self) -> tuple[set[str], set[str]]:
        """The files of the workspace that are not in the index and not ignored; directories that are repositories."""
        listed = self._git("ls-files", "-z", "--others", "--exclude-standard", files=True, most=MOST_OUTPUT)
        paths = set(os.fsdecode(listed).split("\0")[:-1])
        nested = {path for path in paths if path.endswith("/")}
        return paths - nested, nested

    def take(self, files: Folder, before: Mapping[str, _Kept], others: set[str]) -> list[str]:
        """Take the workspace's ``files`` into the index, and name those that are not taken.

        Only what is a file or a link, by a way without links, and not very large, or as large as it was before, is for
        git to read.
        """
        found = dict(_look(files, before.keys() | others))
        taken, gone, left = [], [], []
        named = []
        room = _MOST_READ
        for path in sorted(before.keys() | others):
            kept, there = before.get(path), found.get(path)
            if kept is not None and kept.mode == _GITLINK and there is not None and there.kind == "directory":
                continue
            if there is None or there.kind == "directory":
                gone.append(path)
            elif there.kind == "unreadable":
                left.append(path)
                named.append(f"unreadable {printable(path)}")
            elif kept is not None and kept.size == there.size:
                taken.append(path)
            elif there.size > min(_LARGE, room) or ".git" in path.lower().split("/"):
                left.append(path)
                word = "added" if kept is None else "modified"
                named.append(f"{word} {printable(path)} ({there.size:,} bytes, not shown)")
            else:
                room -= there.size
                taken.append(path)
        self._update("--force-remove", gone)
        self._update("--skip-worktree", before.keys() & left)
        # Compares what is in the index, so that of this only what is not the same is copied.
        self._git("update-index", "-q", "--ignore-submodules", "--refresh", files=True)
        self._update("--add", taken)
        return named

    def changes(self, commit: str, named: list[str]) -> Changes:
        """What the index changes against a commit, after what is ``named`` already."""
        compare = ("diff-index", "--cached", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
        words = os.fsdecode(self._git(*compare, "--name-status", "-z", commit, most=MOST_OUTPUT)).split("\0")[:-1]
        names = sorted(
            [
                *named,
                *(f"{_WORDS[word]} {printable(path)}" for word, path in zip(words[::2], words[1::2], strict=False)),
            ]
        )
        if len(names) > _MOST_NAMES:
            names[_MOST_NAMES:] = [f"and {len(names) - _MOST_NAMES:,} more"]
        diff = self._git(*compare, "--submodule=short", "--patch", commit, most=MOST_DIFF + 1)
        text = diff[:MOST_DIFF].decode("utf-8", "replace")
        return Changes(tuple(names), text + "\n[the diff goes on]\n" * (len(diff) > MOST_DIFF))


def _quoted(path: Path) -> str:
    """A path in the way in which git takes any in a list of them."""
    return '"' + os.fspath(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _look(files: Folder, paths: Iterable[str]) -> Iterator[tuple[str, _Seen]]:
    """What lies at each of the ``paths`` below a directory that lead to something, reached without following a link."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    for place, within in by_folder.items():
        folder = open_below(files, place.split("/")) if place else files
        if isinstance(folder, Folder):
            try:
                for path in within:
                    with suppress(OSError):
                        yield path, _see(folder, path.rpartition("/")[2])
            finally:
                if folder is not files:
                    folder.close()


def _see(folder: Folder, name: str) -> _Seen:
    status = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        return _Seen("directory")
    if stat.S_ISLNK(status.st_mode):
        return _Seen("file", status.st_size)
    if not stat.S_ISREG(status.st_mode):
        return _Seen("unreadable")
    try:
        os.close(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.descriptor))
    except OSError:
        return _Seen("unreadable")
    return _Seen("file", status.st_size)
