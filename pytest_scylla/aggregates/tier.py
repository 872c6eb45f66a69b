"""A tier: the best of its subtests, and the records that say so.

The highest median score wins. A runner-up that is less than 0.05 behind wins if it took fewer tokens. Where rounding
decides, or nothing does, what was decided before stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ..auditing.agent_output import TokenCounts
from ..auditing.consensus import TOLERANCE
from ..experiment.strict_json import Json
from ..repair.agent_files import token_stats
from .facts import Coverage, coverage_of_all, sum_of_costs, sum_of_tokens
from .subtest import Members, SubtestFigures, subtest_result

TIE = 0.05
"""Two medians closer than this are a tie."""


@dataclass(frozen=True, slots=True)
class Former:
    """What was decided before of what the scores leave open: how equals rank, and whether a difference of 0.05 ties."""

    ranking: tuple[str, ...] = ()
    tied: bool | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The best subtest of a tier.

    ``ranked`` are those with a score, best median first; ``winner`` is one of the first two, ``None`` where there are
    none. ``margin`` is how far the second is behind, 1 where there is none. ``tied`` says that tokens decided.
    """

    ranked: tuple[SubtestFigures, ...]
    winner: SubtestFigures | None
    margin: float | None
    tied: bool

    @property
    def reason(self) -> str:
        """Why the winner was selected."""
        if self.winner is None:
            return ""
        if self.tied:
            used = ", ".join(f"{one.subtest}={_tokens(one)}" for one in self.ranked[:2])
            return f"Tie within {TIE}, broken by token usage ({used}); lower is better"
        return f"Highest median score ({self.winner.median_score:.3f})"


def select(subtests: Sequence[SubtestFigures], former: Former) -> Selection:
    """Select the best of a tier's subtests."""
    ranked = _ranked([one for one in subtests if one.scores], former.ranking)
    if not ranked:
        return Selection((), None, None, False)
    if len(ranked) == 1:
        return Selection(ranked, ranked[0], 1.0, False)
    first, second = ranked[:2]
    margin = max(_median(first) - _median(second), 0.0)
    tied = margin < TIE
    if abs(margin - TIE) <= TOLERANCE and former.tied is not None:
        tied = former.tied
    winner = second if tied and _tokens(second) < _tokens(first) else first
    return Selection(ranked, winner, margin, tied)


def _ranked(subtests: Sequence[SubtestFigures], before: tuple[str, ...]) -> tuple[SubtestFigures, ...]:
    by_id = {one.subtest: one for one in subtests}
    if sorted(before) == sorted(by_id):
        kept = [by_id[subtest] for subtest in before]
        if all(_median(one) >= _median(following) - TOLERANCE for one, following in pairwise(kept)):
            return tuple(kept)
    return tuple(sorted(subtests, key=_median, reverse=True))


def _median(subtest: SubtestFigures) -> float:
    assert subtest.median_score is not None
    return subtest.median_score


def _tokens(subtest: SubtestFigures) -> int:
    tokens = subtest.tokens
    return tokens.input + tokens.output + tokens.cache_creation + tokens.cache_read


@dataclass(frozen=True)
class TierFigures:
    """A tier in figures: its subtests, in the order in which records list them."""

    tier: str
    subtests: tuple[SubtestFigures, ...]
    former: Former

    @cached_property
    def selection(self) -> Selection:
        """The best of the subtests."""
        return select(self.subtests, self.former)

    @property
    def best(self) -> SubtestFigures | None:
        """The subtest that was selected."""
        return self.selection.winner

    @property
    def best_id(self) -> str | None:
        """Its id."""
        return None if self.best is None else self.best.subtest

    @property
    def best_score(self) -> float | None:
        """Its median score."""
        return None if self.best is None else self.best.median_score

    @property
    def cost_of_pass(self) -> float | None:
        """What one of its passed runs costs."""
        return None if self.best is None else self.best.cost_of_pass

    @cached_property
    def total_cost(self) -> float | None:
        """The cost of all runs that count, in US dollars; ``None`` where none is known."""
        return sum_of_costs([one.total_cost for one in self.subtests])

    @cached_property
    def tokens(self) -> TokenCounts:
        """The tokens of all runs that count."""
        return sum_of_tokens([one.tokens for one in self.subtests])

    @cached_property
    def coverage(self) -> Coverage:
        """How many runs that is."""
        return coverage_of_all([one.coverage for one in self.subtests])

    def reason_of(self, subtest: SubtestFigures) -> str | None:
        """Why ``subtest`` was selected; ``None`` if it was not."""
        return self.selection.reason if subtest is self.best else None


