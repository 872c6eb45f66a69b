"""The journal: what repairs wrote into it, and the calls that are read back from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import pytest

import pytest_scylla
from pytest_scylla.experiment.journal import (
    MOST_SECONDS,
    MOST_USD,
    CallEntry,
    CallKind,
    CallOutcome,
    begun_entry,
    call_entry,
    calls_in,
    known_cost,
    stamp,
)
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.records import MAX_FILE_SIZE
from pytest_scylla.experiment.schemas import is_valid, load_schema, problems
from pytest_scylla.experiment.strict_json import parse_object
from pytest_scylla.experiment.timestamps import moment

from .damage import JUDGMENT, OUTPUT, RUN_RESULT, Run, cut, directory_for_file, each, lose
from .limits import processor_time
from .repairing import journal, repair, tree

OUTCOMES: tuple[CallOutcome, ...] = get_args(CallOutcome)
CALL: dict[str, Any] = {
    "what": "judge-call",
    "item": "T1/02/run_01/judge_02",
    "command": "claude",
    "model": "judge-medium-1",
    "attempt": 2,
    "outcome": "answered",
    "seconds": 47.5,
}


BEGUN: dict[str, Any] = {key: value for key, value in CALL.items() if key not in ("outcome", "seconds")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment with nothing in it."""
    (tmp_path / "exp").mkdir()
    return tmp_path / "exp"


@pytest.fixture
def kept(root: Path) -> Path:
    """An experiment with a journal that tells of three calls."""
    with Keeping(root) as keeping:
        for attempt in (1, 2, 3):
            keeping.write_journal(call_entry(**{**CALL, "attempt": attempt}))
    return root


def own_journal(root: Path) -> Path:
    (path,) = (root / KEEPING / "journal").iterdir()
    return path


def attempts_told(root: Path) -> list[int]:
    return [call.attempt for call in calls_in(root)]


# --------------------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_call_is_read_back_as_it_was_told(root: Path, outcome: CallOutcome) -> None:
    before = datetime.now(timezone.utc)
    line = call_entry(
        **{**CALL, "outcome": outcome},
        reason="no verdict in it",
        cost_usd=0.125,
        usage={"input_tokens": 7, "a": [None]},
    )
    with Keeping(root) as keeping:
        keeping.write_journal(line)
    (call,) = calls_in(root)
    assert before <= call.time <= datetime.now(timezone.utc)
    assert call == CallEntry(
        time=call.time,
        what="judge-call",
        item="T1/02/run_01/judge_02",
        command="claude",
        model="judge-medium-1",
        attempt=2,
        outcome=outcome,
        reason="no verdict in it",
        cost_usd=0.125,
        usage={"input_tokens": 7, "a": [None]},
        seconds=47.5,
    )


def test_an_entry_is_one_line_of_sound_json_with_the_keys_in_their_order() -> None:
    line = call_entry(**{**CALL, "model": "a\nb\u2028\ud800", "command": 'x "y"\r\n'}, reason="a\nb\x1b[31m::error::")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    entry = parse_object(line)
    assert problems("journal-entry", entry) == ()
    assert list(entry) == [
        *("time", "tool", "item", "what"),
        *("command", "model", "attempt", "outcome", "reason", "cost_usd", "usage", "seconds"),
    ]
    assert entry["what"] == "judge-call"
    assert (entry["model"], entry["command"]) == ("a\nb\u2028\ud800", 'x "y"\r\n')
    assert entry["reason"].isprintable()
    assert "::" not in entry["reason"]


def test_what_is_not_said_is_null() -> None:
    entry = parse_object(call_entry(**CALL))
    assert (entry["reason"], entry["cost_usd"], entry["usage"]) == (None, None, None)


def recursive() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


ODD_USAGE: dict[str, Any] = {
    "NaN": {"tokens": float("nan")},
    "a huge number": {"tokens": 10**30},
    "a set": {"tokens": {1, 2}},
    "bytes": {"tokens": b"x"},
    "a key that is no text": {(1, 2): 3},
    "two keys of one name": {1: 1, "1": 2},
    "a long text": {"text": "x" * 10_000},
    "a list": ["tokens"],
    "a text": "tokens",
    "a number": 7,
    "itself": recursive(),
    "deep": nested(200),
    "very deep": nested(5000),
}


@pytest.mark.parametrize("name", ODD_USAGE)
def test_usage_that_no_entry_may_hold_is_told_of_as_not_known(name: str) -> None:
    line = call_entry(**CALL, cost_usd=0.5, usage=ODD_USAGE[name])
    assert is_valid("journal-entry", parse_object(line))
    assert parse_object(line)["usage"] is None
    assert parse_object(line)["cost_usd"] == 0.5


@pytest.mark.parametrize("cost", [-0.01, float("nan"), float("inf"), 1e300, 10**400, True, False, "0.10", [], None])
def test_what_is_no_cost_is_told_of_as_not_known(cost: Any) -> None:
    assert known_cost(cost) is None
    assert parse_object(call_entry(**CALL, cost_usd=cost))["cost_usd"] is None


