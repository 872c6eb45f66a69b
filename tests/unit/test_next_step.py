"""The command that a session names at its end: what a person would type next, and no more than they asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from pytest_scylla.auditing.evidence import Policy
from pytest_scylla.judging.settings import JudgeSettings
from pytest_scylla.outcomes import AuditedExperiment, ItemOutcome, Selection
from pytest_scylla.repair.actions import Action, Level
from pytest_scylla.repair.remedies import ASKED_ENOUGH
from pytest_scylla.report.next_step import next_command
from pytest_scylla.settings import MOST_UNASKED, AgentSettings, GateSettings, RepairSettings, Settings

RUN, SLOT = "T0/00/run_01", "T0/00/run_01/judge_01"
BUDGET = ("--repair-budget=0.3",)
HELD_BACK = "not-run: 51 judge calls are planned, more than 50"


def settings(level: Level | None = None, *, plan_only: bool = False, **changes: Any) -> Settings:
    """What a session was asked for: to repair as far as ``level``, or only to audit."""
    repair = None
    if level is not None:
        repair = RepairSettings(
            level,
            plan_only,
            statuses=changes.pop("statuses", frozenset()),
            anyway=False,
            retry=changes.pop("retry", False),
            fresh=changes.pop("fresh", False),
            max_wait=0.0,
            budget_usd=changes.pop("budget_usd", None),
            max_calls=changes.pop("max_calls", None),
            judge=JudgeSettings("claude", (), (), None, 1.0, 1.0, fallback=changes.pop("fallback", False)),
            agent=AgentSettings("claude", (), (), ()),
            terms=changes.pop("terms", ()),
        )
    return Settings(
        select=changes.pop("select", ()),
        subtests=changes.pop("subtests", None),
        strict=False,
        reports=(),
        policy=Policy(),
        repair=repair,
        gate=GateSettings((), None, ratchet=False, waivers=None),
        **changes,
    )


@pytest.fixture
def audited(pristine_experiment: Path) -> AuditedExperiment:
    """An experiment of which nothing was said yet."""
    return AuditedExperiment("exp", pytest_scylla.load(pristine_experiment, given="exp"), Selection([]))


def leave(
    audited: AuditedExperiment,
    level: Level | None,
    item_id: str = RUN,
    *,
    outcome: str = "failed",
    actions: tuple[Action, ...] = (),
    remedy: str = "",
) -> None:
    """Leave an item that is not sound, and that takes a repair as far as ``level``."""
    audited.keep(item_id, ItemOutcome("results", outcome, remedy=remedy, level=level, actions=actions))


def planned(level: Level = "judges", calls: int = 1, reason: str | None = None) -> Action:
    return Action(level, "judge call", "planned", calls=calls, reason=reason)


# After an audit


@pytest.mark.parametrize("outcome", ["passed", "repaired", "waived"])
def test_where_nothing_is_left_there_is_none(audited: AuditedExperiment, outcome: str) -> None:
    leave(audited, "regenerate", outcome=outcome)
    assert next_command(audited, settings()) == ""
    assert next_command(audited, settings("judges")) == ""


@pytest.mark.parametrize("outcome", ["failed", "not-run", "crashed"])
@pytest.mark.parametrize(
    ("levels", "command"),
    [
        (["regenerate"], "pytest --repair --scylla-exp=exp"),
        (["judges"], "pytest --repair-plan --scylla-exp=exp"),
        (["regenerate", "judges"], "pytest --repair-plan --scylla-exp=exp"),
        (["regenerate", "agents"], "pytest --repair-plan --scylla-exp=exp"),
        (["judges", "agents"], "pytest --repair-plan --scylla-exp=exp"),
        (["agents"], "pytest --repair-plan --scylla-exp=exp --repair-level=agents"),
        ([None, "regenerate"], "pytest --repair --scylla-exp=exp"),
    ],
)
def test_after_an_audit_what_is_free_is_done_and_what_costs_is_planned(
    audited: AuditedExperiment, levels: list[Level | None], command: str, outcome: str
) -> None:
    for number, level in enumerate(levels, 1):
        leave(audited, level, f"T0/00/run_{number:02d}", outcome=outcome)
    assert next_command(audited, settings()) == command


def test_what_no_repair_puts_right_is_looked_at(audited: AuditedExperiment) -> None:
    leave(audited, None, SLOT)
    leave(audited, None)
    assert next_command(audited, settings()) == f"pytest --scylla-exp=exp --scylla-select={SLOT}"
    assert next_command(audited, settings("agents")) == ""


# After a plan, and after a repair


@pytest.mark.parametrize(
    ("level", "command"),
    [
        ("regenerate", "pytest --repair --scylla-exp=exp --repair-level=regenerate"),
        ("judges", "pytest --repair --scylla-exp=exp"),
        ("agents", "pytest --repair --scylla-exp=exp --repair-level=agents"),
    ],
)
def test_what_was_planned_is_done_as_far_as_it_was_planned(
    audited: AuditedExperiment, level: Level, command: str
) -> None:
    leave(audited, "regenerate")
    leave(audited, "agents", "T0/00/run_02")
    assert next_command(audited, settings(level, plan_only=True)) == command


@pytest.mark.parametrize("plan_only", [True, False])
def test_what_goes_further_is_planned(audited: AuditedExperiment, plan_only: bool) -> None:
    leave(audited, "judges")
    command = "pytest --repair-plan --scylla-exp=exp"
    assert next_command(audited, settings("regenerate", plan_only=plan_only)) == command
    leave(audited, "agents")
    assert next_command(audited, settings("judges", plan_only=plan_only)) == f"{command} --repair-level=agents"


def test_what_was_left_for_a_reason_that_passes_is_taken_up_again(audited: AuditedExperiment) -> None:
    leave(audited, "judges", SLOT, outcome="not-run", actions=(planned(reason="not-run: claude: a usage limit"),))
    leave(audited, "agents", "T0/00/run_02")
    assert next_command(audited, settings("judges")) == "pytest --repair --scylla-exp=exp"


def test_what_a_repair_could_not_do_is_not_tried_again(audited: AuditedExperiment) -> None:
    refused = Action("judges", "judge call", "refused", reason="exhausted")
    leave(audited, "judges", SLOT, actions=(refused,))
    assert next_command(audited, settings("judges")) == ""
    leave(audited, "agents", "T0/00/run_02")
    assert next_command(audited, settings("judges")) == "pytest --repair-plan --scylla-exp=exp --repair-level=agents"


@pytest.mark.parametrize(
    ("reason", "terms"),
    [
        ("not-run: budget: budget of 0.30 USD: 0.25 spent or reserved, the next call is estimated at 0.25", BUDGET),
        ("not-run: calls: at most 1 call: 1 made or under way", ("--repair-max-calls=1",)),
    ],
)
def test_what_an_allowance_did_not_cover_is_planned_before_another_one_is_spent(
    audited: AuditedExperiment, reason: str, terms: tuple[str, ...]
) -> None:
    leave(
        audited, "judges", SLOT, outcome="not-run", actions=(Action("judges", "judge call", "refused", reason=reason),)
    )
    words = " ".join(terms)
    assert next_command(audited, settings("judges", terms=terms)) == f"pytest --repair-plan --scylla-exp=exp {words}"
    plan = settings("judges", plan_only=True, terms=terms)
    assert next_command(audited, plan) == f"pytest --repair --scylla-exp=exp {words}"


def test_what_was_asked_about_often_enough_is_asked_about_only_where_that_was_wanted(
    audited: AuditedExperiment,
) -> None:
    for item_id in (SLOT, RUN):
        leave(audited, "judges", item_id, remedy=str(ASKED_ENOUGH))
    assert next_command(audited, settings()) == f"pytest --scylla-exp=exp --scylla-select={SLOT}"
    assert next_command(audited, settings("judges", plan_only=True)) == ""
    assert next_command(audited, settings("judges")) == ""
    again = settings("judges", plan_only=True, retry=True)
    assert next_command(audited, again) == "pytest --repair --scylla-exp=exp --repair-retry"
    fallback = settings("judges", plan_only=True, fallback=True)
    assert next_command(audited, fallback) == "pytest --repair --scylla-exp=exp"


# What it says beside


@pytest.mark.parametrize("allowed", [{"budget_usd": 0.3}, {"max_calls": 9}])
def test_what_bounds_the_cost_or_chooses_who_is_asked_is_said_again(
    audited: AuditedExperiment, allowed: dict[str, Any]
) -> None:
    terms = ("--scylla-judge=codex", "--scylla-agent=gemini", *BUDGET, "--repair-max-calls=9", "--repair-max-wait=60")
    leave(audited, "judges", SLOT, outcome="not-run", actions=(planned(calls=51, reason="not-run: codex: a limit"),))
    leave(audited, "agents", "T0/00/run_02")
    words = " ".join(terms)
    for plan_only in (True, False):
        given = settings("judges", plan_only=plan_only, terms=terms, **allowed)
        assert next_command(audited, given) == f"pytest --repair --scylla-exp=exp {words}"
    further = settings("regenerate", terms=terms, **allowed)
    assert next_command(audited, further) == f"pytest --repair-plan --scylla-exp=exp {words}"


@pytest.mark.parametrize("calls", [MOST_UNASKED, MOST_UNASKED + 1])
@pytest.mark.parametrize("plan_only", [True, False])
def test_more_calls_than_are_made_unasked_are_named(audited: AuditedExperiment, calls: int, plan_only: bool) -> None:
    leave(audited, "judges", SLOT, outcome="not-run", actions=(planned(calls=calls, reason=HELD_BACK),))
    also = f" --repair-max-calls={calls}" if calls > MOST_UNASKED else ""
    assert next_command(audited, settings("judges", plan_only=plan_only)) == f"pytest --repair --scylla-exp=exp{also}"


def test_the_run_of_an_agent_is_judged_as_well(audited: AuditedExperiment) -> None:
    for number in range(13):
        run = f"T0/00/run_{number:02d}"
        leave(audited, "agents", run, actions=(planned("agents"),))
        for slot in ("judge_01", "judge_02", "judge_03"):
            leave(audited, "agents", f"{run}/{slot}", actions=(planned("judges"),))
    assert next_command(audited, settings("agents", plan_only=True)) == (
        "pytest --repair --scylla-exp=exp --repair-level=agents --repair-max-calls=52"
    )


def test_no_call_is_counted_where_nothing_but_a_plan_follows(audited: AuditedExperiment) -> None:
    leave(audited, "agents", actions=(planned(calls=MOST_UNASKED + 1),))
    assert "max-calls" not in next_command(audited, settings("judges"))


def test_it_is_about_what_was_selected(audited: AuditedExperiment) -> None:
    leave(audited, "judges")
    chosen = settings("judges", plan_only=True, select=("T0/*", "*/judge_01"), subtests="my defs")
    assert next_command(audited, chosen) == (
        "pytest --repair --scylla-exp=exp '--scylla-subtests=my defs' "
        "'--scylla-select=T0/*' '--scylla-select=*/judge_01'"
    )


def test_it_is_about_the_statuses_and_the_runs_anew_that_were_asked_for(audited: AuditedExperiment) -> None:
    leave(audited, "judges")
    chosen = settings("agents", plan_only=True, statuses=frozenset({"slot:failed", "run:results"}), fresh=True)
    assert next_command(audited, chosen) == (
        "pytest --repair --scylla-exp=exp --repair-level=agents "
        "--repair-status=run:results --repair-status=slot:failed --repair-fresh"
    )


def test_the_name_of_an_experiment_is_quoted_for_a_shell_and_printable(pristine_experiment: Path) -> None:
    experiment = pytest_scylla.load(pristine_experiment, given="a b;\x1b[31m")
    audited = AuditedExperiment("exp", experiment, Selection([]))
    leave(audited, "regenerate")
    assert next_command(audited, settings()) == r"pytest --repair '--scylla-exp=a b;\x1b[31m'"
