"""Where each file of an experiment lies, and the ids by which people name its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

# Full matches: an id that comes from a file becomes part of a path, so nothing else may pass.
TIER = re.compile(r"T[0-9]{1,6}")
SUBTEST = re.compile(r"[0-9]{2,3}")
RUN = re.compile(r"run_([0-9]{2,6})")
JUDGE = re.compile(r"judge_([0-9]{2})")

STAGES = ("", "in_progress", "completed")
"""Where the tiers lie: at the root, or, in the later layout, in one of two directories."""

CONFIG = "config/experiment.json"
CHECKPOINT = "checkpoint.json"


class TierOrder(NamedTuple):
    """Sorts T2 before T10."""

    number: int
    name: str


def tier_order(tier: str) -> TierOrder:
    """The sort key of a tier id such as ``T5``."""
    return TierOrder(int(tier[1:]), tier)


@dataclass(frozen=True, slots=True)
class RunId:
    """One run: tier ``T5``, subtest ``13``, number 10. ``str()`` gives ``T5/13/run_10``."""

    tier: str
    subtest: str
    number: int

    @property
    def name(self) -> str:
        """The name of the run's directory, such as ``run_10``."""
        return f"run_{self.number:02d}"

    def __str__(self) -> str:
        return f"{self.tier}/{self.subtest}/{self.name}"


@dataclass(frozen=True, slots=True)
class SlotId:
    """One judge slot of a run: ``T5/13/run_10/judge_01``. The config's ``judge_models[number - 1]`` judges it."""

    run: RunId
    number: int

    @property
    def name(self) -> str:
        """The name of the slot's directory, such as ``judge_01``."""
        return f"judge_{self.number:02d}"

    def __str__(self) -> str:
        return f"{self.run}/{self.name}"


def run_named_in(path: str) -> str | None:
    """The ``tier/subtest/run`` that a stored path names last, or ``None``.

    Stored paths are absolute as of the day they were written, so only this tail says anything about an experiment that
    was moved since. The path is text to compare, never a place to look.

    >>> run_named_in("/data/exp/T0/00/run_01/workspace")
    'T0/00/run_01'
    """
    parts = path.replace("\\", "/").split("/")
    for end in range(len(parts), 2, -1):
        tier, subtest, run = parts[end - 3 : end]
        if RUN.fullmatch(run) and SUBTEST.fullmatch(subtest) and TIER.fullmatch(tier):
            return f"{tier}/{subtest}/{run}"
    return None
