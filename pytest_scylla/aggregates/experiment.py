"""The experiment: its tiers side by side, and the records that say so.

The best tier is the one whose best subtest passes at the lowest cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..auditing.agent_output import TokenCounts
from ..auditing.consensus import TOLERANCE
from ..experiment.strict_json import Json
from ..repair.agent_files import token_stats
from .facts import Coverage, coverage_of_all, sum_of_costs, sum_of_tokens
from .subtest import Members
from .tier import TierFigures


@dataclass(frozen=True)
class ExperimentFigures:
    """An experiment in figures: its tiers, in the order in which records list them.

    ``former_best`` is the tier that was the best before: of equals it stays so.
    """

    tiers: tuple[TierFigures, ...]
    former_best: str | None

    @cached_property
    def best(self) -> TierFigures | None:
        """The tier of the lowest cost of a pass, the first of equals; ``None`` where none passed."""
        costs = [(tier.cost_of_pass, tier) for tier in self.tiers if tier.cost_of_pass is not None]
        if not costs:
            return None
        least, first = min(costs, key=lambda entry: entry[0])
        equals = (tier for cost, tier in costs if cost <= least + TOLERANCE and tier.tier == self.former_best)
        return next(equals, first)

    @property
    def total_cost(self) -> float | None:
        """The cost of all runs that count, in US dollars; ``None`` where none is known."""
        return sum_of_costs([tier.total_cost for tier in self.tiers])

    @property
    def tokens(self) -> TokenCounts:
        """The tokens of all runs that count."""
        return sum_of_tokens([tier.tokens for tier in self.tiers])

    @property
    def coverage(self) -> Coverage:
        """How many runs that is."""
        return coverage_of_all([tier.coverage for tier in self.tiers])


@dataclass(frozen=True, slots=True)
class Times:
    """When an experiment was run: moments as records write them, and seconds; ``None`` where that is not known."""

    started_at: str | None = None
    completed_at: str | None = None
    seconds: float | None = None


def experiment_result(
    figures: ExperimentFigures, tiers: Mapping[str, Json], config: Mapping[str, Json], times: Times
) -> dict[str, Json]:
    """result.json of an experiment with this configuration.

    :param tiers: the tiers' own records, by id.
    """
    best = figures.best
    return {
        "config": dict(config),
        "tier_results": Members((tier.tier, tiers[tier.tier]) for tier in figures.tiers),
        "best_overall_tier": None if best is None else best.tier,
        "best_overall_subtest": None if best is None else best.best_id,
        "frontier_cop": None if best is None else best.cost_of_pass,
        "frontier_cop_tier": None if best is None else best.tier,
        "total_cost": figures.total_cost,
        "total_duration_seconds": times.seconds,
        "token_stats": token_stats(figures.tokens),
        "started_at": times.started_at,
        "completed_at": times.completed_at,
        "coverage": figures.coverage.as_data(),
    }


def experiment_report(
    figures: ExperimentFigures,
    places: Mapping[str, str],
    experiment_id: str,
    times: Times,
    *,
    generated_at: str = "",
) -> dict[str, Json]:
    """report.json of an experiment, written at ``generated_at``.

    :param places: the directory of every tier, relative to the experiment.
    """
    best = figures.best
    return {
        "experiment_id": experiment_id,
        "summary": {
            "total_tiers": len(figures.tiers),
            "best_tier": None if best is None else best.tier,
            "best_subtest": None if best is None else best.best_id,
            "frontier_cop": None if best is None else best.cost_of_pass,
            "total_cost": figures.total_cost,
            "total_duration": times.seconds,
            "started_at": times.started_at,
            "completed_at": times.completed_at,
            "coverage": figures.coverage.as_data(),
        },
        "token_stats": token_stats(figures.tokens),
        "best": {
            "tier": None if best is None else best.tier,
            "subtest": None if best is None else best.best_id,
            "report": None if best is None else f"./{places[best.tier]}/report.json",
        },
        "children": [
            {
                "tier": tier.tier,
                "best_subtest": tier.best_id,
                "best_score": tier.best_score,
                "cost": tier.total_cost,
                "report": f"./{places[tier.tier]}/report.json",
            }
            for tier in figures.tiers
        ],
        "generated_at": generated_at,
    }


def tier_comparison(figures: ExperimentFigures) -> dict[str, Json]:
    """tier_comparison.json of an experiment."""
    return Members(
        (
            tier.tier,
            {
                "best_subtest": tier.best_id,
                "best_score": tier.best_score,
                "total_cost": tier.total_cost,
                "tiebreaker_needed": tier.selection.tied,
                "coverage": tier.coverage.as_data(),
            },
        )
        for tier in figures.tiers
    )
