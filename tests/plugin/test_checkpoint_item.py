"""The checkpoint as an item: what is found wrong with it, what a repair makes of it, when its turn comes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import run_ids, small

from ..unit.repairing import journal, quarantined, staged, tree
from .judges import ScriptedJudge, judges
from .support import (
    CHECKPOINT,
    SLOTS,
    WHOLES,
    Project,
    acted_on,
    collected,
    counted_ids,
    damaged_for_free,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    node_id,
    node_ids,
    outcomes,
    printed,
    record_run,
    recorded_runs,
    report_of_repair,
    reports,
    snapshot,
    with_outcome,
    without_durations,
    write_logging,
)

FILE = "checkpoint.json"
NODE = "exp/checkpoint::checkpoint"
ALONE = "--scylla-select=checkpoint"
REPORT = "--scylla-report=report.json"
RUN = "T1/01/run_02"
REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8


def _path(project: Project) -> Path:
    return project.experiment / FILE


def _checkpoint(project: Project) -> dict[str, Any]:
    data = json.loads(_path(project).read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def _as_judged(project: Project) -> dict[str, str]:
    """How each run that is there has to be recorded, by its own run_result.json."""
    found = {}
    for run in run_ids(small()):
        path = project.experiment / run / "run_result.json"
        if path.exists():
            found[run] = "passed" if json.loads(path.read_text("utf-8"))["judge_passed"] else "failed"
    return found


def _other(state: str) -> str:
    return "failed" if state == "passed" else "passed"


def _message(result: pytest.RunResult) -> str:
    """What the failing checkpoint says."""
    (report,) = [report for report in reports(result) if report.nodeid == NODE and report.failed]
    return str(report.longrepr)


# What is wrong with it


def _absent(project: Project) -> None:
    _path(project).unlink()


def _malformed(project: Project) -> None:
    _path(project).write_text('{"version": "2.0", "comple')


def _invalid(project: Project) -> None:
    edit_json(_path(project), completed_runs=5)


def _other_configuration(project: Project) -> None:
    edit_json(_path(project), config_hash="0123456789abcdef")


def _absent_run(project: Project) -> None:
    lose_run(project.experiment, RUN)


def _run_not_recorded(project: Project) -> None:
    record_run(project.experiment, RUN, None)


def _other_ending(project: Project) -> None:
    record_run(project.experiment, RUN, _other(recorded_runs(project.experiment)[RUN]))


def _still_to_be_judged(project: Project) -> None:
    record_run(project.experiment, RUN, "agent_complete")


FAULTS: Mapping[str, tuple[Callable[[Project], None], str, str]] = {
    "absent": (_absent, "checkpoint-missing", "missing"),
    "malformed": (_malformed, "checkpoint-malformed", "malformed"),
    "invalid": (_invalid, "checkpoint-invalid", "malformed"),
    "absent-run": (_absent_run, "checkpoint-records-absent-run", "stale"),
    "run-not-recorded": (_run_not_recorded, "checkpoint-lacks-run", "stale"),
    "other-ending": (_other_ending, "checkpoint-state-differs", "stale"),
    "still-to-be-judged": (_still_to_be_judged, "checkpoint-state-differs", "stale"),
}
"""What a repair puts right: how to do it, the finding's code, and the checkpoint's status then."""

faulty = pytest.mark.parametrize("fault", FAULTS)


@faulty
def test_what_is_wrong_with_a_checkpoint_fails_its_item_and_writes_nothing(project: Project, fault: str) -> None:
    spoil, code, status = FAULTS[fault]
    spoil(project)
    before = snapshot(project.experiment)
    result = project.audit(REPORT)
    assert result.ret == 1
    failed = with_outcome(result, "failed")
    absent = [*(f"{RUN}/{slot}" for slot in SLOTS), RUN, *WHOLES]
    assert failed == (node_ids(absent) if fault == "absent-run" else [NODE])
    assert _message(result).startswith(f"{CHECKPOINT}: {status} ({code})\n  {code}: {FILE}")
    assert _message(result).endswith("\n  repair: free (record what the runs' own files say)")
    item = {item["id"]: item for item in project.only_experiment()["items"]}[CHECKPOINT]
    assert [finding["code"] for finding in item.pop("findings")] == [code]
    assert item == {
        "id": CHECKPOINT,
        "kind": "checkpoint",
        "nodeid": NODE,
        "status_before": status,
        "status": status,
        "outcome": "failed",
        "actions": [],
        "remedy": "free (record what the runs' own files say)",
        "level": "regenerate",
    }
    assert project.report()["exit_bits"] == DAMAGE_LEFT
    assert snapshot(project.experiment) == before


@faulty
def test_a_repair_records_what_the_runs_say_and_keeps_what_was_there(project: Project, fault: str) -> None:
    spoil, code, status = FAULTS[fault]
    expected = _checkpoint(project)
    spoil(project)
    old = _path(project).read_bytes() if _path(project).exists() else None
    before = tree(project.experiment)
    result = project.audit("--repair", ALONE, REPORT)
    assert result.ret == 0
    assert outcomes(result) == {NODE: "passed"}
    assert result.parseoutcomes() == {"repaired": 1}
    after = tree(project.experiment)
    assert [name for name in {*before, *after} if before.get(name) != after.get(name)] == [FILE]
    assert recorded_runs(project.experiment) == _as_judged(project)
    kept = ("version", "experiment_id", "config_hash")
    assert {key: _checkpoint(project)[key] for key in kept} == {key: expected[key] for key in kept}
    assert [*quarantined(project.experiment).values()] == ([] if old is None else [old])
    (entry,) = journal(project.experiment)
    assert (entry["item"], entry["file"], entry["solves"]) == (CHECKPOINT, FILE, [code])
    assert staged(project.experiment) == []
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status_before"], item["status"], item["outcome"]) == (status, "sound", "repaired")
    assert item["findings"] == []
    (action,) = acted_on(project)[CHECKPOINT]
    assert action == {
        "level": "regenerate",
        "what": FILE,
        "files": [FILE],
        "solved": [code],
        "sources": [],
        "outcome": "done",
        "reason": None,
        "calls": 0,
        "cost_usd": 0,
    }
    assert project.audit(ALONE).ret == 0


@faulty
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_second_repair_changes_nothing(project: Project, fault: str, workers: str) -> None:
    FAULTS[fault][0](project)
    project.audit("--repair", "--repair-level=regenerate", "-n", workers)
    before = snapshot(project.experiment)
    again = project.audit("--repair", "--repair-level=regenerate", "-n", workers, REPORT)
    assert again.ret == (1 if fault == "absent-run" else 0)
    assert snapshot(project.experiment) == before
    assert CHECKPOINT not in items_of_repair(project)
    assert report_of_repair(project)["exit_bits"] & REPAIRED == 0


@faulty
@pytest.mark.parametrize("option", [(), ("--repair-plan",), ("--repair", "--repair-level=regenerate")], ids=" ".join)
def test_workers_tell_the_same(project: Project, fault: str, option: tuple[str, ...]) -> None:
    told = []
    for workers in ("0", "2"):
        shutil.copytree(project.experiment, project.path / "kept")
        FAULTS[fault][0](project)
        result = project.audit(*option, "-n", workers, REPORT)
        found = without_durations(report_of_repair(project))
        told.append((result.ret, found, result.parseoutcomes()))
        shutil.rmtree(project.experiment)
        (project.path / "kept").rename(project.experiment)
    assert told[0] == told[1]


@pytest.mark.parametrize("args", [("--repair",), ("--repair-plan",), ("--repair", "-n", "2")], ids=" ".join)
def test_a_checkpoint_of_another_configuration_is_left_to_a_person(project: Project, args: tuple[str, ...]) -> None:
    _other_configuration(project)
    _run_not_recorded(project)
    before = tree(project.experiment)
    result = project.audit(*args, REPORT)
    assert result.ret == 1
    assert with_outcome(result, "failed") == [NODE]
    assert f"{CHECKPOINT}: conflict (checkpoint-config-differs, checkpoint-lacks-run)\n" in _message(result)
    assert "checkpoint.json not rebuilt: expected the hash of config/experiment.json" in _message(result)
    assert _message(result).endswith("  repair: none: sound records contradict each other, a person has to decide")
    (action,) = acted_on(project)[CHECKPOINT]
    assert (action["outcome"], action["files"]) == ("refused", [])
    assert "nothing proves by which of the two the runs were made" in action["reason"]
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT
    assert tree(project.experiment) == before
    assert quarantined(project.experiment) == {}


def test_an_audit_names_no_repair_for_a_checkpoint_of_another_configuration(project: Project) -> None:
    edit_json(project.experiment / "config" / "experiment.json", timeout_seconds=7)
    assert "repair: none: sound records contradict each other" in _message(project.audit())


def test_a_link_in_its_place_is_neither_followed_nor_replaced(project: Project) -> None:
    target = project.path / "elsewhere.json"
    _path(project).rename(target)
    _path(project).symlink_to(target)
    before, content = tree(project.experiment), target.read_bytes()
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert _message(result).startswith(f"{CHECKPOINT}: unsafe (unsafe-object)\n")
    assert "repair: none: put a regular file" in _message(result)
    assert (tree(project.experiment), target.read_bytes()) == (before, content)


def test_a_checkpoint_of_a_version_yet_unknown_is_not_touched_and_says_why(project: Project) -> None:
    edit_json(_path(project), version="9.0")
    before = _path(project).read_bytes()
    assert 'repair: none: expected version 2.0 or 3.1, found "9.0"' in _message(project.audit())
    assert project.audit("--repair").ret == 1
    assert _path(project).read_bytes() == before


# A sound one


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--repair-level=agents",)], ids=" ".join)
def test_a_sound_checkpoint_is_not_touched_by_a_repair(project: Project, args: tuple[str, ...]) -> None:
    before = snapshot(project.experiment)
    result = project.audit("--repair", *args, REPORT)
    assert result.ret == 0
    assert snapshot(project.experiment) == before
    assert experiment_of_repair(project)["items"] == []


def test_the_recorded_experiment_has_a_sound_one(recorded_experiment: Path, empty_project: Project) -> None:
    empty_project.copy(recorded_experiment, "exp")
    result = empty_project.audit("--scylla-select=checkpoint", "-v")
    assert result.ret == 0
    assert "checkpoint    sound" in result.outlines


def test_that_of_the_healthy_sample_is_sound(empty_project: Project) -> None:
    empty_project.copy(Path(__file__).resolve().parents[2] / "examples" / "healthy", "exp")
    assert empty_project.audit(ALONE).ret == 0


def test_that_of_the_later_layout_is_sound(empty_project: Project, staged_experiment: Path) -> None:
    empty_project.copy(staged_experiment, "exp")
    assert empty_project.audit(ALONE).ret == 0


def test_it_is_no_part_of_counts_selected_or_completeness(project: Project) -> None:
    _run_not_recorded(project)
    project.audit(REPORT)
    found = project.only_experiment()
    assert found["completeness"] == 1
    assert (found["selected"], found["not_audited"]) == (len(counted_ids()), 0)
    project.audit(REPORT, ALONE)
    found = project.only_experiment()
    assert (found["selected"], found["not_audited"], found["completeness"]) == (0, len(counted_ids()), None)


# Which sessions look at it


@pytest.mark.parametrize(
    "args",
    [
        ("-k", "run"),
        ("-k", "judge_01"),
        ("-k", "T0 or T1"),
        ("-m", "scylla_run"),
        ("-m", "scylla_judge or scylla_run"),
        ("--deselect", "exp/checkpoint"),
        ("--deselect", NODE),
        ("--scylla-select=T*",),
        ("--scylla-select=T1/01/run_02",),
        ("--scylla-select=*/run_0?",),
        ("--scylla-select=*/judge_01",),
    ],
    ids=" ".join,
)
def test_a_selection_of_runs_or_slots_leaves_it_out(project: Project, args: tuple[str, ...]) -> None:
    _run_not_recorded(project)
    result = project.audit(*args)
    assert result.ret == 0
    assert outcomes(result)
    assert NODE not in outcomes(result)


@pytest.mark.parametrize(
    "args",
    [
        ("-k", "checkpoint"),
        ("-k", "not run and not aggregates"),
        ("-m", "scylla_checkpoint", "--strict-markers"),
        ("-m", "not scylla_run and not scylla_judge and not scylla_aggregates"),
        ("--deselect", "exp/T0", "--deselect", "exp/T1", "--deselect", "exp/aggregates"),
        ("--scylla-select=checkpoint",),
        ("--scylla-select=check*",),
        ("--scylla-select=*", "-k", "checkpoint"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_can_be_looked_at_alone(project: Project, args: tuple[str, ...], workers: str) -> None:
    assert project.audit(*args, "-n", workers).parseoutcomes().get("passed") == 1
    lose_run(project.experiment, RUN)
    result = project.audit(*args, "-n", workers, REPORT)
    assert result.ret == 1
    assert outcomes(result) == {NODE: "failed"}
    (item,) = project.only_experiment()["items"]
    assert item["id"] == CHECKPOINT
    assert RUN in item["findings"][0]["message"]


def test_a_selection_of_everything_has_it(project: Project) -> None:
    assert list(outcomes(project.audit("--scylla-select=*"))) == node_ids()


def test_collecting_only_lists_it_behind_the_runs(project: Project) -> None:
    _absent(project)
    before = snapshot(project.experiment)
    assert collected(project.audit("--co", "-q", "--repair")) == node_ids([*counted_ids(), *WHOLES])
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize(
    ("args", "mended"),
    [
        (("--repair-status=checkpoint:stale",), True),
        (("--repair-status=checkpoint:missing", "--repair-status=checkpoint:stale"), True),
        (("--repair-status=checkpoint:missing",), False),
        (("--repair-status=run:results", "--repair-status=slot:failed"), False),
    ],
    ids=str,
)
def test_a_repair_of_some_statuses_mends_it_only_if_its_own_is_among_them(
    project: Project, args: tuple[str, ...], mended: bool
) -> None:
    _run_not_recorded(project)
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    project.audit("--repair", *args)
    assert (RUN in recorded_runs(project.experiment)) is mended


def test_a_skipped_one_is_left_as_it_is(project: Project) -> None:
    _run_not_recorded(project)
    write_logging(
        project,
        "def pytest_collection_modifyitems(items):\n    items[-2].add_marker(pytest.mark.skip(reason='mine'))\n",
    )
    before = _path(project).read_bytes()
    result = project.audit("--repair")
    assert outcomes(result)[NODE] == "skipped"
    assert _path(project).read_bytes() == before


# What it is held to


def test_an_audit_of_everything_reads_each_run_once(project: Project, audits: list[str]) -> None:
    damaged_in_several_ways(project.experiment)
    project.audit()
    assert audits == list(run_ids(small()))


def test_a_repair_of_a_healthy_experiment_reads_each_run_once(project: Project, audits: list[str]) -> None:
    assert project.audit("--repair").ret == 0
    assert audits == list(run_ids(small()))


def test_runs_that_are_not_selected_are_read_for_it(project: Project, audits: list[str]) -> None:
    project.audit("-k", "checkpoint or T0")
    assert audits == list(run_ids(small()))


def test_no_run_is_read_where_it_is_not_selected(project: Project, audits: list[str]) -> None:
    project.audit("-k", "T0")
    assert audits == [run for run in run_ids(small()) if run.startswith("T0")]


def test_a_run_of_which_a_judgment_is_lost_counts_as_still_to_be_judged(project: Project) -> None:
    for name in ("judge/result.json", "run_result.json"):
        (project.experiment / RUN / name).unlink()
    assert with_outcome(project.audit(), "failed") == node_ids([RUN])  # its judges still say how it ended
    lose_slot(project.experiment, f"{RUN}/judge_01")
    assert 'instead of "agent_complete"' in _message(project.audit())
    record_run(project.experiment, RUN, "agent_complete")
    assert NODE not in with_outcome(project.audit(), "failed")


@pytest.mark.parametrize("option", [(), ("--repair",), ("--repair-plan",)], ids=" ".join)
def test_an_experiment_that_is_gone_by_then_fails_it(project: Project, option: tuple[str, ...]) -> None:
    write_logging(project, "import os\n\n\ndef pytest_collection_finish():\n    os.rename('exp', 'moved')\n")
    result = project.audit_apart(ALONE, *option)
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert result.stdout.str().count("\n  experiment-gone: ") == 1


# When its turn comes


@pytest.mark.parametrize("workers", ["0", "2", "3"])
def test_a_repair_of_the_runs_comes_first_and_is_recorded(project: Project, workers: str) -> None:
    damaged_for_free(project.experiment)
    for run in ("T0/00/run_02", "T1/01/run_01", RUN):
        record_run(project.experiment, run, "agent_complete")
    result = project.audit("--repair", "-n", workers, REPORT)
    assert result.ret == 0
    assert recorded_runs(project.experiment) == _as_judged(project)
    (action,) = acted_on(project)[CHECKPOINT]
    assert (action["outcome"], action["solved"]) == ("done", ["checkpoint-state-differs"])
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status_before"], item["status"], item["outcome"]) == ("sound", "sound", "repaired")
    before = snapshot(project.experiment)
    assert project.audit("--repair").parseoutcomes() == {"passed": len(item_ids())}
    assert snapshot(project.experiment) == before


def test_what_is_right_again_once_the_runs_are_is_not_written(project: Project) -> None:
    damaged_for_free(project.experiment)
    before = _path(project).read_bytes()
    assert NODE in with_outcome(project.audit(), "failed")
    assert project.audit("--repair", REPORT).ret == 0
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status_before"], item["status"], item["outcome"]) == ("stale", "sound", "repaired")
    assert item["actions"] == []
    assert _path(project).read_bytes() == before


def _in_front(project: Project) -> None:
    write_logging(project, "def pytest_collection_modifyitems(items):\n    items.reverse()\n")


def _failed_before(project: Project) -> None:
    _absent(project)
    project.audit("-k", "checkpoint")
    shutil.copy(project.path / "kept.json", _path(project))


@pytest.mark.parametrize(("prepare", "args"), [(_in_front, ()), (_failed_before, ("--ff",))])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_whoever_orders_the_items_it_comes_after_its_runs(
    project: Project, prepare: Callable[[Project], None], args: tuple[str, ...], workers: str
) -> None:
    lose_run_result(project.experiment, RUN)
    record_run(project.experiment, RUN, "agent_complete")
    shutil.copy(_path(project), project.path / "kept.json")
    prepare(project)
    result = project.audit("--repair", *args, "-n", workers)
    assert result.ret == 0
    assert recorded_runs(project.experiment) == _as_judged(project)
    assert list(outcomes(result))[-2:] == node_ids(WHOLES)


WAITS_FOR_THE_CHECKPOINT = """
import os
import time


