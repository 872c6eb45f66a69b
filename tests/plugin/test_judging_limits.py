"""A judge that may not be asked just now: limits, and failures that may pass."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.calling.pauses import pauses, set_pause
from pytest_scylla.experiment.keeping import Keeping

from ..unit.repairing import journal, tree
from .judges import COMMAND, ScriptedJudge, breaks, judges, limit, says, transient
from .support import (
    WHOLES,
    Project,
    acted_on,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    judgment_of,
    lose_judgment,
    lose_slot,
    node_id,
    node_ids,
    outcomes,
    report_of_repair,
    with_outcome,
)

REPORT = "--scylla-report=report.json"
NO_BACKOFF = ("-o", "scylla_backoff=0")
LARGE, MEDIUM = "judge-large-1", "judge-medium-1"
FIRST, SECOND, THIRD = "T0/00/run_01/judge_01", "T0/00/run_02/judge_01", "T1/01/run_01/judge_01"
"""Slots of one model, in the order of their items."""
OTHER = "T0/00/run_02/judge_02"
"""One of another model, between them."""
AN_HOUR = 3600.0

REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment that lacks those four slots."""
    for slot in (FIRST, SECOND, THIRD, OTHER):
        lose_slot(project.experiment, slot)
    return project


def calls_told(experiment: Path) -> list[tuple[str, str]]:
    """The calls that the journal tells of: the slot, and what came of it."""
    return [(entry["item"], entry["outcome"]) for entry in journal(experiment) if entry["what"] == "judge-call"]


def actions_on(project: Project, slot: str) -> dict[str, Any]:
    """The first action on a slot."""
    action = acted_on(project)[slot][0]
    assert action["level"] == "judges"
    return action


# A limit that ends soon


def test_a_limit_is_waited_for_and_then_the_same_slot_is_asked_about_again(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [limit(0.4, cost=0), judges(cost=0.5)]})
    result = damaged.audit("--repair", "--scylla-select=T0/00/run_01", REPORT)
    assert result.ret == 0
    first, second = judge.calls
    assert first.slot == second.slot == FIRST
    assert second.time - first.time >= 0.4
    assert (first.attempt, second.attempt) == (1, 1)
    assert first.prompt == second.prompt
    action = actions_on(damaged, FIRST)
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("done", 2, 0.5)
    assert calls_told(damaged.experiment) == [(FIRST, "limit"), (FIRST, "answered")]
    assert items_of_repair(damaged)[FIRST]["outcome"] == "repaired"


def test_what_a_limit_cost_is_not_known_where_the_judge_does_not_tell(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(0.2), judges(cost=0.5)]})
    result = damaged.audit("--repair", "--scylla-select=T0/00/run_01", REPORT)
    assert judge.asked == [FIRST, FIRST]
    assert actions_on(damaged, FIRST)["cost_usd"] is None
    assert "asked judges: 2 calls, cost unknown; 1 slot judged" in result.outlines


def test_meanwhile_whatever_is_free_is_done_and_then_other_models_are_asked(
    damaged: Project, judge: ScriptedJudge
) -> None:
    lose_judgment(damaged.experiment, "T1/02/run_02/judge_03")
    free = judgment_of(damaged.experiment, "T1/02/run_02/judge_03")
    judge.does({FIRST: [limit(1), judges()]}, watched=[free])
    result = damaged.audit("--repair", REPORT)
    assert result.ret == 0
    assert judge.asked == [FIRST, OTHER, FIRST, SECOND, THIRD]
    assert [bool(call.seen) for call in judge.calls] == [False, True, True, True, True]
    assert judge.calls[1].time < judge.calls[0].time + 1 < judge.calls[2].time
    repaired = {item_id for item_id, item in items_of_repair(damaged).items() if item["outcome"] == "repaired"}
    assert repaired - {*WHOLES} == {FIRST, SECOND, THIRD, OTHER, "T1/02/run_02/judge_03"}
    assert experiment_of_repair(damaged)["repairs"]["judge_calls"] == 5
    assert damaged.audit("--scylla-strict").ret == 0


