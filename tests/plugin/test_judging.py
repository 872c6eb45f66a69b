"""What a user sees of ``pytest --repair`` where a judge has to be asked: whom for what, what is written, what fails."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.auditing.consensus import grade_of

from ..unit.repairing import journal, quarantined, staged, tree
from .judges import (
    COMMAND,
    INTERRUPTED,
    MODELS,
    ScriptedJudge,
    Step,
    breaks,
    judges,
    permanent,
    says,
    timeout,
    verdict,
)
from .support import (
    AGGREGATES,
    BUT_AGGREGATES,
    SLOTS,
    Project,
    acted_on,
    edit_json,
    experiment_of_repair,
    items_of_repair,
    judgment_of,
    lose_judgment,
    lose_run,
    lose_slot,
    node_id,
    outcomes,
    printed,
    report_of_repair,
    run_result_of,
    snapshot,
    with_outcome,
)

REPORT = "--scylla-report=report.json"
RUN = "T0/00/run_01"
SLOT = f"{RUN}/judge_01"
SLOT_FILES = ("stderr.log", "MODEL.md", "timing.json", "response.txt", "stdout.log", "judgment.json")

REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8
"""The bits of the report's exit_bits."""


def slot_dir(experiment: Path, slot: str) -> Path:
    """The directory of a slot."""
    return judgment_of(experiment, slot).parent


def lose_slot_directory(experiment: Path, slot: str) -> None:
    """Take a slot as a whole."""
    shutil.rmtree(slot_dir(experiment, slot))


LOSSES = {"missing": lose_slot_directory, "failed": lose_slot}
"""The two ways in which only a judge can restore a slot, by the status that it has then."""


