"""What decides about a session beside its items: requirements, and a comparison with an earlier report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from .judges import ScriptedJudge
from .support import (
    NASTY,
    Project,
    assert_usage_error,
    counted_ids,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    item_ids,
    judgment_of,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    outcomes,
    printed,
    snapshot,
    without_times,
)

REPORT = "--scylla-report=report.json"
TOTAL = len(item_ids())
HALF = "--scylla-require=min-runs=50%"


def gate_lines(result: pytest.RunResult) -> list[str]:
    """What a session printed below the gate's title."""
    titles = [index for index, line in enumerate(result.outlines) if line.strip("= ") == "gate"]
    if not titles:
        return []
    (first,) = titles
    return result.outlines[first + 1 : -1]


def requirements(project: Project) -> list[dict[str, Any]]:
    """The requirements of the one experiment of a report."""
    found: list[dict[str, Any]] = project.only_experiment()["requirements"]
    return found


# Requirements


def test_items_may_fail_if_every_requirement_holds(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit(
        "--scylla-require=min-runs=4", "--scylla-require=min-slots=77%", "--scylla-require=max-fallback=0%", REPORT
    )
    assert result.ret == 0
    assert list(outcomes(result).values()).count("failed") == len(failing)
    assert gate_lines(result) == [
        "min-runs=4: 4 of 6 completed, 66.66%: holds",
        "min-slots=77%: 14 of 18 complete, 77.77%: holds",
        "max-fallback=0%: 0 of 14 fallback, 0%: holds",
        f"{len(failing)} items are not sound, and every requirement holds: exit code 0",
    ]
    assert [found["holds"] for found in requirements(project)] == [True] * 3
    assert project.report()["exit_bits"] == 4
    assert project.only_experiment()["completeness"] < 1


def test_one_requirement_that_does_not_hold_fails_the_session(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    result = project.audit("--scylla-require=min-runs=66%", "--scylla-require=min-slots=78%", REPORT)
    assert result.ret == 1
    assert gate_lines(result) == [
        "min-runs=66%: 4 of 6 completed, 66.66%: holds",
        "min-slots=78%: 14 of 18 complete, 77.77%: does not hold, 1 too few",
    ]
    assert requirements(project)[1] == {
        "requirement": "min-slots=78%",
        "count": 14,
        "of": 18,
        "percent": pytest.approx(77.7778, abs=1e-3),
        "holds": False,
        "reason": None,
    }


def test_a_session_of_items_that_pass_fails_by_a_requirement_that_does_not_hold(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), fallback=True)
    assert project.audit("--scylla-require=max-fallback=1").ret == 0
    result = project.audit("--scylla-require=max-fallback=5%")
    assert result.ret == 1
    assert set(outcomes(result).values()) == {"passed"}
    assert gate_lines(result) == ["max-fallback=5%: 1 of 18 fallback, 5.56%: does not hold, 1 too many"]


def test_only_complete_slots_count_as_fallbacks(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), fallback=True)
    lose_run(project.experiment, "T0/00/run_02")
    shutil.copytree(project.experiment / "T0/00/run_01", project.experiment / "T0/00/run_02")
    result = project.audit("--scylla-require=max-fallback=1", REPORT)
    assert result.ret == 0
    assert project.only_experiment()["after"]["judge_slots"]["conflict"] == 3
    assert gate_lines(result)[0] == "max-fallback=1: 1 of 15 fallback, 6.67%: holds"
    project.write("pytest.ini", "[pytest]\nscylla_fallback = fail\n")
    (line, *_) = gate_lines(project.audit("--scylla-require=max-fallback=0"))
    assert line == "max-fallback=0: 0 of 14 fallback, 0%: holds"


def test_a_healthy_experiment_meets_everything(project: Project) -> None:
    result = project.audit(
        "--scylla-require=min-runs=100%", "--scylla-require=min-slots=100%", "--scylla-require=max-fallback=0"
    )
    assert result.ret == 0
    assert [line.rpartition(": ")[2] for line in gate_lines(result)] == ["holds"] * 3


