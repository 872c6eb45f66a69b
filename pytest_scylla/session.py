"""A session that audits experiments: the hooks that act once an experiment is asked for."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from .auditing.run import garbage_collection_paused
from .experiment.errors import ExperimentError
from .experiment.expected import load_experiment
from .experiment.layout import TIER, run_named_in
from .invocation import Inside
from .nodes import ExperimentNode, InvocationDirectory, RunNode, ScyllaItem, WholeItem, runs_behind_their_slots
from .outcomes import NOT_AUDITED, WHOLES, AuditedExperiment, ItemOutcome, Selection, unique_names
from .protocol import attach_outcome, user_properties
from .report import terminal
from .report.causes import Listing
from .settings import Settings


class AuditSession:
    """Collects the experiments, keeps what is learned about their items, and reports it."""

    def __init__(self, config: pytest.Config, settings: Settings, roots: tuple[str, ...]) -> None:
        """Load the experiments.

        :raises pytest.UsageError: one of them cannot be audited, or a selection matches nothing.
        """
        here = config.invocation_params.dir
        self._config = config
        self._settings = settings
        self._inside = Inside(here, roots)
        selection = Selection(settings.select)
        names = unique_names([str(here / root) for root in roots])
        try:
            subtests = None if settings.subtests is None else here / settings.subtests
            loaded = [load_experiment(here / root, subtests=subtests, given=root) for root in roots]
        except ExperimentError as error:
            raise pytest.UsageError(str(error)) from None
        self.experiments = [
            AuditedExperiment(name, experiment, selection) for name, experiment in zip(names, loaded, strict=True)
        ]
        self._refuse_empty_selection(selection)
        self._interrupted = False
        self._unwritten: list[str] = []
        self._shows_paths: bool | None = None

    def _refuse_empty_selection(self, selection: Selection) -> None:
        for glob in selection.globs:
            single = Selection((glob,))
            if not any(item_id in single for audited in self.experiments for item_id in audited.item_ids()):
                raise pytest.UsageError(
                    f"--scylla-select={glob!r} matches no run, no judge slot and none of {', '.join(WHOLES)}; "
                    "ids look like T5/13/run_10 and T5/13/run_10/judge_01"
                )

    def locate(self, nodeid: str) -> tuple[AuditedExperiment, str] | None:
        """The experiment and the item id that a node id stands for, if it is one of ours."""
        path, _, name = nodeid.partition("::")
        for audited in self.experiments:
            if path.startswith(audited.name + "/"):
                item_id = path[len(audited.name) + 1 :]
                if item_id == name and item_id in WHOLES:
                    return audited, item_id
                if item_id == run_named_in(item_id) or TIER.fullmatch(item_id):  # a test file may lie at such a path
                    return audited, f"{item_id}/{name}" if name.startswith("judge_") else item_id
        return None

    # Collection

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect the invocation directory as the place of the experiments, if nothing in it was asked for."""
        if path == self._config.invocation_params.dir and not self._config.known_args_namespace.file_or_dir:
            directory: pytest.Collector = InvocationDirectory.from_parent(parent, path=path)
            return directory
        if self._inside(path):  # above an invocation directory inside an experiment: not even an __init__.py counts
            return pytest.Dir.from_parent(parent, path=path)
        return None

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Never collect what lies inside an experiment; it may be below a directory that is collected."""
        here = self._config.invocation_params.dir
        if self._inside(collection_path) and collection_path != here and collection_path not in here.parents:
            return True
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the experiments to what the session collected."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            host = self._host(collector, report.result)
            report.result = [
                *report.result,
                *(ExperimentNode.make(host, audited, self._settings) for audited in self.experiments),
            ]
        return report

    def _host(self, session: pytest.Session, collected: list[pytest.Item | pytest.Collector]) -> pytest.Collector:
        """The node of the invocation directory, which has the fixtures of its conftest.py; else the session."""
        here = self._config.invocation_params.dir
        for node in collected:
            for above in node.listchain():
                if isinstance(above, pytest.Directory) and above.path == here:
                    return above
        return session

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Collect without looking for garbage: what collecting makes is there to stay."""
        with garbage_collection_paused():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        """Let what follows from others come after them, whatever order others made of the items.

        A run's verdict follows from its slots where these may be repaired; what follows from runs has its own order.
        """
        result = yield
        if self._settings.repair is not None:
            items[:] = runs_behind_their_slots(items)
        wholes = [item for item in items if isinstance(item, WholeItem)]
        for item in sorted(wholes, key=lambda item: WHOLES.index(item.item_id)):
            node = item.parent.experiment_node
            ours = (isinstance(other, ScyllaItem) and other.parent.experiment_node is node for other in items)
            last = max(index for index, is_ours in enumerate(ours) if is_ours)
            items.insert(last, items.pop(items.index(item)))
        return result

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count what was selected."""
        ours = [item for item in session.items if isinstance(item, ScyllaItem)]
        self._count_selected(item.nodeid for item in ours)
        for item in ours:
            if item.get_closest_marker("skip") is None:
                item.parent.selected.add(item.name)
        # Items live to the session's end. Frozen, they are not walked again whenever the many small objects of an audit
        # make Python look for garbage, which costs a tenth of the whole.
        gc.freeze()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Count what was selected, as a worker tells; all workers tell the same."""
        self._count_selected(ids)

    def _count_selected(self, nodeids: Iterable[str]) -> None:
        for audited in self.experiments:
            audited.selected = 0
        for nodeid in nodeids:
            located = self.locate(nodeid)
            if located is not None and located[1] not in WHOLES:
                located[0].selected += 1

    # Running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Let the terminal show one line of letters per experiment, where it would begin a line for every run."""
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        if self._shows_paths is None:
            self._shows_paths = reporter.showfspath and not reporter.showlongtestinfo
        if self._shows_paths:
            located = self.locate(nodeid)
            reporter.showfspath = located is None
            if located is not None:
                reporter.write_ensure_prefix(f"{located[0].name} ", "")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Send an item's outcome along with the report of its call."""
        if isinstance(item, ScyllaItem) and call.when == "call":
            item.user_properties.extend(user_properties(item))
        report = yield
        if isinstance(item, ScyllaItem) and call.when == "call" and report.passed is item.outcome.sound:
            attach_outcome(report, item, call)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep an item's outcome."""
        data = getattr(report, "scylla_outcome", None)
        if data is None and not (report.failed and report.when != "teardown"):
            return
        if located := self.locate(report.nodeid):
            audited, item_id = located
            # Without data, a worker died, or a fixture of someone else failed: the item was not looked at.
            audited.keep(item_id, ItemOutcome(NOT_AUDITED, "crashed") if data is None else ItemOutcome.from_data(data))
            for nodeid, other in getattr(report, "scylla_others", {}).items():
                if located := self.locate(nodeid):
                    located[0].keep_aside(located[1], ItemOutcome.from_data(other))

    # Reporting

    def pytest_report_header(self) -> list[str]:
        """Say what is going to be audited."""
        return [line for audited in self.experiments for line in terminal.header(audited)]

    def pytest_keyboard_interrupt(self) -> None:
        """Remember an interruption for the report."""
        self._interrupted = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the reports."""
        if hasattr(self._config, "workerinput") or self._config.option.collectonly:
            return
        interrupted = self._interrupted or exitstatus == pytest.ExitCode.INTERRUPTED
        stopped = bool(session.shouldfail or session.shouldstop) or exitstatus == pytest.ExitCode.INTERNAL_ERROR
        stopped = stopped or any(audited.stopped_short for audited in self.experiments)
        if self._settings.reports:
            from .report import json_file

            report = json_file.make(self.experiments, interrupted=interrupted, stopped=stopped or interrupted)
        for path in self._settings.reports:
            try:
                json_file.write(path, report)
            except OSError as error:
                self._unwritten.append(f"{path}: {os.strerror(error.errno or 0)}")
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Print the summary; and where many items failed, our own listing instead of one section each."""
        if self._config.option.collectonly:
            return (yield)
        listed = Listing(terminalreporter, self.experiments, self._settings)
        with listed.instead_of_failures():
            result = yield
        terminal.summary(terminalreporter, self.experiments, self._settings, listed=listed.is_printed)
        for problem in self._unwritten:
            terminalreporter.write_line(f"report not written: {problem}", red=True)
        return result


class RunCollection:
    """Collects runs by itself, so that --last-failed finds them.

    It skips every file without a failure once it saw one with; but it tells files by a path below rootdir made from
    the node id, and that is nowhere where an experiment lies elsewhere, or a run is absent.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Collect a run, before anybody else declines to."""
        if isinstance(collector, RunNode):
            return pytest.CollectReport(collector.nodeid, "passed", None, list(collector.collect()))
        return None
