"""An attempt at a run: what makes room for it, what its agent begins with, and how all is as it was before again."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from ..calling.failures import CallFailed
from ..experiment.checkpoint import State, configuration_record, said_of, update_checkpoint
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.records import Folder, has_directory, read_below
from ..experiment.strict_json import Json
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite, directory, directory_below, naming, remove, write_new
from . import pending
from .archive import archive_run, attempts_at, bring_back, remove_empty
from .contract import AgentReply, AgentRequest, CannotPrepare, Workspace, WorkspaceRequest
from .pending import Pending
from .prompts import task_prompt
from .terms import AgentTerms
from .workspace import WORKSPACE, remove_workspace, restore_workspace

_Contents = frozenset[tuple[str, int, int, int]]
"""What is below a directory: each path with its mode and, unless it is a directory, its size and time of change."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What was in the run's ``place`` before: where in the archive that is, if there was anything.

    ``recorded`` is what the checkpoint said of it and says no more, if so.
    """

    place: str
    archived: str | None
    recorded: State | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that is ready for its agent; ``untouched`` is the state of its run then."""

    request: AgentRequest
    workspace: Workspace
    untouched: _Contents


class Ended(NamedTuple):
    """An execution that came to its end; ``reason`` is why that is no good one, if it is not.

    ``restored``: the workspace was removed since, and holds what the agent had committed, no more.
    """

    request: AgentRequest
    workspace: Workspace
    reply: AgentReply
    reason: str | None = None
    restored: bool = False


def broken_off(request: AgentRequest, workspace: Workspace, failure: CallFailed) -> Ended:
    """What there is to keep of an agent that did not come to its end for a reason of its own."""
    reply = AgentReply(failure.stdout, failure.stderr, exit_code=-1, cost_usd=failure.cost_usd)
    return Ended(request, workspace, reply, printable(str(failure)))


