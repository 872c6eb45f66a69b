"""What a person reads on the terminal: header, listing of failures by cause, summary.

All texts that come from an experiment are printable by the time they get here: names of models are quoted, findings
are made so (see :mod:`..experiment.wording`).
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ..auditing.experiment import audit_experiment
from ..auditing.findings import CODES, RUN_STATUSES, SLOT_STATUSES, Finding
from ..experiment.keeping import KEEPING
from ..experiment.layout import CHECKPOINT
from ..experiment.wording import printable
from ..outcomes import CHECKPOINT_ID, NOT_AUDITED, AuditedExperiment, ItemOutcome, kind_of, run_of
from ..repair.actions import Action, Level
from ..settings import Settings
from .counts import Counts, count
from .item import action_line, duration, money, total_cost, total_seconds

MANY = 30
"""Above this many failing items they are listed by cause instead of one by one."""

_ALWAYS_SHOWN = {
    "runs": ("completed", "results", "failed", "partial", "missing"),
    "judge_slots": ("complete", "missing", "failed", "agent_failed"),
    "one slot": ("complete", "missing", "failed"),
}
_EXAMPLES = 3
_CALLED: dict[Level, tuple[tuple[str, str], str, str, str]] = {
    "agents": (("ran agents", "would run agents"), "run", "agent", "came to an end"),
    "judges": (("asked judges", "would ask judges"), "call", "slot", "judged"),
}
_NEEDS: dict[Level | None, str] = {
    "regenerate": "that surviving files may put right",
    "judges": "for which a judge has to be asked",
    "agents": "for which the agent has to run again",
    None: "that no repair can put right",
}
_EXHAUSTED = "for which a judge was asked as often as allowed (--repair-retry asks again)"


def header(audited: AuditedExperiment) -> list[str]:
    """Say what is going to be audited, and on what ground it is expected."""
    experiment = audited.experiment
    runs, judges = experiment.expected_runs, experiment.judges_per_run
    source = "as defined" if experiment.expected_from == "tiers" else "as found on disk, in checkpoint and aggregates"
    lines = [
        f"scylla: {printable(experiment.given)}: {runs} runs and {runs * judges} judge slots expected; "
        f"subtests {source}"
    ]
    if audited.selection.globs:
        lines.append(f"scylla: selected {', '.join(map(printable, audited.selection.globs))}")
    return lines


# Summary


def summary(reporter: pytest.TerminalReporter, experiments: Sequence[AuditedExperiment]) -> None:
    """Print how many runs and slots have which status, and the warnings; less with -q, more with -v."""
    verbosity = reporter.config.get_verbosity()
    if verbosity < -1:
        return
    for audited in experiments:
        title = audited.name if len(experiments) > 1 else "experiment"
        reporter.write_sep("=", printable(title))
        for line in summary_lines(audited, verbosity):
            reporter.write_line(line)


def summary_lines(audited: AuditedExperiment, verbosity: int = 0) -> list[str]:
    """The summary of one experiment. ``verbosity`` is pytest's: below 0 shorter, above 0 with every warning."""
    counts = count(audited)
    repaired = any(action.outcome == "done" for _, action in audited.actions())
    if repaired and verbosity >= 0:
        lines = _comparison(count(audited, before=True), counts)
    else:
        lines = _table(counts, by_slot=verbosity >= 0)
    lines += _checkpoint_lines(audited, verbosity)
    if audited.before:
        lines += repair_lines(audited, verbosity)
    if audited.experiment.unknown_tiers:
        lines.append(f"tiers without known subtests: {', '.join(audited.experiment.unknown_tiers)} (not counted above)")
    warned = [(item_id, found) for item_id, found in _warnings(audited)]
    if verbosity > 0:
        lines += [f"warning: {item_id}: {found}" for item_id, found in warned]
    elif verbosity == 0 and warned:
        lines.append("warnings")
        codes = Counter(found.code for _, found in warned)
        width = max(map(len, codes))
        lines += [f"  {number:>6} {code:<{width}}  {CODES[code].meaning}" for code, number in codes.most_common()]
    elif warned:
        lines.append(f"warnings      {len(warned)}")
    return lines


