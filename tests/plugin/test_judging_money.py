"""What judge calls may cost, how many there may be, and the plan that says so beforehand."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import run_ids, small, write_experiment

from ..unit.repairing import tree
from .judges import INTERRUPTED, MODELS, ScriptedJudge, judges, limit, says, timeout, transient
from .support import (
    AGGREGATES,
    BUT_AGGREGATES,
    Project,
    acted_on,
    assert_usage_error,
    damaged_for_free,
    experiment_of_repair,
    items_of_repair,
    judgment_of,
    lose_judgment,
    lose_run_result,
    lose_slot,
    node_id,
    printed,
    report_of_repair,
    run_result_of,
    snapshot,
    with_outcome,
)

REPORT = "--scylla-report=report.json"
FIRST, SECOND, THIRD, FOURTH = (f"{run}/judge_01" for run in (*run_ids(small()),)[:4])
"""Slots of one model, in the order of their items."""
OTHER = "T0/00/run_01/judge_02"
"""One of another model, which comes second."""

REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8

MANY = small(tiers={"T0": ("00",)}, runs_per_subtest=17, side_files=False)
"""17 runs with 51 slots."""


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment that lacks the four slots of one model."""
    for slot in (FIRST, SECOND, THIRD, FOURTH):
        lose_slot(project.experiment, slot)
    return project


def outcomes_told(project: Project) -> dict[str, str]:
    """The outcome of each of those slots that the report tells."""
    return {slot: items_of_repair(project)[slot]["outcome"] for slot in (FIRST, SECOND, THIRD, FOURTH)}


def reasons_told(project: Project) -> set[str]:
    """Why slots were not judged, by the report."""
    told = (action for actions in acted_on(project).values() for action in actions)
    return {action["reason"] for action in told if action["outcome"] == "refused"}


def _lost_again(experiment: Path) -> None:
    """Take the four slots, and the answers that were given for them: nothing is left but what calls cost."""
    for slot in (FIRST, SECOND, THIRD, FOURTH):
        for name in ("judgment.json", "response.txt", "stdout.log"):
            (judgment_of(experiment, slot).parent / name).unlink(missing_ok=True)
    shutil.rmtree(experiment / ".scylla/attempts", ignore_errors=True)


# A budget


def test_what_fits_a_budget_is_judged(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[judges(cost=0.25)])
    result = damaged.audit("--repair", "--repair-budget=1", REPORT)
    assert result.ret == 0
    assert judge.asked == [FIRST, SECOND, THIRD, FOURTH]
    assert experiment_of_repair(damaged)["repairs"]["cost_usd"] == pytest.approx(1)
    assert "asked judges: 4 calls, 1.00 USD; 4 slots judged" in result.outlines


