"""What the page's script works on: runs, and the items that there is something to tell of, in few bytes.

Texts that occur often (a message, a file's name) are kept once and referred to by their place in a list. Item texts
have a limit together; beyond it an item keeps its status and codes, and the page says that its texts are elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..auditing.findings import CODES, CONSEQUENCES
from .figures import (
    AGGREGATES_WORDS,
    CHECKPOINT_WORDS,
    OUTCOME_WORDS,
    RUN_WORDS,
    SLOT_WORDS,
    Figures,
    Json,
    action_text,
    remedy_text,
    slot_id,
)

ROOM = 1_500_000
"""Bytes that findings and actions may take in one page."""
MOST_FINDINGS = 30
"""Findings, and actions, that are told of one item."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "run": RUN_WORDS,
    "judge_slot": SLOT_WORDS,
    "checkpoint": CHECKPOINT_WORDS,
    "aggregates": AGGREGATES_WORDS,
}
"""What statuses mean, by the kind of item that has them."""

LETTERS: Mapping[str, str] = {
    "completed": "·",
    "complete": "·",
    "results": "R",
    "failed": "F",
    "partial": "P",
    "missing": "M",
    "agent_failed": "A",
    "conflict": "X",
    "unsafe": "U",
    "not_audited": "?",
    "sound": "·",
    "stale": "S",
    "malformed": "B",
}
"""A status in a letter, for those whom its colour does not tell anything."""

_OWN = "\x01"
"""Stands for an item's run at the beginning of a file's name; no text of a cleaned report holds it."""

_RANKS = {"failed": 0, "crashed": 0, "not-run": 0, "waived": 2, "repaired": 3, "passed": 4}


