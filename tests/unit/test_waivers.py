"""Waivers: what the file may hold, which items are waived, until when, and which waiver is one too many."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_scylla.gate.given import GivenFile
from pytest_scylla.gate.waivers import MAX_SIZE, Waiver, WaiverError, Waivers, parse_waivers, read_waivers

TODAY = date(2026, 11, 24)
FILE = "waivers.yaml"


def entry(item: str = "T0/00/run_01", reason: str = "known", until: str = "2026-12-31") -> str:
    """One waiver as YAML."""
    return f'- item: "{item}"\n  reason: {reason}\n  until: {until}\n'


def waivers(*globs: str, until: date = TODAY, today: date = TODAY) -> Waivers:
    """Waivers of these items, a line each."""
    return Waivers(FILE, [Waiver(glob, "known", until, line) for line, glob in enumerate(globs, 1)], today)


def refusal(text: str) -> str:
    """What the text of a file is refused with."""
    with pytest.raises(WaiverError) as raised:
        parse_waivers(text, FILE)
    message = str(raised.value)
    assert message.isprintable()
    return message


# What the file holds


def test_a_file_is_a_list_of_items_reasons_and_days() -> None:
    text = f"# known damage\n{entry()}" + entry("*/judge_02", ">-\n    model retired: gone", "2027-01-31")
    assert parse_waivers(text, FILE) == (
        Waiver("T0/00/run_01", "known", date(2026, 12, 31), 2),
        Waiver("*/judge_02", "model retired: gone", date(2027, 1, 31), 5),
    )


def test_it_may_be_written_in_any_of_yamls_ways() -> None:
    text = "[{item: T0/00/run_01, until: '2026-12-31', reason: \"known\"}]"
    assert parse_waivers(text, FILE) == (Waiver("T0/00/run_01", "known", date(2026, 12, 31), 1),)


@pytest.mark.parametrize("text", ["", "\n", "# nothing is waived any more\n", "[]", "---\n", "---\n...\n"])
def test_an_empty_file_waives_nothing(text: str) -> None:
    assert parse_waivers(text, FILE) == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("item: T0", 1, "expected a list of waivers, found a mapping"),
        ("text", 1, "expected a list of waivers, found a text"),
        ("null", 1, "expected a list of waivers, found a text"),
        ("- T0/*", 1, "expected a mapping with item, reason and until, found a text"),
        ("\n- [a]", 2, "expected a mapping with item, reason and until, found a list"),
        (entry() + "  why: so\n", 4, 'expected item, reason and until, each once, found "why"'),
        (entry() + "  reason: again\n", 4, 'expected item, reason and until, each once, found "reason"'),
        (entry().replace("item", "Item"), 1, 'found "Item"'),
        (entry() + "- item: a\n  reason: b\n", 4, "found no until"),
        (entry() + "- item: a\n  until: 2026-12-31\n", 4, "found no reason"),
        (entry() + "- reason: a\n  until: 2026-12-31\n", 4, "found no item"),
        ("- {}", 1, "found no item"),
        ('- item: "\\ud800"\n  reason: a\n  until: 2026-12-31', 1, "expected a glob on ids"),
        (entry(reason='"  "'), 2, "found no reason"),
        (entry(item=""), 1, "found no item"),
        (entry(reason=""), 2, "expected item, reason and until, found no reason"),
        (entry(until=""), 3, "found no until"),
        (entry().replace('"T0/00/run_01"', ""), 1, "found no item"),
        (entry(reason="gone: see the log"), 2, 'in quotes, as in reason: "gone: see the log"'),
        (entry(reason="null"), 2, 'expected a text, found "null", which is none in YAML: put it in quotes'),
        (entry(reason="5"), 2, 'found "5", which is none in YAML'),
        (entry(reason="yes"), 2, 'found "yes", which is none in YAML'),
        (entry(reason="[a]"), 2, "expected a text, found a list"),
        (entry(reason="{a: b}"), 2, "expected a text, found a mapping"),
        (entry() + entry("T1/*") + entry(), 7, 'every item once, found "T0/00/run_01" in line 1 as well'),
        ("[{item: a, reason: b, until: 2026-12-31}, {item: a, reason: b, until: 2026-12-31}]", 1, "every item once"),
        (f"{entry()}---\n{entry('b')}", 4, "expected one document, found another"),
    ],
)
def test_anything_else_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    message = refusal(text)
    assert message.startswith(f"{FILE}:{line}: ")
    assert words in message


@pytest.mark.parametrize(
    "day",
    [
        "2026-02-30",
        "2026-13-01",
        "2026-1-1",
        "26-01-01",
        "31.12.2026",
        "20261231",
        "2026-W53-4",
        '"2026-12-31 "',
        "2026-12-31 10:00:00",
        '"never"',
        "never",
        "\N{ARABIC-INDIC DIGIT TWO}026-12-31",
    ],
)
def test_a_day_that_is_none_is_refused_with_its_line(day: str) -> None:
    message = refusal(entry() + entry("T1/*", until=day))
    assert message.startswith(f"{FILE}:6: expected ")
    assert "2026-12-31" in message or "which is none in YAML" in message


@pytest.mark.parametrize("item", ["*/judge_01", "*", "*x", "[ab]/*", "[x]"])
def test_who_forgets_the_quotes_around_a_glob_is_told_of_them(item: str) -> None:
    message = refusal(entry().replace('"T0/00/run_01"', item))
    assert message.startswith(f"{FILE}:1: ")
    assert 'has to stand in quotes, as in item: "*/judge_01"' in message


@pytest.mark.parametrize(
    "text",
    [
        "- item: &a T0\n  reason: *a\n  until: 2026-12-31\n",
        "- &a {item: T0, reason: b, until: 2026-12-31}\n- *a\n",
        "&a []",
        "!!seq []",
        "- !!map {item: T0, reason: b, until: 2026-12-31}\n",
        entry(reason="!!str known"),
        entry(reason="!!python/object/apply:os.system [true]"),
        entry(until="!!timestamp 2026-12-31"),
        "- <<: {item: T0}\n  reason: b\n  until: 2026-12-31\n",
        "- ? [item]\n  : a\n",
    ],
)
def test_aliases_anchors_tags_and_merges_are_refused(text: str) -> None:
    assert refusal(text).startswith(f"{FILE}:1: ") or refusal(text).startswith((f"{FILE}:2: ", f"{FILE}:3: "))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- item: a\n  reason: b: c", 2),
        ('- item: a\n  reason: "b', 2),
        ("- item: a\n\treason: b", 2),
        ("- item: a\n  reason: b\x00", 2),
        ("- item: a\n  reason: b\x1b[31m", 2),
        ("%YAML 9.9\n--- []", 1),
        ("[" * 100_000, 1),
        ("- " * 100_000, 1),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line_whatever_its_depth(text: str, line: int) -> None:
    assert refusal(text).startswith(f"{FILE}:{line}: ")


@given(
    st.text(st.characters(codec="utf-8"), max_size=60)
    | st.text(alphabet="-: \n[]{}*&!'\"#itemreasonuntil09", max_size=60)
)
def test_no_text_does_more_than_be_read_or_refused(text: str) -> None:
    try:
        found = parse_waivers(text, FILE)
    except WaiverError:
        assert re.match(rf"{FILE}:[0-9]+: .", refusal(text))
    else:
        assert all(waiver.item and waiver.reason for waiver in found)


@pytest.mark.parametrize("reason", ['"\\e[31m"', '"\\ud800"', '"a\\nb"', '"::error::x"'])
def test_a_reason_is_printable_whatever_it_is(reason: str) -> None:
    (waiver,) = parse_waivers(entry(reason=reason), FILE)
    assert waiver.reason.isprintable()
    assert "::error" not in waiver.reason
    waiver.reason.encode()


# The file itself


def test_a_file_is_read_through_links_that_a_person_made(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "w.yaml").write_text(entry())
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "link.yaml").symlink_to("link/w.yaml")
    for name in ("real/w.yaml", "link/w.yaml", "link.yaml"):
        assert len(read_waivers(GivenFile(tmp_path / name, name))) == 1


def _large(path: Path) -> None:
    path.write_text("#" * (MAX_SIZE + 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "expected a file, found none"),
        (lambda path: path.mkdir(), "expected a file, found a directory"),
        (os.mkfifo, "expected a file, found a link, pipe, socket or device"),
        (_large, "expected at most 1048576 bytes"),
        (lambda path: path.symlink_to("nowhere"), "expected a file, found none"),
        (lambda path: path.write_bytes(b"# a\n# b\n- \xff"), "expected UTF-8"),
    ],
)
def test_what_is_no_small_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "w.yaml"
    make(path)
    with pytest.raises(WaiverError, match=words) as raised:
        read_waivers(GivenFile(path, "w.yaml"))
    assert str(raised.value).startswith("w.yaml:3: " if "UTF-8" in words else "w.yaml:1: ")


def test_a_file_in_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WaiverError, match=r"w\.yaml:1: No such file or directory"):
        read_waivers(GivenFile(tmp_path / "nowhere" / "w.yaml", "w.yaml"))


# Which items are waived


def test_a_glob_waives_items_and_a_run_with_its_slots() -> None:
    found = waivers("T0/00/run_01", "*/judge_02")
    for item_id in ("T0/00/run_01", "T0/00/run_01/judge_01", "T5/13/run_10/judge_02"):
        assert found.waiver_of(item_id) is not None, item_id
    for item_id in ("T0/00/run_02", "T5/13/run_10", "T5/13/run_10/judge_01", "checkpoint", "T0"):
        assert found.waiver_of(item_id) is None, item_id


def test_of_several_waivers_the_first_counts() -> None:
    found = waivers("T0/*", "T0/00/run_01")
    waiver = found.waiver_of("T0/00/run_01")
    assert waiver is not None
    assert waiver.line == 1


def test_a_waiver_holds_to_the_end_of_its_last_day() -> None:
    last = date(2026, 12, 31)
    for today, holds in ((date(2026, 12, 30), True), (last, True), (date(2027, 1, 1), False)):
        found = waivers("T0/*", until=last, today=today)
        assert (found.waiver_of("T0/00/run_01") is not None) is holds
        assert bool(found.reason_of("T0/00/run_01")) is holds


def test_the_reason_names_the_line_and_the_last_day() -> None:
    found = Waivers(FILE, parse_waivers(f"\n{entry(reason='the service is gone')}", FILE), TODAY)
    assert found.reason_of("T0/00/run_01") == "the service is gone (waivers.yaml:2, until 2026-12-31)"
    assert found.reason_of("T0/00/run_02") == ""


@given(st.builds(Waiver, st.text(min_size=1), st.text(min_size=1), st.dates(), st.integers(1, 10**6)))
def test_a_waiver_survives_the_way_to_a_worker(waiver: Waiver) -> None:
    assert Waiver.from_data(waiver.as_data()) == waiver


# Which waiver is one too many


def faults(found: Waivers, *experiments: dict[str, str]) -> list[str | None]:
    """The faults of the waivers, which are those of all experiments together."""
    by_experiment = [[use.fault for use in uses] for uses in found.uses(experiments)]
    assert all(other == by_experiment[0] for other in by_experiment)
    return [None if fault is None else str(fault) for fault in by_experiment[0]]


def test_a_waiver_that_waives_something_is_fine() -> None:
    assert faults(waivers("T0/*"), {"T0/00/run_01": "waived", "T0/00/run_02": "passed"}) == [None]


def test_a_waiver_that_matches_nothing_or_only_what_is_sound_is_unused() -> None:
    outcomes = {"T0/00/run_01": "passed", "T0/00/run_02": "repaired", "T1/00/run_01": "failed"}
    found = waivers("T9/*", "T0/*", "*/run_02", "T1/*")
    assert faults(found, outcomes) == ["unused", "unused", "unused", None]
    nothing, sound, one, _ = next(found.uses([outcomes]))
    assert one.problem == '"*/run_02" matches 1 item, which is sound: remove it'
    assert nothing.problem == '"T9/*" matches nothing: remove it'
    assert sound.problem == '"T0/*" matches 2 items, and all of them are sound: remove it'
    assert sound.place == "waivers.yaml:2"


def test_a_waiver_of_items_that_nobody_looked_at_may_be_of_use() -> None:
    assert faults(waivers("T0/*"), {"T0/00/run_01": "passed", "T0/00/run_02": ""}) == [None]


def test_a_waiver_of_what_earlier_ones_waive_is_unused() -> None:
    outcomes = {"T0/00/run_01": "waived", "T0/00/run_02": "passed", "T1/00/run_01": "waived"}
    found = waivers("T0/*", "T0/00/*", "T1/*", "*/run_01")
    assert faults(found, outcomes) == [None, "unused", None, "unused"]
    wide, narrow, _, both = next(found.uses([outcomes]))
    assert (wide.waived, narrow.waived, both.waived) == (1, 0, 0)
    assert narrow.problem == '"T0/00/*": line 1 already waives what it matches: remove one'
    assert both.problem == '"*/run_01": lines 1, 3 already waive what it matches: remove one'


def test_a_waiver_of_one_item_more_than_earlier_ones_waive_is_used() -> None:
    outcomes = {"T0/00/run_01": "waived", "T1/00/run_01": "waived"}
    assert faults(waivers("T0/*", "*/run_01"), outcomes) == [None, None]
    unseen = {"T0/00/run_01": "waived", "T1/00/run_01": ""}
    assert faults(waivers("T0/*", "*/run_01"), unseen) == [None, None]


def test_an_earlier_waiver_that_has_expired_takes_nothing() -> None:
    found = Waivers(FILE, [Waiver("T0/*", "known", date(2026, 1, 1), 1), Waiver("*/run_01", "known", TODAY, 2)], TODAY)
    assert faults(found, {"T0/00/run_01": "waived"}) == ["expired", None]


@pytest.mark.parametrize(
    ("item", "meant"),
    [
        ("g/T0/00/run_01::judge_02", "T0/00/run_01/judge_02"),
        ("g/T0/00/run_01::run", "T0/00/run_01"),
        ("g/T0/00/run_01/judge_02", "T0/00/run_01/judge_02"),
        ("experiments/g/T0/00/run_01", "T0/00/run_01"),
        ("g/completed/T0/00/run_01::run", "T0/00/run_01"),
        ("g/checkpoint::checkpoint", "checkpoint"),
        ("g/aggregates::aggregates", "aggregates"),
    ],
)
def test_who_names_a_node_or_a_path_is_told_of_its_id(item: str, meant: str) -> None:
    ((use,),) = waivers(item).uses([{"T1/00/run_01": "failed"}])
    assert use.problem == f'"{item}" matches nothing: name the item by its id, {meant}, or remove it'


@pytest.mark.parametrize("item", ["T9/*", "g::x", "a/b::c", "T0/00"])
def test_what_names_no_item_at_all_matches_nothing(item: str) -> None:
    ((use,),) = waivers(item).uses([{"T1/00/run_01": "failed"}])
    assert use.problem == f'"{item}" matches nothing: remove it'


def test_a_waiver_is_used_if_it_is_in_any_experiment_and_each_counts_its_own() -> None:
    found = waivers("T0/*", "T1/*")
    first, second = {"T0/00/run_01": "passed", "T1/00/run_01": "passed"}, {"T0/00/run_01": "waived"}
    assert faults(found, first, second) == [None, "unused"]
    assert [[use.waived for use in uses] for uses in found.uses([first, second])] == [[0, 0], [1, 0]]


@pytest.mark.parametrize("outcome", ["passed", "failed", ""])
def test_a_waiver_past_its_last_day_is_expired_whatever_it_matches(outcome: str) -> None:
    found = waivers("T0/*", until=date(2026, 11, 23))
    assert faults(found, {"T0/00/run_01": outcome}) == ["expired"]
    ((use,),) = found.uses([{"T0/00/run_01": outcome}])
    assert use.problem == '"T0/*" was waived until 2026-11-23: put it right, or set another day'


def test_a_use_as_data_has_the_names_of_the_report() -> None:
    ((use,),) = waivers("T0/*").uses([{"T0/00/run_01": "waived"}])
    assert use.as_data() == {
        "line": 1,
        "item": "T0/*",
        "reason": "known",
        "until": "2026-11-24",
        "waived": 1,
        "fault": None,
    }
