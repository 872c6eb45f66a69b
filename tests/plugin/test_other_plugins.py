"""Beside other plugins: workers, random order, and the reports that pytest and its plugins write."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from .support import (
    NASTY,
    NO_OTHERS,
    Project,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    item_ids,
    judgment_of,
    lose_item,
    node_ids,
    outcomes,
    printed,
    reports,
    with_outcome,
    without_times,
)


def _testcases(path: Path) -> list[ET.Element]:
    return list(ET.parse(path).getroot().iter("testcase"))


def _properties(testcase: ET.Element) -> dict[str, str]:
    return {found.attrib["name"]: found.attrib["value"] for found in testcase.iter("property")}


# xdist


@pytest.mark.parametrize("damaged", [False, True])
def test_workers_give_the_same_report_as_one_process(project: Project, damaged: bool) -> None:
    if damaged:
        damaged_in_several_ways(project.experiment)
    alone = project.audit("--scylla-report=alone.json")
    shared = project.audit("-n", "2", "--scylla-report=shared.json")
    assert alone.ret == shared.ret == damaged
    assert without_times(project.report("alone.json")) == without_times(project.report("shared.json"))


def test_workers_give_the_same_report_of_a_selection(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.audit("-k", "run_02", "--scylla-report=alone.json")
    project.audit("-k", "run_02", "-n", "2", "--scylla-report=shared.json")
    assert without_times(project.report("alone.json")) == without_times(project.report("shared.json"))


def test_workers_give_the_same_summary_as_one_process(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    alone, shared = project.audit(), project.audit("-n", "2")

    def summary(result: pytest.RunResult) -> list[str]:
        lines = result.outlines
        return lines[next(i for i, line in enumerate(lines) if line.startswith("runs ")) : -1]

    assert summary(shared) == summary(alone)
    assert sorted(i for i, o in outcomes(shared).items() if o == "failed") == sorted(with_outcome(alone, "failed"))


@pytest.mark.parametrize("mode", ["loadscope", "loadfile", "worksteal"])
def test_every_way_to_distribute_items_audits_all_of_them(project: Project, mode: str) -> None:
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit("-n", "2", f"--dist={mode}", "--scylla-report=report.json")
    assert result.ret == 1
    found = project.only_experiment()
    assert found["not_audited"] == 0
    assert [item["id"] for item in found["items"]] == sorted(failing)


def test_workers_audit_an_experiment_outside_of_the_project(empty_project: Project, pristine_experiment: Path) -> None:
    location = f"{empty_project.elsewhere}/exp"
    failing = damaged_in_several_ways(empty_project.copy(pristine_experiment, location))
    result = empty_project.run(f"--scylla-exp={location}", "-n", "2", "--scylla-report=report.json")
    assert result.ret == 1
    assert [item["id"] for item in empty_project.only_experiment()["items"]] == sorted(failing)


# pytest-randomly


@pytest.mark.parametrize("seed", [1, 20260202])
def test_a_random_order_changes_neither_outcomes_nor_report(project: Project, seed: int) -> None:
    pytest.importorskip("pytest_randomly")
    project.write("test_a.py", "def test_one():\n    pass\n\n\ndef test_two():\n    pass\n")
    failing = damaged_in_several_ways(project.experiment)
    project.audit("test_a.py", "--scylla-report=ordered.json")
    result = project.pytester.runpytest_subprocess(
        *NO_OTHERS, f"--randomly-seed={seed}", "--scylla-exp=exp", "test_a.py", "--scylla-report=random.json", "-v"
    )
    ran = [line.split()[0] for line in result.outlines if line.endswith("%]") and "::" in line]
    ours = [nodeid for nodeid in ran if nodeid.startswith("exp/")]
    assert sorted(ours) == sorted(node_ids())
    assert ours != node_ids()
    result.assert_outcomes(passed=2 + 18, failed=len(failing))
    assert without_times(project.report("random.json")) == without_times(project.report("ordered.json"))


def test_a_random_order_is_the_same_for_all_workers(project: Project) -> None:
    pytest.importorskip("pytest_randomly")
    failing = damaged_in_several_ways(project.experiment)
    args = (*NO_OTHERS, "--randomly-seed=7", "--scylla-exp=exp", "-n", "2")
    result = project.pytester.runpytest_subprocess(*args)
    result.assert_outcomes(passed=18, failed=len(failing))


# --junitxml


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
@pytest.mark.parametrize("workers", [0, 2])
def test_junit_xml_has_status_and_findings_as_properties(project: Project, family: str, workers: int) -> None:
    failing = damaged_in_several_ways(project.experiment)
    project.audit("--junitxml=junit.xml", "-o", f"junit_family={family}", "-n", str(workers))
    cases = _testcases(project.path / "junit.xml")
    assert len(cases) == len(item_ids())
    statuses = [_properties(case)["status"] for case in cases]
    assert sorted(statuses) == sorted(
        ["complete"] * 14 + ["completed"] * 4 + ["agent_failed"] * 3 + ["missing", "results", "failed"] + ["stale"] * 2
    )
    failed = [case for case in cases if case.find("failure") is not None]
    assert len(failed) == len(failing)
    findings = [_properties(case)["findings"] for case in failed]
    assert any("run-result-missing" in text and "T1/01/run_01/run_result.json" in text for text in findings)
    assert any("judgment-missing" in text for text in findings)
    assert not any("findings" in _properties(case) for case in cases if case.find("failure") is None)


def test_junit_xml_names_every_item_differently(project: Project) -> None:
    project.audit("--junitxml=junit.xml")
    names = {(case.attrib["classname"], case.attrib["name"]) for case in _testcases(project.path / "junit.xml")}
    assert len(names) == len(item_ids())


@pytest.mark.parametrize("text", [NASTY, "\x00\x01\x08\x0b\x1f\x7f", "\ud800 and \udfff", "\ufffe\uffff", "]]><x>&"])
def test_junit_xml_is_well_formed_whatever_texts_the_experiment_holds(project: Project, text: str) -> None:
    # Valid records with that text, a refused one that a finding quotes, and a warning that quotes it.
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), reasoning=text)
    edit_json(judgment_of(project.experiment, "T0/00/run_02/judge_01"), score=text)
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True, fallback_reason=text)
    edit_json(project.experiment / "T1/01/run_02/run_result.json", judge_reasoning=text, judge_grade=text)
    result = project.audit("--junitxml=junit.xml", "-rA", "--scylla-report=report.json")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert len(_testcases(project.path / "junit.xml")) == len(item_ids())
    assert project.only_experiment()["not_audited"] == 0


# pytest-html, pytest-reportlog, --durations


def test_pytest_html_lists_every_item(project: Project) -> None:
    pytest.importorskip("pytest_html")
    damaged_in_several_ways(project.experiment)
    edit_json(judgment_of(project.experiment, "T1/02/run_02/judge_01"), score=f"<script>{NASTY}")
    result = project.audit_apart("--html=report.html", "--self-contained-html", alone=False)
    assert result.ret == 1
    page = (project.path / "report.html").read_text("utf-8")
    for nodeid in node_ids():
        assert nodeid in page
    assert "run-result-missing" in page
    assert "<script>\x1b" not in page


@pytest.mark.parametrize("workers", [0, 2])
def test_pytest_reportlog_holds_every_item_from_call_to_teardown(project: Project, workers: int) -> None:
    pytest.importorskip("pytest_reportlog")
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit("--report-log=log.jsonl", "-n", str(workers))
    assert result.ret == 1
    lines = [json.loads(line) for line in (project.path / "log.jsonl").read_text("utf-8").splitlines()]
    logged = [line for line in lines if line["$report_type"] == "TestReport"]
    phases = sorted((report["nodeid"], report["when"]) for report in logged if report["when"] != "setup")
    assert phases == sorted((nodeid, when) for nodeid in node_ids() for when in ("call", "teardown"))
    failed = [report for report in logged if report["outcome"] == "failed"]
    assert sorted(report["nodeid"] for report in failed) == sorted(node_ids(failing))
    (absent,) = [report for report in failed if report["nodeid"] == "exp/T0/00/run_02::run"]
    assert ["status", "missing"] in absent["user_properties"]


def test_durations_are_reported(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    result = project.audit("--durations=0", "-vv")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*slowest durations*", "*s call     exp/T*"])
    result = project.audit("--durations=3", "--durations-min=0")
    result.stdout.fnmatch_lines(["*slowest 3 durations*"])


@pytest.mark.parametrize("protocol", ["short", "full"])
def test_whoever_listens_hears_of_three_phases_of_every_item(project: Project, protocol: str) -> None:
    lose_item(project.experiment, "T0/00/run_02/judge_02")
    setup = "def pytest_runtest_setup(item):\n    pass\n" if protocol == "full" else ""
    project.write(
        "conftest.py",
        setup + "def pytest_runtest_logreport(report):\n"
        "    with open('heard', 'a') as file:\n        print(report.nodeid, report.when, file=file)\n",
    )
    project.audit()
    heard = (project.path / "heard").read_text().splitlines()
    assert heard == [f"{nodeid} {when}" for nodeid in node_ids() for when in ("setup", "call", "teardown")]


def test_an_item_is_reported_once_where_nobody_listens(project: Project) -> None:
    seen = [(report.nodeid, report.when) for report in reports(project.audit())]
    assert seen == [(nodeid, "call") for nodeid in node_ids()]


@pytest.mark.parametrize("protocol", ["short", "full"])
def test_reports_carry_durations_and_keywords(project: Project, protocol: str) -> None:
    lose_item(project.experiment, "T0/00/run_02/judge_02")
    if protocol == "full":
        project.write("conftest.py", "def pytest_runtest_setup(item):\n    pass\n")
    for report in reports(project.audit()):
        assert report.duration >= 0
        place, _, name = report.nodeid.partition("::")
        assert place.split("/")[1] in report.keywords
        assert f"scylla_{name.partition('_')[0]}" in report.keywords


def test_locations_name_the_file_that_a_person_would_open(project: Project) -> None:
    lose_item(project.experiment, "T0/00/run_01")
    result = project.audit()
    located = {report.nodeid: report.location[0] for report in reports(result)}
    assert located["exp/T0/00/run_01::run"] == "exp/T0/00/run_01/run_result.json"
    assert located["exp/T0/00/run_01::judge_02"] == "exp/T0/00/run_01/judge/judge_02/judgment.json"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_directory_name_that_is_no_text_ends_no_session(
    empty_project: Project, pristine_experiment: Path, workers: int
) -> None:
    try:
        root = empty_project.copy(pristine_experiment, "all/ex\udcffp\x1b[31m::x")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    failing = damaged_in_several_ways(root)
    result = empty_project.run_apart("--scylla-exp=all", "-n", str(workers), "-v", "--scylla-report=report.json")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert "\x1b" not in printed(result)
    assert [item["id"] for item in empty_project.only_experiment()["items"]] == sorted(failing)


@pytest.mark.parametrize("workers", [0, 2])
def test_texts_that_no_encoder_accepts_end_no_session(project: Project, workers: int) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_02/judge_01"), score="\ud800")
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True, fallback_reason="\udfff")
    edit_json(project.experiment / "T1/01/run_02/agent/result.json", **{"\ud800": "\ud800", "exit_code": "\ud800"})
    edit_config(project.experiment, task_repo="\x1b]0;x\x07")
    result = project.audit("-n", str(workers), "-v", "--scylla-report=report.json")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert project.only_experiment()["not_audited"] == 0
