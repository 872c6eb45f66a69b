"""What a user sees of ``pytest --repair``: its options, what becomes of each item, what is written, what is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from benchmarks.synthetic import run_ids

from ..unit.repairing import Tree, journal, quarantined, tree
from .conftest import WIDE
from .support import (
    BUT_AGGREGATES,
    FREE_FILES,
    FREE_ITEMS,
    NASTY,
    SLOTS,
    WARNED,
    WARNED_FILE,
    WHOLES,
    Project,
    acted_on,
    assert_usage_error,
    beyond_rebuilding,
    counted_ids,
    damaged_for_free,
    edit_config,
    edit_json,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    judgment_of,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    never_begin,
    node_id,
    node_ids,
    outcomes,
    printed,
    report_of_repair,
    run_result_of,
    snapshot,
    summary_line,
    with_outcome,
)

REPORT = "--scylla-report=report.json"
KEEPING = ".scylla"


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment of which everything that is wrong can be put right for free."""
    damaged_for_free(project.experiment)
    return project


def _words(result: pytest.RunResult) -> dict[str, int]:
    """The numbers of pytest's last line."""
    return {word: number for word, number in result.parseoutcomes().items() if word != "seconds"}


def _shown(result: pytest.RunResult) -> dict[str, str]:
    """The word behind every node id, as -v prints it."""
    lines = [line.split() for line in result.outlines if "%]" in line]
    return {words[0]: words[1] for words in lines if "::" in words[0]}


def _letters(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("exp ") and "%]" in line]
    return line.split()[1]


def _changed(before: Tree, after: Tree) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


# An item that is repaired


def test_what_a_repair_puts_right_passes_under_a_word_of_its_own(damaged: Project) -> None:
    result = damaged.audit("--repair")
    assert result.ret == 0
    repaired = [*FREE_ITEMS, WARNED]
    assert _words(result) == {"passed": len(item_ids()) - len(repaired), "repaired": len(repaired)}
    letters = _letters(result)
    assert letters == "".join("r" if item_id in repaired else "." for item_id in item_ids())


def test_a_repaired_item_is_called_so_when_every_item_is_named(damaged: Project) -> None:
    shown = _shown(damaged.audit("--repair", "-v"))
    repaired = [*FREE_ITEMS, WARNED]
    assert {nodeid for nodeid, word in shown.items() if word == "REPAIRED"} == set(node_ids(repaired))
    assert Counter(shown.values()) == {"PASSED": len(item_ids()) - len(repaired), "REPAIRED": len(repaired)}


def test_exactly_what_was_lost_or_wrong_is_written(damaged: Project) -> None:
    before = tree(damaged.experiment)
    assert damaged.audit("--repair").ret == 0
    written = sorted([WARNED_FILE, *(file for files in FREE_FILES.values() for file in files)])
    assert _changed(before, tree(damaged.experiment)) == written
    assert sorted(entry["file"] for entry in journal(damaged.experiment)) == written


def test_an_audit_after_the_repair_is_clean(damaged: Project) -> None:
    damaged.audit("--repair")
    result = damaged.audit("--scylla-strict", REPORT)
    assert result.ret == 0
    assert experiment_of_repair(damaged)["items"] == []


def test_what_was_replaced_is_kept(damaged: Project) -> None:
    spoilt = ("T0/00/run_02/agent/output.txt", "T1/01/run_02/judge/result.json", "T1/01/run_02/run_result.json")
    replaced = [(damaged.experiment / name).read_bytes() for name in spoilt]
    damaged.audit("--repair")
    assert sorted(quarantined(damaged.experiment).values()) == sorted(replaced)


def test_an_audit_of_what_could_be_repaired_writes_nothing(damaged: Project) -> None:
    before = snapshot(damaged.experiment)
    for args in ((), ("-n", "2"), ("--scylla-strict", "-v"), ("-x",)):
        assert damaged.audit(*args).ret != 0
        assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--scylla-strict",), ("--repair-anyway",)])
def test_a_healthy_experiment_is_not_touched(project: Project, args: tuple[str, ...]) -> None:
    before = snapshot(project.experiment)
    result = project.audit("--repair", *args)
    assert result.ret == 0
    assert _words(result) == {"passed": len(item_ids())}
    assert snapshot(project.experiment) == before
    assert not (project.experiment / KEEPING).exists()


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_second_repair_changes_nothing_and_has_nothing_to_tell(damaged: Project, args: tuple[str, ...]) -> None:
    assert damaged.audit("--repair").ret == 0
    before = snapshot(damaged.experiment)
    again = damaged.audit("--repair", *args, REPORT)
    assert again.ret == 0
    assert _words(again) == {"passed": len(item_ids())}
    assert "rebuilt" not in again.stdout.str()
    assert snapshot(damaged.experiment) == before
    assert experiment_of_repair(damaged)["items"] == []
    assert report_of_repair(damaged)["exit_bits"] == 0


