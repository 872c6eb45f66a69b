"""The audit of aggregates: do they say what the runs amount to?

A tier is done when none of its runs is missing or unfinished; the experiment, when all its tiers are. The program that
runs it writes a tier's aggregates when the tier is done, and its subtests' with them: before that, that they are absent
is no fault. Those that are there are held to the runs at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import orjson

from ..auditing.evidence import DEFAULT_POLICY, Policy
from ..auditing.findings import Finding, finding, problem_finding
from ..auditing.run import garbage_collection_paused
from ..experiment.checkpoint import checkpoint_record, configuration_record, is_hash_of
from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from ..experiment.records import Folder, Record
from ..experiment.strict_json import Json
from .differences import Difference, copy_differences, differences
from .experiment import ExperimentFigures, Times, experiment_report, experiment_result, tier_comparison
from .facts import PATHS, RunFigures, digest_of
from .files import Aggregates, TierAggregates, keeps_reports, opened, place_of, read_run_result, read_tier, read_totals
from .page_differences import Page, experiment_pages, subtest_pages, tier_pages
from .subtest import SubtestFigures, subtest_report
from .tier import Former, TierFigures, best_subtest, tier_report, tier_result

_OF_THE_DAY = frozenset(
    {
        *("parallel_subtests", "max_subtests"),
        *("task_prompt_file", "criteria_file", "rubric_file"),
    }
)
"""Keys of the configuration in which a copy may differ: they say how one session went about it, or where files lie."""


@dataclass(frozen=True, slots=True)
class TierSurvey:
    """A tier: its figures, what lies there, and what is wrong with that.

    ``subtests`` are all that are expected, by id; ``figures`` of those that its records have to list. ``place`` is its
    directory. The content of ``files`` may have been let go of. ``content`` tells its result.json from any other, where
    nothing is wrong with that; else it is ``None``.
    """

    subtests: Mapping[str, SubtestFigures]
    figures: TierFigures
    is_done: bool
    findings: tuple[Finding, ...]
    place: str
    files: TierAggregates = field(repr=False)
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Survey:
    """An experiment: all its tiers, its figures, what lies there, and what is wrong with that.

    ``figures`` are of the tiers that its own records have to list; ``configuration`` is what they repeat: the copy in
    result.json, where nothing is wrong with that.
    """

    tiers: Mapping[str, TierSurvey]
    figures: ExperimentFigures
    configuration: Mapping[str, Json] = field(repr=False)
    is_done: bool
    findings: tuple[Finding, ...]
    files: Aggregates = field(repr=False)

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """What is wrong with any aggregate, subtests before tiers before the experiment, each thing once."""
        found = [one for tier in self.tiers.values() for one in tier.findings]
        return tuple(dict.fromkeys((*found, *self.findings)))


def audit_aggregates(
    experiment: Experiment, runs: Mapping[RunId, RunFigures], policy: Policy = DEFAULT_POLICY
) -> tuple[Finding, ...]:
    """Audit the aggregates of an experiment by the figures of its runs: errors, and warnings for lost reports.

    :param runs: every expected run.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    with garbage_collection_paused(), opened(experiment) as root:
        return survey(root, experiment, runs, policy, keep_content=False).all_findings


def survey(
    root: Folder, experiment: Experiment, runs: Mapping[RunId, RunFigures], policy: Policy, *, keep_content: bool = True
) -> Survey:
    """Audit the aggregates of an experiment, tier by tier.

    :param runs: every expected run.
    :param keep_content: otherwise let go of what was read of a tier once it is audited: that takes most of the room.
    """
    checkpoint = checkpoint_record(root).data
    known = checkpoint.get("completed_runs") or {}
    places = {tier: place_of(root, experiment, tier) for tier in experiment.subtests}
    auditor = _Auditor(root, experiment, runs, policy, keeps_reports(root, experiment, places), keep_content)
    tiers = {}
    for tier, place in places.items():
        found = auditor.tier(tier, place, tuple(known.get(tier) or ()))
        tiers[tier] = found if keep_content else replace(found, files=found.files.without_content())
    return auditor.experiment_of(tiers, tuple(known), checkpoint.get("config_hash", ""))


