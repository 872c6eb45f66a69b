"""What a report amounts to: the numbers that the page and the Markdown file show.

Everything here is computed from the JSON report's data alone. A mean never comes without its n; what is left out of
one, and why, is a number of its own.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ..aggregates.status import AGGREGATES_STATUSES
from ..auditing.checkpoint import CHECKPOINT_STATUSES
from ..auditing.findings import CODES, CONSEQUENCES, RUN_STATUSES, SLOT_STATUSES
from ..experiment.wording import printable
from ..outcomes import NOT_AUDITED
from ..repair.actions import Action
from .gate import KINDS_OF_CHANGE
from .item import action_line, total_cost, total_seconds

Json = dict[str, Any]

FEWEST_PAIRS = 10
"""A correlation of fewer pairs than this says nothing and is not told."""
MOST_OUTLIERS = 10
MOST_WORSE = 50
"""How many items that became worse are listed."""

_UNSEEN = {NOT_AUDITED: "this session did not look at it"}
RUN_WORDS: dict[str, str] = {str(status): meaning for status, meaning in RUN_STATUSES.items()} | _UNSEEN
SLOT_WORDS: dict[str, str] = {str(status): meaning for status, meaning in SLOT_STATUSES.items()} | _UNSEEN
CHECKPOINT_WORDS: dict[str, str] = {str(status): meaning for status, meaning in CHECKPOINT_STATUSES.items()}
AGGREGATES_WORDS: dict[str, str] = {str(status): meaning for status, meaning in AGGREGATES_STATUSES.items()}
OUTCOME_WORDS: dict[str, str] = {
    "failed": "not sound",
    "not-run": "not run",
    "crashed": "crashed",
    "waived": "waived",
    "repaired": "repaired",
    "passed": "sound",
}
"""What became of an item, worst first."""
NOT_SOUND = ("failed", "not-run", "crashed")

EXIT_BITS = {
    1: "something was repaired",
    2: "the session stopped early (a limit, a budget, an interruption): run it again",
    4: "damage is left",
    8: "a repair met an operational error",
}
_FOR_THE_EXPERIMENT = "the experiment"


def cleaned(value: Any) -> Any:
    """Return ``value`` (what a JSON document can hold) with every text made printable, one line and bounded.

    All that comes after relies on it: no control character, no lone surrogate and no bidirectional mark is left.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): cleaned(held) for key, held in value.items()}
    if isinstance(value, list):
        return [cleaned(held) for held in value]
    return value


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers, and of how many that there could be. All but ``n``, ``of`` and ``total`` are ``None`` where n is 0."""

    n: int
    of: int
    total: float
    mean: float | None
    median: float | None
    least: float | None
    most: float | None

    @classmethod
    def make(cls, values: Iterable[float], of: int) -> Sample:
        """The sample of ``values``, which there could be ``of``."""
        values = sorted(values)
        if not values:
            return cls(0, of, 0.0, None, None, None, None)
        total = math.fsum(values)
        return cls(len(values), of, total, total / len(values), statistics.median(values), values[0], values[-1])


@dataclass(frozen=True, slots=True)
class StatusRow:
    """How many runs or judge slots have a status, before and after."""

    status: str
    meaning: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A finding's code: what it means, and the items that have it, by id."""

    code: str
    severity: str
    meaning: str
    cause: str
    remedy: str
    items: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    """Item id and message, one an item."""


