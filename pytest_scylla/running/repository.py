"""The base repository of an experiment's workspaces: ``repo/`` in it, or a clone of the task's in ``repos/`` beside it.

Nothing of it is ever taken away but what the same session added: no other branch is deleted, no other worktree removed,
none pruned. Git refuses a place that it has registered for a worktree which is gone from there. It can be told to
forget that one, and would lose a worktree that was only moved; so such a registration is pointed elsewhere and locked
instead.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import CONFIG
from ..experiment.locks import locked
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import describe, printable
from ..experiment.writing import CannotWrite, move, remove, write_new
from .contract import CannotPrepare
from .git import GitFailed, clone, run_git, unwelcome_settings, without_password

COMMIT_ID = re.compile(r"[0-9a-f]{40}")
"""The full id of a commit."""

_MAX_SETTINGS = 1024 * 1024
_WRITTEN_INTO = ("objects", "refs", "refs/heads", "logs", "logs/refs", "logs/refs/heads", "worktrees")
"""The directories of a repository that adding a worktree writes into; a link in their place would lead out of it."""

_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_TRANSPORT = re.compile(r"[A-Za-z0-9]+::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AT_HOST = re.compile(r"[^/:]+:")
_BRANCH = "refs/heads/"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a repository knows of one of its worktrees: under which name, where it is, and the branch in it if any."""

    name: str
    path: str
    branch: str | None


