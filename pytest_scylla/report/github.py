"""What GitHub Actions shows of a session: annotations in the log, and a summary of the job.

An annotation is a workflow command, ``::error file=..,line=..,title=..::message``, on a line of its own. In its values
``%``, carriage return and line feed mean something, in those of its properties ``:`` and ``,`` as well. The service
shows ten annotations of a step, and takes a summary of 1 MiB or none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..auditing.findings import RUN_STATUSES, SLOT_STATUSES
from ..experiment.wording import printable
from ..gate.waivers import WaiverUse
from ..outcomes import NOT_AUDITED, AuditedExperiment
from ..settings import Settings
from .causes import Cause, causes, command_for
from .counts import Counts, count
from .gate import MOST_WAIVERS, conclusion_lines, waiver_lines

MOST_ANNOTATIONS = 10
MAX_SUMMARY = 1024 * 1024
"""The largest summary of a step, in bytes."""

_CUT = "\nThe rest is left out: a summary may have 1 MiB. The log has it.\n"
_PLAIN = " /,-"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation. ``file`` is as the service knows it, ``line`` counts from 1; "" and 0 where it is about none."""

    level: Literal["error", "warning"]
    title: str
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """The workflow command. Texts are made printable, a line of the message each."""
        properties = {"file": self.file, "line": str(self.line or ""), "title": self.title}
        told = ",".join(f"{key}={_property(printable(value))}" for key, value in properties.items() if value)
        message = "\n".join(map(printable, self.message.split("\n")))
        return f"::{self.level} {told}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def annotate(
    experiments: Sequence[AuditedExperiment], settings: Settings, workspace: str | None, *, fails: bool
) -> list[Annotation]:
    """At most ten annotations: why the session fails, then what is not sound, by cause.

    :param workspace: the directory relative to which the service knows files; ``None`` where it says nothing.
    :param fails: whether the session fails; what does not make it fail is a warning.
    """
    found = [*_of_the_gate(experiments, settings, workspace)]
    for audited in experiments:
        found += [_of_cause(audited, cause, settings, workspace, fails) for cause in causes(audited)]
    if len(found) > MOST_ANNOTATIONS:
        left = found[MOST_ANNOTATIONS - 1 :]
        level: Literal["error", "warning"] = "error" if any(one.level == "error" for one in left) else "warning"
        more = Annotation(level, f"and {len(left)} more causes", "The log of the session has them all.")
        found = [*found[: MOST_ANNOTATIONS - 1], more]
    return found


def _of_the_gate(
    experiments: Sequence[AuditedExperiment], settings: Settings, workspace: str | None
) -> Iterator[Annotation]:
    for audited in experiments:
        if audited.conclusion is not None:
            for line in conclusion_lines(audited.conclusion, verbosity=-2):
                yield Annotation("error", f"{audited.name}: {line.text.partition(':')[0]}", line.text)
    first = experiments[0].conclusion
    for use in first.waivers if first is not None else ():
        if use.fault:
            assert settings.gate.waivers is not None
            place = _known_as(settings.gate.waivers.path, workspace)
            yield Annotation("error", f"waiver {use.fault}", use.problem, place, use.waiver.line)


def _of_cause(
    audited: AuditedExperiment, cause: Cause, settings: Settings, workspace: str | None, fails: bool
) -> Annotation:
    outcome = audited.outcomes[cause.items[0]]
    findings = outcome.errors or outcome.findings
    lines = [*cause.told, f"look at one: {command_for(audited, cause.items[0], settings)}"]
    place = audited.experiment.root / findings[0].file if findings else audited.experiment.root
    level: Literal["error", "warning"] = "error" if fails else "warning"
    return Annotation(level, cause.title, "\n".join(lines), _known_as(place, workspace), 1)


def _known_as(path: Path, workspace: str | None) -> str:
    """A file as the service knows it, which is relative to the workspace if it lies in there."""
    if workspace:
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(workspace))
        if not relative.startswith(os.pardir):
            return relative
    return os.path.abspath(path)


# The summary of the job


