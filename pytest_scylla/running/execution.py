"""Running the agent of a run again, up to the point where its judges can be asked.

Everything happens under the run's lock. The old attempt goes to the archive, a fresh workspace is made, the agent runs
in it, and its files are written, its output last; so a killed attempt counts as one that is to run, and an agent that
came to its end is not run again. One that could not run for a reason of the place (no command, no login, a limit, the
network, money) is no attempt: what was there before is there again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ..auditing.evidence import Policy
from ..auditing.run import RunAudit, examine
from ..auditing.status import Case
from ..calling.calls import AnotherFirst, Called, Calls, NotGranted, Waiting
from ..calling.failures import CallFailed, CallLimit
from ..calling.pauses import paused_until
from ..calling.presets import own_command, reduced
from ..calling.process import run_command
from ..experiment.checkpoint import (
    Checkpoint,
    State,
    checkpoint_record,
    configuration_record,
    update_checkpoint,
)
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.locks import Held
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.strict_json import Json
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite, directory, naming, write_new
from ..repair.actions import Action, Ending
from ..repair.plan import Admits, Given, make_plan
from ..repair.request import Regenerate, written_like
from ..repair.transaction import carry_out, run_locked
from . import pending
from .archive import archive_run, attempts_at, bring_back
from .contract import AgentReply, AgentRequest
from .pending import Pending
from .prompts import PromptLost, judge_prompt, task_prompt
from .records import execution_files
from .terms import AgentTerms
from .workspace import (
    WORKSPACE,
    CannotCompare,
    CannotPrepare,
    Workspace,
    WorkspaceRequest,
    check_workspace,
    list_changes,
)

AGENT_RUN = "agent run"

TO_RUN = ("missing", "failed", "partial")
"""The statuses of a run whose agent is to run (again)."""

_ENDED = ("completed", "results")
"""The statuses of a run whose agent came to an end that can be judged."""

_MOMENT = timedelta(seconds=1)

_MOST_TOLD = 20_000
"""How many bytes of what a check printed a judge is told, of its end."""

_Contents = frozenset[tuple[str, int, int, int]]
"""What is below a directory: each path with its mode, size and time of change."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What came of a run's execution: the run as it stands, and what was done.

    First of ``actions`` is the agent's run. ``not_run``: it did not run, for a reason that passes.
    """

    case: Case
    audit: RunAudit
    actions: tuple[Action, ...]
    not_run: bool = False


class _NotPrepared(CallFailed):
    """The agent cannot run, since there is nothing for it to work in, or on."""

    of_the_place = True


@dataclass(frozen=True, slots=True)
class _Before:
    """What was in the run's ``place`` before: where in the archive that is, if there was anything.

    ``recorded`` is what the checkpoint said of it and says no more, if so.
    """

    place: str
    archived: str | None
    recorded: State | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An attempt that is ready for its agent; ``untouched`` is the state of its workspace then."""

    request: AgentRequest
    workspace: Workspace
    untouched: _Contents


class _Ended(NamedTuple):
    """An execution that came to its end; ``reason`` is why that is no good one, if it is not."""

    request: AgentRequest
    workspace: Workspace
    reply: AgentReply
    reason: str | None = None


