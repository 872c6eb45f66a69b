"""What a session learned about each item of each experiment.

An :class:`ItemOutcome` is made where an item runs (perhaps in an xdist worker), travels on the test report as plain
JSON-able data, and is kept by the process that writes the reports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .aggregates.facts import RunFigures
from .auditing.checkpoint import RunFacts
from .auditing.findings import Finding
from .auditing.run import RunAudit
from .auditing.status import Case
from .calling.estimates import Estimate
from .experiment.expected import Experiment
from .experiment.layout import RunId
from .repair.actions import LEVELS, Action, Level
from .repair.plan import Plan, make_plan
from .repair.regenerate import regenerate
from .repair.remedies import Remedy, remedies
from .repair.transaction import Draft

if TYPE_CHECKING:
    from .gate.conclusion import Conclusion
    from .gate.waivers import Waivers

NOT_AUDITED = "not_audited"

CHECKPOINT_ID = "checkpoint"
"""The item id of an experiment's checkpoint."""

AGGREGATES_ID = "aggregates"
"""The item id of all aggregates of an experiment."""

WHOLES = (CHECKPOINT_ID, AGGREGATES_ID)
"""The item ids of what follows from an experiment's runs as a whole, in the order in which one follows from another."""

BEYOND = ("item", "judge call", "agent run")
"""What a refusal is about that is no file, by the level of repair that it would take."""


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """One item's end: its status, its findings, and what would repair it.

    ``outcome`` is "passed", "repaired", "failed", "crashed", "waived" for one that is not sound and may stay so, or
    "not-run" for one that is not sound and that the session did not come to, or whose judge it did not ask for a
    reason that passes (a limit, the budget).
    ``remedy`` says what would repair it, ``level`` how far a repair has to go for that, and ``calls`` how many judge
    calls it takes.
    ``score``, ``passed`` and ``cost_usd`` are ``None`` where they are not known; ``scored`` says whether the score of a
    run counts. ``actions`` are what a session that repairs did about it, or declined to.
    """

    status: str
    outcome: str
    findings: tuple[Finding, ...] = ()
    remedy: str = ""
    score: float | None = None
    passed: bool | None = None
    cost_usd: float | None = None
    fallback: bool = False
    level: Level | None = None
    calls: int = 0
    scored: bool = False
    actions: tuple[Action, ...] = ()

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
            self.level,
            self.calls,
            self.scored,
            [action.as_data() for action in self.actions],
        ]

    @classmethod
    def from_data(cls, data: list[Any]) -> ItemOutcome:
        """The reverse of :meth:`as_data`."""
        status, outcome, findings, *rest, actions = data
        made = cls(status, outcome, tuple(Finding(*fields) for fields in findings), *rest)
        return replace(made, actions=tuple(map(Action.from_data, actions))) if actions else made

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(found for found in self.findings if found.severity == "error")

    @property
    def exhausted(self) -> bool:
        """Whether a judge was asked about the slot as often as allowed."""
        return any(found.code == "exhausted" for found in self.findings)

    @property
    def did_something(self) -> bool:
        """Whether a repair of the item did anything."""
        return any(action.outcome == "done" for action in self.actions)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the item, any more or at all."""
        return self.outcome in ("passed", "repaired")

    def after(self, before: ItemOutcome, actions: tuple[Action, ...]) -> ItemOutcome:
        """This outcome as that of an item that stood as ``before`` and was acted on by a repair."""
        acted_on = replace(self, actions=actions)
        if self.outcome == "passed" and (before.outcome != "passed" or acted_on.did_something):
            return replace(acted_on, outcome="repaired")
        return acted_on

    def beside(self, other: ItemOutcome | None) -> ItemOutcome:
        """The same, with what another process did about the item before this one found nothing left to do."""
        if other is None or self.did_something or not (other.did_something or (other.actions and not self.actions)):
            return self
        outcome = "repaired" if self.sound and other.did_something else self.outcome
        return replace(self, outcome=outcome, actions=other.actions)

    def with_refusal(self) -> ItemOutcome:
        """The same, with what it would take beyond the repair as a refusal, where no action says why it did not."""
        if self.sound or any(map(self._is_explained_by, self.actions)):
            return self
        if any(action.outcome == "planned" and action.level == self.level for action in self.actions):
            return self
        what = BEYOND[LEVELS.index(self.level) if self.level else 0]
        refusal = Action(self.level or "regenerate", what, "refused", reason=self.remedy)
        return replace(self, actions=(*self.actions, refusal))

    def _is_explained_by(self, action: Action) -> bool:
        if action.outcome == "refused":
            # That a file cannot be rebuilt does not say why nothing was done that goes further.
            enough = self.level == "regenerate" or (action.reason or "") in self.remedy
            return enough or action.level != "regenerate"
        return action.outcome == "failed"


def outcomes_of_run(
    experiment: Experiment,
    case: Case,
    audit: RunAudit,
    *,
    strict: bool,
    figures: RunFigures | None = None,
    plan: Plan | None = None,
) -> dict[str, ItemOutcome]:
    """The outcome of a run (as "run") and of each of its slots (as "judge_01", ..), given its audit.

    :param figures: what it amounts to, if that is at hand.
    :param plan: the plan of the free repair of all of it, if that is at hand; it tells what is free.
    """
    failed = {slot.slot.name: not slot.complete or (strict and bool(slot.findings)) for slot in audit.slots}
    failed["run"] = audit.status != "completed" or (strict and bool(audit.findings))
    remedy = dict.fromkeys(failed, Remedy(None, "", ""))
    if any(failed.values()):
        plan = plan or make_plan(experiment, case, audit, regenerate)
        remedy |= {name: found for name, found in remedies(case, audit, plan).items() if failed[name]}
    outcomes = {}
    for slot in audit.slots:
        name = slot.slot.name
        outcomes[name] = ItemOutcome(
            slot.status,
            "failed" if failed[name] else "passed",
            slot.findings,
            str(remedy[name]),
            slot.score,
            slot.passed,
            fallback=slot.fallback,
            level=remedy[name].level,
            calls=remedy[name].calls,
        )
    figures = figures or RunFigures.of(case, audit)
    outcomes["run"] = ItemOutcome(
        audit.status,
        "failed" if failed["run"] else "passed",
        audit.findings,
        str(remedy["run"]),
        figures.score,
        figures.passed,
        audit.cost_usd,
        level=remedy["run"].level,
        calls=remedy["run"].calls,
        scored=figures.is_scored,
    )
    return outcomes


def outcome_word(data: list[Any]) -> str:
    """The ``outcome`` of an outcome that is still plain data."""
    return str(data[1])


@dataclass
class AuditedExperiment:
    """An experiment in this session: its name in node ids, what was selected, and the outcomes by item id.

    An item id is ``T5/13/run_10`` for a run, ``T5/13/run_10/judge_01`` for a slot, ``checkpoint`` for the checkpoint,
    ``aggregates`` for all aggregates, and ``T5`` for a tier of which nobody knows the subtests. In a session that
    repairs, ``before`` is every item's outcome as first audited, and ``drafts`` are the plans that were made then, in
    the process that made them; ``judge_seconds`` is how long judge calls took, by model, and ``estimates`` what one is
    expected to take. ``facts`` and ``figures`` are what the disk proves of runs, as far as this process knows and the
    session does not change it. ``in_order``: what follows from other items comes after them.
    """

    name: str
    experiment: Experiment
    selection: Selection
    outcomes: dict[str, ItemOutcome] = field(default_factory=dict)
    before: dict[str, ItemOutcome] = field(default_factory=dict)
    drafts: dict[RunId, Draft] = field(default_factory=dict)
    facts: dict[RunId, RunFacts] = field(default_factory=dict)
    figures: dict[RunId, RunFigures] = field(default_factory=dict)
    in_order: bool = True
    judge_seconds: list[tuple[str, float]] = field(default_factory=list)
    agent_seconds: list[tuple[str, float]] = field(default_factory=list)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    agent_estimates: dict[str, Estimate] = field(default_factory=dict)
    selected: int = 0
    waivers: Waivers | None = None
    conclusion: Conclusion | None = None
    _reported: set[str] = field(default_factory=set)

    def learn(self, case: Case, audit: RunAudit) -> RunFigures:
        """Take in what the disk proves of a run; return it in figures."""
        self.facts[audit.run] = RunFacts.of(audit)
        figures = self.figures[audit.run] = RunFigures.of(case, audit)
        return figures

    def keep(self, item_id: str, outcome: ItemOutcome) -> None:
        """Keep what an item itself reported."""
        self._reported.add(item_id)
        self.outcomes[item_id] = outcome.beside(self.outcomes.get(item_id))

    def keep_aside(self, item_id: str, outcome: ItemOutcome) -> None:
        """Keep what is known of an item that did not report, and perhaps never will."""
        known = self.outcomes.get(item_id)
        if known is not None and self.has_reported(item_id):
            self.outcomes[item_id] = known.beside(outcome)
        else:
            told = replace(outcome, outcome="not-run") if outcome.outcome == "failed" else outcome
            self.outcomes[item_id] = told.beside(known)

    def has_reported(self, item_id: str) -> bool:
        """Whether the item ran, as far as that goes."""
        return item_id in self._reported

    def unless_waived(self, item_id: str, outcome: ItemOutcome) -> ItemOutcome:
        """The outcome of an item, as "waived" if it fails and may."""
        if outcome.outcome == "failed" and self.reason_of(item_id):
            return replace(outcome, outcome="waived")
        return outcome

    def reason_of(self, item_id: str) -> str:
        """Why an item may stay as it is, if it is not sound; "" where it may not."""
        return self.waivers.reason_of(item_id) if self.waivers is not None else ""

    def item_ids(self) -> Iterator[str]:
        """Every item there is, selected or not."""
        yield from self.experiment.unknown_tiers
        for run in self.experiment.runs():
            for _, item_id in self.items_of(run):
                yield item_id
        yield from WHOLES

    def items_of(self, run: RunId) -> Iterator[tuple[str, str]]:
        """The name and the id of each item of a run: ``run``, and a slot's such as ``judge_01``."""
        run_id = str(run)
        yield "run", run_id
        for name in self._slot_names:
            yield name, f"{run_id}/{name}"

    @cached_property
    def _slot_names(self) -> tuple[str, ...]:
        return tuple(f"judge_{number:02d}" for number in range(1, self.experiment.judges_per_run + 1))

    def nodeid(self, item_id: str) -> str:
        """The pytest node id of an item."""
        head, _, last = item_id.rpartition("/")
        if last.startswith("judge_"):
            return f"{self.name}/{head}::{last}"
        if item_id in WHOLES:
            return f"{self.name}/{item_id}::{item_id}"
        return f"{self.name}/{item_id}::{'run' if head else 'subtests'}"

    def model_of(self, item_id: str) -> str:
        """The model that the configuration gives a slot, by its item id."""
        return self.experiment.config.judge_models[int(item_id.rpartition("_")[2]) - 1]

    @property
    def agent_model(self) -> str:
        """The model of the agent: the first that the configuration names; "" where it names none."""
        return next(iter(self.experiment.config.agent_models), "")

    def status_before(self, item_id: str) -> str | None:
        """An item's status as first audited, in a session that repairs."""
        before = self.before.get(item_id)
        return None if before is None else before.status

    def actions(self) -> Iterator[tuple[str, Action]]:
        """Everything that was done, planned or declined, with the item that it was about, by id."""
        for item_id in sorted(self.outcomes):
            for action in self.outcomes[item_id].actions:
                yield item_id, action

    @property
    def stopped_short(self) -> bool:
        """Whether items that ran were left as they are, for a reason that passes."""
        return any(self.outcomes[item_id].outcome == "not-run" for item_id in self._reported)

    @property
    def expected_items(self) -> int:
        """How many runs and judge slots are expected."""
        return self.experiment.expected_runs * (1 + self.experiment.judges_per_run)

    @property
    def audited_items(self) -> int:
        """How many of them this session looked at."""
        return sum("/" in item_id and found.status != NOT_AUDITED for item_id, found in self.outcomes.items())


def kind_of(item_id: str) -> str:
    """What an item is, by its id: "tier", "run", "judge_slot", "checkpoint" or "aggregates"."""
    if "/" not in item_id:
        return item_id if item_id in WHOLES else "tier"
    return "judge_slot" if "/judge_" in item_id else "run"


def run_of(item_id: str) -> str:
    """The id of the run that an item is, or belongs to."""
    return item_id.rpartition("/")[0] if kind_of(item_id) == "judge_slot" else item_id


class Selection:
    """Which items to audit, by globs on their ids; a run's id selects its slots as well, and no more."""

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
