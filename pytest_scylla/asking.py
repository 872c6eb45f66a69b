"""How the items of a session ask their judges: on common terms, and while a limit holds, other work first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .calling.calls import Waiting
from .calling.pauses import pauses
from .experiment.errors import ExperimentGone
from .experiment.locks import Held
from .items import gone, judged_items
from .judging.slot import Judged, SlotJudging

if TYPE_CHECKING:
    from .judging.contract import Judge
    from .judging.terms import JudgeTerms
    from .nodes import RunNode
    from .repair.request import Regenerate
    from .settings import RepairSettings

MOST_UNASKED = 50
"""More judge calls than these are not made before somebody said how many, or for how much."""

_TICK = 1.0
"""How long to sleep, in seconds, before looking again whether a limit still holds: it may be lifted, or extended."""


class Asking:
    """What the items of one process share when they ask judges.

    ``runs`` are the session's, and ``planned`` the judge calls that its selection takes, once that is known.
    """

    def __init__(self, repair: RepairSettings, terms: JudgeTerms) -> None:
        self._repair = repair
        self.terms = terms
        self.runs: tuple[RunNode, ...] = ()
        self.planned = 0

    @property
    def held_back(self) -> str:
        """Why no judge is asked at all; "" where they are."""
        allowed = self._repair.budget_usd is not None or self._repair.max_calls is not None
        if allowed or self.planned <= MOST_UNASKED:
            return ""
        return (
            f"not-run: {self.planned} judge calls are planned, more than {MOST_UNASKED}; "
            "allow them with --repair-max-calls=N or --repair-budget=USD"
        )

    def judge(self, run: RunNode, slot: str, judge: Judge, regenerate: Regenerate) -> list[RunNode]:
        """Judge the slot ``slot`` ("judge_01") of a run; return the further runs that were worked on meanwhile.

        While a limit keeps it from being asked about, whatever else there is to do in the session is done. A limit that
        takes longer than the session is to wait leaves the slot as it is.
        """
        self.terms.take(judge)
        work = self._work(run, slot, regenerate)
        elsewhere: list[RunNode] = []
        latest: datetime | None = None
        try:
            while isinstance(result := work.proceed(), Waiting):
                now = datetime.now(timezone.utc)
                latest = latest or now + timedelta(seconds=self._repair.max_wait)
                if result.until > latest:
                    result = work.give_up(f"{result.reason}; until {result.until.isoformat(timespec='seconds')}")
                    break
                other = self._do_other_work(run, slot, regenerate)
                if other is None:
                    time.sleep(max(0.0, min((result.until - now).total_seconds(), _TICK)))
                elif other is not run and other not in elsewhere:
                    elsewhere.append(other)
        except ExperimentGone as error:
            run.take(gone(run.experiment_node.audited, run.run, error), slot, ())
            return elsewhere
        self._note(run, slot, result)
        return elsewhere

    def _work(self, run: RunNode, slot: str, regenerate: Regenerate) -> SlotJudging:
        node = run.experiment_node
        experiment = node.audited.experiment
        slot_id = next(slot_id for slot_id, _ in experiment.slots(run.run) if slot_id.name == slot)
        return SlotJudging(experiment, slot_id, node.settings.policy, self.terms, regenerate, run.admitted.__contains__)

    def _note(self, run: RunNode, slot: str, judged: Judged) -> None:
        audited = run.experiment_node.audited
        run.take(judged_items(audited, judged, run.experiment_node.settings), slot, judged.actions)
        run.judged.add(slot)
        if judged.not_run:
            run.leave(slot)

    def _do_other_work(self, waiting: RunNode, waiting_slot: str, regenerate: Regenerate) -> RunNode | None:
        """Do one more thing than wait; return the run that it was done to, ``None`` where there is nothing to do."""
        others = [run for run in self.runs if run is not waiting]
        for run in others:
            if run.may_be_repaired:
                try:
                    run.repair(regenerate, wait=False)
                except Held:
                    continue
                return run
        model = _model_of(waiting, waiting_slot)
        for run, slot in self._left((waiting, *others)):
            if _model_of(run, slot) != model and not self._is_paused(run, slot):
                try:
                    result = self._work(run, slot, regenerate).proceed(wait=False)
                except Held:
                    continue
                if isinstance(result, Judged):
                    self._note(run, slot, result)
                    return run
        return None

    def _left(self, runs: Iterable[RunNode]) -> Iterator[tuple[RunNode, str]]:
        for run in runs:
            for slot in run.slots_to_judge:
                yield run, slot

    def _is_paused(self, run: RunNode, slot: str) -> bool:
        root = run.experiment_node.audited.experiment.root
        held = pauses(root, datetime.now(timezone.utc))
        return any((pause.command, pause.model) == (self.terms.command, _model_of(run, slot)) for pause in held)


def _model_of(run: RunNode, slot: str) -> str:
    return run.experiment_node.audited.model_of(slot)
