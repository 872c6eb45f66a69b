"""The JSON report and the JUnit report of a repair: before and after, what was done to which item, and how it ended."""

from __future__ import annotations

import errno
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import SECRET

from ..unit.repairing import journal, staged, tree
from .support import (
    AGGREGATES,
    BUT_WHOLES,
    FREE,
    FREE_FILES,
    FREE_ITEMS,
    NO_OTHERS,
    SLOTS,
    WARNED,
    WARNED_FILE,
    WHOLES,
    Project,
    acted_on,
    beyond_rebuilding,
    damaged_for_free,
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
    printed,
    record_run,
    report_of_repair,
    snapshot,
    without_durations,
)

REPORT = "--scylla-report=report.json"

REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8

RUNS = {"completed": 3, "results": 3, "failed": 0, "partial": 0, "missing": 0, "conflict": 0, "unsafe": 0}
"""The runs of the experiment that is damaged for free, before its repair."""


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment of which everything that is wrong can be put right for free."""
    damaged_for_free(project.experiment)
    return project


# Before and after


def test_the_report_of_a_repair(damaged: Project) -> None:
    assert damaged.audit("--repair", REPORT).ret == 0
    found = experiment_of_repair(damaged)
    before, after = found["before"], found["after"]
    assert before["runs"] == {"expected": 6, **RUNS, "not_audited": 0}
    assert (before["judge_slots"]["complete"], before["judge_slots"]["failed"]) == (16, 2)
    assert [before["judge_slots"]["by_slot"][number]["failed"] for number in "123"] == [1, 1, 0]
    assert (after["runs"]["completed"], after["judge_slots"]["complete"]) == (6, 18)
    assert found["completeness"] == 1
    assert (found["selected"], found["not_audited"]) == (24, 0)
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED
    assert report_of_repair(damaged)["interrupted"] is False
    repairs = {**found["repairs"]}
    assert repairs.pop("seconds") >= 0
    assert repairs == {
        "regenerated": 7,
        "judge_calls": 0,
        "agent_runs": 0,
        "failed": 0,
        "refused": 0,
        "cost_usd": 0,
    }


def test_every_item_that_was_acted_on_is_told_with_what_was_done(damaged: Project) -> None:
    damaged.audit("--repair", REPORT)
    items = items_of_repair(damaged)
    assert list(items) == sorted([*FREE_ITEMS, WARNED])
    for item_id in WHOLES:
        whole = items.pop(item_id)  # it is right once the runs are
        assert (whole["kind"], whole["status_before"], whole["status"]) == (item_id, "stale", "sound")
        assert (whole["outcome"], whole["findings"], whole["actions"]) == ("repaired", [], [])
    for item_id, item in items.items():
        slot = "/judge_" in item_id
        assert item["kind"] == ("judge_slot" if slot else "run")
        assert item["nodeid"] == node_id(item_id)
        assert item["outcome"] == "repaired"
        assert item["status"] == ("complete" if slot else "completed")
        assert item["status_before"] == ("completed" if item_id == WARNED else "failed" if slot else "results")
        assert item["findings"] == []
        files = []
        for action in item["actions"]:
            assert (action["level"], action["outcome"], action["reason"]) == ("regenerate", "done", None)
            assert (action["calls"], action["cost_usd"]) == (0, 0)
            assert action["seconds"] >= 0
            assert action["solved"]
            assert action["sources"]
            assert [action["what"]] == [
                name.removeprefix(item_id.partition("/judge_")[0] + "/") for name in action["files"]
            ]
            files += action["files"]
        assert files == FREE_FILES.get(item_id, [WARNED_FILE])
    assert items[WARNED]["actions"][0]["solved"] == ["side-file-missing"]
    assert items["T0/00/run_02"]["actions"][0]["solved"] == ["output-truncated"]


@pytest.mark.parametrize(
    ("args", "selected", "files"),
    [
        (("-k", "T0"), 8, 2),
        (("--scylla-select=T1/02/run_01/judge_02",), 1, 1),
        (("--deselect", "exp/T1", *BUT_WHOLES), 8, 2),
        (("-k", "T0", "-n", "2"), 8, 2),
        (("-k", "no_such_thing"), 0, 0),
    ],
)
def test_before_is_the_whole_matrix_whatever_is_selected(
    damaged: Project, args: tuple[str, ...], selected: int, files: int
) -> None:
    damaged.audit("--repair", *args, REPORT)
    found = experiment_of_repair(damaged)
    assert found["before"]["runs"] == {"expected": 6, **RUNS, "not_audited": 0}
    assert found["before"]["judge_slots"]["failed"] == 2
    assert found["after"]["runs"]["not_audited"] == found["not_audited"] == 0
    assert found["selected"] == selected
    assert found["repairs"]["regenerated"] == files
    items = items_of_repair(damaged)
    told = {item_id: item["outcome"] for item_id, item in items.items()}
    untouched = {item_id for item_id, item in items.items() if not item["actions"]}
    assert {*told} == {*FREE_ITEMS, WARNED}
    assert all(told[item_id] == ("passed" if item_id == WARNED else "not-run") for item_id in untouched)
    assert all(told[item_id] == "repaired" for item_id in {*told} - untouched)
    assert all(items[item_id]["findings"] for item_id in untouched)
    left = len({*untouched} & {*FREE})
    assert found["completeness"] == pytest.approx((24 - left) / 24)
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED * bool(files) + DAMAGE_LEFT


def test_stopping_at_a_failure_tells_what_was_not_come_to(damaged: Project) -> None:
    lose_slot(damaged.experiment, "T1/01/run_01/judge_01")
    assert damaged.audit("--repair", "--repair-level=regenerate", "-x", REPORT).ret == 1
    outcomes = {item_id: item["outcome"] for item_id, item in items_of_repair(damaged).items()}
    assert outcomes == {
        WARNED: "repaired",
        "T0/00/run_02": "repaired",
        "T1/01/run_01/judge_01": "failed",
        "T1/01/run_01": outcomes["T1/01/run_01"],  # repaired together with its slots, or not at all
        "T1/01/run_02": "not-run",
        "T1/01/run_02/judge_01": "not-run",
        "T1/02/run_01/judge_02": "not-run",
        **dict.fromkeys(WHOLES, "not-run"),
    }
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    found = experiment_of_repair(damaged)
    assert found["before"]["judge_slots"]["failed"] == 3
    assert found["not_audited"] == 0
    again = damaged.audit(REPORT)
    assert again.ret == 1
    assert experiment_of_repair(damaged)["after"] == found["after"]


def test_after_is_what_an_audit_then_finds(damaged: Project) -> None:
    beyond_rebuilding(damaged.experiment, "T1/02/run_02")
    lose_slot(damaged.experiment, "T1/01/run_01/judge_01")
    lose_run(damaged.experiment, "T0/00/run_01")
    damaged.audit("--repair", "--scylla-report=repair.json")
    damaged.audit("--scylla-report=audit.json")
    repaired, audited = experiment_of_repair(damaged, "repair.json"), damaged.only_experiment("audit.json")
    assert repaired["after"] == audited["after"]
    assert repaired["runs"] == audited["runs"]
    assert repaired["completeness"] == audited["completeness"]
    findings = {item["id"]: item["findings"] for item in repaired["items"] if item["findings"]}
    assert findings == {item["id"]: item["findings"] for item in audited["items"]}


def test_what_is_refused_is_told_with_the_reason_and_the_level_that_it_takes(project: Project) -> None:
    beyond_rebuilding(project.experiment, "T1/02/run_02")
    lose_slot(project.experiment, "T1/01/run_01/judge_01")
    never_begin(project.experiment, "T0/00/run_01")
    assert project.audit("--repair", "--repair-level=regenerate", REPORT).ret == 1
    actions = acted_on(project)
    done, refused = actions["T1/02/run_02"]
    assert (done["what"], done["outcome"]) == ("agent/output.txt", "done")
    assert (refused["what"], refused["outcome"], refused["files"]) == ("run_result.json", "refused", [])
    assert refused["reason"] == "no record holds the agent's duration"
    (slot,) = actions["T1/01/run_01/judge_01"][-1:]
    assert slot["outcome"] == "refused"
    assert slot["reason"]
    for item_id in ("T0/00/run_01", *(f"T0/00/run_01/{name}" for name in SLOTS)):
        (action,) = actions[item_id]
        assert (action["outcome"], action["level"]) == ("refused", "agents")
        assert action["reason"].startswith("agent run")
    found = experiment_of_repair(project)
    assert found["repairs"]["refused"] == sum(a["outcome"] == "refused" for of in actions.values() for a in of)
    assert found["repairs"]["regenerated"] == 1
    assert report_of_repair(project)["exit_bits"] == REPAIRED + DAMAGE_LEFT
    assert all(item["outcome"] == "failed" for item in items_of_repair(project).values())


def test_a_slot_that_only_a_judge_can_restore_says_so(project: Project) -> None:
    lose_slot(project.experiment, "T1/01/run_01/judge_01")
    project.audit("--repair", "--repair-level=regenerate", REPORT)
    (item,) = (item for item_id, item in items_of_repair(project).items() if item_id.endswith("judge_01"))
    assert {action["outcome"] for action in item["actions"]} == {"refused"}
    assert (item["status_before"], item["status"], item["outcome"]) == ("failed", "failed", "failed")


def test_a_plan_is_reported_as_planned_and_repairs_nothing(damaged: Project) -> None:
    assert damaged.audit("--repair-plan", REPORT).ret == 1
    found = experiment_of_repair(damaged)
    assert found["before"] == found["after"]
    assert found["repairs"]["regenerated"] == 0
    assert found["repairs"]["failed"] == 0
    assert found["repairs"]["refused"] == 0
    assert report_of_repair(damaged)["exit_bits"] == DAMAGE_LEFT
    items = items_of_repair(damaged)
    assert {item_id: item["outcome"] for item_id, item in items.items()} == {
        **dict.fromkeys(FREE_ITEMS, "failed"),
        WARNED: "passed",
    }
    for item_id in WHOLES:
        assert items.pop(item_id)["actions"] == []  # it will be right once the runs are
    for item_id, item in items.items():
        assert item["status"] == item["status_before"]
        assert [action["outcome"] for action in item["actions"]] == ["planned"] * len(FREE_FILES.get(item_id, [""]))


def test_each_experiment_has_its_own_part(damaged: Project, pristine_experiment: Path) -> None:
    damaged.copy(pristine_experiment, "other")
    assert damaged.audit("--repair", "--scylla-exp=other", REPORT).ret == 0
    first, second = report_of_repair(damaged)["experiments"]
    assert (first["path"], first["repairs"]["regenerated"]) == ("exp", 7)
    assert (second["path"], second["repairs"]["regenerated"], second["items"]) == ("other", 0, [])
    assert second["before"] == second["after"]
    assert not (damaged.path / "other" / ".scylla").exists()


# Exit bits


def test_nothing_to_do_is_no_bit(project: Project) -> None:
    assert project.audit("--repair", REPORT).ret == 0
    assert report_of_repair(project)["exit_bits"] == 0


def test_nothing_that_could_be_done_leaves_damage(project: Project) -> None:
    never_begin(project.experiment, "T0/00/run_01")
    assert project.audit("--repair", REPORT).ret == 1
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT


def test_a_full_disk_is_an_operational_error(damaged: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def full(source: Any, target: Any, **named: Any) -> None:
        if "src_dir_fd" in named:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target, **named)

    before = tree(damaged.experiment)
    monkeypatch.setattr(os, "rename", full)
    result = damaged.audit("--repair", REPORT)
    monkeypatch.undo()
    assert result.ret == 1
    assert report_of_repair(damaged)["exit_bits"] == DAMAGE_LEFT + OPERATIONAL_ERROR
    assert tree(damaged.experiment) == before
    assert staged(damaged.experiment) == []
    found = experiment_of_repair(damaged)
    assert found["before"] == found["after"]
    assert (found["repairs"]["regenerated"], found["repairs"]["failed"]) == (0, 7 + 1)
    items = items_of_repair(damaged)
    assert {item_id: item["outcome"] for item_id, item in items.items()} == {
        **dict.fromkeys(FREE_ITEMS, "failed"),
        WARNED: "passed",
    }
    for action in items.pop(AGGREGATES)["actions"]:
        assert (action["outcome"], action["files"], action["solved"]) == ("refused", [], [])
        assert action["reason"] == "run_result.json of T1/01/run_01 has to be rebuilt first"
    for item in items.values():
        for action in item["actions"]:
            assert (action["outcome"], action["files"], action["solved"]) == ("failed", [], [])
            assert "No space left on device" in action["reason"]
    assert "run_result.json failed: " in result.stdout.str()
    assert damaged.audit("--repair", REPORT).ret == 0
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED


def test_a_disk_that_is_full_after_a_while_has_repaired_and_failed(
    damaged: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, written = os.rename, list[str]()

    def full(source: Any, target: Any, **named: Any) -> None:
        if "src_dir_fd" in named and str(target) == "run_result.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target, **named)
        written.append(str(target))

    monkeypatch.setattr(os, "rename", full)
    result = damaged.audit("--repair", REPORT)
    monkeypatch.undo()
    assert result.ret == 1
    assert written
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + DAMAGE_LEFT + OPERATIONAL_ERROR
    outcomes = {item_id: item["outcome"] for item_id, item in items_of_repair(damaged).items()}
    assert outcomes["T1/01/run_01"] == outcomes["T1/01/run_02"] == "failed"
    assert outcomes["T1/02/run_01/judge_02"] == outcomes["T0/00/run_02"] == outcomes[WARNED] == "repaired"
    mixed = [action["outcome"] for action in acted_on(damaged)["T1/01/run_02"]]
    assert mixed == ["done", "failed"]
    assert damaged.audit("--repair").ret == 0


def test_a_warning_that_could_not_be_put_right_is_an_operational_error_alone(project: Project) -> None:
    (project.experiment / WARNED_FILE).unlink()
    (project.experiment / ".scylla").write_text("mine")
    assert project.audit("--repair", REPORT).ret == 0
    assert report_of_repair(project)["exit_bits"] == OPERATIONAL_ERROR
    (action,) = acted_on(project)[WARNED]
    assert (action["outcome"], action["files"]) == ("failed", [])
    assert ".scylla" in action["reason"]


def test_an_interruption_leaves_a_report_of_what_was_repaired(damaged: Project) -> None:
    damaged.write(
        "conftest.py",
        "def pytest_runtest_setup(item):\n"
        "    if item.nodeid == 'exp/T1/01/run_02::judge_01':\n        raise KeyboardInterrupt\n",
    )
    assert damaged.audit_apart("--repair", REPORT).ret == pytest.ExitCode.INTERRUPTED
    report = report_of_repair(damaged)
    assert report["interrupted"] is True
    assert report["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    outcomes = {item_id: item["outcome"] for item_id, item in items_of_repair(damaged).items()}
    assert outcomes == {
        **dict.fromkeys((WARNED, "T0/00/run_02", "T1/01/run_01"), "repaired"),
        **dict.fromkeys(("T1/01/run_02", "T1/01/run_02/judge_01", "T1/02/run_01/judge_02", *WHOLES), "not-run"),
    }


def test_an_item_of_which_only_others_of_its_run_came_to_run_is_told_as_it_stands(project: Project) -> None:
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    lose_run_result(project.experiment, "T0/00/run_01")
    record_run(project.experiment, "T0/00/run_01", "agent_complete")
    project.write(
        "conftest.py",
        "def pytest_runtest_setup(item):\n"
        "    if item.nodeid == 'exp/T0/00/run_01::judge_02':\n        raise KeyboardInterrupt\n",
    )
    project.audit_apart("--repair", REPORT)
    items = items_of_repair(project)
    run = items["T0/00/run_01"]
    assert (run["status_before"], run["status"], run["outcome"]) == ("results", "completed", "repaired")
    assert run["actions"]
    assert items[AGGREGATES]["outcome"] == "not-run"  # nobody looked at them since
    assert report_of_repair(project)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    assert experiment_of_repair(project)["completeness"] == 1


CRASHING = """\
import os


