"""Running the agent of a run again, up to the point where its judges can be asked.

Everything happens under the run's lock. The old attempt goes to the archive, a fresh workspace is made, the agent runs
in it, and its files are written, its output last; so a killed attempt counts as one that is to run, and an agent that
came to its end is not run again. One that could not run for a reason of the place (no command, no login, a limit, the
network, money) is no attempt: what was there before is there again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from hashlib import sha256

from ..auditing.evidence import Policy
from ..auditing.run import RunAudit, examine
from ..auditing.status import Case
from ..calling.calls import AnotherFirst, Called, Calls, NotGranted, Waiting
from ..calling.failures import CallFailed, CallLimit, CallTimeout
from ..calling.pauses import paused_until
from ..calling.process import run_command
from ..experiment.checkpoint import configuration_record, update_checkpoint
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
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
from .prompts import PromptLost, judge_prompt, task_prompt
from .records import execution_files
from .terms import AgentTerms
from .workspace import CannotCompare, CannotPrepare, Workspace, WorkspaceRequest, check_workspace, list_changes

AGENT_RUN = "agent run"

TO_RUN = ("missing", "failed", "partial")
"""The statuses of a run whose agent is to run (again)."""

_MOMENT = timedelta(seconds=1)


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
class _Prepared:
    """An attempt that is ready for its agent; ``archived`` is where the one before it is."""

    archived: str | None
    workspace: Workspace
    request: AgentRequest


class RunExecution:
    """The execution of one run's agent in one session.

    ``named`` says that a person named the run: then it may have judgments, which a new execution voids. ``anew``: it
    is run whatever its status is.
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
    ) -> None:
        self._experiment = experiment
        self._run = run
        self._policy = policy
        self._terms = terms
        self._regenerate = regenerate
        self._admits = admits
        self._named = named
        self._anew = anew
        self._calls = Calls(terms, str(run))
        self._prepared: _Prepared | None = None
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
                self._undo(keeping)
        except CannotWrite as error:
            return self._unchanged("failed", printable(str(error)))
        return self._not_run(reason)

    def objection(self, case: Case, audit: RunAudit) -> str:
        """Why the agent may not run, by what is known before anything is written; "" where it may."""
        if any(slot.complete for slot in audit.slots) and not self._named:
            return f"it has sound judgments, which another execution voids: name it, --scylla-select={self._run}"
        if not self._model:
            return "the configuration names no agent model"
        try:
            check_workspace(self._workspace_request(case, 1))
        except CannotPrepare as error:
            return str(error)
        return ""

    def _execute(self, keeping: Keeping) -> Executed | Waiting:
        case, audit = examine(self._experiment, self._run, self._policy)
        with pending.opened(keeping, self._run) as found:
            if found is not None and audit.status in TO_RUN and (ended := self._recover(found[0], case)):
                return self._store(keeping, *ended)
        if audit.status not in TO_RUN and not self._anew:
            return Executed(case, audit, ())
        if self._prepared is None and (reason := self.objection(case, audit)):
            return self._unchanged("refused", reason)
        terms, model = self._terms, self._model
        if reason := terms.stopped(model):
            return self._unchanged("refused", reason)
        now = datetime.now(timezone.utc)
        if pause := paused_until(self._experiment.root, terms.command, model, now):
            return Waiting(pause.until, pause.reason)
        attempt = attempts_at(keeping, case.evidence.folder.file) + 1
        try:
            reply = self._calls.make(keeping, model, attempt, partial(self._call, keeping, case))
        except AnotherFirst:
            return Waiting(now + _MOMENT, f"the first run of {printable(model)} tells what it costs")
        except NotGranted as refused:
            return self._not_run(str(refused))
        except CallLimit as limit:
            return self._calls.pause(keeping, model, limit)
        except CallFailed as failure:
            if failure.of_the_place:
                terms.note(model, failure)
                self._undo(keeping)
                return self._unchanged("failed", printable(str(failure)))
            reply = _broken_off(failure)
        terms.note_answer(model)
        assert self._prepared is not None
        return self._store(keeping, self._prepared.request, self._prepared.workspace, reply)

    # Preparing

    def _workspace_request(self, case: Case, attempt: int) -> WorkspaceRequest:
        place = self._experiment.root / case.evidence.folder.file
        return WorkspaceRequest(self._experiment, self._run, attempt, place)

    def _call(self, keeping: Keeping, case: Case) -> Called[AgentReply]:
        if self._prepared is None:
            try:
                self._prepared = self._prepare(keeping, case)
            except (CannotPrepare, CannotWrite, PromptLost) as error:
                raise _NotPrepared(str(error)) from error
        assert self._terms.agent is not None
        started = datetime.now(timezone.utc)
        reply = self._terms.agent(self._prepared.request)
        if reply.seconds is None:
            reply = _timed(reply, (datetime.now(timezone.utc) - started).total_seconds())
        return Called(reply, reply.cost_usd, reply.usage)

    def _prepare(self, keeping: Keeping, case: Case) -> _Prepared:
        """Archive the old attempt, and make all that a new one begins with."""
        place = case.evidence.folder.file
        config = configuration_record(keeping.experiment).data
        prompt = task_prompt(keeping.experiment, config.get("thinking_mode"))
        archived = archive_run(self._experiment, keeping, self._run, place)
        try:
            attempt = attempts_at(keeping, place) + 1
            assert self._terms.make_workspace is not None
            workspace = self._terms.make_workspace(self._workspace_request(case, attempt))
            self._write_prompt(keeping, place, prompt)
            found = pending.Pending(attempt, self._model, _digest(prompt), workspace.branch, workspace.base_commit)
            pending.begin(keeping, self._run, found)
        except BaseException:
            self._put_back(keeping, place, archived)
            raise
        return _Prepared(archived, workspace, self._agent_request(place, prompt, workspace, attempt, config))

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
        """Put the attempt before back in its place; what there is of this one goes to the archive."""
        if self._prepared is not None:
            case = examine(self._experiment, self._run, self._policy)[0]
            pending.end(keeping, self._run)
            self._put_back(keeping, case.evidence.folder.file, self._prepared.archived)
            self._prepared = None

    def _put_back(self, keeping: Keeping, place: str, archived: str | None) -> None:
        archive_run(self._experiment, keeping, self._run, place)
        if archived is not None:
            bring_back(self._experiment, keeping, self._run, archived, place)

    def _recover(self, found: pending.Pending, case: Case) -> tuple[AgentRequest, Workspace, AgentReply] | None:
        """An execution that came to its end while nobody was left to look after it."""
        recover = getattr(self._terms.agent, "recover", None)
        place = case.evidence.folder.file
        path = self._experiment.root / place / "workspace"
        if recover is None or found.model != self._model or not path.is_dir():
            return None
        workspace = Workspace(path, found.branch, found.base_commit)
        prompt_file = self._experiment.root / place / "agent" / "prompt.md"
        try:
            prompt = prompt_file.read_bytes()
        except OSError:
            return None
        if _digest(prompt) != found.prompt_sha256:
            return None
        request = self._agent_request(place, prompt, workspace, found.attempt, {})
        try:
            reply = recover(request)
        except CallTimeout as failure:
            reply = _broken_off(failure)
        except CallFailed:
            return None
        return None if reply is None else (request, workspace, reply)

    # Writing

    def _store(self, keeping: Keeping, request: AgentRequest, workspace: Workspace, reply: AgentReply) -> Executed:
        """Write the files of an execution; the prompt for its judges among them."""
        case, audit = examine(self._experiment, self._run, self._policy)
        try:
            changes = list_changes(self._experiment, workspace)
            names, diff = list(changes.names), changes.diff
        except CannotCompare as error:
            names, diff = [f"not known: {error}"], ""
        check = self._check(workspace)
        files = execution_files(
            reply,
            model=request.model,
            prompt=request.prompt,
            workspace=workspace.path,
            ended_at=datetime.now(timezone.utc),
            seconds=round(reply.seconds or 0.0, 3),
            environ=os.environ,
            task=keeping.experiment.read("prompt.md").data,
            judge_prompt=judge_prompt(keeping.experiment, reply.stdout, names, diff, check),
            write=written_like(case.evidence),
        )
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
        broken = [action for action in actions if action.level == "agents" and action.outcome == "failed"]
        ending: Ending = "done"
        reason = None
        if broken:
            ending, reason = "failed", broken[0].reason
        elif repaired.audit.status in TO_RUN:
            ending, reason = "failed", f"it ended as {repaired.audit.findings[0]}"
        if not broken:
            pending.end(keeping, self._run)
            self._prepared = None
            update_checkpoint(self._experiment, keeping, {self._run: "agent_complete" if ending == "done" else None})
        written = tuple(file for action in actions if action.level == "agents" for file in action.files)
        first = self._action(ending, reason, written, tuple(c.code for c in audit.findings if c.severity == "error"))
        follows = [action for action in actions if action.level != "agents" and action.outcome != "refused"]
        return Executed(repaired.case, repaired.audit, (first, *follows))

    def _check(self, workspace: Workspace) -> str | None:
        if not self._terms.check:
            return None
        done = run_command(
            self._terms.check, b"", environment=os.environ, timeout=self._terms.timeout, inside=workspace.path
        )
        how = f"exit code {done.exit_code}" if done.ended == "exited" else f"{done.ended} {done.reason}".strip()
        return f"{how}\n{(done.stdout + done.stderr)[-_MOST_TOLD:].decode('utf-8', 'replace')}"

    def _action(
        self, ending: Ending, reason: str | None, files: tuple[str, ...] = (), solved: tuple[str, ...] = ()
    ) -> Action:
        return Action(
            "agents",
            AGENT_RUN,
            ending,
            files=files,
            solved=solved if ending == "done" else (),
            sources=("prompt.md",) if files else (),
            reason=reason,
            calls=self._calls.made,
            cost_usd=self._calls.cost_usd,
            seconds=round(self._calls.seconds, 3),
        )

    def _unchanged(self, ending: Ending, reason: str, *, not_run: bool = False) -> Executed:
        case, audit = examine(self._experiment, self._run, self._policy)
        return Executed(case, audit, (self._action("failed" if self._calls.made else ending, reason),), not_run)

    def _not_run(self, reason: str) -> Executed:
        return self._unchanged("refused", f"not-run: {reason}", not_run=True)


_MOST_TOLD = 20_000
"""How many bytes of what a check printed a judge is told, of its end."""


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _timed(reply: AgentReply, seconds: float) -> AgentReply:
    return AgentReply(
        reply.stdout, reply.stderr, reply.exit_code, reply.command, reply.cost_usd, reply.usage, round(seconds, 3)
    )


def _broken_off(failure: CallFailed) -> AgentReply:
    """What there is to keep of an agent that did not come to its end for a reason of its own."""
    told = f"{printable(str(failure))}\n".encode()
    return AgentReply(failure.stdout, failure.stderr + told, exit_code=-1, cost_usd=failure.cost_usd)
