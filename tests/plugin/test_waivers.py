"""Waivers: an item that may stay as it is fails as expected, is left alone, and a waiver too many fails the session."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .judges import ScriptedJudge
from .support import (
    NASTY,
    SLOTS,
    WHOLES,
    Project,
    acted_on,
    assert_usage_error,
    damaged_in_several_ways,
    edit_json,
    item_ids,
    items_of_repair,
    judgment_of,
    logged,
    lose_judgment,
    lose_slot,
    node_id,
    node_ids,
    outcomes,
    printed,
    reports,
    run_result_of,
    snapshot,
    with_outcome,
    without_times,
    write_logging,
)

REPORT = "--scylla-report=report.json"
WAIVED = "--scylla-waivers=waivers.yaml"
FOREVER = "9999-12-31"
LOST, GONE, SLOT = "T1/01/run_01", "T0/00/run_02", "T1/02/run_01/judge_02"
"""What is damaged in several ways: a run without its run_result.json, one that is absent, and a slot."""
ALL = (GONE, *(f"{GONE}/{slot}" for slot in SLOTS), LOST, SLOT, *WHOLES)
"""Every item that fails then."""


def waive(project: Project, *globs: str, reason: str = "known", until: str = FOREVER) -> None:
    """Write waivers of these items, three lines each."""
    entries = (f'- item: "{glob}"\n  reason: {reason}\n  until: {until}\n' for glob in globs)
    project.write("waivers.yaml", "".join(entries))


def day(difference: int) -> str:
    """A day so many days from today, in UTC."""
    return (datetime.now(timezone.utc) + timedelta(days=difference)).date().isoformat()


def waiver_lines(result: pytest.RunResult) -> list[str]:
    """What a session printed of waivers and their faults."""
    return [line for line in result.outlines if line.startswith(("waivers.yaml:", "waived: "))]


@pytest.fixture
def damaged(project: Project) -> Project:
    """A project with an experiment that is damaged in several ways."""
    damaged_in_several_ways(project.experiment)
    return project


# What a waived item is


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_waived_item_fails_as_expected_and_the_session_passes(damaged: Project, args: tuple[str, ...]) -> None:
    waive(damaged, LOST, GONE, SLOT, *WHOLES)
    result = damaged.audit(WAIVED, *args, REPORT)
    assert result.ret == 0
    result.assert_outcomes(passed=len(item_ids()) - len(ALL), xfailed=len(ALL))
    assert waiver_lines(result) == [f"waived: {len(ALL)} items"]
    items = {item["id"]: item for item in damaged.only_experiment()["items"]}
    assert {item_id: item["outcome"] for item_id, item in items.items()} == dict.fromkeys(ALL, "waived")
    assert items[LOST]["status"] == "results"
    assert items[LOST]["findings"][0]["code"] == "run-result-missing"


def test_the_rest_fails_as_ever(damaged: Project) -> None:
    waive(damaged, GONE, *WHOLES)
    result = damaged.audit(WAIVED)
    assert result.ret == 1
    assert with_outcome(result, "failed") == node_ids([LOST, SLOT])
    assert sorted(with_outcome(result, "skipped")) == sorted(
        node_ids([*(f"{GONE}/{slot}" for slot in SLOTS), GONE, *WHOLES])
    )


def test_counts_and_completeness_know_no_waivers(damaged: Project) -> None:
    damaged.audit(REPORT)
    before = damaged.only_experiment()
    waive(damaged, LOST, GONE, SLOT, *WHOLES)
    damaged.audit(WAIVED, REPORT)
    after = damaged.only_experiment()
    for key in ("before", "after", "completeness", "runs", "selected", "not_audited"):
        assert after[key] == before[key]
    assert (before["waived"], after["waived"]) == (0, len(ALL))


def test_the_exit_bits_know_them(damaged: Project) -> None:
    damaged.audit(REPORT)
    assert damaged.report()["exit_bits"] == 4
    waive(damaged, LOST, GONE, SLOT, *WHOLES)
    damaged.audit(WAIVED, REPORT)
    assert damaged.report()["exit_bits"] == 0


@pytest.mark.parametrize("conftest", ["", "def pytest_runtest_setup(item):\n    pass\n"])
def test_the_reason_is_shown_with_what_is_waived(damaged: Project, conftest: str) -> None:
    damaged.write("conftest.py", conftest)
    waive(damaged, GONE, reason="the service is gone")
    result = damaged.audit(WAIVED, "-rx", "--junitxml=junit.xml")
    why = "waived: the service is gone (waivers.yaml:1, until 9999-12-31)"
    assert f"XFAIL {node_id(GONE)} - missing (run-missing), {why}" in [
        line.replace("reason: ", "") for line in result.outlines
    ]
    (skipped,) = (
        case.find("skipped")
        for case in ElementTree.parse(damaged.path / "junit.xml").iter("testcase")
        if (case.get("classname"), case.get("name")) == ("exp.T0.00.run_02", "run")
    )
    assert skipped is not None
    assert skipped.get("type") == "pytest.xfail"
    assert skipped.get("message") == f"missing (run-missing), {why}"


def test_both_protocols_report_it_alike(damaged: Project) -> None:
    waive(damaged, GONE, LOST)

    def told(result: pytest.RunResult) -> dict[str, tuple[str, str, Any]]:
        return {
            report.nodeid: (report.outcome, str(getattr(report, "wasxfail", "")).removeprefix("reason: "), report.when)
            for report in reports(result)
            if report.when == "call"
        }

    short = told(damaged.audit(WAIVED))
    damaged.write("conftest.py", "def pytest_runtest_setup(item):\n    pass\n")
    assert told(damaged.audit(WAIVED)) == short


@pytest.mark.parametrize("also", ["", "\n\ndef pytest_runtest_setup(item):\n    pass\n"])
def test_nobody_is_called_to_look_into_what_is_waived(damaged: Project, also: str) -> None:
    write_logging(damaged, "def pytest_exception_interact(node):\n    log(node.nodeid)\n" + also)
    waive(damaged, GONE)
    damaged.audit(WAIVED)
    assert logged(damaged) == node_ids([LOST, SLOT, *WHOLES])


def test_xfail_strict_of_the_project_means_nothing_to_it(damaged: Project) -> None:
    damaged.write("pytest.ini", "[pytest]\nxfail_strict = true\n")
    waive(damaged, "*")
    assert damaged.audit(WAIVED).ret == 0


def test_without_pytests_own_skipping_it_still_fails_nothing(damaged: Project) -> None:
    waive(damaged, "*")
    result = damaged.audit(WAIVED, "-p", "no:skipping")
    assert result.ret == 0
    assert len(with_outcome(result, "skipped")) == len(ALL)


def test_who_waives_a_run_waives_its_slots(project: Project) -> None:
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    waive(project, "T0/00/run_01")
    assert with_outcome(project.audit(WAIVED), "skipped") == ["exp/T0/00/run_01::judge_01"]


def test_a_sound_item_that_a_used_waiver_matches_passes(damaged: Project) -> None:
    waive(damaged, "*")
    found = outcomes(damaged.audit(WAIVED))
    assert list(found.values()).count("passed") == len(item_ids()) - len(ALL)


def test_a_warning_can_be_waived_under_strict(project: Project) -> None:
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    waive(project, "T0/00/run_01")
    assert project.audit("--scylla-strict").ret == 1
    assert project.audit("--scylla-strict", WAIVED).ret == 0


def test_a_tier_of_which_nobody_knows_the_subtests_can_be_waived(project: Project) -> None:
    edit_json(project.experiment / "config/experiment.json", tiers_to_run=["T0", "T1", "T2"])
    waive(project, "T2", "checkpoint")
    result = project.audit(WAIVED)
    assert "exp/T2::subtests" in with_outcome(result, "skipped")
    assert result.ret == 0


def test_runxfail_takes_the_waivers_for_none(damaged: Project) -> None:
    waive(damaged, "*")
    result = damaged.audit(WAIVED, "--runxfail", REPORT)
    assert result.ret == 1
    assert len(with_outcome(result, "failed")) == len(ALL)
    assert damaged.only_experiment()["waived"] == 0
    assert damaged.report()["exit_bits"] == 4
    assert not waiver_lines(result)


def test_a_waived_item_is_no_longer_among_the_last_failed(damaged: Project) -> None:
    damaged.audit()
    waive(damaged, "*")
    damaged.audit(WAIVED)
    assert len(outcomes(damaged.audit("--lf"))) == len(item_ids())


def test_an_item_whose_worker_died_is_not_waived(damaged: Project) -> None:
    damaged.write(
        "conftest.py",
        "import os\n\n\ndef pytest_runtest_call(item):\n"
        f"    if item.nodeid == {node_id(LOST)!r}:\n        os._exit(3)\n",
    )
    waive(damaged, "*")
    assert damaged.audit_apart(WAIVED, "-n", "2", REPORT).ret == 1
    items = {item["id"]: item["outcome"] for item in damaged.only_experiment()["items"]}
    assert items[LOST] == "crashed"


def test_a_requirement_counts_what_is_waived_as_what_it_is(damaged: Project) -> None:
    waive(damaged, "*")
    assert damaged.audit(WAIVED, "--scylla-require=min-runs=100%").ret == 1
    assert damaged.audit(WAIVED, "--scylla-require=min-runs=4").ret == 0


def test_the_ratchet_lets_what_is_waived_pass(project: Project) -> None:
    project.audit("--scylla-report=old.json")
    damaged_in_several_ways(project.experiment)
    waive(project, "*")
    args = ("--scylla-baseline=old.json", "--scylla-ratchet")
    assert project.audit(*args).ret == 1
    assert project.audit(WAIVED, *args).ret == 0


# No repair


def test_what_is_waived_is_not_repaired_not_even_for_free(damaged: Project) -> None:
    waive(damaged, GONE, LOST, SLOT, *WHOLES)
    before = snapshot(damaged.experiment)
    result = damaged.audit(WAIVED, "--repair", REPORT)
    assert result.ret == 0
    assert snapshot(damaged.experiment) == before
    assert {item_id: item["outcome"] for item_id, item in items_of_repair(damaged).items()}[LOST] == "waived"
    assert acted_on(damaged) == {}


def test_what_is_not_waived_is_repaired_beside_it(damaged: Project) -> None:
    waive(damaged, GONE, SLOT)
    result = damaged.audit(WAIVED, "--repair", REPORT)
    assert result.ret == 0
    assert run_result_of(damaged.experiment, LOST).exists()
    assert not judgment_of(damaged.experiment, SLOT).exists()
    items = items_of_repair(damaged)
    assert (items[LOST]["outcome"], items[SLOT]["outcome"], items[GONE]["outcome"]) == ("repaired", "waived", "waived")


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_no_judge_is_asked_for_what_is_waived(project: Project, judge: ScriptedJudge, args: tuple[str, ...]) -> None:
    lose_slot(project.experiment, SLOT)
    waive(project, SLOT)
    result = project.audit(WAIVED, "--repair", *args, REPORT)
    assert result.ret == 0
    assert acted_on(project) == {}
    assert "would ask" not in project.audit(WAIVED, "--repair-plan").stdout.str()


def test_no_agent_runs_for_what_is_waived(damaged: Project) -> None:
    waive(damaged, "*")
    before = snapshot(damaged.experiment)
    assert damaged.audit(WAIVED, "--repair", "--repair-level=agents").ret == 0
    assert snapshot(damaged.experiment) == before


def test_calls_for_what_is_waived_are_not_among_those_that_are_too_many(
    project: Project, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_scylla.asking.MOST_UNASKED", 1)
    for run in ("T0/00/run_01", "T0/00/run_02"):
        lose_slot(project.experiment, f"{run}/judge_01")
    waive(project, "T0/00/run_02/judge_01")
    assert project.audit(WAIVED, "--repair").ret == 0
    assert len(judge.calls) == 1


def test_a_waived_slot_is_left_alone_while_the_rest_of_its_run_is_repaired(project: Project) -> None:
    run = "T1/01/run_01"
    for slot in ("judge_01", "judge_02"):
        lose_judgment(project.experiment, f"{run}/{slot}")
    (project.experiment / run / "judge/result.json").unlink()
    waive(project, f"{run}/judge_02")
    result = project.audit(WAIVED, "--repair", REPORT)
    assert judgment_of(project.experiment, f"{run}/judge_01").exists()
    assert not judgment_of(project.experiment, f"{run}/judge_02").exists()
    assert (project.experiment / run / "judge/result.json").exists()
    assert with_outcome(result, "skipped") == [node_id(f"{run}/judge_02")]
    assert result.ret == 0


def test_a_plan_leaves_out_what_is_waived(damaged: Project) -> None:
    waive(damaged, GONE, LOST, SLOT, *WHOLES)
    result = damaged.audit(WAIVED, "--repair-plan", REPORT)
    assert result.ret == 0
    assert acted_on(damaged) == {}
    assert "would rebuild" not in result.stdout.str()


def test_what_is_waived_is_so_in_a_repair_of_a_part_as_well(damaged: Project) -> None:
    waive(damaged, GONE, LOST, SLOT, *WHOLES)
    assert damaged.audit(WAIVED, "--repair", "-k", "T0", REPORT).ret == 0
    assert {item["outcome"] for item in items_of_repair(damaged).values()} == {"waived"}


# Until when


@pytest.mark.parametrize(("difference", "holds"), [(1, True), (0, True), (-1, False)])
@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_waiver_holds_to_the_end_of_its_last_day_in_utc(
    damaged: Project, difference: int, holds: bool, args: tuple[str, ...]
) -> None:
    waive(damaged, "*", until=day(difference))
    result = damaged.audit(WAIVED, *args, REPORT)
    (waiver,) = damaged.only_experiment()["waivers"]
    assert waiver["fault"] == (None if holds else "expired")
    assert len(with_outcome(result, "failed")) == (0 if holds else len(ALL))
    assert result.ret == (0 if holds else 1)


def test_an_expired_waiver_fails_the_session_and_names_its_line(project: Project) -> None:
    waive(project, "T0/*", "T1/*", until="2020-02-29")
    result = project.audit(WAIVED, REPORT)
    assert result.ret == 1
    assert set(outcomes(result).values()) == {"passed"}
    assert waiver_lines(result) == [
        f'waivers.yaml:{line}: "T{tier}/*" was waived until 2020-02-29: put it right, or set another day'
        for line, tier in ((1, 0), (4, 1))
    ]
    assert [waiver["fault"] for waiver in project.only_experiment()["waivers"]] == ["expired"] * 2


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_waiver_of_nothing_or_of_what_is_sound_fails_the_session(damaged: Project, args: tuple[str, ...]) -> None:
    waive(damaged, "T7/*", GONE, "T0/00/run_01", LOST, SLOT, *WHOLES)
    result = damaged.audit(WAIVED, *args, REPORT)
    assert result.ret == 1
    assert "failed" not in outcomes(result).values()
    assert waiver_lines(result) == [
        f"waived: {len(ALL)} items",
        'waivers.yaml:1: "T7/*" matches nothing: remove it',
        'waivers.yaml:7: "T0/00/run_01" matches 4 items, and all of them are sound: remove it',
    ]
    assert damaged.only_experiment()["waivers"][1] == {
        "line": 4,
        "item": GONE,
        "reason": "known",
        "until": FOREVER,
        "waived": 4,
        "fault": None,
    }


def test_a_waiver_of_what_an_earlier_one_waives_or_of_a_node_fails_the_session(damaged: Project) -> None:
    waive(damaged, "*", GONE, f"exp/{LOST}::run")
    result = damaged.audit(WAIVED, REPORT)
    assert result.ret == 1
    assert waiver_lines(result) == [
        f"waived: {len(ALL)} items",
        f'waivers.yaml:4: "{GONE}": line 1 already waives what it matches: remove one',
        f'waivers.yaml:7: "exp/{LOST}::run" matches nothing: name the item by its id, {LOST}, or remove it',
    ]
    assert [waiver["fault"] for waiver in damaged.only_experiment()["waivers"]] == [None, "unused", "unused"]


def test_of_what_nobody_looked_at_no_waiver_is_one_too_many(project: Project) -> None:
    waive(project, "T1/*")
    assert project.audit(WAIVED).ret == 1
    assert project.audit(WAIVED, "-k", "T0").ret == 0
    assert project.audit(WAIVED, "--scylla-select=T0/*").ret == 0
    waive(project, "T7/*")
    assert project.audit(WAIVED, "--scylla-select=T0/*").ret == 1


def test_a_waiver_is_about_all_experiments_of_a_session(damaged: Project, pristine_experiment: Path) -> None:
    damaged.copy(pristine_experiment, "other")
    waive(damaged, "*")
    result = damaged.audit("--scylla-exp=other", WAIVED, REPORT)
    assert result.ret == 0
    assert [part["waivers"][0]["waived"] for part in damaged.report()["experiments"]] == [len(ALL), 0]
    assert waiver_lines(result) == [f"waived: {len(ALL)} items"]


def test_a_fault_is_not_forgiven_by_a_requirement(damaged: Project) -> None:
    waive(damaged, "T7/*")
    assert damaged.audit("--scylla-require=min-runs=50%").ret == 0
    assert damaged.audit("--scylla-require=min-runs=50%", WAIVED).ret == 1


@pytest.mark.parametrize(("args", "count"), [(("-v",), 3), ((), 2), (("-q",), 2), (("-qq",), 1)])
def test_faults_are_told_however_quiet_it_is(damaged: Project, args: tuple[str, ...], count: int) -> None:
    waive(damaged, "T7/*", GONE)
    result = damaged.audit(WAIVED, *args)
    told = [line for line in result.outlines if line.strip().startswith(("waivers.yaml:", "waived: "))]
    assert len(told) == count
    assert 'waivers.yaml:1: "T7/*" matches nothing: remove it' in told


# The file


def test_waivers_have_an_ini_twin_relative_to_the_file(damaged: Project) -> None:
    (damaged.path / "conf").mkdir()
    waive(damaged, "*")
    (damaged.path / "waivers.yaml").rename(damaged.path / "conf/waivers.yaml")
    damaged.write("conf/pytest.ini", "[pytest]\nscylla_waivers = waivers.yaml\n")
    assert damaged.audit("-c", "conf/pytest.ini").ret == 0
    waive(damaged, GONE)
    assert damaged.audit("-c", "conf/pytest.ini", WAIVED).ret == 1


def test_workers_take_the_waivers_of_the_controlling_process(damaged: Project) -> None:
    waive(damaged, "*")
    damaged.write(
        "conftest.py",
        "import os\n\n\ndef pytest_sessionstart(session):\n    if not hasattr(session.config, 'workerinput'):\n"
        "        os.rename('waivers.yaml', 'read.yaml')\n",
    )
    assert damaged.audit_apart(WAIVED, "-n", "2").ret == 0


def test_the_report_is_the_same_with_workers(damaged: Project) -> None:
    waive(damaged, GONE, "T0/00/run_01", "T9/*")
    damaged.audit(WAIVED, REPORT)
    alone = without_times(damaged.report())
    damaged.audit(WAIVED, REPORT, "-n", "2")
    assert without_times(damaged.report()) == alone


def test_an_empty_file_waives_nothing(damaged: Project) -> None:
    damaged.write("waivers.yaml", "# nothing any more\n")
    result = damaged.audit(WAIVED)
    assert result.ret == 1
    assert len(with_outcome(result, "failed")) == len(ALL)
    assert "gate" not in result.stdout.str().split()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- item: T0/*\n  reason: known\n  until: soon\n", 3),
        ("- item: T0/*\n  reason: known\n", 1),
        ("- item: T0/*\n  reason: known\n  until: 2026-12-31\n  who: me\n", 4),
        ("- item: */judge_01\n  reason: known\n  until: 2026-12-31\n", 1),
        ("- {item: a, reason: b, until: 2026-12-31}\n- {item: a, reason: b, until: 2026-12-31}\n", 2),
        (f"- item: a\n  reason: '{NASTY}'\n", 2),
        (f"- item: a\n  {NASTY!r}: b\n", 2),
        ("waivers: []\n", 1),
    ],
)
def test_a_file_that_holds_anything_else_is_refused_with_the_line(project: Project, text: str, line: int) -> None:
    project.write("waivers.yaml", text)
    told = assert_usage_error(project.audit(WAIVED), f"waivers.yaml:{line}: ")
    assert told.isprintable()
    assert "::error" not in told


def test_a_file_that_is_none_is_refused(project: Project) -> None:
    for name in ("none.yaml", ".", "nowhere/waivers.yaml"):
        assert_usage_error(project.audit(f"--scylla-waivers={name}"), f"{name}:1: ")
    assert_usage_error(project.audit("--scylla-waivers="), "--scylla-waivers= names no file")


@pytest.mark.parametrize("name", ["exp/waivers.yaml", "link/waivers.yaml", "link.yaml"])
def test_a_file_inside_an_experiment_waives_nothing(damaged: Project, name: str) -> None:
    waive(damaged, "*")
    (damaged.path / "waivers.yaml").rename(damaged.experiment / "waivers.yaml")
    (damaged.path / "link").symlink_to("exp")
    (damaged.path / "link.yaml").symlink_to("exp/waivers.yaml")
    told = assert_usage_error(damaged.audit(f"--scylla-waivers={name}"), "inside an experiment")
    assert "Name a file outside of it" in told
    damaged.write("pytest.ini", f"[pytest]\nscylla_waivers = {name}\n")
    assert_usage_error(damaged.audit(), "inside an experiment")


def test_a_reason_is_harmless_wherever_it_is_shown(damaged: Project) -> None:
    waive(damaged, "*", reason='"\\e[31m ::error::x ##[group] \\ud800 \\u202e ]]>"')
    result = damaged.audit(WAIVED, "-rA", "-v", "--junitxml=junit.xml", REPORT)
    assert result.ret == 0
    text = printed(result)
    assert "::error" not in text
    assert not set("\x1b\u202e\ud800") & set(text)
    assert "##[" not in text
    ElementTree.parse(damaged.path / "junit.xml")