def _checkpoint_lines(audited: AuditedExperiment, verbosity: int) -> list[str]:
    """How the checkpoint stands, where that is worth a line: it is not sound, or was not, or much is to be told."""
    outcome = audited.outcomes.get(CHECKPOINT_ID)
    if outcome is None or (outcome.outcome == "passed" and verbosity <= 0):
        return []
    was = audited.status_before(CHECKPOINT_ID) or outcome.status
    told = outcome.status.replace(NOT_AUDITED, "not audited")
    told += f" ({', '.join(found.code for found in outcome.findings)})" if outcome.findings else ""
    return [f"{'checkpoint':12}  {told}{f', was {was}' if was != outcome.status else ''}"]


def _warnings(audited: AuditedExperiment) -> Iterator[tuple[str, Finding]]:
    for found in audit_experiment(audited.experiment):
        yield audited.name, found
    for item_id in sorted(audited.outcomes):
        for found in audited.outcomes[item_id].findings:
            if found.severity == "warning":
                yield item_id, found


def _table(counts: Counts, *, by_slot: bool) -> list[str]:
    slots = counts["judge_slots"]
    rows = [
        ["runs", *_cells(counts["runs"], "runs", RUN_STATUSES)],
        ["judge slots", *_cells(slots, "judge_slots", SLOT_STATUSES)],
    ]
    lines = _aligned(rows)
    if by_slot:
        rows = []
        for number, row in slots["by_slot"].items():
            label = f"  judge_{int(number):02d} ({printable(row['model'], 60)})"
            rows.append([label, *_cells(row, "one slot", SLOT_STATUSES)[1:]])
        lines += _aligned(rows)
    return lines


def _cells(row: Counts, kind: str, statuses: Iterable[str]) -> list[str]:
    rare = [status for status in (*statuses, NOT_AUDITED, "fallback") if status not in _ALWAYS_SHOWN[kind]]
    shown = [*_ALWAYS_SHOWN[kind], *(status for status in rare if row.get(status))]
    cells = [f"{row['expected']} expected"]
    return cells + [f"{row[status]} {status.replace(NOT_AUDITED, 'not audited')}" for status in shown]


def _aligned(rows: list[list[str]]) -> list[str]:
    label = max([12, *(len(row[0]) for row in rows)])
    longest = max(map(len, rows))
    # A row's last cell needs no room behind it.
    widths = [max([0, *(len(row[column]) for row in rows if column < len(row) - 1)]) for column in range(1, longest)]
    return [(row[0].ljust(label) + "  " + "   ".join(map(str.ljust, row[1:], widths))).rstrip() for row in rows]


def _comparison(before: Counts, after: Counts) -> list[str]:
    """Before and after side by side: a line a status that any item has, or had."""
    lines = [f"{'':20}before   after"]
    for key, label, statuses in (("runs", "runs", RUN_STATUSES), ("judge_slots", "judge slots", SLOT_STATUSES)):
        lines.append(f"{label}, {after[key]['expected']} expected")
        for number, status in enumerate((*statuses, NOT_AUDITED, "fallback")):
            was, now = before[key].get(status, 0), after[key].get(status, 0)
            if was or now or not number:
                change = f"   {now - was:+d}" if now != was else ""
                lines.append(f"  {status.replace(NOT_AUDITED, 'not audited'):16}{was:8}{now:8}{change}")
    return lines