@dataclass(frozen=True, slots=True)
class _Auditor:
    """Audits an experiment's aggregates; ``with_reports`` says whether it keeps Markdown reports.

    ``keep_raw``: hold on to the bytes of records.
    """

    root: Folder
    experiment: Experiment
    runs: Mapping[RunId, RunFigures]
    policy: Policy
    with_reports: bool
    keep_raw: bool

    def tier(self, tier: str, place: str, started: Sequence[str]) -> TierSurvey:
        """Audit a tier whose aggregates lie in ``place``.

        :param started: its subtests in the order in which the checkpoint came to know them.
        """
        files = read_tier(self.root, self.experiment, tier, place, self.policy.max_file_size, keep_raw=self.keep_raw)
        subtests = {subtest: self._subtest(tier, subtest) for subtest in files.subtests}
        is_done = bool(subtests) and all(one.is_done for one in subtests.values())
        result, report, best = (files.own.records[name] for name in ("result.json", "report.json", "best_subtest.json"))
        lists = (
            tuple(result.data.get("subtest_results", ())),
            tuple(child["id"] for child in report.data.get("children", ())),
            started,
        )
        due = [one for one in _in_order(subtests, lists) if subtests[one].is_done or _is_listed(one, lists[:2])]
        former = Former(
            tuple(vote["subtest_id"] for vote in best.data.get("votes", ())),
            (best if best.sound else result).data.get("tiebreaker_needed"),
        )
        figures = TierFigures(tier, tuple(subtests[one] for one in due), former)
        findings: list[Finding] = []
        for subtest, found in files.subtests.items():
            wrong = differences(subtest_report(subtests[subtest]), found.records["report.json"].data)
            findings += self._faults(found, {"report.json": wrong}, subtest_pages(subtests[subtest]), is_done)
        wrong_in = {
            "result.json": self._wrong_in_tier(figures, result.data, ""),
            "report.json": differences(tier_report(figures), report.data),
            "best_subtest.json": differences(best_subtest(figures), best.data),
        }
        findings += self._faults(files.own, wrong_in, tier_pages(figures), is_done)
        is_clean = result.sound and all(one.file != result.file for one in findings)
        content = _content(result.data) if is_clean else None
        return TierSurvey(subtests, figures, is_done, tuple(findings), place, files, content)

    def experiment_of(self, tiers: Mapping[str, TierSurvey], started: Sequence[str], config_hash: str) -> Survey:
        """Audit the experiment's own aggregates, given all its tiers.

        :param started: the tiers in the order in which the checkpoint came to know them.
        :param config_hash: the hash by which the checkpoint knows the configuration.
        """
        files = read_totals(self.root, self.policy.max_file_size)
        result, report, comparison = (
            files.records[name] for name in ("result.json", "report.json", "tier_comparison.json")
        )
        lists = (
            tuple(result.data.get("tier_results", ())),
            tuple(child["tier"] for child in report.data.get("children", ())),
            tuple(comparison.data),
            started,
        )
        due = [one for one in _in_order(tiers, lists) if tiers[one].is_done or _is_listed(one, lists[:3])]
        best = result.data.get("best_overall_tier") or report.data.get("summary", {}).get("best_tier")
        figures = ExperimentFigures(tuple(tiers[one].figures for one in due), best)
        is_done = bool(tiers) and all(tier.is_done for tier in tiers.values())
        places = {tier: found.place for tier, found in tiers.items()}
        id_ = self.experiment.config.experiment_id
        configuration = configuration_record(self.root).data
        wrong_in_result = list(self._wrong_in_experiment(figures, result.data, tiers))
        # The copy of an experiment under way is of the day on which it was made; and where the checkpoint proves that
        # it was the copy by which the runs were made, it is the configuration that changed.
        if is_done and result.sound and not is_hash_of(config_hash, result.data["config"]):
            wrong_in_result += copy_differences(
                configuration, result.data["config"], "/config", "experiment", _OF_THE_DAY
            )
        shown = configuration if wrong_in_result else result.data["config"]
        wrong_in = {
            "result.json": wrong_in_result,
            "report.json": differences(experiment_report(figures, places, id_, Times()), report.data),
            "tier_comparison.json": differences(tier_comparison(figures), comparison.data),
        }
        pages = experiment_pages(figures, places, shown) if shown else {}
        findings = tuple(self._faults(files, wrong_in, pages, is_done))
        return Survey(tiers, figures, shown, is_done, findings, files)

    def _subtest(self, tier: str, subtest: str) -> SubtestFigures:
        numbers = range(1, self.experiment.config.runs_per_subtest + 1)
        return SubtestFigures(tier, subtest, tuple(self.runs[RunId(tier, subtest, number)] for number in numbers))

    # Files

    def _faults(
        self,
        found: Aggregates,
        wrong_in: Mapping[str, Iterable[Difference]],
        pages: Mapping[str, Page],
        is_due: bool,
    ) -> Iterator[Finding]:
        """What is wrong with the aggregates of a directory.

        :param wrong_in: where its records, those that are sound, differ from the runs.
        :param pages: its Markdown reports as they have to be, by name.
        """
        if found.barred is not None:
            code = "unsafe-object" if found.barred.state == "unsafe" else "aggregate-malformed"
            yield finding(code, found.barred.file, found.barred.reason)
            return
        faults = [
            fault for name, record in found.records.items() for fault in _record_faults(record, wrong_in[name], is_due)
        ]
        yield from faults
        # With a record that is wrong, the reports beside it are rebuilt in any case.
        is_right = all(fault.code == "aggregate-missing" for fault in faults)
        for name, report in found.reports.items():
            if report.state == "unsafe":
                yield finding("side-file-unsafe", report.file, report.reason)
            elif report.state == "malformed":
                yield finding("side-file-malformed", report.file, report.reason)
            elif report.state == "absent":
                if is_due and self.with_reports:
                    yield finding("report-missing", report.file, "expected a report, found none")
            elif is_right and name in pages and (differing := pages[name].difference(report.data)):
                yield finding("report-stale", report.file, f"expected {differing.expected}, found {differing.found}")

    # Records

    def _wrong_in_tier(self, figures: TierFigures, found: Mapping[str, Json], pointer: str) -> Iterator[Difference]:
        yield from differences(tier_result(figures, {}), found, pointer)
        results = found.get("subtest_results", {})
        for subtest in figures.subtests:
            if subtest.subtest in results:
                copies = results[subtest.subtest]["runs"]
                yield from self._wrong_copies(subtest, copies, f"{pointer}/subtest_results/{subtest.subtest}/runs")

    def _wrong_in_experiment(
        self, figures: ExperimentFigures, found: Mapping[str, Json], tiers: Mapping[str, TierSurvey]
    ) -> Iterator[Difference]:
        results = found.get("tier_results", {})
        # The copy of a tier's own record with which nothing is wrong needs no second look.
        expected: dict[str, Json] = {tier.tier: {} for tier in figures.tiers}
        yield from differences(experiment_result(figures, expected, {}, Times()), found)
        for tier in figures.tiers:
            if tier.tier in results and tiers[tier.tier].content != _content(results[tier.tier]):
                yield from self._wrong_in_tier(tier, results[tier.tier], f"/tier_results/{tier.tier}")

    # The copies of runs' records in other records

    def _wrong_copies(self, subtest: SubtestFigures, found: Sequence[Json], pointer: str) -> Iterator[Difference]:
        places = {entry["run_number"]: index for index, entry in enumerate(found)}
        for run in subtest.runs:
            index = places.get(run.run.number)
            if index is None:
                yield Difference(pointer, f"an entry for run {run.run.number}", "none")
            elif digest_of(found[index]) != run.digest:
                yield from self._wrong_copy(run, found[index], f"{pointer}/{index}")
        if len(found) > len(subtest.runs):
            yield Difference(pointer, f"{len(subtest.runs)} runs that count", str(len(found)))

    def _wrong_copy(self, run: RunFigures, found: Mapping[str, Json], pointer: str) -> Iterator[Difference]:
        figures = {
            "judge_score": run.score,
            "judge_passed": run.passed,
            "judge_grade": run.grade,
            "cost_usd": run.cost_usd,
        }
        wrong = list(differences(figures, found, pointer))
        if not wrong and run.digest is not None:
            record = read_run_result(self.root, self.experiment, run.run, self.policy.max_file_size)
            if record.sound and digest_of(record.data) == run.digest:
                wrong = list(copy_differences(record.data, found, pointer, "run-result", PATHS))
            else:  # it is another one by now, or not yet what it is going to be
                wrong = [Difference(pointer, f"the run_result.json of {run.run}", "another")]
        yield from wrong


