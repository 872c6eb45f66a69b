"""Repairing aggregates, once the runs are repaired: subtests before their tier, tiers before the experiment.

What is wrong or lost is rebuilt from the runs, and what it replaces goes to the quarantine. A Markdown report is
rebuilt where it is lost or wrong, and where a record beside it was wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from itertools import groupby

from ..auditing.evidence import DEFAULT_POLICY, Policy
from ..auditing.run import garbage_collection_paused
from ..experiment.expected import Experiment
from ..experiment.keeping import KEEPING, Keeping
from ..experiment.layout import RunId
from ..experiment.locks import locked
from ..experiment.records import Folder, read_below
from ..experiment.replacing import NewFile, put_files
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite, naming
from ..repair.actions import Action, Ending
from ..repair.request import CannotRegenerate
from .audit import Survey, audit_aggregates, survey
from .facts import RunFigures
from .files import opened
from .rebuild import Draft, Drafts, comes_first

ITEM = "aggregates"
"""How the journal, and the lock, name all aggregates of an experiment."""

REBUILDABLE = frozenset(
    {
        *(f"aggregate-{fault}" for fault in ("missing", "malformed", "invalid", "stale")),
        *("report-missing", "report-stale", "side-file-malformed"),
    }
)
"""The codes of findings that a repair solves."""


@dataclass(frozen=True, slots=True)
class _Order:
    """A file to write, and the codes of the findings that go away with it."""

    draft: Draft
    solves: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.draft.file

    @property
    def folder(self) -> str:
        return _folder(self.file)

    def new_file(self) -> NewFile:
        """What is to be written.

        :raises CannotRegenerate: it cannot be made.
        """
        return NewFile(self.file, self.draft.make(), ITEM, "regenerate", self.solves)

    def action(self, outcome: Ending, reason: str | None = None) -> Action:
        kept = outcome in ("done", "planned")
        files, solved = ((self.file,), self.solves) if kept else ((), ())
        return Action("regenerate", self.file, outcome, files=files, solved=solved, reason=reason)


def planned_repair(
    experiment: Experiment,
    runs: Mapping[RunId, RunFigures],
    policy: Policy = DEFAULT_POLICY,
    *,
    undecided: Collection[RunId] = (),
) -> tuple[Action, ...]:
    """What a repair of the aggregates would do, an action a file; nothing is written.

    :param runs: every expected run, as the disk has it, or is going to have it.
    :param undecided: those of which the records are going to be there by then, whatever they say.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with garbage_collection_paused(), opened(experiment) as root:
        found = survey(root, experiment, runs, policy, keep_content=False)
        orders, refused = _orders(root, experiment, found, policy)
    passing = {None, *map(comes_first, undecided)}
    planned = (
        order.action("planned") if order.draft.obstacle in passing else order.action("refused", order.draft.obstacle)
        for order in orders
    )
    return (*planned, *refused)


def repair_aggregates(
    experiment: Experiment,
    keeping: Keeping,
    read_runs: Callable[[], Mapping[RunId, RunFigures]],
    policy: Policy = DEFAULT_POLICY,
) -> tuple[Action, ...]:
    """Rebuild the aggregates that are wrong or lost, an action a file; none where nothing is.

    The caller made sure that nobody runs the experiment. A reason of the place makes actions fail.

    :param read_runs: audits every expected run. It is called while no other process can write aggregates.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    start = time.perf_counter()
    lock = keeping.lock_path(ITEM)
    try:
        with ExitStack() as held:
            with naming(f"{KEEPING}/locks/{lock.name}"):
                held.enter_context(locked(lock))
            runs = read_runs()
            with garbage_collection_paused(), opened(experiment) as root:
                found = survey(root, experiment, runs, policy)
                orders, refused = _orders(root, experiment, found, policy)
                endings, written = _carry_out(keeping, orders)
            endings = _held_to(experiment, runs, policy, endings, written)
    except CannotWrite as error:
        return (Action("regenerate", ITEM, "failed", reason=printable(str(error))),)
    each = (time.perf_counter() - start) / max(len(endings), 1)
    return (*(replace(ending, seconds=round(each, 6)) for ending in endings.values()), *refused)


def _orders(root: Folder, experiment: Experiment, found: Survey, policy: Policy) -> tuple[list[_Order], list[Action]]:
    """What to write, in that order, and what has an error and is not for a repair to replace."""
    faults: dict[str, list[str]] = {}
    for one in found.all_findings:
        faults.setdefault(one.file, []).append(one.code)
    wrong = {
        _folder(file)
        for file, codes in faults.items()
        if any(code in REBUILDABLE and code.startswith("aggregate-") and code != "aggregate-missing" for code in codes)
    }
    orders = []
    for draft in Drafts(root, experiment, found, policy, datetime.now(timezone.utc)).of_tiers():
        codes = tuple(sorted(REBUILDABLE.intersection(faults.get(draft.file, ()))))
        beside = draft.file.endswith(".md") and draft.is_there and _folder(draft.file) in wrong
        if codes or beside:
            orders.append(_Order(draft, codes))
    known = {order.file for order in orders}
    refused = [
        Action("regenerate", one.file, "refused", reason=one.message)
        for one in found.all_findings
        if one.severity == "error" and one.file not in known
    ]
    return orders, refused


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


# Writing


def _carry_out(keeping: Keeping, orders: Sequence[_Order]) -> tuple[dict[str, Action], dict[str, bytes]]:
    """Write a directory after the other: what came of each file, and the hashes of those that were written."""
    endings: dict[str, Action] = {}
    written: dict[str, bytes] = {}
    failure = ""
    for _, together in groupby(orders, key=lambda order: order.folder):
        batch = {order.file: order for order in together}
        if not failure:
            made = []
            for order in batch.values():
                try:
                    made.append(order.new_file())
                except CannotRegenerate as error:
                    endings[order.file] = order.action("refused", printable(str(error)))
            try:
                for new in put_files(keeping, made):
                    endings[new.file] = batch[new.file].action("done")
                    written[new.file] = sha256(new.data).digest()
            except CannotWrite as error:
                failure = printable(str(error))
        for order in batch.values():
            endings.setdefault(order.file, order.action("failed", failure))
    return endings, written


def _held_to(
    experiment: Experiment,
    runs: Mapping[RunId, RunFigures],
    policy: Policy,
    endings: Mapping[str, Action],
    written: Mapping[str, bytes],
) -> dict[str, Action]:
    """What came of each file, given what an audit finds there now, and what is read there."""
    if not written:
        return dict(endings)
    left = {one.file: one.code for one in audit_aggregates(experiment, runs, policy)}
    held = dict(endings)
    with opened(experiment) as root:
        for file, digest in written.items():
            reason = None
            if file in left:
                reason = f"audited again, it still has {left[file]}"
            elif sha256(read_below(root, file, policy.max_file_size).data).digest() != digest:
                reason = "read again, it is not what was written"
            if reason is not None:
                held[file] = replace(endings[file], outcome="failed", solved=(), reason=reason)
    return held