@dataclass(frozen=True, slots=True)
class TierRow:
    """A tier: how its runs stand, their scores (0 to 1) and their costs in USD.

    ``passed`` counts the runs with a score that their judges passed.
    """

    tier: str
    runs: int
    by_status: Mapping[str, int]
    slots: int
    sound_slots: int
    scores: tuple[float, ...]
    scored: Sample
    passed: int
    cost: Sample


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """A judge slot's number over all runs: how its slots stand, and the scores that a judge gave.

    ``scored`` leaves out fallback verdicts, which no judge gave; ``passed`` counts verdicts of ``scored``.
    """

    number: int
    model: str
    by_status: Mapping[str, int]
    fallback: int
    scored: Sample
    passed: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two judge slots on the runs that both scored.

    ``distance`` is the mean absolute difference of their scores, ``bias`` the mean of the first's less the second's;
    ``None`` where n is 0. ``agreeing`` is on how many runs both said passed, or both failed. ``correlation`` is
    Pearson's; ``None`` where n is below :data:`FEWEST_PAIRS`, or where one of them gave always the same score.
    """

    first: int
    second: int
    n: int
    distance: float | None
    bias: float | None
    agreeing: int
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Outlier:
    """A run whose judges differ: each slot's score (``None`` where no judge gave one), and how far apart they are."""

    run: str
    scores: tuple[float | None, ...]
    spread: float
    split: bool
    """Whether some passed it and some did not."""


@dataclass(frozen=True, slots=True)
class Work:
    """Repairs that were planned and not done. Costs and times are ``None`` where one of them is not known."""

    files: int
    judge_calls: int
    agent_runs: int
    cost_usd: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Demand:
    """Something the session had to find, and whether it did; ``None`` where that could not be told."""

    text: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Waived:
    """Items that are not sound and may stay so: the glob on their ids, how many it waives, until when, and why."""

    item: str
    items: int
    until: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """An item that is no more as it was in an earlier report: how it stood, and how it stands, in words."""

    item: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What changed since an earlier report: how many items, by the kind of change, and the ones that became worse."""

    baseline: str
    generated_at: str
    counts: tuple[tuple[str, int], ...]
    worse: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """One experiment in numbers."""

    number: int
    """Its place in the report, from 1."""
    title: str
    path: str
    runs_expected: int
    slots_expected: int
    sound: int
    """Runs and judge slots that are."""
    failing: int
    """Items of any kind that failed, crashed or were not run."""
    waived: int
    not_audited: int
    completeness: float | None
    expected_from: str
    fallback: int
    runs: tuple[StatusRow, ...]
    slots: tuple[StatusRow, ...]
    changed: bool
    """Whether any count differs between before and after."""
    codes: tuple[CodeRow, ...]
    tiers: tuple[TierRow, ...]
    cost: Sample
    """Of all runs of which it is known, in USD."""
    judges: tuple[JudgeRow, ...]
    pairs: tuple[PairRow, ...]
    outliers: tuple[Outlier, ...]
    judged_by_several: int
    """Runs that two judges or more scored."""
    split: int
    """Of those, the ones that some passed and some did not."""
    repairs: Json
    planned: Work | None
    demands: tuple[Demand, ...]
    compared: Compared | None
    waivers: tuple[Waived, ...]
    """Those that waive anything."""
    fallback_slots: frozenset[str] = field(repr=False)

    @property
    def expected(self) -> int:
        """Runs and judge slots that there should be."""
        return self.runs_expected + self.slots_expected

    @property
    def tier_scores(self) -> list[tuple[float, ...]]:
        """The scores of each tier."""
        return [tier.scores for tier in self.tiers]

    @property
    def highest_cost(self) -> float:
        """What the dearest tier cost, in USD, as far as it is known."""
        return max((tier.cost.total for tier in self.tiers), default=0.0)

    @property
    def command(self) -> str:
        """What to type to audit the experiment again."""
        return f"pytest {shlex.quote(f'--scylla-exp={self.path}')}"


def figures(experiment: Json, number: int) -> Figures:
    """Compute the figures of one experiment of a :func:`cleaned` report; ``number`` is its place in it, from 1."""
    before, after = experiment["before"], experiment["after"]
    outcomes = Counter(item["outcome"] for item in experiment["items"])
    fallback = frozenset(
        item["id"] for item in experiment["items"] if any(found["code"] == "fallback" for found in item["findings"])
    )
    marks = [_marks(run, fallback) for run in experiment["runs"]]
    several = [given for run_marks in marks if len(given := [mark for mark in run_marks if mark is not None]) > 1]
    return Figures(
        number=number,
        title=experiment["experiment_id"],
        path=experiment["path"],
        runs_expected=after["runs"]["expected"],
        slots_expected=after["judge_slots"]["expected"],
        sound=after["runs"]["completed"] + after["judge_slots"]["complete"],
        failing=sum(outcomes[outcome] for outcome in NOT_SOUND),
        waived=outcomes["waived"],
        not_audited=experiment["not_audited"],
        completeness=experiment["completeness"],
        expected_from=experiment["expected_from"],
        fallback=after["judge_slots"]["fallback"],
        runs=tuple(_status_rows(before["runs"], after["runs"], RUN_WORDS)),
        slots=tuple(_status_rows(before["judge_slots"], after["judge_slots"], SLOT_WORDS)),
        changed=before != after,
        codes=tuple(_code_rows(experiment)),
        tiers=tuple(_tier_rows(experiment["runs"])),
        cost=_cost(experiment["runs"]),
        judges=tuple(_judge_rows(after["judge_slots"]["by_slot"], marks)),
        pairs=tuple(_pair_rows(marks)),
        outliers=tuple(_outliers(experiment["runs"], marks)),
        judged_by_several=len(several),
        split=sum(len({passed for _, passed in given}) > 1 for given in several),
        repairs=experiment["repairs"],
        planned=_planned(experiment["items"]),
        demands=tuple(_demands(experiment)),
        compared=_compared(experiment.get("compared")),
        waivers=tuple(
            Waived(row["item"], row["waived"], row["until"], row["reason"])
            for row in experiment.get("waivers", ())
            if row["waived"]
        ),
        fallback_slots=fallback,
    )


def slot_id(run_id: str, number: int) -> str:
    """The item id of a run's judge slot."""
    return f"{run_id}/judge_{number:02d}"


