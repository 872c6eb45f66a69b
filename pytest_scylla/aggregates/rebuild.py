"""Aggregates rebuilt: from the figures of the runs, their own records, and of the old aggregates what no run proves.

Those are the times at which things began, ended or were written, what a tier started from, the order in which subtests
and tiers are listed, and whatever else an old record holds under keys of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial

from ..auditing.evidence import DEFAULT_POLICY, Policy
from ..auditing.run import garbage_collection_paused
from ..experiment.checkpoint import checkpoint_record, configuration_record
from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from ..experiment.records import Folder, Record
from ..experiment.schemas import Kind, is_valid, problems
from ..experiment.strict_json import Json
from ..repair.request import CannotRegenerate, without
from . import markdown
from .audit import Survey, TierSurvey, survey
from .experiment import Times, experiment_report, experiment_result, tier_comparison
from .facts import RunFigures, digest_of
from .files import (
    Aggregates,
    opened,
    read_manifest,
    read_run_result,
)
from .inheritance import inherited_from
from .markdown import TierPage
from .subtest import Members, SubtestFigures, subtest_report
from .tier import best_subtest, tier_report, tier_result

Make = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Draft:
    """An aggregate as it has to be, made when it is asked for.

    ``file`` is relative to the experiment; ``is_there`` says whether anything is in its place. ``obstacle`` is why
    nothing can be made, if that is known.
    """

    file: str
    is_there: bool
    obstacle: str | None
    _make: Make

    def make(self) -> bytes:
        """Its bytes.

        :raises CannotRegenerate: it cannot be made.
        """
        if self.obstacle is not None:
            raise CannotRegenerate(self.obstacle)
        return self._make()


_WHOLE = frozenset({"token_stats", "config", "tier_results", "inherited_from", "rate_limit_info", "tiebreaker_result"})
"""Objects that no old one adds anything to."""


def rebuild_aggregates(
    experiment: Experiment,
    runs: Mapping[RunId, RunFigures],
    tiers: Collection[str] | None = None,
    *,
    now: datetime,
    policy: Policy = DEFAULT_POLICY,
) -> dict[str, bytes]:
    """The aggregates as they have to be, by file, in the order in which to write them; nothing is written.

    Those of a tier that is not done are among them where they are there, as are the experiment's own. What may not be
    replaced is left out.

    :param runs: every expected run.
    :param tiers: whole tiers; ``None`` for all. The experiment's own aggregates come with them in any case.
    :param now: with a time zone.
    :raises CannotRegenerate: a run's record has to be rebuilt first, or nothing says when the experiment started.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with garbage_collection_paused(), opened(experiment) as root:
        drafts = Drafts(root, experiment, survey(root, experiment, runs, policy), policy, now)
        return {draft.file: draft.make() for draft in drafts.of_tiers(tiers)}