def record(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def attempts(experiment: Path, slot: str) -> list[dict[str, Any]]:
    """The attempts at a slot that are kept."""
    folder = experiment / ".scylla" / "attempts" / slot.replace("/", "-")
    return [record(path) for path in sorted(folder.glob("*.json"))]


def written(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The files that are new or other than before."""
    return sorted(path for path in after if Path(path).suffix and after[path] != before.get(path))


def assert_consensus_follows(experiment: Path, run: str) -> None:
    """Check that consensus and run_result.json are what the run's three judgments say."""
    judgments = [record(judgment_of(experiment, f"{run}/{slot}")) for slot in SLOTS]
    score = math.fsum(judgment["score"] for judgment in judgments) / len(judgments)
    passed = sum(judgment["passed"] for judgment in judgments) > 1
    consensus, result = record(experiment / run / "judge/result.json"), record(run_result_of(experiment, run))
    assert consensus["score"] == pytest.approx(score)
    assert (consensus["passed"], consensus["grade"]) == (passed, grade_of(consensus["score"]))
    assert result["judge_score"] == pytest.approx(score)
    assert (result["judge_passed"], result["judge_grade"]) == (passed, consensus["grade"])
    listed = [(entry["model"], entry["score"], entry["passed"]) for entry in result["judges"]]
    models = MODELS.values()
    assert listed == [(model, each["score"], each["passed"]) for model, each in zip(models, judgments, strict=True)]


# A slot that is judged


@pytest.mark.parametrize("status", LOSSES)
def test_a_slot_that_no_file_gives_back_is_asked_about_once(
    project: Project, judge: ScriptedJudge, status: str
) -> None:
    slot = f"{RUN}/judge_02"
    LOSSES[status](project.experiment, slot)
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    (call,) = judge.calls
    prompt = project.experiment / RUN / "judge_prompt.md"
    assert (call.slot, call.model, call.attempt) == (slot, "judge-medium-1", 1)
    assert call.prompt == prompt.read_bytes()
    assert (call.prompt_file, call.workspace, call.timeout) == (prompt, None, 1200.0)
    assert with_outcome(result, "passed").count(node_id(slot)) == 1
    assert "failed" not in result.parseoutcomes()
    repaired = [item_id for item_id, item in items_of_repair(project).items() if item["outcome"] == "repaired"]
    assert repaired == [slot, AGGREGATES]  # which count what the judge says now
    item = items_of_repair(project)[slot]
    assert (item["status_before"], item["status"], item["outcome"]) == (status, "complete", "repaired")
    assert report_of_repair(project)["exit_bits"] == REPAIRED


def test_slots_of_a_run_are_asked_about_in_their_order_each_by_its_own_model(
    project: Project, judge: ScriptedJudge
) -> None:
    for run in ("T1/02/run_01", RUN):
        for slot, lose in zip(SLOTS, (lose_slot, lose_slot_directory, lose_slot), strict=True):
            lose(project.experiment, f"{run}/{slot}")
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    slots = [f"{run}/{slot}" for run in (RUN, "T1/02/run_01") for slot in SLOTS]
    assert [(call.slot, call.model) for call in judge.calls] == [(slot, MODELS[slot[-8:]]) for slot in slots]
    assert project.audit("--scylla-strict").ret == 0
    assert report_of_repair(project)["exit_bits"] == REPAIRED


def test_a_run_that_comes_before_its_slots_is_judged_by_them_all_the_same(
    project: Project, judge: ScriptedJudge
) -> None:
    for run in ("T1/02/run_01", RUN):
        for slot in SLOTS:
            lose_slot_directory(project.experiment, f"{run}/{slot}")
    project.reverse_items()
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    assert judge.asked == [f"{run}/{slot}" for run in ("T1/02/run_01", RUN) for slot in reversed(SLOTS)]
    repaired = {item_id for item_id, item in items_of_repair(project).items() if item["outcome"] == "repaired"}
    assert repaired >= {*judge.asked, RUN, "T1/02/run_01", AGGREGATES}
    assert [acted_on(project)[slot][0]["what"] for slot in judge.asked] == ["judge call"] * 6


def test_what_the_judge_of_a_slot_raises_is_shown_by_that_slot_also_where_its_run_comes_first(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot_directory(project.experiment, SLOT)
    judge.does(otherwise=[breaks()])
    project.reverse_items()
    result = project.audit("--repair")
    assert result.ret == 1
    assert judge.asked == [SLOT]
    assert with_outcome(result, "failed") == [node_id(SLOT)]
    assert "RuntimeError: a bug in my judge" in printed(result)


@pytest.mark.parametrize("status", LOSSES)
def test_the_six_files_of_the_slot_are_written_and_what_follows_from_them(
    project: Project, judge: ScriptedJudge, status: str
) -> None:
    judge.does(otherwise=[judges(0.35, passed=False, cost=0.25)])
    LOSSES[status](project.experiment, SLOT)
    before = tree(project.experiment)
    assert project.audit("--repair", REPORT, BUT_AGGREGATES).ret == 0
    assert judge.asked == [SLOT]
    folder = slot_dir(project.experiment, SLOT)
    files = [f"{RUN}/judge/judge_01/{name}" for name in SLOT_FILES]
    after = tree(project.experiment)
    kept = ["MODEL.md"] if status == "failed" else []  # its content is the same
    expected = sorted([*files, f"{RUN}/judge/result.json", f"{RUN}/run_result.json"])
    assert {*written(before, after)} | {f"{RUN}/judge/judge_01/{name}" for name in kept} == {*expected}
    assert {*after} - {*before} <= {*expected, f"{RUN}/judge/judge_01"}
    text = verdict(0.35, passed=False)
    assert (folder / "response.txt").read_text() == (folder / "stdout.log").read_text() == text
    assert (folder / "stderr.log").read_bytes() == b""
    assert "**Model**: judge-large-1" in (folder / "MODEL.md").read_text()
    judgment = record(folder / "judgment.json")
    assert (judgment["score"], judgment["passed"], judgment["grade"]) == (0.35, False, "D")
    assert (judgment["reasoning"], judgment["is_valid"]) == ("It does what was asked.", True)
    assert {*record(folder / "timing.json")} == {"judge_duration_seconds", "measured_at"}
    assert_consensus_follows(project.experiment, RUN)
    call, *follows = acted_on(project)[SLOT]
    assert (call["level"], call["what"], call["outcome"], call["files"]) == ("judges", "judge call", "done", files)
    assert (call["calls"], call["cost_usd"], call["sources"]) == (1, 0.25, [f"{RUN}/judge_prompt.md"])
    assert [(action["what"], action["outcome"], action["calls"]) for action in follows] == [
        ("judge/result.json", "done", 0),
        ("run_result.json", "done", 0),
    ]
    assert staged(project.experiment) == []


@pytest.mark.parametrize("selection", [("-k", "judge_01"), (f"--scylla-select={SLOT}",), ("-m", "scylla_judge")])
def test_consensus_and_run_result_follow_at_once_where_the_run_itself_is_not_selected(
    project: Project, judge: ScriptedJudge, selection: tuple[str, ...]
) -> None:
    judge.does(otherwise=[judges(0.1, passed=False)])
    lose_slot(project.experiment, SLOT)
    assert project.audit("--repair", *selection, REPORT).ret == 0
    assert judge.asked == [SLOT]
    assert_consensus_follows(project.experiment, RUN)
    assert [*acted_on(project)] == [SLOT]
    project.audit("--repair", REPORT)
    assert [*acted_on(project)] == [AGGREGATES]
    assert judge.asked == [SLOT]


def test_of_a_run_that_lacks_more_only_what_is_selected_is_judged(project: Project, judge: ScriptedJudge) -> None:
    for slot in SLOTS[:2]:
        lose_slot(project.experiment, f"{RUN}/{slot}")
    result = project.audit("--repair", "-k", "judge_02", REPORT)
    assert result.ret == 0
    assert judge.asked == [f"{RUN}/judge_02"]
    assert not judgment_of(project.experiment, SLOT).exists()
    result = project.audit("--repair")
    assert judge.asked == [f"{RUN}/judge_02", SLOT]
    assert result.ret == 0
    assert_consensus_follows(project.experiment, RUN)


def test_only_slots_of_a_status_that_was_asked_for_are_judged(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    lose_slot_directory(project.experiment, "T1/01/run_02/judge_03")
    statuses = ("--repair-status=slot:missing", "--repair-status=aggregates:stale")
    result = project.audit("--repair", *statuses, REPORT)
    assert result.ret == 1
    assert judge.asked == ["T1/01/run_02/judge_03"]
    assert with_outcome(result, "failed") == [node_id(SLOT)]
    assert report_of_repair(project)["exit_bits"] == REPAIRED + DAMAGE_LEFT


def test_a_second_repair_asks_nobody_and_changes_no_byte(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    lose_slot_directory(project.experiment, "T1/01/run_02/judge_03")
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT, "T1/01/run_02/judge_03"]
    before = snapshot(project.experiment)
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    assert {*result.parseoutcomes()} == {"passed"}
    assert len(judge.calls) == 2
    assert snapshot(project.experiment) == before
    assert experiment_of_repair(project)["items"] == []
    assert report_of_repair(project)["exit_bits"] == 0


def test_what_was_replaced_is_kept(project: Project, judge: ScriptedJudge) -> None:
    folder = slot_dir(project.experiment, SLOT)
    lose_slot(project.experiment, SLOT)
    (folder / "judgment.json").write_text('{"score": 2')
    names = (folder / "judgment.json", folder / "timing.json", folder.parent / "result.json")
    replaced = {path.read_bytes() for path in (*names, run_result_of(project.experiment, RUN))}
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT]
    assert replaced <= {*quarantined(project.experiment).values()}


def test_the_call_is_in_the_journal_and_its_answer_is_kept(project: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[judges(cost=0.25)])
    lose_slot(project.experiment, SLOT)
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT]
    (entry,) = [entry for entry in journal(project.experiment) if entry["what"] == "judge-call"]
    assert (entry["item"], entry["command"], entry["model"]) == (SLOT, COMMAND, "judge-large-1")
    assert (entry["outcome"], entry["attempt"], entry["cost_usd"], entry["reason"]) == ("answered", 1, 0.25, None)
    (kept,) = attempts(project.experiment, SLOT)
    assert (kept["number"], kept["failure"], kept["unusable"], kept["cost_usd"]) == (1, None, None, 0.25)
    folder = project.experiment / ".scylla/attempts/T0-00-run_01-judge_01"
    assert (folder / "01.response.txt").read_text() == verdict()


def test_the_workspace_is_named_where_it_is_a_directory(project: Project, judge: ScriptedJudge) -> None:
    for run in (RUN, "T0/00/run_02", "T1/01/run_01"):
        lose_slot(project.experiment, f"{run}/judge_01")
    workspace = project.experiment / RUN / "workspace"
    workspace.mkdir()
    elsewhere = project.path / "elsewhere"
    elsewhere.mkdir()
    (project.experiment / "T0/00/run_02/workspace").symlink_to(elsewhere)
    assert project.audit("--repair").ret == 0
    assert {call.slot[:-9]: call.workspace for call in judge.calls} == {
        RUN: workspace,
        "T0/00/run_02": None,
        "T1/01/run_01": None,
    }


@pytest.mark.parametrize("given", ["exp", "link", "../exp"])
def test_paths_in_a_call_are_absolute_however_the_experiment_was_named(
    project: Project, judge: ScriptedJudge, given: str
) -> None:
    lose_slot(project.experiment, SLOT)
    project.write("pytest.ini", "[pytest]\n")
    (project.path / "link").symlink_to("exp")
    cwd = project.path
    if given == "../exp":
        cwd = project.path / "below"
        cwd.mkdir()
    assert project.run(f"--scylla-exp={given}", "--repair", cwd=cwd).ret == 0
    (call,) = judge.calls
    assert call.prompt_file.is_absolute()
    assert call.prompt_file.samefile(project.experiment / RUN / "judge_prompt.md")


def test_what_is_free_is_rebuilt_before_anybody_is_asked_and_counts_in_the_consensus(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    lose_judgment(project.experiment, f"{RUN}/judge_03")
    free = judgment_of(project.experiment, f"{RUN}/judge_03")
    judge.does(watched=[free])
    assert project.audit("--repair", REPORT).ret == 0
    (call,) = judge.calls
    assert call.slot == SLOT
    assert call.seen == (str(free),)
    assert_consensus_follows(project.experiment, RUN)
    assert [*acted_on(project)] == [SLOT, f"{RUN}/judge_03", AGGREGATES]


def test_judgments_of_a_run_that_has_none_left_make_its_consensus_anew(project: Project, judge: ScriptedJudge) -> None:
    for slot in SLOTS:
        lose_slot_directory(project.experiment, f"{RUN}/{slot}")
    shutil.rmtree(project.experiment / RUN / "judge")
    run_result_of(project.experiment, RUN).unlink()
    judge.does({f"{RUN}/{slot}": [judges(score)] for slot, score in zip(SLOTS, (0.2, 0.5, 0.9), strict=True)})
    result = project.audit("--repair", REPORT)
    assert judge.asked == [f"{RUN}/{slot}" for slot in SLOTS]
    assert result.ret == 0
    assert_consensus_follows(project.experiment, RUN)
    assert items_of_repair(project)[RUN]["outcome"] == "repaired"
    assert project.audit("--scylla-strict").ret == 0


def test_a_slot_whose_fallback_is_to_be_refused_is_judged(project: Project, judge: ScriptedJudge) -> None:
    edit_json(judgment_of(project.experiment, SLOT), fallback=True)
    assert project.audit("--repair", "-o", "scylla_fallback=fail").ret == 0
    assert judge.asked == [SLOT]
    assert "fallback" not in record(judgment_of(project.experiment, SLOT))


# Where nobody is asked


def _prompt_lost(experiment: Path) -> None:
    lose_slot(experiment, SLOT)
    (experiment / RUN / "judge_prompt.md").unlink()


def _prompt_blank(experiment: Path) -> None:
    lose_slot(experiment, SLOT)
    (experiment / RUN / "judge_prompt.md").write_text(" \n\t\n")


def _prompt_elsewhere(experiment: Path) -> None:
    lose_slot(experiment, SLOT)
    prompt = experiment / RUN / "judge_prompt.md"
    prompt.rename(experiment / "prompt-elsewhere.md")
    prompt.symlink_to(experiment / "prompt-elsewhere.md")


def _in_conflict(experiment: Path) -> None:
    edit_json(judgment_of(experiment, SLOT), score=0.123)


def _another_model(experiment: Path) -> None:
    (slot_dir(experiment, SLOT) / "MODEL.md").write_text("# Judge\n\n**Model**: somebody-else\n")


def _unsafe(experiment: Path) -> None:
    lose_slot(experiment, SLOT)
    judgment_of(experiment, SLOT).symlink_to("/dev/null")


def _agent_lost(experiment: Path) -> None:
    lose_slot(experiment, SLOT)
    for name in ("output.txt", "stdout.log", "cmd_0000_stdout.log", "result.json"):
        (experiment / RUN / "agent" / name).unlink(missing_ok=True)


def _run_lost(experiment: Path) -> None:
    lose_run(experiment, RUN)


NOBODY_IS_ASKED = {
    "prompt lost": (_prompt_lost, "failed", "evidence-gone"),
    "prompt blank": (_prompt_blank, "failed", "evidence-gone"),
    "prompt a link": (_prompt_elsewhere, "failed", "evidence-gone"),
    "conflict": (_in_conflict, "conflict", "a person has to decide"),
    "judged by another model": (_another_model, "conflict", "a person has to decide"),
    "unsafe": (_unsafe, "unsafe", "put a regular file or directory in its place"),
    "agent lost": (_agent_lost, "agent_failed", "agent run"),
    "run lost": (_run_lost, "agent_failed", "agent run"),
}


@pytest.mark.parametrize("why", NOBODY_IS_ASKED)
def test_nobody_is_asked_where_no_answer_would_help(project: Project, judge: ScriptedJudge, why: str) -> None:
    damage, status, reason = NOBODY_IS_ASKED[why]
    damage(project.experiment)
    before = snapshot(project.experiment)
    result = project.audit("--repair", f"--scylla-select={RUN}", REPORT)
    assert result.ret == 1
    assert judge.calls == []
    assert node_id(SLOT) in with_outcome(result, "failed")
    item = items_of_repair(project)[SLOT]
    assert (item["status"], item["outcome"]) == (status, "failed")
    assert {action["outcome"] for action in item["actions"]} == {"refused"}
    assert any(reason in action["reason"] for action in item["actions"])
    assert reason in result.stdout.str()
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT
    assert snapshot(project.experiment) == before


def test_a_slot_that_its_reply_gives_back_is_not_asked_about(project: Project, judge: ScriptedJudge) -> None:
    for slot in ("T0/00/run_01/judge_01", "T1/02/run_02/judge_03"):
        lose_judgment(project.experiment, slot)
    assert project.audit("--repair", REPORT).ret == 0
    assert judge.calls == []
    assert experiment_of_repair(project)["repairs"]["judge_calls"] == 0


@pytest.mark.parametrize(
    "args", [("--repair-level=regenerate",), ("-o", "scylla_repair_level=regenerate")], ids=["option", "ini"]
)
def test_a_repair_that_is_to_be_free_asks_nobody(project: Project, judge: ScriptedJudge, args: tuple[str, ...]) -> None:
    lose_slot(project.experiment, SLOT)
    lose_judgment(project.experiment, "T1/02/run_02/judge_03")
    result = project.audit("--repair", *args, REPORT)
    assert result.ret == 1
    assert judge.calls == []
    assert with_outcome(result, "failed") == [node_id(SLOT)]
    (action,) = [action for action in acted_on(project)[SLOT] if action["level"] == "judges"]
    assert (action["what"], action["outcome"], action["calls"]) == ("judge call", "refused", 0)
    assert action["reason"] == "1 judge call (ask judge_01's model again)"
    assert report_of_repair(project)["exit_bits"] == REPAIRED + DAMAGE_LEFT


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--repair-plan",), ("--repair", "--co")])
def test_an_audit_a_plan_and_a_collection_ask_nobody_and_write_nothing(
    project: Project, judge: ScriptedJudge, args: tuple[str, ...]
) -> None:
    lose_slot(project.experiment, SLOT)
    lose_slot_directory(project.experiment, "T1/01/run_02/judge_03")
    before = snapshot(project.experiment)
    assert project.audit(*args).ret == (0 if "--co" in args else 1)
    assert judge.calls == []
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_without_a_conftest_these_tests_reach_nobody_who_is_logged_in(
    project: Project, judge: ScriptedJudge, name: str
) -> None:
    (project.path / "conftest.py").unlink()
    lose_slot(project.experiment, SLOT)
    before = tree(project.experiment)
    for result in (
        project.audit("--repair", f"--scylla-judge={name}"),
        project.audit_apart("--repair", f"--scylla-judge={name}"),
    ):
        assert result.ret == 1
        assert "Not logged in" in result.stdout.str()
    assert judge.calls == []
    assert tree(project.experiment) == before


# What counts as an answer

USABLE = {
    "fenced": verdict(0.35, passed=False),
    "bare": '{"score": 0.35, "passed": false, "reasoning": "because"}',
    "prose around": 'I think\n{"score": 0.35, "passed": false, "reasoning": "because"}\nand that is all. {"note": 1}',
    "several, the last counts": verdict(0.9, passed=True) + "On second thought:\n" + verdict(0.35, passed=False),
    "with criteria": (
        '```json\n{"score": 0.35, "passed": false, "reasoning": "because", "grade": "S", '
        '"categories": {"correctness": {"achieved": 1, "max": 2, "score": 0.5, "items": {}}}}\n```'
    ),
    "Windows lines": verdict(0.35, passed=False).replace("\n", "\r\n"),
    "half a character": "\ud800 " + verdict(0.35, passed=False),
}


@pytest.mark.parametrize("shape", USABLE)
def test_an_answer_with_a_verdict_is_stored_whatever_stands_around_it(
    project: Project, judge: ScriptedJudge, shape: str
) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does(otherwise=[says(USABLE[shape])])
    result = project.audit("--repair")
    assert judge.asked == [SLOT]
    assert result.ret == 0
    judgment = record(judgment_of(project.experiment, SLOT))
    assert (judgment["score"], judgment["passed"], judgment["grade"]) == (0.35, False, "D")
    assert_consensus_follows(project.experiment, RUN)
    assert project.audit("--scylla-strict").ret == 0
    assert len(judge.calls) == 1


UNUSABLE = {
    "NaN": (verdict(math.nan), "the last verdict is malformed"),
    "not of 0 to 1": (verdict(85), "expected score to be a number from 0 to 1, found 85"),
    "percent": (verdict("85%"), 'expected score to be a number from 0 to 1, found "85%"'),
    "a word for false": (verdict(passed="false"), 'expected passed to be true or false, found "false"'),
    "no reasoning": ('{"score": 0.5, "passed": true}', "expected reasoning to be text, found it absent"),
    "blank reasoning": (verdict(reasoning="  "), "expected reasoning to be text, found it blank"),
    "refusal": ("I cannot judge this.", 'found only text: "I cannot judge this."'),
    "empty": ("", "found an empty answer"),
    "last word broken": (verdict() + '\nNo: {"score": 2, "passed": false, "reasoning": "x"}', "found 2"),
}


@pytest.mark.parametrize("shape", UNUSABLE)
def test_an_answer_without_a_verdict_is_asked_for_again_with_a_reminder_and_then_given_up(
    project: Project, judge: ScriptedJudge, shape: str
) -> None:
    text, reason = UNUSABLE[shape]
    lose_slot(project.experiment, SLOT)
    before = tree(project.experiment)
    judge.does({SLOT: [says(text, cost=0.1)]})
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    first, *others = judge.calls
    prompt = (project.experiment / RUN / "judge_prompt.md").read_bytes()
    assert first.prompt == prompt
    assert [call.attempt for call in judge.calls] == [1, 2, 3]
    for call in others:
        assert call.prompt.startswith(prompt)
        added = call.prompt[len(prompt) :].decode()
        assert reason in added
        assert "exactly one JSON object" in added
    assert written(before, tree(project.experiment)) == [f"{RUN}/judge/judge_01/timing.json"]
    assert record(slot_dir(project.experiment, SLOT) / "timing.json")["failed"] is True
    item = items_of_repair(project)[SLOT]
    assert (item["status"], item["outcome"]) == ("failed", "failed")
    assert [found["code"] for found in item["findings"]] == ["judgment-missing", "exhausted"]
    (action,) = item["actions"]
    assert (action["level"], action["outcome"], action["calls"]) == ("judges", "failed", 3)
    assert action["cost_usd"] == pytest.approx(0.3)
    assert reason in action["reason"]
    assert reason in result.stdout.str()
    assert [reason in attempt["unusable"] for attempt in attempts(project.experiment, SLOT)] == [True] * 3
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT + OPERATIONAL_ERROR


def test_no_failure_becomes_a_score(project: Project, judge: ScriptedJudge) -> None:
    pristine = tree(project.experiment)
    lose_slot(project.experiment, SLOT)
    lose_slot_directory(project.experiment, "T1/01/run_01/judge_02")
    judge.does(otherwise=[says("no")])
    assert project.audit("--repair").ret == 1
    assert judge.counts == {SLOT: 3, "T1/01/run_01/judge_02": 3}
    after = tree(project.experiment)
    for run in (RUN, "T1/01/run_01"):
        for name in ("judge/result.json", "run_result.json"):
            assert after[f"{run}/{name}"] == pristine[f"{run}/{name}"]
    assert not any(path.endswith(("judge/judge_01/judgment.json",)) and path.startswith(RUN) for path in after)
    assert "T1/01/run_01/judge/judge_02/judgment.json" not in after


def test_the_answer_to_a_reminder_is_stored(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("85 of 100", cost=0.1), judges(0.85, cost=0.2)]})
    assert project.audit("--repair", REPORT).ret == 0
    assert judge.asked == [SLOT, SLOT]
    assert record(judgment_of(project.experiment, SLOT))["score"] == 0.85
    assert (slot_dir(project.experiment, SLOT) / "response.txt").read_text() == verdict(0.85)
    action = acted_on(project)[SLOT][0]
    assert (action["calls"], action["outcome"]) == (2, "done")
    assert action["cost_usd"] == pytest.approx(0.3)
    assert [attempt["unusable"] is None for attempt in attempts(project.experiment, SLOT)] == [False, True]
    assert report_of_repair(project)["exit_bits"] == REPAIRED


# How often


def test_attempts_are_counted_over_sessions_and_then_the_slot_is_left_alone(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("one"), INTERRUPTED, says("two"), says("three")]})
    assert project.audit_apart("--repair").ret == pytest.ExitCode.INTERRUPTED
    assert [call.attempt for call in judge.calls] == [1, 2]
    assert project.audit("--repair").ret == 1
    assert [call.attempt for call in judge.calls] == [1, 2, 2, 3]
    assert b'found only text: "one"' in judge.calls[2].prompt
    before = snapshot(project.experiment)
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert len(judge.calls) == 4
    item = items_of_repair(project)[SLOT]
    assert [found["code"] for found in item["findings"]] == ["judgment-missing", "exhausted"]
    assert 'found only text: "three"' in item["findings"][1]["message"]
    (action,) = [action for action in item["actions"] if action["level"] == "judges"]
    assert (action["outcome"], action["calls"]) == ("refused", 0)
    assert "--repair-retry asks again" in action["reason"]
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT
    assert snapshot(project.experiment) == before