def test_a_second_repair_does_not_try_again_what_could_not_be_rebuilt(project: Project) -> None:
    beyond_rebuilding(project.experiment, "T1/02/run_02")
    assert project.audit("--repair").ret == 1
    before = snapshot(project.experiment)
    again = project.audit("--repair")
    assert again.ret == 1
    assert _words(again) == {"passed": len(item_ids()) - 1, "failed": 1}
    assert snapshot(project.experiment) == before


def test_last_failed_forgets_what_was_repaired(damaged: Project) -> None:
    failing = node_ids(FREE_ITEMS)
    lose_run(damaged.experiment, "T1/02/run_02")
    absent = node_ids([*(f"T1/02/run_02/{slot}" for slot in SLOTS), "T1/02/run_02"])
    assert sorted(with_outcome(damaged.audit(), "failed")) == sorted([*failing, *absent])
    repairing = damaged.audit("--repair", "--lf")
    assert sorted(outcomes(repairing)) == sorted([*failing, *absent])
    assert _words(repairing)["repaired"] == len(failing)
    assert list(outcomes(damaged.audit("--lf"))) == absent


def test_last_failed_only_repairs_what_failed(damaged: Project) -> None:
    damaged.audit()
    damaged.audit("--repair", "--lf")
    assert not (damaged.experiment / WARNED_FILE).exists()  # a warning fails nothing


def test_what_no_surviving_file_gives_back_still_fails_and_says_what_it_takes(project: Project) -> None:
    lose_slot(project.experiment, "T0/00/run_02/judge_03")
    never_begin(project.experiment, "T1/01/run_01")
    before = snapshot(project.experiment)
    result = project.audit("--repair", "--repair-level=regenerate")
    assert result.ret == 1
    assert _words(result) == {"passed": len(item_ids()) - 5, "failed": 5}
    text = result.stdout.str()
    assert "judgment-missing: T0/00/run_02/judge/judge_03/judgment.json" in text
    assert text.count("  repair: 1 judge call") == 1
    assert text.count("  repair: agent run") == 4
    assert "not sound: 4 items for which the agent has to run again" in result.outlines
    assert "not sound: 1 item for which a judge has to be asked" in result.outlines
    assert snapshot(project.experiment) == before


def test_an_item_of_which_one_file_is_rebuilt_and_another_cannot_be_fails_and_tells_both(project: Project) -> None:
    beyond_rebuilding(project.experiment, "T1/02/run_02")
    result = project.audit("--repair")
    assert with_outcome(result, "failed") == [node_id("T1/02/run_02")]
    result.stdout.fnmatch_lines(
        [
            "  run-result-missing: T1/02/run_02/run_result.json: *",
            "  rebuilt T1/02/run_02/agent/output.txt from agent/stdout.log",
            "  run_result.json not rebuilt: no record holds the agent's duration",
            "  repair: none: *",
        ]
    )
    assert (project.experiment / "T1/02/run_02/agent/output.txt").is_file()


def test_a_conflict_is_left_to_a_person(project: Project) -> None:
    run_result = run_result_of(project.experiment, "T0/00/run_01")
    edit_json(run_result, workspace_path="/data/exp/T1/01/run_02/workspace")
    (project.experiment / "T0/00/run_01/judge/result.json").unlink()
    before = snapshot(project.experiment)
    result = project.audit("--repair", BUT_AGGREGATES)
    assert result.ret == 1
    assert "a person has to decide" in result.stdout.str()
    assert snapshot(project.experiment) == before


def test_nothing_is_written_through_a_link(project: Project) -> None:
    target = project.write("target.json", "{")
    for name in ("run_result.json", "judge/result.json"):
        path = project.experiment / "T0/00/run_01" / name
        path.unlink()
        path.symlink_to(target)
    before = snapshot(project.experiment)
    assert project.audit("--repair", BUT_AGGREGATES).ret == 1
    assert target.read_text() == "{"
    assert snapshot(project.experiment) == before


def test_under_strict_a_warning_that_is_repaired_fails_nothing(project: Project) -> None:
    (project.experiment / WARNED_FILE).unlink()
    assert with_outcome(project.audit("--scylla-strict"), "failed") == [node_id(WARNED)]
    result = project.audit("--scylla-strict", "--repair")
    assert result.ret == 0
    assert _words(result) == {"passed": len(item_ids()) - 1, "repaired": 1}
    assert project.audit("--scylla-strict").ret == 0


