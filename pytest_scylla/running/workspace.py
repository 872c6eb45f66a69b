"""The git workspaces of runs: a fresh one for another attempt, and what becomes of those of earlier ones.

A run's workspace is a worktree of the experiment's base repository, which is ``repo/`` in it or a clone in ``repos/``
beside it. Its branch, ``T0_00_run_01``, starts at the task's commit; the first commit after that holds the subtest's
configuration (CLAUDE.md and .claude/), later ones are the agent's work. So what another attempt is to start from is
read off the branches of the subtest's runs. A branch that is still at the task's commit is that of a run without
configuration, if its agent ever ran; otherwise of one that was stopped before it was configured, which says nothing.

Nothing is ever taken away: no branch is deleted or used again, no worktree is removed or pruned, no directory emptied.
Git refuses a place that it has registered for a worktree which is gone from there. It can be told to forget that one,
and would lose a worktree that was only moved; so such a registration is pointed elsewhere and locked instead.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import CONFIG, STAGES, RunId
from ..experiment.locks import locked
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import describe, printable
from ..experiment.writing import CannotWrite, directory, move, write_new
from .git import MOST_OUTPUT, GitFailed, clone, run_git, unwelcome_settings, without_password

WORKSPACE = "workspace"

MOST_DIFF = 200_000
"""How many bytes of a diff are listed."""

_MAX_SETTINGS = 1024 * 1024
_WRITTEN_INTO = ("objects", "refs", "refs/heads", "logs", "logs/refs", "logs/refs/heads", "worktrees")
"""The directories of a repository that adding a worktree writes into; a link in their place would lead out of it."""

_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRANSPORT = re.compile(r"[A-Za-z0-9]+::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AT_HOST = re.compile(r"[^/:]+:")
_BRANCH = "refs/heads/"
_GITLINK = "160000"
_MOST_NAMES = 1000
_LARGE = 1024 * 1024
"""From how many bytes on a file is only named."""
_MOST_READ = 64 * 1024 * 1024
"""How many bytes of new and changed files git may read in all."""
_COMPARE_TIMEOUT = 60.0
"""How many seconds a command may take that reads a workspace; where an agent left a pipe to read, it takes for ever."""
_WORDS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified"}
_AGENT_RECORDS = frozenset({"command_log.json", "output.txt", "stdout.log", "stderr.log"})


@dataclass(frozen=True, slots=True)
class WorkspaceRequest:
    """A workspace that is wanted: of which run, for which attempt at it (the first is 1), in which directory.

    ``run_directory`` is the run's, below the experiment's root; it need not exist.
    """

    experiment: Experiment
    run: RunId
    attempt: int
    run_directory: Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an agent works: a directory, the branch that is checked out in it, and the commit that it starts from."""

    path: Path
    branch: str
    base_commit: str


class CannotPrepare(Exception):
    """There can be no workspace; ``str()`` is one printable line: why, and where there is one, the remedy."""


class CannotCompare(Exception):
    """What an agent changed cannot be found out; ``str()`` is one printable line."""


class MakeWorkspace(Protocol):
    """Makes workspaces."""

    def __call__(self, request: WorkspaceRequest, /) -> Workspace:
        """Make a fresh workspace for an attempt, beside which everything else stays as it is.

        :raises CannotPrepare: there can be none.
        """


class Changes(NamedTuple):
    """What an agent changed.

    ``names`` are such as "modified src/tally.py", printable; a "repository" is what has a ``.git`` of its own. ``diff``
    is in git's format; binary and very large files are only named.
    """

    names: tuple[str, ...]
    diff: str


def check_workspace(request: WorkspaceRequest) -> None:
    """Find out whether a workspace could be made once its place is free. Nothing is written.

    :raises CannotPrepare: there could be none.
    """
    with _telling():
        _place(request)
        repository = _find(request.experiment)
        if repository is None:
            own, central = request.experiment.root / "repo", _central(request.experiment)
            raise CannotPrepare(
                printable(
                    f"neither {own} nor {central} is a git repository, and nothing else tells which configuration the "
                    "agent starts from. Restore one of them"
                )
            )
        _require_harmless(repository)
        _starting_commit(request, repository)


