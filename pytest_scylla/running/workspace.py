"""The git workspaces of runs: a fresh one for another attempt, and what becomes of those of earlier ones.

A run's workspace is a worktree of the experiment's base repository, on a branch of its own. Nothing is ever taken away:
no branch is deleted or used again, no worktree is removed or pruned, no directory emptied.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..experiment.expected import Experiment
from ..experiment.layout import STAGES
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import printable
from ..experiment.writing import directory_below
from .contract import CannotPrepare, Workspace, WorkspaceRequest
from .repository import (
    Registration,
    Repository,
    as_registered,
    central_place,
    clone_task,
    find_repository,
    names_below,
    require_harmless,
    telling,
    writing_alone,
)
from .starting_commit import starting_commit

WORKSPACE = "workspace"


def check_workspace(request: WorkspaceRequest) -> None:
    """Find out whether a workspace could be made once its place is free. Nothing is written.

    :raises CannotPrepare: there could be none.
    """
    with telling():
        _place(request)
        repository = find_repository(request.experiment)
        if repository is None:
            own, central = request.experiment.root / "repo", central_place(request.experiment)
            raise CannotPrepare(
                printable(
                    f"neither {own} nor {central} is a git repository, and nothing else tells which configuration the "
                    "agent starts from. Restore one of them"
                )
            )
        require_harmless(repository)
        starting_commit(request, repository)


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
            run = request.run
            branch = f"{run.tier}_{run.subtest}_{run.name}--a{request.attempt}-{secrets.token_hex(4)}"
            gone = repository.registrations_at(path)
            _add(request, repository, gone, "--no-track", "-b", branch, os.fspath(path), start)
    return Workspace(request.run_directory / WORKSPACE, branch, start)


def before_move(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``old`` is about to be moved to ``new``, and lock it, so that no prune loses it.

    Whoever is killed before it is moved leaves it registered where it is not yet; the same move, tried again, finds
    nothing to do. A workspace that is not registered is left alone.

    :raises CannotPrepare: it cannot be registered at ``new``.
    """
    with telling():
        names_below(experiment, new)
        repository = find_repository(experiment)
        if repository is None:
            return
        with writing_alone(experiment):
            for registration in repository.registrations_at(as_registered(old)):
                repository.register(registration, as_registered(new), f"archived from {old}")


def after_move(experiment: Experiment, old: Path, new: Path) -> None:
    """Let git know that the workspace ``old`` was moved to ``new``, and lock it there, so that no prune loses it.

    It is what ``git worktree repair`` and ``lock`` do, without believing the ``.git`` file in the workspace, which its
    agent may have made to name another repository. A workspace that is not registered is left alone.

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
                repository.register(registration, target, f"archived from {old}")


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