def test_under_strict_a_warning_that_cannot_be_repaired_fails_with_the_reason(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), fallback=True)
    before = snapshot(project.experiment)
    assert with_outcome(project.audit("--scylla-strict", "--repair"), "failed") == [node_id("T0/00/run_01/judge_01")]
    assert snapshot(project.experiment) == before


def test_a_fallback_that_is_to_fail_is_left_to_a_judge(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), fallback=True)
    before = snapshot(project.experiment)
    result = project.audit("--repair", "--repair-level=regenerate", "-o", "scylla_fallback=fail")
    assert with_outcome(result, "failed") == [node_id("T0/00/run_01/judge_01")]
    assert "repair: 1 judge call" in result.stdout.str()
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_tier_without_known_subtests_keeps_nothing_else_from_being_repaired(damaged: Project, workers: str) -> None:
    edit_config(damaged.experiment, tiers_to_run=["T0", "T1", "T5"])
    result = damaged.audit("--repair", "-n", workers, REPORT)
    assert result.ret == 1
    assert with_outcome(result, "failed") == ["exp/T5::subtests"]
    assert _words(result)["repaired"] == len([*FREE_ITEMS, WARNED])
    tier = items_of_repair(damaged)["T5"]
    assert (tier["status_before"], tier["status"], tier["outcome"], tier["actions"]) == (
        "missing",
        "missing",
        "failed",
        [],
    )
    assert experiment_of_repair(damaged)["completeness"] is None


# --repair-plan


@pytest.mark.parametrize("args", [("--repair-plan",), ("--repair-plan", "--repair"), ("--repair-plan", "-n", "2")])
def test_a_plan_writes_nothing_and_ends_like_an_audit(damaged: Project, args: tuple[str, ...]) -> None:
    before = snapshot(damaged.experiment)
    result = damaged.audit(*args)
    assert result.ret == 1
    assert _words(result) == {"passed": len(item_ids()) - len(FREE_ITEMS), "failed": len(FREE_ITEMS)}
    assert snapshot(damaged.experiment) == before
    assert "nothing was written and nobody was asked; --repair does it" in result.outlines
    assert "scylla: plan of a repair; nothing is written" in result.outlines


def test_a_plan_for_a_healthy_experiment_is_green(project: Project) -> None:
    before = snapshot(project.experiment)
    result = project.audit("--repair-plan")
    assert result.ret == 0
    assert "would rebuild" not in result.stdout.str()
    assert snapshot(project.experiment) == before


def test_a_plan_of_nothing_but_a_warning_is_green_and_lists_it(project: Project) -> None:
    (project.experiment / WARNED_FILE).unlink()
    result = project.audit("--repair-plan")
    assert result.ret == 0
    assert f"  would rebuild {WARNED_FILE} from agent/command_log.json" in result.outlines


def test_a_plan_lists_every_file(damaged: Project) -> None:
    result = damaged.audit("--repair-plan", "--tb=no")
    listed = re.findall(r"^  would rebuild (\S+)", result.stdout.str(), re.MULTILINE)
    assert sorted(listed) == sorted([WARNED_FILE, *(file for files in FREE_FILES.values() for file in files)])
    assert any(line.startswith("would rebuild 7 files in 5 runs") for line in result.outlines)


def test_a_failing_item_says_what_would_be_rebuilt_of_it(damaged: Project) -> None:
    result = damaged.audit("--repair-plan", "-k", "T1 and judge_02")
    result.stdout.fnmatch_lines(
        [
            "  judgment-missing: T1/02/run_01/judge/judge_02/judgment.json: *",
            "  would rebuild T1/02/run_01/judge/judge_02/judgment.json from judge/judge_02/response.txt*",
            "  repair: free *",
        ]
    )


@pytest.mark.parametrize(
    "args", [(), ("-k", "judge_02"), ("--scylla-select=T1/01/*",), ("--repair-status=slot:failed",), ("-n", "2")]
)
def test_what_a_plan_lists_is_what_the_repair_then_does(damaged: Project, args: tuple[str, ...]) -> None:
    beyond_rebuilding(damaged.experiment, "T1/02/run_02")
    for slot in SLOTS:  # beside a file of the run that can be rebuilt
        lose_slot(damaged.experiment, f"T0/00/run_02/{slot}")
    before = tree(damaged.experiment)
    args = ("--repair-level=regenerate", *args)
    damaged.audit("--repair-plan", *args, "--scylla-report=plan.json")
    damaged.audit("--repair", *args, "--scylla-report=done.json")

    plan, done = acted_on(damaged, "plan.json"), acted_on(damaged, "done.json")
    for actions in plan.values():
        for action in actions:
            assert action["outcome"] in ("planned", "refused")
            action["outcome"] = action["outcome"].replace("planned", "done")
    assert plan == done
    files = [file for actions in plan.values() for action in actions for file in action["files"]]
    assert _changed(before, tree(damaged.experiment)) == sorted(files)
    assert files


