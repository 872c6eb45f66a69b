"""Where aggregates lie, and what is there: each file read once, none through a link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..experiment.errors import ExperimentGone
from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from ..experiment.records import Blob, Folder, Record, open_below, open_experiment
from ..experiment.schemas import Kind, as_record

SUBTEST_RECORDS: dict[str, Kind] = {"report.json": "subtest-report"}
TIER_RECORDS: dict[str, Kind] = {
    "result.json": "tier-result",
    "report.json": "tier-report",
    "best_subtest.json": "tier-best-subtest",
}
EXPERIMENT_RECORDS: dict[str, Kind] = {
    "result.json": "experiment-result",
    "report.json": "experiment-report",
    "tier_comparison.json": "tier-comparison",
}
SUBTEST_REPORTS = ("report.md",)
REPORTS = ("report.md", "summary.md")
"""The Markdown files of a tier, and of the experiment."""
_RUN_REPORTS = ("report.md",)


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The aggregates in one directory: those of a subtest, a tier or the experiment.

    ``place`` is the directory, relative to the experiment; ``records`` and ``reports``, the Markdown files, are by
    name. ``barred`` says which directory on the way may not be opened, if one may not.
    """

    place: str
    records: Mapping[str, Record]
    reports: Mapping[str, Blob]
    barred: Blob | None = None

    def file(self, name: str) -> str:
        """The path of one of its files, relative to the experiment."""
        return f"{self.place}/{name}" if self.place else name

    def without_content(self) -> Aggregates:
        """The same, of files no more than how they were found."""
        records = {name: record._replace(data={}, raw=b"") for name, record in self.records.items()}
        reports = {name: report._replace(data=b"") for name, report in self.reports.items()}
        return replace(self, records=records, reports=reports)


@dataclass(frozen=True, slots=True)
class TierAggregates:
    """A tier's own aggregates, and those of its subtests, by id."""

    own: Aggregates
    subtests: Mapping[str, Aggregates]

    def without_content(self) -> TierAggregates:
        """The same, of files no more than how they were found."""
        subtests = {subtest: found.without_content() for subtest, found in self.subtests.items()}
        return TierAggregates(self.own.without_content(), subtests)


@contextmanager
def opened(experiment: Experiment) -> Iterator[Folder]:
    """Open an experiment that was loaded.

    :raises ExperimentGone: it can no longer be opened.
    """
    try:
        root = open_experiment(experiment.root)
    except OSError as error:
        raise ExperimentGone(error.errno, error.strerror) from error
    with root:
        yield root


def read_tier(
    root: Folder, experiment: Experiment, tier: str, place: str, max_size: int, *, keep_raw: bool = True
) -> TierAggregates:
    """Read the aggregates of a tier, which lie in ``place``, and of its subtests; nothing over ``max_size`` bytes.

    :param keep_raw: otherwise let go of the records' bytes once they are parsed.
    """
    own = _read(root, place, TIER_RECORDS, REPORTS, max_size, keep_raw=keep_raw)
    subtests = {
        subtest: _read(root, f"{place}/{subtest}", SUBTEST_RECORDS, SUBTEST_REPORTS, max_size, keep_raw=keep_raw)
        for subtest in experiment.subtests[tier]
    }
    return TierAggregates(own, subtests)


def read_totals(root: Folder, max_size: int) -> Aggregates:
    """Read the experiment's own aggregates."""
    return _read(root, "", EXPERIMENT_RECORDS, REPORTS, max_size)


def keeps_reports(root: Folder, experiment: Experiment, tiers: Mapping[str, str]) -> bool:
    """Whether the experiment has Markdown reports at all: not every copy does, and one without any has lost none.

    :param tiers: where the aggregates of every tier lie.
    """
    if any(root.kind(name) for name in REPORTS):
        return True
    for tier, subtests in experiment.subtests.items():
        place = tuple(tiers[tier].split("/"))
        if _has(root, place, REPORTS):
            return True
        for subtest in subtests:
            if _has(root, (*place, subtest), SUBTEST_REPORTS) or _has(root, (*place, subtest, "run_01"), _RUN_REPORTS):
                return True
    return False


def _has(root: Folder, place: Sequence[str], names: Sequence[str]) -> bool:
    folder = open_below(root, place)
    if isinstance(folder, Blob):
        return False
    with folder:
        return any(folder.kind(name) for name in names)


def read_run_result(root: Folder, experiment: Experiment, run: RunId, max_size: int) -> Record:
    """Read a run's own record, in whichever layout it lies."""
    return _find(root, experiment, (run.tier, run.subtest, run.name), "run_result.json", "run-result", max_size)


def read_manifest(root: Folder, experiment: Experiment, tier: str, subtest: str, max_size: int) -> Record:
    """Read config_manifest.json of a subtest, in whichever layout it lies."""
    return _find(root, experiment, (tier, subtest), "config_manifest.json", "config-manifest", max_size)


def _find(root: Folder, experiment: Experiment, place: tuple[str, ...], name: str, kind: Kind, max_size: int) -> Record:
    for stage in _stages(experiment):
        folder = open_below(root, (*filter(None, (stage,)), *place))
        if isinstance(folder, Folder):
            with folder:
                record = as_record(folder.read(name, max_size), kind)
            if record.state != "absent":
                return record
    return Record("/".join((*place, name)), "absent", {})


def _stages(experiment: Experiment) -> list[str]:
    # What is finished is found where finished runs go, before it is where runs are under way.
    return sorted(experiment.stages, key=lambda stage: stage == "in_progress")


def place_of(root: Folder, experiment: Experiment, tier: str) -> str:
    """The tier's directory that holds its aggregates, or is to hold them."""
    places = [f"{stage}/{tier}" if stage else tier for stage in _stages(experiment)]
    there = []
    for place in places:
        folder = open_below(root, place.split("/"))
        if isinstance(folder, Folder):
            with folder:
                if any(folder.kind(name) for name in TIER_RECORDS):
                    return place
            there.append(place)
        elif folder.state != "absent":
            there.append(place)
    return (there or places)[0]


def _read(
    root: Folder,
    place: str,
    records: Mapping[str, Kind],
    reports: tuple[str, ...],
    max_size: int,
    *,
    keep_raw: bool = True,
) -> Aggregates:
    folder = open_below(root, place.split("/")) if place else root
    if isinstance(folder, Blob):
        barred = None if folder.state == "absent" else folder
        absent = {name: Record(f"{place}/{name}", "absent", {}) for name in records}
        return Aggregates(place, absent, {name: Blob(f"{place}/{name}", "absent") for name in reports}, barred)
    try:
        return Aggregates(
            place,
            {
                name: record if keep_raw else record._replace(raw=b"")
                for name, kind in records.items()
                for record in (as_record(folder.read(name, max_size), kind),)
            },
            {name: folder.read(name, max_size) for name in reports},
        )
    finally:
        if folder is not root:
            folder.close()