class Attempt:
    """What one session does for a run's agent before and after that runs; all of it under the run's lock.

    ``prepared`` is what the agent is given, ``None`` until it is made and once it is of no more use.
    """

    def __init__(self, experiment: Experiment, run: RunId, terms: AgentTerms, model: str) -> None:
        self._experiment = experiment
        self._run = run
        self._terms = terms
        self._model = model
        self._before: _Before | None = None
        self.prepared: Prepared | None = None

    def workspace_request(self, place: str, number: int) -> WorkspaceRequest:
        """The workspace that attempt ``number`` at the run in ``place`` is to have."""
        return WorkspaceRequest(self._experiment, self._run, number, self._experiment.root / place)

    def recorded(self, root: Folder) -> State | None:
        """What the checkpoint says of the run."""
        return said_of(root, self._run)

    def make_ready(self, keeping: Keeping, place: str) -> Prepared:
        """What the agent is given now: what a failed call left as it was, or a new attempt.

        :raises CannotPrepare: there can be no workspace, or the configuration is lost.
        :raises PromptLost: there is no task.
        :raises CannotWrite: something cannot be moved or written.
        """
        known = self.prepared
        if known is None or not _is_untouched(known):
            known = self._prepare(keeping, place)
        pending.begin(keeping, self._run, self._about(known))
        self.prepared = known
        return known

    def undo(self, keeping: Keeping) -> None:
        """Put what was there before back in its place.

        What this attempt made is removed, as long as nobody has touched it; else it goes to the archive.

        :raises CannotWrite: something cannot be moved or written.
        """
        before, self._before = self._before, None
        prepared, self.prepared = self.prepared, None
        if before is None:
            return
        pending.end(keeping, self._run)
        if not self._remove(keeping, before.place, prepared):
            archive_run(self._experiment, keeping, self._run, before.place)
        if before.archived is not None:
            bring_back(self._experiment, keeping, self._run, before.archived, before.place)
        if before.recorded is not None:
            update_checkpoint(self._experiment, keeping, {self._run: before.recorded})

    def _remove(self, keeping: Keeping, place: str, prepared: Prepared | None) -> bool:
        """Remove what was made for the agent, if nobody has touched it; return whether nothing is left of it."""
        if prepared is not None:
            if not _is_untouched(prepared):
                return False
            try:
                remove_workspace(self._experiment, prepared.workspace)
                with directory_below(keeping.experiment, place.split("/")) as run:
                    with directory(run, "agent") as agent:
                        remove(agent, "prompt.md")
                    os.rmdir("agent", dir_fd=run.descriptor)
            except (CannotPrepare, CannotWrite, OSError):
                return False
        return remove_empty(keeping, place)

    def finish(self, keeping: Keeping) -> None:
        """Let it be, now that all of its files are in their place."""
        pending.end(keeping, self._run)
        self._before = self.prepared = None

    def recover(self, keeping: Keeping, place: str) -> Ended | None:
        """An execution that came to its end while nobody was left to look after it."""
        recover = getattr(self._terms.agent, "recover", None)
        found = pending.unfinished(keeping, self._run)
        if recover is None or found is None or found.model != self._model:
            return None
        prompt = read_below(keeping.experiment, f"{place}/agent/prompt.md").data
        if _digest(prompt) != found.prompt_sha256:
            return None
        workspace = Workspace(self._experiment.root / place / WORKSPACE, found.branch, found.base_commit)
        config = configuration_record(keeping.experiment).data
        request = self._request(place, prompt, workspace, found.attempt, config)
        try:
            reply = recover(request)
        except CallFailed as failure:
            ended = None if failure.of_the_place else broken_off(request, workspace, failure)
        else:
            ended = None if reply is None else Ended(request, workspace, reply)
        if ended is not None and not has_directory(keeping.experiment, f"{place}/{WORKSPACE}"):
            with suppress(CannotPrepare):  # what the agent changed is not known then
                restore_workspace(self.workspace_request(place, found.attempt), workspace)
                ended = ended._replace(restored=True)
        return ended

    def _about(self, prepared: Prepared) -> Pending:
        request, workspace = prepared.request, prepared.workspace
        return Pending(request.attempt, self._model, _digest(request.prompt), workspace.branch, workspace.base_commit)

    def _prepare(self, keeping: Keeping, place: str) -> Prepared:
        """Archive what is in the run's place, and make all that a new attempt begins with."""
        config = configuration_record(keeping.experiment)
        if not config.sound:
            raise CannotPrepare(f"{config.file}: it is {config.state}")
        prompt = task_prompt(keeping.experiment, config.data.get("thinking_mode"))
        if self._before is None:
            self._before = self._archive(keeping, place)
        else:
            archive_run(self._experiment, keeping, self._run, place)
        number = attempts_at(keeping, place) + 1
        assert self._terms.make_workspace is not None
        workspace = self._terms.make_workspace(self.workspace_request(place, number))
        parts = (*place.split("/"), "agent")
        with naming(f"{place}/agent/prompt.md"), directory_below(keeping.experiment, parts) as folder:
            write_new(folder, "prompt.md", prompt)
        request = self._request(place, prompt, workspace, number, config.data)
        return Prepared(request, workspace, _contents(request, workspace))

    def _archive(self, keeping: Keeping, place: str) -> _Before:
        """Archive what was in the run's place before; if it passed, the checkpoint is not to say so any more."""
        recorded = self.recorded(keeping.experiment)
        if recorded != "passed":
            return _Before(place, archive_run(self._experiment, keeping, self._run, place), None)
        update_checkpoint(self._experiment, keeping, {self._run: None})
        try:
            return _Before(place, archive_run(self._experiment, keeping, self._run, place), recorded)
        except BaseException:
            update_checkpoint(self._experiment, keeping, {self._run: recorded})
            raise

    def _request(
        self, place: str, prompt: bytes, workspace: Workspace, number: int, config: Mapping[str, Json]
    ) -> AgentRequest:
        turns = config.get("max_turns")
        return AgentRequest(
            run_id=str(self._run),
            model=self._model,
            prompt=prompt,
            prompt_file=self._experiment.root / place / "agent" / "prompt.md",
            workspace=workspace.path,
            timeout=float(config.get("timeout_seconds") or self._terms.timeout),
            max_turns=None if turns is None else int(turns),
            attempt=number,
            outputs=pending.outputs_of(self._experiment.root, self._run),
        )


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _is_untouched(prepared: Prepared) -> bool:
    return _contents(prepared.request, prepared.workspace) == prepared.untouched


def _contents(request: AgentRequest, workspace: Workspace) -> _Contents:
    """What is in a run and in its workspace, which somebody else than the plugin may have made a link of."""
    found = set()
    for top in (request.prompt_file.parents[1], workspace.path):
        for folder, names, files in os.walk(top):
            for name in (*names, *files):
                status = os.lstat(os.path.join(folder, name))
                size, changed = (0, 0) if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
                found.add((os.path.join(folder, name), status.st_mode, size, changed))
    return frozenset(found)