# Options


def test_the_experiment_of_the_ini_file_is_repaired(damaged: Project) -> None:
    damaged.write("pytest.ini", "[pytest]\nscylla_exp = exp\n")
    result = damaged.run("--repair")
    assert result.ret == 0
    assert _words(result)["repaired"] == len([*FREE_ITEMS, WARNED])


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
def test_without_an_experiment_a_repair_says_how_to_name_one(empty_project: Project, option: str) -> None:
    line = assert_usage_error(empty_project.run(option), "--scylla-exp=DIR", "scylla_exp", "ini")
    assert "repair" in line


@pytest.mark.parametrize(
    "ini", ["", "scylla_repair_level = regenerate\n", "scylla_repair_status =\n    run:results\n    slot:failed\n"]
)
@pytest.mark.parametrize("args", [(), ("--scylla",), ("--scylla", "-n", "2")])
def test_an_ini_file_alone_never_repairs(damaged: Project, ini: str, args: tuple[str, ...]) -> None:
    damaged.write("pytest.ini", f"[pytest]\nscylla_exp = exp\n{ini}")
    before = snapshot(damaged.experiment)
    result = damaged.run(*args)
    assert result.ret == (1 if args else pytest.ExitCode.NO_TESTS_COLLECTED)
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("args", [("--repair-level=regenerate",), ("-o", "scylla_repair_level=regenerate")])
def test_the_level_that_there_is_can_be_named(damaged: Project, args: tuple[str, ...]) -> None:
    result = damaged.audit("--repair", *args)
    assert result.ret == 0
    assert any("level regenerate" in line for line in result.outlines)


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
@pytest.mark.parametrize(
    ("level", "reason"),
    [
        ("everything", "no such level"),
        ("Regenerate", "no such level"),
        ("regenerate,judges", "no such level"),
    ],
)
@pytest.mark.parametrize("ini", [False, True])
def test_a_level_that_there_is_not_is_refused(
    damaged: Project, option: str, level: str, reason: str, ini: bool
) -> None:
    before = snapshot(damaged.experiment)
    args = ("-o", f"scylla_repair_level={level}") if ini else (f"--repair-level={level}",)
    assert_usage_error(damaged.audit(option, *args), level, reason, "expected one of regenerate, judges, agents")
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("args", [("--repair", "--repair-level="), ("--repair-level=",)])
def test_a_level_without_a_name_is_refused(damaged: Project, args: tuple[str, ...]) -> None:
    before = snapshot(damaged.experiment)
    assert_usage_error(damaged.audit(*args), "--repair-level")
    assert snapshot(damaged.experiment) == before


def test_the_command_line_overrides_the_ini_files_level(damaged: Project) -> None:
    args = ("--repair", "-o", "scylla_repair_level=agents", "--repair-level=regenerate")
    assert damaged.audit(*args).ret == 0


RUNS = ["T0/00/run_02", "T1/01/run_01", "T1/01/run_02"]
SLOTS_LOST = ["T1/01/run_02/judge_01", "T1/02/run_01/judge_02"]


@pytest.mark.parametrize(
    ("statuses", "targets"),
    [
        (["run:results"], [*RUNS]),
        (["slot:failed"], SLOTS_LOST),
        (["run:results", "slot:failed"], [*RUNS, *SLOTS_LOST]),
        (["run:completed"], [WARNED]),
        (["run:missing", "slot:missing", "slot:agent_failed"], []),
    ],
)
@pytest.mark.parametrize("ini", [False, True])
def test_only_items_of_the_named_statuses_are_repaired(
    damaged: Project, statuses: list[str], targets: list[str], ini: bool
) -> None:
    before = tree(damaged.experiment)
    if ini:
        damaged.write("pytest.ini", "[pytest]\nscylla_repair_status =\n" + "".join(f"    {s}\n" for s in statuses))
    result = damaged.audit("--repair", *([] if ini else [f"--repair-status={status}" for status in statuses]), REPORT)
    done = {
        item_id
        for item_id, item in items_of_repair(damaged).items()
        if any(action["outcome"] == "done" for action in item["actions"])
    }
    assert done <= set(targets)
    written = set(_changed(before, tree(damaged.experiment)))
    expected = {file for item_id in targets for file in FREE_FILES.get(item_id, [WARNED_FILE])}
    if "T1/01/run_02/judge_01" in targets:  # who changes a slot leaves these two current
        expected |= {*FREE_FILES["T1/01/run_02"]}
        assert written == expected
    elif "T1/01/run_02" in targets:  # its consensus may have to wait for the judgment that is lost
        assert expected - {*FREE_FILES["T1/01/run_02"]} <= written <= expected
    else:
        assert written == expected
    assert result.ret == (0 if set(statuses) >= {"run:results", "slot:failed"} else 1)