class RunExecution:
    """The execution of one run's agent in one session.

    ``named`` says that a person named the run: then it may have judgments, which a new execution voids. ``anew``: it
    is run whatever its status is. ``own_workspaces`` says that the workspace is to be made in a way that is not the
    plugin's, so that nothing is known of what it takes.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunId,
        policy: Policy,
        terms: AgentTerms,
        regenerate: Regenerate,
        admits: Admits,
        *,
        named: bool,
        anew: bool,
        own_workspaces: bool = False,
    ) -> None:
        self._experiment = experiment
        self._run = run
        self._policy = policy
        self._terms = terms
        self._regenerate = regenerate
        self._admits = admits
        self._named = named
        self._anew = anew
        self._own_workspaces = own_workspaces
        self._calls = Calls(terms, str(run))
        self._before: _Before | None = None
        self._prepared: _Prepared | None = None
        self._faults: tuple[str, ...] = ()
        self._model = next(iter(experiment.config.agent_models), "")

    def proceed(self, *, wait: bool = True) -> Executed | Waiting:
        """Run the agent, as far as that goes now.

        :param wait: wait for another process that is at work on the run.
        :raises Held: there is one, and it was not to wait.
        :raises ExperimentGone: the experiment itself can no longer be opened.
        """
        try:
            with run_locked(self._experiment, self._run, wait=wait) as keeping:
                return self._execute(keeping)
        except CannotWrite as error:
            return self._unchanged("failed", printable(str(error)))

    def give_up(self, reason: str) -> Executed:
        """Leave the run as it was, since what it waits for takes too long.

        :raises ExperimentGone: the experiment itself can no longer be opened.
        """
        try:
            with run_locked(self._experiment, self._run) as keeping:
                self._leave_to_others(keeping)
                self._undo(keeping)
        except CannotWrite as error:
            return self._unchanged("failed", printable(str(error)))
        return self._not_run(reason)

    def objection(self, case: Case, audit: RunAudit) -> str:
        """Why the agent may not run, by what is known before anything is written; "" where it may."""
        if case.evidence.also_at:
            return f"it is also at {printable(case.evidence.also_at[0])}: remove one of them"
        name_it = f"name it, --scylla-select={self._run}"
        if any(slot.complete for slot in audit.slots) and not self._named:
            return f"it has sound judgments, which another execution voids: {name_it}"
        with open_experiment(self._experiment.root) as root:
            place = self._place(root, case)
            if not self._named and self._recorded(root) == "passed" and _is_directory(root, f"{place}/{WORKSPACE}"):
                return f"the checkpoint calls it passed, and its workspace is there: {name_it}"
        if not self._model:
            return "the configuration names no agent model"
        if self._own_workspaces:
            return ""
        try:
            check_workspace(self._workspace_request(place, 1))
        except CannotPrepare as error:
            return str(error)
        return ""

    def _execute(self, keeping: Keeping) -> Executed | Waiting:
        self._leave_to_others(keeping)
        case, audit = examine(self._experiment, self._run, self._policy)
        place = self._place(keeping.experiment, case)
        if self._prepared is None:
            self._faults = tuple(found.code for found in audit.findings if found.severity == "error")
        if self._prepared is None and audit.status in TO_RUN and (ended := self._recover(keeping, place)):
            return self._store(keeping, ended)
        if audit.status not in TO_RUN and not self._anew:
            return Executed(case, audit, ())
        if self._prepared is None and (reason := self.objection(case, audit)):
            return self._unchanged("refused", reason)
        terms, model = self._terms, self._model
        if reason := terms.stopped(model):
            return self._give_back(keeping, "refused", reason)
        now = datetime.now(timezone.utc)
        if pause := paused_until(self._experiment.root, terms.command, model, now):
            return Waiting(pause.until, pause.reason)
        attempt = attempts_at(keeping, place) + (self._prepared is None)
        try:
            reply = self._calls.make(keeping, model, attempt, partial(self._call, keeping, place))
        except AnotherFirst:
            return Waiting(now + _MOMENT, f"the first run of {printable(model)} tells what it costs")
        except NotGranted as refused:
            self._undo(keeping)
            return self._not_run(str(refused))
        except CallLimit as limit:
            return self._calls.pause(keeping, model, limit)
        except _NotPrepared as failure:
            self._calls.made -= 1  # nobody was called
            return self._give_back(keeping, "failed", str(failure))
        except CallFailed as failure:
            if failure.of_the_place:
                terms.note(model, failure)
                return self._give_back(keeping, "failed", str(failure))
            terms.note_answer(model)
            assert self._prepared is not None
            return self._store(keeping, _broken_off(self._prepared.request, self._prepared.workspace, failure))
        except BaseException:
            with suppress(CannotWrite):  # what was raised tells more
                self._undo(keeping)
            raise
        terms.note_answer(model)
        assert self._prepared is not None
        return self._store(keeping, _Ended(self._prepared.request, self._prepared.workspace, reply))

    # The place

    def _place(self, root: Folder, case: Case) -> str:
        """Where the run lies, relative to the experiment; where it does not, beside the others of its subtest."""
        folder = case.evidence.folder
        if folder.state != "absent":
            return folder.file
        stages = self._experiment.stages[::-1]
        own = [f"{stage}/{self._run}".lstrip("/") for stage in stages]
        beside = [place for place in own if _is_directory(root, place.rpartition("/")[0])]
        return next((place for place in own if _is_directory(root, place)), (beside or own)[0])

    def _recorded(self, root: Folder) -> State | None:
        return Checkpoint(checkpoint_record(root).data).ending_of(self._run)

    # Preparing

    def _workspace_request(self, place: str, attempt: int) -> WorkspaceRequest:
        return WorkspaceRequest(self._experiment, self._run, attempt, self._experiment.root / place)

    def _call(self, keeping: Keeping, place: str) -> Called[AgentReply]:
        try:
            prepared = self._prepared = self._ready(keeping, place)
        except (CannotPrepare, CannotWrite, PromptLost) as error:
            raise _NotPrepared(str(error)) from error
        assert self._terms.agent is not None
        started = datetime.now(timezone.utc)
        reply = self._terms.agent(prepared.request)
        if reply.seconds is None:
            reply = replace(reply, seconds=round((datetime.now(timezone.utc) - started).total_seconds(), 3))
        return Called(reply, reply.cost_usd, reply.usage)

    def _ready(self, keeping: Keeping, place: str) -> _Prepared:
        """An attempt for the agent: one that a failed call left as it was, or a new one."""
        known = self._prepared
        if known is None or _contents(known.workspace.path) != known.untouched:
            known = self._prepare(keeping, place)
        pending.begin(keeping, self._run, self._about(known))
        return known

    def _about(self, prepared: _Prepared) -> Pending:
        request, workspace = prepared.request, prepared.workspace
        return Pending(request.attempt, self._model, _digest(request.prompt), workspace.branch, workspace.base_commit)

    def _leave_to_others(self, keeping: Keeping) -> None:
        """Forget an attempt that is not there any more: while it waited, another session may have run the agent."""
        if self._prepared is not None and pending.unfinished(keeping, self._run) != self._about(self._prepared):
            self._before = self._prepared = None

    def _prepare(self, keeping: Keeping, place: str) -> _Prepared:
        """Archive what is in the run's place, and make all that a new attempt begins with."""
        config = configuration_record(keeping.experiment)
        if not config.sound:
            raise CannotPrepare(f"{config.file}: it is {config.state}")
        prompt = task_prompt(keeping.experiment, config.data.get("thinking_mode"))
        if self._before is None:
            self._before = self._archive(keeping, place)
        else:
            archive_run(self._experiment, keeping, self._run, place)
        attempt = attempts_at(keeping, place) + 1
        assert self._terms.make_workspace is not None
        workspace = self._terms.make_workspace(self._workspace_request(place, attempt))
        self._write_prompt(keeping, place, prompt)
        request = self._agent_request(place, prompt, workspace, attempt, config.data)
        return _Prepared(request, workspace, _contents(workspace.path))

    def _archive(self, keeping: Keeping, place: str) -> _Before:
        """Archive what was in the run's place before; if it passed, the checkpoint is not to say so any more."""
        recorded = self._recorded(keeping.experiment)
        if recorded != "passed":
            return _Before(place, archive_run(self._experiment, keeping, self._run, place), None)
        update_checkpoint(self._experiment, keeping, {self._run: None})
        try:
            return _Before(place, archive_run(self._experiment, keeping, self._run, place), recorded)
        except BaseException:
            update_checkpoint(self._experiment, keeping, {self._run: recorded})
            raise

    def _write_prompt(self, keeping: Keeping, place: str, prompt: bytes) -> None:
        folder, opened = keeping.experiment, []
        try:
            for part in (*place.split("/"), "agent"):
                with naming(place):
                    folder = directory(folder, part)
                opened.append(folder)
            with naming(f"{folder.file}/prompt.md"):
                write_new(folder, "prompt.md", prompt)
        finally:
            for one in opened:
                one.close()

    def _agent_request(
        self, place: str, prompt: bytes, workspace: Workspace, attempt: int, config: Mapping[str, Json]
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
            attempt=attempt,
            outputs=pending.outputs_of(self._experiment.root, self._run),
        )

    def _undo(self, keeping: Keeping) -> None:
        """Put what was there before back in its place; what there is of this attempt goes to the archive."""
        before, self._before, self._prepared = self._before, None, None
        if before is None:
            return
        pending.end(keeping, self._run)
        archive_run(self._experiment, keeping, self._run, before.place)
        if before.archived is not None:
            bring_back(self._experiment, keeping, self._run, before.archived, before.place)
        if before.recorded is not None:
            update_checkpoint(self._experiment, keeping, {self._run: before.recorded})

    def _recover(self, keeping: Keeping, place: str) -> _Ended | None:
        """An execution that came to its end while nobody was left to look after it."""
        recover = getattr(self._terms.agent, "recover", None)
        found = pending.unfinished(keeping, self._run)
        if recover is None or found is None or found.model != self._model:
            return None
        prompt = _read(keeping.experiment, f"{place}/agent", "prompt.md")
        if _digest(prompt) != found.prompt_sha256 or not _is_directory(keeping.experiment, f"{place}/{WORKSPACE}"):
            return None
        workspace = Workspace(self._experiment.root / place / WORKSPACE, found.branch, found.base_commit)
        config = configuration_record(keeping.experiment).data
        request = self._agent_request(place, prompt, workspace, found.attempt, config)
        try:
            reply = recover(request)
        except CallFailed as failure:
            return None if failure.of_the_place else _broken_off(request, workspace, failure)
        return None if reply is None else _Ended(request, workspace, reply)

    # Writing

    def _store(self, keeping: Keeping, ended: _Ended) -> Executed:
        """Write the files of an execution; the prompt for its judges among them."""
        request, workspace, reply, reason = ended
        place = os.fspath(request.prompt_file.parents[1].relative_to(self._experiment.root))
        self._set_aside(keeping, place)
        case, audit = examine(self._experiment, self._run, self._policy)
        try:
            changes = list_changes(self._experiment, workspace)
            names, diff = list(changes.names), changes.diff
        except CannotCompare as error:
            names, diff = [f"not known: {error}"], ""
        try:
            check = None if reason is not None else self._check(keeping, place)
            for_judges = judge_prompt(keeping.experiment, reply.stdout, names, diff, check)
        except PromptLost as lost:
            return self._unchanged("failed", f"{lost}; what the agent printed is kept until it is there again")
        files = execution_files(
            reply,
            model=request.model,
            prompt=request.prompt,
            workspace=workspace.path,
            ended_at=datetime.now(timezone.utc),
            seconds=round(reply.seconds or 0.0, 3),
            environ=os.environ,
            task=keeping.experiment.read("prompt.md").data,
            judge_prompt=for_judges,
            write=written_like(case.evidence),
            broken_off=reason,
        )
        if _read(keeping.experiment, f"{place}/agent", "prompt.md") == request.prompt:
            del files["agent/prompt.md"]  # which is there already
        plan = make_plan(
            self._experiment,
            case,
            audit,
            self._regenerate,
            self._admits,
            Given("run", files, "agent/output.txt", "agents", ("prompt.md",)),
        )
        repaired = carry_out(self._experiment, self._run, self._policy, plan, keeping)
        actions = [action for done in repaired.actions.values() for action in done]
        written = [action for action in actions if action.level == "agents"]
        ending: Ending = "done"
        if broken := [action for action in written if action.outcome == "failed"]:
            ending, reason = "failed", broken[0].reason
        else:
            if repaired.audit.status not in _ENDED:
                ending, reason = "failed", reason or f"it ended as {repaired.audit.findings[0]}"
            pending.end(keeping, self._run)
            self._before = self._prepared = None
            with suppress(CannotWrite):  # what cannot be recorded is told by the checkpoint's own item
                state: State | None = "agent_complete" if ending == "done" else None
                update_checkpoint(self._experiment, keeping, {self._run: state})
        first = self._action(ending, reason, tuple(file for action in written for file in action.files))
        follows = [action for action in actions if action.level != "agents" and action.outcome != "refused"]
        return Executed(repaired.case, repaired.audit, (first, *follows))

    def _set_aside(self, keeping: Keeping, place: str) -> None:
        """Take what is in the run beside workspace and prompt out of it, to the quarantine.

        Nobody but the agent can have written it, which has no say in what is recorded of it: a judgment, say. Or a
        session that was killed while it stored the same execution.
        """
        for part, ours in (("", {WORKSPACE, "agent"}), ("/agent", {"prompt.md"})):
            folder = open_below(keeping.experiment, f"{place}{part}".split("/"))
            if isinstance(folder, Blob):
                continue
            with folder, naming(folder.file):
                for name in sorted(folder.names()):
                    if name not in ours or (name == "agent" and folder.kind(name) != "directory"):
                        file = f"{folder.file}/{name}"
                        keeping.move_directory(file, folder, keeping.place_for_directory(file))

    def _check(self, keeping: Keeping, place: str) -> str | None:
        """What the user's check says of the workspace; ``None`` where there is none.

        It runs what the agent wrote, so it gets nothing of the environment that may be secret.
        """
        command = self._terms.check
        if not command:
            return None
        if not _is_directory(keeping.experiment, f"{place}/{WORKSPACE}"):
            return "not run: the workspace is no directory"
        environment, inside = reduced(os.environ, own_command(command)), self._experiment.root / place / WORKSPACE
        done = run_command(command, b"", environment=environment, timeout=self._terms.timeout, inside=inside)
        how = f"exit code {done.exit_code}" if done.ended == "exited" else f"{done.ended} {done.reason}".strip()
        return f"{how}\n{(done.stdout + done.stderr)[-_MOST_TOLD:].decode('utf-8', 'replace')}"

    def _action(self, ending: Ending, reason: str | None, files: tuple[str, ...] = ()) -> Action:
        return Action(
            "agents",
            AGENT_RUN,
            ending,
            files=files,
            solved=self._faults if ending == "done" else (),
            sources=("prompt.md",) if files else (),
            reason=reason,
            calls=self._calls.made,
            cost_usd=self._calls.cost_usd,
            seconds=round(self._calls.seconds, 3),
        )

    def _give_back(self, keeping: Keeping, ending: Ending, reason: str) -> Executed:
        """Leave the run as it was before."""
        self._undo(keeping)
        return self._unchanged(ending, printable(reason))

    def _unchanged(self, ending: Ending, reason: str, *, not_run: bool = False) -> Executed:
        case, audit = examine(self._experiment, self._run, self._policy)
        return Executed(case, audit, (self._action("failed" if self._calls.made else ending, reason),), not_run)

    def _not_run(self, reason: str) -> Executed:
        return self._unchanged("refused", f"not-run: {reason}", not_run=True)


