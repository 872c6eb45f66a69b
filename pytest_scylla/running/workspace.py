"""The git workspaces of runs: a fresh one for another attempt, and what becomes of those of earlier ones.

A run's workspace is a worktree of the experiment's base repository, on a branch of its own. Nothing is ever taken away
but one that the same session made and that nobody touched: no other branch is deleted, none used for another attempt,
no other worktree removed, none pruned, no directory emptied.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from ..experiment.expected import Experiment
from ..experiment.layout import STAGES
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import printable
from ..experiment.writing import directory_below
from .contract import CannotPrepare, Workspace, WorkspaceRequest
from .git import GitFailed
from .repository import (
    Registration,
    Repository,
    as_registered,
    central_place,
    clone_task,
    find_repository,
    names_below,
    require_harmless,
    task_source,
    telling,
    writing_alone,
)
from .starting_commit import start_branch, starting_commit

WORKSPACE = "workspace"

_TAIL = 4
"""So many names at the end of a workspace's path say of which run it is: T0/00/run_01/workspace."""

_MOST_OF_GIT_FILE = 64 * 1024


def check_workspace(request: WorkspaceRequest) -> None:
    """Find out whether a workspace could be made once its place is free. Nothing is written.

    :raises CannotPrepare: there could be none.
    """
    with telling():
        _place(request)
        repository = find_repository(request.experiment)
        if repository is None:
            raise _lacking(request.experiment, _remedy(request))
        require_harmless(repository)
        starting_commit(request, repository)


def clone_if_lost(experiment: Experiment) -> None:
    """Clone the task's repository into its central place, where the experiment has no base repository.

    :raises CannotPrepare: it cannot be cloned.
    """
    with telling():
        if find_repository(experiment) is not None:
            return
        with writing_alone(experiment):
            if find_repository(experiment) is None:  # no other session has cloned it meanwhile
                try:
                    clone_task(experiment)
                except (CannotPrepare, GitFailed) as error:
                    raise _lacking(experiment, f"task_repo cannot be cloned: {error}") from error


def _lacking(experiment: Experiment, remedy: str) -> CannotPrepare:
    """There is no base repository; ``remedy`` says what can be done, or not."""
    places = f"{experiment.root / 'repo'} nor {central_place(experiment)}"
    return CannotPrepare(printable(f"neither {places} is a git repository: {remedy}"))


def _remedy(request: WorkspaceRequest) -> str:
    """What gets an experiment without a base repository going again."""
    try:
        task_source(request.experiment)
    except CannotPrepare as error:
        return str(error)
    return (
        "restore one of them, or let a repair clone task_repo to the latter, and then make a branch "
        f"{start_branch(request.run)} there, at the commit to start from"
    )


def make_workspace(request: WorkspaceRequest) -> Workspace:
    """Make a fresh workspace for an attempt, on a new branch, beside which everything else stays as it is.

    Where the base repository is gone, the task's is cloned into its central place.

    :raises CannotPrepare: there can be none.
    """
    with telling():
        path = _place(request, free=True)
        with writing_alone(request.experiment):
            repository = find_repository(request.experiment) or clone_task(request.experiment)
            require_harmless(repository)
            start = starting_commit(request, repository)
            branch = f"{_branch_of(request)}-{secrets.token_hex(4)}"
            gone = repository.registrations_at(path)
            _add(request, repository, gone, "--no-track", "-b", branch, os.fspath(path), start)
    return Workspace(request.run_directory / WORKSPACE, branch, start)


def remove_workspace(experiment: Experiment, workspace: Workspace) -> None:
    """Remove a workspace, and its branch, in which nothing was done since :func:`make_workspace` made it.

    Git itself refuses to remove one in which it finds anything new.

    :raises CannotPrepare: something was, or it is none of the base repository's.
    """
    with telling():
        path = as_registered(workspace.path)
        repository = find_repository(experiment)
        if repository is None:
            raise CannotPrepare(printable(f"{path} is of no repository of this experiment's"))
        with writing_alone(experiment):
            require_harmless(repository)
            checked_out = [found.branch for found in repository.registrations_at(path)]
            if checked_out != [workspace.branch] or repository.tip(workspace.branch) != workspace.base_commit:
                raise CannotPrepare(printable(f"{path} is not at the commit that it began with, on its own branch"))
            repository.git("worktree", "remove", "--", os.fspath(path))
            with suppress(GitFailed):  # somebody has committed to it since
                repository.git("update-ref", "-d", f"refs/heads/{workspace.branch}", workspace.base_commit)