def test_every_item_is_told_of_once_and_in_its_place_whenever_its_work_was_done(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [limit(0.3), judges()]})
    result = damaged.audit("--repair", REPORT)
    assert judge.asked == [FIRST, OTHER, FIRST, SECOND, THIRD]
    assert [*outcomes(result)] == node_ids()
    assert {*outcomes(result).values()} == {"passed"}
    call, *follows = acted_on(damaged)[OTHER]
    assert (call["what"], call["outcome"], call["calls"]) == ("judge call", "done", 1)
    assert [action["what"] for action in follows] == ["judge/result.json", "run_result.json"]


def test_what_is_not_selected_is_not_done_meanwhile(damaged: Project, judge: ScriptedJudge) -> None:
    lose_judgment(damaged.experiment, "T1/02/run_02/judge_03")
    judge.does({FIRST: [limit(0.3), judges()]})
    assert damaged.audit("--repair", "-k", "judge_01").ret == 0
    assert judge.asked == [FIRST, FIRST, SECOND, THIRD]
    assert not judgment_of(damaged.experiment, OTHER).exists()
    assert not judgment_of(damaged.experiment, "T1/02/run_02/judge_03").exists()


def test_an_exception_meanwhile_is_shown_where_it_belongs_and_the_slot_is_not_asked_about_twice(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [limit(1.3), judges()], OTHER: [breaks()]})
    result = damaged.audit("--repair", REPORT)
    assert judge.counts == {FIRST: 2, SECOND: 1, THIRD: 1, OTHER: 1}
    assert result.ret == 1
    assert with_outcome(result, "failed") == [node_id(OTHER)]
    assert "RuntimeError: a bug in my judge" in result.stdout.str()
    assert "conftest.py:" in result.stdout.str()
    assert items_of_repair(damaged)[FIRST]["outcome"] == "repaired"


def test_what_was_asked_meanwhile_counts_where_it_belongs(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(0.4), judges()], OTHER: [says("no", cost=0.5), limit(0.4, cost=0), judges(cost=0.25)]})
    assert damaged.audit("--repair", REPORT).ret == 0
    assert judge.asked[:3] == [FIRST, OTHER, OTHER]
    assert judge.counts == {FIRST: 2, SECOND: 1, THIRD: 1, OTHER: 3}
    action = actions_on(damaged, OTHER)
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("done", 3, 0.75)


def test_a_slot_that_is_asked_about_again_gets_no_more_attempts_for_a_limit(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({OTHER: [says("no")] * 4 + [limit(0.3), says("no")], FIRST: [says("no")] * 3 + [limit(0.3), judges()]})
    assert damaged.audit("--repair").ret == 1
    assert judge.counts == {FIRST: 3, SECOND: 1, THIRD: 1, OTHER: 3}
    assert damaged.audit("--repair", "--repair-retry").ret == 1
    assert judge.counts == {FIRST: 5, SECOND: 1, THIRD: 1, OTHER: 7}
    assert [call.attempt for call in judge.calls if call.slot == OTHER] == [1, 2, 3, 4, 5, 5, 6]


def test_a_regeneration_that_fails_meanwhile_is_shown_by_an_item_of_its_run(
    damaged: Project, judge: ScriptedJudge
) -> None:
    failing = """\
@pytest.fixture
def scylla_regenerate(scylla_regenerate):
    def regenerate(request):
        if "T1/02/run_02" in request.file:
            raise RuntimeError("a bug in my function")
        return scylla_regenerate(request)

    return regenerate
"""
    lose_judgment(damaged.experiment, "T1/02/run_02/judge_03")
    judge.write_conftest(also=failing)
    judge.does({FIRST: [limit(0.3), judges()]})
    result = damaged.audit("--repair")
    assert judge.asked == [FIRST, OTHER, FIRST, SECOND, THIRD]
    assert with_outcome(result, "failed") == [node_id("T1/02/run_02/judge_03")]
    assert "RuntimeError: a bug in my function" in result.stdout.str()


def test_an_interruption_while_a_limit_is_waited_for_ends_the_session(damaged: Project, judge: ScriptedJudge) -> None:
    before = tree(damaged.experiment)
    judge.does({FIRST: [limit(AN_HOUR)], OTHER: [{"interrupted": True}]})
    result = damaged.audit_apart("--repair", "--repair-max-wait=7200", REPORT)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert judge.asked == [FIRST, OTHER]
    assert tree(damaged.experiment) == before


def test_a_limit_that_is_met_again_is_believed_less_to_end_when_it_says(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(0.05), limit(0.05), judges()]})
    assert damaged.audit("--repair", "--scylla-select=T0/00/run_01").ret == 0
    first, second, third = judge.calls
    assert second.time - first.time >= 0.05
    assert third.time - second.time >= 1