def test_each_experiment_has_to_meet_every_requirement(project: Project, pristine_experiment: Path) -> None:
    other = project.copy(pristine_experiment, "other")
    lose_run_result(other, "T0/00/run_01")
    assert project.audit("--scylla-exp=other", HALF).ret == 0
    result = project.audit("--scylla-exp=other", "--scylla-require=min-runs=100%", REPORT)
    assert result.ret == 1
    assert gate_lines(result) == [
        "exp: min-runs=100%: 6 of 6 completed, 100%: holds",
        "other: min-runs=100%: 5 of 6 completed, 83.33%: does not hold, 1 too few",
    ]
    assert [part["requirements"][0]["holds"] for part in project.report()["experiments"]] == [True, False]


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_requirements_are_the_same_with_workers(project: Project, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(project.experiment)
    assert project.audit(HALF, *args, REPORT).ret == 0
    assert project.audit("--scylla-require=min-runs=100%", *args).ret == 1
    assert requirements(project)[0]["count"] == 4


def test_requirements_are_about_what_a_repair_leaves(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    lose_run(project.experiment, "T0/00/run_02")
    everything = "--scylla-require=min-runs=5"
    assert project.audit(everything, "--repair-plan").ret == 1
    result = project.audit(everything, "--repair")
    assert result.ret == 0
    assert "min-runs=5: 5 of 6 completed, 83.33%: holds" in gate_lines(result)


def test_what_a_limit_left_for_the_next_session_may_fail_as_well(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, "T0/00/run_01/judge_01")
    args = ("--repair", "--repair-max-calls=0")
    assert project.audit(*args).ret == 1
    assert project.audit(*args, "--scylla-require=min-slots=17").ret == 0
    assert judge.calls == []


def test_without_a_requirement_items_decide(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    result = project.audit(REPORT)
    assert result.ret == 1
    assert gate_lines(result) == []
    assert "requirements" not in project.only_experiment()


def test_the_form_without_an_equals_sign_works_as_well(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    result = project.audit("--scylla-require", "min-runs=5", "--scylla-require", "max-fallback=1%")
    assert result.ret == 0
    assert gate_lines(result)[1] == "max-fallback=1%: 0 of 18 fallback, 0%: holds"


# Nothing else is forgiven

COUNTING = """\
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    result = yield
    session.testsfailed += 1
    return result
"""
"""A plugin that fails the session for a reason of its own, as one that measures coverage does."""


def test_the_failure_of_another_test_is_not_forgiven(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.write("test_a.py", "def test_one():\n    assert False\n")
    result = project.audit("test_a.py", HALF)
    assert result.ret == 1
    assert gate_lines(result) == ["min-runs=50%: 4 of 6 completed, 66.66%: holds"]
    project.write("test_a.py", "def test_one():\n    pass\n")
    assert project.audit("test_a.py", HALF).ret == 0


@pytest.mark.parametrize(
    "conftest",
    [
        pytest.param("def pytest_runtest_setup(item):\n    assert 'run_01::run' not in item.nodeid\n", id="setup"),
        pytest.param(
            "def pytest_runtest_teardown(item):\n    assert 'run_01::run' not in item.nodeid\n", id="teardown"
        ),
        pytest.param("def pytest_runtest_call(item):\n    assert 'T1/01/run_01::run' not in item.nodeid\n", id="call"),
        pytest.param(COUNTING, id="another-plugin"),
    ],
)
@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_an_error_of_somebody_else_is_not_forgiven(project: Project, conftest: str, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(project.experiment)
    project.write("conftest.py", conftest)
    result = project.audit_apart(HALF, *args)
    assert result.ret == 1, printed(result)
    assert "exit code 0" not in printed(result)


def test_an_error_of_a_projects_own_fixture_is_not_forgiven(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    project.write(
        "conftest.py",
        "import pytest\n\n\n@pytest.fixture\ndef scylla_regenerate():\n"
        "    def regenerate(request):\n        raise RuntimeError('broken')\n    return regenerate\n",
    )
    result = project.audit("--repair", HALF)
    assert result.ret == 1
    assert "broken" in result.stdout.str()


def test_a_test_file_that_cannot_be_collected_is_not_forgiven(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.write("test_a.py", "import no_such_module\n")
    assert project.audit("test_a.py", HALF).ret == pytest.ExitCode.INTERRUPTED
    assert project.audit("test_a.py", HALF, "--continue-on-collection-errors").ret == 1


def test_an_item_whose_worker_died_is_not_forgiven(project: Project) -> None:
    project.write(
        "conftest.py",
        "import os\n\n\ndef pytest_runtest_call(item):\n"
        "    if item.nodeid == 'exp/T1/01/run_01::judge_02':\n        os._exit(3)\n",
    )
    assert project.audit_apart(HALF, "-n", "2").ret == 1


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("raise KeyboardInterrupt", 2),
        ("pytest.exit('enough', returncode=7)", 7),
        ("pytest.exit('enough', returncode=1)", 1),
        ("raise SystemExit(0)", 3),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_session_that_somebody_ended_keeps_its_exit_code(
    project: Project, ending: str, code: int, last: bool
) -> None:
    damaged_in_several_ways(project.experiment)
    where = "exp/checkpoint::checkpoint" if last else "exp/T1/01/run_01::run"
    project.write(
        "conftest.py",
        f"import pytest\n\n\ndef pytest_runtest_logfinish(nodeid):\n    if nodeid == {where!r}:\n        {ending}\n",
    )
    assert project.audit_apart(HALF).ret == code


def test_a_report_that_cannot_be_written_is_not_forgiven(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    (project.path / "out").mkdir()
    project.write(
        "conftest.py",
        "import os\n\n\ndef pytest_runtest_logfinish():\n    if os.path.isdir('out'):\n"
        "        os.rmdir('out')\n        open('out', 'w').close()\n",
    )
    result = project.audit(HALF, "--scylla-report=out/report.json")
    assert result.ret == 1
    assert "report not written" in result.stdout.str()


# All or nothing


@pytest.mark.parametrize(
    ("args", "left", "words"),
    [
        (("-k", "T0"), TOTAL - 8, "(-k)"),
        (("-k", "T0", "-n", "2"), TOTAL - 8, "(-k)"),
        (("-m", "scylla_run"), TOTAL - 6, "(-m)"),
        (("--deselect", "exp/T1/01/run_01::run"), 1, "(--deselect)"),
        (("--deselect", "exp/checkpoint"), 1, "(--deselect)"),
    ],
)
def test_a_requirement_of_a_part_of_the_experiment_is_refused(
    project: Project, args: tuple[str, ...], left: int, words: str
) -> None:
    result = project.audit("--scylla-require=min-runs=0", *args, REPORT)
    assert result.ret == 1
    (line,) = gate_lines(result)
    assert line.endswith(f"refused, {left} of {TOTAL} items did not run {words}")
    (found,) = requirements(project)
    assert (found["holds"], found["reason"]) == (None, f"{left} of {TOTAL} items did not run {words}")


def test_last_failed_is_a_part_as_well(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    assert project.audit(HALF).ret == 0
    result = project.audit(HALF, "--lf")
    assert result.ret == 1
    assert gate_lines(result)[0].endswith("(--lf)")


def test_stopping_at_a_failure_is_refused_unless_it_was_the_last_item(project: Project) -> None:
    lose_run_result(project.experiment, "T1/02/run_01")
    assert project.audit(HALF, "-x").ret == 1
    assert gate_lines(project.audit(HALF, "--maxfail=1"))[0].endswith("(-x or --maxfail)")
    assert project.audit(HALF, "--maxfail=3").ret == 0


def test_what_a_conftest_or_a_sharding_plugin_leaves_out_is_noticed(project: Project) -> None:
    project.write("conftest.py", "def pytest_collection_modifyitems(items):\n    del items[::2]\n")
    result = project.audit(HALF)
    assert result.ret == 1
    (line,) = gate_lines(result)
    assert line.endswith(f"refused, {(TOTAL + 1) // 2} of {TOTAL} items did not run")


def test_what_somebody_skips_did_not_run(project: Project) -> None:
    project.write(
        "conftest.py",
        "import pytest\n\n\ndef pytest_runtest_setup(item):\n"
        "    if item.nodeid.endswith('T0/00/run_01::run'):\n        pytest.skip('not today')\n",
    )
    assert gate_lines(project.audit(HALF))[0].endswith(f"refused, 1 of {TOTAL} items did not run")


def test_a_selection_that_matches_nothing_keeps_its_exit_code(project: Project) -> None:
    assert project.audit(HALF, "-k", "no_such_thing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_requirement_of_an_experiment_that_nobody_knows_whole_is_refused(project: Project) -> None:
    edit_config(project.experiment, tiers_to_run=["T0", "T1", "T2"])
    result = project.audit("--scylla-require=min-runs=0")
    assert result.ret == 1
    assert gate_lines(result)[0].endswith("refused, nothing says which subtests T2 has")


def test_select_and_require_contradict_each_other_on_a_command_line(project: Project) -> None:
    line = assert_usage_error(project.audit(HALF, "--scylla-select=T0/*"), "--scylla-require", "--scylla-select=T0/*")
    assert "leave out" in line


def test_a_requirement_of_the_ini_file_lets_a_person_look_at_one_item_and_is_refused(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    project.write("pytest.ini", "[pytest]\nscylla_require =\n    min-runs=50%\n    max-fallback=0\n")
    assert project.audit().ret == 0
    result = project.audit("--scylla-select=T0/00/run_01")
    assert result.ret == 1
    assert "repair: free" in result.stdout.str()
    assert all(line.endswith("(--scylla-select)") for line in gate_lines(result))


def test_the_command_line_goes_before_the_requirements_of_the_ini_file(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    project.write("pytest.ini", "[pytest]\nscylla_require = min-runs=100%\n")
    assert project.audit().ret == 1
    result = project.audit("--scylla-require=max-fallback=0")
    assert result.ret == 0
    assert gate_lines(result)[0].startswith("max-fallback=0: ")


# What cannot be required


@pytest.mark.parametrize(
    "text", ["min-runs", "min-runs=101%", "max-runs=5", "min-runs=99.12345678%", f"min-runs={NASTY}"]
)
def test_a_requirement_that_says_nothing_is_refused(project: Project, text: str) -> None:
    line = assert_usage_error(project.audit(f"--scylla-require={text}"), "--scylla-require: expected ")
    assert line.isprintable()
    if "\x1b" not in text:
        project.write("pytest.ini", f"[pytest]\nscylla_require = {text}\n")
        assert_usage_error(project.audit(), "ini option scylla_require: expected ")


def test_a_kind_twice_is_refused(project: Project) -> None:
    assert_usage_error(project.audit(HALF, "--scylla-require=min-runs=3"), "every kind once")


def test_nothing_is_concluded_by_a_session_that_only_collects(project: Project) -> None:
    result = project.audit("--scylla-require=min-runs=7", "--co", "-q")
    assert result.ret == 0
    assert "does not hold" not in printed(result)
    assert_usage_error(project.audit("--scylla-require=min-runs", "--co"), "--scylla-require")


# How much is printed


@pytest.mark.parametrize(("args", "lines"), [(("-v",), 2), ((), 2), (("-q",), 2), (("-qq",), 1)])
def test_what_does_not_hold_is_told_however_quiet_it_is(project: Project, args: tuple[str, ...], lines: int) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    result = project.audit("--scylla-require=min-runs=100%", "--scylla-require=max-fallback=0", *args)
    assert result.ret == 1
    found = [line for line in result.outlines if line.startswith(("min-runs=100%: ", "max-fallback=0: "))]
    assert len(found) == lines
    assert found[0].endswith("does not hold, 1 too few")


def test_without_a_terminal_the_exit_code_is_the_same(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    assert project.audit_apart("-p", "no:terminal", HALF).ret == 0
    assert project.audit_apart("-p", "no:terminal", "--scylla-require=min-runs=100%").ret == 1


# The baseline


@pytest.fixture
def baseline(project: Project) -> Path:
    """A report of the healthy experiment."""
    assert project.audit("--scylla-report=old.json").ret == 0
    return project.path / "old.json"


OLD = "--scylla-baseline=old.json"


def changed_ids(part: dict[str, Any], kind: str) -> list[str]:
    """The items of one list of a comparison."""
    return [change["id"] for change in part["compared"][kind]]


def test_nothing_changed(project: Project, baseline: Path) -> None:
    result = project.audit(OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 0
    when = json.loads(baseline.read_text())["generated_at"]
    assert gate_lines(result) == [
        f"compared with old.json of {when}: nothing changed",
        "ratchet: nothing is worse: holds",
    ]
    assert project.only_experiment()["compared"] == {
        "baseline": "old.json",
        "generated_at": when,
        **{kind: [] for kind in ("better", "worse", "changed", "scores", "new", "absent")},
        "not_compared": 0,
        "ratchet": {"holds": True, "reason": None},
    }


def test_what_became_worse_is_told_item_by_item(project: Project, baseline: Path) -> None:
    failing = damaged_in_several_ways(project.experiment)
    edit_json(judgment_of(project.experiment, "T1/01/run_02/judge_01"), fallback=True)
    result = project.audit(OLD, REPORT)
    part = project.only_experiment()
    assert sorted(changed_ids(part, "worse")) == sorted([*failing, "T1/01/run_02/judge_01"])
    assert part["compared"]["better"] == part["compared"]["absent"] == []
    assert part["compared"]["ratchet"] is None
    lines = gate_lines(result)
    assert lines[0].endswith(f": {len(failing) + 1} worse")
    assert "  worse   T1/01/run_01: completed -> results" in lines
    assert "  worse   T1/01/run_02/judge_01: complete -> complete, fallback" in lines
    assert "  worse   checkpoint: sound -> stale" in lines
    assert "  worse   aggregates: sound -> stale" in lines


def test_what_became_better_is_told_and_a_repair_makes_it_so(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    lose_judgment(project.experiment, "T1/01/run_01/judge_02")
    project.audit("--scylla-report=old.json")
    result = project.audit(OLD, "--repair", "--scylla-ratchet", REPORT)
    assert result.ret == 0
    assert gate_lines(result)[0].endswith(": 2 better")
    part = json.loads((project.path / "report.json").read_text())["experiments"][0]
    assert changed_ids(part, "better") == ["T0/00/run_01", "T1/01/run_01/judge_02"]


def test_scores_that_changed_are_told_and_fail_nothing(project: Project, baseline: Path) -> None:
    report = json.loads(baseline.read_text())
    run = report["experiments"][0]["runs"][0]
    was, run["score"] = run["score"], 1.0
    baseline.write_text(json.dumps(report))
    result = project.audit(OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 0
    assert f"  scores  T0/00/run_01: 1 -> {was:g}" in gate_lines(result)
    assert project.only_experiment()["compared"]["scores"] == [{"id": "T0/00/run_01", "before": 1.0, "after": was}]


def test_runs_that_nobody_expects_any_more_are_worse(project: Project, baseline: Path) -> None:
    edit_config(project.experiment, runs_per_subtest=1)
    result = project.audit(OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 1
    part = project.only_experiment()
    assert len(part["compared"]["absent"]) == len(counted_ids()) / 2
    assert set(part["compared"]["absent"]) <= set(changed_ids(part, "worse"))


def test_new_runs_are_told_and_worse_where_they_are_not_sound(project: Project, baseline: Path) -> None:
    edit_config(project.experiment, runs_per_subtest=3)
    result = project.audit(OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 1
    part = project.only_experiment()
    assert [found for found in part["compared"]["new"] if "judge" not in found] == [
        f"{subtest}/run_03" for subtest in ("T0/00", "T1/01", "T1/02")
    ]
    assert set(part["compared"]["new"]) <= set(changed_ids(part, "worse"))
    assert any(line.startswith("  worse   T0/00/run_03: not expected -> missing") for line in gate_lines(result))


# The ratchet


def test_the_ratchet_fails_a_session_by_anything_that_is_worse(project: Project, baseline: Path) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_01"), fallback=True)
    assert project.audit(OLD).ret == 0
    result = project.audit(OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 1
    assert set(outcomes(result).values()) == {"passed"}
    assert gate_lines(result)[-1] == "ratchet: 1 item is worse: does not hold"
    assert project.only_experiment()["compared"]["ratchet"] == {"holds": False, "reason": None}


def test_with_a_requirement_the_ratchet_lets_old_damage_pass_and_no_new(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    project.audit("--scylla-report=old.json")
    assert project.audit(OLD, "--scylla-ratchet").ret == 1
    args = (OLD, "--scylla-ratchet", HALF)
    assert project.audit(*args).ret == 0
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    result = project.audit(*args)
    assert result.ret == 1
    assert "ratchet: 1 item is worse: does not hold" in gate_lines(result)


def test_the_ratchet_of_a_part_is_refused_and_the_comparison_is_of_that_part(project: Project, baseline: Path) -> None:
    result = project.audit(OLD, "--scylla-ratchet", "-k", "T0", REPORT)
    assert result.ret == 1
    left = f"{TOTAL - 8} of {TOTAL} items did not run (-k)"
    assert gate_lines(result)[-1] == f"ratchet: refused, {left}"
    assert project.only_experiment()["compared"]["ratchet"] == {"holds": None, "reason": left}
    assert project.only_experiment()["compared"]["not_compared"] == len(counted_ids()) - 8
    assert project.audit(OLD, "-k", "T0").ret == 0
    assert_usage_error(project.audit(OLD, "--scylla-ratchet", "--scylla-select=T0/*"), "--scylla-ratchet")
    assert project.audit(OLD, "--scylla-select=T0/*").ret == 0


def test_the_ratchet_is_refused_where_the_baseline_is_of_a_part(project: Project) -> None:
    project.audit("-k", "T0", "--scylla-report=old.json")
    result = project.audit(OLD, "--scylla-ratchet")
    assert result.ret == 1
    assert gate_lines(result)[-1] == f"ratchet: refused, {len(counted_ids()) - 8} items cannot be compared"
    assert project.audit(OLD).ret == 0


def test_the_ratchet_needs_a_baseline(project: Project) -> None:
    assert_usage_error(project.audit("--scylla-ratchet"), "--scylla-ratchet", "--scylla-baseline=REPORT.json")
    project.write("pytest.ini", "[pytest]\nscylla_ratchet = true\n")
    assert_usage_error(project.audit(), "ini option scylla_ratchet")


def test_baseline_and_ratchet_have_ini_twins(project: Project, baseline: Path) -> None:
    (project.path / "kept").mkdir()
    baseline.rename(project.path / "kept" / "old.json")
    project.write("pytest.ini", "[pytest]\nscylla_baseline = kept/old.json\nscylla_ratchet = true\n")
    (project.path / "sub").mkdir()
    assert project.audit(cwd=project.path / "sub").ret == 0
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    result = project.audit(HALF, cwd=project.path / "sub")
    assert result.ret == 1
    assert gate_lines(result)[-1] == "ratchet: 1 item is worse: does not hold"


@pytest.mark.parametrize(
    "args",
    [
        ("--scylla-report=old.json", OLD, "--scylla-ratchet"),
        ("--scylla-report=page.html", "--scylla-report=./old.json", OLD, "--scylla-ratchet"),
        ("--scylla-report=sub/../old.json", OLD, "--scylla-ratchet"),
        ("--scylla-report=there/old.json", OLD, "--scylla-ratchet"),
        ("--scylla-report=old.json", "--scylla-baseline=link.json", "--scylla-ratchet"),
        ("--scylla-report=link.json", OLD, "--scylla-ratchet"),
        ("--scylla-report=old.json", OLD, "--scylla-ratchet", "-n", "2"),
    ],
    ids=" ".join,
)
def test_a_ratchet_does_not_write_its_report_over_its_baseline(
    project: Project, baseline: Path, args: tuple[str, ...]
) -> None:
    (project.path / "sub").mkdir()
    (project.path / "there").symlink_to(".")
    (project.path / "link.json").symlink_to("old.json")
    before = baseline.read_bytes()
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    result = project.audit(*args)
    assert_usage_error(result, "--scylla-report: ", "that is the baseline", "Write the report to another place")
    assert baseline.read_bytes() == before


def test_the_ratchets_baseline_and_report_are_two_files_in_the_ini_file_as_well(
    project: Project, baseline: Path
) -> None:
    ini = "[pytest]\nscylla_baseline = old.json\nscylla_report = old.json\n"
    project.write("pytest.ini", f"{ini}scylla_ratchet = true\n")
    assert_usage_error(project.audit(), "ini option scylla_report: ", "that is the baseline old.json")
    assert project.audit(REPORT).ret == 0
    project.write("pytest.ini", ini)
    assert_usage_error(project.audit("--scylla-ratchet"), "ini option scylla_report: ")


def test_without_a_ratchet_a_report_can_be_its_own_successor(project: Project) -> None:
    args = ("--scylla-baseline=report.json", REPORT)
    assert project.audit(REPORT).ret == 0
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    assert project.audit(*args).ret == 1
    assert changed_ids(project.only_experiment(), "worse") == ["T0/00/run_01/judge_01"]


@pytest.mark.parametrize("args", [("-n", "2")])
def test_a_comparison_is_the_same_with_workers(project: Project, baseline: Path, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(project.experiment)
    project.audit(OLD, "--scylla-ratchet", HALF, REPORT)
    alone = without_times(project.report())
    project.audit(OLD, "--scylla-ratchet", HALF, REPORT, *args)
    assert without_times(project.report()) == alone


def test_each_experiment_is_compared_with_its_own_part(project: Project, staged_experiment: Path) -> None:
    other = project.copy(staged_experiment, "other")
    edit_config(other, experiment_id="another")
    assert project.audit("--scylla-exp=other", "--scylla-report=old.json").ret == 0
    edit_json(other / "completed/T0/00/run_01/judge/judge_01/judgment.json", fallback=True)
    result = project.audit("--scylla-exp=other", OLD, "--scylla-ratchet", REPORT)
    assert result.ret == 1
    first, second = project.report()["experiments"]
    assert (changed_ids(first, "worse"), changed_ids(second, "worse")) == ([], ["T0/00/run_01/judge_01"])
    assert [line for line in gate_lines(result) if "ratchet" in line] == [
        "exp: ratchet: nothing is worse: holds",
        "other: ratchet: 1 item is worse: does not hold",
    ]
    assert project.run("--scylla-exp=other", OLD).ret == 0


# How much of a comparison is printed


def test_long_lists_are_shortened_unless_v_asks_for_all(wide_project: Project) -> None:
    assert wide_project.audit("--scylla-report=old.json").ret == 0
    for subtest in ("T0/00", "T0/01"):
        for run in ("run_01", "run_02"):
            lose_run(wide_project.experiment, f"{subtest}/{run}")
    usual, quiet, verbose = (gate_lines(wide_project.audit(OLD, *args)) for args in ((), ("-q",), ("-v",)))
    assert len([line for line in usual if line.startswith("  worse")]) == 10
    assert usual == quiet
    assert "          and 8 more; -v lists them" in usual
    assert len([line for line in verbose if line.startswith("  worse")]) == 18
    assert not gate_lines(wide_project.audit(OLD, "-qq"))


# Which report is believed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "/version: expected 1, found 2"),
        ({"experiments": []}, 'expected a report on experiment "synthetic-small", found none'),
        ({"format": "other"}, "/format"),
    ],
)
def test_a_report_that_nothing_can_be_compared_with_is_refused(
    project: Project, baseline: Path, change: dict[str, Any], words: str
) -> None:
    edit_json(baseline, **change)
    assert_usage_error(project.audit(OLD), "old.json", words, "Name a report")


def test_a_report_of_another_experiment_is_refused(project: Project, baseline: Path) -> None:
    edit_config(project.experiment, experiment_id=f"another {NASTY}")
    line = assert_usage_error(project.audit(OLD), "old.json", "another", '"synthetic-small"')
    assert line.isprintable()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1, "a": 2}', "null", "[" * 5000])
def test_a_malformed_report_is_refused(project: Project, text: str) -> None:
    project.write("old.json", text)
    assert_usage_error(project.audit(OLD), "old.json", "Name a report")


def test_what_is_no_file_is_refused(project: Project) -> None:
    os.mkfifo(project.path / "pipe.json")
    for name in ("none.json", "exp/../nowhere/old.json", "pipe.json", "."):
        assert_usage_error(project.audit(f"--scylla-baseline={name}"), f"{name}: ")
    assert_usage_error(project.audit("--scylla-baseline="), "--scylla-baseline= names no file")


@pytest.mark.parametrize("name", ["exp/old.json", "link/old.json", "link.json"])
def test_a_report_inside_an_experiment_is_not_believed(project: Project, baseline: Path, name: str) -> None:
    baseline.rename(project.experiment / "old.json")
    (project.path / "link").symlink_to("exp")
    (project.path / "link.json").symlink_to("exp/old.json")
    assert_usage_error(project.audit(f"--scylla-baseline={name}"), "inside an experiment", "Name a file outside of it")


def test_an_audit_is_as_read_only_as_ever(project: Project, baseline: Path) -> None:
    damaged_in_several_ways(project.experiment)
    before = snapshot(project.experiment)
    project.audit(OLD, "--scylla-ratchet", HALF, REPORT)
    assert snapshot(project.experiment) == before
