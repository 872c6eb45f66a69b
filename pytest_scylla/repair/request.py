"""The contract of regeneration: what is asked for, what comes back, and the refusal.

A conftest.py may override the fixture ``scylla_regenerate`` with anything that keeps to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..auditing.evidence import RunEvidence, SlotEvidence
from ..auditing.findings import Finding
from ..auditing.status import Case
from ..experiment.expected import Experiment
from ..experiment.records import Record
from ..experiment.strict_json import Json


class CannotRegenerate(Exception):
    """Nothing that survives gives the file back; ``str()`` says why, in one line."""


class LacksJudgment(CannotRegenerate):
    """It takes a judgment that no file gives back, and a judge may."""


@dataclass(frozen=True, slots=True)
class RegenerateRequest:
    """One file of one run to rebuild.

    ``name`` is relative to the run, such as ``judge/judge_01/judgment.json``; ``findings`` say what is wrong with it.
    ``case`` is everything that was read of the run, and what the audit makes of it; what was rebuilt before, raw files
    first, is in it already.
    """

    experiment: Experiment
    case: Case
    name: str
    findings: tuple[Finding, ...]

    @property
    def evidence(self) -> RunEvidence:
        """What lies in the run."""
        return self.case.evidence

    @property
    def file(self) -> str:
        """The file, relative to the experiment."""
        return f"{self.evidence.folder.file}/{self.name}"

    @property
    def slot(self) -> SlotEvidence:
        """What lies in the judge slot that the file belongs to.

        :raises LookupError: it belongs to none.
        """
        name = self.name.split("/")[1]
        for slot in self.evidence.slots:
            if slot.slot.name == name:
                return slot
        raise LookupError(self.name)

    def record(self, record: dict[str, Any], *sources: str) -> Regenerated:
        """Write a record as the run's others are written."""
        return Regenerated(written_like(self.evidence)(record), tuple(dict.fromkeys(sources)))


@dataclass(frozen=True, slots=True)
class Regenerated:
    """A file as it has to be: its bytes, and the files they come from, relative to the experiment."""

    data: bytes
    sources: tuple[str, ...]


class Regenerate(Protocol):
    """Rebuilds one file."""

    def __call__(self, request: RegenerateRequest, /) -> Regenerated:
        """Return the file as it has to be.

        :raises CannotRegenerate: what survives does not give it back.
        """


WriteRecord = Callable[[dict[str, Json]], bytes]
"""Turns a record into the bytes of its file, as the other records of the run are written."""


def written_like(run: RunEvidence) -> WriteRecord:
    """How to write a record as most of a run's others are: indented, ASCII, with or without a final newline."""
    others = [file.raw for file in run.files() if isinstance(file, Record) and file.sound]
    ending = "\n" if 2 * sum(raw.endswith(b"\n") for raw in others) > len(others) else ""
    return lambda record: (json.dumps(record, indent=2) + ending).encode()


def with_unknown_keys(record: dict[str, Json], old: Record) -> dict[str, Json]:
    """``record``, with whatever else a sound old one says under keys of its own."""
    return {**record, **without(old.data, *record)}


def without(record: Mapping[str, Json], *keys: str) -> dict[str, Json]:
    """``record`` less ``keys``."""
    return {key: value for key, value in record.items() if key not in keys}
