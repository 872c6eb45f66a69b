"""The geometry of the page's charts: from numbers to rectangles; the template draws them.

Lengths are in the chart's own units, of which its ``viewBox`` has :data:`WIDTH` across.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WIDTH = 200
HEIGHT = 32
BINS = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle from its upper left corner, and what it stands for: ``what`` it counts, and how many."""

    x: float
    y: float
    width: float
    height: float
    what: str
    number: int


def histogram(scores: Iterable[float], tallest: float) -> list[Bar]:
    """Scores from 0 to 1 in bins of a twentieth; an empty bin has no bar.

    :param tallest: the share of the scores (0 to 1) that a bar of full height stands for, so that charts compare.
    """
    counts = bins(scores)
    total = sum(counts)
    width = WIDTH / BINS
    bars = []
    for index, number in enumerate(counts):
        if number:
            height = round(HEIGHT * number / total / tallest, 2)
            what = f"{index / BINS:.2f} to {(index + 1) / BINS:.2f}"
            bars.append(Bar(round(index * width + 0.5, 2), round(HEIGHT - height, 2), width - 1, height, what, number))
    return bars


def bins(scores: Iterable[float]) -> list[int]:
    """How many scores are in each bin; a score on a boundary is in the upper one, 1 in the last."""
    counts = [0] * BINS
    for score in scores:
        # Without the rounding, a score such as 0.15 falls below its boundary.
        counts[min(int(round(score * BINS, 9)), BINS - 1)] += 1
    return counts


def tallest_share(samples: Iterable[Sequence[float]]) -> float:
    """The largest share (0 to 1) of a sample that is in one bin; 1 where there is no score at all."""
    return max((max(bins(scores)) / len(scores) for scores in samples if scores), default=1.0)


def stacked(counts: Mapping[str, int], order: Iterable[str]) -> list[Bar]:
    """One bar over the whole width, divided in proportion to ``counts``, in ``order``, without what is not there."""
    total = sum(counts.values())
    bars, x = [], 0.0
    for what in order:
        if number := counts.get(what, 0):
            width = WIDTH * number / total
            bars.append(Bar(round(x, 2), 0, round(width, 2), 14, what, number))
            x += width
    return bars


def length(value: float, longest: float) -> float:
    """How long a bar for ``value`` is where the one for ``longest`` has the whole width."""
    return round(WIDTH * value / longest, 2) if longest else 0.0