def repair_lines(audited: AuditedExperiment, verbosity: int = 0) -> list[str]:
    """What was rebuilt and judged or would be, what failed, and how far a repair of the rest has to go."""
    actions = list(audited.actions())
    lines = []
    for verb, ending in (("rebuilt", "done"), ("would rebuild", "planned")):
        found = [(item_id, action) for item_id, action in _of(actions, "regenerate") if action.outcome == ending]
        if found:
            runs = len({run_of(item_id) for item_id, _ in found if item_id != CHECKPOINT_ID})
            # A file that follows from several judgments is made as often.
            files = {file: action for _, action in found for file in action.files}
            lines.append(f"{verb} {_amount(files, runs)}")
            if verbosity > 0 or (ending == "planned" and len(found) <= MANY and verbosity == 0):
                lines += [f"  {action_line(action)}" for _, action in found]
            elif verbosity == 0:
                names = Counter(_kind_of_file(action.what) for action in files.values())
                lines += [f"  {number:>6} {name}" for name, number in names.most_common()]
    for level in _CALLED:
        lines += _call_lines(audited, list(_of(actions, level)), level)
    if any(action.outcome == "done" for _, action in actions):
        place = printable(os.path.join(audited.experiment.given, KEEPING))
        lines.append(f"what was replaced is in {place}/quarantine, what was done in {place}/journal")
    planned = [action for _, action in actions if action.outcome == "planned"]
    if planned and not any((action.reason or "").startswith("not-run: ") for action in planned):
        lines.append("nothing was written and nobody was asked; --repair does it")
    failed = [(item_id, action) for item_id, action in actions if action.outcome == "failed"]
    lines += [f"  {item_id}: {action_line(action)}" for item_id, action in failed[: None if verbosity > 0 else MANY]]
    passing = Counter(action.reason for _, action in actions if (action.reason or "").startswith("not-run: "))
    lines += [f"{number} item{_s(number)} {reason}" for reason, number in passing.most_common(_EXAMPLES)]
    left = Counter(
        _EXHAUSTED if found.exhausted else _NEEDS[found.level]
        for found in audited.outcomes.values()
        if found.outcome in ("failed", "not-run")
    )
    lines += [f"not sound: {number} item{_s(number)} {need}" for need, number in left.most_common()]
    return lines


def _amount(files: Iterable[str], runs: int) -> str:
    """How many of the files are in runs, of which there are so many, and the checkpoint by its name."""
    in_runs = sum(file != CHECKPOINT for file in files)
    parts = [f"{in_runs} file{_s(in_runs)} in {runs} run{_s(runs)}"] if in_runs else []
    return " and ".join([*parts, *(file for file in files if file == CHECKPOINT)])


def _of(actions: Iterable[tuple[str, Action]], level: Level) -> Iterator[tuple[str, Action]]:
    return ((item_id, action) for item_id, action in actions if action.level == level)


def _call_lines(audited: AuditedExperiment, actions: list[tuple[str, Action]], level: Level) -> list[str]:
    """How many calls of a level were made or would be, at what cost; of those that would be, by model."""
    whom, noun, what, ended = _CALLED[level]
    lines = []
    if called := [action for _, action in actions if action.outcome != "planned" and action.calls]:
        calls, done = sum(action.calls for action in called), sum(map(_gave_an_answer, called))
        cost = money(total_cost(called))
        lines.append(f"{whom[0]}: {calls} {noun}{_s(calls)}, {cost}; {done} {what}{_s(done)} {ended}")
    of_slots = level == "judges"
    planned = [
        (audited.model_of(item_id) if of_slots else audited.agent_model, action)
        for item_id, action in actions
        if action.outcome == "planned" and action.calls
    ]
    if planned:
        lines.append(f"{whom[1]}: {len(planned)} {noun}{_s(len(planned))}")
        for model in dict.fromkeys(model for model, _ in planned):
            of_model = [action for found, action in planned if found == model]
            price, seconds = total_cost(of_model), total_seconds(of_model)
            time = "time unknown" if seconds is None else f"about {duration(seconds)} one after the other"
            about = "about " * (price is not None)
            lines.append(f"  {len(of_model):>6} {printable(model, 60)}: {time}, {about}{money(price)}")
    return lines


def _gave_an_answer(action: Action) -> bool:
    return action.outcome == "done" and not (action.reason or "").startswith("fallback: ")


def _kind_of_file(what: str) -> str:
    """A run's file as it is, a slot's without the slot."""
    return what.split("/")[-1] if what.startswith("judge/judge_") else what


def _s(number: int) -> str:
    return "s" * (number != 1)


# Failures by cause


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
        noun = self.kind.replace("_", " ")
        slots = f", with {self.with_slots} judge slots that wait for them" if self.with_slots else ""
        return f"{len(self.items)} {noun}{_s(len(self.items))} {self.status}: {self.code}{slots}"

    @property
    def meaning(self) -> str:
        """What that means, in a sentence."""
        return CODES[self.code].meaning if self.code in CODES else "It was not looked at to the end."

    @property
    def examples(self) -> str:
        """The first of the items."""
        return ", ".join(self.items[:_EXAMPLES]) + (", .." if len(self.items) > _EXAMPLES else "")


class Listing:
    """Our own listing of failing items, where there are too many for a section each.

    pytest would print some five lines for each, and take seconds: it is replaced unless -v or --tb asks for it.
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