def test_a_limit_does_not_keep_a_slot_from_its_attempts(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [says("no"), limit(0.2), says("no"), judges()]})
    assert damaged.audit("--repair", "--scylla-select=T0/00/run_01").ret == 0
    assert [call.attempt for call in judge.calls] == [1, 2, 2, 3]
    assert b"Your last answer could not be used" in judge.calls[1].prompt
    assert judge.calls[1].prompt == judge.calls[2].prompt


# The pause that others see


def test_a_limit_is_written_down_for_all_who_share_the_experiment(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[limit(AN_HOUR, "5-hour limit")])
    before = datetime.now(timezone.utc)
    damaged.audit("--repair", "--repair-max-wait=0", "--scylla-select=T0/00/run_01")
    assert judge.asked == [FIRST]
    (pause,) = pauses(damaged.experiment, datetime.now(timezone.utc))
    assert (pause.command, pause.model, pause.reason) == (COMMAND, LARGE, "5-hour limit")
    assert timedelta(seconds=AN_HOUR) <= pause.until - before <= timedelta(seconds=AN_HOUR + 30)
    assert len([*(damaged.experiment / ".scylla/pauses").iterdir()]) == 1


def test_another_session_honours_it_and_asks_other_models(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(AN_HOUR), judges()]})
    damaged.audit("--repair", "--repair-max-wait=0", "-k", "T0 and run_01")
    assert judge.asked == [FIRST]
    result = damaged.audit("--repair", "--repair-max-wait=0", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST, OTHER]
    assert sorted(with_outcome(result, "failed")) == sorted(map(node_id, (FIRST, SECOND, THIRD)))
    for slot in (FIRST, SECOND, THIRD):
        action = actions_on(damaged, slot)
        assert (action["outcome"], action["calls"], action["cost_usd"]) == ("refused", 0, 0)
        assert action["reason"].startswith("not-run: usage limit reached; until ")
        assert items_of_repair(damaged)[slot]["outcome"] == "not-run"
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT


@pytest.mark.parametrize(("command", "model"), [("claude", LARGE), (COMMAND, MEDIUM), (COMMAND, "another")])
def test_a_limit_of_another_command_or_model_holds_nobody(
    damaged: Project, judge: ScriptedJudge, command: str, model: str
) -> None:
    with Keeping(damaged.experiment) as keeping:
        set_pause(keeping, command, model, datetime.now(timezone.utc) + timedelta(hours=1), "elsewhere")
    assert damaged.audit("--repair", "-k", "judge_01").ret == 0
    assert judge.asked == [FIRST, SECOND, THIRD]


def test_a_judge_is_known_by_the_name_that_it_gives_itself(damaged: Project, judge: ScriptedJudge) -> None:
    named = """\
@pytest.fixture
def named(scylla_judge):
    scylla_judge.command = "my-service"


@pytest.fixture(autouse=True)
def _named(named):
    pass
"""
    judge.write_conftest(also=named)
    judge.does(otherwise=[limit(AN_HOUR)])
    damaged.audit("--repair", "--repair-max-wait=0", "-k", "T0 and run_01")
    assert judge.asked == [FIRST]
    assert [pause.command for pause in pauses(damaged.experiment, datetime.now(timezone.utc))] == ["my-service"]
    assert [e["command"] for e in journal(damaged.experiment) if e["what"] == "judge-call"] == ["my-service"]


# A limit that does not end soon


