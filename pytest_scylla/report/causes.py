"""Failing items by cause: how many, what that means, what to do, and what to type to look at one.

All texts that come from an experiment are printable by the time they get here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    """Failing items with the same kind, status and first finding."""

    kind: str
    status: str
    code: str
    remedy: str
    items: list[str] = field(default_factory=list)
    with_slots: int = 0

    @property
    def title(self) -> str:
        """How many they are, and what is wrong with them."""
        if self.kind in WHOLES:
            return f"{self.kind} {self.status}: {self.code}"
        noun = self.kind.replace("_", " ")
        slots = f", with {self.with_slots} judge slots that wait for them" if self.with_slots else ""
        return f"{len(self.items)} {noun}{'s' * (len(self.items) != 1)} {self.status}: {self.code}{slots}"

    @property
    def meaning(self) -> str:
        """What that means, in a sentence."""
        return CODES[self.code].meaning if self.code in CODES else "It was not looked at to the end."

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
        """While active, pytest's own summaries do not see our failing items; the listing is printed instead."""
        stats = self._reporter.stats
        failed = stats.get("failed", [])
        ours = [report for report in failed if getattr(report, "scylla_outcome", None)]
        config = self._reporter.config
        if len(ours) <= MANY or config.get_verbosity() > 0 or config.option.tbstyle != "auto":
            yield
            return
        hidden = set(map(id, ours))
        stats["failed"] = [report for report in failed if id(report) not in hidden]
        try:
            yield
        finally:
            stats["failed"] = failed
        if config.get_verbosity() >= -1:
            self._print(len(ours))

    def _print(self, failing: int) -> None:
        self.is_printed = True
        self._reporter.write_sep("=", f"{failing} items are not sound, by cause")
        for audited in self._experiments:
            for line in causes_lines(audited, self._settings):
                self._reporter.write_line(line)


def causes_lines(audited: AuditedExperiment, settings: Settings) -> list[str]:
    """The failing items of an experiment by cause: how many, three of them, what to do, what to type next."""
    lines = []
    for cause in causes(audited):
        lines += [
            cause.title,
            f"    {cause.meaning}",
            f"    {cause.examples}",
            f"    repair: {cause.remedy}",
            f"    look at one: {command_for(audited, cause.items[0], settings)}",
            "",
        ]
    return lines


def causes(audited: AuditedExperiment) -> list[Cause]:
    """The failing items of an experiment by cause, that of most items first."""
    found: dict[tuple[str, str, str, str], Cause] = {}
    absent_runs: dict[str, Cause] = {}
    for item_id in sorted(audited.outcomes):  # a run comes before its slots
        outcome = audited.outcomes[item_id]
        if outcome.outcome not in ("failed", "crashed"):
            continue
        kind = kind_of(item_id)
        if outcome.status == "agent_failed" and (run := absent_runs.get(run_of(item_id))):
            run.with_slots += 1
            continue
        code = _first_code(outcome)
        cause = found.setdefault(
            (kind, outcome.status, code, outcome.remedy), Cause(kind, outcome.status, code, outcome.remedy)
        )
        cause.items.append(item_id)
        if kind == "run" and outcome.status in ("missing", "failed", "partial"):
            absent_runs[item_id] = cause
    return sorted(found.values(), key=lambda cause: (-len(cause.items), cause.kind, cause.code))


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