def action_text(action: Json, run_id: str, remedy: str) -> str:
    """One action of the report in a line; files of its own run are named without the run.

    It is "" for a refusal that says no more than ``remedy``, the item's, does.
    """
    made = Action(
        action["level"],
        action["what"],
        action["outcome"],
        tuple(action["files"]),
        tuple(action["solved"]),
        tuple(action.get("sources", ())),
        action["reason"],
        action["calls"],
        action["cost_usd"],
        action["seconds"],
    )
    if made.outcome in ("done", "planned") and not made.files:
        return f"{made.what}: {made.outcome}"
    return action_line(made, remedy).replace(f"{run_id}/", "")


def exit_words(bits: int) -> list[str]:
    """The exit bits of a report in words, the gravest first."""
    return [words for bit, words in sorted(EXIT_BITS.items(), reverse=True) if bits & bit]


def headline(report: Json, parts: Sequence[Figures]) -> tuple[str, str]:
    """How the whole report stands, and a sentence that says so.

    It is "damaged"; "open" where that is not known of everything, or is allowed by the requirements; or "sound".
    """
    failing, unseen = sum(part.failing for part in parts), sum(part.not_audited for part in parts)
    expected = sum(part.expected for part in parts)
    demands = [demand for part in parts for demand in part.demands]
    unmet = sum(not demand.holds for demand in demands)
    missed = f"{unmet:,} of {len(demands):,} requirements do{'es' if unmet == 1 else ''} not hold"
    if failing:
        sentence = f"{failing:,} item{' is' if failing == 1 else 's are'} not sound"
        if demands and not unmet:
            return "open", f"{sentence}, which the requirements allow"
        return "damaged", f"{sentence}; {missed}" if unmet else sentence
    if unmet:
        return "damaged", missed
    if report["exit_bits"] & 12:
        return "damaged", "No item is left damaged, but the session met damage or an error"
    waived = sum(part.waived for part in parts)
    but = f", but for {waived:,} waived" if waived else ""
    if unseen or report["interrupted"]:
        return "open", f"What was audited is sound{but}; {unseen:,} of {expected:,} items were not audited"
    return "sound", f"Everything is sound{but}: {expected:,} runs and judge slots"


