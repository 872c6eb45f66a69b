"""What a person reads on the terminal before and after the items: the header and the summary.

They are lines of plain text, written by pytest's own writer: it knows about the terminal's width and colours, and a log
of CI, a narrow window and a screen reader show the same. No line of the header is wider than 80 columns, and none of
the summary than the terminal, but for names and commands, and but for lists of -v.

All texts that come from an experiment are printable by the time they get here: names of models are quoted, findings
are made so (see :mod:`..experiment.wording`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import pytest

from ..auditing.experiment import audit_experiment
from ..auditing.findings import CODES, CONSEQUENCES, RUN_STATUSES, SLOT_STATUSES, Finding
from ..experiment.keeping import KEEPING
from ..experiment.layout import CHECKPOINT
from ..experiment.wording import printable
from ..outcomes import AGGREGATES_ID, CHECKPOINT_ID, NOT_AUDITED, WHOLES, AuditedExperiment, run_of
from ..repair.actions import Action, Level
from ..repair.remedies import ASKED_ENOUGH
from ..settings import Settings
from .causes import EXAMPLES, MANY, causes, fitting
from .counts import Counts, count, count_by_tier
from .item import action_line, duration, money, total_cost, total_seconds
from .next_step import next_command

_LABEL = 14
"""Columns before what is told of runs, judge slots, checkpoint and aggregates."""
_FIXED = "\N{NO-BREAK SPACE}"
_WHOLE = ("completed", "complete")
_BESIDE = (NOT_AUDITED, "fallback")
"""What runs and judge slots are counted by beside their statuses."""
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
        f"scylla: {printable(experiment.given)}: {runs} runs and {runs * judges} judge slots expected",
        f"scylla: subtests {source}",
    ]
    if audited.selection.globs:
        lines.append(f"scylla: selected {', '.join(map(printable, audited.selection.globs))}")
    return lines


# Summary


def summary(
    reporter: pytest.TerminalReporter, experiments: Sequence[AuditedExperiment], settings: Settings, *, listed: bool
) -> None:
    """Print how many runs and slots have which status, and what is wrong; less with -q, more with -v.

    :param listed: the failing items were listed by cause, which is not told again.
    """
    verbosity = reporter.config.get_verbosity()
    if verbosity < -1:
        return
    for audited in experiments:
        title = audited.name if len(experiments) > 1 else "experiment"
        reporter.write_sep("=", printable(title))
        width = reporter.config.get_terminal_writer().fullwidth
        for line in summary_lines(audited, verbosity, width, listed=listed):
            reporter.write_line(line)
        if verbosity >= 0 and (command := next_command(audited, settings)):
            reporter.write_line(f"next: {command}")


def summary_lines(
    audited: AuditedExperiment, verbosity: int = 0, width: int = 80, *, listed: bool = False
) -> list[str]:
    """The summary of one experiment. ``verbosity`` is pytest's: below 0 shorter, above 0 with every warning.

    :param width: columns of the terminal.
    :param listed: as with :func:`summary`.
    """
    counts = count(audited)
    repaired = any(action.outcome == "done" for _, action in audited.actions())
    if repaired and verbosity >= 0:
        lines = _comparison(count(audited, before=True), counts)
    else:
        lines = _totals(counts, width)
        if verbosity >= 0:
            lines += _judge_lines(counts["judge_slots"]["by_slot"], width)
    if verbosity >= 0:
        lines += _tier_lines(audited, width)
    lines += _whole_lines(audited, verbosity, width)
    if audited.before:
        for line in repair_lines(audited, verbosity):
            lines += [line] if verbosity > 0 else fitting(line, width, len(line) - len(line.lstrip()) + 4)
    if audited.experiment.unknown_tiers:
        unknown = ", ".join(audited.experiment.unknown_tiers)
        lines += fitting(f"tiers without known subtests: {unknown} (not counted above)", width, 4)
    known = {cause.code for cause in causes(audited)} if listed else ()
    return lines + _finding_lines(audited, verbosity, width, known)


def _whole_lines(audited: AuditedExperiment, verbosity: int, width: int) -> list[str]:
    """How checkpoint and aggregates stand, where that is worth a line: one is not sound, or was not, or all is told."""
    lines = []
    for item_id in WHOLES:
        outcome = audited.outcomes.get(item_id)
        if outcome is None or (outcome.outcome == "passed" and verbosity <= 0):
            continue
        was = audited.status_before(item_id) or outcome.status
        codes = ", ".join(dict.fromkeys(found.code for found in outcome.errors or outcome.findings))
        told = _in_words(outcome.status) + (f" ({codes})" if codes else "")
        changed = f", was {was}" if was != outcome.status else ""
        lines += fitting(f"{item_id:{_LABEL}}{told}{changed}", width, _LABEL)
    return lines


def _finding_lines(audited: AuditedExperiment, verbosity: int, width: int, known: Collection[str]) -> list[str]:
    """What was found, by code, errors first, each with one example; with -v all that pytest does not tell.

    :param known: codes that were told before.
    """
    by_code: dict[str, list[tuple[str, Finding]]] = {}
    for item_id, found in _findings(audited):
        if found.code not in known:
            by_code.setdefault(found.code, []).append((item_id, found))
    ranked = sorted(by_code.values(), key=_rank)
    warned = [one for told in ranked for one in told if one[1].severity == "warning"]
    if verbosity < 0:
        return [f"warnings      {len(warned)}"] if warned else []
    if verbosity > 0:
        return [f"warning: {item_id}: {found}" for item_id, found in warned]
    lines = ["findings"] if ranked else []
    for told in ranked:
        found = told[0][1]
        warning = " (warning)" if found.severity == "warning" else ""
        meaning = f"{len(told):>8} {found.code}{warning}: {CODES[found.code].meaning}"
        example = f"         e.g. {found.file}{found.pointer and f' {found.pointer}'}: {found.message}"
        for text in (meaning, example):
            lines += fitting(text, width, 14)
    return lines


def _rank(told: Sequence[tuple[str, Finding]]) -> tuple[bool, bool, int, str]:
    """Errors before warnings, causes before what follows from them, the most frequent first."""
    found = told[0][1]
    return found.severity != "error", found.code in CONSEQUENCES, -len(told), found.code


def _findings(audited: AuditedExperiment) -> Iterator[tuple[str, Finding]]:
    for found in audit_experiment(audited.experiment):
        yield audited.name, found
    for item_id in sorted(audited.outcomes):
        for found in audited.outcomes[item_id].findings:
            yield item_id, found


def _tier_lines(audited: AuditedExperiment, width: int) -> list[str]:
    """How many runs and judge slots of each tier have which status: a column a status that occurs.

    Nothing for a single tier, or where all are complete: that was said above. Runs and slots have a table each where
    one is too wide.
    """
    tiers = count_by_tier(audited)
    columns: dict[str, list[list[str]]] = {}
    for kind, noun, statuses in (("runs", "runs", RUN_STATUSES), ("judge_slots", "slots", SLOT_STATUSES)):
        rows = [row[kind] for row in tiers.values()]
        columns[kind] = [[noun, *(str(row.total()) for row in rows)], *_by_status(rows, (*statuses, NOT_AUDITED))]
    if len(tiers) < 2 or all(len(found) == 2 and found[1][0] in _WHOLE for found in columns.values()):
        return []
    names = ["tier", *tiers]
    together = _columns(names, [*columns["runs"], *columns["judge_slots"]], width)
    if len(together) == len(names):
        return together
    return [line for found in columns.values() for line in _columns(names, found, width)]


def _by_status(rows: Iterable[Mapping[str, int]], statuses: Iterable[str]) -> Iterator[list[str]]:
    """A column of a table for each of the statuses that occurs: its name, and how many of each row have it."""
    rows = list(rows)
    for status in statuses:
        if any(row[status] for row in rows):
            yield [status.replace("_", " "), *(str(row[status] or "-") for row in rows)]


def _columns(names: Sequence[str], numbers: Iterable[Sequence[str]], width: int) -> list[str]:
    """The lines of a table of ``width`` columns; of several below each other, with the same names, where it takes them.

    :param names: the first column.
    :param numbers: the others.
    """
    tables: list[list[str]] = []
    for column in numbers:
        size = max(map(len, column))
        cells = [cell.rjust(size) for cell in column]
        if not tables or len(tables[-1][0]) + 2 + size > width:
            longest = max(map(len, names))
            tables.append([name.ljust(longest) for name in names])
        tables[-1] = [f"{line}  {cell}" for line, cell in zip(tables[-1], cells, strict=True)]
    return [line for table in tables for line in table]


def _totals(counts: Counts, width: int) -> list[str]:
    """How many runs and judge slots have which status, of those that occur."""
    lines = []
    for key, label, statuses in (("runs", "runs", RUN_STATUSES), ("judge_slots", "judge slots", SLOT_STATUSES)):
        row, (sound, *others) = counts[key], statuses
        shown = [sound, *(status for status in (*others, *_BESIDE) if row.get(status))]
        # A number stays with what it counts.
        told = [f"{row[status]} {_in_words(status)}".replace(" ", _FIXED) for status in shown]
        text = f"{label:{_LABEL}}{row['expected']} expected: {', '.join(told)}"
        lines += [line.replace(_FIXED, " ") for line in fitting(text, width, _LABEL)]
    return lines


def _judge_lines(by_slot: Mapping[str, Counts], width: int) -> list[str]:
    """How many slots of each judge have which status: a column a status that occurs."""
    names = [f"judge_{int(number):02d} ({printable(row['model'], 60)})" for number, row in by_slot.items()]
    slots = ["slots", *(str(row["expected"]) for row in by_slot.values())]
    return _columns(["judge", *names], [slots, *_by_status(by_slot.values(), (*SLOT_STATUSES, *_BESIDE))], width)


def _in_words(status: str) -> str:
    return status.replace(NOT_AUDITED, "not audited")


def _comparison(before: Counts, after: Counts) -> list[str]:
    """Before and after side by side: a line a status that any item has, or had."""
    lines = [f"{'':20}before   after"]
    for key, label, statuses in (("runs", "runs", RUN_STATUSES), ("judge_slots", "judge slots", SLOT_STATUSES)):
        lines.append(f"{label}, {after[key]['expected']} expected")
        for number, status in enumerate((*statuses, *_BESIDE)):
            was, now = before[key].get(status, 0), after[key].get(status, 0)
            if was or now or not number:
                change = f"   {now - was:+d}" if now != was else ""
                lines.append(f"  {_in_words(status):16}{was:8}{now:8}{change}")
    return lines


def repair_lines(audited: AuditedExperiment, verbosity: int = 0) -> list[str]:
    """What was rebuilt and judged or would be, what failed, and how far a repair of the rest has to go."""
    actions = list(audited.actions())
    lines = []
    for verb, ending in (("rebuilt", "done"), ("would rebuild", "planned")):
        found = [(item_id, action) for item_id, action in _of(actions, "regenerate") if action.outcome == ending]
        if found:
            lines.append(f"{verb} {_amount(found)}")
            if verbosity > 0 or (ending == "planned" and len(found) <= MANY and verbosity == 0):
                lines += [f"  {action_line(action)}" for _, action in found]
            elif verbosity == 0:
                # A file that follows from several judgments is made as often.
                files = {file: _kind_of_file(item_id, action) for item_id, action in found for file in action.files}
                lines += [f"  {number:>6} {name}" for name, number in Counter(files.values()).most_common()]
    for level in _CALLED:
        lines += _call_lines(audited, list(_of(actions, level)), level)
    if any(action.outcome == "done" for _, action in actions):
        place = printable(os.path.join(audited.experiment.given, KEEPING))
        lines.append(f"what was replaced is in {place}/quarantine, what was done in {place}/journal")
    planned = [action for _, action in actions if action.outcome == "planned"]
    if planned and not any(action.left_for for action in planned):
        lines.append("nothing was written and nobody was asked; --repair does it")
    failed = [(item_id, action) for item_id, action in actions if action.outcome == "failed"]
    lines += [f"  {item_id}: {action_line(action)}" for item_id, action in failed[: None if verbosity > 0 else MANY]]
    passing = Counter(action.reason for _, action in actions if action.left_for)
    lines += [f"{number} item{_s(number)} {reason}" for reason, number in passing.most_common(EXAMPLES)]
    left = Counter(
        _EXHAUSTED if found.remedy == str(ASKED_ENOUGH) else _NEEDS[found.level]
        for found in audited.outcomes.values()
        if found.outcome in ("failed", "not-run")
    )
    lines += [f"not sound: {number} item{_s(number)} {need}" for need, number in left.most_common()]
    return lines


def _amount(actions: Sequence[tuple[str, Action]]) -> str:
    """How many files are in runs, and in how many; the checkpoint by its name; how many are aggregates."""
    runs = {run_of(item_id) for item_id, _ in actions if item_id not in WHOLES}
    files = {file: item_id for item_id, action in actions for file in action.files}
    aggregates = sum(item_id == AGGREGATES_ID for item_id in files.values())
    in_runs = sum(item_id not in WHOLES for item_id in files.values())
    parts = [
        f"{in_runs} file{_s(in_runs)} in {len(runs)} run{_s(len(runs))}" if in_runs else "",
        CHECKPOINT if CHECKPOINT_ID in files.values() else "",
        f"{aggregates} aggregate{_s(aggregates)}" if aggregates else "",
    ]
    *others, last = filter(None, parts)
    return f"{', '.join(others)} and {last}" if others else last


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


def _kind_of_file(item_id: str, action: Action) -> str:
    """A run's file as it is, a slot's without the slot, and aggregates as just that."""
    if item_id == AGGREGATES_ID:
        return "aggregates"
    return action.what.split("/")[-1] if action.what.startswith("judge/judge_") else action.what


def _s(number: int) -> str:
    return "s" * (number != 1)
