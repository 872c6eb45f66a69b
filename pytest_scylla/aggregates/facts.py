"""What of a run its aggregates need: a few numbers, and what tells its record from another.

An aggregate is about the runs that count, and says how many of how many those are: expected, present, sound, scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b

import orjson

from ..auditing.agent_output import TokenCounts
from ..auditing.evidence import DEFAULT_POLICY, Policy
from ..auditing.findings import RunStatus
from ..auditing.run import RunAudit, examine, garbage_collection_paused
from ..auditing.status import Case
from ..experiment.expected import Experiment
from ..experiment.layout import RunId
from ..experiment.strict_json import Json

PATHS = frozenset({"workspace_path", "logs_path", "command_log_path"})
"""The keys of run_result.json that say where the run lay on the day it was made."""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What the aggregates need of a run.

    ``judges`` is how many judge slots it has, ``sound_judges`` how many are complete, ``fallback`` whether one of those
    holds a heuristic's verdict. ``score`` (0 to 1), ``passed`` and ``grade`` are its consensus, as far as the disk
    proves one, else ``None``; ``cost_usd`` is the agent's, ``None`` where no record says it; ``tokens`` are ``None``
    together with the score. ``digest`` tells its run_result.json from any other (:func:`digest_of`), and is ``None``
    where that has to be rebuilt first.
    """

    run: RunId
    status: RunStatus
    judges: int
    sound_judges: int
    fallback: bool
    score: float | None = None
    passed: bool | None = None
    grade: str | None = None
    cost_usd: float | None = None
    tokens: TokenCounts | None = None
    digest: bytes | None = None

    @property
    def is_present(self) -> bool:
        """Whether there is anything of the run."""
        return self.status != "missing"

    @property
    def is_under_way(self) -> bool:
        """Whether the program that runs the experiment has this run still before it, or is not done with it."""
        return self.status in ("missing", "partial")

    @property
    def is_sound(self) -> bool:
        """Whether the disk proves what its judges amount to."""
        return self.score is not None

    @property
    def is_scored(self) -> bool:
        """Whether its score counts. With fewer than half of its judges sound it has none, which is not a score of 0."""
        return self.is_sound and 2 * self.sound_judges >= self.judges

    @classmethod
    def of(cls, case: Case, audit: RunAudit) -> RunFigures:
        """What was read of a run, and what the audit makes of it, in figures.

        Where run_result.json is lost or stale, and all judges have judged, they count.
        """
        complete = [slot for slot in audit.slots if slot.complete]
        blank = cls(audit.run, audit.status, len(audit.slots), len(complete), any(slot.fallback for slot in complete))
        if audit.status not in ("completed", "results"):
            return blank
        record = case.evidence.run_result
        if audit.status == "completed" or (record.sound and not _is_stale(case)):
            data = record.data
            return replace(
                blank,
                score=float(data["judge_score"]),
                passed=data["judge_passed"],
                grade=data["judge_grade"],
                cost_usd=data["cost_usd"],
                tokens=TokenCounts.from_stats(data["token_stats"]),
                digest=digest_of(data),
            )
        consensus = audit.consensus_of_slots
        if consensus is None or case.usage is None:
            return blank
        return replace(
            blank,
            score=consensus.score,
            passed=consensus.passed,
            grade=consensus.grade,
            cost_usd=case.usage.cost_usd,
            tokens=case.usage.tokens,
        )


def _is_stale(case: Case) -> bool:
    return bool(case.run_result_findings) or any(found.severity == "error" for found in case.consensus_findings)


def read_figures(experiment: Experiment, policy: Policy = DEFAULT_POLICY) -> dict[RunId, RunFigures]:
    """Audit every expected run, and keep what the aggregates need.

    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    found = {}
    for run in experiment.runs():
        with garbage_collection_paused():
            found[run] = RunFigures.of(*examine(experiment, run, policy))
    return found


def digest_of(record: Mapping[str, Json]) -> bytes:
    """What two records of a run have in common that say the same, wherever the run lay when they were written."""
    said = {key: value for key, value in record.items() if key not in PATHS}
    try:
        text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # a lone surrogate, which is no text for it
        text = json.dumps(said, sort_keys=True).encode()
    return blake2b(text, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many runs an aggregate is about.

    ``expected`` by the configuration; ``present`` on the disk; ``sound``: the disk proves their consensus; ``scored``:
    and at least half of their judges are sound, so that they count; ``fallback``: they count, though one of those
    judges is a heuristic; ``priced``: they count, and their cost is known.
    """

    expected: int
    present: int
    sound: int
    scored: int
    fallback: int
    priced: int

    @classmethod
    def of(cls, runs: Sequence[RunFigures]) -> Coverage:
        """Count the expected ``runs``."""
        scored = [run for run in runs if run.is_scored]
        return cls(
            len(runs),
            sum(run.is_present for run in runs),
            sum(run.is_sound for run in runs),
            len(scored),
            sum(run.fallback for run in scored),
            sum(run.cost_usd is not None for run in scored),
        )

    @property
    def is_full(self) -> bool:
        """Whether every expected run counts, by its judges' own verdicts, with a cost."""
        return self.expected == self.scored == self.priced and not self.fallback

    def as_data(self) -> dict[str, Json]:
        """The same as plain data."""
        return {name: getattr(self, name) for name in _COUNTS}


_COUNTS = tuple(field.name for field in fields(Coverage))


def coverage_of_all(parts: Sequence[Coverage]) -> Coverage:
    """How many runs several aggregates are about together."""
    return Coverage(**{name: sum(getattr(part, name) for part in parts) for name in _COUNTS})


def sum_of_tokens(parts: Sequence[TokenCounts]) -> TokenCounts:
    """The token counts of several executions together."""
    return TokenCounts(
        sum(part.input for part in parts),
        sum(part.output for part in parts),
        sum(part.cache_creation for part in parts),
        sum(part.cache_read for part in parts),
    )


def sum_of_costs(costs: Sequence[float | None]) -> float | None:
    """The sum of the costs that are known, in US dollars; ``None`` where none is."""
    known = [cost for cost in costs if cost is not None]
    return math.fsum(known) if known else None