def _record_faults(record: Record, wrong: Iterable[Difference], is_due: bool) -> Iterator[Finding]:
    if record.state == "absent":
        if is_due:
            yield finding("aggregate-missing", record.file, "expected a record, found none")
    elif record.too_large:
        yield finding("aggregate-too-large", record.file, record.problems[0].message)
    elif record.state == "unsafe":
        yield finding("unsafe-object", record.file, record.problems[0].message)
    elif not record.sound:
        for problem in record.problems:
            yield problem_finding(f"aggregate-{record.state}", record.file, problem)
    else:
        found = list(wrong)
        if found:
            first, more = found[0], len(found) - 1
            message = f"expected {first.expected}, found {first.found}"
            if more:
                message += f"; {more} more difference{'s' * (more != 1)}"
            yield finding("aggregate-stale", record.file, message, first.pointer)


def _in_order(ids: Iterable[str], lists: Sequence[Sequence[str]]) -> list[str]:
    """``ids`` in the order of the first of ``lists`` that has any, and those that it lacks behind them."""
    order = next(filter(None, lists), ())
    places = {name: index for index, name in enumerate(order)}
    return sorted(ids, key=lambda name: places.get(name, len(places)))


def _is_listed(name: str, lists: Sequence[Sequence[str]]) -> bool:
    return any(name in names for names in lists)


def _content(record: Mapping[str, Json]) -> bytes:
    try:
        return sha256(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).digest()
    except orjson.JSONEncodeError:  # a lone surrogate, which is no text for it
        return sha256(repr(record).encode("utf-8", "surrogatepass")).digest()
