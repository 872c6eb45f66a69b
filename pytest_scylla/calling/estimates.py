"""What a call takes and costs, by what earlier ones did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ..experiment.journal import MOST_SECONDS, CallEntry, CallOutcome, known_cost

CHARGED: tuple[CallOutcome, ...] = ("answered", "unusable", "timeout")
"""Calls that ran to their end. A limit or a broken connection ends one early, so what it cost is no measure."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call takes, in seconds, and costs, in USD: the means, each ``None`` where nothing tells."""

    seconds: float | None
    cost_usd: float | None


UNKNOWN = Estimate(None, None)


def estimates(
    models: Iterable[str],
    seconds: Iterable[tuple[str, float]],
    costs: Iterable[tuple[str, float]],
    calls: Iterable[CallEntry],
) -> dict[str, Estimate]:
    """The estimate of a call of each of ``models``.

    :param seconds: how long calls took that the experiment's own records tell of, each with its model.
    :param costs: what they cost, in USD, where the records tell that.
    :param calls: what the journals tell.
    """
    times, prices = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for model, taken in seconds:
        if 0 <= taken <= MOST_SECONDS:
            times[model].append(taken)
    for model, cost in costs:
        if (known := known_cost(cost)) is not None:
            prices[model].append(known)
    for call in calls:
        if call.outcome == "answered":
            times[call.model].append(call.seconds)
        if call.outcome in CHARGED and call.cost_usd is not None:
            prices[call.model].append(call.cost_usd)
    return {model: Estimate(_mean(times[model]), _mean(prices[model])) for model in models}


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