def best_subtest(figures: TierFigures) -> dict[str, Json]:
    """best_subtest.json of a tier."""
    selection, best = figures.selection, figures.best
    sole = len(selection.ranked) == 1
    return {
        "winning_subtest": figures.best_id,
        "winning_score": figures.best_score,
        "votes": [
            {
                "subtest_id": one.subtest,
                "score": one.median_score,
                "confidence": 1.0 if sole else one.consistency,
                "reasoning": _reasoning(figures, one),
                "scored_runs": one.coverage.scored,
            }
            for one in selection.ranked
        ],
        "margin": selection.margin,
        "tiebreaker_needed": selection.tied,
        "tiebreaker_result": {
            "subtest_id": figures.best_id,
            "score": figures.best_score,
            "confidence": 1.0,
            "reasoning": selection.reason,
        }
        if selection.tied and best is not None
        else None,
    }


def _reasoning(figures: TierFigures, one: SubtestFigures) -> str:
    if len(figures.subtests) == 1:
        return "Only sub-test in tier"
    return (
        f"{one.coverage.scored} scored runs, {one.passed} passed, mean {one.mean_score:.3f}, "
        f"consistency {one.consistency:.3f}"
    )


def tier_result(
    figures: TierFigures,
    runs: Mapping[str, Sequence[Json]],
    *,
    inherited_from: Json = None,
    total_duration: float | None = None,
) -> dict[str, Json]:
    """result.json of a tier.

    :param runs: the records of the runs that count, by subtest.
    :param inherited_from: the configuration that the tier started from.
    :param total_duration: in seconds, from the start of the first run to the end of the last.
    """
    return {
        "tier_id": figures.tier,
        "subtest_results": Members(
            (one.subtest, subtest_result(one, runs.get(one.subtest, ()), figures.reason_of(one)))
            for one in figures.subtests
        ),
        "best_subtest": figures.best_id,
        "best_subtest_score": figures.best_score,
        "inherited_from": inherited_from,
        "tiebreaker_needed": figures.selection.tied,
        "total_cost": figures.total_cost,
        "total_duration": total_duration,
        "cost_of_pass": figures.cost_of_pass,
        "token_stats": token_stats(figures.tokens),
        "coverage": figures.coverage.as_data(),
    }


def tier_report(
    figures: TierFigures, *, total_duration: float | None = None, generated_at: str = ""
) -> dict[str, Json]:
    """report.json of a tier, written at ``generated_at``."""
    return {
        "tier": figures.tier,
        "summary": {
            "total_subtests": len(figures.subtests),
            "best_subtest": figures.best_id,
            "best_score": figures.best_score,
            "total_cost": figures.total_cost,
            "total_duration": total_duration,
            "tiebreaker_needed": figures.selection.tied,
            "coverage": figures.coverage.as_data(),
        },
        "token_stats": token_stats(figures.tokens),
        "best": {
            "subtest": figures.best_id,
            "score": figures.best_score,
            "report": None if figures.best is None else f"./{figures.best_id}/report.json",
        },
        "children": [
            {
                "id": one.subtest,
                "score": one.median_score,
                "pass_rate": one.pass_rate,
                "cost": one.total_cost,
                "selected": one is figures.best,
                "report": f"./{one.subtest}/report.json",
                "scored_runs": one.coverage.scored,
            }
            for one in figures.subtests
        ],
        "generated_at": generated_at,
    }