def test_a_run_none_of_whose_judges_gives_a_verdict_is_not_called_free_nor_one_to_judge(
    project: Project, judge: ScriptedJudge
) -> None:
    shutil.rmtree(project.experiment / RUN / "judge")
    judge.does(otherwise=[says("no")])
    for options in (("--repair",), ("--repair",), ()):
        text = " ".join(project.audit(*options, "-v", "--tb=short").stdout.str().split())
        assert text.count("repair: none until --repair-retry asks again: a judge was asked as often as allowed") == 4
        assert "repair: free" not in text
        assert "next: pytest --repair" not in text
        assert "for which a judge has to be asked" not in text
        left = "not sound: 4 items for which a judge was asked as often as allowed (--repair-retry asks again)"
        assert text.count(left) == bool(options)
        assert len(judge.calls) == 9


def test_an_audit_tells_of_attempts_that_were_made(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("one"), INTERRUPTED]})
    assert project.audit_apart("--repair").ret == pytest.ExitCode.INTERRUPTED
    assert len(judge.calls) == 2
    text = project.audit().stdout.str()
    assert 'asked once: expected a JSON object with score and passed, found only text: "one"' in text


@pytest.mark.parametrize("step", [says("no"), timeout()], ids=["no verdict", "timeout"])
def test_retry_asks_again_as_often_as_before(project: Project, judge: ScriptedJudge, step: Step) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [step]})
    for _ in range(3):
        assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    judge.does({SLOT: [says("no")] * 5 + [judges(0.5)]})
    assert project.audit("--repair", "--repair-retry", REPORT).ret == 0
    assert [call.attempt for call in judge.calls[3:]] == [4, 5, 6]
    assert acted_on(project)[SLOT][0]["calls"] == 3
    assert_consensus_follows(project.experiment, RUN)