def _status_rows(before: Json, after: Json, words: Mapping[str, str]) -> Iterator[StatusRow]:
    """A row for the sound status, and for each other one that anything has, or had."""
    for index, (status, meaning) in enumerate(words.items()):
        was, now = before.get(status, 0), after.get(status, 0)
        if was or now or not index:
            yield StatusRow(status, meaning, was, now)


def _code_rows(experiment: Json) -> list[CodeRow]:
    held: dict[tuple[str, str], dict[str, str]] = {}
    for found in experiment["findings"]:
        held.setdefault((found["code"], found["severity"]), {}).setdefault(_FOR_THE_EXPERIMENT, _told(found))
    for item in experiment["items"]:
        for found in item["findings"]:
            held.setdefault((found["code"], found["severity"]), {}).setdefault(item["id"], _told(found))
    rows = []
    for (code, severity), messages in held.items():
        known = CODES.get(code)
        words = (known.meaning, known.cause, known.remedy) if known else ("", "", "")
        rows.append(CodeRow(code, severity, *words, tuple(messages), tuple(messages.items())))
    return sorted(rows, key=lambda row: (row.severity != "error", row.code in CONSEQUENCES, -len(row.items), row.code))


def _told(found: Json) -> str:
    place = " ".join(filter(None, (found["file"], found["pointer"])))
    return f"{place}: {found['message']}" if place else str(found["message"])


def _tier_rows(runs: Sequence[Json]) -> Iterator[TierRow]:
    tiers: dict[str, list[Json]] = {}
    for run in runs:
        tiers.setdefault(run["id"].partition("/")[0], []).append(run)
    for tier, held in tiers.items():
        scored = [run for run in held if run["scored"]]
        scores = tuple(run["score"] for run in scored)
        slots = [judge["status"] for run in held for judge in run["judges"]]
        yield TierRow(
            tier,
            len(held),
            Counter(run["status"] for run in held),
            len(slots),
            slots.count("complete"),
            scores,
            Sample.make(scores, len(held)),
            sum(bool(run["passed"]) for run in scored),
            _cost(held),
        )


def _cost(runs: Sequence[Json]) -> Sample:
    return Sample.make((run["cost_usd"] for run in runs if run["cost_usd"] is not None), len(runs))


def remedy_text(item: Json) -> str:
    """What would make an item of the report sound, and how far a repair has to go for that; "" where nothing would."""
    remedy, level = item.get("remedy"), item.get("level")
    if not remedy:
        return ""
    # "none: .." says itself what would help, if anything does.
    return f"{remedy}, --repair-level={level}" if level and not remedy.startswith("none") else remedy


Mark = tuple[float, bool]
"""A judge's score and verdict."""


def _marks(run: Json, fallback: frozenset[str]) -> list[Mark | None]:
    """What each judge slot of a run says; nothing where no judge said it."""
    return [
        (judge["score"], bool(judge["passed"]))
        if judge["status"] == "complete" and judge["score"] is not None and slot_id(run["id"], number) not in fallback
        else None
        for number, judge in enumerate(run["judges"], 1)
    ]


def _judge_rows(by_slot: Json, marks: Sequence[Sequence[Mark | None]]) -> Iterator[JudgeRow]:
    for number, row in enumerate(by_slot.values(), 1):
        statuses = {status: row.get(status, 0) for status in SLOT_WORDS}
        given = [mark for run in marks if len(run) >= number and (mark := run[number - 1]) is not None]
        yield JudgeRow(
            number,
            row["model"],
            statuses,
            row.get("fallback", 0),
            Sample.make((score for score, _ in given), sum(statuses.values())),
            sum(passed for _, passed in given),
        )