@pytest.mark.parametrize("cost", [0, 0.0, 3, 0.125, MOST_USD])
def test_a_cost_is_told(cost: float) -> None:
    assert known_cost(cost) == cost
    assert parse_object(call_entry(**CALL, cost_usd=cost))["cost_usd"] == cost


def test_the_bounds_are_those_of_the_schemas() -> None:
    for kind in ("journal-entry", "attempt"):
        keys = load_schema(kind)["properties"]
        assert keys["seconds"]["maximum"] == MOST_SECONDS
        assert keys["cost_usd"]["maximum"] == MOST_USD
    assert tuple(load_schema("journal-entry")["properties"]["outcome"]["enum"]) == OUTCOMES


def test_every_entry_begins_with_the_time_and_what_wrote_it() -> None:
    before = datetime.now(timezone.utc)
    told = stamp()
    time = moment(told["time"])
    assert time is not None
    assert time.isoformat() == told["time"]
    assert before <= time <= datetime.now(timezone.utc)
    assert list(told) == ["time", "tool"]
    assert told["tool"] == f"pytest-scylla {pytest_scylla.__version__}"


# ---------------------------------------------------------------------------------------------- together with repairs


@pytest.fixture
def repaired(two_run_experiment: Path, tmp_path: Path) -> Run:
    """A run of which files were repaired that were absent, damaged, and a directory."""
    run = Run(shutil.copytree(two_run_experiment, tmp_path / "exp"), "T1/02/run_01")
    each(cut(JUDGMENT, 0.5), lose(RUN_RESULT), directory_for_file(OUTPUT))(run)
    repair(run.root, run.run_id)
    return run


def test_what_a_repair_tells_of_files_keeps_to_the_schema(repaired: Run) -> None:
    entries = journal(repaired.root)
    assert {entry["file"] for entry in entries} == {
        f"{repaired.run_id}/{name}" for name in (JUDGMENT, RUN_RESULT, OUTPUT)
    }
    assert {type(entry["replaced"]) for entry in entries} == {dict, type(None)}
    for entry in entries:
        assert problems("journal-entry", entry) == ()
        assert list(entry)[:2] == list(stamp())
        assert entry["tool"] == stamp()["tool"]
        for key in entry:
            assert not is_valid("journal-entry", {name: value for name, value in entry.items() if name != key}), key


def test_calls_are_found_among_what_tells_of_files(repaired: Run) -> None:
    assert list(calls_in(repaired.root)) == []
    with Keeping(repaired.root) as keeping:
        keeping.write_journal(call_entry(**CALL))
    repaired.delete(RUN_RESULT)
    repair(repaired.root, repaired.run_id)
    assert [entry["what"] for entry in journal(repaired.root)] == [*["regenerate"] * 3, "judge-call", "regenerate"]
    assert attempts_told(repaired.root) == [2]


@pytest.mark.parametrize("what", get_args(CallKind))
def test_that_a_call_begins_is_told_with_all_that_is_known_then(what: CallKind) -> None:
    line = begun_entry(**{**BEGUN, "what": what})
    entry = parse_object(line)
    assert line.endswith(b"\n")
    assert problems("journal-entry", entry) == ()
    assert list(entry) == ["time", "tool", "item", "what", "command", "model", "attempt"]
    assert entry == {**entry, **BEGUN, "what": f"{what}-begun"}
    for key in entry:
        assert not is_valid("journal-entry", {name: value for name, value in entry.items() if name != key}), key


def test_a_call_that_only_began_is_none_that_ended(kept: Path) -> None:
    with Keeping(kept) as keeping:
        keeping.write_journal(begun_entry(**{**BEGUN, "attempt": 4}))
    assert attempts_told(kept) == [1, 2, 3]


def test_something_else_may_be_told_of_by_later_versions(kept: Path) -> None:
    later = {**stamp(), "item": "T1/02/run_01", "what": "agent-call", "command": ["agent"]}
    with Keeping(kept) as keeping:
        keeping.write_journal(json.dumps({**later, "command": "agent"}).encode() + b"\n")
    assert attempts_told(kept) == [1, 2, 3]


# ---------------------------------------------------------------------------------------------------------- read again


def test_journals_are_read_by_name(kept: Path) -> None:
    place = own_journal(kept).parent
    (place / "0-1.jsonl").write_bytes(call_entry(**{**CALL, "attempt": 9}))
    (place / "~.jsonl").write_bytes(call_entry(**{**CALL, "attempt": 10}))
    (place / "notes.txt").write_bytes(call_entry(**CALL))
    (place / "0-1.jsonl.old").write_bytes(call_entry(**CALL))
    assert attempts_told(kept) == [9, 1, 2, 3, 10]


def said(**changes: Any) -> bytes:
    """An entry that says something else than the first one; what is to be `...` it does not say."""
    entry = {**parse_object(call_entry(**{**CALL, "attempt": 77})), **changes}
    return json.dumps({key: value for key, value in entry.items() if value is not ...}).encode()