class Drafts:
    """The aggregates of an experiment as they have to be, each made when it is asked for.

    :param found: with the files that were read.
    """

    def __init__(self, root: Folder, experiment: Experiment, found: Survey, policy: Policy, now: datetime) -> None:
        self._root = root
        self._experiment = experiment
        self._found = found
        self._policy = policy
        self._now = now.astimezone(timezone.utc).isoformat()
        self._wrong = {one.file for one in found.all_findings}
        self._config = configuration_record(root)
        # What several files need is read, or made, once.
        self._runs_of = cache(self._read_runs)
        self._result_of = cache(self._tier_result)

    def of_tiers(self, tiers: Collection[str] | None = None) -> Iterator[Draft]:
        """The files of whole ``tiers`` (of all by default), and of the experiment: all that are due, or there.

        Subtests come before their tier, and tiers before the experiment. In a directory the Markdown reports come
        first: nothing but a wrong record beside it tells that a report is out of date.
        """
        obstacles = {tier: self._obstacle_in(found) for tier, found in self._found.tiers.items()}
        for tier, found in self._found.tiers.items():
            if tiers is None or tier in tiers:
                for subtest, own in found.files.subtests.items():
                    yield from _due(own, self._of_subtest(tier, subtest), obstacles[tier], is_done=found.is_done)
                yield from _due(found.files.own, self._of_tier(tier), obstacles[tier], is_done=found.is_done)
        obstacle = next(filter(None, obstacles.values()), None)
        if obstacle is None and self._times().started_at is None:
            obstacle = "no file says when the experiment started"
        yield from _due(self._found.files, self._of_experiment(), obstacle, is_done=self._found.is_done)

    @staticmethod
    def _obstacle_in(found: TierSurvey) -> str | None:
        lacking = (run.run for subtest in found.subtests.values() for run in subtest.runs if run.digest is None)
        run = next(lacking, None)
        return None if run is None else comes_first(run)

    def _of_subtest(self, tier: str, subtest: str) -> dict[str, Make]:
        return {
            "report.md": partial(self._subtest_page, tier, subtest),
            "report.json": partial(self._subtest_report, tier, subtest),
        }

    def _of_tier(self, tier: str) -> dict[str, Make]:
        return {
            "report.md": partial(self._tier_page, tier),
            "summary.md": partial(markdown.tier_summary, self._found.tiers[tier].figures),
            "result.json": lambda: self._dump("tier-result", self._old(tier, "result.json"), self._result_of(tier)),
            "report.json": partial(self._tier_report, tier),
            "best_subtest.json": partial(self._best_subtest, tier),
        }

    def _of_experiment(self) -> dict[str, Make]:
        return {
            "report.md": self._experiment_page,
            "summary.md": lambda: markdown.experiment_summary(self._found.figures, self._pages()),
            "result.json": self._experiment_result,
            "report.json": self._experiment_report,
            "tier_comparison.json": self._tier_comparison,
        }

    # Subtests

    def _subtest_report(self, tier: str, subtest: str) -> bytes:
        found = self._found.tiers[tier]
        old = found.files.subtests[subtest].records["report.json"]
        record = subtest_report(found.subtests[subtest], generated_at=self._written_at(old))
        return self._dump("subtest-report", old, _with_unknown_keys(record, old.data))

    def _subtest_page(self, tier: str, subtest: str) -> bytes:
        found = self._found.tiers[tier]
        figures = found.subtests[subtest]
        old = found.files.subtests[subtest].records["report.json"]
        seconds = {run["run_number"]: run["duration_seconds"] for run in self._runs_of(figures)}
        return markdown.subtest_report(figures, seconds, self._written_at(old))

    def _read_runs(self, subtest: SubtestFigures) -> list[Mapping[str, Json]]:
        """The records of the runs of a subtest that count."""
        return [self._read_run(run) for run in subtest.runs]

    def _read_run(self, run: RunFigures) -> Mapping[str, Json]:
        record = read_run_result(self._root, self._experiment, run.run, self._policy.max_file_size)
        if run.digest is None or not record.sound or digest_of(record.data) != run.digest:
            raise CannotRegenerate(comes_first(run.run))
        return record.data

    # Tiers

    def _tier_result(self, tier: str) -> dict[str, Json]:
        figures = self._found.tiers[tier].figures
        old = self._old(tier, "result.json")
        record = tier_result(
            figures,
            {one.subtest: self._runs_of(one) for one in figures.subtests},
            inherited_from=self._inherited_from(tier),
            total_duration=self._seconds_of(tier),
        )
        for subtest, result in record["subtest_results"].items():
            before = old.data.get("subtest_results", {}).get(subtest, {})
            result["rate_limit_info"] = before.get("rate_limit_info")
            if not result["selected_as_best"] and before.get("selected_as_best") is False:
                result["selection_reason"] = before.get("selection_reason", "")
        return _with_unknown_keys(record, old.data)

    def _tier_report(self, tier: str) -> bytes:
        old = self._old(tier, "report.json")
        figures = self._found.tiers[tier].figures
        written = self._written_at(old)
        record = tier_report(figures, total_duration=self._seconds_of(tier), generated_at=written)
        return self._dump("tier-report", old, _with_unknown_keys(record, old.data))

    def _best_subtest(self, tier: str) -> bytes:
        old = self._old(tier, "best_subtest.json")
        record = best_subtest(self._found.tiers[tier].figures)
        return self._dump("tier-best-subtest", old, _with_unknown_keys(record, old.data))

    def _tier_page(self, tier: str) -> bytes:
        figures = self._found.tiers[tier].figures
        seconds = {one.subtest: self._seconds_of_runs(one) for one in figures.subtests}
        written = self._written_at(self._old(tier, "report.json"))
        return markdown.tier_report(figures, self._seconds_of(tier), seconds, written)

    def _seconds_of(self, tier: str) -> float | None:
        """How long a tier took: no run says it."""
        seconds: float | None = _kept(
            self._old(tier, "result.json").data.get("total_duration"),
            self._old(tier, "report.json").data.get("summary", {}).get("total_duration"),
            self._copy_of(tier).get("total_duration"),
        )
        return seconds

    def _inherited_from(self, tier: str) -> Json:
        for old in (self._old(tier, "result.json").data, self._copy_of(tier)):
            if "inherited_from" in old:
                return old["inherited_from"]
        figures = {name: found.figures for name, found in self._found.tiers.items()}
        read = partial(read_manifest, self._root, self._experiment, max_size=self._policy.max_file_size)
        return inherited_from(figures[tier], figures, self._experiment.config.tiers, read)

    def _copy_of(self, tier: str) -> Mapping[str, Json]:
        """What the experiment's old result.json holds of a tier."""
        copy: Mapping[str, Json] = self._found.files.records["result.json"].data.get("tier_results", {}).get(tier, {})
        return copy

    def _seconds_of_runs(self, subtest: SubtestFigures) -> float | None:
        """How long the runs of a subtest that count took together."""
        seconds = [run["duration_seconds"] for run in self._runs_of(subtest)]
        return None if None in seconds or not seconds else sum(seconds)

    # The experiment

    def _experiment_result(self) -> bytes:
        old = self._found.files.records["result.json"]
        tiers = {tier.tier: self._current_result_of(tier.tier) for tier in self._found.figures.tiers}
        record = experiment_result(self._found.figures, tiers, self._configuration(), self._times())
        return self._dump("experiment-result", old, _with_unknown_keys(record, old.data))

    def _current_result_of(self, tier: str) -> Mapping[str, Json]:
        """A tier's result.json: as it is, if nothing is wrong with it."""
        is_clean = self._found.tiers[tier].content is not None
        return self._old(tier, "result.json").data if is_clean else self._result_of(tier)

    def _experiment_report(self) -> bytes:
        old = self._found.files.records["report.json"]
        places = {tier: found.place for tier, found in self._found.tiers.items()}
        id_, written = self._experiment.config.experiment_id, self._written_at(old)
        record = experiment_report(self._found.figures, places, id_, self._times(), generated_at=written)
        return self._dump("experiment-report", old, _with_unknown_keys(record, old.data))

    def _tier_comparison(self) -> bytes:
        old = self._found.files.records["tier_comparison.json"]
        return self._dump("tier-comparison", old, _with_unknown_keys(tier_comparison(self._found.figures), old.data))

    def _experiment_page(self) -> bytes:
        written = self._written_at(self._found.files.records["report.json"])
        return markdown.experiment_report(
            self._found.figures, self._pages(), self._configuration(), self._times(), written
        )

    def _pages(self) -> dict[str, TierPage]:
        pages = {}
        for figures in self._found.figures.tiers:
            tier, best = figures.tier, figures.best
            seconds = None if best is None else self._seconds_of_runs(best)
            pages[tier] = TierPage(self._found.tiers[tier].place, self._seconds_of(tier), seconds)
        return pages

    def _times(self) -> Times:
        result = self._found.files.records["result.json"].data
        summary = self._found.files.records["report.json"].data.get("summary", {})
        started = checkpoint_record(self._root).data.get("started_at")
        return Times(
            _kept(result.get("started_at"), summary.get("started_at"), started),
            _kept(result.get("completed_at"), summary.get("completed_at")),
            _kept(result.get("total_duration_seconds"), summary.get("total_duration")),
        )

    def _configuration(self) -> Mapping[str, Json]:
        if not self._found.configuration:
            raise CannotRegenerate(f"{self._config.file} is {self._config.state}")
        return self._found.configuration

    # All of them

    def _old(self, tier: str, name: str) -> Record:
        return self._found.tiers[tier].files.own.records[name]

    def _written_at(self, old: Record) -> str:
        """When a report was written: now, unless it says already what it has to."""
        kept: str = old.data["generated_at"] if old.sound and old.file not in self._wrong else self._now
        return kept

    def _dump(self, kind: Kind, old: Record, record: Mapping[str, Json]) -> bytes:
        """Write a record as the old one is written, or else the configuration."""
        if not is_valid(kind, record):
            problem = problems(kind, record)[0]
            raise CannotRegenerate(f"no file says what stands at {problem.pointer}: {problem.message}")
        like = old.raw or self._config.raw
        return (json.dumps(record, indent=2) + "\n" * like.endswith(b"\n")).encode()


def _due(own: Aggregates, makes: Mapping[str, Make], obstacle: str | None, *, is_done: bool) -> Iterator[Draft]:
    """The files of a directory that are due, or there, and may be replaced."""
    if own.barred is not None:
        return
    for name, make in makes.items():
        found = own.records[name] if name in own.records else own.reports[name]
        is_there = found.state != "absent"
        if (is_done or is_there) and found.state != "unsafe":
            yield Draft(own.file(name), is_there, obstacle, make)


def comes_first(run: RunId) -> str:
    """Why nothing that a run's record is part of can be made: that record is lost or wrong."""
    return f"run_result.json of {run} has to be rebuilt first"


def _kept(*values: Json) -> Json:
    """The first of ``values`` that is known."""
    return next((value for value in values if value is not None), None)


def _with_unknown_keys(record: Mapping[str, Json], old: Mapping[str, Json]) -> dict[str, Json]:
    """``record``, with whatever else an old one says under keys of its own."""
    merged: dict[str, Json] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and key not in _WHOLE:
            before = old.get(key)
            merged[key] = _with_unknown_keys(value, before if isinstance(before, Mapping) else {})
        else:
            merged[key] = value
    if isinstance(record, Members):
        return merged
    return {**merged, **without(old, *record)}