@pytest.mark.parametrize("status", ["results", "run", "run:", "slot:results", "judge_slot:failed", "run:Results", ""])
def test_a_status_that_there_is_not_is_refused_with_those_that_there_are(damaged: Project, status: str) -> None:
    before = snapshot(damaged.experiment)
    line = assert_usage_error(damaged.audit("--repair", f"--repair-status={status}"), f"--repair-status={status}:")
    for known in ("run:results", "run:missing", "run:completed", "slot:failed", "slot:agent_failed", "slot:conflict"):
        assert known in line
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("status", ["nonsense", NASTY])
def test_a_status_of_the_ini_file_that_there_is_not_is_refused(damaged: Project, status: str) -> None:
    result = damaged.audit("--repair", "-o", f"scylla_repair_status={status}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "run:results" in printed(result)


@pytest.mark.parametrize("option", ["--repair-level=regenerate", "--repair-status=run:results", "--repair-anyway"])
def test_an_option_about_a_repair_asks_for_one_to_be_about(damaged: Project, option: str) -> None:
    before = snapshot(damaged.experiment)
    assert_usage_error(damaged.audit(option), option.partition("=")[0], "--repair", "--repair-plan")
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("args", [("--collect-only",), ("--co", "-q"), ("--co", "-n", "2")])
def test_nothing_is_repaired_where_items_are_only_collected(damaged: Project, args: tuple[str, ...]) -> None:
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", *args)
    assert result.ret == 0
    assert "rebuilt" not in result.stdout.str()
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only"])
def test_nothing_is_repaired_where_no_test_is_called(damaged: Project, option: str) -> None:
    before = snapshot(damaged.experiment)
    damaged.audit("--repair", option)
    if option == "--setup-plan":
        assert snapshot(damaged.experiment) == before


def test_help_names_every_option_of_a_repair(empty_project: Project) -> None:
    text = empty_project.run("--help").stdout.str()
    for option in ("--repair ", "--repair-plan", "--repair-level", "--repair-status", "--repair-anyway"):
        assert option in text
    for ini in ("scylla_repair_level", "scylla_repair_status"):
        assert ini in text


# A runner at work


def _running(project: Project, pid: int, minutes_ago: float, status: str = "running") -> None:
    updated = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    edit_json(project.experiment / "checkpoint.json", status=status, pid=pid, last_updated_at=updated.isoformat())


NOBODY = 2**22 + 1
"""A process id beyond what the kernel gives."""


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("-k", "T0"), ("-q",)])
@pytest.mark.parametrize(("alive", "minutes_ago"), [(True, 6000), (False, 3)])
def test_a_repair_is_refused_while_the_runner_is_at_work(
    damaged: Project, args: tuple[str, ...], alive: bool, minutes_ago: float
) -> None:
    pid = os.getpid() if alive else NOBODY
    _running(damaged, pid, minutes_ago)
    before = snapshot(damaged.experiment)
    line = assert_usage_error(damaged.audit("--repair", *args), "exp: checkpoint.json", '"running"', "--repair-anyway")
    assert str(pid) in line
    assert ("alive" if alive else "seconds ago") in line
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_repair_that_is_wanted_anyway_is_done(damaged: Project, args: tuple[str, ...]) -> None:
    _running(damaged, os.getpid(), 3)
    assert damaged.audit("--repair", "--repair-anyway", *args).ret == 0


@pytest.mark.parametrize("args", [("--repair-plan",), ("--repair", "--repair-plan"), ()])
def test_looking_is_never_refused(damaged: Project, args: tuple[str, ...]) -> None:
    _running(damaged, os.getpid(), 3)
    before = snapshot(damaged.experiment)
    assert damaged.audit(*args).ret == 1
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("status", ["completed", "interrupted", "failed"])
def test_a_runner_that_has_ended_is_no_obstacle(damaged: Project, status: str) -> None:
    _running(damaged, os.getpid(), 3, status)
    assert damaged.audit("--repair").ret == 0


