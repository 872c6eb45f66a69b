"""What a session learned about each item of each experiment.

An :class:`ItemOutcome` is made where an item runs (perhaps in an xdist worker), travels on the test report as plain
JSON-able data, and is kept by the process that writes the reports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Any

from .auditing.findings import Finding
from .experiment.expected import Experiment
from .experiment.layout import RunId

NOT_AUDITED = "not_audited"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """One item's end: its status, its findings, and what would repair it.

    ``outcome`` is "passed", "failed" or "crashed". ``score``, ``passed`` and ``cost_usd`` are ``None`` where they are
    not known.
    """

    status: str
    outcome: str
    findings: tuple[Finding, ...] = ()
    remedy: str = ""
    score: float | None = None
    passed: bool | None = None
    cost_usd: float | None = None
    fallback: bool = False

    def as_data(self) -> list[Any]:
        """The outcome as plain data, for the way from a worker."""
        findings = [[f.code, f.severity, f.file, f.pointer, f.message] for f in self.findings]
        return [
            self.status,
            self.outcome,
            findings,
            self.remedy,
            self.score,
            self.passed,
            self.cost_usd,
            self.fallback,
        ]

    @classmethod
    def from_data(cls, data: list[Any]) -> ItemOutcome:
        """The reverse of :meth:`as_data`."""
        status, outcome, findings, *rest = data
        return cls(status, outcome, tuple(Finding(*fields) for fields in findings), *rest)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(found for found in self.findings if found.severity == "error")


@dataclass
class AuditedExperiment:
    """An experiment in this session: its name in node ids, what was selected, and the outcomes by item id.

    An item id is ``T5/13/run_10`` for a run, ``T5/13/run_10/judge_01`` for a slot, and ``T5`` for a tier of which
    nobody knows the subtests.
    """

    name: str
    experiment: Experiment
    selection: Selection
    outcomes: dict[str, ItemOutcome] = field(default_factory=dict)
    selected: int = 0

    def item_ids(self) -> Iterator[str]:
        """Every item there is, selected or not."""
        yield from self.experiment.unknown_tiers
        names = [f"judge_{number:02d}" for number in range(1, self.experiment.judges_per_run + 1)]
        for run in self.experiment.runs():
            run_id = str(run)
            yield run_id
            for name in names:
                yield f"{run_id}/{name}"

    def nodeid(self, item_id: str) -> str:
        """The pytest node id of an item."""
        head, _, last = item_id.rpartition("/")
        if last.startswith("judge_"):
            return f"{self.name}/{head}::{last}"
        return f"{self.name}/{item_id}::{'run' if head else 'subtests'}"

    @property
    def expected_items(self) -> int:
        """How many runs and judge slots are expected."""
        return self.experiment.expected_runs * (1 + self.experiment.judges_per_run)

    @property
    def audited_items(self) -> int:
        """How many of them this session looked at."""
        return sum("/" in item_id and found.status != NOT_AUDITED for item_id, found in self.outcomes.items())


def kind_of(item_id: str) -> str:
    """What an item is, by its id: "tier", "run" or "judge_slot"."""
    if "/" not in item_id:
        return "tier"
    return "judge_slot" if "/judge_" in item_id else "run"


class Selection:
    """Which items to audit, by globs on their ids; a run's id selects its slots as well."""

    def __init__(self, globs: Iterable[str]) -> None:
        self.globs = tuple(globs)
        self._matches = re.compile("|".join(map(translate, self.globs))).match if self.globs else None

    def __contains__(self, item_id: str) -> bool:
        if self._matches is None or self._matches(item_id):
            return True
        head, _, last = item_id.rpartition("/")
        return last.startswith("judge_") and self._matches(head) is not None

    def run_is_whole(self, run: RunId) -> bool:
        """Whether everything of ``run`` is selected without looking further."""
        return self._matches is None or self._matches(str(run)) is not None


def unique_names(roots: list[str]) -> list[str]:
    """Name experiments for node ids: by directory, and where two are equal, by as many parents as it takes.

    Whatever means something in a node id or on a terminal is replaced by ``_``.
    """
    parts = [Path(os.path.realpath(root)).parts for root in roots]
    depth = [1] * len(roots)
    while True:
        names = ["/".join(_plain(part) for part in path[-count:]) for path, count in zip(parts, depth, strict=True)]
        clashes = [index for index, name in enumerate(names) if names.count(name) > 1]
        growing = [index for index in clashes if depth[index] < len(parts[index])]
        if not growing:
            return [f"{name}-{index}" if index in clashes else name for index, name in enumerate(names)]
        for index in growing:
            depth[index] += 1


def _plain(part: str) -> str:
    return re.sub(r"[^\w.,+=@-]", "_", part) or "_"