@dataclass(frozen=True, slots=True)
class Repository:
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
        found = self.find_commit(revision)
        if found is None:
            raise CannotPrepare(
                printable(f"{self.path} lacks the commit {revision}, the configuration's task_commit. Fetch it there")
            )
        return found

    def find_commit(self, revision: str) -> str | None:
        """The same; ``None`` where it is not here.

        :raises CannotPrepare: it can name none anywhere.
        """
        if not _REVISION.fullmatch(revision):
            raise CannotPrepare(f"{CONFIG}: expected a commit as task_commit, found {describe(revision)}. Correct it")
        try:
            return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
        except GitFailed:
            return None

    def branches(self) -> dict[str, str]:
        """The commit at the end of every branch, by the branch's name."""
        listed = self.git("for-each-ref", "--format=%(objectname) %(refname)", _BRANCH)
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name.removeprefix(_BRANCH): tip for tip, name in pairs}

    def tip(self, branch: str) -> str | None:
        """The last commit of a branch, by the files of the repository: an agent may have changed its configuration."""
        *parts, name = f"{_BRANCH}{branch}".split("/")
        with self.open(*parts) as folder:
            loose = folder.read(name, 1024).text.strip() if isinstance(folder, Folder) else ""
        if COMMIT_ID.fullmatch(loose):
            return loose
        with self.open() as folder:
            packed = folder.read("packed-refs") if isinstance(folder, Folder) else folder
        match = re.search(rf"^([0-9a-f]{{40}}) {_BRANCH}{re.escape(branch)}$", packed.text, re.MULTILINE)
        return match[1] if match else None

    def tree(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self.git("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}").strip()

    def registrations(self) -> list[Registration]:
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
                    found.append(Registration(name, os.fspath(as_registered(Path(place).parent)), branch))
        return found

    def registrations_at(self, path: Path) -> list[Registration]:
        """The worktrees that are registered at ``path``; where git was not asked to look, that may be several."""
        return [found for found in self.registrations() if found.path == os.fspath(path)]

    def point_elsewhere(self, registration: Registration) -> None:
        """Let go of a place that something is registered for and gone from, keeping what is registered of it."""
        lost = Path(f"{registration.path}--lost-{secrets.token_hex(4)}")
        self.register(registration, lost, f"gone from {registration.path} when that was set up again")

    def register(self, registration: Registration, path: Path, reason: str) -> None:
        """Register a worktree at another ``path``, and lock it unless it is.

        :raises OSError: it cannot be written.
        """
        with self._open_registration(registration) as folder:
            # Locked first: in between, at its old place or at a new one where nothing is, a prune would take it.
            if folder.kind("locked") is None:
                _replace(folder, "locked", _lock(reason))
            _replace(folder, "gitdir", os.fsencode(path / ".git") + b"\n")
            os.fsync(folder.descriptor)

    def unlock(self, registration: Registration, reason: str) -> None:
        """Unlock a worktree if it was :meth:`register` that locked it, for this ``reason``.

        :raises OSError: it cannot be unlocked.
        """
        with self._open_registration(registration) as folder:
            if folder.read("locked", 64 * 1024).data == _lock(reason):
                remove(folder, "locked")
                os.fsync(folder.descriptor)

    @contextmanager
    def _open_registration(self, registration: Registration) -> Iterator[Folder]:
        with self.open("worktrees", registration.name) as folder:
            if isinstance(folder, Blob):
                raise CannotPrepare(f"{printable(folder.file)}: {folder.reason or 'it disappeared'}")
            yield folder


def _lock(reason: str) -> bytes:
    return f"pytest-scylla: {printable(reason)}\n".encode()


def _replace(folder: Folder, name: str, data: bytes) -> None:
    write_new(folder, f"{name}.scylla", data)
    move(folder, f"{name}.scylla", folder, name)


def central_place(experiment: Experiment) -> Path:
    """Where a clone of the task's repository lies that experiments share."""
    name = sha256(experiment.config.task_repo.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return experiment.root.parent / "repos" / name


def find_repository(experiment: Experiment) -> Repository | None:
    """The experiment's base repository, a real directory with a real ``.git``, so that whatever is written stays in it.

    :raises CannotPrepare: what has its place is none, or a link to one, or belongs to one elsewhere.
    """
    for path, central in ((experiment.root / "repo", False), (central_place(experiment), True)):
        repository = Repository(Path(os.path.realpath(path.parent)) / path.name, central)
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


def _require_own(repository: Repository, folder: Folder) -> None:
    if folder.kind("commondir") is not None:
        raise CannotPrepare(printable(f"{repository.path} belongs to another repository. Clone that to its place"))
    for place in _WRITTEN_INTO:
        opened = open_below(folder, place.split("/"))
        if isinstance(opened, Folder):
            opened.close()
        elif opened.state != "absent":
            raise CannotPrepare(printable(f"{repository.path}/.git/{place}: {opened.reason}"))


def require_harmless(repository: Repository) -> None:
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
def writing_alone(experiment: Experiment) -> Iterator[None]:
    """Be the only one who writes into the experiment's base repository, waiting for as long as another one does."""
    with ExitStack() as held:
        found = find_repository(experiment)
        if found is not None and not found.central:
            keeping = held.enter_context(Keeping(experiment.root))
            held.enter_context(locked(keeping.lock_path("repository")))
        else:
            # In one place for all experiments that share it.
            central = central_place(experiment)
            central.parent.mkdir(exist_ok=True)
            held.enter_context(locked(central.with_name(f".{central.name}.lock")))
        yield


def clone_task(experiment: Experiment) -> Repository:
    """Clone the task's repository into the central place, which holds all of it or nothing.

    :raises CannotPrepare: it may not be cloned, or the task's commit is not in it.
    :raises GitFailed: it cannot be cloned.
    """
    target = central_place(experiment)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        clone(task_source(experiment), part)
        commit = experiment.config.task_commit
        if Repository(part, central=True).find_commit(commit) is None:
            raise CannotPrepare(printable(f"{CONFIG}: a clone of task_repo lacks the commit {commit}, its task_commit"))
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Repository(Path(os.path.realpath(target.parent)) / target.name, central=True)


def task_source(experiment: Experiment) -> str:
    """The task's repository, where it is one that may be cloned.

    :raises CannotPrepare: it is not.
    """
    task_repo = experiment.config.task_repo
    shown = describe(without_password(task_repo))
    scheme = _SCHEME.match(task_repo)
    if not task_repo.isprintable() or task_repo.startswith("-") or _TRANSPORT.match(task_repo):
        raise CannotPrepare(f"{CONFIG}: expected a repository as task_repo, found {shown}. Correct it")
    if scheme and scheme[1] not in ("https", "ssh", "file"):
        raise CannotPrepare(f"{CONFIG}: expected task_repo by https, ssh or file, found {shown}. Clone it by hand")
    if not (scheme or _AT_HOST.match(task_repo) or os.path.isabs(task_repo)):
        raise CannotPrepare(f"{CONFIG}: task_repo {shown} is relative to a place not known. Clone it by hand")
    return task_repo


def names_below(experiment: Experiment, path: Path) -> tuple[str, ...]:
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


def as_registered(path: Path) -> Path:
    """``path`` as git registers it: without links on the way; what it is itself stays open."""
    return Path(os.path.realpath(path.parent)) / path.name


@contextmanager
def telling() -> Iterator[None]:
    """Tell whatever fails in the block, of git or of the file system, as a reason why there can be no workspace.

    :raises CannotPrepare: the block raised :class:`GitFailed`, :class:`CannotWrite` or :class:`OSError`.
    """
    try:
        yield
    except (GitFailed, CannotWrite) as error:
        raise CannotPrepare(printable(str(error))) from error
    except OSError as error:
        place = f"{error.filename}: " if isinstance(error.filename, str) else ""  # else it may be a descriptor
        raise CannotPrepare(printable(f"{place}{os.strerror(error.errno) if error.errno else error}")) from error
