"""How the items of a session ask their judges: on common terms, and while a limit holds, other work first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .auditing.run import examine
from .calling.calls import Waiting
from .calling.pauses import pause_file, pauses
from .experiment.errors import ExperimentGone
from .experiment.locks import Held
from .items import gone, outcomes_after, record_run
from .judging.slot import JUDGE_CALL, Judged, SlotJudging
from .repair.actions import NOT_RUN, Action
from .running.execution import AGENT_RUN, RunExecution, tidy_up
from .settings import MOST_UNASKED

if TYPE_CHECKING:
    from .calling.terms import Terms
    from .items import Actions
    from .judging.contract import Judge
    from .judging.terms import JudgeTerms
    from .nodes import RunNode
    from .repair.actions import Level
    from .repair.request import Regenerate
    from .running.contract import Agent, MakeWorkspace
    from .running.terms import AgentTerms
    from .settings import RepairSettings

_MOMENT = timedelta(seconds=1)
"""What is over within this is waited for in any case, such as a call that tells what others cost."""

_TICK = 1.0
"""How long to sleep, in seconds, before looking again whether a limit still holds: it may be lifted, or extended."""


class Asking:
    """What the items of one process share when they ask judges, or run agents.

    ``runs`` are the session's, and ``planned`` the calls that its selection takes, once that is known.
    """

    def __init__(self, repair: RepairSettings, terms: JudgeTerms, agent_terms: AgentTerms) -> None:
        self.repair = repair
        self.terms = terms
        self.agent_terms = agent_terms
        self.runs: tuple[RunNode, ...] = ()
        self.planned = 0
        self._begun: dict[tuple[RunNode, str], SlotJudging] = {}
        self._broken: dict[tuple[RunNode, str], Exception] = {}

    @property
    def both(self) -> tuple[Terms, Terms]:
        """The terms of judge calls, and of agent runs."""
        return self.terms, self.agent_terms

    @property
    def held_back(self) -> str:
        """Why nobody is asked at all; "" where they are."""
        allowed = self.repair.budget_usd is not None or self.repair.max_calls is not None
        if allowed or self.planned <= MOST_UNASKED:
            return ""
        kinds = "judge calls and agent runs" if self.repair.runs_agents else "judge calls"
        return (
            f"{NOT_RUN}{self.planned} {kinds} are planned, more than {MOST_UNASKED}; "
            "allow them with --repair-max-calls=N or --repair-budget=USD"
        )

    def judge(self, run: RunNode, slot: str, judge: Judge, regenerate: Regenerate) -> list[RunNode]:
        """Judge the slot ``slot`` ("judge_01") of a run; return the further runs that were worked on meanwhile.

        While a limit keeps it from being asked about, whatever else there is to do in the session is done. A limit that
        takes longer than the session is to wait leaves the slot as it is.
        """
        self.terms.take(judge)
        if error := self._broken.get((run, slot)):
            raise error  # it was asked, on behalf of another item or when this one ran before
        work = self._judging(run, slot, regenerate)
        try:
            result, elsewhere = self._finish(work, run, slot, regenerate)
        except ExperimentGone as error:
            run.take(gone(run.experiment_node.audited, run.run, error), slot, ())
            return []
        except Exception as error:
            self._broken[run, slot] = error
            raise
        self._note(run, slot, result)
        return elsewhere

    def is_broken(self, run: RunNode, slot: str) -> bool:
        """Whether the judge raised something when it was asked about a slot."""
        return (run, slot) in self._broken

    def execute(
        self, run: RunNode, agent: Agent, make_workspace: MakeWorkspace, judge: Judge, regenerate: Regenerate
    ) -> list[RunNode]:
        """Run a run's agent again, in the same way."""
        self.terms.take(judge)
        self.agent_terms.take(agent, make_workspace)
        node = run.experiment_node
        work = self._execution(run, regenerate)
        try:
            result, elsewhere = self._finish(work, run, "run", regenerate)
        except ExperimentGone as error:
            run.take(gone(node.audited, run.run, error), "run", ())
            return []
        run.take(outcomes_after(node.audited, result.case, result.audit, node.settings), "run", result.actions)
        if result.not_run:
            run.leave("run")
        return elsewhere

    def plan_execution(self, run: RunNode, regenerate: Regenerate, reason: str | None = None) -> Actions:
        """Plan the agent's run, and the judge calls behind it; ``reason`` is why it is not carried out, if so.

        Nothing is planned where it has run already.
        """
        node = run.experiment_node
        case, audit = examine(node.audited.experiment, run.run, node.settings.policy)
        execution = self._execution(run, regenerate)
        if not execution.is_due(audit):
            return {}
        if objection := execution.objection(case, audit):
            return {"run": (Action("agents", AGENT_RUN, "refused", reason=objection),)}
        root = node.audited.experiment.root
        planned = {"run": (_planned("agents", AGENT_RUN, self.agent_terms, root, node.audited.agent_model, reason),)}
        for slot in sorted(run.admitted - {"run"}):
            planned[slot] = (_planned("judges", JUDGE_CALL, self.terms, root, _model_of(run, slot), reason),)
        return planned

    def _execution(self, run: RunNode, regenerate: Regenerate) -> RunExecution:
        node = run.experiment_node
        return RunExecution(
            node.audited.experiment,
            run.run,
            node.settings.policy,
            self.agent_terms,
            regenerate,
            run.admitted.__contains__,
            named=run.is_named,
            anew=run.is_named and self.repair.fresh,
            own_workspaces=not node.makes_workspaces_as_shipped,
        )

    def _finish(
        self, work: SlotJudging | RunExecution, run: RunNode, item: str, regenerate: Regenerate
    ) -> tuple[Any, list[RunNode]]:
        """Proceed with the work on an item until it is done, or its model is not to be waited for any longer."""
        elsewhere: list[RunNode] = []
        terms: Terms
        if item == "run":
            terms, model = self.agent_terms, run.experiment_node.audited.agent_model
        else:
            terms, model = self.terms, _model_of(run, item)
        while isinstance(result := work.proceed(), Waiting):
            now, begun = datetime.now(timezone.utc), time.monotonic()
            patience = timedelta(seconds=self.repair.max_wait) - terms.waited(model)
            if result.until > now + max(patience, _MOMENT):
                until, file = result.until.isoformat(timespec="seconds"), pause_file(terms.command, model)
                return work.give_up(f"{result.reason}; until {until}, or until {file} is deleted"), elsewhere
            other = self._do_other_work(run, item, regenerate)
            if other is None:
                time.sleep(max(0.0, min((result.until - now).total_seconds(), _TICK)))
            elif other is not run and other not in elsewhere:
                elsewhere.append(other)
            terms.note_wait(model, timedelta(seconds=time.monotonic() - begun))
        return result, elsewhere

    def _judging(self, run: RunNode, slot: str, regenerate: Regenerate) -> SlotJudging:
        node = run.experiment_node
        experiment = node.audited.experiment
        slot_id = next(slot_id for slot_id, _ in experiment.slots(run.run) if slot_id.name == slot)
        admits = run.admitted.__contains__
        # One that met a limit goes on with what it counted.
        work = self._begun.setdefault(
            (run, slot), SlotJudging(experiment, slot_id, node.settings.policy, self.terms, regenerate, admits)
        )
        work.regenerate = regenerate
        return work

    def _note(self, run: RunNode, slot: str, judged: Judged) -> None:
        node = run.experiment_node
        run.take(outcomes_after(node.audited, judged.case, judged.audit, node.settings), slot, judged.actions)
        run.judged.add(slot)
        if judged.not_run:
            run.leave(slot)
        elif self.repair.runs_agents and not run.slots_to_judge:
            record_run(node.audited, judged.audit)
            tidy_up(node.audited.experiment, run.run, node.settings.policy)

    def _do_other_work(self, waiting: RunNode, waiting_item: str, regenerate: Regenerate) -> RunNode | None:
        """Do one more thing than wait; return the run that it was done to, ``None`` where there is nothing to do."""
        others = [run for run in self.runs if run is not waiting]
        for run in others:
            if run.may_be_repaired and (run, "run") not in self._broken:
                try:
                    run.repair(regenerate, wait=False)
                except Held:
                    continue
                except Exception as error:  # an item of that run tries again, and shows it
                    self._broken[run, "run"] = error
                    continue
                return run
        if waiting_item == "run":  # whose own slots are to be judged by what its agent leaves
            model, left = None, self._left(others)
        else:
            model, left = _model_of(waiting, waiting_item), self._left((waiting, *others))
        paused = cache(self._paused_models)
        for run, slot in left:
            of_slot, root = _model_of(run, slot), run.experiment_node.audited.experiment.root
            if of_slot != model and of_slot not in paused(root):
                try:
                    result = self._judging(run, slot, regenerate).proceed(wait=False)
                except (Held, ExperimentGone):
                    continue
                except Exception as error:  # the slot's own item shows it
                    self._broken[run, slot] = error
                    continue
                if isinstance(result, Judged):
                    self._note(run, slot, result)
                    return run
        return None

    def _left(self, runs: Iterable[RunNode]) -> Iterator[tuple[RunNode, str]]:
        for run in runs:
            for slot in run.slots_to_judge:
                if (run, slot) not in self._broken:
                    yield run, slot

    def _paused_models(self, root: Path) -> frozenset[str]:
        held = pauses(root, datetime.now(timezone.utc))
        return frozenset(pause.model for pause in held if pause.command == self.terms.command)


def _planned(level: Level, what: str, terms: Terms, root: Path, model: str, reason: str | None) -> Action:
    estimate = terms.estimate(root, model)
    return Action(level, what, "planned", reason=reason, calls=1, cost_usd=estimate.cost_usd, seconds=estimate.seconds)


def _model_of(run: RunNode, slot: str) -> str:
    return run.experiment_node.audited.model_of(slot)
