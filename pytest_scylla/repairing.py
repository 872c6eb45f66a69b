"""What a session that repairs does beside auditing: look at everything first, set terms, give repaired items a word."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from .asking import Asking
from .auditing.run import garbage_collection_paused
from .calling.estimates import Estimate, estimates
from .calling.ledger import Allowance, Ledger
from .experiment.journal import calls_in
from .experiment.runner import live_runner
from .experiment.wording import printable
from .items import draft_items
from .judging.terms import JudgeTerms
from .nodes import ASKING, ItemOfRun
from .outcomes import AuditedExperiment, ItemOutcome, outcome_word
from .repair.actions import Action
from .running.terms import AgentTerms
from .scheduling import RunScheduling
from .settings import Settings
from .upkeep import UPKEEP, Upkeep, settle

_BEFORE, _SESSION, _ESTIMATES = "scylla_before", "scylla_session", "scylla_estimates"
_IN_ORDER = "scylla_in_order"


class RepairSession:
    """Audits everything before anything is repaired, in the one process whose audit all others take over."""

    def __init__(self, config: pytest.Config, settings: Settings, experiments: list[AuditedExperiment]) -> None:
        """Prepare the repair of ``experiments``.

        :raises pytest.UsageError: the runner of one of them is at work.
        """
        self._config = config
        self._settings = settings
        self._experiments = experiments
        self._worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
        repair = settings.repair
        assert repair is not None
        self._name: str = self._worker_input[_SESSION] if self._worker_input is not None else uuid.uuid4().hex
        timeouts = [audited.experiment.config.agent_timeout or 0 for audited in experiments]
        ledger = Ledger(
            experiments[0].experiment.root,
            self._name,
            Allowance(repair.budget_usd, repair.max_calls),
            stale_after=2 * max(repair.judge.timeout, *timeouts) + 600,
        )
        terms = JudgeTerms(
            "judge-call",
            ledger,
            repair.judge.timeout,
            repair.judge.backoff,
            attempts=settings.policy.attempts,
            retry=repair.retry,
            fallback=repair.judge.fallback,
        )
        agent_terms = AgentTerms(
            "agent-run",
            ledger,
            repair.judge.timeout,
            repair.judge.backoff,
            check=repair.agent.check,
            retry=repair.retry,
        )
        config.stash[ASKING] = self._asking = Asking(repair, terms, agent_terms)
        if repair.fresh:
            self._refuse_namesakes()
        if not (repair.plan_only or repair.anyway or config.option.collectonly) and self._worker_input is None:
            self._refuse_live_runners()

    def _refuse_namesakes(self) -> None:
        """Refuse to run anew a run that was named, but is in several experiments: somebody thought of one of them."""
        for name in self._settings.select:
            holders = [audited for audited in self._experiments if name in map(str, audited.experiment.runs())]
            if len(holders) > 1:
                given = ", ".join(printable(audited.experiment.given) for audited in holders)
                raise pytest.UsageError(
                    f"--repair-fresh: {name} is in {len(holders)} experiments ({given}); name one with --scylla-exp=DIR"
                )

    def _refuse_live_runners(self) -> None:
        for audited in self._experiments:
            if holder := live_runner(audited.experiment.root):
                raise pytest.UsageError(
                    f"{printable(audited.experiment.given)}: {holder}. Repair it when that has ended, "
                    "or add --repair-anyway if you know that nothing writes to it"
                )

    def pytest_report_header(self) -> str:
        """Say what a repair may do."""
        assert self._settings.repair is not None
        if self._settings.repair.plan_only:
            return "scylla: plan of a repair; nothing is written"
        level = self._settings.repair.level
        means = {"regenerate": "", "judges": ", by judge calls", "agents": ", by judge calls and agent runs"}
        return f"scylla: repairs at level {level}: from surviving files{means[level]}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Audit everything, or in an xdist worker take over what the controlling process found."""
        if self._config.option.collectonly:
            return
        for audited in self._experiments:
            if self._worker_input is not None:
                found = self._worker_input[_BEFORE][audited.name]
                audited.before = {item_id: ItemOutcome.from_data(data) for item_id, data in found.items()}
                settle(audited, self._settings)
                audited.in_order = self._worker_input[_IN_ORDER]
                audited.estimates, audited.agent_estimates = (
                    {model: Estimate(*values) for model, values in known.items()}
                    for known in self._worker_input[_ESTIMATES][audited.name]
                )
                self._take_estimates(audited)
                continue
            with garbage_collection_paused():
                for run in audited.experiment.runs():
                    outcomes = draft_items(audited, run, self._settings)
                    audited.before.update((item_id, outcomes[name]) for name, item_id in audited.items_of(run))
                for name, upkeep in UPKEEP.items():
                    audited.before[name] = upkeep.audit(audited, self._settings)
            settle(audited, self._settings)
            for item_id, outcome in audited.before.items():
                audited.keep_aside(item_id, outcome)
            if any(outcome.calls or outcome.exhausted for outcome in audited.before.values()):
                _estimate(audited)
                self._take_estimates(audited)

    def _take_estimates(self, audited: AuditedExperiment) -> None:
        """Let calls be made, and planned, by what they are estimated to take in this experiment."""
        for terms, known in zip(self._asking.both, (audited.estimates, audited.agent_estimates), strict=True):
            terms.estimates.update({(audited.experiment.root, model): found for model, found in known.items()})

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker what was found before the repair."""
        node.workerinput[_BEFORE] = {
            audited.name: {item_id: outcome.as_data() for item_id, outcome in audited.before.items()}
            for audited in self._experiments
        }
        node.workerinput[_SESSION] = self._name
        node.workerinput[_IN_ORDER] = self._config.getvalue("dist") == "load"
        node.workerinput[_ESTIMATES] = {
            audited.name: [
                {model: [found.seconds, found.cost_usd] for model, found in known.items()}
                for known in (audited.estimates, audited.agent_estimates)
            ]
            for audited in self._experiments
        }

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn which runs there are to work on, and how many calls that takes."""
        ours = [item for item in session.items if isinstance(item, ItemOfRun)]
        self._asking.runs = tuple(dict.fromkeys(item.parent for item in ours))
        self._count_calls((item.parent.experiment_node.audited, item.name, item.item_id) for item in ours)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Learn from a worker how many calls there are to be."""
        selected = set(ids)
        self._count_calls(
            (audited, name, item_id)
            for audited in self._experiments
            for run in audited.experiment.runs()
            for name, item_id in audited.items_of(run)
            if audited.nodeid(item_id) in selected
        )

    def _count_calls(self, items: Iterable[tuple[AuditedExperiment, str, str]]) -> None:
        """Count the calls for ``items``, each with its name and its id."""
        repair = self._settings.repair
        assert repair is not None
        self._asking.planned = sum(
            repair.calls_for(name, audited.before.get(item_id)) for audited, name, item_id in items
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Bring up to date what follows from the runs that were repaired, where no item did."""
        repair = self._settings.repair
        assert repair is not None
        if self._worker_input is not None or repair.plan_only:
            return
        distributed = self._config.pluginmanager.getplugin("dsession")
        if distributed is not None and not isinstance(distributed.sched, RunScheduling):
            self._mend_for_workers(session)
        if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self._look_again()

    def _look_again(self) -> None:
        """Audit what was not selected: repaired runs may have put it right, or out of date."""
        for audited in self._experiments:
            if any(action.outcome == "done" for _, action in audited.actions()):
                for name, upkeep in UPKEEP.items():
                    if not audited.has_reported(name):
                        audited.keep_aside(name, upkeep.audit(audited, self._settings).after(audited.before[name], ()))

    def _mend_for_workers(self, session: pytest.Session) -> None:
        """Mend what follows from runs where xdist's workers could not, since runs were still to be repaired."""
        for audited in self._experiments:
            for upkeep in UPKEEP.values():
                told = audited.outcomes.get(upkeep.item_id)
                if told is None or not told.sound or not audited.has_reported(upkeep.item_id):
                    continue
                if not self._mend(audited, upkeep, told.actions) and session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _mend(self, audited: AuditedExperiment, upkeep: Upkeep, actions: tuple[Action, ...]) -> bool:
        """Repair what a worker had left to this process, beside ``actions``; whether it may be as it is then."""
        assert self._settings.repair is not None
        found = upkeep.audit(audited, self._settings)
        if not upkeep.is_damaged(found):
            return True
        waived = found.outcome == "waived"
        if not waived and self._settings.repair.admits(upkeep.item_id, found.status):
            found, done = upkeep.repair(audited, self._settings)
            actions = (*actions, *done)
        audited.keep(upkeep.item_id, found.after(audited.before[upkeep.item_id], actions))
        return found.sound or waived

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Give a repaired item a word of its own; it passes. The letter R belongs to pytest-rerunfailures."""
        data = getattr(report, "scylla_outcome", None)
        if data is not None and report.when == "call" and outcome_word(data) == "repaired":
            return "repaired", "r", ("REPAIRED", {"cyan": True})
        return None


def _estimate(audited: AuditedExperiment) -> None:
    """Estimate what calls take and cost, by the experiment's own records and the journal."""
    config, calls = audited.experiment.config, list(calls_in(audited.experiment.root))
    costs = [(audited.agent_model, found.cost_usd) for found in audited.before.values() if found.cost_usd is not None]
    judged, executed = ([call for call in calls if call.what == what] for what in ("judge-call", "agent-run"))
    audited.estimates = estimates(config.judge_models, audited.judge_seconds, (), judged)
    audited.agent_estimates = estimates(config.agent_models, audited.agent_seconds, costs, executed)
