"""A subtest: what its runs amount to, and the records that say so.

Every mean, rate and sum is about the runs that count (:attr:`.facts.RunFigures.is_scored`), and stands beside how many
they are. Without any there is no number, rather than a 0.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..auditing.agent_output import TokenCounts
from ..experiment.strict_json import Json
from ..repair.agent_files import token_stats
from .facts import Coverage, RunFigures, sum_of_costs, sum_of_tokens

GRADES = "SABCDF"
"""The grades, best first; "N/A" is none of them."""


class Members(dict[str, Json]):
    """A JSON object whose keys are ids, or grades: it has these and no others."""


@dataclass(frozen=True)
class SubtestFigures:
    """A subtest in figures, given all its expected runs.

    Scores and rates are from 0 to 1, costs in US dollars; all are ``None`` where no run counts, costs also where none
    is known.
    """

    tier: str
    subtest: str
    all_runs: tuple[RunFigures, ...]

    @cached_property
    def runs(self) -> tuple[RunFigures, ...]:
        """The runs that count."""
        return tuple(run for run in self.all_runs if run.is_scored)

    @cached_property
    def coverage(self) -> Coverage:
        """How many runs that is."""
        return Coverage.of(self.all_runs)

    @property
    def is_done(self) -> bool:
        """Whether the program that runs the experiment has no run of it before it."""
        return not any(run.is_under_way for run in self.all_runs)

    @cached_property
    def scores(self) -> tuple[float, ...]:
        """The scores of the runs that count."""
        return tuple(run.score for run in self.runs if run.score is not None)

    @cached_property
    def passed(self) -> int:
        """How many of the runs that count have passed."""
        return sum(run.passed is True for run in self.runs)

    @property
    def pass_rate(self) -> float | None:
        """The share of the runs that count which passed."""
        return self.passed / len(self.runs) if self.runs else None

    @cached_property
    def mean_score(self) -> float | None:
        """The mean of the scores."""
        return statistics.mean(self.scores) if self.scores else None

    @cached_property
    def median_score(self) -> float | None:
        """The median of the scores."""
        return statistics.median(self.scores) if self.scores else None

    @cached_property
    def std_dev(self) -> float | None:
        """The standard deviation of the population that the scores are a sample of; 0 for a single one."""
        if not self.scores:
            return None
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0

    @property
    def consistency(self) -> float | None:
        """1 less the deviation as a share of the mean, at least 0; 0 where the mean is 0."""
        if self.mean_score is None or self.std_dev is None:
            return None
        return max(0.0, 1.0 - self.std_dev / self.mean_score) if self.mean_score > 0 else 0.0

    @cached_property
    def total_cost(self) -> float | None:
        """What the agents of the runs that count have cost, as far as that is known."""
        return sum_of_costs([run.cost_usd for run in self.runs])

    @property
    def mean_cost(self) -> float | None:
        """What one of them has cost."""
        return None if self.total_cost is None else self.total_cost / self.coverage.priced

    @property
    def cost_of_pass(self) -> float | None:
        """What one passed run costs: the mean cost by the share that passes; ``None`` where none passed."""
        return self.mean_cost / self.pass_rate if self.mean_cost is not None and self.pass_rate else None

    @cached_property
    def tokens(self) -> TokenCounts:
        """The tokens of the runs that count."""
        return sum_of_tokens([run.tokens for run in self.runs if run.tokens is not None])

    @cached_property
    def grades(self) -> dict[str, int]:
        """How often every grade was given, in the order of the runs."""
        return dict(Counter(run.grade for run in self.runs if run.grade))

    @property
    def modal_grade(self) -> str | None:
        """The grade given most often, the first of equals."""
        return max(self.grades, key=self.grades.__getitem__, default=None)

    @property
    def min_grade(self) -> str | None:
        """The worst grade."""
        return max(filter(GRADES.__contains__, self.grades), key=GRADES.index, default=None)

    @property
    def max_grade(self) -> str | None:
        """The best grade."""
        return min(filter(GRADES.__contains__, self.grades), key=GRADES.index, default=None)

    def grade_summary(self) -> dict[str, Json]:
        """The grades as records hold them."""
        return {
            "grade_distribution": Members(self.grades) if self.runs else None,
            "modal_grade": self.modal_grade,
            "min_grade": self.min_grade,
            "max_grade": self.max_grade,
        }


def subtest_report(figures: SubtestFigures, *, generated_at: str = "") -> dict[str, Json]:
    """report.json of a subtest, written at ``generated_at``."""
    return {
        "subtest_id": figures.subtest,
        "tier_id": figures.tier,
        "summary": {
            "total_runs": len(figures.runs),
            "passed": figures.passed,
            "pass_rate": figures.pass_rate,
            "mean_score": figures.mean_score,
            "median_score": figures.median_score,
            "std_dev": figures.std_dev,
            "total_cost": figures.total_cost,
            "consistency": figures.consistency,
            **figures.grade_summary(),
            "coverage": figures.coverage.as_data(),
        },
        "token_stats": token_stats(figures.tokens),
        "children": [
            {
                "run_number": run.run.number,
                "score": run.score,
                "passed": run.passed,
                "report": f"./{run.run.name}/report.json",
            }
            for run in figures.runs
        ],
        "generated_at": generated_at,
    }


def subtest_result(figures: SubtestFigures, runs: Sequence[Json], reason: str | None) -> dict[str, Json]:
    """What a tier's result.json holds of a subtest.

    :param runs: the records of the runs that count.
    :param reason: why it was selected as the best of its tier; ``None`` if it was not.
    """
    return {
        "subtest_id": figures.subtest,
        "tier_id": figures.tier,
        "runs": list(runs),
        "pass_rate": figures.pass_rate,
        "mean_score": figures.mean_score,
        "median_score": figures.median_score,
        "std_dev_score": figures.std_dev,
        "mean_cost": figures.mean_cost,
        "total_cost": figures.total_cost,
        "token_stats": token_stats(figures.tokens),
        "consistency": figures.consistency,
        **figures.grade_summary(),
        "selected_as_best": reason is not None,
        "selection_reason": reason or "",
        "rate_limit_info": None,
        "coverage": figures.coverage.as_data(),
    }
