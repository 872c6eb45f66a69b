"""The plan of a free repair: what it is made of, in which order, for whom, and what is left as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import pytest_scylla
from benchmarks.synthetic import agent_reply, judgment, model_md, response
from pytest_scylla import RunAudit
from pytest_scylla.auditing.evidence import DEFAULT_POLICY
from pytest_scylla.auditing.run import conclude, examine
from pytest_scylla.auditing.status import Case
from pytest_scylla.experiment.expected import Experiment
from pytest_scylla.repair.plan import Admits, Plan, make_plan
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.request import CannotRegenerate, Regenerate, Regenerated, RegenerateRequest
from pytest_scylla.repair.transaction import planned_actions, repair_run

from . import damage as do
from .damage import (
    ALL_COPIES,
    CONSENSUS,
    FILE_COPIES,
    JUDGMENT,
    JUDGMENTS,
    LOG,
    OUTPUT,
    REPLIES,
    RESULT,
    RUN_RESULT,
    SLOTS,
    Damage,
    Run,
    each,
    lose,
    opinions,
    overwrite,
    put,
    retell,
)
from .repairing import run_named, tree

RUN = "T0/00/run_01"
SLOT = SLOTS[1]
TIMING, JUDGE_TIMING, SLOT_TIMING = "agent/timing.json", "judge/timing.json", f"{SLOT}/timing.json"


@pytest.fixture
def run(one_run_experiment: Path, tmp_path: Path) -> Run:
    """A healthy run, to damage."""
    shutil.copytree(one_run_experiment, tmp_path / "exp")
    return Run(tmp_path / "exp", RUN)


def read(run: Run) -> tuple[Experiment, Case, RunAudit]:
    experiment = pytest_scylla.load(run.root)
    case, audit = examine(experiment, run_named(experiment, run.run_id), DEFAULT_POLICY)
    return experiment, case, audit


def plan_of(run: Run, *damages: Damage, how: Regenerate = regenerate, admits: Admits = lambda item: True) -> Plan:
    """Damage a run and plan its repair."""
    for damage in damages:
        damage(run)
    return make_plan(*read(run), how, admits)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def reasons(plan: Plan) -> dict[str, str]:
    return {refusal.name: refusal.reason for refusal in plan.refusals}


def only(*items: str) -> Admits:
    return lambda item: item in items


@dataclass
class Asked:
    """The function that regenerates, and what it was asked for."""

    how: Regenerate = regenerate
    requests: list[RegenerateRequest] = field(default_factory=list)

    def __call__(self, request: RegenerateRequest) -> Regenerated:
        self.requests.append(request)
        return self.how(request)

    @property
    def names(self) -> list[str]:
        return [request.name for request in self.requests]


# ---------------------------------------------------------------------------------------------------------
# Order

EVERYTHING = (
    *FILE_COPIES[1::-1],  # output.txt comes before its copies
    FILE_COPIES[2],
    "agent/stderr.log",
    TIMING,
    "agent/MODEL.md",
    RESULT,
    *[f"{slot}/{name}" for slot in SLOTS for name in ("judgment.json", "response.txt", "MODEL.md")],
    JUDGE_TIMING,
    CONSENSUS,
    RUN_RESULT,
)
"""What can be rebuilt of a run all at once, raw before derived."""


def all_at_once(run: Run) -> None:
    """Lose everything that can be rebuilt, but for the last copy of each text."""
    run.write("agent/cmd_0000_stderr.log", run.read("agent/stderr.log"))
    put(RESULT, "/exit_code", 1)(run)
    lose(*[name for name in EVERYTHING if name != RESULT])(run)


def test_a_healthy_run_needs_no_plan(run: Run) -> None:
    asked = Asked()
    plan = plan_of(run, how=asked)
    assert (plan.steps, plan.refusals, asked.names) == ((), (), [])
    assert plan.audit.status == "completed"


def test_a_plan_goes_from_raw_files_to_derived_ones(run: Run) -> None:
    plan = plan_of(run, all_at_once)
    assert names(plan) == list(EVERYTHING)
    assert plan.audit.status == "completed"
    assert not plan.audit.findings


def test_a_plan_writes_nothing(run: Run) -> None:
    all_at_once(run)
    before = tree(run.root, but=None)
    plan_of(run)
    assert tree(run.root, but=None) == before


def test_what_was_rebuilt_is_there_for_what_comes_next(run: Run) -> None:
    plan = plan_of(run, lose(OUTPUT, RESULT, CONSENSUS, RUN_RESULT, *JUDGMENTS))
    (last,) = [step for step in plan.steps if step.name == RUN_RESULT]
    steps = {step.file: step for step in plan.steps}
    assert {f"{RUN}/{name}" for name in (OUTPUT, CONSENSUS, *JUDGMENTS)} <= {source.file for source in last.sources}
    for source in last.sources:
        data = steps[source.file].data if source.file in steps else (run.root / source.file).read_bytes()
        assert source.sha256 == hashlib.sha256(data).hexdigest()


def test_two_records_that_are_wrong_alike_are_put_right_without_a_conflict_between(run: Run) -> None:
    for name in (RESULT, RUN_RESULT):
        do.add(name, "/token_stats/output_tokens", 5)(run)
    plan = plan_of(run, do.add(RUN_RESULT, "/tokens_output", 5))
    assert sorted(names(plan)) == [RESULT, RUN_RESULT]
    assert (plan.audit.status, plan.refusals) == ("completed", ())
    _, case, _ = read(run)
    for step in plan.steps:
        case = Case(case.evidence.with_file(step.name, step.data), case.policy)
        assert conclude(case).status in ("results", "completed")


# ---------------------------------------------------------------------------------------------------------
# What a step is


def test_a_step_names_its_item_its_file_and_what_it_solves(run: Run) -> None:
    plan = plan_of(run, lose(JUDGMENT), put(RUN_RESULT, "/judge_score", 0.123), do.cut(TIMING, 0.5))
    assert [(step.item, step.name, step.file, step.solves) for step in plan.steps] == [
        ("run", TIMING, f"{RUN}/{TIMING}", ("side-file-malformed",)),
        ("judge_02", JUDGMENT, f"{RUN}/{JUDGMENT}", ("judgment-missing",)),
        ("run", RUN_RESULT, f"{RUN}/{RUN_RESULT}", ("run-result-stale",)),
    ]


def test_a_source_is_told_with_the_hash_of_what_it_held(run: Run) -> None:
    lose(f"{SLOT}/MODEL.md", REPLIES[0])(run)
    response_step, model_step = plan_of(run).steps
    (source,) = response_step.sources
    assert (source.file, source.sha256) == (
        f"{RUN}/{REPLIES[1]}",
        hashlib.sha256(run.read(REPLIES[1])).hexdigest(),
    )
    (source,) = model_step.sources
    config = (run.root / "config/experiment.json").read_bytes()
    assert (source.file, source.sha256) == ("config/experiment.json", hashlib.sha256(config).hexdigest())


def test_a_plan_as_actions_is_by_item_and_costs_nothing(run: Run) -> None:
    plan = plan_of(run, lose(JUDGMENT, OUTPUT, LOG, RESULT, RUN_RESULT))
    actions = planned_actions(plan)
    assert {item: [(action.what, action.outcome) for action in done] for item, done in actions.items()} == {
        "run": [(OUTPUT, "planned"), (RESULT, "refused"), (RUN_RESULT, "refused")],
        "judge_02": [(JUDGMENT, "planned")],
    }
    for action in (action for done in actions.values() for action in done):
        assert (action.level, action.calls, action.cost_usd, action.seconds) == ("regenerate", 0, 0, 0.0)
        assert bool(action.reason) == (action.outcome == "refused")


@pytest.mark.parametrize("admits", [lambda item: True, only("judge_02"), only("run")], ids=["all", "a slot", "the run"])
def test_a_repair_does_what_was_planned_and_nothing_else(run: Run, admits: Admits) -> None:
    all_at_once(run)
    plan = plan_of(run, admits=admits)
    before = tree(run.root)
    experiment, case, _ = read(run)
    outcome = repair_run(experiment, case.evidence.run, DEFAULT_POLICY, regenerate, admits)
    after = tree(run.root)
    assert {name: after[name].content for name in after if after[name] != before.get(name)} == {
        step.file: step.data for step in plan.steps
    }
    assert outcome.audit == plan.audit
    done = {item: [action.what for action in each_] for item, each_ in outcome.actions.items()}
    assert done == {item: [action.what for action in each_] for item, each_ in planned_actions(plan).items()}


# ---------------------------------------------------------------------------------------------------------
# What a plan declines


def test_what_does_not_survive_is_refused_with_a_reason(run: Run) -> None:
    plan = plan_of(run, lose(JUDGMENT, *REPLIES))
    assert reasons(plan) == {JUDGMENT: "no reply of the judge holds a verdict"}
    assert [(refusal.item, refusal.file) for refusal in plan.refusals] == [("judge_02", f"{RUN}/{JUDGMENT}")]
    assert plan.steps == ()


def test_a_warning_that_nothing_solves_is_not_refused_but_stays_a_warning(run: Run) -> None:
    asked = Asked()
    plan = plan_of(run, lose(LOG, TIMING), how=asked)
    assert (plan.steps, plan.refusals) == ((), ())
    assert [found.code for found in plan.audit.findings] == ["side-file-missing"] * 2
    assert asked.names == [TIMING]


def test_what_is_no_fault_of_a_file_is_no_reason_to_rebuild_it(run: Run) -> None:
    asked = Asked()
    revised = "\n".join(
        response({**run.load(JUDGMENT), "score": score}) for score in (run.load(JUDGMENT)["score"], 0.5)
    )
    plan = plan_of(
        run,
        *[overwrite(name, revised) for name in REPLIES],
        put(SLOT_TIMING, "/measured_at", "2020-01-01T00:00:00+00:00"),
        put(f"{SLOTS[0]}/judgment.json", "/fallback", True),
        how=asked,
    )
    assert {found.code for slot in plan.audit.slots for found in slot.findings} == {
        "verdict-revised",
        "stale",
        "fallback",
    }
    assert (plan.steps, asked.names) == ((), [])


def test_a_directory_that_is_none_is_in_the_way_of_everything_in_it(run: Run) -> None:
    plan = plan_of(run, do.file_for_directory("judge"), lose(RUN_RESULT))
    assert plan.steps == ()
    assert "expected a directory" in reasons(plan)[CONSENSUS]


def test_a_file_that_would_bring_a_conflict_about_is_refused(run: Run) -> None:
    retell(stdout="I wrote tally.py.\n")(run)  # which holds no tokens: run_result.json alone still tells them
    record = run.load(RESULT)
    record["token_stats"]["output_tokens"] += 1
    plan = plan_of(run, lose(RESULT), how=lambda request: Regenerated(json.dumps(record).encode(), ()))
    assert list(reasons(plan)) == [RESULT]
    assert "contradict" in reasons(plan)[RESULT]
    assert (plan.steps, plan.audit.status) == ((), "results")


# ---------------------------------------------------------------------------------------------------------
# By status

RATE_LIMIT = {**agent_reply(), "is_error": True, "api_error_status": 429}

UNTOUCHED: dict[str, tuple[str, Damage]] = {
    "missing": ("missing", do.keep_only("task_prompt.md", "judge_prompt.md")),
    "failed": ("failed", each(retell(reply=RATE_LIMIT), lose(RESULT, "agent/MODEL.md"))),
    "partial": ("partial", lose(*ALL_COPIES, TIMING, RUN_RESULT, CONSENSUS)),
    "conflict": ("conflict", each(put(RUN_RESULT, "/cost_usd", 99), lose(CONSENSUS, "agent/stdout.log"))),
    "copied": ("conflict", each(put(RUN_RESULT, "/logs_path", "/x/T3/09/run_07/agent"), lose(OUTPUT, JUDGMENT))),
    "unsafe": ("unsafe", each(do.link(RUN_RESULT), lose(OUTPUT, CONSENSUS, "agent/MODEL.md"))),
    "an unsafe agent/": ("unsafe", each(do.link("agent"), lose(RUN_RESULT, CONSENSUS))),
}


@pytest.mark.parametrize(("status", "damage"), UNTOUCHED.values(), ids=UNTOUCHED)
def test_files_of_a_run_are_only_rebuilt_where_the_agent_finished(run: Run, status: str, damage: Damage) -> None:
    asked = Asked()
    plan = plan_of(run, damage, how=asked)
    assert plan.audit.status == status
    assert (plan.steps, plan.refusals, asked.names) == ((), (), [])


SLOTS_ALONE: dict[str, tuple[str, Damage, list[str]]] = {
    "failed": ("failed", retell(reply=RATE_LIMIT), [JUDGMENT]),
    "partial": ("partial", lose(*ALL_COPIES), [JUDGMENT]),
    "partial, derived files lost": ("partial", lose(*ALL_COPIES, CONSENSUS), [JUDGMENT, CONSENSUS]),
    "conflict": ("conflict", put(RUN_RESULT, "/cost_usd", 99), [JUDGMENT]),
    "conflict, consensus lost": (
        "conflict",
        each(put(RUN_RESULT, "/cost_usd", 99), lose(CONSENSUS)),
        [JUDGMENT, CONSENSUS],
    ),
    "unsafe": ("unsafe", do.link(OUTPUT), [JUDGMENT]),
}


@pytest.mark.parametrize(("status", "damage", "expected"), SLOTS_ALONE.values(), ids=SLOTS_ALONE)
def test_a_slot_is_rebuilt_whatever_became_of_its_run(
    run: Run, status: str, damage: Damage, expected: list[str]
) -> None:
    plan = plan_of(run, damage, lose(JUDGMENT))
    assert names(plan) == expected
    assert plan.audit.status == status
    assert plan.audit.slots[1].status == "complete"


@pytest.mark.parametrize("status", ["failed", "partial"])
def test_run_result_follows_a_slot_that_changed_also_where_the_agent_must_run_again(run: Run, status: str) -> None:
    (retell(reply=RATE_LIMIT) if status == "failed" else do.nothing)(run)
    verdicts = [run.load(name) for name in JUDGMENTS]
    verdicts[1] = judgment(0.5, slot=2)
    for name in REPLIES:
        run.write(name, response(verdicts[1]))
    lose(JUDGMENT)(run)
    if status == "partial":
        lose(*ALL_COPIES)(run)
    plan = plan_of(run)
    assert plan.audit.status == status
    assert names(plan) == [JUDGMENT, CONSENSUS, RUN_RESULT]
    final = json.loads(plan.steps[-1].data)
    assert final["judges"][1]["score"] == 0.5
    assert final["judge_score"] == pytest.approx(sum(one["score"] for one in verdicts) / 3)


SLOTS_UNTOUCHED: dict[str, tuple[str, Damage]] = {
    "conflict": ("conflict", put(JUDGMENT, "/score", 0.99)),
    "unsafe": ("unsafe", do.link(JUDGMENT)),
    "missing": ("missing", lose(SLOT)),
    "agent_failed": ("agent_failed", each(lose(*ALL_COPIES, JUDGMENT, *REPLIES))),
}


@pytest.mark.parametrize(("status", "damage"), SLOTS_UNTOUCHED.values(), ids=SLOTS_UNTOUCHED)
def test_files_of_a_slot_are_only_rebuilt_where_it_is_complete_or_failed(run: Run, status: str, damage: Damage) -> None:
    damage(run)
    for name in (f"{SLOT}/MODEL.md", REPLIES[0]):
        if run.path(name).exists():
            run.delete(name)
    plan = plan_of(run)
    assert plan.audit.slots[1].status == status
    assert not [step for step in plan.steps if step.item == "judge_02"]


def test_extra_slots_are_none_of_a_repairs_business(run: Run) -> None:
    retell(judgments=opinions((0.9, True), (0.8, True), (0.7, True), (0.2, False)))(run)
    plan = plan_of(run, lose("judge/judge_04/judgment.json"))
    assert all("judge_04" not in name for name in names(plan))


# ---------------------------------------------------------------------------------------------------------
# Selection


def test_with_a_slot_alone_admitted_its_run_is_kept_current_and_nothing_else_touched(run: Run) -> None:
    plan = plan_of(
        run,
        lose("agent/stdout.log", OUTPUT, RESULT, *JUDGMENTS, CONSENSUS, f"{SLOT}/MODEL.md", JUDGE_TIMING),
        admits=only("judge_02"),
    )
    assert names(plan) == [JUDGMENT, f"{SLOT}/MODEL.md", CONSENSUS]
    assert {slot.status for slot in plan.audit.slots} == {"complete", "failed"}


def test_run_result_is_current_behind_a_slot_although_the_run_is_deselected(run: Run) -> None:
    verdict = judgment(0.5, slot=2)
    for name in REPLIES:
        run.write(name, response(verdict))
    plan = plan_of(run, lose(JUDGMENT, OUTPUT), admits=only("judge_02"))
    assert names(plan) == [JUDGMENT, CONSENSUS, RUN_RESULT]
    final = json.loads(plan.steps[-1].data)
    assert (final["judges"][1]["score"], final["judge_score"]) == (0.5, json.loads(plan.steps[-2].data)["score"])
    assert [found.code for found in plan.audit.findings if found.severity == "error"] == ["output-missing"]


def test_a_slot_whose_judgment_is_sound_changes_nothing_of_its_run(run: Run) -> None:
    plan = plan_of(run, lose(f"{SLOT}/MODEL.md", CONSENSUS), admits=only("judge_02"))
    assert names(plan) == [f"{SLOT}/MODEL.md"]


def test_with_the_run_alone_admitted_no_slot_is_touched(run: Run) -> None:
    plan = plan_of(run, lose(JUDGMENT, REPLIES[0], OUTPUT, CONSENSUS), admits=only("run"))
    assert names(plan) == [OUTPUT, CONSENSUS]
    assert plan.audit.slots[1].status == "failed"
    assert plan.audit.status == "completed"


def test_with_nothing_admitted_nothing_is_done(run: Run) -> None:
    all_at_once(run)
    asked = Asked()
    plan = plan_of(run, how=asked, admits=only())
    assert (plan.steps, plan.refusals, asked.names) == ((), (), [])


# ---------------------------------------------------------------------------------------------------------
# A function of one's own that regenerates


def test_a_function_of_ones_own_is_asked_for_every_faulty_file_raw_before_derived(run: Run) -> None:
    asked = Asked()
    plan_of(run, all_at_once, how=asked)
    assert asked.names == list(EVERYTHING)
    for request in asked.requests:
        assert request.findings
        assert {found.file for found in request.findings} == {request.file} == {f"{RUN}/{request.name}"}


def test_a_function_of_ones_own_sees_what_was_rebuilt_before(run: Run) -> None:
    asked = Asked()
    plan = plan_of(run, lose(OUTPUT, RESULT, JUDGMENT, CONSENSUS, RUN_RESULT), how=asked)
    seen = {request.name: request.evidence for request in asked.requests}
    data = {step.name: step.data for step in plan.steps}
    assert seen[OUTPUT].output.state == "absent"
    assert seen[RESULT].output.data == data[OUTPUT]
    assert not seen[JUDGMENT].slots[1].judgment.sound
    assert seen[CONSENSUS].slots[1].judgment.raw == data[JUDGMENT]
    assert seen[RUN_RESULT].consensus.raw == data[CONSENSUS]
    assert asked.requests[-1].case.slots[1].complete


def test_a_request_knows_the_slot_that_its_file_lies_in(run: Run) -> None:
    asked = Asked()
    plan_of(run, lose(JUDGMENT, OUTPUT), how=asked)
    of_run, of_slot = asked.requests
    assert of_slot.slot.slot.name == "judge_02"
    with pytest.raises(LookupError):
        of_run.slot  # noqa: B018 - asking is what fails


ANSWERS: dict[str, Callable[[str], bytes]] = {
    "nothing": lambda name: b"",
    "no JSON": lambda name: b"{",
    "another shape": lambda name: b'{"note": "I do not know"}',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("name", [OUTPUT, RESULT, JUDGMENT, CONSENSUS, RUN_RESULT])
def test_an_answer_that_does_not_solve_what_was_found_is_refused(
    run: Run, name: str, answer: Callable[[str], bytes]
) -> None:
    plan = plan_of(run, lose(name), how=lambda request: Regenerated(answer(request.name), ()))
    assert plan.steps == ()
    assert list(reasons(plan)) == [name]
    assert reasons(plan)[name].isprintable()


def test_an_answer_that_contradicts_the_raw_files_is_refused(run: Run) -> None:
    record = {**run.load(RUN_RESULT), "judge_score": 0.123}
    plan = plan_of(run, lose(RUN_RESULT), how=lambda request: Regenerated(json.dumps(record).encode(), ()))
    assert list(reasons(plan)) == [RUN_RESULT]


def test_an_answer_that_makes_a_slot_a_conflict_is_refused(run: Run) -> None:
    record = {**run.load(JUDGMENT), "score": 0.99}
    plan = plan_of(run, lose(JUDGMENT), how=lambda request: Regenerated(json.dumps(record).encode(), ()))
    assert list(reasons(plan)) == [JUDGMENT]
    assert "contradict" in reasons(plan)[JUDGMENT]
    wrong_model = model_md("Judge", "another", "2026").encode()
    plan = plan_of(run, lose(f"{SLOTS[0]}/MODEL.md"), how=lambda request: Regenerated(wrong_model, ()))
    assert plan.steps == ()


def test_a_function_of_ones_own_may_refuse_and_what_follows_goes_on(run: Run) -> None:
    def how(request: RegenerateRequest) -> Regenerated:
        if request.name == RESULT:
            raise CannotRegenerate("not today")
        return regenerate(request)

    asked = Asked(how)
    plan = plan_of(run, lose(OUTPUT, RESULT, RUN_RESULT), how=asked)
    assert reasons(plan) == {RESULT: "not today"}
    assert names(plan) == [OUTPUT, RUN_RESULT]
    assert asked.names == [OUTPUT, RESULT, RUN_RESULT]


def test_what_a_function_of_ones_own_rebuilds_otherwise_is_taken(run: Run) -> None:
    record = {**run.load(JUDGMENT), "criteria_scores": None, "x-note": "by hand"}
    data = json.dumps(record).encode()
    plan = plan_of(run, lose(JUDGMENT), how=lambda request: Regenerated(data, (f"{RUN}/notes.txt",)))
    (step,) = plan.steps
    assert step.data == data
    assert [(source.file, source.sha256) for source in step.sources] == [(f"{RUN}/notes.txt", None)]


def test_nothing_can_be_asked_of_the_default_that_it_does_not_know(run: Run) -> None:
    experiment, case, _ = read(run)
    for name in ("report.json", "judge_prompt.md", LOG, SLOT_TIMING, f"{SLOT}/replay.sh", "judge/judge_02"):
        with pytest.raises(CannotRegenerate, match="no other file holds what it said"):
            regenerate(RegenerateRequest(experiment, case, name, ()))