class Texts:
    """Texts, each once; others refer to them by number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """The number of ``text``."""
        place = self._places.setdefault(text, len(self.all))
        if place == len(self.all):
            self.all.append(text)
        return place

    def forget(self, first: int) -> None:
        """Take back the texts from number ``first`` on."""
        for text in self.all[first:]:
            del self._places[text]
        del self.all[first:]


class _Room:
    """What is left of the bytes that item texts may take."""

    def __init__(self, size: int) -> None:
        self.left = size

    def takes(self, item: list[Any], new_texts: Sequence[str]) -> bool:
        """Whether there was room for ``item``, with the texts that no item before it needed."""
        self.left -= len(json.dumps([item, new_texts]))
        return self.left >= 0


def page_data(experiments: Sequence[Json], parts: Sequence[Figures], *, room: int = ROOM) -> Json:
    """The data of all experiments of a cleaned report.

    ``{"texts": [..], "words": {"run": {status: [letter, meaning]}, "judge_slot": .., "checkpoint": ..,
    "aggregates": .., "outcome": {outcome: word}}, "codes": {code: [meaning, cause, remedy]}, "experiments":
    [{"command", "models": [text], "runs": [RUN], "items": [ITEM], "cut": n}]}``, where a number stands for a text:

    - RUN is ``[id, status, score, passed, cost, [[status, score, passed, model if not the slot's], ..], 1 if its score
      counts]``, a slot's passed being 2 for a fallback verdict;
    - ITEM is ``[run's place in runs or id, slot number or 0, kind, status before, status, outcome,
      [[code, 1 for an error, file, pointer, message], ..], [text, ..], how many of both are left out, remedy, why it is
      waived]``, the worst first; of the last ``cut`` items there are codes only.
    """
    texts, left = Texts(), _Room(room)
    held = [_experiment(experiment, part, texts, left) for experiment, part in zip(experiments, parts, strict=True)]
    codes = {row.code for part in parts for row in part.codes}
    return {
        "words": {
            **{
                kind: {status: [LETTERS[status], meaning] for status, meaning in words.items()}
                for kind, words in _WORDS.items()
            },
            "outcome": OUTCOME_WORDS,
        },
        "codes": {
            code: [known.meaning, known.cause, known.remedy] for code in sorted(codes) if (known := CODES.get(code))
        },
        "experiments": held,
        "texts": texts.all,
    }


def embedded(data: Json) -> str:
    """``data`` as JSON that may stand in a ``<script>`` element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # Every character that is not ASCII is escaped already, U+2028 and U+2029 among them.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _experiment(experiment: Json, part: Figures, texts: Texts, room: _Room) -> Json:
    models = [judge.model for judge in part.judges]
    places: dict[str, int] = {}
    runs = []
    for place, run in enumerate(experiment["runs"]):
        places.setdefault(run["id"], place)
        runs.append(_run(run, models, part, texts))
    items, cut = [], 0
    for item in sorted(experiment["items"], key=_rank):
        first = len(texts.all)
        made = _item(item, places, texts)
        if not room.takes(made, texts.all[first:]):
            texts.forget(first)
            made = _item(_bare(item), places, texts)
            cut += 1
        items.append(made)
    return {
        "command": part.command,
        "models": [texts.place(model) for model in models],
        "runs": runs,
        "items": items,
        "cut": cut,
    }


def _run(run: Json, models: Sequence[str], part: Figures, texts: Texts) -> list[Any]:
    judges = []
    for number, judge in enumerate(run["judges"], 1):
        passed = 2 if slot_id(run["id"], number) in part.fallback_slots else _bit(judge["passed"])
        made = [texts.place(judge["status"]), _rounded(judge["score"]), passed]
        if judge["model"] is not None and judge["model"] != (models[number - 1] if number <= len(models) else None):
            made.append(texts.place(judge["model"]))
        judges.append(made)
    return [
        run["id"],
        texts.place(run["status"]),
        _rounded(run["score"]),
        _bit(run["passed"]),
        _rounded(run["cost_usd"]),
        judges,
        int(run["scored"]),
    ]


def _bit(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _rank(item: Json) -> tuple[int, str]:
    rank = _RANKS.get(item["outcome"], 0)
    if rank == 0 and {found["code"] for found in item["findings"]} & CONSEQUENCES:
        rank = 1
    return rank, item["id"]


def _item(item: Json, places: Mapping[str, int], texts: Texts) -> list[Any]:
    head, _, last = item["id"].rpartition("/")
    of_slot = item["kind"] == "judge_slot"
    run_id = head if of_slot else item["id"]
    number = last.removeprefix("judge_")
    slot = int(number) if of_slot and number.isascii() and number.isdigit() else 0
    known = run_id in places and bool(slot) is of_slot
    findings = [_finding(found, run_id, texts) for found in item["findings"][:MOST_FINDINGS]]
    remedy = item.get("remedy") or ""
    told = [text for action in item["actions"] if (text := action_text(action, run_id, remedy))]
    actions = [texts.place(text) for text in told[:MOST_FINDINGS]]
    return [
        places[run_id] if known else item["id"],
        slot,
        texts.place(item["kind"]),
        texts.place(item["status_before"] or ""),
        texts.place(item["status"] or ""),
        texts.place(item["outcome"]),
        findings,
        actions,
        len(item["findings"]) - len(findings) + len(told) - len(actions),
        texts.place(remedy_text(item)),
        texts.place(_waiver_text(item)),
    ]


def _waiver_text(item: Json) -> str:
    waiver = item.get("waiver")
    return f"until {waiver['until']}: {waiver['reason']} (line {waiver['line']} of the waivers)" if waiver else ""


def _finding(found: Json, run_id: str, texts: Texts) -> list[int]:
    file = found["file"] or ""
    if file.startswith(f"{run_id}/"):
        file = _OWN + file[len(run_id) + 1 :]
    return [
        texts.place(found["code"]),
        int(found["severity"] == "error"),
        texts.place(file),
        texts.place(found["pointer"]),
        texts.place(found["message"]),
    ]


def _bare(item: Json) -> Json:
    codes = {(found["code"], found["severity"]): found for found in item["findings"]}
    findings = [{**found, "file": "", "pointer": "", "message": ""} for found in codes.values()]
    return {**item, "findings": findings, "actions": [], "remedy": None}