def pytest_runtest_call(item):
    if item.nodeid == "exp/T1/01/run_01::judge_02":
        os._exit(3)
"""


def test_an_item_on_which_a_worker_dies_is_crashed_and_the_rest_is_repaired(damaged: Project) -> None:
    damaged.write("conftest.py", CRASHING)
    result = damaged.audit_apart("--repair", REPORT, "-n", "2")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    items = items_of_repair(damaged)
    assert items["T1/01/run_01/judge_02"]["outcome"] == "crashed"
    assert {items[item_id]["outcome"] for item_id in (*FREE_ITEMS, WARNED)} == {"repaired"}
    assert experiment_of_repair(damaged)["before"]["runs"]["results"] == 3
    (damaged.path / "conftest.py").unlink()
    assert damaged.audit().ret == 0


DYING = """\
import os

import pytest


@pytest.fixture
def scylla_regenerate(scylla_regenerate):
    def regenerate(request):
        if request.file == "T1/02/run_01/judge/judge_02/judgment.json":
            os._exit(3)
        return scylla_regenerate(request)

    return regenerate
"""


def test_a_worker_that_dies_of_a_repair_costs_that_item_alone(damaged: Project) -> None:
    damaged.write("conftest.py", DYING)
    result = damaged.audit_apart("--repair", REPORT, "-n", "2")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    outcomes = {item_id: item["outcome"] for item_id, item in items_of_repair(damaged).items()}
    assert outcomes.pop("T1/02/run_01/judge_02") == "crashed"
    expected = (*(item_id for item_id in FREE_ITEMS if item_id in outcomes), WARNED)
    assert outcomes == dict.fromkeys(expected, "repaired")
    assert len(outcomes) == len([*FREE_ITEMS, WARNED]) - 1
    assert not (damaged.experiment / "T1/02/run_01/judge/judge_02/judgment.json").exists()
    (damaged.path / "conftest.py").unlink()
    assert damaged.audit("--repair").ret == 0


# The same report, however the items are spread and ordered


def _also_hopeless(experiment: Path) -> None:
    damaged_for_free(experiment)
    beyond_rebuilding(experiment, "T1/02/run_02")
    lose_slot(experiment, "T0/00/run_02/judge_03")
    lose_judgment(experiment, "T0/00/run_01/judge_01")
    lose_judgment(experiment, "T0/00/run_01/judge_02")
    lose_judgment(experiment, "T1/02/run_02/judge_01")


@pytest.fixture
def compared(empty_project: Project, pristine_experiment: Path) -> Callable[..., list[dict[str, Any]]]:
    """Reports, and trees, of sessions with one option set each that repair the same experiment anew."""

    def compare(
        damage: Callable[[Path], object], *sessions: tuple[str, ...], apart: bool = False, exit_code: int = 1
    ) -> list[dict[str, Any]]:
        told = []
        for args in sessions:
            shutil.rmtree(empty_project.experiment, ignore_errors=True)
            damage(empty_project.copy(pristine_experiment, "exp"))
            if apart:
                command = (*NO_OTHERS, "--scylla-exp=exp", *args, REPORT)
                result = empty_project.pytester.runpytest_subprocess(*command, timeout=600)
            else:
                result = empty_project.audit(*args, REPORT)
            assert result.ret == exit_code
            edit_json(empty_project.experiment / "checkpoint.json", last_updated_at=None)
            report = without_durations(report_of_repair(empty_project))
            told.append({"report": report, "tree": tree(empty_project.experiment)})
        return told

    return compare


def _assert_all_the_same(told: list[dict[str, Any]]) -> None:
    first, *others = told
    assert first["report"]["experiments"][0]["items"]
    for other in others:
        items = [{item["id"]: item for item in part["report"]["experiments"][0]["items"]} for part in (first, other)]
        assert {*items[0]} == {*items[1]}
        for item_id, item in items[0].items():
            assert items[1][item_id] == item, item_id
        assert first["report"] == other["report"]
        assert first["tree"] == other["tree"]


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
def test_workers_give_the_same_report_as_one_process(
    compared: Callable[..., list[dict[str, Any]]], option: str
) -> None:
    spreads = [
        (),
        ("-n", "2"),
        ("-n", "4", "--dist=load"),
        ("-n", "4", "--dist=loadfile"),
        ("-n", "3", "--dist=worksteal"),
    ]
    _assert_all_the_same(compared(_also_hopeless, *((option, *args) for args in spreads)))


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
def test_a_random_order_gives_the_same_report(compared: Callable[..., list[dict[str, Any]]], option: str) -> None:
    pytest.importorskip("pytest_randomly")
    orders = [("-p", "no:randomly"), ("--randomly-seed=1",), ("--randomly-seed=20260202", "-n", "2")]
    _assert_all_the_same(compared(_also_hopeless, *((option, *args) for args in orders), apart=True))


def _two_slots_lost_and_what_follows(experiment: Path) -> None:
    for slot in ("judge_01", "judge_03"):
        lose_judgment(experiment, f"T0/00/run_01/{slot}")
    for name in ("judge/result.json", "run_result.json"):
        (experiment / "T0/00/run_01" / name).unlink()


BACKWARDS = "def pytest_collection_modifyitems(items):\n    items.reverse()\n"


def test_items_in_reverse_give_the_same_report_of_a_repair_of_slots_alone(
    empty_project: Project, compared: Callable[..., list[dict[str, Any]]]
) -> None:
    args = ("--repair", "-k", "judge_01 or judge_03")
    forwards = compared(_two_slots_lost_and_what_follows, args, exit_code=0)
    empty_project.write("conftest.py", BACKWARDS)
    backwards = compared(_two_slots_lost_and_what_follows, args, exit_code=0)
    _assert_all_the_same([*forwards, *backwards])


ONE_BEFORE_THE_OTHER = """\
import os
import select

