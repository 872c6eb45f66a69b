"""Which items run: pytest's own selection and --scylla-select."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.synthetic import run_ids, small

from .support import (
    SLOTS,
    WHOLES,
    Project,
    assert_usage_error,
    collected,
    damaged_in_several_ways,
    item_ids,
    lose_item,
    lose_judgment,
    lose_run,
    lose_run_result,
    node_id,
    node_ids,
    outcomes,
    printed,
    with_outcome,
)

FAILING_TEST = "def test_sound():\n    pass\n\n\ndef test_unsound():\n    assert 1 + 1 == 3\n"


def _of_tier(item_id: str) -> bool:
    return item_id.startswith("T0/")


def _first_slot(item_id: str) -> bool:
    return item_id.endswith("judge_01")


def _slot(item_id: str) -> bool:
    return "/judge_" in item_id


def _run(item_id: str) -> bool:
    return "/" in item_id and not _slot(item_id)


def test_a_healthy_experiment_passes_with_an_item_for_each_run_and_slot_and_what_follows(project: Project) -> None:
    result = project.audit()
    assert result.ret == 0
    assert outcomes(result) == dict.fromkeys(node_ids(), "passed")


def test_slots_run_before_their_run_and_runs_in_order_and_what_follows_from_them_last(project: Project) -> None:
    assert list(outcomes(project.audit())) == node_ids()


def test_the_later_layout_has_the_same_ids(empty_project: Project, staged_experiment: Path) -> None:
    empty_project.copy(staged_experiment, "exp")
    assert outcomes(empty_project.audit()) == dict.fromkeys(node_ids(), "passed")


def test_absent_runs_and_slots_are_items_that_fail(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit()
    assert result.ret == 1
    assert with_outcome(result, "failed") == node_ids(failing)
    assert len(outcomes(result)) == len(item_ids())


@pytest.mark.parametrize(
    ("args", "chosen"),
    [
        pytest.param(("-k", "T0"), _of_tier, id="k-tier"),
        pytest.param(("-k", "judge_01"), _first_slot, id="k-slot"),
        pytest.param(("-k", "run_02 and T1 and not judge_02"), None, id="k-expression"),
        pytest.param(("-m", "scylla_run"), _run, id="m-run"),
        pytest.param(("-m", "scylla_judge"), _slot, id="m-judge"),
        pytest.param(("-m", "scylla_run", "--strict-markers"), _run, id="m-strict"),
        pytest.param(("-m", "not scylla_judge", "-k", "T0"), lambda i: _run(i) and _of_tier(i), id="m-and-k"),
        pytest.param(("--deselect", "exp/T0"), lambda i: not _of_tier(i), id="deselect-tier"),
        pytest.param(
            ("--deselect", "exp/T0/00/run_01::judge_01"), lambda i: i != "T0/00/run_01/judge_01", id="deselect-slot"
        ),
        pytest.param(("--deselect", "exp/T1/01/run_02::run"), lambda i: i != "T1/01/run_02", id="deselect-run"),
    ],
)
def test_pytests_own_options_select_runs_and_slots(
    project: Project, args: tuple[str, ...], chosen: Callable[[str], bool] | None
) -> None:
    if chosen is None:
        expected = [i for i in item_ids() if "run_02" in i and i.startswith("T1") and "judge_02" not in i]
    else:
        expected = [item_id for item_id in item_ids() if chosen(item_id)]
    result = project.audit(*args)
    assert result.ret == 0
    assert outcomes(result) == dict.fromkeys(node_ids(expected), "passed")
    assert f"{len(item_ids()) - len(expected)} deselected" in result.stdout.str()


def test_a_selection_by_k_that_matches_nothing_is_not_green(project: Project) -> None:
    assert project.audit("-k", "no_such_thing").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_strict_markers_and_strict_config_accept_the_plugins_own(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\naddopts = --strict-markers --strict-config\nscylla_exp = exp\n")
    assert project.run("--scylla").ret == 0


def test_markers_are_documented(project: Project) -> None:
    listed = project.run("--markers").stdout.str()
    assert "@pytest.mark.scylla_run:" in listed
    assert "@pytest.mark.scylla_judge:" in listed


# --collect-only


def test_collect_only_quiet_prints_every_node_id(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    result = project.audit("--co", "-q")
    assert result.ret == 0
    assert collected(result) == node_ids()


def test_collect_only_prints_a_tree_of_experiment_tier_subtest_run_and_items(project: Project) -> None:
    result = project.audit("--co")
    assert result.ret == 0
    lines = [line for line in result.outlines if line.lstrip().startswith("<")]
    depths: list[tuple[int, int]] = []
    for name in ("exp>", "T1>", "01>", "run_01>", "judge_01>"):
        start = depths[-1][0] if depths else 0
        at = next(i for i, line in enumerate(lines[start:], start) if line.endswith(f" {name}") or line == f"<{name}")
        depths.append((at, len(lines[at]) - len(lines[at].lstrip())))
    assert [indent for _, indent in depths] == sorted({indent for _, indent in depths})
    assert sum(line.endswith(" judge_02>") for line in lines) == 6
    assert sum(line.endswith(" run>") for line in lines) == 6
    result.stdout.fnmatch_lines([f"*{len(item_ids())} tests collected*"])


def test_collect_only_with_a_selection_prints_only_what_is_selected(project: Project) -> None:
    assert collected(project.audit("--co", "-q", "-k", "judge_03")) == node_ids(
        [item_id for item_id in item_ids() if item_id.endswith("judge_03")]
    )


# Failures first, failures only, stop at failures


@pytest.mark.parametrize("location", ["exp", "data/deeper/exp", "{elsewhere}/exp"])
def test_last_failed_reruns_exactly_the_failing_items(
    empty_project: Project, pristine_experiment: Path, location: str
) -> None:
    location = location.format(elsewhere=empty_project.elsewhere)
    root = empty_project.copy(pristine_experiment, location)
    empty_project.write("test_ordinary.py", FAILING_TEST)
    lose_judgment(root, "T0/00/run_01/judge_02")
    lose_run(root, "T1/01/run_02")
    absent = [f"T1/01/run_02/{slot}" for slot in SLOTS]
    failing = ["test_ordinary.py::test_unsound"]
    failing += node_ids(["T0/00/run_01/judge_02", *absent, "T1/01/run_02", *WHOLES])
    args = (f"--scylla-exp={location}", "test_ordinary.py")
    first = empty_project.run(*args)
    assert sorted(with_outcome(first, "failed")) == sorted(failing)
    assert len(outcomes(first)) == len(item_ids()) + 2
    for _ in range(2):
        again = empty_project.run(*args, "--lf")
        assert again.ret == 1
        assert sorted(outcomes(again)) == sorted(failing)
        assert set(outcomes(again).values()) == {"failed"}


def test_last_failed_without_positionals_reruns_exactly_the_failing_items(project: Project) -> None:
    failing = node_ids(damaged_in_several_ways(project.experiment))
    project.audit()
    assert list(outcomes(project.audit("--lf"))) == failing


def test_last_failed_keeps_absent_runs_of_the_later_layout(empty_project: Project, staged_experiment: Path) -> None:
    root = empty_project.copy(staged_experiment, "exp")
    lose_run(root / "completed", "T0/00/run_02")
    lose_run(root / "completed", "T1/02/run_01")
    failing = [i for i in item_ids() if i.startswith(("T0/00/run_02", "T1/02/run_01", *WHOLES))]
    assert with_outcome(empty_project.audit(), "failed") == node_ids(failing)
    assert list(outcomes(empty_project.audit("--lf"))) == node_ids(failing)


def test_last_failed_keeps_a_run_whose_subtest_and_tier_are_gone(project: Project) -> None:
    lose_run(project.experiment, "T1")
    failing = [item_id for item_id in item_ids() if item_id.startswith(("T1/", *WHOLES))]
    assert with_outcome(project.audit(), "failed") == node_ids(failing)
    assert list(outcomes(project.audit("--lf"))) == node_ids(failing)


def test_last_failed_forgets_an_item_that_became_sound(project: Project, pristine_experiment: Path) -> None:
    lose_run_result(project.experiment, "T0/00/run_02")
    lose_run_result(project.experiment, "T1/01/run_02")
    project.audit()
    restored = "T0/00/run_02/run_result.json"
    (project.experiment / restored).write_bytes((pristine_experiment / restored).read_bytes())
    assert list(outcomes(project.audit("--lf"))) == node_ids(["T0/00/run_02", "T1/01/run_02"])
    assert list(outcomes(project.audit("--lf"))) == node_ids(["T1/01/run_02"])


def test_last_failed_works_with_workers(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    project.audit()
    result = project.audit("--lf", "-n", "2")
    assert result.ret == 1
    result.assert_outcomes(failed=len(failing))


def test_failed_first_runs_everything_with_the_failing_items_of_runs_in_front(project: Project) -> None:
    failing = [nodeid for nodeid in node_ids(damaged_in_several_ways(project.experiment)) if "/run_" in nodeid]
    project.audit()
    order = list(outcomes(project.audit("--ff")))
    assert order[: len(failing)] == failing
    assert order[-len(WHOLES) :] == node_ids(WHOLES)
    assert sorted(order) == sorted(node_ids())


@pytest.mark.parametrize(("args", "failures"), [(("-x",), 1), (("--maxfail=1",), 1), (("--maxfail=3",), 3)])
def test_a_session_stops_after_as_many_failures_as_allowed(
    project: Project, args: tuple[str, ...], failures: int
) -> None:
    failing = ["T0/00/run_02/judge_01", "T1/01/run_01", "T1/01/run_02/judge_03", "T1/02/run_02"]
    for item_id in failing:
        lose_item(project.experiment, item_id)
    result = project.audit(*args)
    assert result.ret == 1
    last = node_ids().index(node_id(failing[failures - 1]))
    assert list(outcomes(result)) == node_ids()[: last + 1]
    assert with_outcome(result, "failed") == node_ids(failing[:failures])


def test_stepwise_continues_where_it_stopped(project: Project, pristine_experiment: Path) -> None:
    lose_run_result(project.experiment, "T0/00/run_02")
    lose_judgment(project.experiment, "T1/02/run_01/judge_01")
    first = project.audit("--sw")
    assert list(outcomes(first))[-1] == "exp/T0/00/run_02::run"
    restored = "T0/00/run_02/run_result.json"
    (project.experiment / restored).write_bytes((pristine_experiment / restored).read_bytes())
    second = list(outcomes(project.audit("--sw")))
    assert second[0] == "exp/T0/00/run_02::run"
    assert second[-1] == "exp/T1/02/run_01::judge_01"


# --scylla-select


@pytest.mark.parametrize(
    ("globs", "chosen"),
    [
        pytest.param(("T0/*",), _of_tier, id="tier"),
        pytest.param(("T1/01/run_02",), lambda i: i.startswith("T1/01/run_02"), id="run-with-its-slots"),
        pytest.param(("T1/01/run_02/judge_03",), lambda i: i == "T1/01/run_02/judge_03", id="one-slot"),
        pytest.param(("*/judge_01",), _first_slot, id="one-slot-of-all"),
        pytest.param(("*/run_01",), lambda i: "/run_01" in i, id="one-run-of-all-with-its-slots"),
        pytest.param(("T0/*", "T1/01/run_01/judge_01"), None, id="repeated"),
        pytest.param(("T?/0[01]/run_02",), lambda i: i.startswith(("T0/00/run_02", "T1/01/run_02")), id="classes"),
    ],
)
def test_scylla_select_takes_globs_on_item_ids(
    project: Project, globs: tuple[str, ...], chosen: Callable[[str], bool] | None
) -> None:
    if chosen is None:
        expected = [i for i in item_ids() if _of_tier(i) or i == "T1/01/run_01/judge_01"]
    else:
        expected = [item_id for item_id in item_ids() if chosen(item_id)]
    result = project.audit(*(f"--scylla-select={glob}" for glob in globs))
    assert result.ret == 0
    assert list(outcomes(result)) == node_ids(expected)


@pytest.mark.parametrize("glob", ["T7/*", "T0/00/run_03", "*/judge_04", "run_01", ""])
def test_scylla_select_that_matches_nothing_is_refused(project: Project, glob: str) -> None:
    assert_usage_error(project.audit(f"--scylla-select={glob}"), glob, "--scylla-select")


def test_each_repeated_scylla_select_has_to_match(project: Project) -> None:
    assert_usage_error(project.audit("--scylla-select=T0/*", "--scylla-select=T9/*"), "T9/*")


def test_scylla_select_and_k_narrow_each_other(project: Project) -> None:
    result = project.audit("--scylla-select=T0/*", "-k", "judge_02")
    assert list(outcomes(result)) == node_ids([f"{run}/judge_02" for run in run_ids(small()) if run.startswith("T0")])


def test_scylla_select_finds_absent_runs(project: Project) -> None:
    lose_run(project.experiment, "T1/01/run_01")
    result = project.audit("--scylla-select=T1/01/run_01")
    assert with_outcome(result, "failed") == node_ids([*(f"T1/01/run_01/{slot}" for slot in SLOTS), "T1/01/run_01"])


def test_scylla_select_needs_to_match_in_one_of_several_experiments_only(
    project: Project, staged_experiment: Path, wide_experiment: Path
) -> None:
    project.copy(wide_experiment, "wide")
    result = project.audit("--scylla-exp=wide", "--scylla-select=T1/02/*", "--scylla-select=T0/01/run_03")
    assert {nodeid.split("/")[0] for nodeid in outcomes(result)} == {"exp", "wide"}
    assert len(outcomes(result)) == 8 + 4


# Without parts of pytest


@pytest.mark.parametrize("name", ["xdist", "cacheprovider", "junitxml", "logging", "capture", "doctest", "stepwise"])
def test_it_works_without_another_of_pytests_plugins(project: Project, name: str) -> None:
    failing = damaged_in_several_ways(project.experiment)
    args = ("--capture=no",) if name == "capture" else ("-p", f"no:{name}")
    result = project.audit(*args, "--scylla-report=report.json")
    assert result.ret == 1
    assert with_outcome(result, "failed") == node_ids(failing)
    assert len(project.only_experiment()["items"]) == len(failing)


def test_it_works_without_a_terminal(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit_apart("-p", "no:terminal", "--scylla-report=report.json")
    assert result.ret == 1
    assert printed(result).strip() == ""
    assert [item["id"] for item in project.only_experiment()["items"]] == sorted(failing)


@pytest.mark.parametrize("damaged", [False, True])
def test_it_causes_no_warning(project: Project, damaged: bool) -> None:
    failing = len(damaged_in_several_ways(project.experiment)) if damaged else 0
    result = project.audit_apart("-W", "error", "-rA")
    assert result.ret == damaged
    result.assert_outcomes(passed=len(item_ids()) - failing, failed=failing, warnings=0)