@pytest.mark.parametrize("place", ["option", "ini"])
def test_a_limit_that_takes_too_long_leaves_the_slot_as_it_is(
    damaged: Project, judge: ScriptedJudge, place: str
) -> None:
    wait = ("--repair-max-wait=60",) if place == "option" else ("-o", "scylla_repair_max_wait=60")
    before = tree(damaged.experiment)
    judge.does({FIRST: [limit(AN_HOUR)]})
    result = damaged.audit("--repair", "-k", "judge_01", *wait, REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST]
    assert tree(damaged.experiment) == before
    assert sorted(with_outcome(result, "failed")) == sorted(map(node_id, (FIRST, SECOND, THIRD)))
    for slot in (FIRST, SECOND, THIRD):
        assert items_of_repair(damaged)[slot]["outcome"] == "not-run"
        action = actions_on(damaged, slot)
        assert (action["outcome"], action["calls"]) == ("refused", int(slot == FIRST))
        assert action["reason"].startswith("not-run: usage limit reached; until ")
    assert report_of_repair(damaged)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT
    assert "not-run: usage limit reached; until " in result.stdout.str()


def test_what_is_left_for_a_limit_says_where_that_is_remembered_and_deleting_it_lifts_it(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [limit(AN_HOUR), judges()]})
    text = damaged.audit("--repair", "--repair-max-wait=0", "-k", "judge_01", REPORT).stdout.str()
    assert judge.asked == [FIRST]
    (pause,) = (damaged.experiment / ".scylla/pauses").iterdir()
    kept = f", or until .scylla/pauses/{pause.name} is deleted"
    assert kept in " ".join(text.split())
    for slot in (FIRST, SECOND, THIRD):
        assert actions_on(damaged, slot)["reason"].endswith(kept)
    pause.unlink()
    assert damaged.audit("--repair", "--repair-max-wait=0", "-k", "judge_01").ret == 0
    assert judge.asked == [FIRST, FIRST, SECOND, THIRD]


def test_a_later_session_judges_what_was_left(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(3), judges()]})
    assert damaged.audit("--repair", "--repair-max-wait=0").ret == 1
    assert judge.asked == [FIRST, OTHER]
    assert damaged.audit("--repair", REPORT).ret == 0
    assert judge.asked == [FIRST, OTHER, FIRST, SECOND, THIRD]
    assert judge.calls[2].time - judge.calls[0].time >= 3
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED


def test_what_was_waited_for_a_model_counts_for_all_its_slots(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(2), limit(2.9)], OTHER: [limit(2), judges()]})
    result = damaged.audit("--repair", "--repair-max-wait=3", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST, OTHER, FIRST, OTHER]
    assert {slot: items_of_repair(damaged)[slot]["outcome"] for slot in (FIRST, SECOND, THIRD, OTHER)} == {
        **dict.fromkeys((FIRST, SECOND, THIRD), "not-run"),
        OTHER: "repaired",
    }


def test_once_a_model_answers_it_is_waited_for_as_long_again(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [limit(1.2), judges()], SECOND: [limit(1.2), judges()]})
    assert damaged.audit("--repair", "--repair-max-wait=2", "-k", "judge_01").ret == 0
    assert judge.asked == [FIRST, FIRST, SECOND, SECOND, THIRD]


@pytest.mark.parametrize("ends_in", [None, -10.0], ids=["unknown", "past"])
def test_a_limit_of_which_nobody_says_when_it_ends_is_taken_to_hold_for_five_minutes(
    damaged: Project, judge: ScriptedJudge, ends_in: float | None
) -> None:
    judge.does({FIRST: [limit(ends_in)]})
    result = damaged.audit("--repair", "--repair-max-wait=60", "-k", "judge_01", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST]
    (pause,) = pauses(damaged.experiment, datetime.now(timezone.utc))
    left = pause.until - datetime.now(timezone.utc)
    assert timedelta(minutes=4, seconds=30) < left <= timedelta(minutes=5)
    assert report_of_repair(damaged)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT


def test_the_run_of_a_slot_that_is_left_is_current_for_what_was_judged(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({SECOND: [limit(AN_HOUR)], OTHER: [judges(0.05, passed=False)]})
    assert damaged.audit("--repair", "--repair-max-wait=0", "--scylla-select=T0/00/run_02").ret == 1
    assert judge.asked == [SECOND, OTHER]
    result = json.loads((damaged.experiment / "T0/00/run_02/run_result.json").read_text())
    assert [entry["score"] for entry in result["judges"] if entry["judge_number"] == 2] == [0.05]
    assert with_outcome(damaged.audit("--scylla-select=T0/00/run_02"), "failed") == [node_id(SECOND)]


# Failures that may pass


def test_a_failure_that_passes_is_not_counted_as_an_attempt(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [transient(), transient(), transient(), judges(cost=0.5)]})
    result = damaged.audit("--repair", *NO_BACKOFF, "--scylla-select=T0/00/run_01", REPORT)
    assert result.ret == 0
    assert [(call.slot, call.attempt) for call in judge.calls] == [(FIRST, 1)] * 4
    action = actions_on(damaged, FIRST)
    assert (action["outcome"], action["calls"]) == ("done", 4)
    assert [came for _, came in calls_told(damaged.experiment)] == ["transient"] * 3 + ["answered"]
    kept = damaged.experiment / ".scylla/attempts/T0-00-run_01-judge_01"
    assert sorted(path.name for path in kept.glob("*.json")) == ["01.json"]


def test_a_failure_that_does_not_pass_leaves_the_slot_as_it_is(damaged: Project, judge: ScriptedJudge) -> None:
    before = tree(damaged.experiment)
    judge.does(otherwise=[transient("503 service unavailable")])
    for session in (1, 2):
        result = damaged.audit("--repair", *NO_BACKOFF, "--scylla-select=T0/00/run_01", REPORT)
        assert result.ret == 1
        assert judge.counts == {FIRST: 4 * session}
        action = actions_on(damaged, FIRST)
        assert (action["outcome"], action["calls"], action["reason"]) == ("failed", 4, "503 service unavailable")
        assert "judge call failed (4 calls, cost unknown): 503 service unavailable" in result.stdout.str()
        assert report_of_repair(damaged)["exit_bits"] == DAMAGE_LEFT + OPERATIONAL_ERROR
    assert {call.attempt for call in judge.calls} == {1}
    assert tree(damaged.experiment) == before
    assert not (damaged.experiment / ".scylla/attempts").exists()


def test_calls_are_further_apart_each_time(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[transient()])
    assert damaged.audit("--repair", "-o", "scylla_backoff=0.1", "--scylla-select=T0/00/run_01").ret == 1
    times = [call.time for call in judge.calls]
    assert len(times) == 4
    for least, earlier, later in zip((0.1, 0.2, 0.4), times, times[1:], strict=False):
        assert later - earlier >= least


def test_a_model_whose_service_fails_for_three_slots_in_a_row_is_not_asked_any_more(
    project: Project, judge: ScriptedJudge
) -> None:
    slots = [item_id for item_id in item_ids() if item_id.endswith("judge_01")]
    for slot in slots:
        lose_slot(project.experiment, slot)
    lose_slot(project.experiment, "T1/02/run_02/judge_02")
    judge.does({slot: [transient("503")] for slot in slots})
    result = project.audit("--repair", *NO_BACKOFF, REPORT)
    assert result.ret == 1
    assert judge.counts == {**dict.fromkeys(slots[:3], 4), "T1/02/run_02/judge_02": 1}
    for slot in slots[3:]:
        action = actions_on(project, slot)
        assert (action["outcome"], action["calls"]) == ("refused", 0)
        assert "in a row: 503" in action["reason"]
    assert sorted(with_outcome(result, "failed")) == sorted(map(node_id, slots))


def test_an_answer_in_between_shows_that_the_service_works(project: Project, judge: ScriptedJudge) -> None:
    slots = [item_id for item_id in item_ids() if item_id.endswith("judge_01")]
    for slot in slots:
        lose_slot(project.experiment, slot)
    judge.does({slot: [transient("503")] for slot in slots if slot != slots[2]})
    assert project.audit("--repair", *NO_BACKOFF).ret == 1
    assert judge.counts == {slot: 1 if slot == slots[2] else 4 for slot in slots}