import pytest

HELD = []


@pytest.fixture(autouse=True)
def in_order(request):
    if request.node.nodeid == "exp/T0/00/run_01::{second}":
        reading = os.open({fifo!r}, os.O_RDONLY)
        assert select.select([reading], [], [], 60)[0], "the other item never ended"
        os.read(reading, 1)
    yield
    if request.node.nodeid == "exp/T0/00/run_01::{first}":
        HELD.append(os.open({fifo!r}, os.O_WRONLY))
        os.write(HELD[0], b"x")
"""


@contextmanager
def _fifo(project: Project) -> Iterator[Path]:
    """A pipe whose ends open at once, and which keeps what was written into it."""
    path = project.path / "fifo"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield path
    finally:
        os.close(descriptor)


def _warned_and_a_slot_lost(experiment: Path) -> None:
    (experiment / WARNED_FILE).unlink()
    lose_judgment(experiment, f"{WARNED}/judge_01")


def _rebuilt_in_part_and_a_slot_lost(experiment: Path) -> None:
    beyond_rebuilding(experiment, WARNED)
    lose_judgment(experiment, f"{WARNED}/judge_01")


@pytest.mark.parametrize("damage", [_warned_and_a_slot_lost, _rebuilt_in_part_and_a_slot_lost])
@pytest.mark.parametrize(("first", "second"), [("judge_01", "run"), ("run", "judge_01")])
def test_an_item_that_another_process_repaired_is_told_as_if_one_had(
    empty_project: Project,
    compared: Callable[..., list[dict[str, Any]]],
    damage: Callable[[Path], None],
    first: str,
    second: str,
) -> None:
    args = ("--repair", f"--scylla-select={WARNED}")
    exit_code = 0 if damage is _warned_and_a_slot_lost else 1
    alone = compared(damage, args, exit_code=exit_code)
    with _fifo(empty_project) as path:
        order = ONE_BEFORE_THE_OTHER.format(fifo=str(path), first=first, second=second)
        empty_project.write("conftest.py", order)
        shared = compared(damage, (*args, "-n", "4", "--dist=worksteal"), exit_code=exit_code)  # an item each
    _assert_all_the_same([*alone, *shared])


@pytest.mark.parametrize(("first", "second"), [("judge_01", "judge_03"), ("judge_03", "judge_01")])
def test_what_follows_from_two_slots_is_told_of_the_same_one_whichever_process_comes_first(
    empty_project: Project, compared: Callable[..., list[dict[str, Any]]], first: str, second: str
) -> None:
    args = ("--repair", *(f"--scylla-select=T0/00/run_01/{slot}" for slot in ("judge_01", "judge_03")))
    alone = compared(_two_slots_lost_and_what_follows, args, exit_code=0)
    with _fifo(empty_project) as path:
        empty_project.write("conftest.py", ONE_BEFORE_THE_OTHER.format(fifo=str(path), first=first, second=second))
        shared = compared(_two_slots_lost_and_what_follows, (*args, "-n", "2", "--dist=worksteal"), exit_code=0)
    _assert_all_the_same([*alone, *shared])


def test_a_worker_takes_over_what_the_controlling_process_found(damaged: Project) -> None:
    damaged.write(
        "conftest.py",
        "import os\nfrom pathlib import Path\n\n\n"
        "def pytest_collection_finish(session):\n"
        "    if hasattr(session.config, 'workerinput'):\n"
        "        Path('exp/T1/01/run_01/judge/judge_01/judgment.json').unlink(missing_ok=True)\n",
    )
    result = damaged.audit_apart("--repair", REPORT, "-n", "2")
    assert result.ret == 0
    found = experiment_of_repair(damaged)
    assert found["before"]["judge_slots"]["failed"] == 2  # as first audited, in the controlling process
    assert found["after"]["judge_slots"]["complete"] == 18
    assert found["completeness"] == 1


# --junitxml


def _properties(path: Path) -> dict[str, dict[str, str]]:
    """The properties of each test case of a JUnit report, by item id."""
    found = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        place = case.attrib["classname"].replace(".", "/").removeprefix("exp/")
        name = case.attrib["name"]
        item_id = f"{place}/{name}" if name.startswith("judge_") else place
        found[item_id] = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
    return found


@pytest.mark.parametrize("workers", ["0", "2"])
def test_junit_xml_tells_status_before_and_actions(damaged: Project, workers: str) -> None:
    beyond_rebuilding(damaged.experiment, "T1/02/run_02")
    assert damaged.audit("--repair", "--junitxml=junit.xml", "-n", workers).ret == 1
    found = _properties(damaged.path / "junit.xml")
    assert sorted(found) == sorted(item_ids())
    run = found["T1/01/run_01"]
    assert (run["status_before"], run["status"]) == ("results", "completed")
    assert run["actions"].startswith("rebuilt T1/01/run_01/run_result.json from ")
    assert "findings" not in run
    failed = found["T1/02/run_02"]
    assert (failed["status_before"], failed["status"]) == ("results", "results")
    assert "rebuilt T1/02/run_02/agent/output.txt from agent/stdout.log" in failed["actions"]
    assert "run_result.json not rebuilt: no record holds" in failed["actions"]
    assert "run-result-missing" in failed["findings"]
    healthy = found["T1/02/run_02/judge_01"]
    assert healthy == {"status_before": "complete", "status": "complete"}


def test_junit_xml_of_a_plan_tells_what_would_be_rebuilt_and_no_more(damaged: Project) -> None:
    damaged.audit("--repair-plan", "--junitxml=junit.xml")
    actions = _properties(damaged.path / "junit.xml")["T1/01/run_01"]["actions"]
    assert actions.startswith("would rebuild T1/01/run_01/run_result.json from ")
    assert "not rebuilt" not in actions


def test_junit_xml_of_an_audit_tells_neither(damaged: Project) -> None:
    damaged.audit("--junitxml=junit.xml")
    for properties in _properties(damaged.path / "junit.xml").values():
        assert not {"status_before", "actions"} & {*properties}


def test_a_repaired_item_is_no_failure_in_junit_xml(damaged: Project) -> None:
    damaged.audit("--repair", "--junitxml=junit.xml")
    (suite,) = ET.parse(damaged.path / "junit.xml").getroot().iter("testsuite")
    counts = [suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")]
    assert counts == [str(len(item_ids())), "0", "0", "0"]


# What nobody reads


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
def test_no_secret_of_the_environment_gets_into_anything_that_a_repair_writes(damaged: Project, option: str) -> None:
    log = damaged.experiment / "T1/01/run_01/agent/command_log.json"
    assert SECRET in log.read_text("utf-8")
    (damaged.experiment / "T1/01/run_01/agent/timing.json").unlink()  # so that the log is a source
    broken = damaged.experiment / "T1/02/run_01/agent/command_log.json"
    broken.write_text(broken.read_text("utf-8").partition(SECRET)[0] + SECRET)
    outputs = (REPORT, "--junitxml=junit.xml")
    result = damaged.audit(option, *outputs, "-vv", "-rA", "--tb=long", "-l")
    assert SECRET not in printed(result)
    for file in ("report.json", "junit.xml", ".pytest_cache/v/cache/lastfailed"):
        path = damaged.path / file
        assert not path.exists() or SECRET not in path.read_text("utf-8"), file
    if option == "--repair":
        assert journal(damaged.experiment)
    for path in damaged.experiment.rglob("*"):
        if path.is_file() and path.name != "command_log.json" and "quarantine" not in path.parts:
            assert SECRET.encode() not in path.read_bytes(), path


def test_what_stays_of_a_secret_is_readable_for_nobody_else_than_before(damaged: Project) -> None:
    output = damaged.experiment / "T0/00/run_02/agent/output.txt"
    output.chmod(0o600)
    damaged.audit("--repair")
    kept = [path for path in (damaged.experiment / ".scylla/quarantine").rglob("*") if path.is_file()]
    private = [path for path in kept if len(path.read_bytes()) == 100]
    assert private
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    assert output.stat().st_mode & 0o077 == 0


def test_the_report_of_a_repair_is_plain_ascii_json(damaged: Project) -> None:
    edit_json(judgment_of(damaged.experiment, "T0/00/run_01/judge_01"), score="\x1b\u202e\ud800caf\xe9")
    damaged.audit("--repair", REPORT)
    assert (damaged.path / "report.json").read_bytes().isascii()
    report_of_repair(damaged)


def test_a_report_inside_the_experiment_is_refused_before_anything_is_repaired(damaged: Project) -> None:
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", "--scylla-report=exp/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert snapshot(damaged.experiment) == before


def test_a_report_that_cannot_be_written_does_not_undo_the_repair(damaged: Project) -> None:
    assert damaged.audit("--repair", f"--scylla-report={'x' * 300}.json").ret == pytest.ExitCode.TESTS_FAILED
    assert damaged.audit().ret == 0
    assert json.loads((damaged.experiment / "T1/01/run_01/run_result.json").read_text("utf-8"))
