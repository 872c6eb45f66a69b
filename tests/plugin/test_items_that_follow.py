"""What the checkpoint and the aggregates have in common: items that follow from all runs of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .support import (
    AGGREGATES,
    CHECKPOINT,
    Project,
    acted_on,
    damaged_for_free,
    edit_json,
    items_of_repair,
    lose_judgment,
    node_id,
    node_ids,
    outcomes,
    record_run,
    report_of_repair,
    snapshot,
    with_outcome,
    write_logging,
)

REPORT = "--scylla-report=report.json"
DAMAGE_LEFT, OPERATIONAL_ERROR = 4, 8


@dataclass(frozen=True)
class Follower:
    """One of the items, how to make it stale and nothing else, and the code of the finding then."""

    item_id: str
    spoil: Callable[[Project], object]
    code: str

    @property
    def node(self) -> str:
        """Its node id."""
        return node_id(self.item_id)


def _run_not_recorded(project: Project) -> None:
    record_run(project.experiment, "T1/01/run_02", None)


def _another_cost(project: Project) -> None:
    edit_json(project.experiment / "result.json", total_cost=99.5)


@pytest.fixture(
    params=[
        Follower(CHECKPOINT, _run_not_recorded, "checkpoint-lacks-run"),
        Follower(AGGREGATES, _another_cost, "aggregate-stale"),
    ],
    ids=lambda follower: follower.item_id,
)
def follower(request: pytest.FixtureRequest) -> Follower:
    """Each of the items."""
    assert isinstance(request.param, Follower)
    return request.param


def test_its_marker_is_documented(project: Project, follower: Follower) -> None:
    assert f"@pytest.mark.scylla_{follower.item_id}:" in project.run("--markers").stdout.str()


def test_last_failed_comes_back_to_it_until_it_is_sound(project: Project, follower: Follower) -> None:
    follower.spoil(project)
    lose_judgment(project.experiment, "T0/00/run_01/judge_02")
    failing = node_ids(["T0/00/run_01/judge_02", follower.item_id])
    assert with_outcome(project.audit(), "failed") == failing
    assert list(outcomes(project.audit("--lf"))) == failing
    assert project.audit("--repair", "--lf", "-k", follower.item_id).parseoutcomes()["repaired"] == 1
    assert list(outcomes(project.audit("--lf"))) == failing[:1]


def test_where_it_is_not_looked_at_a_session_that_repairs_tells_how_it_was_found(
    project: Project, follower: Follower
) -> None:
    follower.spoil(project)
    before = snapshot(project.experiment)
    assert project.audit("--repair", "-k", "T0", REPORT).ret == 0
    item = items_of_repair(project)[follower.item_id]
    assert (item["status"], item["outcome"], item["actions"]) == ("stale", "not-run", [])
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT
    assert snapshot(project.experiment) == before


def test_of_several_experiments_each_has_its_own(
    project: Project, follower: Follower, pristine_experiment: Path
) -> None:
    follower.spoil(project)
    project.copy(pristine_experiment, "other")
    before = snapshot(project.path / "other")
    result = project.audit("--scylla-exp=other")
    assert list(outcomes(result)) == [*node_ids(), *node_ids(name="other")]
    assert with_outcome(result, "failed") == [follower.node]
    assert project.audit("--repair", "--scylla-exp=other").parseoutcomes()["repaired"] == 1
    assert snapshot(project.path / "other") == before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_cannot_be_written_is_an_operational_error(project: Project, follower: Follower, workers: str) -> None:
    follower.spoil(project)
    (project.experiment / ".scylla").write_text("mine")
    before = snapshot(project.experiment)
    result = project.audit("--repair", REPORT, "-n", workers)
    assert result.ret == 1
    (action,) = acted_on(project)[follower.item_id]
    assert (action["outcome"], action["files"]) == ("failed", [])
    assert ".scylla" in action["reason"]
    assert report_of_repair(project)["exit_bits"] == DAMAGE_LEFT + OPERATIONAL_ERROR
    assert snapshot(project.experiment) == before


def test_a_plan_does_not_list_what_is_right_again_once_the_runs_are(project: Project, follower: Follower) -> None:
    damaged_for_free(project.experiment)
    result = project.audit("--repair-plan", REPORT)
    assert follower.node in with_outcome(result, "failed")
    assert follower.item_id not in acted_on(project)


def test_the_summary_has_a_line_for_it_only_where_it_is_not_sound(project: Project, follower: Follower) -> None:
    assert not any(line.startswith(f"{follower.item_id} ") for line in project.audit().outlines)
    assert f"{follower.item_id}    sound" in project.audit("-v").outlines
    follower.spoil(project)
    for option in ("-v", "-q", "--tb=no"):
        assert f"{follower.item_id}    stale ({follower.code})" in project.audit(option).outlines
    assert not any(line.startswith(f"{follower.item_id} ") for line in project.audit("-k", "T0").outlines)


def test_they_come_after_the_runs_of_their_own_experiment_and_before_other_tests(project: Project) -> None:
    project.write("test_z.py", "def test_one():\n    pass\n")
    write_logging(
        project, "def pytest_collection_modifyitems(items):\n    items.sort(key=lambda item: 'test_z' in item.nodeid)\n"
    )
    assert list(outcomes(project.audit("test_z.py"))) == [*node_ids(), "test_z.py::test_one"]