def _pair_rows(marks: Sequence[Sequence[Mark | None]]) -> Iterator[PairRow]:
    slots = max(map(len, marks), default=0)
    for first, second in combinations(range(slots), 2):
        both = [
            (one, other)
            for run in marks
            if len(run) > second and (one := run[first]) is not None and (other := run[second]) is not None
        ]
        differences = [one[0] - other[0] for one, other in both]
        yield PairRow(
            first + 1,
            second + 1,
            len(both),
            math.fsum(map(abs, differences)) / len(both) if both else None,
            math.fsum(differences) / len(both) if both else None,
            sum(one[1] == other[1] for one, other in both),
            _correlation([one[0] for one, _ in both], [other[0] for _, other in both]),
        )


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < FEWEST_PAIRS:
        return None
    try:
        return statistics.correlation(first, second)
    except statistics.StatisticsError:  # one of them is constant
        return None


def _outliers(runs: Sequence[Json], marks: Sequence[Sequence[Mark | None]]) -> list[Outlier]:
    found = []
    for run, given in zip(runs, marks, strict=True):
        scores = [mark[0] for mark in given if mark is not None]
        if len(scores) > 1 and (spread := max(scores) - min(scores)) > 0:
            verdicts = {mark[1] for mark in given if mark is not None}
            found.append(Outlier(run["id"], tuple(mark and mark[0] for mark in given), spread, len(verdicts) > 1))
    return sorted(found, key=lambda outlier: (-outlier.spread, outlier.run))[:MOST_OUTLIERS]


def _demands(experiment: Json) -> Iterator[Demand]:
    for row in experiment.get("requirements", ()):
        share = "" if row["percent"] is None else f", {row['percent']:g} %"
        yield Demand(
            _with_reason(f"{row['requirement']}: {row['count']:,} of {row['of']:,}{share}", row["reason"]), row["holds"]
        )
    if (compared := experiment.get("compared")) and (ratchet := compared["ratchet"]):
        yield Demand(_with_reason("nothing is worse than in the baseline", ratchet["reason"]), ratchet["holds"])
    for waiver in experiment.get("waivers", ()):
        if waiver["fault"]:
            yield Demand(f"the waiver in line {waiver['line']}, for {waiver['item']}, is {waiver['fault']}", False)


def _with_reason(text: str, reason: str | None) -> str:
    return f"{text} ({reason})" if reason else text


def _compared(compared: Json | None) -> Compared | None:
    if compared is None:
        return None
    counts = [(words, len(compared[kind])) for kind, words in KINDS_OF_CHANGE.items() if compared[kind]]
    if compared["not_compared"]:
        counts.append(("not compared", compared["not_compared"]))
    return Compared(
        compared["baseline"],
        compared["generated_at"],
        tuple(counts),
        tuple(Change(row["id"], _state(row["before"]), _state(row["after"])) for row in compared["worse"]),
    )


def _state(state: Json | None) -> str:
    if state is None:
        return "not expected"
    outcome = OUTCOME_WORDS.get(state["outcome"], state["outcome"])
    return f"{state['status']}, {outcome}{', fallback' if state['fallback'] else ''}".replace("_", " ")


def _planned(items: Sequence[Json]) -> Work | None:
    actions = [
        Action(
            action["level"],
            "",
            "planned",
            tuple(action["files"]),
            calls=action["calls"],
            cost_usd=action["cost_usd"],
            seconds=action["seconds"],
        )
        for item in items
        for action in item["actions"]
        if action["outcome"] == "planned"
    ]
    if not actions:
        return None
    calls = Counter[str]()
    for action in actions:
        calls[action.level] += action.calls
    return Work(
        sum(len(action.files) for action in actions if action.level == "regenerate"),
        calls["judges"],
        calls["agents"],
        total_cost(actions),
        total_seconds(actions),
    )