def test_a_retry_that_fails_as_well_is_a_limited_one(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    assert project.audit("--repair", "--repair-retry").ret == 1
    assert len(judge.calls) == 6
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 6


@pytest.mark.parametrize("most", [1, 2, 5])
def test_how_often_is_set_in_the_ini_file(project: Project, judge: ScriptedJudge, most: int) -> None:
    project.write("pytest.ini", f"[pytest]\nscylla_attempts = {most}\n")
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    for _ in range(2):
        assert project.audit("--repair", REPORT).ret == 1
        assert len(judge.calls) == most
        assert "exhausted" in [found["code"] for found in items_of_repair(project)[SLOT]["findings"]]


def test_another_prompt_begins_anew(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")] * 3 + [judges()]})
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    prompt = project.experiment / RUN / "judge_prompt.md"
    prompt.write_bytes(prompt.read_bytes() + b"\nAnother one.\n")
    assert project.audit("--repair").ret == 0
    assert len(judge.calls) == 4
    assert judge.calls[3].prompt == prompt.read_bytes()


# The fallback

FALLBACK = ("-o", "scylla_repair_fallback=true")


def _agent_reports(experiment: Path, run: str, *, is_error: bool) -> None:
    """Let the agent's own reply say whether it succeeded, in all its copies."""
    for name in ("output.txt", "stdout.log", "cmd_0000_stdout.log"):
        path = experiment / run / "agent" / name
        if path.exists():
            path.write_text(path.read_text().replace('"is_error":false', f'"is_error":{json.dumps(is_error)}'))
    result = experiment / run / "agent/result.json"
    edit_json(result, stdout=(experiment / run / "agent/output.txt").read_text())


def test_a_fallback_stands_in_for_a_judge_who_gave_no_verdict_where_the_agent_says_success(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    result = project.audit("--repair", *FALLBACK, REPORT)
    assert len(judge.calls) == 3
    assert result.ret == 0
    judgment = record(judgment_of(project.experiment, SLOT))
    assert (judgment["score"], judgment["passed"], judgment["grade"]) == (0.7, True, "B")
    assert (judgment["fallback"], judgment["is_valid"]) == (True, True)
    assert 'found only text: "no"' in judgment["fallback_reason"]
    timing = record(slot_dir(project.experiment, SLOT) / "timing.json")
    assert (timing["failed"], timing["fallback"]) == (True, True)
    assert_consensus_follows(project.experiment, RUN)
    item = items_of_repair(project)[SLOT]
    assert (item["status"], item["outcome"]) == ("complete", "repaired")
    assert {found["code"] for found in item["findings"]} == {"fallback", "side-file-missing"}
    action = item["actions"][0]
    assert (action["outcome"], action["calls"]) == ("done", 3)
    assert action["reason"].startswith("fallback: ")
    assert "asked judges: 3 calls, cost unknown; 0 slots judged" in result.outlines
    assert experiment_of_repair(project)["after"]["judge_slots"]["fallback"] == 1
    assert project.audit().ret == 0
    assert project.audit("--scylla-strict").ret == 1
    assert len(judge.calls) == 3


def test_a_fallback_is_given_to_a_slot_that_an_earlier_session_exhausted(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    result = project.audit("--repair", *FALLBACK, REPORT)
    assert len(judge.calls) == 3
    assert result.ret == 0
    assert record(judgment_of(project.experiment, SLOT))["fallback"] is True
    action = acted_on(project)[SLOT][0]
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("done", 0, 0)


def test_there_is_no_fallback_where_the_agent_does_not_say_success(project: Project, judge: ScriptedJudge) -> None:
    _agent_reports(project.experiment, RUN, is_error=True)
    assert project.audit().ret == 0
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    result = project.audit("--repair", *FALLBACK, REPORT)
    assert len(judge.calls) == 3
    assert result.ret == 1
    assert not judgment_of(project.experiment, SLOT).exists()
    (action,) = acted_on(project)[SLOT]
    assert action["outcome"] == "failed"
    assert "does not say that it succeeded" in action["reason"]
    assert project.audit("--repair", *FALLBACK).ret == 1
    assert len(judge.calls) == 3


def test_there_is_no_fallback_before_the_attempts_are_used_up(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [timeout()]})
    for calls in (1, 2):
        assert project.audit("--repair", *FALLBACK).ret == 1
        assert len(judge.calls) == calls
        assert not judgment_of(project.experiment, SLOT).exists()
    assert project.audit("--repair", *FALLBACK).ret == 0
    assert len(judge.calls) == 3
    assert record(judgment_of(project.experiment, SLOT))["fallback"] is True


def test_there_is_no_fallback_where_a_fallback_is_to_fail(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [says("no")]})
    assert project.audit("--repair", *FALLBACK, "-o", "scylla_fallback=fail").ret == 1
    assert len(judge.calls) == 3
    assert not judgment_of(project.experiment, SLOT).exists()


def test_there_is_no_fallback_for_a_reason_of_the_place(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does(otherwise=[permanent("all", "not logged in")])
    assert project.audit("--repair", *FALLBACK).ret == 1
    assert len(judge.calls) == 1
    assert not judgment_of(project.experiment, SLOT).exists()


# Failures

SHARED = ("T0/00/run_01/judge_01", "T0/00/run_01/judge_02", "T0/00/run_02/judge_01", "T1/01/run_01/judge_01")
"""Slots of two models, in the order in which they are asked about."""


def lose_shared(experiment: Path) -> None:
    """Take those slots."""
    for slot in SHARED:
        lose_slot(experiment, slot)


@pytest.mark.parametrize(
    ("step", "reason"),
    [(timeout(cost=0.5), "no answer within 1200 s"), (permanent("slot", "prompt too long"), "prompt too long")],
    ids=["timeout", "for the slot"],
)
def test_a_failure_for_a_reason_of_the_slot_is_an_attempt_and_no_other_slots(
    project: Project, judge: ScriptedJudge, step: Step, reason: str
) -> None:
    lose_shared(project.experiment)
    before = tree(project.experiment)
    judge.does({SLOT: [step]})
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert judge.asked == [*SHARED]
    assert with_outcome(result, "failed") == [node_id(SLOT)]
    (action,) = acted_on(project)[SLOT]
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("failed", 1, step.get("cost"))
    assert reason in action["reason"]
    assert f"judge call failed (1 call, {'0.50 USD' if 'cost' in step else 'cost unknown'}): " in result.stdout.str()
    (kept,) = attempts(project.experiment, SLOT)
    assert (kept["failure"], kept["unusable"]) == (reason, None)
    assert record(slot_dir(project.experiment, SLOT) / "timing.json")["failed"] is True
    changed = [path for path in written(before, tree(project.experiment)) if path.startswith(f"{RUN}/judge/judge_01/")]
    assert changed == [f"{RUN}/judge/judge_01/timing.json"]
    assert report_of_repair(project)["exit_bits"] == REPAIRED + DAMAGE_LEFT + OPERATIONAL_ERROR
    assert f"asked once: {reason}" in project.audit().stdout.str()


PLACE = {
    "model": (permanent("model", "no such model"), [SHARED[0], SHARED[1]], [SHARED[1]]),
    "all": (permanent("all", "not logged in"), [SHARED[0]], []),
}


@pytest.mark.parametrize("scope", PLACE)
def test_what_no_call_can_do_for_a_model_or_at_all_is_not_tried_again(
    project: Project, judge: ScriptedJudge, scope: str
) -> None:
    step, asked, judged = PLACE[scope]
    lose_shared(project.experiment)
    before = tree(project.experiment)
    judge.does({slot: [step] for slot in SHARED if slot.endswith("judge_01")})
    result = project.audit("--repair", REPORT, BUT_AGGREGATES)
    assert result.ret == 1
    assert judge.asked == asked
    assert sorted(with_outcome(result, "failed")) == sorted(node_id(slot) for slot in SHARED if slot not in judged)
    actions = acted_on(project)
    told = [(actions[slot][0]["outcome"], actions[slot][0]["calls"]) for slot in SHARED if slot not in judged]
    assert told == [("failed", 1)] + [("refused", 0)] * (len(told) - 1)
    assert {actions[slot][0]["reason"] for slot in SHARED if slot not in judged} == {step["reason"]}
    assert step["reason"] in result.stdout.str()
    for slot in SHARED:
        if slot not in judged:
            assert attempts(project.experiment, slot) == []
    changed = written(before, tree(project.experiment))
    assert all(
        path.startswith((f"{RUN}/judge/judge_02/", f"{RUN}/judge/result", f"{RUN}/run_result")) for path in changed
    )
    assert bool(changed) is bool(judged)
    bits = DAMAGE_LEFT + OPERATIONAL_ERROR + (REPAIRED if judged else 0)
    assert report_of_repair(project)["exit_bits"] == bits


def test_the_next_session_tries_what_could_not_be_tried(project: Project, judge: ScriptedJudge) -> None:
    lose_shared(project.experiment)
    judge.does(otherwise=[permanent("all", "not logged in")])
    assert project.audit("--repair").ret == 1
    assert judge.asked == [SLOT]
    judge.does()
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT, *SHARED]
    assert [call.attempt for call in judge.calls] == [1] * 5


def test_an_exception_that_no_judge_should_raise_is_shown_with_its_traceback_and_the_others_go_on(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_shared(project.experiment)
    before = tree(project.experiment)
    judge.does({SHARED[1]: [breaks()]})
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert judge.asked == [*SHARED]
    assert with_outcome(result, "failed") == [node_id(SHARED[1])]
    text = result.stdout.str()
    assert "RuntimeError: a bug in my judge" in text
    assert "conftest.py:" in text
    assert "INTERNALERROR" not in printed(result)
    assert attempts(project.experiment, SHARED[1]) == []
    slot = f"{RUN}/judge/judge_02/"
    assert not [path for path in written(before, tree(project.experiment)) if path.startswith(slot)]
    assert report_of_repair(project)["exit_bits"] & (REPAIRED + DAMAGE_LEFT) == REPAIRED + DAMAGE_LEFT
    judge.does()
    assert project.audit("--repair").ret == 0
    assert judge.asked == [*SHARED, SHARED[1]]


def test_an_interruption_leaves_the_slot_as_it_was_and_ends_the_session(project: Project, judge: ScriptedJudge) -> None:
    lose_shared(project.experiment)
    before = tree(project.experiment)
    judge.does({SHARED[2]: [INTERRUPTED, judges()]})
    result = project.audit_apart("--repair", REPORT)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert judge.asked == [*SHARED[:3]]
    after = tree(project.experiment)
    assert not [path for path in written(before, after) if path.startswith("T0/00/run_02")]
    assert staged(project.experiment) == []
    report = report_of_repair(project)
    assert report["interrupted"] is True
    assert report["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    assert items_of_repair(project)[SHARED[2]]["outcome"] == "not-run"
    assert [entry["outcome"] for entry in journal(project.experiment) if entry["what"] == "judge-call"] == [
        "answered",
        "answered",
        "interrupted",
    ]
    assert project.audit("--repair").ret == 0
    assert judge.asked == [*SHARED[:3], *SHARED[2:]]
    assert [call.attempt for call in judge.calls] == [1] * 5


def test_a_fixture_that_fails_asks_nobody_and_is_shown_as_its_authors_error(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    before = snapshot(project.experiment)
    judge.write_conftest(also="@pytest.fixture\ndef scylla_judge():\n    raise RuntimeError('in my fixture')\n")
    result = project.audit("--repair")
    assert result.ret == 1
    assert judge.calls == []
    assert "RuntimeError: in my fixture" in result.stdout.str()
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize("value", ["None", "'text'", "{'score': 1}"])
def test_something_else_than_a_reply_fails_the_item_and_writes_nothing_to_the_slot(
    project: Project, judge: ScriptedJudge, value: str
) -> None:
    lose_slot(project.experiment, SLOT)
    before = tree(project.experiment)
    judge.write_conftest(also=f"@pytest.fixture\ndef scylla_judge():\n    return lambda request: {value}\n")
    result = project.audit("--repair")
    assert result.ret == 1
    assert judge.calls == []
    assert outcomes(result)[node_id(SLOT)] == "failed"
    assert "INTERNALERROR" not in printed(result)
    assert tree(project.experiment) == before


def test_the_fixture_is_asked_for_only_where_a_judge_is(project: Project, judge: ScriptedJudge) -> None:
    lose_judgment(project.experiment, SLOT)
    judge.write_conftest(also="@pytest.fixture\ndef scylla_judge():\n    raise RuntimeError('in my fixture')\n")
    assert project.audit("--repair").ret == 0
    assert judge.calls == []


def test_an_answer_of_an_earlier_session_that_was_not_stored_is_stored_without_a_call(
    project: Project, judge: ScriptedJudge
) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does(otherwise=[judges(0.35, passed=False, cost=0.25)])
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT]
    end = tree(project.experiment)
    lose_slot(project.experiment, SLOT)
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    assert judge.asked == [SLOT]
    assert tree(project.experiment) == end
    action = acted_on(project)[SLOT][0]
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("done", 0, 0)


def test_an_answer_that_is_kept_is_not_stored_for_another_prompt(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT]
    lose_slot(project.experiment, SLOT)
    with (project.experiment / RUN / "judge_prompt.md").open("ab") as prompt:
        prompt.write(os.urandom(4).hex().encode())
    assert project.audit("--repair").ret == 0
    assert judge.asked == [SLOT, SLOT]
