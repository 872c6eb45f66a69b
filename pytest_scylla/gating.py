"""What decides about a session beside its items: requirements, a baseline, waivers; and what GitHub shows of it."""

from __future__ import annotations

import os
from collections.abc import Generator
from datetime import date, datetime, timezone
from typing import Any

import pytest

from .experiment.wording import printable
from .gate.baseline import Baseline, BaselineError, read_baseline
from .gate.conclusion import Conclusion, Ratchet
from .gate.waivers import Waiver, WaiverError, Waivers, read_waivers
from .invocation import Inside
from .outcomes import NOT_AUDITED, AuditedExperiment, outcome_word
from .report.counts import count
from .report.gate import Line, conclusion_lines, waiver_lines
from .settings import Settings, in_github

_TODAY, _WAIVERS = "scylla_today", "scylla_waivers"
_SELECTING = (
    ("keyword", "-k"),
    ("markexpr", "-m"),
    ("deselect", "--deselect"),
    ("lf", "--lf"),
    ("stepwise", "--sw"),
    ("maxfail", "-x or --maxfail"),
)
"""Options by which a session may look at less than everything."""


class Gate:
    """Reads waivers and baseline before anything runs, and concludes when everything has.

    Only failures of items may be forgiven, and each of them is counted: whatever else failed stays a failure.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        experiments: list[AuditedExperiment],
        roots: tuple[str, ...],
    ) -> None:
        """Read what the settings name; have the waivers apply.

        :raises pytest.UsageError: a file cannot be used, or what is asked for cannot be told of a selection.
        """
        self._config = config
        self._settings = settings
        self._experiments = experiments
        self._inside = Inside(config.invocation_params.dir, roots)
        self._worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._baseline: Baseline | None = None
        self._forgivable = 0
        self._interrupted = False
        self._session: pytest.Session | None = None
        self._told: list[str] = []
        if self._worker_input is None:
            self._today = datetime.now(timezone.utc).date()
            self._waivers = self._read_waivers()
            self._read_baseline()
            self._refuse_selections()
        else:
            # A worker of another host may find another ini file; what the controlling process says counts.
            self._today = date.fromisoformat(self._worker_input.get(_TODAY, date.max.isoformat()))
            self._waivers = tuple(map(Waiver.from_data, self._worker_input.get(_WAIVERS, ())))
        given = settings.gate.waivers
        self._all_waivers = Waivers(given.shown, self._waivers, self._today) if given is not None else None
        if not getattr(config.option, "runxfail", False):
            for audited in experiments:
                audited.waivers = self._all_waivers

    # What is given

    def _read_waivers(self) -> tuple[Waiver, ...]:
        given = self._settings.gate.waivers
        if given is None:
            return ()
        if self._inside(given.path):
            raise pytest.UsageError(
                f"--scylla-waivers={printable(given.shown)}: that lies inside an experiment, which cannot waive what "
                "is wrong with itself. Name a file outside of it"
            )
        try:
            return read_waivers(given)
        except WaiverError as error:
            raise pytest.UsageError(str(error)) from None

    def _read_baseline(self) -> None:
        given = self._settings.gate.baseline
        if given is None:
            return
        if self._inside(given.path):
            raise pytest.UsageError(
                f"--scylla-baseline={printable(given.shown)}: that lies inside an experiment, which cannot say how it "
                "stood. Name a file outside of it"
            )
        try:
            self._baseline = read_baseline(given)
            for audited in self._experiments:
                self._baseline.part_of(audited.experiment.config.experiment_id, audited.experiment.given)
        except BaselineError as error:
            raise pytest.UsageError(str(error)) from None

    def _refuse_selections(self) -> None:
        """Refuse what contradicts itself on a command line.

        Where the ini file takes part in it, a person may still look at one item, and the end of the session refuses.
        """
        options = self._config.option
        option = "--scylla-require" if options.scylla_require else "--scylla-ratchet" if options.scylla_ratchet else ""
        if option and options.scylla_select:
            glob = printable(options.scylla_select[0])
            raise pytest.UsageError(
                f"{option} is about all of an experiment: leave out --scylla-select={glob}, or {option}"
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Have an xdist worker apply the same waivers, as of the same day."""
        node.workerinput[_TODAY] = self._today.isoformat()
        node.workerinput[_WAIVERS] = [waiver.as_data() for waiver in self._waivers]

    # What happens

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the failures that are nothing but an item's own verdict."""
        data = getattr(report, "scylla_outcome", None)
        if report.failed and data is not None and report.when == "call" and not hasattr(report, "scylla_error"):
            self._forgivable += outcome_word(data) in ("failed", "not-run")

    def pytest_keyboard_interrupt(self) -> None:
        """Remember that somebody ended the session."""
        self._interrupted = True

    # The end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Conclude, and let that decide about the exit code, as far as nobody else already has."""
        if self._worker_input is not None or self._config.option.collectonly:
            return
        self._session = session
        self._conclude()
        held = all(audited.conclusion is not None and audited.conclusion.holds for audited in self._experiments)
        if session.exitstatus == pytest.ExitCode.OK and not held:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif session.exitstatus == pytest.ExitCode.TESTS_FAILED and held and self._forgives(session):
            session.exitstatus = pytest.ExitCode.OK
            items = "1 item is" if self._forgivable == 1 else f"{self._forgivable} items are"
            self._told.append(f"{items} not sound, and every requirement holds: exit code 0")
        if in_github():
            self._write_summary()

    def _forgives(self, session: pytest.Session) -> bool:
        """Whether requirements are all that counts: nothing failed but items, by their own verdict."""
        only_items = session.testsfailed == self._forgivable and not self._interrupted
        return only_items and bool(self._settings.gate.requirements)

    def _conclude(self) -> None:
        words = [dict(_words(audited)) for audited in self._experiments]
        uses: list[Any] = [()] * len(self._experiments)
        if self._all_waivers is not None:
            uses = list(self._all_waivers.uses(words))
        gate = self._settings.gate
        for audited, used in zip(self._experiments, uses, strict=True):
            refused = self._why_partial(audited)
            counts = count(audited)
            measured = (requirement.measure(counts) for requirement in gate.requirements)
            compared = ratchet = None
            if self._baseline is not None:
                from .report.json_file import experiment_part

                compared = self._baseline.compare(experiment_part(audited))
                if gate.ratchet:
                    unknown = f"{compared.not_compared} items cannot be compared" if compared.not_compared else ""
                    ratchet = Ratchet(len(compared.worse), refused or unknown)
            audited.conclusion = Conclusion(
                tuple(found.but_refused(refused) for found in measured), used, compared, ratchet
            )

    def _why_partial(self, audited: AuditedExperiment) -> str:
        """Why nothing can be said of the whole experiment; "" where everything was looked at."""
        if audited.experiment.unknown_tiers:
            return f"nothing says which subtests {', '.join(audited.experiment.unknown_tiers)} has"
        everything = list(audited.item_ids())
        left = sum(not audited.has_reported(item_id) for item_id in everything)
        if not left:
            return ""
        options = [option for name, option in _SELECTING if getattr(self._config.option, name, None)]
        options += ["--scylla-select"] * bool(self._settings.select)
        by = f" ({', '.join(options)})" if options else ""
        return f"{left} of {len(everything)} items did not run{by}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
        """Print what was concluded, and after everything else the annotations."""
        result = yield
        verbosity = self._config.get_verbosity()
        if self._config.option.collectonly:
            return result
        lines = list(self._lines(verbosity))
        if lines and verbosity >= -1:
            terminalreporter.write_sep("=", "gate")
        for line in lines:
            terminalreporter.write_line(line.text, red=line.fails)
        if in_github() and verbosity >= -1:
            self._print_annotations(terminalreporter)
        return result

    def _lines(self, verbosity: int) -> Generator[Line, None, None]:
        concluded = [(audited, audited.conclusion) for audited in self._experiments if audited.conclusion is not None]
        for audited, conclusion in concluded:
            for line in conclusion_lines(conclusion, verbosity):
                yield line._replace(text=f"{audited.name}: {line.text}") if len(self._experiments) > 1 else line
        yield from waiver_lines((use for _, conclusion in concluded for use in conclusion.waivers), verbosity)
        if verbosity >= -1:
            yield from map(Line, self._told)

    # GitHub

    def _print_annotations(self, reporter: pytest.TerminalReporter) -> None:
        from .report.github import annotate

        fails = self._session is None or self._session.exitstatus != pytest.ExitCode.OK
        workspace = os.environ.get("GITHUB_WORKSPACE")
        for annotation in annotate(self._experiments, self._settings, workspace, fails=fails):
            reporter.write_line(str(annotation))

    def _write_summary(self) -> None:
        """Append the summary of the job, if there is a file for it; that it could not be written fails nothing."""
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path or self._inside(path):
            return
        from .report.github import MAX_SUMMARY, cut_to_fit, summary

        try:
            with open(path, "ab") as file:
                file.write(cut_to_fit(summary(self._experiments), MAX_SUMMARY - file.tell()).encode())
        except OSError as error:
            self._told.append(f"job summary not written: {printable(path)}: {os.strerror(error.errno or 0)}")


def _words(audited: AuditedExperiment) -> Generator[tuple[str, str], None, None]:
    """The outcome of every item; "" of those that nobody looked at."""
    for item_id in audited.item_ids():
        found = audited.outcomes.get(item_id)
        yield item_id, "" if found is None or found.status == NOT_AUDITED else found.outcome