def test_what_to_type_next_looks_at_what_is_left_and_says_the_terms_of_the_command_line_again(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does(otherwise=[judges(cost=0.4)])
    terms = ("--scylla-judge=claude", "--repair-budget=0.5", "--repair-max-wait=60")
    for options, what in ((("--repair", *terms), "--repair-plan"), (("--repair-plan", *terms), "--repair")):
        text = " ".join(damaged.audit(*options).stdout.str().split())
        assert f"next: pytest {what} --scylla-exp=exp {' '.join(terms)}" in text
    assert judge.asked == [FIRST]
    text = " ".join(damaged.audit("--repair", "-o", "scylla_repair_budget=0.5").stdout.str().split())
    assert "next: pytest --repair-plan --scylla-exp=exp =" in f"{text} ="
    assert "--repair-budget=" not in text.partition("next: ")[2]
    assert judge.asked == [FIRST, SECOND]


@pytest.mark.parametrize("place", ["option", "ini"])
def test_what_does_not_fit_is_not_judged_and_the_first_call_tells_what_one_costs(
    damaged: Project, judge: ScriptedJudge, place: str
) -> None:
    budget = ("--repair-budget=1",) if place == "option" else ("-o", "scylla_repair_budget=1")
    judge.does(otherwise=[judges(cost=0.4)])
    result = damaged.audit("--repair", *budget, REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST, SECOND]
    assert outcomes_told(damaged) == {FIRST: "repaired", SECOND: "repaired", THIRD: "not-run", FOURTH: "not-run"}
    reason = "not-run: budget: budget of 1.00 USD: 0.80 spent or reserved, the next call is estimated at 0.40"
    assert reasons_told(damaged) == {reason}
    assert f"2 items {reason}" in " ".join(printed(result).split())
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    assert sorted(with_outcome(result, "failed")) == sorted(map(node_id, (THIRD, FOURTH)))
    for slot in (THIRD, FOURTH):
        assert not judgment_of(damaged.experiment, slot).exists()


def test_what_earlier_sessions_paid_is_the_estimate(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[judges(cost=0.4)])
    assert damaged.audit("--repair").ret == 0
    assert len(judge.calls) == 4
    _lost_again(damaged.experiment)
    judge.forget()
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", "--repair-budget=0.39", REPORT)
    assert result.ret == 1
    assert judge.calls == []
    assert reasons_told(damaged) == {
        "not-run: budget: budget of 0.39 USD: 0.00 spent or reserved, the next call is estimated at 0.40"
    }
    assert report_of_repair(damaged)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT
    assert tree(damaged.experiment) == before


def test_a_budget_is_a_sessions_and_the_next_one_goes_on(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[judges(cost=0.4)])
    for expected in ([FIRST, SECOND], [FIRST, SECOND, THIRD, FOURTH]):
        damaged.audit("--repair", "--repair-budget=1")
        assert judge.asked == expected
    assert damaged.audit().ret == 0


def test_answers_without_a_verdict_cost_as_well(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[says("no", cost=0.4)])
    assert damaged.audit("--repair", "--repair-budget=1", REPORT).ret == 1
    assert judge.asked == [FIRST, FIRST]
    assert outcomes_told(damaged) == dict.fromkeys((FIRST, SECOND, THIRD, FOURTH), "not-run")
    assert experiment_of_repair(damaged)["repairs"]["cost_usd"] == pytest.approx(0.8)


def test_a_timeout_costs_what_it_says(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [timeout(cost=0.9)]}, otherwise=[judges(cost=0.9)])
    assert damaged.audit("--repair", "--repair-budget=1", REPORT).ret == 1
    assert judge.asked == [FIRST]
    assert outcomes_told(damaged)[SECOND] == "not-run"


def test_a_failure_that_cost_nothing_says_nothing_of_what_the_next_call_costs(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [transient(cost=0), judges(cost=0.4)]}, otherwise=[judges(cost=0.4)])
    damaged.audit("--repair", "-o", "scylla_backoff=0", "--repair-budget=0.6", REPORT)
    assert judge.asked == [FIRST, FIRST]
    assert reasons_told(damaged) == {
        "not-run: budget: budget of 0.60 USD: 0.40 spent or reserved, the next call is estimated at 0.40"
    }


def test_after_a_first_call_that_failed_and_told_no_cost_the_next_one_tells(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [timeout()]}, otherwise=[judges(cost=0.4)])
    assert damaged.audit("--repair", "--repair-budget=1.3", REPORT).ret == 1
    assert judge.asked == [FIRST, SECOND, THIRD]
    assert outcomes_told(damaged)[FOURTH] == "not-run"
    assert reasons_told(damaged) == {
        "not-run: budget: budget of 1.30 USD: 1.20 spent or reserved, the next call is estimated at 0.40"
    }