def escaped(text: str) -> str:
    """Text that means nothing to Markdown or HTML, on one line: whatever could is written as an entity.

    >>> escaped("a|b <i>")
    'a&#124;b &#60;i&#62;'
    """
    return "".join(
        character if character.isalnum() or character in _PLAIN else f"&#{ord(character)};"
        for character in printable(text)
    )


def summary(experiments: Sequence[AuditedExperiment]) -> str:
    """The summary of a session as Markdown: for each experiment counts, what it has to reach, and what is not sound."""
    return "".join(f"{line}\n" for audited in experiments for line in _summary(audited)) + "".join(
        f"- {escaped(line.text.strip())}\n"
        for line in waiver_lines(
            use for audited in experiments if audited.conclusion for use in audited.conclusion.waivers
        )
    )


def cut_to_fit(text: str, room: int) -> str:
    """As many whole lines of ``text`` as fit into ``room`` bytes, with a word about the rest; "" if none do."""
    if len(text.encode()) <= room:
        return text
    room -= len(_CUT.encode())
    kept, lines = 0, []
    for line in text.splitlines(keepends=True):
        kept += len(line.encode())
        if kept > room:
            break
        lines.append(line)
    return "".join(lines) + _CUT if lines else ""


def _summary(audited: AuditedExperiment) -> Iterator[str]:
    counts = count(audited)
    yield f"## pytest-scylla: {_code(audited.name)}"
    yield ""
    words = [found.outcome for found in audited.outcomes.values()]
    bad = sum(word in ("failed", "not-run", "crashed") for word in words)
    told = [f"{bad} item{'s are' if bad != 1 else ' is'} not sound"]
    told += [f"{words.count(word)} {word}" for word in ("repaired", "waived") if word in words]
    yield f"{', '.join(told)}."
    yield ""
    yield from _counts_table(counts["runs"], "runs", RUN_STATUSES)
    slots = counts["judge_slots"]
    yield from _counts_table(slots, "judge slots", (*SLOT_STATUSES,), slots["by_slot"])
    if audited.conclusion is not None:
        for line in conclusion_lines(audited.conclusion):
            text = escaped(line.text.strip())
            yield f"- **{text}**" if line.fails else f"- {text}"
        yield ""
    found = causes(audited)
    if found:
        yield "| what | finding | some of them | repair |"
        yield "|---|---|---|---|"
    for cause in found:
        meaning = f"{cause.meaning} Not run: {cause.not_run}" if cause.not_run else cause.meaning
        cells = (cause.title, meaning, cause.examples, cause.remedy)
        yield f"| {' | '.join(map(escaped, cells))} |"
    yield ""
    if audited.conclusion is not None:
        yield from _waivers_table([use for use in audited.conclusion.waivers if use.waived])


def _waivers_table(uses: Sequence[WaiverUse]) -> Iterator[str]:
    if uses:
        yield "| waived | items | until | reason |"
        yield "|---|---:|---|---|"
    for use in uses[:MOST_WAIVERS]:
        cells = (use.waiver.item, str(use.waived), str(use.waiver.until), use.waiver.reason)
        yield f"| {' | '.join(map(escaped, cells))} |"
    yield ""
    if len(uses) > MOST_WAIVERS:
        yield f"{len(uses) - MOST_WAIVERS} more waivers."
        yield ""


def _counts_table(
    row: Counts, label: str, statuses: Iterable[str], by_slot: dict[str, Counts] | None = None
) -> Iterator[str]:
    shown = [status for status in (*statuses, NOT_AUDITED, "fallback") if row.get(status)]
    columns = ["expected", *shown]
    yield f"| {label} | {' | '.join(column.replace('_', ' ') for column in columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    yield f"| all | {' | '.join(str(row[column]) for column in columns)} |"
    for number, slot in (by_slot or {}).items():
        name = f"{_code(f'judge_{int(number):02d}')} {_code(slot['model'])}"
        yield f"| {name} | {' | '.join(str(slot[column]) for column in columns)} |"
    yield ""


def _code(text: str) -> str:
    return f"<code>{escaped(printable(text, 60))}</code>"
