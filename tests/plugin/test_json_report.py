"""The JSON report: valid, about the whole matrix whatever was selected, and written however a session ends."""

from __future__ import annotations

import gc
import json
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import run_ids, small

from .support import (
    WHOLES,
    Project,
    counted_ids,
    damaged_in_several_ways,
    edit_json,
    item_ids,
    judgment_of,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    node_id,
    printed,
)

REPORT = "--scylla-report=report.json"
TOTAL = len(counted_ids())


def _by_id(experiment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in experiment["items"]}


def test_the_report_of_a_healthy_experiment(project: Project, pristine_experiment: Path) -> None:
    assert project.audit(REPORT).ret == 0
    report = project.report()
    assert report["format"] == "pytest-scylla/report"
    assert report["version"] == 1
    assert report["interrupted"] is False
    assert report["exit_bits"] == 0
    assert datetime.fromisoformat(report["generated_at"]).tzinfo is not None
    assert set(report["tool"]) >= {"pytest_scylla", "pytest", "python"}
    found = project.only_experiment()
    assert found["path"] == "exp"
    assert found["experiment_id"] == "synthetic-small"
    assert found["expected_from"] == "disk"
    assert found["before"] == found["after"]
    assert found["after"]["runs"]["expected"] == found["after"]["runs"]["completed"] == 6
    assert found["after"]["judge_slots"]["expected"] == found["after"]["judge_slots"]["complete"] == 18
    assert found["completeness"] == 1
    assert (found["selected"], found["not_audited"]) == (TOTAL, 0)
    assert found["findings"] == found["items"] == []
    assert [run["id"] for run in found["runs"]] == list(run_ids(small()))


def test_runs_carry_score_verdict_cost_and_judges(project: Project) -> None:
    project.audit(REPORT)
    for run in project.only_experiment()["runs"]:
        result = json.loads((project.experiment / run["id"] / "run_result.json").read_text("utf-8"))
        assert run["status"] == "completed"
        assert run["score"] == pytest.approx(result["judge_score"])
        assert run["passed"] is result["judge_passed"]
        assert run["cost_usd"] == pytest.approx(result["cost_usd"])
        assert [judge["model"] for judge in run["judges"]] == ["judge-large-1", "judge-medium-1", "judge-small-1"]
        for judge, expected in zip(run["judges"], result["judges"], strict=True):
            assert judge["status"] == "complete"
            assert judge["score"] == pytest.approx(expected["score"])
            assert judge["passed"] is expected["passed"]


def test_what_is_not_known_is_null(project: Project) -> None:
    lose_run(project.experiment, "T0/00/run_01")
    lose_judgment(project.experiment, "T0/00/run_02/judge_02")
    project.audit(REPORT)
    runs = {run["id"]: run for run in project.only_experiment()["runs"]}
    gone = runs["T0/00/run_01"]
    assert (gone["status"], gone["score"], gone["passed"], gone["cost_usd"]) == ("missing", None, None, None)
    assert [(slot["status"], slot["score"], slot["passed"]) for slot in gone["judges"]] == [
        ("agent_failed", None, None)
    ] * 3
    lost = runs["T0/00/run_02"]["judges"][1]
    assert (lost["status"], lost["score"], lost["passed"]) == ("failed", None, None)
    assert lost["model"] == "judge-medium-1"


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--repair-plan",)])
def test_a_run_is_scored_where_its_files_prove_a_score_and_half_of_its_judges_are_sound(
    project: Project, args: tuple[str, ...]
) -> None:
    root = project.experiment
    lose_run(root, "T0/00/run_01")
    lose_slot(root, "T0/00/run_02/judge_01")
    for slot in ("judge_01", "judge_02"):
        lose_slot(root, f"T1/01/run_01/{slot}")
    proven = json.loads((root / "T1/01/run_02/run_result.json").read_text("utf-8"))
    lose_run_result(root, "T1/01/run_02")
    project.audit(REPORT, *args)
    runs = {run["id"]: run for run in project.only_experiment()["runs"]}
    told = {run_id: (run["status"], run["score"] is not None, run["scored"]) for run_id, run in runs.items()}
    assert told == {
        "T0/00/run_01": ("missing", False, False),
        "T0/00/run_02": ("completed", True, True),
        "T1/01/run_01": ("completed", True, False),
        "T1/01/run_02": ("results", True, True),
        "T1/02/run_01": ("completed", True, True),
        "T1/02/run_02": ("completed", True, True),
    }
    again = runs["T1/01/run_02"]
    assert (again["score"], again["passed"]) == (pytest.approx(proven["judge_score"]), proven["judge_passed"])