def test_a_budget_does_not_let_one_call_after_the_other_fail_of_which_nobody_knows_what_it_cost(
    many: Project, judge_of_many: ScriptedJudge
) -> None:
    judge_of_many.does(otherwise=[timeout()])
    assert many.audit("--repair", "--repair-budget=10", REPORT).ret == 1
    assert Counter(call.model for call in judge_of_many.calls) == dict.fromkeys(MODELS.values(), 4)
    assert {reason for reason in reasons_told(many) if reason.startswith("not-run")} == {
        f'not-run: budget: a budget of 10.00 USD cannot be kept: 4 calls of "{model}" gave no answer, and what they '
        "cost is not known; limit its calls with --repair-max-calls instead"
        for model in MODELS.values()
    }


def test_a_budget_cannot_be_kept_where_a_judge_reports_no_cost(damaged: Project, judge: ScriptedJudge) -> None:
    result = damaged.audit("--repair", "--repair-budget=10", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST]
    assert outcomes_told(damaged) == {FIRST: "repaired", SECOND: "not-run", THIRD: "not-run", FOURTH: "not-run"}
    (reason,) = reasons_told(damaged)
    assert "reports no cost" in reason
    assert "--repair-max-calls" in reason
    assert reason in result.stdout.str()


@pytest.mark.parametrize("args", [("--repair-budget=0",), ("--repair-max-calls=0",)])
def test_where_nothing_may_be_spent_nobody_is_asked_and_what_is_free_is_done(
    damaged: Project, judge: ScriptedJudge, args: tuple[str, ...]
) -> None:
    lose_run_result(damaged.experiment, "T1/02/run_01")
    result = damaged.audit("--repair", *args, REPORT)
    assert result.ret == 1
    assert judge.calls == []
    assert run_result_of(damaged.experiment, "T1/02/run_01").exists()
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much", "1,5"])
def test_a_budget_that_is_no_amount_is_a_usage_error(damaged: Project, judge: ScriptedJudge, value: str) -> None:
    assert_usage_error(damaged.audit("--repair", f"--repair-budget={value}"), f"--repair-budget={value}")
    assert judge.calls == []


# A number of calls


def test_no_more_calls_are_made_than_were_allowed(damaged: Project, judge: ScriptedJudge) -> None:
    result = damaged.audit("--repair", "--repair-max-calls=3", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST, SECOND, THIRD]
    assert outcomes_told(damaged)[FOURTH] == "not-run"
    assert reasons_told(damaged) == {"not-run: calls: at most 3 calls: 3 made or under way"}
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT
    assert damaged.audit("--repair", "--repair-max-calls=1").ret == 0
    assert judge.asked == [FIRST, SECOND, THIRD, FOURTH]


def test_asking_again_takes_calls_and_the_attempts_are_not_forgotten(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[says("no"), says("no"), judges()])
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", "--repair-max-calls=2", REPORT)
    assert result.ret == 1
    assert judge.asked == [FIRST, FIRST]
    assert tree(damaged.experiment) == before
    action = acted_on(damaged)[FIRST][0]
    assert (action["outcome"], action["calls"]) == ("refused", 2)
    assert outcomes_told(damaged)[FIRST] == "not-run"
    assert report_of_repair(damaged)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT
    damaged.audit("--repair", "--repair-max-calls=1")
    assert [call.attempt for call in judge.calls] == [1, 2, 3]
    assert judgment_of(damaged.experiment, FIRST).exists()


