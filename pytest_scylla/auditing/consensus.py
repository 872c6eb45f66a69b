"""What several judges amount to: the mean, the majority, and the grade of a score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

TOLERANCE = 1e-6
"""Two floats within this agree."""

_GRADES = ((0.8, "A"), (0.6, "B"), (0.4, "C"), (0.2, "D"))


class Scored(Protocol):
    """Anything with a judge's score and verdict."""

    @property
    def score(self) -> float:
        """From 0 to 1."""

    @property
    def passed(self) -> bool:
        """The judge's word; it does not follow from the score."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """The mean score of ``count`` judgments, whether more than half passed, and the mean's grade."""

    score: float
    passed: bool
    grade: str
    count: int


def grade_of(score: float) -> str:
    """The grade of a score from 0 to 1: S for exactly 1, then A from 0.8, B 0.6, C 0.4, D 0.2, else F."""
    if score == 1.0:
        return "S"
    return next((grade for least, grade in _GRADES if score >= least), "F")


def grades_near(score: float) -> set[str]:
    """The grades of every score that agrees with ``score``: two where a boundary lies within the tolerance."""
    nearby = (score - TOLERANCE, score, min(score + TOLERANCE, 1.0))
    return {grade_of(1.0 if math.isclose(value, 1.0, abs_tol=1e-12) else value) for value in nearby}


def consensus_of(judgments: Sequence[Scored]) -> Consensus | None:
    """The consensus of ``judgments``; ``None`` where there is none, for no score means something else than 0."""
    if not judgments:
        return None
    count = len(judgments)
    # Summed exactly: judges of one mind must not fall below their own grade by rounding.
    score = math.fsum(judgment.score for judgment in judgments) / count
    return Consensus(score, 2 * sum(judgment.passed for judgment in judgments) > count, grade_of(score), count)


def agree(one: float | None, other: float | None) -> bool:
    """Whether two stored numbers say the same, within the tolerance; ``None`` only agrees with itself."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE
