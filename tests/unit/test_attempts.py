"""Attempts at judging a slot: each is kept for good, and a slot that was asked about often enough is left alone."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pytest_scylla
from pytest_scylla.auditing import evidence as evidence_module
from pytest_scylla.auditing.evidence import DEFAULT_POLICY, Policy, read_run
from pytest_scylla.auditing.slot import SlotAudit
from pytest_scylla.experiment.attempts import (
    MOST_ATTEMPTS,
    Attempt,
    KeptReply,
    attempts_folder,
    attempts_of,
    keep_attempt,
    kept_reply,
)
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.layout import RunId, SlotId
from pytest_scylla.experiment.records import Blob, Folder, open_experiment
from pytest_scylla.experiment.schemas import is_valid, load_schema
from pytest_scylla.experiment.strict_json import parse_object
from pytest_scylla.experiment.writing import CannotWrite

from .damage import JUDGMENT, JUDGMENTS, SLOTS, Damage, Run, cut, each, lose, overwrite, put
from .limits import processor_time
from .repairing import Tree, count_calls, staged, tree

T = TypeVar("T")

RUN = RunId("T1", "02", 1)
SLOT = SlotId(RUN, 2)
FOLDER = f"{KEEPING}/attempts/T1-02-run_01-judge_02"
PROMPT = "judge_prompt.md"
ENDED = datetime(2026, 3, 1, 10, 5, 0, 250_119, tzinfo=timezone.utc)
NO_PROMPT = hashlib.sha256(b"another prompt").hexdigest()


@pytest.fixture
def run(two_run_experiment: Path, tmp_path: Path) -> Run:
    """A run to damage."""
    return Run(shutil.copytree(two_run_experiment, tmp_path / "exp"), str(RUN))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment in which nothing was kept yet, as far as that matters here."""
    (tmp_path / "exp").mkdir()
    return tmp_path / "exp"


def in_order(*steps: Callable[[T], object]) -> Callable[[T], None]:
    """Do one after the other."""

    def do(thing: T) -> None:
        for step in steps:
            step(thing)

    return do


def keep(root: Path, slot: SlotId = SLOT, /, **changes: Any) -> Attempt:
    """Keep an attempt that ran out of time, if nothing else is said."""
    said: dict[str, Any] = {
        "model": "judge-medium-1",
        "prompt_sha256": NO_PROMPT,
        "ended_at": ENDED,
        "seconds": 1200.5,
        "failure": None if "unusable" in changes else "no answer within 1200 s",
    }
    with Keeping(root) as keeping:
        return keep_attempt(keeping, slot, **{**said, **changes})


def attempts(root: Path, slot: SlotId = SLOT) -> tuple[Attempt, ...]:
    with open_experiment(root) as folder:
        return attempts_of(folder, slot)


def reply_to(root: Path, attempt: Attempt, slot: SlotId = SLOT) -> KeptReply | None:
    with open_experiment(root) as folder:
        return kept_reply(folder, slot, attempt)


# ------------------------------------------------------------------------------------------------------------- kept


def test_an_attempt_is_read_back_as_it_was_kept(root: Path) -> None:
    kept = keep(root, cost_usd=0.25)
    assert kept == Attempt(1, "judge-medium-1", NO_PROMPT, ENDED, 1200.5, 0.25, "no answer within 1200 s", None)
    assert attempts(root) == (kept,)


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({"failure": "prompt too long"}, True),
        ({"failure": None, "unusable": "no verdict in it"}, True),
        ({"failure": None}, False),
    ],
)
def test_what_gave_no_verdict_counts_and_what_gave_one_does_not(
    root: Path, said: dict[str, str | None], counts: bool
) -> None:
    kept = keep(root, **said)
    assert kept.counts is counts
    assert kept.reason == (said.get("failure") or said.get("unusable"))
    assert attempts(root) == (kept,)


def test_the_reply_lies_beside_the_record_byte_for_byte(root: Path) -> None:
    data = [b"\xff\x00 prose\r\n", b'{"result": "x"}', "warning: \N{GRINNING FACE}\n".encode()]
    kept = keep(root, response=data[0], stdout=data[1], stderr=data[2])
    place = root / FOLDER
    names = ["01.response.txt", "01.stdout.log", "01.stderr.log"]
    assert sorted(os.listdir(place)) == sorted(["01.json", *names])
    assert [(place / name).read_bytes() for name in names] == data
    assert reply_to(root, kept) == KeptReply(*data)
    assert attempts_folder(SLOT) == FOLDER


def test_the_record_is_sound_json_that_keeps_to_its_schema_and_names_its_slot(root: Path) -> None:
    keep(root, cost_usd=0.25)
    text = (root / FOLDER / "01.json").read_bytes()
    record = parse_object(text)
    assert is_valid("attempt", record)
    assert text == json.dumps(record, indent=2).encode()
    assert (record["slot"], record["number"]) == ("T1/02/run_01/judge_02", 1)
    assert list(record) == list(load_schema("attempt")["properties"])


def test_attempts_are_numbered_from_01_over_all_sessions_and_none_is_overwritten(root: Path) -> None:
    kept: list[Attempt] = []
    before: Tree = {}
    for number in range(1, 13):
        kept.append(keep(root, unusable=f"answer {number}", response=b"%d" % number))
        after = tree(root / FOLDER)
        assert before.items() <= after.items()
        assert len(after) == len(before) + 4
        before = after
    assert [attempt.number for attempt in kept] == list(range(1, 13))
    assert attempts(root) == tuple(kept)
    assert {"01.json", "09.json", "10.json", "12.json"} <= set(before)
    assert [reply_to(root, attempt) for attempt in kept] == [KeptReply(b"%d" % n, b"", b"") for n in range(1, 13)]


def test_each_slot_has_attempts_of_its_own(root: Path) -> None:
    others = [SlotId(RUN, 1), SlotId(RunId("T1", "02", 2), 2)]
    for slot in (SLOT, *others):
        assert keep(root, slot, unusable=str(slot)).number == 1
    assert keep(root).number == 2
    assert [attempts(root, slot)[0].unusable for slot in (SLOT, *others)] == [str(slot) for slot in (SLOT, *others)]
    assert [len(attempts(root, slot)) for slot in (SLOT, *others)] == [2, 1, 1]


TAKEN: dict[str, Callable[[Path], object]] = {
    "a record that is malformed": lambda place: (place / "07.json").write_bytes(b'{"slot": "T1/02'),
    "a record of another slot": lambda place: shutil.copyfile(place / "01.json", place / "07.json"),
    "a reply whose record was never written": lambda place: (place / "07.response.txt").write_bytes(b"paid for"),
    "the output alone": lambda place: (place / "07.stdout.log").write_bytes(b"paid for"),
    "the standard error alone": lambda place: (place / "07.stderr.log").write_bytes(b"paid for"),
    "a link to nothing": lambda place: (place / "07.json").symlink_to("nothing"),
    "a link to a file elsewhere": lambda place: (place / "07.response.txt").symlink_to(place.parent / "precious"),
    "a directory": lambda place: (place / "07.stderr.log").mkdir(),
    "a pipe": lambda place: os.mkfifo(place / "07.json"),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN.keys())
def test_a_number_is_taken_by_whatever_has_it(root: Path, take: Callable[[Path], object]) -> None:
    first = keep(root)
    (root / KEEPING / "attempts" / "precious").write_bytes(b"precious")
    take(root / FOLDER)
    before = tree(root, but=None)
    kept = keep(root)
    assert kept.number == 8
    assert before.items() <= tree(root, but=None).items()
    assert attempts(root) == (first, kept)


def test_no_more_attempts_are_kept_than_there_are_numbers_for(root: Path) -> None:
    keep(root)
    (root / FOLDER / f"{MOST_ATTEMPTS - 1}.json").touch()
    assert keep(root).number == MOST_ATTEMPTS == load_schema("attempt")["properties"]["number"]["maximum"]
    before = tree(root, but=None)
    with pytest.raises(CannotWrite, match=f"{FOLDER}: expected at most {MOST_ATTEMPTS} attempts"):
        keep(root)
    assert tree(root, but=None) == before
    assert [attempt.number for attempt in attempts(root)] == [1, MOST_ATTEMPTS]


@pytest.mark.parametrize(
    "name", ["00.json", "5.json", "1000.json", "02.json.old", "x02.json", "02.txt", "02", "２2.json"]
)
def test_other_names_take_no_number(root: Path, name: str) -> None:
    keep(root)
    (root / FOLDER / name).write_bytes((root / FOLDER / "01.json").read_bytes())
    assert [attempt.number for attempt in attempts(root)] == [1]
    assert keep(root).number == 2


@pytest.mark.parametrize(
    "cost",
    [-0.01, float("nan"), float("inf"), 1e300, 10**400, True, "0.10", [0.1], None],
    ids=lambda cost: str(cost)[:8],
)
def test_what_is_no_cost_is_kept_as_not_known(root: Path, cost: Any) -> None:
    assert keep(root, cost_usd=cost).cost_usd is None
    assert attempts(root)[0].cost_usd is None


@pytest.mark.parametrize("cost", [0, 0.0, 2, 0.125, 1_000_000])
def test_a_cost_is_kept(root: Path, cost: float) -> None:
    assert keep(root, cost_usd=cost).cost_usd == cost
    assert attempts(root)[0].cost_usd == cost


@pytest.mark.parametrize("field", ["failure", "unusable"])
@pytest.mark.parametrize("reason", ["a\nb\x1b[31m::error::", "\ud800", "x" * 5000, "", " \n"])
def test_a_reason_is_kept_as_one_printable_line(root: Path, field: str, reason: str) -> None:
    kept = keep(root, **{"failure": None, field: reason})
    said = getattr(kept, field)
    assert said
    assert said.isprintable()
    assert len(said) <= 500
    assert "::" not in said
    assert attempts(root) == (kept,)
    assert kept.counts


def test_an_attempt_knows_its_moment_in_whatever_zone_it_was_told(root: Path) -> None:
    keep(root, ended_at=ENDED.astimezone(timezone(timedelta(hours=-7))))
    assert attempts(root)[0].ended_at == ENDED


# ---------------------------------------------------------------------------------------------- where it cannot be kept


BARRED: dict[str, Callable[[Path], object]] = {
    "attempts/ is a link": lambda root: (root / KEEPING / "attempts").symlink_to(root.parent / "elsewhere"),
    "attempts/ is a file": lambda root: (root / KEEPING / "attempts").touch(),
    "the slot's is a link": lambda root: slot_folder(root).symlink_to(root.parent / "elsewhere"),
    "the slot's is a file": lambda root: slot_folder(root).touch(),
    ".scylla is a link": in_order(
        lambda root: shutil.rmtree(root / KEEPING), lambda root: (root / KEEPING).symlink_to("../elsewhere")
    ),
}


def slot_folder(root: Path) -> Path:
    (root / KEEPING / "attempts").mkdir(exist_ok=True)
    return root / FOLDER


@pytest.mark.parametrize("bar", BARRED.values(), ids=BARRED.keys())
def test_where_something_else_has_the_place_nothing_is_written_through_it(
    root: Path, bar: Callable[[Path], object]
) -> None:
    (root.parent / "elsewhere").mkdir()
    with Keeping(root):
        bar(root)
    with pytest.raises(CannotWrite, match=KEEPING):
        keep(root)
    assert os.listdir(root.parent / "elsewhere") == []
    assert attempts(root) == ()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "full")], ids=["killed", "full"])
def test_stopped_anywhere_an_attempt_is_there_whole_or_not_at_all(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    reply = {"response": b"an answer", "stdout": b"output", "stderr": b"noise"}
    first = keep(root, **reply)
    stops, whole = 0, False
    while not whole:
        before, known = tree(root / FOLDER), attempts(root)
        calls: list[str] = []

        def counted(name: str, calls: list[str] = calls, stop: int = stops) -> None:
            calls.append(name)
            if len(calls) > stop:
                raise error

        with monkeypatch.context() as patched:
            for name, replacement in count_calls(counted).items():
                patched.setattr(os, name, replacement)
            try:
                keep(root, **reply)
                whole = True
            except (Killed, CannotWrite):
                pass
        after = tree(root / FOLDER)
        assert before.items() <= after.items()
        there = attempts(root)
        assert there[: len(known)] == known
        assert len(there) == sum(name.endswith(".json") for name in after)
        for attempt in there[len(known) :]:
            assert attempt == replace(first, number=attempt.number)
            assert reply_to(root, attempt) == KeptReply(**reply)
        stops += 1
    assert stops > 10
    assert keep(root, **reply).number > attempts(root)[-2].number
    assert staged(root) == []


# ---------------------------------------------------------------------------------------------------------- read again


def rewrite(root: Path, **changes: Any) -> None:
    """Let the first attempt's record say something else; what is to be `...` it does not say."""
    path = root / FOLDER / "01.json"
    record = {**json.loads(path.read_bytes()), **changes}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))


UNBELIEVED: dict[str, dict[str, Any]] = {
    "another slot": {"slot": "T1/02/run_01/judge_03"},
    "another number": {"number": 2},
    "number 0": {"number": 0},
    "a number that is a truth value": {"number": True},
    "no model": {"model": ...},
    "a model that is none": {"model": None},
    "a hash that is too short": {"prompt_sha256": "abc"},
    "a negative duration": {"seconds": -1},
    "a duration in words": {"seconds": "1200"},
    "more than a week": {"seconds": 604801},
    "a negative cost": {"cost_usd": -0.1},
    "a cost beyond all bounds": {"cost_usd": 1e12},
    "no cost": {"cost_usd": ...},
    "a moment that is none": {"ended_at": "yesterday"},
    "a reason that is a list": {"failure": ["no answer"]},
    "no failure": {"failure": ...},
    "no unusable": {"unusable": ...},
    "an empty reason": {"unusable": ""},
}


@pytest.mark.parametrize("changes", UNBELIEVED.values(), ids=UNBELIEVED.keys())
def test_a_record_that_is_invalid_or_in_the_wrong_place_is_passed_over(root: Path, changes: dict[str, Any]) -> None:
    keep(root)
    second = keep(root)
    rewrite(root, **changes)
    assert attempts(root) == (second,)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "NaN": lambda path: path.write_bytes(path.read_bytes().replace(b"1200.5", b"NaN")),
    "a key twice": lambda path: path.write_bytes(path.read_bytes().replace(b'"model"', b'"number": 1, "model"')),
    "not UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b"medium", b"m\xff")),
    "deep": lambda path: path.write_bytes(b"[" * 60_000),
    "large": lambda path: path.write_bytes(path.read_bytes() + b" " * 65536),
    "a link": in_order(lambda path: path.rename(path.parent / "x"), lambda path: path.symlink_to("x")),
    "a directory": in_order(Path.unlink, Path.mkdir),
    "a pipe": in_order(Path.unlink, os.mkfifo),
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_as_a_record_is_passed_over(root: Path, spoil: Callable[[Path], object]) -> None:
    keep(root)
    second = keep(root)
    spoil(root / FOLDER / "01.json")
    assert attempts(root) == (second,)


def test_a_reason_that_somebody_else_wrote_is_made_fit_to_be_shown(root: Path) -> None:
    keep(root)
    rewrite(root, failure="\x1b[2J::error::\n" + "x" * 5000)
    (found,) = attempts(root)
    assert found.failure is not None
    assert found.failure.isprintable()
    assert len(found.failure) <= 600
    assert "::" not in found.failure


def test_unknown_keys_are_fine(root: Path) -> None:
    kept = keep(root)
    rewrite(root, later={"any": 1})
    assert attempts(root) == (kept,)


def test_attempts_behind_a_link_are_none(root: Path, tmp_path: Path) -> None:
    keep(root)
    for folder in (root / FOLDER, root / KEEPING / "attempts", root / KEEPING):
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert attempts(root) == ()
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
    assert len(attempts(root)) == 1


def test_attempts_whose_directory_may_not_be_listed_are_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(root)

    def refuse(*_: object) -> list[str]:
        raise PermissionError(errno.EACCES, "not readable")

    monkeypatch.setattr(os, "listdir", refuse)
    assert attempts(root) == ()
    with pytest.raises(CannotWrite, match=FOLDER):
        keep(root)


def test_where_nothing_was_kept_one_look_tells(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    original = os.open

    def counted(path: Any, *arguments: Any, **named: Any) -> int:
        opened.append(path)
        return original(path, *arguments, **named)

    monkeypatch.setattr(os, "open", counted)
    assert attempts(root) == ()
    assert opened == [root, KEEPING]


def test_reading_writes_nothing(root: Path) -> None:
    assert attempts(root) == ()
    assert os.listdir(root) == []
    kept = keep(root)
    before = tree(root, but=None), (root / FOLDER).stat().st_mtime_ns
    attempts(root)
    reply_to(root, kept)
    assert (tree(root, but=None), (root / FOLDER).stat().st_mtime_ns) == before


def test_as_many_records_as_can_be_kept_are_read_in_no_time(root: Path) -> None:
    keep(root)
    for number in range(2, MOST_ATTEMPTS + 1):
        (root / FOLDER / f"{number:02d}.json").write_bytes(b"[" * 60_000)
    with processor_time(2.0):
        assert len(attempts(root)) == 1


def test_a_reply_of_which_a_part_is_gone_is_none(root: Path) -> None:
    for name in ("response.txt", "stdout.log", "stderr.log"):
        kept = keep(root, response=b"an answer")
        assert reply_to(root, kept) == KeptReply(b"an answer", b"", b"")
        path = root / FOLDER / f"{kept.number:02d}.{name}"
        path.rename(root / "elsewhere")
        assert reply_to(root, kept) is None
        path.symlink_to(root / "elsewhere")
        assert reply_to(root, kept) is None
        path.unlink()
        (root / "elsewhere").rename(path)
        assert reply_to(root, kept) is not None
    assert reply_to(root, kept, SlotId(RUN, 3)) is None


def test_only_attempts_with_the_same_model_and_prompt_say_what_it_would_answer(run: Run) -> None:
    slot = read_run(pytest_scylla.load(run.root), RUN, DEFAULT_POLICY).slots[1]
    same = [keep(run.root), keep(run.root, unusable="no verdict"), keep(run.root, failure=None)]
    keep(run.root, model="judge-large-1")
    keep(run.root, prompt_sha256=hashlib.sha256(b"").hexdigest())
    prompt = Blob("judge_prompt.md", "sound", b"another prompt")
    assert replace(slot, attempts=tuple(attempts(run.root))).attempts_with(prompt) == tuple(same)
    assert slot.attempts_with(prompt) == ()


# ------------------------------------------------------------------------------------------------------------ the audit


def audit(run: Run, policy: Policy = DEFAULT_POLICY) -> SlotAudit:
    """The audit of the slot that is asked about."""
    return pytest_scylla.audit_run(pytest_scylla.load(run.root), RUN, policy).slots[SLOT.number - 1]


def ask(run: Run, *reasons: str | None, **changes: Any) -> None:
    """Keep attempts that asked what the audit would have asked; a reason of `None` is a verdict."""
    model = pytest_scylla.load(run.root).config.judge_models[SLOT.number - 1]
    prompt = hashlib.sha256(run.read(PROMPT)).hexdigest()
    for reason in reasons:
        keep(run.root, **{"model": model, "prompt_sha256": prompt, "failure": None, "unusable": reason, **changes})


LACKING: dict[str, tuple[Damage, str, str]] = {
    "no slot": (lose(SLOTS[1]), "missing", "judge-slot-missing"),
    "a file for a slot": (each(lose(SLOTS[1]), overwrite(SLOTS[1], b"")), "failed", "judge-slot-malformed"),
    "no judgment": (lose(JUDGMENT), "failed", "judgment-missing"),
    "half a judgment": (cut(JUDGMENT, 0.5), "failed", "judgment-malformed"),
    "an invalid judgment": (put(JUDGMENT, "/passed", "no"), "failed", "judgment-invalid"),
    "a score in percent": (put(JUDGMENT, "/score", 85), "failed", "score-out-of-range"),
    "a judgment that is not valid": (put(JUDGMENT, "/is_valid", False), "failed", "judgment-not-valid"),
}


@pytest.mark.parametrize(("damage", "status", "code"), LACKING.values(), ids=LACKING.keys())
def test_a_slot_that_lacks_a_judgment_says_how_often_it_was_asked_about_and_then_that_it_is_exhausted(
    run: Run, damage: Damage, status: str, code: str
) -> None:
    damage(run)
    plain = audit(run)
    assert (plain.status, [found.code for found in plain.findings]) == (status, [code])
    (first,) = plain.findings

    ask(run, "no verdict in it")
    assert audit(run) == plain.with_findings(
        (replace(first, message=f"{first.message}; asked once: no verdict in it"),)
    )

    ask(run, None, failure="no answer within 1200 s")
    expected = f"{first.message}; asked 2 times: no answer within 1200 s"
    assert audit(run) == plain.with_findings((replace(first, message=expected),))

    for reason in ("the last word", "one more"):
        ask(run, reason)
        found = audit(run)
        assert found.status == status
        assert [(one.code, one.severity) for one in found.findings] == [(code, "error"), ("exhausted", "error")]
        assert found.findings[0] == first
        assert found.findings[1].file == FOLDER
        assert found.findings[1].pointer == ""
        assert found.findings[1].message == f"expected a verdict within 3 attempts, found none; the last: {reason}"


def test_of_several_findings_the_first_tells_and_exhausted_comes_last(run: Run) -> None:
    each(put(JUDGMENT, "/passed", "no"), put(JUDGMENT, "/reasoning", 5))(run)
    plain = [found.message for found in audit(run).findings]
    assert len(plain) == 2
    ask(run, "no verdict")
    assert [found.message for found in audit(run).findings] == [f"{plain[0]}; asked once: no verdict", plain[1]]
    ask(run, "no verdict", "no verdict")
    found = audit(run).findings
    assert [one.message for one in found[:2]] == plain
    assert [one.code for one in found] == ["judgment-invalid", "judgment-invalid", "exhausted"]


@pytest.mark.parametrize(("limit", "said"), [(1, "within 1 attempt,"), (2, "within 2 attempts,")])
def test_the_policy_says_how_often_a_judge_is_asked(run: Run, limit: int, said: str) -> None:
    lose(JUDGMENT)(run)
    policy = Policy(attempts=limit)
    ask(run, *["no verdict"] * (limit - 1))
    assert [found.code for found in audit(run, policy).findings] == ["judgment-missing"]
    ask(run, "no verdict")
    found = audit(run, policy).findings
    assert [one.code for one in found] == ["judgment-missing", "exhausted"]
    assert said in found[1].message
    assert [one.code for one in audit(run, Policy(attempts=limit + 1)).findings] == ["judgment-missing"]


def test_a_fallback_that_does_not_count_does_not_hide_the_attempts(run: Run) -> None:
    put(JUDGMENT, "/fallback", True)(run)
    ask(run, *["no verdict"] * 3)
    assert [found.code for found in audit(run, Policy(fallback="fail")).findings] == ["fallback-refused", "exhausted"]
    assert [found.code for found in audit(run).findings] == ["fallback"]
    assert audit(run).complete


IRRELEVANT: dict[str, Callable[[Run], object]] = {
    "answers with a verdict": lambda run: ask(run, *[None] * 5),
    "another model's": lambda run: ask(run, *["no verdict"] * 5, model="judge-large-1"),
    "another prompt's": lambda run: ask(run, *["no verdict"] * 5, prompt_sha256=NO_PROMPT),
    "before the prompt changed": in_order(lambda run: ask(run, *["no verdict"] * 5), overwrite(PROMPT, b"Judge!")),
    "before the prompt was lost": in_order(lambda run: ask(run, *["no verdict"] * 5), lose(PROMPT)),
    "an empty prompt's, of one that was lost": in_order(
        lambda run: ask(run, *["no verdict"] * 5, prompt_sha256=hashlib.sha256(b"").hexdigest()), lose(PROMPT)
    ),
    "another slot's": lambda run: [keep(run.root, SlotId(RUN, 3), unusable="no verdict") for _ in range(5)],
    "unsound": in_order(
        lambda run: ask(run, *["no verdict"] * 5),
        lambda run: [path.write_bytes(b"{") for path in (run.root / FOLDER).glob("*.json")],
    ),
}


@pytest.mark.parametrize("attempted", IRRELEVANT.values(), ids=IRRELEVANT.keys())
def test_attempts_that_say_nothing_about_the_next_change_nothing(run: Run, attempted: Callable[[Run], object]) -> None:
    lose(JUDGMENT)(run)
    plain = audit(run)
    attempted(run)
    assert audit(run) == plain


def test_among_others_only_attempts_that_count_are_counted(run: Run) -> None:
    lose(JUDGMENT)(run)
    ask(run, "first", None, "second")
    ask(run, "another model's", model="judge-large-1")
    assert audit(run).findings[0].message.endswith("; asked 2 times: second")


def test_the_attempts_are_there_for_whoever_repairs(run: Run) -> None:
    lose(JUDGMENT)(run)
    ask(run, "no verdict", None)
    found = read_run(pytest_scylla.load(run.root), RUN, DEFAULT_POLICY)
    assert [slot.attempts for slot in found.slots] == [(), attempts(run.root), ()]
    assert len(attempts(run.root)) == 2


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, Policy(fallback="fail", attempts=1)], ids=["default", "strict"])
def test_an_audit_of_sound_judgments_looks_for_no_attempts(
    run: Run, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(run, *["no verdict"] * 5)
    monkeypatch.setattr(evidence_module, "attempts_of", lambda *_: pytest.fail("looked for attempts"))
    assert audit(run, policy).findings == ()
    lose("agent/result.json", "run_result.json")(run)
    assert audit(run, policy).complete


def test_only_the_slots_that_lack_a_judgment_are_looked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(JUDGMENTS[0], JUDGMENTS[2])(run)
    looked_for: list[SlotId] = []

    def look(root: Folder, slot: SlotId) -> tuple[Attempt, ...]:
        looked_for.append(slot)
        return ()

    monkeypatch.setattr(evidence_module, "attempts_of", look)
    audit(run)
    assert looked_for == [SlotId(RUN, 1), SlotId(RUN, 3)]


def test_a_slot_in_conflict_or_unsafe_says_nothing_of_attempts(run: Run, tmp_path: Path) -> None:
    ask(run, *["no verdict"] * 3)
    put(JUDGMENT, "/score", 0.123)(run)
    assert (audit(run).status, [found.code for found in audit(run).findings]) == (
        "conflict",
        ["judgment-differs-from-reply"],
    )
    run.path(JUDGMENT).rename(tmp_path / "judgment.json")
    run.path(JUDGMENT).symlink_to(tmp_path / "judgment.json")
    assert [found.code for found in audit(run).findings] == ["unsafe-object"]


@pytest.mark.parametrize("reason", ["\x1b[2J::error::\n" * 400, "x" * 5000, ":" * 5000, "\ud800" * 900])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_finding_with_a_reason_is_one_printable_line_of_moderate_length(run: Run, reason: str, limit: int) -> None:
    put(JUDGMENT, "/score", "x" * 5000)(run)
    ask(run, "no verdict")
    rewrite(run.root, unusable=reason)
    found = audit(run, Policy(attempts=limit)).findings
    assert len(found) == 3 - limit
    for one in found:
        assert str(one).isprintable()
        assert len(str(one)) < 1000
        assert "::" not in str(one)


def test_an_audit_of_attempts_writes_nothing(run: Run) -> None:
    lose(JUDGMENT)(run)
    ask(run, *["no verdict"] * 3)
    before = tree(run.root, but=None)
    audit(run)
    assert tree(run.root, but=None) == before