def test_a_runner_that_died_long_ago_is_no_obstacle(damaged: Project) -> None:
    _running(damaged, NOBODY, 60)
    assert damaged.audit("--repair").ret == 0


def test_one_runner_at_work_keeps_all_experiments_of_the_session_as_they_are(
    damaged: Project, pristine_experiment: Path
) -> None:
    damaged_for_free(damaged.copy(pristine_experiment, "other"))
    _running(damaged, os.getpid(), 3)
    before = snapshot(damaged.path / "other")
    assert_usage_error(damaged.audit("--repair", "--scylla-exp=other"), "exp: ")
    assert snapshot(damaged.path / "other") == before


# Selection


def test_a_slot_alone_is_repaired_with_what_follows_from_it(damaged: Project) -> None:
    run = "T1/02/run_01"
    for name in ("judge/result.json", "run_result.json", "agent/timing.json"):
        (damaged.experiment / run / name).unlink()
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", "-k", "judge_02", REPORT)
    assert result.ret == 0
    assert _words(result)["repaired"] == 1
    written = [f"{run}/{name}" for name in ("judge/judge_02/judgment.json", "judge/result.json", "run_result.json")]
    assert _changed(before, tree(damaged.experiment)) == sorted(written)
    after = experiment_of_repair(damaged)["after"]
    assert after["runs"]["results"] == 3  # the other three
    assert damaged.audit(f"--scylla-select={run}").ret == 0


@pytest.mark.parametrize("args", [("-m", "scylla_run"), ("-k", "run and not judge")])
def test_runs_alone_are_repaired_and_no_slot(damaged: Project, args: tuple[str, ...]) -> None:
    before = tree(damaged.experiment)
    damaged.audit("--repair", *args)
    written = _changed(before, tree(damaged.experiment))
    assert {WARNED_FILE, *FREE_FILES["T0/00/run_02"], *FREE_FILES["T1/01/run_01"]} <= {*written}
    assert not any("/judge_" in name for name in written)


def test_scylla_select_repairs_one_slot(damaged: Project) -> None:
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", "--scylla-select=T1/02/run_01/judge_02")
    assert result.ret == 0
    assert _words(result) == {"repaired": 1}
    assert _changed(before, tree(damaged.experiment)) == FREE_FILES["T1/02/run_01/judge_02"]


def test_what_is_deselected_is_not_repaired(damaged: Project) -> None:
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", *(f"--deselect={item}" for item in ("exp/T1", *node_ids([WARNED, *WHOLES]))))
    assert result.ret == 0
    assert _words(result) == {"passed": 6, "repaired": 1, "deselected": len(item_ids()) - 7}
    assert _changed(before, tree(damaged.experiment)) == FREE_FILES["T0/00/run_02"]


def test_a_slot_that_was_not_selected_is_not_restored_on_behalf_of_its_run(project: Project) -> None:
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    lose_judgment(project.experiment, "T0/00/run_01/judge_03")
    project.audit("--repair", "--deselect", node_id("T0/00/run_01/judge_01"))
    assert not judgment_of(project.experiment, "T0/00/run_01/judge_01").exists()
    assert judgment_of(project.experiment, "T0/00/run_01/judge_03").exists()


@pytest.mark.parametrize(("args", "failures"), [(("-x",), 1), (("--maxfail=2",), 2)])
def test_stopping_early_leaves_the_rest_as_it_is(damaged: Project, args: tuple[str, ...], failures: int) -> None:
    lose_run(damaged.experiment, "T0/00/run_01")
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", *args)
    assert result.ret == 1
    assert _words(result) == {"failed": failures}
    assert tree(damaged.experiment) == before


def test_a_repaired_item_does_not_count_as_a_failure_to_stop_at(damaged: Project) -> None:
    assert damaged.audit("--repair", "-x").ret == 0


SELECTIONS: list[tuple[str, ...]] = [
    ("-k", "judge_01"),
    ("-m", "scylla_run"),
    ("-m", "scylla_judge"),
    ("--scylla-select=T1/01/run_02/judge_01",),
    ("-x",),
    ("--maxfail=2",),
    ("--deselect", "exp/T1/01"),
    ("--repair-status=run:results",),
]