def tidy_up(experiment: Experiment, run: RunId, policy: Policy) -> None:
    """Remove what a session that was killed left of an execution all of whose files are in their place.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with suppress(CannotWrite, Held), run_locked(experiment, run, wait=False) as keeping:
        if examine(experiment, run, policy)[1].status in _ENDED:
            pending.end(keeping, run)


def _broken_off(request: AgentRequest, workspace: Workspace, failure: CallFailed) -> _Ended:
    """What there is to keep of an agent that did not come to its end for a reason of its own."""
    reply = AgentReply(failure.stdout, failure.stderr, exit_code=-1, cost_usd=failure.cost_usd)
    return _Ended(request, workspace, reply, printable(str(failure)))


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _read(root: Folder, place: str, name: str) -> bytes:
    """What a file below ``root`` holds; nothing where it may not be read."""
    opened = open_below(root, place.split("/"))
    if isinstance(opened, Blob):
        return b""
    with opened:
        return opened.read(name).data


def _is_directory(root: Folder, place: str) -> bool:
    opened = open_below(root, place.split("/"))
    if isinstance(opened, Blob):
        return False
    opened.close()
    return True


def _contents(path: Path) -> _Contents:
    found = set()
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            status = os.lstat(os.path.join(folder, name))
            found.add((os.path.join(folder, name), status.st_mode, status.st_size, status.st_mtime_ns))
    return frozenset(found)
