"""What became better and worse since an earlier report: item by item, and never by score.

A score is a result. Whoever judges again may get another one, and a session that failed on a lower one would teach
people to judge until they like the answer: so changed scores are told, and are neither better nor worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..experiment.layout import run_named_in
from ..experiment.records import MAX_FILE_SIZE
from ..experiment.schemas import as_record
from ..experiment.wording import describe, printable
from .given import GivenFile

Json = dict[str, Any]

_TOLERANCE = 1e-6
_NOT_AUDITED = "not_audited"
_SOUND = ("passed", "repaired")

_RANKS = {
    **dict.fromkeys(("completed", "complete", "sound"), 0),
    "results": 1,
    **dict.fromkeys(("failed", "partial", "missing", "stale", "malformed"), 2),
    "agent_failed": 3,
    **dict.fromkeys(("conflict", "unsafe"), 4),
}
"""Statuses by what it takes to put an item right; between equals nothing is better."""
_FALLBACKS = ("fallback", "fallback-refused")


class BaselineError(Exception):
    """A report that nothing can be compared with; ``str()`` is one line: the file, what is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class State:
    """How an item stands in a report. ``fallback``: its judgment is a heuristic's."""

    status: str
    outcome: str
    fallback: bool = False

    @property
    def known(self) -> bool:
        """Whether that session looked at it."""
        return self.status != _NOT_AUDITED

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong with it."""
        return self.outcome in _SOUND

    @property
    def badness(self) -> tuple[int, bool, bool]:
        """What sorts worse states behind better ones."""
        return _RANKS.get(self.status, 2), not self.sound, self.fallback

    def __str__(self) -> str:
        """The state in a few words; the outcome where the status does not say it."""
        words = [self.status]
        if self.sound is bool(_RANKS.get(self.status, 2)) or self.outcome in ("waived", "crashed"):
            words.append(self.outcome)
        if self.fallback:
            words.append("fallback")
        return ", ".join(words)

    def as_data(self) -> Json:
        """The same under the names of the report."""
        return {"status": self.status, "outcome": self.outcome, "fallback": self.fallback}


@dataclass(frozen=True, slots=True)
class Change:
    """An item that is no more as it was; ``None`` stands for no such item."""

    item_id: str
    before: State | None
    after: State | None

    @property
    def is_worse(self) -> bool:
        """Whether it is, and may not be: gone, new and not sound, or harder to put right than it was."""
        if self.after is None:
            return True
        if self.after.outcome == "waived":
            return False
        return not self.after.sound if self.before is None else self.before.badness < self.after.badness

    @property
    def is_better(self) -> bool:
        """Whether it was there before, and is easier to put right, or needs no more."""
        return self.before is not None and self.after is not None and self.after.badness < self.before.badness

    def __str__(self) -> str:
        before, after = self.before or "not expected", self.after or "no longer expected"
        return f"{self.item_id}: {before} -> {after}"

    def as_data(self) -> Json:
        """The same under the names of the report."""
        before, after = (state and state.as_data() for state in (self.before, self.after))
        return {"id": self.item_id, "before": before, "after": after}


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """A run with another score than it had."""

    run: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.run}: {self.before:g} -> {self.after:g}"

    def as_data(self) -> Json:
        """The same under the names of the report."""
        return {"id": self.run, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed since a report was written.

    ``worse`` includes the items that are no longer expected (``absent``), and those that are ``new`` and not sound; not
    those that are waived now. ``changed`` is neither better nor worse. ``not_compared`` counts the items that one of
    the sessions did not look at.
    """

    baseline: str
    generated_at: str
    better: tuple[Change, ...]
    worse: tuple[Change, ...]
    changed: tuple[Change, ...]
    scores: tuple[ScoreChange, ...]
    new: tuple[str, ...]
    absent: tuple[str, ...]
    not_compared: int

    def as_data(self) -> Json:
        """The same under the names of the report."""
        kinds = ("better", "worse", "changed", "scores")
        return {
            "baseline": self.baseline,
            "generated_at": self.generated_at,
            **{kind: [change.as_data() for change in getattr(self, kind)] for kind in kinds},
            "new": list(self.new),
            "absent": list(self.absent),
            "not_compared": self.not_compared,
        }


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier report: sound, and of a version that is understood. ``parts`` are those of its experiments."""

    shown: str
    generated_at: str
    parts: tuple[Json, ...]

    def part_of(self, experiment_id: str, path: str) -> Json:
        """The part about an experiment, by its id; where several have it, also by the path as it was given.

        :raises BaselineError: it has none.
        """
        parts = [part for part in self.parts if part["experiment_id"] == experiment_id]
        if len(parts) > 1:
            parts = [part for part in parts if part["path"] == path]
        if len(parts) != 1:
            known = ", ".join(dict.fromkeys(describe(part["experiment_id"]) for part in self.parts)) or "none"
            found = known if not parts else f"{len(parts)} of that id and path"
            raise BaselineError(
                f"{printable(self.shown)}: expected a report on experiment {describe(experiment_id)}, found {found}. "
                "Name a report of this experiment"
            )
        return parts[0]

    def compare(self, after: Json) -> Comparison:
        """Compare what this report says of an experiment with what ``after`` says, which is its part of another."""
        before = self.part_of(after["experiment_id"], after["path"])
        return compare(before, after, baseline=self.shown, generated_at=self.generated_at)


def read_baseline(file: GivenFile, max_size: int = MAX_FILE_SIZE) -> Baseline:
    """Read an earlier report, as strictly as everything that comes from elsewhere.

    :raises BaselineError: it is none, or of another version, or names runs by ids that are none.
    """
    record = as_record(file.read(max_size), "report")
    if not record.sound:
        problem = record.problems[0]
        place = f"{printable(file.shown)} {problem.pointer}".rstrip()
        raise BaselineError(f"{place}: {problem.message}. Name a report that --scylla-report wrote, as .json")
    for number, part in enumerate(record.data["experiments"]):
        seen: set[str] = set()
        for index, run in enumerate(part["runs"]):
            if run["id"] != run_named_in(run["id"]) or run["id"] in seen:
                expected = "a run such as T5/13/run_10, each once"
                raise BaselineError(
                    f"{printable(file.shown)} /experiments/{number}/runs/{index}/id: expected {expected}, "
                    f"found {describe(run['id'])}. Name a report that --scylla-report wrote, as .json"
                )
            seen.add(run["id"])
    generated_at = printable(record.data["generated_at"], 40)
    return Baseline(file.shown, generated_at, tuple(record.data["experiments"]))


def compare(before: Json, after: Json, *, baseline: str = "", generated_at: str = "") -> Comparison:
    """Compare two reports' parts about one experiment."""
    was, now = dict(_states(before)), dict(_states(after))
    for ids, other, part in ((was, now, after), (now, was, before)):
        for item_id in ids:
            if "/" not in item_id and item_id not in other:
                other[item_id] = _unlisted(part)
    better: list[Change] = []
    worse: list[Change] = []
    changed: list[Change] = []
    not_compared = 0
    for item_id in sorted(was.keys() | now.keys()):
        change = Change(item_id, was.get(item_id), now.get(item_id))
        if any(state is not None and not state.known for state in (change.before, change.after)):
            not_compared += 1
        elif change.is_worse:
            worse.append(change)
        elif change.is_better:
            better.append(change)
        elif change.before is not None and str(change.before) != str(change.after):
            changed.append(change)
    return Comparison(
        baseline,
        generated_at,
        tuple(better),
        tuple(worse),
        tuple(changed),
        tuple(_score_changes(before, after)),
        new=tuple(sorted(now.keys() - was.keys())),
        absent=tuple(sorted(was.keys() - now.keys())),
        not_compared=not_compared,
    )


