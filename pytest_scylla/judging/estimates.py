"""What a call of a judge takes and costs, by what earlier ones did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ..experiment.expected import Experiment
from ..experiment.journal import MOST_SECONDS, CallEntry

_CHARGED = ("answered", "unusable", "timeout")
"""Calls that ran to their end. A limit or a broken connection ends one early, so what it cost is no measure."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call takes, in seconds, and costs, in USD: the means, each ``None`` where nothing tells."""

    seconds: float | None
    cost_usd: float | None


def estimates(
    experiment: Experiment, timings: Iterable[tuple[str, float]], calls: Iterable[CallEntry]
) -> dict[str, Estimate]:
    """The estimate of a call of each judge model that the configuration names.

    :param timings: of slots that a call judged, the model and how many seconds that took, by the slot's timing.json.
    :param calls: what the journals tell.
    """
    seconds, costs = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for model, taken in timings:
        if 0 <= taken <= MOST_SECONDS:
            seconds[model].append(taken)
    for call in calls:
        if call.outcome == "answered":
            seconds[call.model].append(call.seconds)
        if call.outcome in _CHARGED and call.cost_usd is not None:
            costs[call.model].append(call.cost_usd)
    return {model: Estimate(_mean(seconds[model]), _mean(costs[model])) for model in experiment.config.judge_models}


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
