"""What would make an item sound, at what cost, and why nothing may where nothing may."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from benchmarks.synthetic import judgment, response
from pytest_scylla.auditing.evidence import DEFAULT_POLICY, Policy
from pytest_scylla.auditing.run import examine
from pytest_scylla.experiment.attempts import keep_attempt
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.repair.plan import make_plan
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.remedies import ASKED_ENOUGH, Remedy, remedies

RUN = "T1/02/run_01"
Damage = Callable[[Path], object]


def remedies_in(root: Path, policy: Policy = DEFAULT_POLICY, run: str = RUN) -> dict[str, tuple[str, Remedy]]:
    """The status and the remedy of a run (under "run") and of its slots (under "judge_01", ..)."""
    experiment = pytest_scylla.load(root)
    (run_id,) = [run_id for run_id in experiment.runs() if str(run_id) == run]
    case, audit = examine(experiment, run_id, policy)
    statuses = {"run": str(audit.status), **{slot.slot.name: slot.status for slot in audit.slots}}
    found = remedies(case, audit, make_plan(experiment, case, audit, regenerate))
    return {item: (status, found[item]) for item, status in statuses.items()}


def lose(*names: str) -> Damage:
    def damage(run: Path) -> None:
        for name in names:
            place = run / name
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink()

    return damage


def edit(name: str, **changes: Any) -> Damage:
    def damage(run: Path) -> None:
        record = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps({**record, **changes}))

    return damage


def write(name: str, text: str) -> Damage:
    return lambda run: (run / name).write_text(text)


def link(name: str) -> Damage:
    def damage(run: Path) -> None:
        place = run / name
        place.rename(place.with_name("moved"))
        place.symlink_to("moved")

    return damage


def after(*damages: Damage) -> Damage:
    def damage(run: Path) -> None:
        for one in damages:
            one(run)

    return damage


def slot_files(number: int, *names: str) -> list[str]:
    return [f"judge/judge_{number:02d}/{name}" for name in names]


LOSE_REPLIES = [lose(*slot_files(number, "response.txt", "stdout.log")) for number in (1, 2, 3)]
LOSE_JUDGMENTS = [lose(*slot_files(number, "judgment.json")) for number in (1, 2, 3)]
LOSE_ALL_JUDGING = after(*LOSE_REPLIES, *LOSE_JUDGMENTS)
OUTPUTS = ("agent/output.txt", "agent/stdout.log", "agent/cmd_0000_stdout.log")


def plain_output(run: Path) -> None:
    """The output of an agent that reports no tokens."""
    for name in OUTPUTS:
        (run / name).write_text("Done.\n")


# ----------------------------------------------------------------------------------------------------------------- runs

FREE: dict[str, Damage] = {
    "run_result.json lost": lose("run_result.json"),
    "run_result.json cut off": write("run_result.json", '{"run_number": 1,'),
    "run_result.json stale": edit("run_result.json", judge_score=0.123),
    "consensus lost": lose("judge/result.json"),
    "consensus stale": edit("judge/result.json", score=0.123),
    "agent/result.json lost": lose("agent/result.json"),
    "agent/result.json stale": edit("agent/result.json", api_calls=99, cost_usd=12.5),
    "output.txt lost": lose("agent/output.txt"),
    "output.txt cut off": write("agent/output.txt", "{"),
    "every derived file lost": lose("agent/output.txt", "agent/result.json", "judge/result.json", "run_result.json"),
    "run_result.json and timing lost": lose("run_result.json", "agent/timing.json"),
    "run_result.json and command log lost": lose("run_result.json", "agent/command_log.json"),
    "judgments lost, replies kept": after(*LOSE_JUDGMENTS),
    "consensus lost and judgments, replies kept": after(*LOSE_JUDGMENTS, lose("judge/result.json")),
    "consensus and a slot lost, run_result.json lists it": lose("judge/result.json", "judge/judge_02"),
}


@pytest.mark.parametrize("damage", FREE.values(), ids=FREE.keys())
def test_what_surviving_files_give_back_is_free(experiment_dir: Path, damage: Damage) -> None:
    damage(experiment_dir / RUN)
    status, remedy = remedies_in(experiment_dir)["run"]
    assert status == "results"
    assert (remedy.level, remedy.cost) == ("regenerate", "free")
    assert str(remedy).startswith("free (")


AGENT: dict[str, tuple[str, Damage]] = {
    "no directory": ("missing", lose(".")),
    "only prompts": ("missing", lose("agent", "judge", "run_result.json", "report.json", "report.md", "commands")),
    "no output": ("partial", lose(*OUTPUTS, "agent/result.json")),
    "error of the service": (
        "failed",
        after(
            *(write(name, '{"is_error": true, "api_error_status": 429, "usage": null}') for name in OUTPUTS),
            lose("agent/result.json", "run_result.json"),
        ),
    ),
}


@pytest.mark.parametrize(("status", "damage"), AGENT.values(), ids=AGENT.keys())
def test_a_run_without_an_agents_work_costs_an_agent_run(experiment_dir: Path, status: str, damage: Damage) -> None:
    if status == "missing":
        run = experiment_dir / RUN
        for name in ("cmd_0000_stdout.log", "cmd_0000_stderr.log", "worktree_create.sh"):
            (run / name).unlink(missing_ok=True)
    damage(experiment_dir / RUN)
    found = remedies_in(experiment_dir)
    assert found["run"][0] == status
    assert (found["run"][1].level, found["run"][1].cost) == ("agents", "agent run")
    assert str(found["run"][1]).startswith("agent run (")
    for name in ("judge_01", "judge_02", "judge_03"):
        slot_status, remedy = found[name]
        assert (slot_status == "agent_failed") is (remedy.level == "agents")


def test_slots_of_a_run_that_never_started_need_the_agent_as_well(experiment_dir: Path) -> None:
    shutil.rmtree(experiment_dir / RUN)
    found = remedies_in(experiment_dir)
    assert {name: (status, remedy.cost) for name, (status, remedy) in found.items()} == {
        "run": ("missing", "agent run"),
        "judge_01": ("agent_failed", "agent run"),
        "judge_02": ("agent_failed", "agent run"),
        "judge_03": ("agent_failed", "agent run"),
    }


@pytest.mark.parametrize(
    ("damage", "cost"),
    [
        (LOSE_ALL_JUDGING, "3 judge calls"),
        (lose("judge"), "3 judge calls"),
        (after(LOSE_ALL_JUDGING, lose("judge/result.json", "run_result.json")), "3 judge calls"),
    ],
    ids=["judgments and replies lost", "judge/ lost", "consensus and run_result.json lost too"],
)
def test_a_run_none_of_whose_judgments_survive_costs_a_judge_call_for_each(
    experiment_dir: Path, damage: Damage, cost: str
) -> None:
    damage(experiment_dir / RUN)
    status, remedy = remedies_in(experiment_dir)["run"]
    assert status == "results"
    assert (remedy.level, remedy.cost) == ("judges", cost)


def test_an_experiment_with_one_judge_speaks_of_one_judge_call(experiment_dir: Path) -> None:
    edit("config/experiment.json", judge_models=["judge-large-1"])(experiment_dir)
    lose("judge", "run_result.json")(experiment_dir / RUN)
    found = remedies_in(experiment_dir)
    assert (found["run"][1].cost, found["judge_01"][1].cost) == ("1 judge call", "1 judge call")


def ask(root: Path, number: int, unusable: str | None = "no verdict", times: int = 1) -> None:
    """Keep answers of the judge of a slot; they hold a verdict where ``unusable`` is ``None``."""
    experiment = pytest_scylla.load(root)
    (slot,) = [
        slot
        for run in experiment.runs()
        if str(run) == RUN
        for slot, _ in experiment.slots(run)
        if slot.number == number
    ]
    answer = response(judgment(0.7)).encode() if unusable is None else b"No."
    with Keeping(root) as keeping:
        for _ in range(times):
            keep_attempt(
                keeping,
                slot,
                model=experiment.config.judge_models[number - 1],
                prompt_sha256=hashlib.sha256((root / RUN / "judge_prompt.md").read_bytes()).hexdigest(),
                ended_at=datetime(2026, 12, 31, tzinfo=timezone.utc),
                seconds=1.0,
                cost_usd=None,
                failure=None,
                unusable=unusable,
                response=answer,
                stdout=answer,
                stderr=b"",
            )


def test_a_run_all_of_whose_judges_were_asked_often_enough_waits_for_somebody_to_say_so(experiment_dir: Path) -> None:
    LOSE_ALL_JUDGING(experiment_dir / RUN)
    for number in (1, 2, 3):
        ask(experiment_dir, number, times=3)
    for _, remedy in remedies_in(experiment_dir).values():
        assert remedy == ASKED_ENOUGH
        assert str(remedy).startswith("none until --repair-retry")


def test_a_run_is_free_only_where_a_judges_answer_was_kept(experiment_dir: Path) -> None:
    LOSE_ALL_JUDGING(experiment_dir / RUN)
    ask(experiment_dir, 1, times=3)
    ask(experiment_dir, 2, times=3)
    assert remedies_in(experiment_dir)["run"][1].cost == "1 judge call"
    ask(experiment_dir, 3, unusable=None)
    found = remedies_in(experiment_dir)
    assert (found["run"][1].level, found["run"][1].cost) == ("judges", "free")
    assert [found[f"judge_0{number}"][1].cost for number in (1, 2, 3)] == ["", "", "free"]


def test_a_sound_run_needs_nothing(experiment_dir: Path) -> None:
    for status, remedy in remedies_in(experiment_dir).values():
        assert status in ("completed", "complete")
        assert (remedy.level, remedy.cost) == (None, "")


# ---------------------------------------------------------------------------------------------------------------- slots

NOT_FREE: dict[str, Damage] = {
    "no directory": lose("judge/judge_02"),
    "judgment and replies lost": lose(*slot_files(2, "judgment.json", "response.txt", "stdout.log")),
    "judgment lost, replies without a verdict": after(
        lose(*slot_files(2, "judgment.json")),
        write("judge/judge_02/response.txt", "I could not decide."),
        write("judge/judge_02/stdout.log", "I could not decide."),
    ),
    "judgment lost, reply cut off": after(
        lose(*slot_files(2, "judgment.json", "stdout.log")),
        write("judge/judge_02/response.txt", '```json\n{"score": 0.5, "passed": true, "grade": "C", "reason'),
    ),
    "judgment lost, the call failed": after(
        lose(*slot_files(2, "judgment.json")), edit("judge/judge_02/timing.json", failed=True)
    ),
    "judgment says that it is not valid": edit("judge/judge_02/judgment.json", is_valid=False),
    "score in percent, no reply": after(LOSE_REPLIES[1], edit("judge/judge_02/judgment.json", score=85)),
    "several verdicts and no run_result.json": after(
        lose("judge/judge_02/judgment.json", "judge/judge_02/stdout.log", "run_result.json"),
        write("judge/judge_02/response.txt", response(judgment(0.7)) + response(judgment(0.3))),
    ),
    "several verdicts and run_result.json lists none of them": after(
        lose("judge/judge_02/judgment.json", "judge/judge_02/stdout.log"),
        write("judge/judge_02/response.txt", response(judgment(0.123)) + response(judgment(0.234))),
    ),
}


@pytest.mark.parametrize("damage", NOT_FREE.values(), ids=NOT_FREE.keys())
def test_a_slot_that_no_surviving_file_restores_costs_one_judge_call(experiment_dir: Path, damage: Damage) -> None:
    damage(experiment_dir / RUN)
    status, remedy = remedies_in(experiment_dir)["judge_02"]
    assert status in ("missing", "failed")
    assert (remedy.level, remedy.cost) == ("judges", "1 judge call")
    assert str(remedy).startswith("1 judge call (")


@pytest.mark.parametrize("damage", NOT_FREE.values(), ids=NOT_FREE.keys())
def test_without_the_saved_prompt_nobody_is_asked_and_the_reason_is_told(experiment_dir: Path, damage: Damage) -> None:
    damage(experiment_dir / RUN)
    (experiment_dir / RUN / "judge_prompt.md").unlink()
    status, remedy = remedies_in(experiment_dir)["judge_02"]
    assert status in ("missing", "failed")
    assert (remedy.level, remedy.cost) == (None, "")
    assert "evidence-gone" in str(remedy)


RESTORED: dict[str, Damage] = {
    "judgment lost": lose("judge/judge_02/judgment.json"),
    "judgment cut off": write("judge/judge_02/judgment.json", '{"score": 0.'),
    "judgment with a score in percent": edit("judge/judge_02/judgment.json", score=85),
    "judgment lost, only response.txt left": lose("judge/judge_02/judgment.json", "judge/judge_02/stdout.log"),
    "judgment lost, only stdout.log left": lose("judge/judge_02/judgment.json", "judge/judge_02/response.txt"),
    "judgment and prompt lost": lose("judge/judge_02/judgment.json", "judge_prompt.md"),
}


@pytest.mark.parametrize("damage", RESTORED.values(), ids=RESTORED.keys())
def test_a_slot_whose_reply_survives_is_restored_for_free(experiment_dir: Path, damage: Damage) -> None:
    damage(experiment_dir / RUN)
    status, remedy = remedies_in(experiment_dir)["judge_02"]
    assert status == "failed"
    assert (remedy.level, remedy.cost) == ("regenerate", "free")


@pytest.mark.parametrize("listed_first", [True, False])
def test_of_several_verdicts_the_one_that_run_result_lists_is_restored_for_free(
    experiment_dir: Path, listed_first: bool
) -> None:
    slot = experiment_dir / RUN / "judge" / "judge_02"
    stored = response(json.loads((slot / "judgment.json").read_text()))
    other = response(judgment(0.123, reasoning="Another."))
    (slot / "judgment.json").unlink()
    (slot / "stdout.log").unlink()
    (slot / "response.txt").write_text(stored + other if listed_first else other + stored)
    status, remedy = remedies_in(experiment_dir)["judge_02"]
    assert (status, remedy.level, remedy.cost) == ("failed", "regenerate", "free")


def test_a_fallback_that_counts_as_failed_costs_a_judge_call(experiment_dir: Path) -> None:
    edit("judge/judge_02/judgment.json", fallback=True, fallback_reason="timeout")(experiment_dir / RUN)
    edit("judge/judge_02/timing.json", failed=True, fallback=True)(experiment_dir / RUN)
    assert remedies_in(experiment_dir)["judge_02"][0] == "complete"
    status, remedy = remedies_in(experiment_dir, Policy(fallback="fail"))["judge_02"]
    assert (status, remedy.level, remedy.cost) == ("failed", "judges", "1 judge call")


# -------------------------------------------------------------------------------------------------- nothing may be done

REFUSED: dict[str, tuple[str, str, Damage, str]] = {
    "run in conflict": ("run", "conflict", edit("run_result.json", cost_usd=99.0), "person"),
    "copied run": ("run", "conflict", edit("run_result.json", logs_path="/data/exp/T0/00/run_01/agent"), "person"),
    "slot of a copied run": (
        "judge_01",
        "conflict",
        edit("run_result.json", logs_path="/data/exp/T0/00/run_01/agent"),
        "person",
    ),
    "slot in conflict": ("judge_02", "conflict", edit("judge/judge_02/judgment.json", score=0.123), "person"),
    "unsafe run": ("run", "unsafe", link("run_result.json"), "regular file"),
    "unsafe slot": ("judge_02", "unsafe", link("judge/judge_02/judgment.json"), "regular file"),
    "no token counts for agent/result.json": (
        "run",
        "results",
        after(plain_output, lose("agent/result.json")),
        "agent/result.json",
    ),
    "no exit code for agent/result.json": (
        "run",
        "results",
        lose("agent/result.json", "agent/command_log.json", "run_result.json"),
        "exit code",
    ),
    "no duration for run_result.json": (
        "run",
        "results",
        lose("run_result.json", "agent/timing.json", "agent/command_log.json"),
        "duration",
    ),
    "no judgment and no prompt": ("run", "results", after(LOSE_ALL_JUDGING, lose("judge_prompt.md")), "evidence-gone"),
    "consensus lost beside a slot in conflict": (
        "run",
        "results",
        after(lose("judge/result.json"), edit("judge/judge_02/judgment.json", score=0.123)),
        "conflict",
    ),
    "consensus lost beside an unsafe slot": (
        "run",
        "results",
        after(lose("judge/result.json"), link("judge/judge_02/judgment.json")),
        "unsafe",
    ),
    "consensus stale beside a slot in conflict": (
        "run",
        "results",
        after(edit("judge/result.json", score=0.321), edit("judge/judge_02/judgment.json", score=0.123)),
        "conflict",
    ),
}


@pytest.mark.parametrize(("item", "status", "damage", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_where_no_repair_may_act_the_remedy_says_none_and_why(
    experiment_dir: Path, item: str, status: str, damage: Damage, reason: str
) -> None:
    damage(experiment_dir / RUN)
    found, remedy = remedies_in(experiment_dir)[item]
    assert found == status
    assert (remedy.level, remedy.cost) == (None, "")
    assert str(remedy).startswith("none")
    assert reason in str(remedy)


def test_a_remedy_is_one_printable_line(experiment_dir: Path) -> None:
    lose("judge/judge_01", "agent/output.txt")(experiment_dir / RUN)
    for _, remedy in remedies_in(experiment_dir).values():
        assert str(remedy).isprintable()
        assert len(str(remedy)) < 150
