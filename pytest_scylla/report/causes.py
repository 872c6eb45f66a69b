"""Failing items by cause: how many, what that means, what to do, and what to type to look at one.

All texts that come from an experiment are printable by the time they get here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import wrap

import pytest

from ..auditing.findings import CODES
from ..experiment.wording import printable
from ..outcomes import WHOLES, AuditedExperiment, ItemOutcome, kind_of, run_of
from ..settings import Settings

MANY = 30
"""Above this many failing items they are listed by cause instead of one by one."""

EXAMPLES = 3


@dataclass
class Cause:
    """Failing items with the same kind, status, first finding and remedy, left for the same reason if for any.

    ``not_run`` is the reason why the session did not come to them, "" where it did. ``waiting`` are the judge slots of
    absent runs, which are no cause of their own.
    """

    kind: str
    status: str
    code: str
    remedy: str
    not_run: str = ""
    items: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How many they are, and what is wrong with them."""
        state = self.status + ", not run" * bool(self.not_run)
        if self.kind in WHOLES:
            return f"{self.kind} {state}: {self.code}"
        noun = self.kind.replace("_", " ")
        slots = f", with {len(self.waiting)} judge slots that wait for them" if self.waiting else ""
        return f"{len(self.items)} {noun}{'s' * (len(self.items) != 1)} {state}: {self.code}{slots}"

    @property
    def meaning(self) -> str:
        """What that means, in a sentence."""
        return CODES[self.code].meaning if self.code in CODES else "It was not looked at to the end."

    @property
    def told(self) -> list[str]:
        """What there is to say of it below its title, a line each."""
        not_run = [f"not run: {self.not_run}"] if self.not_run else []
        return [self.meaning, *not_run, self.examples, f"repair: {self.remedy}"]

    @property
    def examples(self) -> str:
        """The first of the items."""
        return ", ".join(self.items[:EXAMPLES]) + (", .." if len(self.items) > EXAMPLES else "")


class Listing:
    """Our own listing of failing items, where there are too many for a section each.

    pytest would print some five lines for each, and take seconds: it is replaced unless -v or --tb asks for it.
    ``is_printed`` says whether it was.
    """

    def __init__(
        self,
        reporter: pytest.TerminalReporter,
        experiments: Sequence[AuditedExperiment],
        settings: Settings,
    ) -> None:
        self._reporter = reporter
        self._experiments = experiments
        self._settings = settings
        self.is_printed = False

    @contextmanager
    def instead_of_failures(self) -> Iterator[None]:
        """While active, pytest's own summaries do not see the items that the listing, printed at the end, tells of."""
        stats = self._reporter.stats
        failed = stats.get("failed", [])
        ours = [report for report in failed if getattr(report, "scylla_outcome", None)]
        config = self._reporter.config
        if len(ours) <= MANY or config.get_verbosity() > 0 or config.option.tbstyle != "auto":
            yield
            return
        found = [(audited, causes(audited)) for audited in self._experiments]
        listed = {
            audited.nodeid(item_id)
            for audited, its_causes in found
            for cause in its_causes
            for item_id in (*cause.items, *cause.waiting)
        }
        hidden = {id(report) for report in ours if report.nodeid in listed}
        stats["failed"] = [report for report in failed if id(report) not in hidden]
        try:
            yield
        finally:
            stats["failed"] = failed
        if config.get_verbosity() >= -1:
            self._print(found, len(listed))

    def _print(self, found: Sequence[tuple[AuditedExperiment, list[Cause]]], items: int) -> None:
        self.is_printed = True
        self._reporter.write_sep("=", f"{items} items are not sound, by cause")
        width = self._reporter.config.get_terminal_writer().fullwidth
        for audited, its_causes in found:
            for line in causes_lines(audited, its_causes, self._settings, width):
                self._reporter.write_line(line)


def causes_lines(
    audited: AuditedExperiment, found: Sequence[Cause], settings: Settings, width: int = 80
) -> Iterator[str]:
    """The failing items of an experiment by cause: how many, three of them, what to do, what to type next.

    Only the command may be longer than ``width``: it is to be copied.
    """
    for cause in found:
        yield from fitting(cause.title, width, 4)
        for text in cause.told:
            yield from fitting(f"    {text}", width, 8)
        yield f"    look at one: {command_for(audited, cause.items[0], settings)}"
        yield ""


def fitting(text: str, width: int, indent: int) -> list[str]:
    """The lines of ``text`` in ``width`` columns, all but the first indented; only a word may be longer than that."""
    return wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def causes(audited: AuditedExperiment) -> list[Cause]:
    """The failing items of an experiment by cause, that of most items first."""
    found: dict[tuple[str, ...], Cause] = {}
    absent_runs: dict[str, Cause] = {}
    left_for = {
        run_of(item_id): reason for item_id, outcome in audited.outcomes.items() if (reason := _left_for(outcome))
    }
    for item_id in sorted(audited.outcomes):  # a run comes before its slots
        outcome = audited.outcomes[item_id]
        if outcome.outcome not in ("failed", "not-run", "crashed"):
            continue
        kind = kind_of(item_id)
        if outcome.status == "agent_failed" and (run := absent_runs.get(run_of(item_id))):
            run.waiting.append(item_id)
            continue
        not_run = ""
        if outcome.outcome == "not-run":
            # A run that waits for its slots is left for their reason.
            not_run = _left_for(outcome) or left_for.get(run_of(item_id), "the session did not come to it")
        key = (kind, outcome.status, _first_code(outcome), outcome.remedy, not_run)
        cause = found.setdefault(key, Cause(*key))
        cause.items.append(item_id)
        if kind == "run" and outcome.status in ("missing", "failed", "partial"):
            absent_runs[item_id] = cause
    return sorted(found.values(), key=lambda cause: (-len(cause.items), cause.kind, cause.code))


def _left_for(outcome: ItemOutcome) -> str:
    """The reason that passes for which the item was left; "" where there is none."""
    return next((action.left_for for action in outcome.actions if action.left_for), "")


def _first_code(outcome: ItemOutcome) -> str:
    for found in (*outcome.errors, *outcome.findings):
        return found.code
    return outcome.outcome


def command_for(audited: AuditedExperiment, item_id: str, settings: Settings) -> str:
    """The command that looks at one item."""
    words = ["pytest", f"--scylla-exp={audited.experiment.given}", f"--scylla-select={item_id}"]
    if settings.subtests is not None:
        words.append(f"--scylla-subtests={settings.subtests}")
    return printable(shlex.join(words), 1000)