UNSOUND: dict[str, bytes] = {
    "blank": b"  ",
    "no JSON": b"yesterday it worked",
    "cut off": said()[:-20],
    "a list": b"[" + said() + b"]",
    "two entries": said() + said(),
    "a key twice": said()[:-1] + b', "attempt": 78}',
    "NaN": said().replace(b"47.5", b"NaN"),
    "1e999": said().replace(b"47.5", b"1e999"),
    "not UTF-8": said().replace(b"claude", b"claude\xff"),
    "deep": b'{"a":' * 50_000,
    "a huge number": said().replace(b"77", b"9" * 400),
    **{f"no {key}": said(**{key: ...}) for key in parse_object(call_entry(**CALL))},
    "a file's entry": said(what="regenerate"),
    "an outcome that is none": said(outcome="Answered"),
    "an attempt of 0": said(attempt=0),
    "an attempt that is a truth value": said(attempt=True),
    "a fraction of an attempt": said(attempt=1.5),
    "a negative duration": said(seconds=-1),
    "more than a week": said(seconds=MOST_SECONDS + 1),
    "a duration in words": said(seconds="47.5"),
    "a negative cost": said(cost_usd=-0.5),
    "a cost beyond all bounds": said(cost_usd=1e12),
    "a cost in words": said(cost_usd="0.5"),
    "usage that is a list": said(usage=[1]),
    "a model that is none": said(model=None),
    "a moment that is none": said(time="yesterday"),
    "a moment that is a number": said(time=1772366700),
    "a reason that is a list": said(reason=["x"]),
}


@pytest.mark.parametrize("line", UNSOUND.values(), ids=UNSOUND.keys())
def test_a_line_that_is_no_sound_entry_is_passed_over_and_the_others_are_read(kept: Path, line: bytes) -> None:
    path = own_journal(kept)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, b"\n", lines[2]]))
    assert attempts_told(kept) == [1, 2, 3]


def test_the_line_that_the_unsound_ones_are_made_from_is_sound(kept: Path) -> None:
    own_journal(kept).write_bytes(said() + b"\n" + said(later={"any": 1}) + b"\r\n" + said(attempt=3, cost_usd=1))
    assert attempts_told(kept) == [77, 77, 3]


def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other(kept: Path) -> None:
    with own_journal(kept).open("ab") as file:
        file.write(said()[:40])
    assert attempts_told(kept) == [1, 2, 3]
    with Keeping(kept) as keeping:
        keeping.write_journal(call_entry(**{**CALL, "attempt": 4}))
    assert attempts_told(kept) == [1, 2, 3, 4]


def in_order(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    """Do one after the other."""

    def do(path: Path) -> None:
        for step in steps:
            step(path)

    return do


BARRED: dict[str, Callable[[Path], object]] = {
    "a link": in_order(lambda path: path.rename(path.parent / "x"), lambda path: path.symlink_to("x")),
    "a link to nothing": in_order(Path.unlink, lambda path: path.symlink_to("nothing")),
    "a directory": in_order(Path.unlink, Path.mkdir),
    "a pipe": in_order(Path.unlink, os.mkfifo),
    "too large": lambda path: os.truncate(path, MAX_FILE_SIZE + 1),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("bar", BARRED.values(), ids=BARRED.keys())
def test_a_journal_that_may_not_be_read_is_passed_over_and_the_others_are_read(
    kept: Path, bar: Callable[[Path], object]
) -> None:
    other = own_journal(kept).parent / "~.jsonl"
    other.write_bytes(call_entry(**{**CALL, "attempt": 9}))
    bar(next(path for path in other.parent.iterdir() if path != other))
    assert attempts_told(kept) == [9]


@pytest.mark.parametrize("name", ["journal", "."])
def test_journals_behind_a_link_are_not_read(kept: Path, tmp_path: Path, name: str) -> None:
    place = Path(os.path.normpath(kept / KEEPING / name))
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert attempts_told(kept) == []


def test_journals_that_may_not_be_listed_are_not_read(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[str]:
        raise PermissionError

    monkeypatch.setattr(os, "listdir", refuse)
    assert attempts_told(kept) == []


def test_an_experiment_that_nobody_repaired_has_no_calls_and_gets_no_journal(root: Path) -> None:
    assert attempts_told(root) == []
    assert os.listdir(root) == []


def test_an_experiment_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        attempts_told(tmp_path / "nowhere")


def test_reading_writes_nothing(kept: Path) -> None:
    before = tree(kept, but=None), own_journal(kept).stat().st_mtime_ns
    attempts_told(kept)
    assert (tree(kept, but=None), own_journal(kept).stat().st_mtime_ns) == before


def test_the_calls_of_a_large_experiment_are_read_in_little_time(kept: Path) -> None:
    own_journal(kept).write_bytes(call_entry(**CALL) * 10_000)
    with processor_time(2.0):
        assert len(attempts_told(kept)) == 10_000
