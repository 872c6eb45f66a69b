"""What GitHub Actions is told: commands of which no text is part, ten annotations at most, a summary that fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_scylla
from pytest_scylla.auditing.findings import finding
from pytest_scylla.gate.conclusion import Conclusion
from pytest_scylla.gate.requirements import parse_requirement
from pytest_scylla.gate.waivers import Waiver, WaiverUse
from pytest_scylla.outcomes import AuditedExperiment, ItemOutcome, Selection
from pytest_scylla.repair.actions import Action
from pytest_scylla.report.gate import MOST_WAIVERS
from pytest_scylla.report.github import (
    MAX_SUMMARY,
    MOST_ANNOTATIONS,
    Annotation,
    annotate,
    cut_to_fit,
    escaped,
    summary,
)
from pytest_scylla.settings import Settings

ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("%\r\n:,=|<>&`*_[]()#@\\"), max_size=40)


class _Options:
    """The one option that an annotation asks for."""

    subtests = None


SETTINGS: Settings = _Options()  # type: ignore[assignment]


def parsed(command: str) -> tuple[str, dict[str, str], str]:
    """A workflow command taken apart as the service does: its name, its properties and its message."""
    assert len(command.splitlines()) == 1
    match = re.fullmatch(r"::(\w+) (.*?)::(.*)", command)
    assert match is not None
    properties = dict(part.split("=", 1) for part in match[2].split(","))
    for escape, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        properties = {key: value.replace(escape, character) for key, value in properties.items()}
    message = match[3].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    return match[1], properties, message


@pytest.fixture
def audited(pristine_experiment: Path) -> AuditedExperiment:
    """An experiment in which every item passed."""
    found = AuditedExperiment("exp", pytest_scylla.load(pristine_experiment, given="exp"), Selection([]))
    for item_id in found.item_ids():
        status = "complete" if "judge_" in item_id else "sound" if item_id == "checkpoint" else "completed"
        found.keep(item_id, ItemOutcome(status, "passed"))
    return found


def fail(audited: AuditedExperiment, item_id: str, code: str, status: str = "results", remedy: str = "free") -> None:
    """Have an item fail for a reason."""
    fault = finding(code, f"{item_id}/run_result.json", "expected a record, found none")
    audited.keep(item_id, ItemOutcome(status, "failed", (fault,), remedy))


def not_run(audited: AuditedExperiment, item_id: str, reason: str = "") -> None:
    """Have the session not come to a lost judge slot, or leave it for a reason."""
    fault = finding("judge-slot-missing", f"{item_id}/file", "expected a directory, found none")
    actions = (Action("judges", "judge call", "refused", reason=f"not-run: {reason}"),) if reason else ()
    audited.keep(item_id, ItemOutcome("missing", "not-run", (fault,), "1 judge call", actions=actions))


# Annotations


def test_an_annotation_is_a_workflow_command() -> None:
    assert str(Annotation("error", "1 run missing", "It is gone.\nFree.", "exp/T0", 1)) == (
        "::error file=exp/T0,line=1,title=1 run missing::It is gone.%0AFree."
    )
    assert str(Annotation("warning", "title", "100%")) == "::warning title=title::100%25"


def test_what_means_something_in_a_command_is_escaped() -> None:
    command = str(Annotation("error", "a: b, c=d 5%", "a: b, 5%0A", "a:b,c", 2))
    assert command == "::error file=a%3Ab%2Cc,line=2,title=a%3A b%2C c=d 5%25::a: b, 5%250A"
    assert parsed(command) == ("error", {"file": "a:b,c", "line": "2", "title": "a: b, c=d 5%"}, "a: b, 5%0A")


@given(ANY_TEXT.filter(bool), ANY_TEXT, ANY_TEXT)
def test_no_text_ends_a_command_or_begins_another(title: str, message: str, file: str) -> None:
    command = str(Annotation("error", title, message, file, 1))
    name, properties, told = parsed(command)
    assert name == "error"
    assert set(properties) <= {"file", "line", "title"}
    assert "##[" not in command
    assert command.count("::") == 2
    assert command.isprintable()
    assert told.count("\n") == message.count("\n")


def test_annotations_are_grouped_by_cause_and_name_the_file_of_the_first_item(audited: AuditedExperiment) -> None:
    root = audited.experiment.root
    for run in ("T0/00/run_01", "T1/01/run_01", "T1/02/run_02"):
        fail(audited, run, "run-result-missing")
    fail(audited, "T0/00/run_02", "consensus-stale")
    first, second = annotate([audited], SETTINGS, str(root.parent), fails=True)
    assert (first.level, first.title) == ("error", "3 runs results: run-result-missing")
    assert (first.file, first.line) == ("exp/T0/00/run_01/run_result.json", 1)
    assert first.message.split("\n") == [
        "run_result.json is absent.",
        "T0/00/run_01, T1/01/run_01, T1/02/run_02",
        "repair: free",
        "look at one: pytest --scylla-exp=exp --scylla-select=T0/00/run_01",
    ]
    assert second.title == "1 run results: consensus-stale"


def test_what_was_left_for_a_limit_is_annotated_with_the_reason(audited: AuditedExperiment) -> None:
    for run in ("T0/00/run_01", "T1/01/run_01"):
        not_run(audited, f"{run}/judge_02", "at most 1 call")
    (found,) = annotate([audited], SETTINGS, None, fails=True)
    assert found.title == "2 judge slots missing, not run: judge-slot-missing"
    assert found.message.split("\n") == [
        "The slot has no directory.",
        "not run: at most 1 call",
        "T0/00/run_01/judge_02, T1/01/run_01/judge_02",
        "repair: 1 judge call",
        "look at one: pytest --scylla-exp=exp --scylla-select=T0/00/run_01/judge_02",
    ]


def test_what_was_left_for_different_reasons_is_told_apart(audited: AuditedExperiment) -> None:
    not_run(audited, "T0/00/run_01/judge_02", "at most 1 call")
    not_run(audited, "T0/00/run_02/judge_02", "no credit")
    not_run(audited, "T1/01/run_01/judge_02")
    found = annotate([audited], SETTINGS, None, fails=True)
    assert [one.message.split("\n")[1] for one in found] == [
        "not run: at most 1 call",
        "not run: no credit",
        "not run: the session did not come to it",
    ]


def test_a_run_that_waits_for_its_slots_is_left_for_their_reason(audited: AuditedExperiment) -> None:
    not_run(audited, "T0/00/run_01/judge_02", "at most 1 call")
    audited.keep("T0/00/run_01", ItemOutcome("results", "not-run", (finding("run-result-missing", "a", "b"),)))
    told = {one.title: one.message.split("\n")[1] for one in annotate([audited], SETTINGS, None, fails=True)}
    assert told["1 run results, not run: run-result-missing"] == "not run: at most 1 call"


def test_a_file_outside_of_the_workspace_is_named_by_its_whole_path(audited: AuditedExperiment, tmp_path: Path) -> None:
    fail(audited, "T0/00/run_01", "run-result-missing")
    for workspace in (str(tmp_path), None, ""):
        (found,) = annotate([audited], SETTINGS, workspace, fails=True)
        assert found.file == str(audited.experiment.root / "T0/00/run_01/run_result.json")


def test_what_does_not_fail_the_session_is_a_warning(audited: AuditedExperiment) -> None:
    fail(audited, "T0/00/run_01", "run-result-missing")
    assert [found.level for found in annotate([audited], SETTINGS, None, fails=False)] == ["warning"]


def test_there_is_no_annotation_where_all_is_sound_or_waived(audited: AuditedExperiment) -> None:
    audited.keep("T0/00/run_01", ItemOutcome("missing", "waived"))
    assert annotate([audited], SETTINGS, None, fails=False) == []


CODES = (
    "run-result-missing",
    "run-result-stale",
    "run-result-invalid",
    "run-result-malformed",
    "consensus-missing",
    "consensus-stale",
)


@pytest.mark.parametrize("causes", [9, 10, 11, 12])
def test_there_are_ten_annotations_at_most_and_the_last_says_what_is_left_out(
    audited: AuditedExperiment, causes: int
) -> None:
    items = list(audited.item_ids())
    for number, item_id in enumerate(items[:causes]):
        fail(audited, item_id, CODES[number % len(CODES)], remedy=f"remedy {number}")
    found = annotate([audited], SETTINGS, None, fails=True)
    assert len(found) == min(causes, MOST_ANNOTATIONS)
    left = causes - MOST_ANNOTATIONS + 1
    assert found[-1].title == (f"and {left} more causes" if causes > MOST_ANNOTATIONS else found[-1].title)
    assert ("more causes" in found[-1].title) is (causes > MOST_ANNOTATIONS)
    assert found[-1].level == "error"


def test_what_fails_the_session_comes_first(audited: AuditedExperiment) -> None:
    fail(audited, "T0/00/run_01", "run-result-missing")
    counts: Any = {"runs": {"completed": 5, "expected": 6}, "judge_slots": {}}
    holds, fails = (parse_requirement(text).measure(counts) for text in ("min-runs=5", "min-runs=100%"))
    audited.conclusion = Conclusion((holds, fails))
    first, second = annotate([audited], SETTINGS, None, fails=True)
    assert (first.title, first.file) == ("exp: min-runs=100%", "")
    assert first.message == "min-runs=100%: 5 of 6 completed, 83.33%: does not hold, 1 too few"
    assert second.title == "1 run results: run-result-missing"


# The summary


def test_the_summary_counts_and_lists_causes(audited: AuditedExperiment) -> None:
    fail(audited, "T0/00/run_01", "run-result-missing")
    audited.keep("T0/00/run_02", ItemOutcome("missing", "waived"))
    text = summary([audited])
    lines = text.splitlines()
    assert lines[0] == "## pytest-scylla: <code>exp</code>"
    assert "1 item is not sound, 1 waived." in lines
    assert "| runs | expected | completed | results | missing |" in lines
    assert "| all | 6 | 4 | 1 | 1 |" in lines
    assert "| judge slots | expected | complete |" in lines
    assert lines.count("| all | 18 | 18 |") == 1
    (row,) = [line for line in lines if line.startswith("| 1 run results")]
    assert "T0/00/run&#95;01" in row
    assert row.count("|") == 5


def test_the_summary_says_why_what_was_not_run_was_not(audited: AuditedExperiment) -> None:
    not_run(audited, "T0/00/run_01/judge_02", "at most 1 call")
    (row,) = [line for line in summary([audited]).splitlines() if line.startswith("| 1 judge slot missing, not run")]
    assert "The slot has no directory&#46; Not run&#58; at most 1 call" in row


def waive(audited: AuditedExperiment, *waivers: tuple[str, int, str]) -> None:
    """Conclude with waivers: the glob of each, how many items it waives, and its reason."""
    uses = (
        WaiverUse(Waiver(glob, reason, date(2026, 12, 31), number), "w.yaml", waived, waived, None)
        for number, (glob, waived, reason) in enumerate(waivers, 1)
    )
    audited.conclusion = Conclusion((), tuple(uses))


def test_the_summary_says_what_is_waived_until_when_and_why(audited: AuditedExperiment) -> None:
    waive(audited, ("T0/*", 2, "a <b>|"), ("T9/*", 0, "of another experiment"))
    lines = summary([audited]).splitlines()
    table = lines[lines.index("| waived | items | until | reason |") :]
    assert table[2] == "| T0/&#42; | 2 | 2026-12-31 | a &#60;b&#62;&#124; |"
    assert table[3] == ""
    waive(audited)
    assert "| waived |" not in summary([audited])


def test_the_summary_lists_so_many_waivers_and_no_more(audited: AuditedExperiment) -> None:
    waive(audited, *((f"T{number}/*", 1, "known") for number in range(MOST_WAIVERS + 3)))
    text = summary([audited])
    assert text.count("| known |") == MOST_WAIVERS
    assert "3 more waivers." in text


@given(ANY_TEXT)
def test_nothing_of_a_text_means_anything_to_markdown_or_html(text: str) -> None:
    found = escaped(text)
    assert re.fullmatch(r"(?:[\w /,-]|&#[0-9]+;)*", found)
    assert "_" not in found
    found.encode()


@pytest.mark.parametrize("text", ["a|b", "<b>", "`x`", "[a](b)", "http://x.y", "@someone", "#1", "*a*", "_a_", "&lt;"])
def test_what_would_mean_something_is_an_entity(text: str) -> None:
    decoded = re.sub(r"&#([0-9]+);", lambda match: chr(int(match[1])), escaped(text))
    assert decoded == text
    assert not set("|<`[(:.@#*_") & set(re.sub(r"&#[0-9]+;", "", escaped(text)))


def _lines() -> Iterator[str]:
    for number in range(100):
        yield f"line {number} \N{GREEK SMALL LETTER ALPHA}\n"


def test_a_summary_that_does_not_fit_is_cut_at_a_line() -> None:
    text = "".join(_lines())
    size = len(text.encode())
    assert cut_to_fit(text, size) == text
    for room in (size - 1, 500, 200, 100):
        cut = cut_to_fit(text, room)
        assert len(cut.encode()) <= room
        kept, _, word = cut.rpartition("\n\n") if "\n\n" in cut else (cut, "", "")
        assert text.startswith(kept)
        assert word.startswith("The rest is left out")
    for room in (50, 0, -10):
        assert cut_to_fit(text, room) == ""


def test_the_limit_is_that_of_the_service() -> None:
    assert MAX_SUMMARY == 1024 * 1024