def make_workspace(request: WorkspaceRequest) -> Workspace:
    """Make a fresh workspace for an attempt, on a new branch, beside which everything else stays as it is.

    Where the base repository is gone, the task's is cloned into its central place.

    :raises CannotPrepare: there can be none.
    """
    with _telling():
        path = _place(request, free=True)
        with _alone(request.experiment):
            repository = _find(request.experiment) or _clone(request.experiment)
            _require_harmless(repository)
            start = _starting_commit(request, repository)
            run = request.run
            branch = f"{run.tier}_{run.subtest}_{run.name}--a{request.attempt}-{secrets.token_hex(4)}"
            gone = repository.registrations_at(path)
            _add(request, repository, gone, "--no-track", "-b", branch, os.fspath(path), start)
    return Workspace(request.run_directory / WORKSPACE, branch, start)


def restore_workspace(request: WorkspaceRequest) -> Workspace:
    """Bring a deleted workspace back, as its agent last committed it: its branch, checked out again in its place.

    :raises CannotPrepare: its place is not free, or there is no such branch, or it is checked out elsewhere.
    """
    with _telling():
        path = _place(request, free=True)
        repository = _find(request.experiment)
        if repository is None:
            raise CannotPrepare(f"{request.run}: its base repository is gone, and its branch with it")
        with _alone(request.experiment):
            _require_harmless(repository)
            gone = repository.registrations_at(path)
            branch, tip = _branch_to_restore(request, repository, gone)
            for registration in repository.registrations():
                there = registration not in gone and os.path.lexists(registration.path)
                if registration.branch == branch and there:
                    raise CannotPrepare(printable(f"{branch} is checked out in {registration.path}"))
            start = _read_branch(repository, repository.commit(request.experiment.config.task_commit), tip)
            commit = start.commit if isinstance(start, _Start) else _starting_commit(request, repository)
            # Forced, because a branch also counts as checked out where its worktree is gone from.
            _add(request, repository, gone, "--force", os.fspath(path), branch)
    return Workspace(request.run_directory / WORKSPACE, branch, commit)


def before_move(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``old`` is about to be moved to ``new``, and lock it, so that no prune loses it.

    Whoever is killed before it is moved leaves it registered where it is not yet; the same move, tried again, finds
    nothing to do. A workspace that is not registered is left alone.

    :raises CannotPrepare: it cannot be registered at ``new``.
    """
    with _telling():
        _below(experiment, new)
        repository = _find(experiment)
        if repository is None:
            return
        with _alone(experiment):
            for registration in repository.registrations_at(_real(old)):
                repository.register(registration, _real(new), f"archived from {old}")


def after_move(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``old`` was moved to ``new``, and lock it there, so that no prune loses it.

    It is what ``git worktree repair`` and ``lock`` do, without believing the ``.git`` file in the workspace, which its
    agent may have made to name another repository. A workspace that is not registered is left alone.

    :raises CannotPrepare: it cannot be registered at ``new``.
    """
    with _telling():
        repository = _find(experiment)
        if repository is None:
            return
        if os.path.lexists(old):
            raise CannotPrepare(printable(f"{old} was not moved, or something has taken its place"))
        target = _real(new)
        with open_experiment(experiment.root) as root:
            opened = open_below(root, _below(experiment, new))
            if isinstance(opened, Blob):
                raise CannotPrepare(f"{printable(opened.file)}: {opened.reason or 'absent'}")
            opened.close()
        with _alone(experiment):
            for registration in repository.registrations_at(_real(old)):
                repository.register(registration, target, f"archived from {old}")


# The base repository


@dataclass(frozen=True, slots=True)
class _Registration:
    """What a repository knows of one of its worktrees: under which name, where it is, and the branch in it if any."""

    name: str
    path: str
    branch: str | None


@dataclass(frozen=True, slots=True)
class _Repository:
    """A base repository: its directory, without links, and whether several experiments may share it."""

    path: Path
    central: bool

    def git(self, *arguments: str) -> str:
        """Run a git command in it, and return what that printed.

        :raises GitFailed: it failed.
        """
        return os.fsdecode(run_git(arguments, git_dir=self.path / ".git"))

    @contextmanager
    def open(self, *names: str) -> Iterator[Folder | Blob]:
        """Open its ``.git``, or a directory below that."""
        with open_experiment(self.path.parent) as parent:
            opened = open_below(parent, (self.path.name, ".git", *names))
            if isinstance(opened, Blob):
                yield opened
            else:
                with opened:
                    yield opened

    def commit(self, revision: str) -> str:
        """The full id of the commit that the configuration's ``task_commit`` names.

        :raises CannotPrepare: it names none that is here.
        """
        if not _REVISION.fullmatch(revision):
            raise CannotPrepare(f"{CONFIG}: expected a commit as task_commit, found {describe(revision)}. Correct it")
        try:
            return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
        except GitFailed:
            raise CannotPrepare(
                printable(f"{self.path} lacks the commit {revision}, the configuration's task_commit. Fetch it there")
            ) from None

    def branches(self) -> dict[str, str]:
        """The commit at the end of every branch, by the branch's name."""
        listed = self.git("for-each-ref", "--format=%(objectname) %(refname)", _BRANCH)
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name.removeprefix(_BRANCH): tip for tip, name in pairs}

    def registrations(self) -> list[_Registration]:
        """Its worktrees, also those that are gone from where they are registered."""
        found = []
        with self.open("worktrees") as folder:
            names = sorted(folder.names()) if isinstance(folder, Folder) else []
            for name in names:
                worktree = folder.open(name) if isinstance(folder, Folder) else folder
                if isinstance(worktree, Blob):
                    continue
                with worktree:
                    place = os.fsdecode(worktree.read("gitdir", 64 * 1024).data).rstrip("\n")
                    head = worktree.read("HEAD", 64 * 1024).text.strip()
                if place:
                    branch = head.removeprefix(f"ref: {_BRANCH}") if head.startswith(f"ref: {_BRANCH}") else None
                    found.append(_Registration(name, os.fspath(_real(Path(place).parent)), branch))
        return found

    def registrations_at(self, path: Path) -> list[_Registration]:
        """The worktrees that are registered at ``path``; where git was not asked to look, that may be several."""
        return [found for found in self.registrations() if found.path == os.fspath(path)]

    def point_elsewhere(self, registration: _Registration) -> None:
        """Let go of a place that something is registered for and gone from, keeping what is registered of it."""
        lost = Path(f"{registration.path}--lost-{secrets.token_hex(4)}")
        self.register(registration, lost, f"gone from {registration.path} when that was set up again")

    def register(self, registration: _Registration, path: Path, reason: str) -> None:
        """Register a worktree at another ``path``, and lock it unless it is.

        :raises OSError: it cannot be written.
        """
        with self.open("worktrees", registration.name) as folder:
            if isinstance(folder, Blob):
                raise CannotPrepare(f"{printable(folder.file)}: {folder.reason or 'it disappeared'}")
            # Locked first: in between, at its old place or at a new one where nothing is, a prune would take it.
            if folder.kind("locked") is None:
                _replace(folder, "locked", f"pytest-scylla: {printable(reason)}\n".encode())
            _replace(folder, "gitdir", os.fsencode(path / ".git") + b"\n")
            os.fsync(folder.descriptor)