def pytest_runtest_logfinish(nodeid):
    if nodeid.endswith("::checkpoint"):
        open("come", "w").close()


def pytest_runtest_setup(item):
    deadline = time.monotonic() + 300
    while {run!r} in item.nodeid and not os.path.exists("come"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


@pytest.mark.parametrize("mode", ["loadfile", "loadscope"])
@pytest.mark.parametrize("recorded", ["agent_complete", None])
def test_where_it_comes_before_a_run_the_controlling_process_mends_it_in_the_end(
    project: Project, mode: str, recorded: str | None
) -> None:
    lose_run_result(project.experiment, RUN)
    record_run(project.experiment, RUN, recorded)
    old = _path(project).read_bytes()
    project.write("conftest.py", WAITS_FOR_THE_CHECKPOINT.format(run=RUN))
    result = project.audit_apart("--repair", "-n", "2", f"--dist={mode}", REPORT)
    assert (project.path / "come").exists()
    assert result.ret == 0, printed(result)
    assert recorded_runs(project.experiment) == _as_judged(project)
    assert [*quarantined(project.experiment).values()] == [old]
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status"], item["outcome"], len(item["actions"])) == ("sound", "repaired", 1)
    (project.path / "conftest.py").unlink()
    assert project.audit().ret == 0


PUTS_A_LINK_IN_ITS_PLACE = """

def pytest_testnodedown():
    if not os.path.exists("moved.json"):
        os.rename("exp/checkpoint.json", "moved.json")
        os.symlink("../moved.json", "exp/checkpoint.json")
"""


def test_what_the_controlling_process_cannot_mend_is_not_green(project: Project) -> None:
    lose_run_result(project.experiment, RUN)
    record_run(project.experiment, RUN, "agent_complete")
    project.write("conftest.py", WAITS_FOR_THE_CHECKPOINT.format(run=RUN) + PUTS_A_LINK_IN_ITS_PLACE)
    result = project.audit_apart("--repair", "-n", "2", "--dist=loadfile", REPORT)
    assert result.ret == 1, printed(result)
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status"], item["outcome"]) == ("unsafe", "failed")
    assert "checkpoint    unsafe (unsafe-object), was sound" in result.outlines


def test_a_session_that_stops_before_it_leaves_it(project: Project) -> None:
    _run_not_recorded(project)
    lose_slot(project.experiment, "T0/00/run_01/judge_01")
    before = _path(project).read_bytes()
    assert project.audit("--repair", "--repair-level=regenerate", "-x", REPORT).ret == 1
    assert items_of_repair(project)[CHECKPOINT]["outcome"] == "not-run"
    assert report_of_repair(project)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT
    assert _path(project).read_bytes() == before


# Its plan


def _lost_and_to_be_judged(project: Project) -> None:
    """A run that is complete once its run_result.json is rebuilt, and then has to be recorded."""
    lose_run_result(project.experiment, RUN)
    record_run(project.experiment, RUN, "agent_complete")


PLANNED = {**{name: spoil for name, (spoil, _, _) in FAULTS.items()}, "after-the-runs": _lost_and_to_be_judged}


@pytest.mark.parametrize("fault", PLANNED)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_a_plan_says_of_it_is_what_the_repair_then_does(project: Project, fault: str, workers: str) -> None:
    PLANNED[fault](project)
    before = snapshot(project.experiment)
    args = ("--repair-level=regenerate", "-n", workers)
    result = project.audit("--repair-plan", *args, "--scylla-report=plan.json", "--tb=no")
    assert snapshot(project.experiment) == before
    assert any(line.startswith("would rebuild ") and FILE in line for line in result.outlines)
    project.audit("--repair", *args, "--scylla-report=done.json")
    plan, done = acted_on(project, "plan.json"), acted_on(project, "done.json")
    (action,) = plan[CHECKPOINT]
    assert action["outcome"] == "planned"
    assert [{**action, "outcome": "done"}] == done[CHECKPOINT]
    assert {*plan} == {*done}


@pytest.mark.parametrize("recorded", ["agent_complete", "passed", "failed"])
def test_a_plan_knows_that_a_run_will_be_recorded_once_it_is_judged(
    project: Project, judge: ScriptedJudge, recorded: str
) -> None:
    for name in ("judge/result.json", "run_result.json"):
        (project.experiment / RUN / name).unlink()
    lose_slot(project.experiment, f"{RUN}/judge_01")
    record_run(project.experiment, RUN, recorded)
    judge.does({f"{RUN}/judge_01": [judges()]})
    project.audit("--repair-plan", "--scylla-report=plan.json")
    planned = acted_on(project, "plan.json").get(CHECKPOINT, [])
    assert [action["files"] for action in planned] == ([[FILE]] if recorded == "agent_complete" else [])
    assert project.audit("--repair", "--scylla-report=done.json").ret == 0
    assert len(judge.calls) == 1
    assert recorded_runs(project.experiment) == _as_judged(project)


def test_a_plan_looks_at_the_runs_of_its_own_experiment(project: Project, wide_experiment: Path) -> None:
    lose_run(project.copy(wide_experiment, "wide"), "T0/01/run_03")
    result = project.audit("--repair-plan", "--repair-level=agents", "--scylla-exp=wide")
    assert outcomes(result)[NODE] == "passed"
    assert outcomes(result)["wide/checkpoint::checkpoint"] == "failed"


# What is told


def test_the_summary_of_a_repair_says_what_became_of_it(project: Project) -> None:
    _run_not_recorded(project)
    lose_run_result(project.experiment, "T0/00/run_01")
    lines = project.audit("--repair").outlines
    assert "checkpoint    sound, was stale" in lines
    assert "rebuilt 1 file in 1 run and checkpoint.json" in lines
    _run_not_recorded(project)
    assert "  rebuilt checkpoint.json" in project.audit("--repair", "-v").outlines
    _run_not_recorded(project)
    assert "rebuilt checkpoint.json" in project.audit("--repair").outlines


def test_its_location_is_the_file(project: Project) -> None:
    _run_not_recorded(project)
    (report,) = [report for report in reports(project.audit()) if report.nodeid == NODE and report.failed]
    assert report.location == (f"exp/{FILE}", 0, CHECKPOINT)
    assert dict(report.user_properties)["status"] == "stale"


def test_many_failures_list_it_as_a_cause_with_the_command_that_shows_it(wide_project: Project) -> None:
    for number in range(1, 5):
        lose_run(wide_project.experiment, f"T0/00/run_{number:02d}")
        lose_run(wide_project.experiment, f"T0/01/run_{number:02d}")
    lines = wide_project.audit().outlines
    at = lines.index("checkpoint stale: checkpoint-records-absent-run")
    assert "    look at one: pytest --scylla-exp=exp --scylla-select=checkpoint" in lines[at : at + 5]


def test_texts_of_a_checkpoint_are_escaped(project: Project) -> None:
    edit_json(_path(project), config_hash="\x1b[31m\u202e::error::x", version="2.0")
    for args in ((), ("-n", "2"), ("--repair",)):
        text = printed(project.audit(*args))
        assert "checkpoint" in text
        for part in ("\x1b", "\u202e", "::error"):
            assert part not in text


def test_a_configuration_that_changed_since_is_named(project: Project) -> None:
    edit_config(project.experiment, timeout_seconds=7)  # and the checkpoint with it
    assert project.audit().ret == 0
    edit_json(project.experiment / "config" / "experiment.json", timeout_seconds=8)
    assert with_outcome(project.audit(), "failed") == [node_id(CHECKPOINT)]
