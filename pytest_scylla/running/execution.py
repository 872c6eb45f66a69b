"""Running the agent of a run again, up to the point where its judges can be asked.

Everything happens under the run's lock. The old attempt goes to the archive, a fresh workspace is made, the agent runs
in it, and its files are written, its output last; so a killed attempt counts as one that is to run, and an agent that
came to its end is not run again. One that could not run for a reason of the place (no command, no login, a limit, the
network, money) is no attempt: what was there before is there again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

from ..auditing.evidence import Policy
from ..auditing.run import RunAudit, examine
from ..auditing.status import Case
from ..calling.calls import Called, Calls, NotGranted, Waiting
from ..calling.failures import CallFailed
from ..experiment.checkpoint import State, update_checkpoint
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.locks import Held
from ..experiment.records import Folder, has_directory, open_experiment
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite
from ..repair.actions import NOT_RUN, Action, Ending
from ..repair.plan import Admits
from ..repair.request import Regenerate
from ..repair.transaction import run_locked
from . import pending
from .archive import attempts_at
from .attempt import Attempt, Ended, broken_off
from .contract import AgentReply, CannotPrepare
from .prompts import PromptLost, require_prompts
from .storing import store
from .terms import AgentTerms, executions_in
from .workspace import WORKSPACE, check_workspace

AGENT_RUN = "agent run"

TO_RUN = ("missing", "failed", "partial")
"""The statuses of a run whose agent is to run (again)."""

_ENDED = ("completed", "results")
"""The statuses of a run whose agent came to an end that can be judged."""


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
    made = False


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
        self._faults: tuple[str, ...] = ()
        self._model = next(iter(experiment.config.agent_models), "")
        self._attempt = Attempt(experiment, run, terms, self._model)

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
        return self._not_run(reason)

    def is_due(self, audit: RunAudit) -> bool:
        """Whether the agent is to run: it did not come to its end, or it is to run anew.

        One that ran anew and was not judged by all since, or that another session ran meanwhile, is not run once more
        for that: what it did is to be judged.
        """
        if audit.status in TO_RUN or not self._anew:
            return audit.status in TO_RUN
        times = (call.time for call in executions_in(self._experiment.root) if call.item == str(self._run))
        last = max(times, default=None)
        judged = all(slot.complete or slot.exhausted for slot in audit.slots)
        return last is None or (judged and last < self._terms.since)

    def objection(self, case: Case, audit: RunAudit, *, cloning: bool = False) -> str:
        """Why the agent may not run, by what is known before anything is moved; "" where it may.

        :param cloning: clone the task's repository where the experiment has lost its own.
        """
        if case.evidence.also_at:
            return f"it is also at {printable(case.evidence.also_at[0])}: remove one of them"
        name_it = f"name it, --scylla-select={self._run}"
        if any(slot.complete for slot in audit.slots) and not self._named:
            return f"it has sound judgments, which another execution voids: {name_it}"
        with open_experiment(self._experiment.root) as root:
            place = self._place(root, case)
            passed = self._attempt.recorded(root) == "passed"
            if passed and not self._named and has_directory(root, f"{place}/{WORKSPACE}"):
                return f"the checkpoint calls it passed, and its workspace is there: {name_it}"
            try:
                require_prompts(root)
            except PromptLost as lost:
                return f"{lost} (evidence-gone)"
        if not (self._named or self._terms.retry):
            ran = self._terms.executions(self._experiment, self._run)
            if ran >= self._policy.attempts:
                again = "--repair-retry runs it again"
                return f"exhausted: its agent ran {ran} times, and the run is {audit.status}; {again}"
        if not self._model:
            return "the configuration names no agent model"
        if self._own_workspaces:
            return ""
        try:
            if cloning:
                self._terms.clone_if_lost(self._experiment)
            check_workspace(self._attempt.workspace_request(place, 1))
        except CannotPrepare as error:
            return str(error)
        return ""

    def _execute(self, keeping: Keeping) -> Executed | Waiting:
        case, audit = examine(self._experiment, self._run, self._policy)
        place = self._place(keeping.experiment, case)
        self._faults = tuple(found.code for found in audit.findings if found.severity == "error")
        if audit.status in TO_RUN and (ended := self._attempt.recover(keeping, place)):
            return self._store(keeping, ended)
        if not self.is_due(audit):
            return Executed(case, audit, ())
        if reason := self.objection(case, audit, cloning=True):
            return self._unchanged("refused", reason)
        terms, model = self._terms, self._model
        if reason := terms.stopped(model):
            return self._unchanged("refused", printable(reason))
        number = attempts_at(keeping, place) + 1
        try:
            reply = self._calls.make(keeping, model, number, partial(self._call, keeping, place))
        except NotGranted as refused:
            self._attempt.undo(keeping)
            return self._not_run(str(refused))
        except _NotPrepared as failure:
            return self._give_back(keeping, "failed", str(failure))
        except CallFailed as failure:
            if failure.of_the_place:
                terms.note(model, failure)
                return self._give_back(keeping, "failed", str(failure))
            terms.note_answer(model)
            prepared = self._attempt.prepared
            assert prepared is not None
            return self._store(keeping, broken_off(prepared.request, prepared.workspace, failure))
        except BaseException:
            with suppress(CannotWrite):  # what was raised tells more
                self._attempt.undo(keeping)
            raise
        if isinstance(reply, Waiting):
            self._attempt.undo(keeping)  # a session may be killed while it waits
            return reply
        terms.note_answer(model)
        prepared = self._attempt.prepared
        assert prepared is not None
        return self._store(keeping, Ended(prepared.request, prepared.workspace, reply))

    def _place(self, root: Folder, case: Case) -> str:
        """Where the run lies, relative to the experiment; where it does not, beside the others of its subtest."""
        folder = case.evidence.folder
        if folder.state != "absent":
            return folder.file
        stages = self._experiment.stages[::-1]
        own = [f"{stage}/{self._run}".lstrip("/") for stage in stages]
        beside = [place for place in own if has_directory(root, place.rpartition("/")[0])]
        return next((place for place in own if has_directory(root, place)), (beside or own)[0])

    def _call(self, keeping: Keeping, place: str) -> Called[AgentReply]:
        try:
            prepared = self._attempt.make_ready(keeping, place)
        except (CannotPrepare, CannotWrite, PromptLost) as error:
            raise _NotPrepared(str(error)) from error
        assert self._terms.agent is not None
        started = datetime.now(timezone.utc)
        reply = self._terms.agent(prepared.request)
        if reply.seconds is None:
            reply = replace(reply, seconds=round((datetime.now(timezone.utc) - started).total_seconds(), 3))
        return Called(reply, reply.cost_usd, reply.usage)

    def _store(self, keeping: Keeping, ended: Ended) -> Executed:
        """Write the files of an execution, and record in the checkpoint how far the run is."""
        try:
            repaired = store(
                self._experiment,
                self._run,
                self._policy,
                ended,
                keeping,
                terms=self._terms,
                regenerate=self._regenerate,
                admits=self._admits,
            )
        except PromptLost as lost:
            return self._unchanged("failed", f"{lost}; what the agent printed is kept until it is there again")
        actions = [action for done in repaired.actions.values() for action in done]
        written = [action for action in actions if action.level == "agents"]
        ending: Ending = "done"
        reason = ended.reason
        if broken := [action for action in written if action.outcome == "failed"]:
            ending, reason = "failed", broken[0].reason
        else:
            if repaired.audit.status not in _ENDED:
                ending, reason = "failed", reason or f"it ended as {repaired.audit.findings[0]}"
            self._attempt.finish(keeping)
            with suppress(CannotWrite):  # what cannot be recorded is told by the checkpoint's own item
                state: State | None = "agent_complete" if ending == "done" else None
                update_checkpoint(self._experiment, keeping, {self._run: state})
        first = self._action(ending, reason, tuple(file for action in written for file in action.files))
        follows = [action for action in actions if action.level != "agents" and action.outcome != "refused"]
        return Executed(repaired.case, repaired.audit, (first, *follows))

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
        self._attempt.undo(keeping)
        return self._unchanged(ending, printable(reason))

    def _unchanged(self, ending: Ending, reason: str, *, not_run: bool = False) -> Executed:
        case, audit = examine(self._experiment, self._run, self._policy)
        action = self._action("failed" if self._calls.made and not not_run else ending, reason)
        return Executed(case, audit, (action,), not_run)

    def _not_run(self, reason: str) -> Executed:
        return self._unchanged("refused", f"{NOT_RUN}{reason}", not_run=True)


def tidy_up(experiment: Experiment, run: RunId, policy: Policy) -> None:
    """Remove what a session that was killed left of an execution all of whose files are in their place.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with suppress(CannotWrite, Held), run_locked(experiment, run, wait=False) as keeping:
        if examine(experiment, run, policy)[1].status in _ENDED:
            pending.end(keeping, run)