@pytest.mark.parametrize("args", SELECTIONS, ids=" ".join)
def test_repairs_of_parts_end_where_one_repair_of_everything_does(
    empty_project: Project, pristine_experiment: Path, args: tuple[str, ...]
) -> None:
    def damaged_anew() -> None:
        root = empty_project.copy(pristine_experiment, "exp")
        damaged_for_free(root)
        lose_run(root, "T1/02/run_02")
        for name in ("judge/result.json", "run_result.json"):
            (root / "T1/02/run_01" / name).unlink()

    damaged_anew()
    assert empty_project.audit("--repair").ret == 1
    end = tree(empty_project.experiment)
    shutil.rmtree(empty_project.experiment)
    damaged_anew()
    empty_project.audit("--repair", *args)
    assert empty_project.audit("--repair").ret == 1
    found = tree(empty_project.experiment)
    differing = _changed(end, found)
    assert not [file for file in differing if "/run_" in file]
    for file in differing:  # the checkpoint and reports say when they were written
        assert _without_times(end[file].content) == _without_times(found[file].content)


def _without_times(content: bytes) -> bytes:
    return re.sub(rb"\d{4}-\d\d-\d\dT[0-9:.]+(\+00:00|Z)", b"then", content)


# What a person reads


def test_before_and_after_stand_side_by_side(damaged: Project) -> None:
    lines = damaged.audit("--repair").outlines
    start = next(number for number, line in enumerate(lines) if line.split() == ["before", "after"])
    table = [line.split() for line in lines[start:]]
    runs, slots = table.index(["runs,", "6", "expected"]), table.index(["judge", "slots,", "18", "expected"])
    assert ["completed", "3", "6", "+3"] in table[runs:slots]
    assert ["results", "3", "0", "-3"] in table[runs:slots]
    assert ["complete", "16", "18", "+2"] in table[slots:]
    assert ["failed", "2", "0", "-2"] in table[slots:]


def test_where_nothing_was_repaired_the_summary_is_an_audits(project: Project) -> None:
    never_begin(project.experiment, "T0/00/run_01")
    audit, repair = project.audit().stdout.str(), project.audit("--repair").stdout.str()
    for label in ("runs", "judge slots"):
        assert summary_line(repair, label) == summary_line(audit, label)


def test_it_says_where_what_was_replaced_is(damaged: Project) -> None:
    result = damaged.audit("--repair")
    (place,) = [place for place, line in enumerate(result.outlines) if "exp/.scylla/quarantine" in line]
    assert "exp/.scylla/journal" in " ".join(result.outlines[place : place + 2])
    assert any(line.startswith("rebuilt 7 files in 5 runs") for line in result.outlines)


def test_every_rebuilt_file_is_named_with_v(damaged: Project) -> None:
    files = [WARNED_FILE, *(file for files in FREE_FILES.values() for file in files)]
    listed = re.findall(r"^  rebuilt (\S+) from", damaged.audit("--repair", "-v").stdout.str(), re.MULTILINE)
    assert sorted(listed) == sorted(files)


def test_quiet_is_short(damaged: Project) -> None:
    result = damaged.audit("--repair", "-q")
    assert result.ret == 0
    lines = [line for line in result.outlines if line]
    assert len(lines) <= 14
    assert any(line.startswith("rebuilt 7 files") for line in lines)
    assert summary_line(result.stdout.str(), "runs")["completed"] == 6


def test_quieter_still_is_one_line_of_letters_and_one_of_numbers(damaged: Project) -> None:
    result = damaged.audit("--repair", "-qq")
    assert result.ret == 0
    assert len([line for line in result.outlines if line]) <= 2


def test_many_failing_items_are_listed_by_cause_and_no_repaired_one(wide_project: Project) -> None:
    plan = WIDE
    runs = list(run_ids(plan))
    for run in runs[:8]:
        lose_run(wide_project.experiment, run)
    lose_run_result(wide_project.experiment, runs[8])
    lose_judgment(wide_project.experiment, f"{runs[9]}/judge_02")
    result = wide_project.audit("--repair")
    assert result.ret == 1
    assert _words(result) == {"failed": 32, "passed": 14, "repaired": 4}
    text = result.stdout.str()
    listing = text[text.index("items are not sound, by cause") :]
    assert "8 runs missing: run-missing, with 24 judge slots that wait for them" in listing
    listing = listing[: listing.index("before")]
    assert runs[8] not in listing
    assert runs[9] not in listing
    assert "not sound: 32 items for which the agent has to run again" in result.outlines


