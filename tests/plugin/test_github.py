"""GitHub Actions: annotations at the end of the log, and the summary of the job; elsewhere, JUnit XML as ever."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .judges import ScriptedJudge
from .support import (
    NASTY,
    Project,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    item_ids,
    judgment_of,
    lose_run,
    lose_run_result,
    lose_slot,
    printed,
    run_result_of,
    snapshot,
)

LIMIT = 1024 * 1024


@pytest.fixture
def github(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in a job of GitHub Actions, whose summary is summary.md."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    return project


def commands(result: pytest.RunResult) -> list[str]:
    """The workflow commands that a session printed."""
    return [line for line in result.outlines if line.startswith("::")]


def summary(project: Project) -> str:
    """The summary of the job."""
    return (project.path / "summary.md").read_text("utf-8")


# Annotations


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("-q",)])
def test_each_cause_is_an_annotation_at_the_end(github: Project, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(github.experiment)
    lose_run_result(github.experiment, "T1/01/run_02")
    result = github.audit(*args)
    assert result.ret == 1
    found = commands(result)
    assert [re.sub("::.*", "", line[2:]) for line in found] == [
        "error file=exp/T1/01/run_01/run_result.json,line=1,title=2 runs results%3A run-result-missing",
        "error file=exp/T0/00/report.json,line=1,title=aggregates stale%3A aggregate-stale",
        "error file=exp/checkpoint.json,line=1,title=checkpoint stale%3A checkpoint-records-absent-run",
        "error file=exp/T1/02/run_01/judge/judge_02/judgment.json,line=1,title=1 judge slot failed%3A judgment-missing",
        "error file=exp/T0/00/run_02,line=1,"
        "title=1 run missing%3A run-missing, with 3 judge slots that wait for them".replace(", with", "%2C with"),
    ]
    assert found[0].endswith(
        "::run_result.json is absent.%0AT1/01/run_01, T1/01/run_02%0A"
        "repair: free (rebuild it from files that survive)%0A"
        "look at one: pytest --scylla-exp=exp --scylla-select=T1/01/run_01"
    )
    assert result.outlines.index(found[0]) > result.outlines.index(
        next(line for line in result.outlines if line.startswith("judge slots "))
    )


def test_what_was_left_for_a_limit_is_annotated_and_in_the_summary(github: Project, judge: ScriptedJudge) -> None:
    for run in ("T0/00/run_01", "T1/01/run_01"):
        lose_slot(github.experiment, f"{run}/judge_02")
    result = github.audit("--repair", "--repair-max-calls=1")
    assert result.ret == 1
    assert judge.asked == ["T0/00/run_01/judge_02"]
    (found,) = commands(result)
    assert "title=1 judge slot failed%2C not run%3A judgment-missing::" in found
    assert "%0Anot run: calls: at most 1 call: 1 made or under way%0AT1/01/run_01/judge_02%0A" in found
    (row,) = [line for line in summary(github).splitlines() if line.startswith("| 1 judge slot failed, not run")]
    assert "at most 1 call" in row


def test_a_healthy_experiment_has_none(github: Project) -> None:
    result = github.audit()
    assert result.ret == 0
    assert commands(result) == []


@pytest.mark.parametrize("value", [None, "", "false", "1", "True"])
def test_elsewhere_there_are_none_and_no_summary(
    github: Project, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("GITHUB_ACTIONS")
    else:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    damaged_in_several_ways(github.experiment)
    assert commands(github.audit("--scylla-require=min-runs=100%")) == []
    assert not (github.path / "summary.md").exists()


def test_a_session_that_asks_for_no_experiment_tells_nothing(github: Project) -> None:
    github.write("test_a.py", "def test_one():\n    assert False\n")
    assert commands(github.run()) == []
    assert not (github.path / "summary.md").exists()


def test_there_are_ten_at_most(github: Project) -> None:
    root = github.experiment
    for number, run in enumerate(("T0/00/run_01", "T0/00/run_02", "T1/01/run_01", "T1/01/run_02", "T1/02/run_01")):
        names = ["run_result.json", "judge/result.json", "agent/result.json", "agent/output.txt"]
        (root / run / names[number % 4]).write_text("{")
        judgment = judgment_of(root, f"{run}/judge_01")
        judgment.write_text("{" if number % 2 else '{"score": 85}')
        edit_json(judgment_of(root, f"{run}/judge_02"), is_valid=False)
        edit_json(judgment_of(root, f"{run}/judge_03"), score=number * 0.123)
    lose_run(root, "T1/02/run_02")
    (root / "checkpoint.json").unlink()
    result = github.audit("--scylla-require=min-runs=100%", "--scylla-require=min-slots=100%")
    found = commands(result)
    assert len(found) == 10
    assert "title=exp%3A min-runs=100%25::" in found[0]
    assert re.search(r"title=and [0-9]+ more causes::", found[-1])


def test_what_a_requirement_forgives_is_a_warning(github: Project) -> None:
    lose_run_result(github.experiment, "T0/00/run_01")
    result = github.audit("--scylla-require=min-runs=50%")
    assert result.ret == 0
    assert [line.partition(" ")[0] for line in commands(result)] == ["::warning"]


def test_a_fault_of_a_waiver_is_annotated_at_its_line(github: Project) -> None:
    github.write("conf/waivers.yaml", "# known\n- item: T7/*\n  reason: known\n  until: 2020-01-01\n")
    result = github.audit("--scylla-waivers=conf/waivers.yaml")
    assert commands(result) == [
        "::error file=conf/waivers.yaml,line=2,title=waiver expired::"
        '"T7/*" was waived until 2020-01-01: put it right, or set another day'
    ]


def test_a_ratchet_that_slips_is_annotated(github: Project) -> None:
    github.audit("--scylla-report=old.json")
    edit_json(judgment_of(github.experiment, "T0/00/run_01/judge_01"), fallback=True)
    (line,) = commands(github.audit("--scylla-baseline=old.json", "--scylla-ratchet"))
    assert line == "::error title=exp%3A ratchet::ratchet: 1 item is worse: does not hold"


def test_qq_prints_none_and_writes_the_summary_all_the_same(github: Project) -> None:
    damaged_in_several_ways(github.experiment)
    assert commands(github.audit("-qq")) == []
    assert summary(github).startswith("## pytest-scylla")


def test_a_session_that_only_collects_tells_nothing(github: Project) -> None:
    damaged_in_several_ways(github.experiment)
    assert commands(github.audit("--co")) == []
    assert not (github.path / "summary.md").exists()


HOSTILE = f"{NASTY}%0A::error::a\r\n::warning file=a,line=1::b | <img src=x onerror=alert(1)> `x` [a](javascript:b)"


def _hostile(project: Project) -> None:
    """Put text that means something to somebody everywhere it can be."""
    root = project.experiment
    edit_config(root, judge_models=[HOSTILE, "b", "c"], experiment_id=HOSTILE)
    edit_json(judgment_of(root, "T0/00/run_01/judge_01"), score=HOSTILE, reasoning=HOSTILE)
    edit_json(run_result_of(root, "T0/00/run_02"), judge_grade=HOSTILE, exit_code=HOSTILE)
    edit_json(judgment_of(root, "T1/01/run_01/judge_02"), fallback=True, fallback_reason=HOSTILE)
    edit_json(root / "checkpoint.json", status=HOSTILE)
    (root / "T1/02/run_02/judge/judge_03/MODEL.md").write_text(f"**Model**: {HOSTILE}\n")


def test_no_text_of_an_experiment_becomes_a_command_or_markdown(github: Project) -> None:
    _hostile(github)
    result = github.audit("--scylla-require=min-runs=100%", "-v")
    assert result.ret == 1
    for line in result.outlines:
        assert line.count("::error") + line.count("::warning") <= line.startswith("::") or "::run" in line
        assert "##[" not in line
    assert all(line.startswith("::error ") for line in commands(result))
    text = summary(github)
    assert "<img" not in text
    assert "javascript:" not in text
    assert "`" not in text
    assert set(re.findall(r"<[^>]*>", text)) == {"<code>", "</code>"}
    for line in text.splitlines():
        assert not line.startswith(("::", "##[", "|")) or line.endswith("|")


# The summary of the job


def test_the_summary_tells_counts_causes_requirements_and_waivers(github: Project) -> None:
    damaged_in_several_ways(github.experiment)
    github.write("waivers.yaml", "- item: T0/00/run_02\n  reason: known\n  until: 9999-12-31\n")
    github.audit("--scylla-waivers=waivers.yaml", "--scylla-require=min-runs=100%", "--scylla-require=max-fallback=0")
    lines = re.sub(r"&#([0-9]+);", lambda match: chr(int(match[1])), summary(github)).splitlines()
    assert "4 items are not sound, 4 waived." in lines
    assert "| all | 6 | 4 | 1 | 1 |" in lines
    assert "- **min-runs=100%: 4 of 6 completed, 66.66%: does not hold, 2 too few**" in lines
    assert "- max-fallback=0: 0 of 14 fallback, 0%: holds" in lines
    assert "| T0/00/run_02 | 4 | 9999-12-31 | known |" in lines
    assert "- waived: 4 items" in lines
    assert any(line.startswith("| 1 run results: run-result-missing | run_result.json is absent.") for line in lines)


def test_the_summary_is_appended_to_what_is_there(github: Project) -> None:
    (github.path / "summary.md").write_text("# Before\n")
    github.audit()
    github.audit("-n", "2")
    assert summary(github).startswith("# Before\n## pytest-scylla")
    assert summary(github).count("## pytest-scylla") == 2


@pytest.mark.parametrize("room", [0, 10, 300, 700])
def test_the_summary_never_grows_beyond_what_the_service_takes(github: Project, room: int) -> None:
    damaged_in_several_ways(github.experiment)
    (github.path / "summary.md").write_bytes(b"x" * (LIMIT - room - 1) + b"\n")
    github.audit()
    size = (github.path / "summary.md").stat().st_size
    assert LIMIT - room <= size <= LIMIT
    assert ("The rest is left out" in summary(github)) is (room >= 300)


def test_a_summary_that_cannot_be_written_fails_nothing_and_is_told(
    github: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github.path / "no" / "summary.md"))
    result = github.audit()
    assert result.ret == 0
    assert "job summary not written" in result.stdout.str()


def test_a_summary_is_never_written_into_an_experiment(github: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github.experiment / "summary.md"))
    before = snapshot(github.experiment)
    assert github.audit().ret == 0
    assert snapshot(github.experiment) == before


def test_without_a_file_for_it_there_is_no_summary(github: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    before = sorted(os.listdir(github.path))
    assert github.audit("-p", "no:cacheprovider").ret == 0
    assert sorted(os.listdir(github.path)) == before


def test_without_a_terminal_the_summary_is_written(github: Project) -> None:
    damaged_in_several_ways(github.experiment)
    assert github.audit_apart("-p", "no:terminal").ret == 1
    assert "not sound" in summary(github)


# Elsewhere: JUnit XML

XML_TEXTS = {
    "controls": "".join(map(chr, range(32))),
    "beyond": "\x7f\x80\x9b\ufffe\uffff",
    "surrogates": "\ud800 \udfff",
    "markup": "]]> <![CDATA[ </testcase> &lt; & \" '",
    "hostile": HOSTILE,
}
XML_SESSIONS = {"workers": ("-n", "2"), "plan": ("--repair-plan",), "logging": ("-o", "junit_logging=all")}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        *(pytest.param(text, (), id=name) for name, text in XML_TEXTS.items()),
        *(pytest.param("".join(XML_TEXTS.values()), args, id=name) for name, args in XML_SESSIONS.items()),
    ],
)
def test_junit_xml_is_well_formed_whatever_the_texts(project: Project, text: str, args: tuple[str, ...]) -> None:
    root = project.experiment
    edit_json(judgment_of(root, "T0/00/run_01/judge_01"), score=text, reasoning=text)
    edit_json(run_result_of(root, "T0/00/run_02"), judge_grade=text, judge_reasoning=text, exit_code=text)
    edit_json(judgment_of(root, "T1/01/run_01/judge_02"), fallback=True, fallback_reason=text)
    (root / "T1/02/run_01/judge/judge_03/MODEL.md").write_bytes(f"**Model**: {text}\n".encode("utf-8", "surrogatepass"))
    (root / "T1/02/run_02/agent/output.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    result = project.audit("--junitxml=junit.xml", *args)
    assert result.ret == 1, printed(result)
    raw = (project.path / "junit.xml").read_bytes()
    tree = ElementTree.fromstring(raw)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", raw.decode())
    failed = {
        (case.get("classname"), case.get("name")) for case in tree.iter("testcase") if case.find("failure") is not None
    }
    assert ("exp.T0.00.run_01", "judge_01") in failed
    assert len(list(tree.iter("testcase"))) == len(item_ids())


def test_junit_xml_in_a_directory_of_a_strange_name(empty_project: Project, lean_experiment: Path) -> None:
    name = "ex]]>\x1b&<p>\n"
    root = empty_project.copy(lean_experiment, name)
    failing = damaged_in_several_ways(root)
    assert empty_project.run(f"--scylla-exp={name}", "--junitxml=junit.xml").ret == 1
    assert len(list(ElementTree.parse(empty_project.path / "junit.xml").iter("failure"))) == len(failing)