def restore_workspace(request: WorkspaceRequest, workspace: Workspace) -> None:
    """Check out again what an agent committed in a workspace that :func:`make_workspace` made, and that is gone.

    :raises CannotPrepare: it committed nothing, or that cannot be checked out.
    """
    with telling():
        path, branch = _place(request, free=True), workspace.branch
        with writing_alone(request.experiment):
            repository = find_repository(request.experiment)
            if repository is None:
                raise CannotPrepare(printable(f"{path} is of no repository of this experiment's"))
            require_harmless(repository)
            made = re.fullmatch(rf"{re.escape(_branch_of(request))}-[0-9a-f]+", branch)
            if made is None or repository.tip(branch) in (None, workspace.base_commit):
                raise CannotPrepare(printable(f"{path} is gone, and its branch has no commit of the agent's"))
            for found in repository.registrations():
                if found.branch == branch and os.path.lexists(found.path):
                    raise CannotPrepare(printable(f"{branch} is checked out at {found.path}"))
            # Git takes the branch for one that is checked out, at a place where nothing is any more.
            _add(request, repository, repository.registrations_at(path), "--force", os.fspath(path), branch)


def before_move(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``old`` is about to be moved to ``new``, and lock it, so that no prune loses it.

    It is what ``git worktree repair`` and ``lock`` do. Whoever is killed before it is moved leaves it registered where
    it is not yet; the same move, tried again, finds nothing to do. A workspace that is not registered is left alone.

    :raises CannotPrepare: it cannot be registered at ``new``.
    """
    with telling():
        names_below(experiment, new)
        repository = find_repository(experiment)
        if repository is None:
            return
        with writing_alone(experiment):
            for registration in _registrations_of(experiment, repository, old):
                repository.register(registration, as_registered(new), _archived_from(old))


def after_return(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``new``, which had been moved to ``old``, was moved back from there.

    It is unlocked, unless it was locked before. A workspace that is not registered is left alone.

    :raises CannotPrepare: it cannot be registered at ``new``.
    """
    with telling():
        repository = find_repository(experiment)
        if repository is None:
            return
        if os.path.lexists(old):
            raise CannotPrepare(printable(f"{old} was not moved, or something has taken its place"))
        target = as_registered(new)
        with open_experiment(experiment.root) as root:
            opened = open_below(root, names_below(experiment, new))
            if isinstance(opened, Blob):
                raise CannotPrepare(f"{printable(opened.file)}: {opened.reason or 'absent'}")
            opened.close()
        with writing_alone(experiment):
            for registration in repository.registrations_at(as_registered(old)):
                repository.register(registration, target, _archived_from(new))
                repository.unlock(registration, _archived_from(new))


def _archived_from(place: Path) -> str:
    """Why a workspace is locked."""
    return f"archived from {place}"


def _registrations_of(experiment: Experiment, repository: Repository, path: Path) -> list[Registration]:
    """What is registered of the workspace at ``path``, even if the experiment was moved, or the run, without a word.

    Then it is registered for a place that is gone and that ends in the same run; and it is the one that the ``.git``
    file in the workspace names, which its agent may have made to name any.
    """
    if found := repository.registrations_at(as_registered(path)):
        return found
    with open_experiment(experiment.root) as root:
        opened = open_below(root, names_below(experiment, path))
        if isinstance(opened, Blob):
            return []
        with opened:
            _, _, named = opened.read(".git", _MOST_OF_GIT_FILE).text.rstrip("\n").rpartition("/worktrees/")
    return [
        registration
        for registration in repository.registrations()
        if registration.name == named
        and Path(registration.path).parts[-_TAIL:] == path.parts[-_TAIL:]
        and not os.path.lexists(registration.path)
    ]


def _branch_of(request: WorkspaceRequest) -> str:
    """What the name of an attempt's branch begins with."""
    run = request.run
    return f"{run.tier}_{run.subtest}_{run.name}--a{request.attempt}"


def _place(request: WorkspaceRequest, *, free: bool = False) -> Path:
    """Where the workspace goes, as git names it.

    :param free: nothing may be there yet but an empty directory.
    :raises CannotPrepare: it may not go there, or a link is on the way.
    """
    parts = names_below(request.experiment, request.run_directory)
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


def _add(request: WorkspaceRequest, repository: Repository, gone: list[Registration], *arguments: str) -> None:
    """Add a worktree in the run's directory, in a place where ``gone`` ones may still be registered."""
    names = names_below(request.experiment, request.run_directory)
    with open_experiment(request.experiment.root) as root, directory_below(root, names):
        pass
    for registration in gone:
        repository.point_elsewhere(registration)
    repository.git("worktree", "add", "--quiet", *arguments)
