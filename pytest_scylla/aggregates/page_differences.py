"""Where a Markdown report says something else than its figures; when, how long and where is nobody's to check."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

from ..experiment.strict_json import Json
from ..experiment.wording import describe
from . import markdown
from .differences import Difference
from .experiment import ExperimentFigures, Times
from .facts import RunFigures
from .subtest import SubtestFigures
from .tier import TierFigures

_UNKNOWN = "N/A"
_ASIDE = re.compile(r"^\*\*Generated\*\*: .*$|\b[0-9]+\.[0-9]+s\b|\]\([^()\n]*\)", re.MULTILINE)
"""A time, a duration, a place. No text makes that slow to look for."""

_SUM_ERROR = 1e-9
"""What the order in which numbers are added makes of their sum, as a share of it, and more."""


@dataclass(frozen=True)
class Page:
    """A Markdown report as it has to be, but for times.

    ``write`` makes it, given whether it says how many runs count, and how many times as high scores and costs are.
    """

    is_full: bool
    write: Callable[[bool, float], bytes]

    def difference(self, found: bytes) -> Difference | None:
        """The first line in which the report ``found`` differs.

        There is none in a report of another layout, which other versions of the program may write.
        """
        differing = None
        theirs = _lines(found)
        for counted in (True,) if self.is_full else (True, False):
            lines = _lines(self.write(counted, 1))
            if theirs == lines or self._rounds_to(theirs, lines, counted=counted):
                return None
            frame = _frame(theirs)
            if differing is None and frame == _frame(lines)[: len(frame)]:
                differing = _first_difference(lines, theirs)
        return differing

    def _rounds_to(self, found: Sequence[str], lines: Sequence[str], *, counted: bool) -> bool:
        """Whether ``found`` is what ``lines`` are, but for numbers that are just between two that are shown."""
        if len(found) != len(lines):
            return False
        less, more = (_lines(self.write(counted, 1 + error)) for error in (-_SUM_ERROR, _SUM_ERROR))
        return all(line in alike for line, alike in zip(found, zip(lines, less, more, strict=True), strict=True))


def subtest_pages(figures: SubtestFigures) -> dict[str, Page]:
    """The Markdown reports of a subtest, by name."""

    def report(counted: bool, by: float) -> bytes:
        return markdown.subtest_report(_subtest(figures, by), {}, "", counted=counted)

    return {"report.md": Page(figures.coverage.is_full, report)}


def tier_pages(figures: TierFigures) -> dict[str, Page]:
    """The Markdown reports of a tier, by name."""

    def report(counted: bool, by: float) -> bytes:
        return markdown.tier_report(_tier(figures, by), None, {}, "", counted=counted)

    def summary(counted: bool, by: float) -> bytes:
        return markdown.tier_summary(_tier(figures, by), counted=counted)

    is_full = figures.coverage.is_full
    return {"report.md": Page(is_full, report), "summary.md": Page(is_full, summary)}


def experiment_pages(
    figures: ExperimentFigures, places: Mapping[str, str], configuration: Mapping[str, Json]
) -> dict[str, Page]:
    """The Markdown reports of an experiment, by name.

    :param places: the directory of every tier, relative to the experiment.
    """
    pages = {tier: markdown.TierPage(place, None, None) for tier, place in places.items()}

    def report(counted: bool, by: float) -> bytes:
        return markdown.experiment_report(_experiment(figures, by), pages, configuration, Times(), "", counted=counted)

    def summary(counted: bool, by: float) -> bytes:
        return markdown.experiment_summary(_experiment(figures, by), pages, counted=counted)

    is_full = figures.coverage.is_full
    return {"report.md": Page(is_full, report), "summary.md": Page(is_full, summary)}


# Figures of runs of which all scores and costs are so many times as high


def _experiment(figures: ExperimentFigures, by: float) -> ExperimentFigures:
    return figures if by == 1 else replace(figures, tiers=tuple(_tier(tier, by) for tier in figures.tiers))


def _tier(figures: TierFigures, by: float) -> TierFigures:
    return figures if by == 1 else replace(figures, subtests=tuple(_subtest(one, by) for one in figures.subtests))


def _subtest(figures: SubtestFigures, by: float) -> SubtestFigures:
    return figures if by == 1 else replace(figures, all_runs=tuple(_run(run, by) for run in figures.all_runs))


def _run(run: RunFigures, by: float) -> RunFigures:
    score, cost = (None if value is None else value * by for value in (run.score, run.cost_usd))
    return replace(run, score=score, cost_usd=cost)


# Pages as lines


def _lines(page: bytes) -> list[str]:
    return _ASIDE.sub(_UNKNOWN, page.decode("utf-8", "replace").replace("\r\n", "\n")).rstrip().split("\n")


def _frame(lines: Sequence[str]) -> list[str]:
    """What makes up a page's layout: its headings, and the heads of its tables.

    Not its title, which holds an id; nor its last line, which may be cut off.
    """
    return [line for line, below in pairwise(lines[1:]) if line[:1] == "#" or below.startswith("|--")]


def _first_difference(expected: Sequence[str], found: Sequence[str]) -> Difference:
    pairs = zip_longest(expected, found)
    index, mine, theirs = next((index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    shown = ["no more lines" if line is None else describe(line) for line in (mine, theirs)]
    return Difference("", f"{shown[0]} in line {index + 1}", shown[1])