def _states(part: Json) -> Iterator[tuple[str, State]]:
    """Every run and slot of a part of a report, and whatever else it lists."""
    listed = {item["id"]: item for item in part["items"]}

    def state(item_id: str, status: str) -> State:
        item = listed.get(item_id)
        if item is None:
            return State(status, "passed")
        fallback = any(found["code"] in _FALLBACKS for found in item["findings"])
        return State(status, item["outcome"], fallback)

    for run in part["runs"]:
        yield run["id"], state(run["id"], run["status"])
        for number, judge in enumerate(run["judges"], 1):
            slot = f"{run['id']}/judge_{number:02d}"
            yield slot, state(slot, judge["status"])
    for item in listed.values():
        if "/" not in item["id"]:
            item_id = printable(item["id"], 40)
            yield item_id, state(item["id"], item["status"] or _NOT_AUDITED)


def _unlisted(part: Json) -> State:
    """What a report says by not listing an item that is no run and no slot: that it is sound, if it looked at all."""
    return State(_NOT_AUDITED, "not-run") if part["not_audited"] else State("sound", "passed")


def _score_changes(before: Json, after: Json) -> Iterator[ScoreChange]:
    scores: Mapping[str, float | None] = {run["id"]: run["score"] for run in before["runs"]}
    for run in after["runs"]:
        was, now = scores.get(run["id"]), run["score"]
        if was is not None and now is not None and abs(was - now) > _TOLERANCE:
            yield ScoreChange(run["id"], was, now)