def test_runs_are_scored_as_the_aggregates_count_them(project: Project) -> None:
    for slot in ("judge_01", "judge_02"):
        lose_slot(project.experiment, f"T1/01/run_01/{slot}")
    project.audit(REPORT, "--repair", "--repair-level=regenerate")
    written = json.loads((project.experiment / "result.json").read_text("utf-8"))
    scored = sum(run["scored"] for run in project.only_experiment()["runs"])
    assert scored == 5
    assert written["coverage"]["scored"] == scored


def test_items_are_those_that_are_not_sound_or_have_a_warning_by_id(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    (project.experiment / "T1/01/run_02/agent/timing.json").unlink()
    assert project.audit(REPORT).ret == 1
    found = project.only_experiment()
    items = _by_id(found)
    assert list(items) == sorted([*failing, "T1/01/run_02"])
    assert project.report()["exit_bits"] == 4
    assert found["completeness"] == pytest.approx((TOTAL - len({*failing} - {*WHOLES})) / TOTAL)
    for item_id, item in items.items():
        assert item["nodeid"] == node_id(item_id)
        kind = "judge_slot" if "judge_" in item_id else "run"
        assert item["kind"] == (item_id if item_id in WHOLES else kind)
        assert item["status"] == item["status_before"]
        assert item["outcome"] == ("passed" if item_id == "T1/01/run_02" else "failed")
        assert item["actions"] == []
        assert item["findings"]
    assert items["T0/00/run_02"]["status"] == "missing"
    assert items["T1/02/run_01/judge_02"]["status"] == "failed"
    (finding,) = items["T1/01/run_01"]["findings"]
    assert finding["code"] == "run-result-missing"
    assert finding["severity"] == "error"
    assert finding["file"] == "T1/01/run_01/run_result.json"
    assert finding["pointer"] == ""
    (warning,) = items["T1/01/run_02"]["findings"]
    assert (warning["severity"], warning["file"]) == ("warning", "T1/01/run_02/agent/timing.json")


def test_an_item_says_how_far_its_repair_has_to_go(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    lose_slot(project.experiment, "T1/02/run_02/judge_01")
    project.audit(REPORT)
    levels = {item_id: item["level"] for item_id, item in _by_id(project.only_experiment()).items()}
    assert levels["T1/01/run_01"] == "regenerate"
    assert levels["T1/02/run_02/judge_01"] == "judges"
    assert levels["T0/00/run_02"] == "agents"


def test_a_waived_item_says_why_until_when_and_in_which_line(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.write(
        "waivers.yaml",
        "- {item: T0/00/run_02, reason: gone, until: 9999-12-31}\n- {item: T*, reason: known, until: 9999-12-31}\n",
    )
    project.audit(REPORT, "--scylla-waivers=waivers.yaml")
    items = _by_id(project.only_experiment())
    first = {"line": 1, "reason": "gone", "until": "9999-12-31"}
    assert items["T0/00/run_02"]["waiver"] == items["T0/00/run_02/judge_01"]["waiver"] == first
    assert items["T1/01/run_01"]["waiver"] == {"line": 2, "reason": "known", "until": "9999-12-31"}
    assert "waiver" not in items["checkpoint"]


def test_findings_carry_pointers(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), score=85)
    project.audit(REPORT)
    (finding,) = _by_id(project.only_experiment())["T0/00/run_01/judge_01"]["findings"]
    assert (finding["code"], finding["pointer"]) == ("score-out-of-range", "/score")
    assert "85" in finding["message"]


def test_counts_say_which_slot_lacks_what(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    edit_json(judgment_of(project.experiment, "T1/01/run_02/judge_03"), fallback=True)
    project.audit(REPORT)
    slots = project.only_experiment()["after"]["judge_slots"]
    assert slots["fallback"] == 1
    assert {number: row["model"] for number, row in slots["by_slot"].items()} == {
        "1": "judge-large-1",
        "2": "judge-medium-1",
        "3": "judge-small-1",
    }
    assert [slots["by_slot"][number]["complete"] for number in "123"] == [5, 4, 5]
    assert [slots["by_slot"][number]["failed"] for number in "123"] == [0, 1, 0]
    assert [slots["by_slot"][number]["agent_failed"] for number in "123"] == [1, 1, 1]


def test_what_is_there_beyond_the_expected_is_a_finding_and_never_counted(project: Project) -> None:
    for extra in ("T0/00/run_03", "T9/00/run_01", "T0/00/.failed/run_01", "T0/old/run_01", "old/T0/00/run_01"):
        (project.experiment / extra).mkdir(parents=True)
    assert project.audit(REPORT).ret == 0
    found = project.only_experiment()
    assert found["after"]["runs"]["expected"] == 6
    assert sorted((f["code"], f["severity"], f["file"]) for f in found["findings"]) == [
        ("extra-run", "warning", "T0/00/run_03"),
        ("extra-tier", "warning", "T9"),
    ]


# What was not looked at


@pytest.mark.parametrize(
    ("args", "audited"),
    [
        (("-k", "T0"), 8),
        (("-k", "T0", "-n", "2"), 8),
        (("-m", "scylla_run"), 6),
        (("--scylla-select=T1/01/run_01",), 4),
        (("--scylla-select=T1/01/run_01", "-n", "2"), 4),
        (("--scylla-select=*/judge_02",), 6),
        (("--deselect", "exp/T1"), 8),
        (("-k", "no_such_thing"), 0),
    ],
)
def test_a_selection_leaves_the_rest_not_audited(project: Project, args: tuple[str, ...], audited: int) -> None:
    project.audit(REPORT, *args)
    found = project.only_experiment()
    assert found["selected"] == audited
    assert found["not_audited"] == TOTAL - audited
    assert found["after"]["runs"]["expected"] == 6
    assert found["after"]["judge_slots"]["expected"] == 18
    counts = found["after"]
    assert counts["runs"]["not_audited"] + counts["judge_slots"]["not_audited"] == TOTAL - audited
    assert found["completeness"] is None
    assert found["items"] == []
    assert project.report()["exit_bits"] == 0


def test_a_failing_slot_that_was_not_selected_is_not_reported(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    assert project.audit(REPORT, "--scylla-select=T0/00/run_01").ret == 0
    assert project.only_experiment()["items"] == []


@pytest.mark.parametrize("args", [("-x",), ("--maxfail=1",)])
def test_stopping_at_a_failure_leaves_the_rest_not_audited(project: Project, args: tuple[str, ...]) -> None:
    lose_run_result(project.experiment, "T0/00/run_02")
    lose_run_result(project.experiment, "T1/02/run_02")
    assert project.audit(REPORT, *args).ret == 1
    found = project.only_experiment()
    assert found["not_audited"] == TOTAL - 8
    assert list(_by_id(found)) == ["T0/00/run_02"]
    assert project.report()["exit_bits"] == 2 + 4
    assert project.report()["interrupted"] is False


def test_stopping_at_a_failure_of_the_last_item_is_no_stopping_early(project: Project) -> None:
    lose_run_result(project.experiment, "T1/02/run_02")
    assert project.audit(REPORT, "-x").ret == 1
    assert project.only_experiment()["not_audited"] == 0
    assert project.only_experiment()["completeness"] == pytest.approx(23 / 24)


def test_last_failed_leaves_the_rest_not_audited(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    project.audit()
    project.audit(REPORT, "--lf")
    found = project.only_experiment()
    assert found["selected"] == len({*failing} - {*WHOLES})  # which are not counted
    assert found["not_audited"] == TOTAL - found["selected"]
    assert list(_by_id(found)) == sorted(failing)


def test_stopping_early_with_workers(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    assert project.audit(REPORT, "-x", "-n", "2").ret != 0
    report = project.report()
    assert report["exit_bits"] & 4
    found = project.only_experiment()
    assert found["selected"] == TOTAL
    if found["not_audited"]:
        assert report["exit_bits"] & 2


def test_each_experiment_has_its_own_part(project: Project, pristine_experiment: Path) -> None:
    lose_run(project.copy(pristine_experiment, "other"), "T1/01/run_01")
    assert project.audit(REPORT, "--scylla-exp=other", "--scylla-select=T1/*").ret == 1
    first, second = project.report()["experiments"]
    assert (first["path"], second["path"]) == ("exp", "other")
    assert (first["selected"], second["selected"]) == (16, 16)
    assert first["items"] == []
    assert len(second["items"]) == 4


def test_a_path_is_reported_as_it_was_given(project: Project) -> None:
    project.run(f"--scylla-exp={project.experiment}", REPORT)
    assert project.only_experiment()["path"] == str(project.experiment)


# However a session ends


def test_a_keyboard_interrupt_leaves_a_report_of_what_was_done(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    project.write(
        "conftest.py",
        "def pytest_runtest_setup(item):\n"
        "    if item.nodeid == 'exp/T0/00/run_02::judge_02':\n        raise KeyboardInterrupt\n",
    )
    assert project.audit_apart(REPORT).ret == pytest.ExitCode.INTERRUPTED
    report = project.report()
    assert report["interrupted"] is True
    assert report["exit_bits"] == 2 + 4
    found = project.only_experiment()
    assert found["not_audited"] == TOTAL - 5
    assert list(_by_id(found)) == ["T0/00/run_01"]


def test_a_keyboard_interrupt_during_the_collection_leaves_a_report(project: Project) -> None:
    project.write("conftest.py", "def pytest_collection_modifyitems(items):\n    raise KeyboardInterrupt\n")
    assert project.audit_apart(REPORT).ret == pytest.ExitCode.INTERRUPTED
    report = project.report()
    assert report["interrupted"] is True
    assert report["exit_bits"] == 2
    assert project.only_experiment()["not_audited"] == TOTAL


def test_pytest_exit_leaves_a_report(project: Project) -> None:
    project.write(
        "conftest.py",
        "import pytest\n\n\ndef pytest_runtest_setup(item):\n"
        "    if item.nodeid == 'exp/T0/00/run_01::run':\n        pytest.exit('enough', returncode=7)\n",
    )
    assert project.audit_apart(REPORT).ret == 7
    report = project.report()
    assert report["exit_bits"] == 2
    assert project.only_experiment()["not_audited"] == TOTAL - 3


def test_an_interruption_with_workers_leaves_a_report(project: Project) -> None:
    project.write(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n"
        "    if report.nodeid == 'exp/T0/00/run_01::run' and report.when == 'call':\n        raise KeyboardInterrupt\n",
    )
    result = project.audit_apart(REPORT, "-n", "2")
    assert result.ret != 0
    assert project.report()["exit_bits"] & 2


CRASHING = """\
import os


def pytest_runtest_call(item):
    if item.nodeid == "exp/T1/01/run_01::judge_02":
        os._exit(3)
"""


def test_an_item_on_which_a_worker_dies_is_reported_as_crashed(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    project.write("conftest.py", CRASHING)
    result = project.audit_apart(REPORT, "-n", "2")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    items = _by_id(project.only_experiment())
    crashed = items["T1/01/run_01/judge_02"]
    assert crashed["outcome"] == "crashed"
    assert crashed["nodeid"] == "exp/T1/01/run_01::judge_02"
    assert crashed["status"] != "complete"
    assert items["T0/00/run_01"]["outcome"] == "failed"
    assert project.report()["exit_bits"] & 4
    assert project.only_experiment()["completeness"] is None
    assert project.only_experiment()["not_audited"] == 1


def test_many_items_on_which_workers_die_are_listed(wide_project: Project) -> None:
    for run in ("T0/00", "T0/01"):
        lose_run(wide_project.experiment, run)
    wide_project.write("conftest.py", CRASHING.replace("judge_02", "run"))
    result = wide_project.audit_apart(REPORT, "-n", "2")
    assert result.ret == 1
    assert "8 runs missing" in result.stdout.str()
    assert "T1/01/run_01" in result.stdout.str()
    assert _by_id(wide_project.only_experiment())["T1/01/run_01"]["outcome"] == "crashed"


def test_an_error_in_anothers_hook_does_not_cost_the_report(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    project.write("conftest.py", "def pytest_sessionfinish():\n    raise RuntimeError('a hook of the project')\n")
    assert project.audit_apart(REPORT).ret != 0
    assert len(project.only_experiment()["items"]) == len(failing)


def test_an_internal_error_leaves_a_report_that_is_not_green(project: Project) -> None:
    project.write("conftest.py", "def pytest_runtest_logfinish(nodeid):\n    raise RuntimeError('a hook')\n")
    assert project.audit_apart(REPORT).ret == pytest.ExitCode.INTERNAL_ERROR
    report = project.report()
    assert report["exit_bits"] & 2
    assert project.only_experiment()["not_audited"] >= TOTAL - 1


def test_the_report_is_plain_ascii_json_and_readable_for_all(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), score="\x1b\u202e\ud800caf\xe9")
    umask = os.umask(0o022)
    try:
        assert project.audit(REPORT).ret == 1
    finally:
        os.umask(umask)
    path = project.path / "report.json"
    assert path.read_bytes().isascii()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    project.report()


def test_only_the_controlling_process_writes_the_report(project: Project) -> None:
    project.write(
        "conftest.py",
        "import os\nfrom pathlib import Path\n\nreal = os.replace\n\n\ndef replace(source, target):\n"
        "    with Path('replaced').open('a') as file:\n        print(target, file=file)\n"
        "    real(source, target)\n\n\nos.replace = replace\n",
    )
    assert project.audit_apart(REPORT, "-n", "2").ret == 0
    replaced = (project.path / "replaced").read_text() if (project.path / "replaced").exists() else ""
    assert sum(line.endswith("report.json") for line in replaced.splitlines()) <= 1
    project.report()


@pytest.mark.parametrize("status", ["conflict", "unsafe", "partial", "failed"])
def test_rare_statuses_are_counted(project: Project, status: str) -> None:
    run = project.experiment / "T0/00/run_01"
    if status == "conflict":
        edit_json(run / "run_result.json", workspace_path="/data/exp/T1/01/run_02/workspace")
    elif status == "unsafe":
        (run / "run_result.json").unlink()
        (run / "run_result.json").symlink_to("../run_02/run_result.json")
    else:
        for name in ("stdout.log", "output.txt", "cmd_0000_stdout.log", "result.json"):
            (run / "agent" / name).unlink()
        if status == "partial":
            (run / "agent" / "stderr.log").unlink()
        else:
            (run / "run_result.json").unlink()
            for path in (run / "judge").glob("judge_*/judgment.json"):
                path.unlink()
    assert project.audit(REPORT).ret == 1
    found = project.only_experiment()
    assert found["after"]["runs"][status] == 1
    assert _by_id(found)["T0/00/run_01"]["status"] == status


def test_a_report_that_cannot_be_written_is_told_and_is_not_green(project: Project) -> None:
    result = project.audit(f"--scylla-report={'x' * 300}.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["report not written: *xxx.json: File name too long", f"*{len(item_ids())} passed*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_program_that_calls_pytest_gets_its_garbage_collected_again(project: Project) -> None:
    before = gc.get_freeze_count()
    assert project.audit().ret == 0
    assert gc.get_freeze_count() <= before
