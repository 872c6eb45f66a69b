"""The commit that a run's agent starts from, as the branches of its subtest's runs tell.

A run's branch, ``T0_00_run_01``, starts at the task's commit; the first commit after that holds the subtest's
configuration (CLAUDE.md and .claude/), later ones are the agent's work. A branch that is still at the task's commit is
that of a run without configuration, if its agent ever ran; otherwise of one that was stopped before it was configured,
which says nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..experiment.layout import RunId
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.wording import describe, printable
from .contract import CannotPrepare, WorkspaceRequest
from .repository import Repository

_AGENT_RECORDS = frozenset({"command_log.json", "output.txt", "stdout.log", "stderr.log"})


@dataclass(frozen=True, slots=True)
class Start:
    """The commit that a branch's agent started from, its tree, and whether it is one with a configuration."""

    commit: str
    tree: str
    configured: bool


@dataclass(frozen=True, slots=True, order=True)
class Sibling:
    """A branch of a run of the same subtest: of which run and attempt, and its last commit.

    ``further`` are those whose names have an attempt in them.
    """

    run: int
    attempt: int
    further: bool
    branch: str
    tip: str


def siblings(request: WorkspaceRequest, repository: Repository) -> list[Sibling]:
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
            found.append(Sibling(int(match[1]), int(match[2] or 1), match[2] is not None, branch, tip))
    return sorted(found)


def starting_commit(request: WorkspaceRequest, repository: Repository) -> str:
    """The commit that the agents of the subtest's runs started from, as their branches tell.

    Each run has one of its own with the same content. It is that of the run with the lowest number whose branch tells,
    and of its earliest attempt.

    :raises CannotPrepare: none does, or they do not agree.
    """
    task = repository.commit(request.experiment.config.task_commit)
    read: dict[str, Start | str] = {}
    told: dict[Sibling, Start] = {}
    silent = ""
    for sibling in siblings(request, repository):
        if sibling.tip not in read:
            read[sibling.tip] = read_branch(repository, task, sibling.tip)
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
        raise CannotPrepare(
            printable(
                f"no branch in {repository.path} tells which configuration the agent starts from: {silent}. "
                f"Make a branch {start_branch(request.run)} at the commit to start from"
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


def start_branch(run: RunId) -> str:
    """The name of a branch by which a person may say where the agents of a run's subtest start."""
    return f"{run.tier}_{run.subtest}_{run.name}--a0-start"


def read_branch(repository: Repository, task: str, tip: str) -> Start | str:
    """What a branch that ends in ``tip`` started from, or why that cannot be seen."""
    if tip == task:
        return Start(task, repository.tree(task), configured=False)
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
        return Start(task, repository.tree(task), configured=False)
    for name in changed:
        if name != "CLAUDE.md" and not name.startswith(".claude/"):
            return f"has no configuration first, but a change of {describe(name)}"
    return Start(first, repository.tree(first), configured=True)


def _agent_ran(request: WorkspaceRequest, sibling: Sibling) -> bool:
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
