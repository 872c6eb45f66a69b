"""What a session that repairs does beside auditing: look at everything first, and give repaired items a word."""

from __future__ import annotations

from typing import Any

import pytest

from .auditing.run import garbage_collection_paused
from .experiment.runner import live_runner
from .experiment.wording import printable
from .items import draft_items
from .options import Settings
from .outcomes import AuditedExperiment, ItemOutcome, outcome_word

_BEFORE = "scylla_before"


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
        if not (repair.plan_only or repair.anyway or config.option.collectonly) and self._worker_input is None:
            self._refuse_live_runners()

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
        return f"scylla: repairs at level {self._settings.repair.level}: files from surviving files, no call to anybody"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Audit everything, or in an xdist worker take over what the controlling process found."""
        if self._config.option.collectonly:
            return
        for audited in self._experiments:
            if self._worker_input is not None:
                found = self._worker_input[_BEFORE][audited.name]
                audited.before = {item_id: ItemOutcome.from_data(data) for item_id, data in found.items()}
                continue
            with garbage_collection_paused():
                for run in audited.experiment.runs():
                    outcomes = draft_items(audited, run, self._settings)
                    audited.before.update((item_id, outcomes[name]) for name, item_id in audited.items_of(run))
            for item_id, outcome in audited.before.items():
                audited.keep_aside(item_id, outcome)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker what was found before the repair."""
        node.workerinput[_BEFORE] = {
            audited.name: {item_id: outcome.as_data() for item_id, outcome in audited.before.items()}
            for audited in self._experiments
        }

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Give a repaired item a word of its own; it passes. The letter R belongs to pytest-rerunfailures."""
        data = getattr(report, "scylla_outcome", None)
        if data is not None and report.when == "call" and outcome_word(data) == "repaired":
            return "repaired", "r", ("REPAIRED", {"cyan": True})
        return None