def test_calls_that_fail_in_a_way_that_passes_count(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does(otherwise=[transient()])
    result = damaged.audit("--repair", "-o", "scylla_backoff=0", "--repair-max-calls=6")
    assert result.ret == 1
    assert judge.asked == [FIRST] * 4 + [SECOND] * 2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_calls_that_a_limit_ends_count(damaged: Project, judge: ScriptedJudge, most: int) -> None:
    judge.does({FIRST: [limit(0.2), judges()]})
    damaged.audit("--repair", f"--repair-max-calls={most}", REPORT)
    assert judge.asked == [FIRST, FIRST, SECOND][:most]
    repaired = [slot for slot, outcome in outcomes_told(damaged).items() if outcome == "repaired"]
    assert repaired == [FIRST, SECOND][: most - 1]
    assert f"not-run: calls: at most {most} call{'s' * (most != 1)}: {most} made or under way" in reasons_told(damaged)


def test_with_a_budget_as_well_calls_that_fail_in_a_way_that_passes_count(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does(otherwise=[transient()])
    damaged.audit("--repair", "-o", "scylla_backoff=0", "--repair-max-calls=2", "--repair-budget=5")
    assert judge.asked == [FIRST, FIRST]


# Very many calls


@pytest.fixture(scope="module")
def many_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that lacks all of its 51 slots, and a record that is free. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("many") / "exp"
    write_experiment(root, MANY)
    for run in run_ids(MANY):
        for slot in ("judge_01", "judge_02", "judge_03"):
            lose_slot(root, f"{run}/{slot}")
    (root / "T0/00/run_09/agent/output.txt").unlink()
    return root


@pytest.fixture
def many(empty_project: Project, many_experiment: Path) -> Project:
    """A project with that experiment."""
    empty_project.copy(many_experiment, "exp")
    return empty_project


@pytest.fixture
def judge_of_many(many: Project) -> Iterator[ScriptedJudge]:
    """The judge of that project's conftest.py."""
    scripted = ScriptedJudge(many)
    yield scripted
    scripted.assert_all_looked_at()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_more_than_fifty_calls_are_only_planned_until_somebody_says_how_many(
    many: Project, judge_of_many: ScriptedJudge, workers: str
) -> None:
    before = tree(many.experiment)
    result = many.audit("--repair", "-n", workers, REPORT, BUT_AGGREGATES)
    assert result.ret == 1
    assert judge_of_many.calls == []
    changed = {path for path, found in tree(many.experiment).items() if before.get(path) != found}
    assert changed - {"checkpoint.json"} == {"T0/00/run_09/agent/output.txt"}
    text = result.stdout.str()
    assert "would ask judges: 51 calls" in text
    for number, model in enumerate(("judge-large-1", "judge-medium-1", "judge-small-1"), 1):
        assert re.search(rf"^ +17 {model}: about .* one after the other, cost unknown$", text, re.MULTILINE), number
    assert "51 judge calls are planned, more than 50" in text
    assert "--repair-max-calls=N" in text
    assert "--repair does it" not in text
    items = items_of_repair(many)
    slots = {item_id: item for item_id, item in items.items() if "/judge_" in item_id}
    assert len(slots) == 51
    assert {item["outcome"] for item in slots.values()} == {"not-run"}
    assert {item["actions"][0]["outcome"] for item in slots.values()} == {"planned"}
    assert experiment_of_repair(many)["repairs"]["judge_calls"] == 0
    assert report_of_repair(many)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT


def test_more_than_fifty_calls_are_made_where_somebody_said_how_many(
    many: Project, judge_of_many: ScriptedJudge
) -> None:
    assert many.audit("--repair", "--repair-max-calls=60").ret == 0
    assert sorted(judge_of_many.asked) == sorted(
        f"{run}/judge_{number:02d}" for run in run_ids(MANY) for number in (1, 2, 3)
    )
    assert many.audit().ret == 0


def test_more_than_fifty_calls_are_begun_where_somebody_said_for_how_much(
    many: Project, judge_of_many: ScriptedJudge
) -> None:
    judge_of_many.does(otherwise=[judges(cost=0.25)])
    assert many.audit("--repair", "--repair-budget=0.8").ret == 1
    assert judge_of_many.asked == ["T0/00/run_01/judge_01", "T0/00/run_01/judge_02", "T0/00/run_01/judge_03"]


def test_fifty_calls_are_made_without_asking(many: Project, judge_of_many: ScriptedJudge) -> None:
    selected = ("--deselect", "exp/T0/00/run_17::judge_03")
    assert many.audit("--repair", *selected).ret == 0
    assert len(judge_of_many.calls) == 50


def test_it_is_what_is_selected_that_counts(many: Project, judge_of_many: ScriptedJudge) -> None:
    assert many.audit("--repair", "-k", "run_09").ret == 0
    assert judge_of_many.asked == [f"T0/00/run_09/judge_{number:02d}" for number in (1, 2, 3)]


# The plan

KINDS = ("free", "judges", "both", "run", "kept", "attempts", "exhausted", "retry", "fallback", "no prompt")


def _damage(project: Project, judge: ScriptedJudge, kind: str) -> tuple[str, ...]:
    """Damage the experiment in a way of this kind; return the options that it is about."""
    experiment = project.experiment
    if kind in ("free", "both"):
        damaged_for_free(experiment)
    if kind in ("judges", "both"):
        for slot in (FIRST, OTHER, "T1/02/run_01/judge_02"):
            for name in ("judgment.json", "response.txt", "stdout.log"):
                (judgment_of(experiment, slot).parent / name).unlink(missing_ok=True)
        shutil.rmtree(experiment / "T0/00/run_02/judge/judge_03")
    if kind == "run":
        shutil.rmtree(experiment / "T0/00/run_01/judge")
        lose_run_result(experiment, "T0/00/run_01")
    if kind == "kept":
        lose_slot(experiment, FIRST)
        project.audit("--repair")
        lose_slot(experiment, FIRST)
        lose_slot(experiment, OTHER)
    if kind == "attempts":
        lose_slot(experiment, FIRST)
        judge.does({FIRST: [says("no"), INTERRUPTED]})
        project.audit_apart("--repair")
    if kind in ("exhausted", "retry", "fallback"):
        lose_slot(experiment, FIRST)
        lose_slot(experiment, OTHER)
        judge.does({FIRST: [says("no")]})
        project.audit("--repair", "-k", "judge_01")
    if kind == "no prompt":
        lose_slot(experiment, FIRST)
        (experiment / "T0/00/run_01/judge_prompt.md").unlink()
        lose_judgment(experiment, "T1/02/run_01/judge_02")
    judge.forget() if judge.calls else None
    judge.does()
    options = {"retry": ("--repair-retry",), "fallback": ("-o", "scylla_repair_fallback=true")}
    return options.get(kind, ())


def _told(actions: list[dict[str, Any]], ending: str) -> list[tuple[object, ...]]:
    """What actions did or would do, as far as a plan can know it."""
    return [
        tuple(str(action[key]) for key in ("level", "what", "files", "solved", "sources", "calls"))
        for action in actions
        if action["outcome"] == ending
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_plan_lists_is_what_the_repair_then_does(project: Project, judge: ScriptedJudge, kind: str) -> None:
    args = _damage(project, judge, kind)
    before = snapshot(project.experiment)
    project.audit("--repair-plan", *args, REPORT)
    assert judge.calls == []
    assert snapshot(project.experiment) == before
    planned = acted_on(project)
    project.audit("--repair", *args, REPORT)
    done = acted_on(project)
    assert {item_id: _told(actions, "planned") for item_id, actions in planned.items()} == {
        item_id: _told(actions, "done") for item_id, actions in done.items()
    }
    assert len(judge.calls) == sum(action["calls"] for actions in planned.values() for action in actions)
    refused = [{item_id: _told(actions, "refused") for item_id, actions in told.items()} for told in (planned, done)]
    assert refused[0] == refused[1]


def test_a_plan_lists_what_follows_from_an_answer_behind_its_call(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, FIRST)
    result = project.audit("--repair-plan", REPORT)
    assert result.ret == 1
    assert judge.calls == []
    planned = acted_on(project)
    assert [*planned] == [FIRST, AGGREGATES]
    actions = planned[FIRST]
    assert [(action["level"], action["what"], action["outcome"], action["calls"]) for action in actions] == [
        ("judges", "judge call", "planned", 1),
        ("regenerate", "judge/result.json", "planned", 0),
        ("regenerate", "run_result.json", "planned", 0),
    ]
    lines = result.outlines
    call = lines.index(
        "  would ask the judge (1 call, cost unknown) for T0/00/run_01/judge/judge_01/judgment.json and 5 more"
    )
    assert lines[call + 1].startswith(
        "  would rebuild T0/00/run_01/judge/result.json from judge/judge_01/judgment.json"
    )
    assert lines[call + 2].startswith("  would rebuild T0/00/run_01/run_result.json from ")


def test_a_plan_says_how_many_calls_of_each_model_how_long_and_for_how_much(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does(otherwise=[judges(cost=0.25)])
    assert damaged.audit("--repair").ret == 0
    assert len(judge.calls) == 4
    _lost_again(damaged.experiment)
    lose_slot(damaged.experiment, OTHER)
    result = damaged.audit("--repair-plan", REPORT)
    assert len(judge.calls) == 4
    lines = result.outlines
    start = lines.index("would ask judges: 5 calls")
    assert re.fullmatch(r" +4 judge-large-1: about [0-9 mins]+ one after the other, about 1.00 USD", lines[start + 1])
    assert re.fullmatch(r" +1 judge-medium-1: about [0-9 mins]+ one after the other, cost unknown", lines[start + 2])
    assert acted_on(damaged)[FIRST][0]["cost_usd"] == pytest.approx(0.25)
    assert acted_on(damaged)[OTHER][0]["cost_usd"] is None
    repairs = experiment_of_repair(damaged)["repairs"]
    assert (repairs["judge_calls"], repairs["cost_usd"]) == (0, 0)


@pytest.mark.parametrize("names", [("exp", "other"), ("other", "exp")])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_of_several_experiments_each_is_planned_by_what_its_own_calls_cost(
    damaged: Project, pristine_experiment: Path, judge: ScriptedJudge, names: tuple[str, str], workers: str
) -> None:
    judge.does(otherwise=[judges(cost=0.25)])
    assert damaged.audit("--repair").ret == 0
    assert len(judge.calls) == 4
    _lost_again(damaged.experiment)
    lose_slot(damaged.copy(pristine_experiment, "other"), FIRST)
    damaged.run("--repair-plan", REPORT, "-n", workers, *(f"--scylla-exp={name}" for name in names))
    costs = {
        experiment["path"]: {action["cost_usd"] for item in experiment["items"] for action in item["actions"][:1]} - {0}
        for experiment in report_of_repair(damaged)["experiments"]
    }
    assert costs == {"exp": {0.25}, "other": {None}}


def test_a_plan_to_ask_again_knows_what_calls_took_and_cost(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, FIRST)
    judge.does(otherwise=[says("no", cost=0.1)])
    assert project.audit("--repair").ret == 1
    assert len(judge.calls) == 3
    assert "would ask" not in project.audit("--repair-plan").stdout.str()
    lines = project.audit("--repair-plan", "--repair-retry").outlines
    assert len(judge.calls) == 3
    start = lines.index("would ask judges: 1 call")
    assert re.fullmatch(r" +1 judge-large-1: about [0-9 mins]+ one after the other, about 0.10 USD", lines[start + 1])


def test_a_plan_that_is_to_be_free_lists_no_calls(damaged: Project, judge: ScriptedJudge) -> None:
    result = damaged.audit("--repair-plan", "--repair-level=regenerate", REPORT)
    assert result.ret == 1
    assert judge.calls == []
    assert "would ask" not in result.stdout.str()
    assert {action["outcome"] for actions in acted_on(damaged).values() for action in actions} == {"refused"}


def test_a_plan_needs_no_leave_for_many_calls(many: Project, judge_of_many: ScriptedJudge) -> None:
    before = snapshot(many.experiment)
    result = many.audit("--repair-plan")
    assert result.ret == 1
    assert judge_of_many.calls == []
    assert "would ask judges: 51 calls" in result.outlines
    assert snapshot(many.experiment) == before