def _replace(folder: Folder, name: str, data: bytes) -> None:
    write_new(folder, f"{name}.scylla", data)
    move(folder, f"{name}.scylla", folder, name)


def _central(experiment: Experiment) -> Path:
    name = sha256(experiment.config.task_repo.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return experiment.root.parent / "repos" / name


def _find(experiment: Experiment) -> _Repository | None:
    """The experiment's base repository, a real directory with a real ``.git``, so that whatever is written stays in it.

    :raises CannotPrepare: what has its place is none, or a link to one, or belongs to one elsewhere.
    """
    for path, central in ((experiment.root / "repo", False), (_central(experiment), True)):
        repository = _Repository(Path(os.path.realpath(path.parent)) / path.name, central)
        try:
            with repository.open() as opened:
                if isinstance(opened, Folder):
                    _require_own(repository, opened)
                    return repository
        except FileNotFoundError:
            continue
        if opened.state != "absent":
            raise CannotPrepare(
                printable(f"{path.parent / opened.file}: {opened.reason}. It must be a repository of this experiment's")
            )
    return None


def _require_own(repository: _Repository, folder: Folder) -> None:
    if folder.kind("commondir") is not None:
        raise CannotPrepare(printable(f"{repository.path} belongs to another repository. Clone that to its place"))
    for place in _WRITTEN_INTO:
        opened = open_below(folder, place.split("/"))
        if isinstance(opened, Folder):
            opened.close()
        elif opened.state != "absent":
            raise CannotPrepare(printable(f"{repository.path}/.git/{place}: {opened.reason}"))


def _require_harmless(repository: _Repository) -> None:
    """Refuse a repository whose configuration could name a program, before any git command reads it.

    :raises CannotPrepare: it has settings of another kind than a clone has.
    """
    with repository.open() as folder:
        config = folder.read("config", _MAX_SETTINGS) if isinstance(folder, Folder) else folder
    if config.state != "sound":
        raise CannotPrepare(printable(f"{repository.path}/.git/config: {config.reason or 'absent'}"))
    if unwelcome := unwelcome_settings(config.data):
        more = f" and {len(unwelcome) - 3} more" * (len(unwelcome) > 3)
        raise CannotPrepare(
            printable(
                f"{repository.path}/.git/config sets {', '.join(unwelcome[:3])}{more}, which may make git run a "
                "program. Remove that"
            )
        )


@contextmanager
def _alone(experiment: Experiment) -> Iterator[None]:
    """Be the only one who writes into the experiment's base repository, waiting for as long as another one does."""
    with ExitStack() as held:
        found = _find(experiment)
        if found is not None and not found.central:
            keeping = held.enter_context(Keeping(experiment.root))
            held.enter_context(locked(keeping.lock_path("repository")))
        else:
            # In one place for all experiments that share it.
            central = _central(experiment)
            central.parent.mkdir(exist_ok=True)
            held.enter_context(locked(central.with_name(f".{central.name}.lock")))
        yield


def _clone(experiment: Experiment) -> _Repository:
    """Clone the task's repository into the central place, which holds all of it or nothing."""
    target = _central(experiment)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        clone(_source(experiment.config.task_repo), part)
        _Repository(part, central=True).commit(experiment.config.task_commit)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _Repository(Path(os.path.realpath(target.parent)) / target.name, central=True)


def _source(task_repo: str) -> str:
    """The repository to clone, where it is one that may be.

    :raises CannotPrepare: it is not.
    """
    shown = describe(without_password(task_repo))
    scheme = _SCHEME.match(task_repo)
    if not task_repo.isprintable() or task_repo.startswith("-") or _TRANSPORT.match(task_repo):
        raise CannotPrepare(f"{CONFIG}: expected a repository as task_repo, found {shown}. Correct it")
    if scheme and scheme[1] not in ("https", "ssh", "file"):
        raise CannotPrepare(f"{CONFIG}: expected task_repo by https, ssh or file, found {shown}. Clone it by hand")
    if not (scheme or _AT_HOST.match(task_repo) or os.path.isabs(task_repo)):
        raise CannotPrepare(f"{CONFIG}: task_repo {shown} is relative to a place not known. Clone it by hand")
    return task_repo


# The place


def _below(experiment: Experiment, path: Path) -> tuple[str, ...]:
    """The names on the way from the experiment's root to ``path``.

    :raises CannotPrepare: it does not lie below that.
    """
    try:
        parts = path.relative_to(experiment.root).parts
    except ValueError:
        parts = ("..",)
    if not parts or ".." in parts:
        raise CannotPrepare(printable(f"{path} is not in the experiment {experiment.root}"))
    return parts


def _real(path: Path) -> Path:
    """``path`` as git registers it: without links on the way; what it is itself stays open."""
    return Path(os.path.realpath(path.parent)) / path.name


def _place(request: WorkspaceRequest, *, free: bool = False) -> Path:
    """Where the workspace goes, as git names it.

    :param free: nothing may be there yet but an empty directory.
    :raises CannotPrepare: it may not go there, or a link is on the way.
    """
    parts = _below(request.experiment, request.run_directory)
    if parts not in [(*filter(None, (stage,)), *str(request.run).split("/")) for stage in STAGES]:
        raise CannotPrepare(printable(f"{request.run_directory} is not the directory of {request.run}"))
    with open_experiment(request.experiment.root) as root:
        opened = open_below(root, (*parts, WORKSPACE))
    if isinstance(opened, Folder):
        with opened:
            if free and opened.names():
                raise CannotPrepare(f"{printable(opened.file)}: it is not empty. Move it away")
    elif opened.state != "absent":
        raise CannotPrepare(f"{printable(opened.file)}: {opened.reason}. Move it away")
    return Path(os.path.realpath(request.experiment.root)).joinpath(*parts, WORKSPACE)


def _add(request: WorkspaceRequest, repository: _Repository, gone: list[_Registration], *arguments: str) -> None:
    """Add a worktree in the run's directory, in a place where ``gone`` ones may still be registered."""
    with ExitStack() as opened:
        folder = opened.enter_context(open_experiment(request.experiment.root))
        for part in _below(request.experiment, request.run_directory):
            folder = opened.enter_context(directory(folder, part))
    for registration in gone:
        repository.point_elsewhere(registration)
    repository.git("worktree", "add", "--quiet", *arguments)


# The commit that an agent starts from


@dataclass(frozen=True, slots=True)
class _Start:
    """The commit that a branch's agent started from, its tree, and whether it is one with a configuration."""

    commit: str
    tree: str
    configured: bool


@dataclass(frozen=True, slots=True, order=True)
class _Sibling:
    """A branch of a run of the same subtest: of which run and attempt, and its last commit.

    ``further`` are those whose names have an attempt in them.
    """

    run: int
    attempt: int
    further: bool
    branch: str
    tip: str


def _siblings(request: WorkspaceRequest, repository: _Repository) -> list[_Sibling]:
    """The branches of the subtest's runs, the run's own among them.

    A program that names branches after the experiment, too, begins them with its id's first eight characters. Of a
    repository that experiments share, those are left out whose worktrees are in another one.
    """
    run, experiment = request.run, request.experiment
    prefix = re.escape(experiment.config.experiment_id[:8])
    name_of = re.compile(
        rf"(?:{prefix}_)?{run.tier}_{run.subtest}_run_([0-9]{{2,6}})(?:--a([0-9]{{1,9}})-[A-Za-z0-9-]+)?"
    )
    elsewhere: set[str | None] = set()
    if repository.central:
        root = Path(os.path.realpath(experiment.root))
        elsewhere = {
            found.branch
            for found in repository.registrations()
            if not Path(found.path).is_relative_to(root) and os.path.lexists(found.path)
        }
    found = []
    for branch, tip in repository.branches().items():
        match = name_of.fullmatch(branch)
        if match and branch not in elsewhere:
            found.append(_Sibling(int(match[1]), int(match[2] or 1), match[2] is not None, branch, tip))
    return sorted(found)


def _starting_commit(request: WorkspaceRequest, repository: _Repository) -> str:
    """The commit that the agents of the subtest's runs started from, as their branches tell.

    :raises CannotPrepare: none does, or they do not agree.
    """
    task = repository.commit(request.experiment.config.task_commit)
    read: dict[str, _Start | str] = {}
    told: dict[_Sibling, _Start] = {}
    silent = ""
    for sibling in _siblings(request, repository):
        if sibling.tip not in read:
            read[sibling.tip] = _read_branch(repository, task, sibling.tip)
        start = read[sibling.tip]
        if isinstance(start, str):
            silent = silent or f"{sibling.branch} {start}"
        else:
            told[sibling] = start
    configured = {sibling.run for sibling, start in told.items() if start.configured}
    for sibling, start in list(told.items()):
        if not (start.configured or (sibling.run not in configured and _agent_ran(request, sibling))):
            silent = silent or f"{sibling.branch} was not configured yet"
            del told[sibling]
    if not told:
        silent = silent or "it has none of this subtest's runs"
        branch = f"{request.run.tier}_{request.run.subtest}_{request.run.name}--a0-start"
        raise CannotPrepare(
            printable(
                f"no branch in {repository.path} tells which configuration the agent starts from: {silent}. "
                f"Make a branch {branch} at the commit to start from"
            )
        )
    first, start = next(iter(told.items()))
    for sibling, other in told.items():
        if other.tree != start.tree:
            raise CannotPrepare(
                printable(
                    f"{first.branch} and {sibling.branch} do not agree about the configuration that the agent starts "
                    f"from ({start.commit[:12]}, {other.commit[:12]}). Rename the branch that is wrong"
                )
            )
    return start.commit


def _read_branch(repository: _Repository, task: str, tip: str) -> _Start | str:
    """What a branch that ends in ``tip`` started from, or why that cannot be seen."""
    if tip == task:
        return _Start(task, _tree(repository, task), configured=False)
    listed = repository.git("rev-list", "--parents", "--topo-order", "--ancestry-path", f"{task}..{tip}")
    firsts = [words for words in map(str.split, listed.splitlines()) if task in words[1:]]
    if not firsts:
        return "does not go on from the task's commit"
    if len(firsts) > 1 or len(firsts[0]) > 2:
        return "is joined from several"
    first = firsts[0][0]
    listed = repository.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-commit-id", task, first)
    changed = listed.split("\0")[:-1]
    if not changed:
        return _Start(task, _tree(repository, task), configured=False)
    for name in changed:
        if name != "CLAUDE.md" and not name.startswith(".claude/"):
            return f"has no configuration first, but a change of {describe(name)}"
    return _Start(first, _tree(repository, first), configured=True)


def _tree(repository: _Repository, commit: str) -> str:
    return repository.git("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}").strip()


def _agent_ran(request: WorkspaceRequest, sibling: _Sibling) -> bool:
    """Whether the agent of a branch without configuration ever ran, so that it did so without.

    A further attempt's branch is made where the agent is to start.
    """
    if sibling.further:
        return True
    name = RunId(request.run.tier, request.run.subtest, sibling.run).name
    with open_experiment(request.experiment.root) as root:
        for stage in request.experiment.stages:
            subtest = (*filter(None, (stage,)), request.run.tier, request.run.subtest)
            for parent in (subtest, (*subtest, ".failed")):
                opened = open_below(root, parent)
                if isinstance(opened, Folder):
                    with opened:
                        archived = (found for found in opened.names() if found.startswith(f"{name}_"))
                        if any(_has_agent_records(opened, found) for found in (name, *archived)):
                            return True
    return False


def _has_agent_records(folder: Folder, run: str) -> bool:
    agent = open_below(folder, (run, "agent"))
    if isinstance(agent, Blob):
        return False
    with agent:
        return any(name in _AGENT_RECORDS and size for name, _, size, _, _ in agent.states())


def _branch_to_restore(
    request: WorkspaceRequest, repository: _Repository, gone: list[_Registration]
) -> tuple[str, str]:
    """The branch that was checked out in the workspace, and its last commit.

    :raises CannotPrepare: there is none, or nothing says which one it was.
    """
    own = [sibling for sibling in _siblings(request, repository) if sibling.run == request.run.number]
    registered = {registration.branch for registration in gone}
    found = [sibling for sibling in own if sibling.branch in registered]
    found = found or [sibling for sibling in own if sibling.attempt == request.attempt]
    if len(found) != 1:
        told = ", ".join(sibling.branch for sibling in found) or "none"
        raise CannotPrepare(printable(f"{request.run}: expected one branch of attempt {request.attempt}, found {told}"))
    return found[0].branch, found[0].tip


# What an agent changed


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
        with _telling():
            return _compare(experiment, workspace)
    except CannotPrepare as error:
        raise CannotCompare(str(error)) from error


def _compare(experiment: Experiment, workspace: Workspace) -> Changes:
    repository = _find(experiment)
    if repository is None or not _COMMIT.fullmatch(workspace.base_commit):
        raise CannotPrepare("there is no repository with the commit that the agent started from")
    with ExitStack() as opened:
        root = opened.enter_context(open_experiment(experiment.root))
        files = open_below(root, _below(experiment, workspace.path))
        if isinstance(files, Blob):
            raise CannotPrepare(f"{printable(files.file)}: {files.reason or 'absent'}")
        opened.enter_context(files)
        temporary = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        index = _OwnIndex(temporary, repository, _real(workspace.path))
        before = index.start_from(workspace.base_commit)
        others, nested = index.others()
        tip = _tip(repository, workspace.branch)
        committed = set() if tip is None else index.tree(tip).keys() - before.keys()
        named = [f"repository {printable(name)}" for name in sorted(nested)]
        named += index.take(files, before, others | committed)
        return index.changes(workspace.base_commit, named)


def _tip(repository: _Repository, branch: str) -> str | None:
    """The last commit of a branch, by the files of the repository: an agent may have changed its configuration."""
    *parts, name = f"{_BRANCH}{branch}".split("/")
    with repository.open(*parts) as folder:
        loose = folder.read(name, 1024).text.strip() if isinstance(folder, Folder) else ""
    if _COMMIT.fullmatch(loose):
        return loose
    with repository.open() as folder:
        packed = folder.read("packed-refs") if isinstance(folder, Folder) else folder
    match = re.search(rf"^([0-9a-f]{{40}}) {_BRANCH}{re.escape(branch)}$", packed.text, re.MULTILINE)
    return match[1] if match else None


class _OwnIndex:
    """An index and a repository of our own, in a temporary directory, for the files of a workspace."""

    def __init__(self, directory: Path, repository: _Repository, work_tree: Path) -> None:
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


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except (GitFailed, CannotWrite) as error:
        raise CannotPrepare(printable(str(error))) from error
    except OSError as error:
        place = f"{error.filename}: " if isinstance(error.filename, str) else ""  # else it may be a descriptor
        raise CannotPrepare(printable(f"{place}{os.strerror(error.errno) if error.errno else error}")) from error