def test_a_plan_for_more_than_thirty_files_is_counted_and_listed_on_demand(wide_project: Project) -> None:
    for item_id in counted_ids(WIDE):
        if item_id.endswith(("judge_01", "judge_02")) or "/judge_" not in item_id:
            (lose_judgment if "/judge_" in item_id else lose_run_result)(wide_project.experiment, item_id)
    result = wide_project.audit("--repair-plan")
    assert "38 items are not sound, by cause" in result.stdout.str()
    assert not any(line.startswith("  would rebuild") for line in result.outlines)
    result.stdout.re_match_lines(
        [r"would rebuild 36 files in 12 runs", r".*\b24 judgment\.json", r".*\b12 run_result\.json"]
    )
    listed = [
        line for line in wide_project.audit("--repair-plan", "-v", "--tb=no").outlines if "would rebuild T" in line
    ]
    assert len(listed) == 36


def test_more_than_thirty_items_are_repaired_in_silence(wide_project: Project) -> None:
    for item_id in counted_ids(WIDE):
        if not item_id.endswith("judge_03"):
            (lose_judgment if "/judge_" in item_id else lose_run_result)(wide_project.experiment, item_id)
    result = wide_project.audit("--repair")
    assert result.ret == 0
    assert _words(result) == {"passed": 12, "repaired": 38}
    assert "by cause" not in result.stdout.str()
    assert len(result.outlines) < 30


def _assert_harmless(text: str) -> None:
    for part in ("\x1b", "\x07", "\x9b", "\u202e", "::error", "##[", "##vso"):
        assert part not in text


@pytest.mark.parametrize("args", [("--repair", "-vv", "-rA"), ("--repair-plan",), ("--repair-plan", "-vv")])
def test_hostile_text_never_reaches_the_terminal(damaged: Project, args: tuple[str, ...]) -> None:
    experiment = damaged.experiment
    edit_config(experiment, judge_models=[NASTY, f"{NASTY}2", f"{NASTY}3"], task_repo=NASTY, experiment_id=NASTY)
    edit_json(judgment_of(experiment, "T0/00/run_01/judge_01"), fallback=True, fallback_reason=NASTY)
    edit_json(judgment_of(experiment, "T0/00/run_02/judge_01"), score=NASTY)
    edit_json(judgment_of(experiment, "T0/00/run_02/judge_02"), reasoning=NASTY, passed="no")
    edit_json(run_result_of(experiment, "T1/02/run_02"), judge_reasoning=NASTY, judge_grade=NASTY, exit_code=NASTY)
    result = damaged.audit(*args, REPORT, "--junitxml=junit.xml")
    _assert_harmless(printed(result))
    assert "INTERNALERROR" not in printed(result)
    assert experiment_of_repair(damaged)["repairs"]["regenerated"] or "--repair" not in args
    (damaged.path / "junit.xml").read_text("utf-8")


def test_a_hostile_name_of_the_experiment_is_not_printed_as_it_is(
    empty_project: Project, pristine_experiment: Path
) -> None:
    name = "exp\x1b[31m::error::\u202e"
    damaged_for_free(empty_project.copy(pristine_experiment, name))
    result = empty_project.run(f"--scylla-exp={name}", "--repair", "-v")
    assert result.ret == 0
    _assert_harmless(printed(result))


def test_a_hostile_reason_of_a_runner_at_work_is_not_printed_as_it_is(damaged: Project) -> None:
    _running(damaged, os.getpid(), 3)
    (damaged.path / "exp").rename(damaged.path / "exp\x1b[31m::error::")
    result = damaged.run("--scylla-exp=exp\x1b[31m::error::", "--repair")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    _assert_harmless(printed(result))


# A reason of the place


def test_a_file_in_the_place_of_what_repairs_keep_fails_what_was_to_be_repaired(damaged: Project) -> None:
    (damaged.experiment / KEEPING).write_text("mine")
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair")
    assert result.ret == 1
    assert sorted(with_outcome(result, "failed")) == sorted(node_ids(FREE_ITEMS))
    assert "run_result.json failed: .scylla: " in result.stdout.str()
    assert snapshot(damaged.experiment) == before


def test_after_what_was_in_the_way_is_gone_the_next_repair_does_it(damaged: Project) -> None:
    (damaged.experiment / KEEPING).write_text("mine")
    assert damaged.audit("--repair").ret == 1
    (damaged.experiment / KEEPING).unlink()
    assert damaged.audit("--repair").ret == 0


def test_a_damaged_journal_and_quarantine_do_not_keep_a_repair_from_its_work(damaged: Project) -> None:
    for name in ("journal", "quarantine", "locks", "staging"):
        (damaged.experiment / KEEPING / name).mkdir(parents=True)
    (damaged.experiment / KEEPING / "journal" / "other-1.jsonl").write_bytes(b"{\xff\n" + json.dumps([]).encode())
    (damaged.experiment / KEEPING / "quarantine" / "zz").write_bytes(b"\0")
    assert damaged.audit("--repair").ret == 0
