"""Mending checkpoint.json: what the disk proves of the runs is recorded, and everything else stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from ..auditing.checkpoint import RunFacts, audit_checkpoint, faults_of, read_checkpoint
from ..experiment.checkpoint import (
    Checkpoint,
    Renewal,
    UnknownVersion,
    configuration_record,
    differences,
    new_checkpoint,
    readable_part,
    rewrite_checkpoint,
    with_runs,
)
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import CHECKPOINT, CONFIG, RunId
from ..experiment.records import Record
from ..experiment.strict_json import Json
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite
from .actions import Action, Ending
from .request import CannotRegenerate


def mend_checkpoint(
    experiment: Experiment,
    record: Record | None,
    config: Mapping[str, Json],
    runs: Mapping[RunId, RunFacts],
    now: datetime,
) -> dict[str, Json]:
    """The checkpoint as it has to be: ``record`` where that is right, and what the disk proves of ``runs``.

    A finished run is recorded as its judges have it, one whose agent alone is done as still to be judged, and of every
    other one nothing; a run in conflict, or an unsafe one, stays as it is recorded. Of a record that is not sound, what
    is sound by itself is kept, and the rest comes from the configuration. What nothing proves is left out.

    :param record: ``None`` where there is none.
    :param config: the whole configuration.
    :param runs: every expected run.
    :param now: with a time zone.
    :raises CannotRegenerate: it names another configuration, is of an unknown version, or may not be touched.
    """
    finished = not experiment.unknown_tiers and all(
        run in runs and runs[run].status == "completed" for run in experiment.runs()
    )
    new = new_checkpoint(experiment.root, config, now, "completed" if finished else "interrupted")
    if record is not None and record.state == "unsafe":
        raise CannotRegenerate(record.problems[0].message)
    try:
        data = new if record is None else readable_part(record, new)
    except UnknownVersion as error:
        raise CannotRegenerate(str(error)) from error
    for _, message in differences(data, config):
        raise CannotRegenerate(f"{message}; nothing proves by which of the two the runs were made")
    return with_runs(data, {fault.run: fault.due for fault in faults_of(Checkpoint(data), runs)}, now)


def planned_repair(experiment: Experiment, runs: Mapping[RunId, RunFacts]) -> Action | None:
    """What a repair of the checkpoint would do, given what the disk proves of every expected run; nothing is written.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    record, config = read_checkpoint(experiment)
    try:
        renewal = _renewal(experiment, record, config, runs)
    except CannotRegenerate as refused:
        return _refused(refused)
    return None if renewal is None else _action(renewal, "planned")


def repair_checkpoint(
    experiment: Experiment, keeping: Keeping, read_runs: Callable[[], Mapping[RunId, RunFacts]]
) -> Action | None:
    """Mend the checkpoint; the caller made sure that nobody runs the experiment. ``None`` where nothing is wrong.

    A reason of the place makes the action fail.

    :param read_runs: audits every expected run. It is called while nobody else can record how a run ended, so that
        whatever is recorded by then is on the disk.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    start = time.perf_counter()

    def renew(record: Record) -> Renewal | None:
        return _renewal(experiment, record, configuration_record(keeping.experiment), read_runs())

    try:
        renewal = rewrite_checkpoint(keeping, renew)
    except CannotRegenerate as refused:
        return _refused(refused)
    except CannotWrite as error:
        return Action("regenerate", CHECKPOINT, "failed", reason=printable(str(error)))
    return None if renewal is None else _action(renewal, "done", time.perf_counter() - start)


def _renewal(experiment: Experiment, record: Record, config: Record, runs: Mapping[RunId, RunFacts]) -> Renewal | None:
    findings = audit_checkpoint(record, config, runs)
    if not findings:
        return None
    if not config.sound:
        raise CannotRegenerate(f"{CONFIG} is {config.state}")
    data = mend_checkpoint(experiment, record, config.data, runs, datetime.now(timezone.utc))
    return Renewal(data, tuple(sorted({found.code for found in findings})))


def _action(renewal: Renewal, outcome: Ending, seconds: float = 0.0) -> Action:
    return Action(
        "regenerate",
        CHECKPOINT,
        outcome,
        files=(CHECKPOINT,),
        solved=renewal.solves or (),
        seconds=round(seconds, 6),
    )


def _refused(why: CannotRegenerate) -> Action:
    return Action("regenerate", CHECKPOINT, "refused", reason=printable(str(why)))
