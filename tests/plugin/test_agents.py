"""What a user sees of agents that run again: under which options they do, what it takes, and what is told of it.

The agent and the judge are functions of a conftest.py that do what a script says and tell of every call. Every test
looks at all calls. Where it is not about git, that conftest.py makes workspaces of its own, plain directories.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.synthetic import small, write_experiment
from tests.end_to_end.agents import AGENT_REPLY, copied, write_unfinished
from tests.unit.repairing import tree
from tests.unit.repositories import (
    Setting,
    branches,
    central_place,
    edit_config,
    everything,
    git,
    needs_git,
    registrations,
)

from .support import (
    AGGREGATES,
    CHECKPOINT,
    Project,
    acted_on,
    assert_usage_error,
    experiment_of_repair,
    items_of_repair,
    node_ids,
    outcomes,
    printed,
    record_run,
    recorded_runs,
    report_of_repair,
    snapshot,
)

pytestmark = needs_git

PLAN = small(
    tiers={"T0": ("00",), "T1": ("01",)}, runs_per_subtest=3, judge_models=("judge-a", "judge-b"), side_files=False
)
ABSENT, FAILED, SOUND = "T0/00/run_02", "T0/00/run_03", "T0/00/run_01"
LATER_ABSENT, LATER_FAILED = "T1/01/run_02", "T1/01/run_03"
TO_RUN = [ABSENT, FAILED, LATER_ABSENT, LATER_FAILED]

REPORT = "--scylla-report=report.json"
AGENTS = ("--repair", "--repair-level=agents", REPORT, "-oscylla_backoff=0")
PLANNED = ("--repair-plan", "--repair-level=agents", REPORT)

Step = dict[str, Any]

_CONFTEST = """\
import json
import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pytest_scylla.judging.contract import JudgeLimit, JudgeReply
from pytest_scylla.running import contract
from pytest_scylla.running.contract import Workspace

HERE = Path({here!r})


def called(kind, item, **more):
    data = json.loads((HERE / "exp/checkpoint.json").read_text())["completed_runs"]
    tier, subtest, run = item.split("/")[:3]
    more["recorded"] = data.get(tier, {{}}).get(subtest, {{}}).get(str(int(run[4:])))
    more["pauses"] = len(list((HERE / "exp/.scylla").glob("pauses/*")))
    with (HERE / "calls.jsonl").open("a") as file:
        file.write(json.dumps({{"kind": kind, "item": item, "time": time.time(), **more}}) + "\\n")


def step_of(item):
    script = json.loads((HERE / "script.json").read_text())
    lines = (HERE / "calls.jsonl").read_text().splitlines() if (HERE / "calls.jsonl").exists() else []
    steps = script.get(item) or script["otherwise"]
    return steps[min(sum(json.loads(line)["item"] == item for line in lines), len(steps) - 1)]


def interrupt(*_):
    raise KeyboardInterrupt


def fail(step):
    rest = {{}}
    if step.get("interrupted_later"):
        time.sleep = interrupt
    if "scope" in step:
        rest["scope"] = step["scope"]
    if step.get("ends_in") is not None:
        rest["reset_at"] = datetime.now(timezone.utc) + timedelta(seconds=step["ends_in"])
    raise getattr(contract, step["failure"])(step["reason"], **rest)


@pytest.fixture
def scylla_agent():
    def scripted(request):
        step = step_of(request.run_id)
        called("agent", request.run_id, model=request.model, attempt=request.attempt)
        if not step.get("idle"):
            (request.workspace / "tally.py").write_text("print(412)")
        if step.get("interrupted"):
            interrupt()
        if "error" in step:
            raise RuntimeError(step["error"])
        if "failure" in step:
            fail(step)
        return contract.AgentReply(step["stdout"].encode(), cost_usd=step.get("cost"), usage=step.get("usage"))

    return scripted


@pytest.fixture
def scylla_judge():
    def scripted(request):
        called("judge", request.slot_id, model=request.model)
        script = json.loads((HERE / "script.json").read_text())
        if request.slot_id in script["limited"]:
            raise JudgeLimit("usage limit reached", datetime.now(timezone.utc) + timedelta(hours=1))
        verdict = {{"score": 0.75, "passed": script["passed"], "reasoning": "I looked."}}
        return JudgeReply(json.dumps(verdict), cost_usd=0.01)

    return scripted
"""

_OWN_WORKSPACES = """

@pytest.fixture
def scylla_workspace():
    def make(request):
        place = request.run_directory / "workspace"
        place.mkdir(parents=True)
        (place / "mine.txt").write_text("a workspace of my own")
        return Workspace(place, "none", "0" * 40)

    return make
"""


def works(cost: float | None = 0.02) -> Step:
    return {"stdout": json.dumps({**AGENT_REPLY, "total_cost_usd": cost}), "cost": cost}


def fails(kind: str, reason: str, **more: Any) -> Step:
    return {"failure": kind, "reason": reason, **more}


def limit(ends_in: float | None) -> Step:
    return fails("AgentLimit", "usage limit reached", ends_in=ends_in)


@dataclass(frozen=True)
class Call:
    kind: str
    item: str
    model: str
    time: float
    recorded: str | None
    pauses: int
    attempt: int = 0


class Scripted:
    """The agent and the judge of a project: what they are to do, and what they were asked.

    A test has to look at every call: it ends with :meth:`assert_all_looked_at`.
    """

    def __init__(self, project: Project, *, own_workspaces: bool = True) -> None:
        self.project = project
        self._log = project.path / "calls.jsonl"
        self._looked_at = 0
        project.write("conftest.py", _CONFTEST.format(here=str(project.path)) + _OWN_WORKSPACES * own_workspaces)
        self.does()

    def does(
        self,
        items: Mapping[str, Sequence[Step]] | None = None,
        otherwise: Sequence[Step] = (works(),),
        passed: bool = True,
        limited: Sequence[str] = (),
    ) -> None:
        """Let the agent do ``items[run]`` at its calls for a run, one step a call, the last again and again.

        ``otherwise`` is for all other runs. Judges say ``passed``; for the slots ``limited`` they meet a limit.
        """
        script = {**(items or {}), "otherwise": list(otherwise), "passed": passed, "limited": list(limited)}
        (self.project.path / "script.json").write_text(json.dumps(script))

    @property
    def calls(self) -> list[Call]:
        """All calls so far, in their order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._looked_at = len(lines)
        return [Call(**json.loads(line)) for line in lines]

    @property
    def asked(self) -> list[str]:
        """The run, or the slot, of all calls so far, in the order of the calls."""
        return [call.item for call in self.calls]

    @property
    def ran(self) -> list[str]:
        """The runs of all calls of the agent so far."""
        return [call.item for call in self.calls if call.kind == "agent"]

    def forget(self) -> None:
        """Forget the calls so far, which were all looked at: the next one is the first."""
        self.assert_all_looked_at()
        self._log.unlink(missing_ok=True)
        self._looked_at = 0

    def assert_all_looked_at(self) -> None:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        assert len(lines) == self._looked_at, "calls were made that the test does not speak of"


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Two subtests of three runs, with two judges: of each one is sound, one absent, and one failed."""
    return write_unfinished(tmp_path_factory.mktemp("unfinished") / "exp", PLAN)


@pytest.fixture
def setting(empty_project: Project, unfinished: Setting) -> Setting:
    """A copy of it as the experiment exp of a project."""
    return copied(unfinished, empty_project.path)


@pytest.fixture
def project(empty_project: Project, setting: Setting) -> Project:
    """That project."""
    return empty_project


@pytest.fixture
def scripted(project: Project) -> Iterator[Scripted]:
    """An agent, a judge and workspaces of the project's conftest.py."""
    made = Scripted(project)
    yield made
    made.assert_all_looked_at()


@pytest.fixture
def with_git(project: Project) -> Iterator[Scripted]:
    """An agent and a judge of the project's conftest.py; workspaces are made as the plugin does."""
    made = Scripted(project, own_workspaces=False)
    yield made
    made.assert_all_looked_at()


def slots(run: str) -> list[str]:
    return [f"{run}/judge_01", f"{run}/judge_02"]


def calls_for(*runs: str) -> list[str]:
    """The calls that it takes to complete runs."""
    return [item for run in runs for item in (run, *slots(run))]


def archive(project: Project, run: str = FAILED) -> list[str]:
    """The names in the archive of a run's subtest."""
    place = (project.experiment / run).parent / ".failed"
    return sorted(os.listdir(place)) if place.is_dir() else []


def recorded(project: Project, run: str) -> str | None:
    return recorded_runs(project.experiment).get(run)


def agent_action(project: Project, run: str) -> dict[str, Any]:
    """What was done, or not, about a run's agent."""
    (action,) = [action for action in acted_on(project)[run] if action["level"] == "agents"]
    return action


# Completing


def test_agents_run_and_then_their_judges_are_asked_run_by_run(project: Project, scripted: Scripted) -> None:
    result = project.audit(*AGENTS)
    assert result.ret == 0
    assert scripted.asked == calls_for(*TO_RUN)
    assert {call.model for call in scripted.calls if call.kind == "agent"} == {"agent-medium-1"}
    items = items_of_repair(project)
    assert {item_id for item_id, item in items.items() if item["outcome"] == "repaired"} >= {*calls_for(*TO_RUN)}
    assert report_of_repair(project)["exit_bits"] == 1
    repairs = experiment_of_repair(project)["repairs"]
    assert (repairs["agent_runs"], repairs["judge_calls"], repairs["failed"]) == (4, 8, 0)
    assert repairs["cost_usd"] == pytest.approx(4 * 0.02 + 8 * 0.01)
    assert agent_action(project, ABSENT)["solved"] == ["run-missing"]
    assert "ran agents: 4 runs, 0.08 USD; 4 agents came to an end" in result.outlines


def test_a_run_that_comes_before_its_slots_is_completed_all_the_same(project: Project, scripted: Scripted) -> None:
    project.reverse_items()
    result = project.audit(*AGENTS)
    assert result.ret == 0
    assert scripted.asked == [item for run in reversed(TO_RUN) for item in (run, *reversed(slots(run)))]
    items = items_of_repair(project)
    assert {item_id for item_id, item in items.items() if item["outcome"] == "repaired"} >= {*calls_for(*TO_RUN)}


@pytest.mark.parametrize("mode", ["worksteal", "each-by-itself"])
def test_runs_are_completed_also_where_their_items_are_split_over_workers(project: Project, mode: str) -> None:
    scripted = Scripted(project)
    distribution = ["--dist=worksteal"] if mode == "worksteal" else ["--dist=load", "--maxschedchunk=1"]
    (done,) = project.at_once([*AGENTS, "-n2", *distribution])
    assert done[0] == 0, done[1]
    assert sorted(scripted.asked) == sorted(calls_for(*TO_RUN))
    assert project.audit().ret == 0


def test_the_same_session_again_calls_nobody_and_changes_nothing(project: Project, scripted: Scripted) -> None:
    project.audit(*AGENTS)
    assert scripted.asked == calls_for(*TO_RUN)
    scripted.forget()
    before = snapshot(project.experiment)
    assert project.audit(*AGENTS).ret == 0
    assert snapshot(project.experiment) == before


def test_the_checkpoint_holds_that_an_agent_is_done_and_then_how_its_judges_found_that(
    project: Project, scripted: Scripted
) -> None:
    project.audit(*AGENTS, "--scylla-select=T0/00/run_02")
    assert [(call.kind, call.recorded) for call in scripted.calls] == [
        ("agent", None),
        ("judge", "agent_complete"),
        ("judge", "agent_complete"),
    ]
    assert recorded(project, ABSENT) == "passed"
    scripted.forget()
    scripted.does(passed=False)
    project.audit(*AGENTS, "--scylla-select=T0/00/run_03")
    assert scripted.asked == calls_for(FAILED)
    assert recorded(project, FAILED) == "failed"


def test_at_a_lower_level_no_agent_runs(project: Project, scripted: Scripted) -> None:
    for level in ("judges", "regenerate"):
        result = project.audit("--repair", f"--repair-level={level}", REPORT)
        assert result.ret == 1
        assert items_of_repair(project)[ABSENT]["status"] == "missing"
    assert scripted.asked == []
    assert "not sound: 12 items for which the agent has to run again" in result.outlines


def test_a_run_whose_agent_came_to_its_end_is_judged_again_and_not_run(project: Project, scripted: Scripted) -> None:
    shutil.rmtree(project.experiment / SOUND / "judge/judge_02")
    shutil.rmtree(project.experiment / "T1/01/run_01/judge")
    (project.experiment / "T1/01/run_01/run_result.json").unlink()
    result = project.audit(*AGENTS, "--scylla-select=*/run_01")
    assert result.ret == 0
    assert scripted.asked == [f"{SOUND}/judge_02", *slots("T1/01/run_01")]


def test_a_workspace_of_ones_own_needs_no_repository(project: Project, scripted: Scripted) -> None:
    shutil.rmtree(project.experiment / "repo")
    result = project.audit(*AGENTS, "--scylla-select=T0/00/run_02")
    assert result.ret == 0
    assert scripted.asked == calls_for(ABSENT)
    assert sorted(os.listdir(project.experiment / ABSENT / "workspace")) == ["mine.txt", "tally.py"]


# Selecting


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        (["--repair-status=run:failed"], []),
        (["--repair-status=run:failed", "--repair-status=slot:agent_failed"], [FAILED, LATER_FAILED]),
        (["--scylla-select=T1/*"], [LATER_ABSENT, LATER_FAILED]),
        (["-k", "run_02"], [ABSENT, LATER_ABSENT]),
    ],
)
def test_only_what_is_selected_is_run(
    options: list[str], runs: list[str], project: Project, scripted: Scripted
) -> None:
    project.audit(*AGENTS, *options)
    if runs:
        assert scripted.asked == calls_for(*runs)
    else:  # whose slots are in another status
        assert scripted.asked == [FAILED, LATER_FAILED]


def test_where_only_slots_are_selected_no_agent_runs(project: Project, scripted: Scripted) -> None:
    before = tree(project.experiment)
    result = project.audit(*AGENTS, "-k", "judge_01")
    assert result.ret == 1
    assert scripted.asked == []
    assert tree(project.experiment) == before
    assert items_of_repair(project)[f"{ABSENT}/judge_01"]["status"] == "agent_failed"


def test_where_only_the_run_is_selected_its_slots_are_left(project: Project, scripted: Scripted) -> None:
    result = project.audit(*AGENTS, "-k", "run_02 and run and not judge_01 and not judge_02 and T0")
    assert scripted.asked == [ABSENT]
    assert result.ret == 1
    assert items_of_repair(project)[ABSENT]["status"] == "results"


def test_reruns_of_failing_tests_run_no_agent_again(project: Project, scripted: Scripted) -> None:
    pytest.importorskip("pytest_rerunfailures")
    scripted.does({ABSENT: [fails("AgentTimeout", "too slow")]})
    options = ("--reruns=2", "-p", "no:hypothesispytest", "-p", "no:html", "-p", "no:metadata")
    assert project.audit(*AGENTS, *options, "--scylla-select=T0/00/run_02", alone=False).ret == 1
    assert scripted.asked == [ABSENT]


# Sound judgments


def lose_output(project: Project, run: str = SOUND) -> None:
    """Take the agent's output of a run; its judgments stay."""
    for name in ("output.txt", "stdout.log", "cmd_0000_stdout.log", "result.json"):
        (project.experiment / run / "agent" / name).unlink()


@pytest.mark.parametrize("select", [[], ["--scylla-select=T0/00/run_0[1]"], ["--scylla-select=T0/*"]])
def test_a_run_with_sound_judgments_is_not_run_unless_it_is_named(
    select: list[str], project: Project, scripted: Scripted
) -> None:
    lose_output(project)
    before = everything(project.experiment / SOUND)
    result = project.audit(*AGENTS, *select, "-k", "run_01")
    assert result.ret == 1
    assert scripted.asked == []
    action = agent_action(project, SOUND)
    assert (action["outcome"], action["calls"]) == ("refused", 0)
    reason = f"it has sound judgments, which another execution voids: name it, --scylla-select={SOUND}"
    assert action["reason"] == reason
    assert f"  no repair: {action['reason']}" in result.outlines
    assert everything(project.experiment / SOUND) == before


def test_a_run_with_sound_judgments_is_run_where_it_is_named(project: Project, scripted: Scripted) -> None:
    lose_output(project)
    before = tree(project.experiment / SOUND)
    assert project.audit(*AGENTS, f"--scylla-select={SOUND}").ret == 0
    assert scripted.asked == calls_for(SOUND)
    assert tree(project.experiment / "T0/00/.failed/run_01") == before


# Running anew


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "name each run, without wildcards"),
        (["--scylla-select=T0/00/*"], "name each run, without wildcards"),
        ([f"--scylla-select={SOUND}", "--scylla-select=T1/01/run_0?"], "name each run, without wildcards"),
        ([f"--scylla-select={SOUND}/judge_01"], "name each run, without wildcards"),
        (["--scylla-select=checkpoint"], "name each run, without wildcards"),
        ([f"--scylla-select={SOUND}", "--scylla-select=checkpoint"], "name each run, without wildcards"),
        ([f"--scylla-select={SOUND}", "--repair-level=judges"], "--repair-level=agents"),
        ([f"--scylla-select={SOUND}", "--repair-level=regenerate"], "--repair-level=agents"),
    ],
)
def test_running_anew_takes_names(options: list[str], told: str, project: Project, scripted: Scripted) -> None:
    before = snapshot(project.experiment)
    assert_usage_error(project.audit("--repair", "--repair-fresh", *options), "--repair-fresh", told)
    assert scripted.asked == []
    assert snapshot(project.experiment) == before


def test_running_anew_is_something_that_a_repair_does(project: Project, scripted: Scripted) -> None:
    assert_usage_error(project.audit("--repair-fresh", f"--scylla-select={SOUND}"), "--repair-fresh", "--repair")
    assert scripted.asked == []


def test_a_passed_run_is_run_anew_and_what_was_there_is_archived(project: Project, with_git: Scripted) -> None:
    root = project.experiment
    before, other = tree(root / SOUND), everything(root / "T1/01/run_01")
    result = project.audit("--repair", "--repair-fresh", f"--scylla-select={SOUND}", REPORT)
    assert result.ret == 0
    assert with_git.asked == calls_for(SOUND)
    assert with_git.calls[0].attempt == 2
    assert tree(root / "T0/00/.failed/run_01") == before
    assert everything(root / "T1/01/run_01") == other
    assert recorded(project, SOUND) == "passed"
    assert json.loads((root / SOUND / "run_result.json").read_text())["judge_score"] == 0.75
    registered = registrations(root / "repo")
    assert "locked" in registered[str(root / "T0/00/.failed/run_01/workspace")]
    assert "T0_00_run_01--a2-" in registered[str(root / SOUND / "workspace")]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_checkpoint_follows_a_run_anew_though_it_is_not_looked_at(
    project: Project, scripted: Scripted, workers: str
) -> None:
    before = recorded_runs(project.experiment)
    assert before[SOUND] == "passed"
    scripted.does(passed=False)
    result = project.audit("--repair", "--repair-fresh", f"--scylla-select={SOUND}", "-n", workers, REPORT)
    assert result.ret == 0
    assert list(outcomes(result)) == node_ids([*slots(SOUND), SOUND])
    assert scripted.asked == calls_for(SOUND)
    # How it ended before is no longer said while it runs.
    assert [call.recorded for call in scripted.calls] == [None, "agent_complete", "agent_complete"]
    assert recorded_runs(project.experiment) == {**before, SOUND: "failed"}
    items = items_of_repair(project)
    assert CHECKPOINT not in items
    assert (items[AGGREGATES]["status"], items[AGGREGATES]["outcome"]) == ("stale", "not-run")  # by another verdict
    assert project.audit("--scylla-select=checkpoint").ret == 0


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_checkpoint_that_a_run_anew_puts_right_is_told_to_be(
    project: Project, scripted: Scripted, workers: str
) -> None:
    record_run(project.experiment, SOUND, "failed")
    project.audit("--repair", "--repair-fresh", f"--scylla-select={SOUND}", "-n", workers, REPORT)
    assert scripted.asked == calls_for(SOUND)
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status_before"], item["status"], item["outcome"]) == ("stale", "sound", "repaired")
    assert item["findings"] == []


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_else_is_wrong_with_the_checkpoint_is_told_after_a_run_anew_and_left(
    project: Project, scripted: Scripted, workers: str
) -> None:
    right, other = recorded_runs(project.experiment), "T1/01/run_01"
    record_run(project.experiment, other, None)
    result = project.audit("--repair", "--repair-fresh", f"--scylla-select={SOUND}", "-n", workers, REPORT)
    assert result.ret == 0
    assert scripted.asked == calls_for(SOUND)
    item = items_of_repair(project)[CHECKPOINT]
    assert (item["status"], item["outcome"], item["actions"]) == ("stale", "not-run", [])
    assert [finding["code"] for finding in item["findings"]] == ["checkpoint-lacks-run"]
    assert other in item["findings"][0]["message"]
    assert recorded_runs(project.experiment) == {run: state for run, state in right.items() if run != other}
    assert project.audit("--repair", "--scylla-select=checkpoint").parseoutcomes() == {"repaired": 1}
    assert recorded_runs(project.experiment) == right


def test_a_run_anew_whose_judges_meet_a_limit_is_judged_by_the_same_command_and_not_run_once_more(
    project: Project, scripted: Scripted
) -> None:
    anew = ("--repair", "--repair-fresh", f"--scylla-select={SOUND}", "--repair-max-wait=0", REPORT)
    scripted.does(limited=[f"{SOUND}/judge_02"])
    assert project.audit(*anew).ret == 1
    assert scripted.asked == calls_for(SOUND)
    scripted.forget()
    scripted.does()
    for pause in (project.experiment / ".scylla/pauses").iterdir():
        pause.unlink()
    project.audit("--repair-plan", *anew[1:])
    planned = [(item, action["what"]) for item, done in acted_on(project).items() for action in done if action["calls"]]
    assert planned == [(f"{SOUND}/judge_02", "judge call")]
    assert project.audit(*anew).ret == 0
    assert scripted.asked == [f"{SOUND}/judge_02"]
    scripted.forget()
    assert project.audit(*anew).ret == 0  # now that all have judged it, it can be run anew again
    assert scripted.ran == [SOUND]


def test_a_run_that_is_in_several_experiments_is_not_run_anew_in_all_of_them(
    project: Project, scripted: Scripted
) -> None:
    shutil.copytree(project.experiment, project.path / "other", symlinks=True)
    before = snapshot(project.path / "other")
    options = ("--scylla-exp=other", "--repair", "--repair-fresh", f"--scylla-select={SOUND}")
    assert_usage_error(project.audit(*options), SOUND, "2 experiments (exp, other)", "--scylla-exp")
    assert snapshot(project.path / "other") == before


def test_an_agent_that_fails_session_after_session_is_exhausted_until_somebody_asks(
    project: Project, scripted: Scripted
) -> None:
    scripted.does({FAILED: [fails("AgentTimeout", "no answer in time")]})
    for _ in range(3):
        assert project.audit(*AGENTS, "-k", "T0 and run_03").ret == 1
        assert scripted.asked == [FAILED]
        scripted.forget()
    before = everything(project.experiment)
    assert project.audit(*AGENTS, "-k", "T0 and run_03").ret == 1
    action = agent_action(project, FAILED)
    assert (action["outcome"], action["calls"]) == ("refused", 0)
    assert action["reason"].startswith("exhausted: its agent ran 3 times, and the run is failed; --repair-retry")
    assert everything(project.experiment) == before
    for ask in ("--repair-retry", f"--scylla-select={FAILED}"):
        project.audit(*AGENTS, "-k", "T0 and run_03", ask)
        assert scripted.asked == [FAILED]
        scripted.forget()


@pytest.mark.parametrize("options", [AGENTS, PLANNED], ids=["repair", "plan"])
def test_without_anything_to_judge_by_no_agent_runs(
    project: Project, scripted: Scripted, options: Sequence[str]
) -> None:
    for name in ("rubric.yaml", "criteria.md"):
        (project.experiment / name).unlink(missing_ok=True)
    assert project.audit(*options).ret == 1
    assert scripted.asked == []
    action = agent_action(project, ABSENT)
    assert action["outcome"] == "refused"
    assert "rubric.yaml: expected a rubric, found none (evidence-gone)" in action["reason"]


def test_a_run_that_the_checkpoint_calls_passed_is_left_alone_however_often_the_command_is_repeated(
    project: Project, scripted: Scripted
) -> None:
    record_run(project.experiment, FAILED, "passed")
    (project.experiment / FAILED / "workspace").mkdir(exist_ok=True)
    before = everything(project.experiment / FAILED)
    for _ in range(2):
        assert project.audit(*AGENTS, "-k", "T0 and run_03 or checkpoint").ret == 1
        assert scripted.asked == []
        assert "the checkpoint calls it passed" in agent_action(project, FAILED)["reason"]
        assert recorded(project, FAILED) == "passed"
    assert everything(project.experiment / FAILED) == before


def test_the_plan_of_a_run_anew_says_what_it_takes_and_does_nothing(project: Project, scripted: Scripted) -> None:
    before = snapshot(project.experiment)
    project.audit("--repair-plan", "--repair-fresh", f"--scylla-select={SOUND}", REPORT)
    assert scripted.asked == []
    assert snapshot(project.experiment) == before
    planned = acted_on(project)
    assert {item_id: [action["what"] for action in actions] for item_id, actions in planned.items()} == {
        SOUND: ["agent run"],
        f"{SOUND}/judge_01": ["judge call"],
        f"{SOUND}/judge_02": ["judge call"],
    }


# Failures that lie elsewhere


def assert_as_before(project: Project, before: Mapping[str, object], left: list[str]) -> None:
    """The failed run is as it was, and what this session's attempts made is in the archive."""
    assert everything(project.experiment / FAILED) == before
    assert archive(project) == left


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        (fails("AgentPermanent", "not logged in", scope="all"), 1),
        (fails("AgentPermanent", "there is no such model", scope="model"), 1),
        (fails("AgentTransient", "503 service unavailable"), 4),
    ],
)
def test_a_failure_that_lies_elsewhere_is_no_attempt_and_other_work_goes_on(
    step: Step, calls: int, project: Project, scripted: Scripted
) -> None:
    shutil.rmtree(project.experiment / "T1/01/run_01/judge/judge_02")
    before = everything(project.experiment / FAILED)
    scripted.does({FAILED: [step]})
    result = project.audit(*AGENTS, "-k", "run_03 or run_01")
    assert result.ret == 1
    others = [] if step.get("scope") else calls_for(LATER_FAILED)
    assert scripted.asked == [*[FAILED] * calls, "T1/01/run_01/judge_02", *others]
    action = agent_action(project, FAILED)
    assert (action["outcome"], action["calls"], action["reason"]) == ("failed", calls, step["reason"])
    assert_as_before(project, before, [f"run_03_failed_{number}" for number in range(1, calls + 1)])
    assert items_of_repair(project)[FAILED]["status"] == "failed"
    assert report_of_repair(project)["exit_bits"] == 1 | 4 | 8
    assert f"  agent run failed ({calls} run{'s' * (calls > 1)}, " in "\n".join(result.outlines)
    if step.get("scope"):
        refused = agent_action(project, LATER_FAILED)
        assert (refused["outcome"], refused["calls"], refused["reason"]) == ("refused", 0, step["reason"])


def test_where_nobody_is_logged_in_the_default_agent_leaves_everything_as_it_was(
    project: Project, scripted: Scripted
) -> None:
    (project.path / "conftest.py").unlink()
    before = everything(project.experiment / FAILED)
    result = project.audit(*AGENTS)
    assert result.ret == 1
    assert "Not logged in" in agent_action(project, ABSENT)["reason"]
    assert agent_action(project, ABSENT)["calls"] == 1
    assert [agent_action(project, run)["outcome"] for run in TO_RUN[1:]] == ["refused"] * 3
    assert_as_before(project, before, [])


def test_without_the_command_line_everything_is_as_it_was(
    project: Project, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.path / "conftest.py").unlink()
    found = shutil.which("git")
    assert found is not None
    (project.path / "bin").mkdir()
    (project.path / "bin/git").symlink_to(found)
    monkeypatch.setenv("PATH", str(project.path / "bin"))
    before = everything(project.experiment / FAILED)
    base = project.experiment / "repo"
    known = branches(base), registrations(base)
    for _ in range(2):
        result = project.audit(*AGENTS, "--scylla-agent=gemini", "-k", "run_03")
        assert result.ret == 1
        assert "gemini: No such file or directory" in agent_action(project, FAILED)["reason"]
        assert_as_before(project, before, [])
        assert (branches(base), registrations(base)) == known


def test_an_arbitrary_exception_is_shown_and_the_other_runs_go_on(project: Project, scripted: Scripted) -> None:
    before = everything(project.experiment / FAILED)
    scripted.does({FAILED: [{"error": "a bug in my agent"}]})
    result = project.audit(*AGENTS, "-k", "run_03")
    assert result.ret == 1
    assert scripted.asked == [FAILED, *calls_for(LATER_FAILED)]
    assert "RuntimeError: a bug in my agent" in printed(result)
    assert_as_before(project, before, ["run_03_failed_1"])


def test_an_interruption_leaves_the_run_as_it_was(project: Project, scripted: Scripted) -> None:
    before = everything(project.experiment / FAILED)
    scripted.does({FAILED: [{"interrupted": True}]})
    result = project.audit_apart(*AGENTS, "-k", "run_03")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert scripted.asked == [FAILED]
    assert_as_before(project, before, ["run_03_failed_1"])
    assert report_of_repair(project)["interrupted"] is True


# Limits


def test_a_limit_is_waited_for_while_other_work_is_done(project: Project, scripted: Scripted) -> None:
    shutil.rmtree(project.experiment / "T1/01/run_01/judge/judge_02")
    scripted.does({FAILED: [limit(0.5), works()]})
    result = project.audit(*AGENTS, "-k", "run_03 or run_01")
    assert result.ret == 0
    assert scripted.asked == [FAILED, "T1/01/run_01/judge_02", *calls_for(FAILED, LATER_FAILED)]
    first, _, second, *_ = scripted.calls
    assert second.time - first.time >= 0.5
    assert (first.pauses, second.pauses) == (0, 1)
    assert agent_action(project, FAILED)["calls"] == 2
    assert (first.attempt, second.attempt) == (2, 3)
    assert archive(project) == ["run_03", "run_03_failed_1"]


def test_while_it_waits_no_slot_of_the_run_itself_is_judged(project: Project, scripted: Scripted) -> None:
    shutil.rmtree(project.experiment / SOUND / "judge/judge_02")
    scripted.does({SOUND: [limit(0.3), works()]})
    assert project.audit("--repair", "--repair-fresh", f"--scylla-select={SOUND}").ret == 0
    assert scripted.asked == [SOUND, *calls_for(SOUND)]


def test_a_limit_that_takes_longer_leaves_all_runs_as_they_were(project: Project, scripted: Scripted) -> None:
    before = everything(project.experiment / FAILED)
    scripted.does({FAILED: [limit(3600)]})
    result = project.audit(*AGENTS, "--repair-max-wait=1", "-k", "run_03")
    assert result.ret == 1
    assert scripted.asked == [FAILED]
    assert_as_before(project, before, ["run_03_failed_1"])
    assert report_of_repair(project)["exit_bits"] & (2 | 8) == 2
    assert experiment_of_repair(project)["repairs"]["failed"] == 0
    items = items_of_repair(project)
    assert [items[run]["outcome"] for run in (FAILED, LATER_FAILED)] == ["not-run"] * 2
    action = agent_action(project, FAILED)
    assert (action["outcome"], action["calls"]) == ("refused", 1)
    assert action["reason"].startswith("not-run: usage limit reached; until ")
    assert agent_action(project, LATER_FAILED)["calls"] == 0
    assert archive(project, LATER_FAILED) == []
    scripted.forget()
    scripted.does()
    for pause in (project.experiment / ".scylla/pauses").iterdir():
        pause.unlink()
    assert project.audit(*AGENTS, "-k", "run_03").ret == 0
    assert scripted.asked == calls_for(FAILED, LATER_FAILED)


def test_of_an_agent_that_a_limit_stopped_before_it_did_anything_nothing_is_left(
    project: Project, with_git: Scripted
) -> None:
    before, base = everything(project.experiment / FAILED), project.experiment / "repo"
    known = branches(base), registrations(base)
    with_git.does({FAILED: [{**limit(3600), "idle": True}]})
    project.audit(*AGENTS, "--repair-max-wait=1", f"--scylla-select={FAILED}")
    assert with_git.asked == [FAILED]
    assert_as_before(project, before, [])
    assert (branches(base), registrations(base)) == known


def test_an_interruption_while_it_waits_leaves_the_run_as_it_was(project: Project, scripted: Scripted) -> None:
    before = everything(project.experiment / FAILED)
    scripted.does({FAILED: [{**limit(60), "interrupted_later": True}]})
    assert project.audit_apart(*AGENTS, "-k", "run_03").ret == pytest.ExitCode.INTERRUPTED
    assert scripted.asked == [FAILED]
    assert_as_before(project, before, ["run_03_failed_1"])


# Attempts


@pytest.mark.parametrize(
    "step",
    [
        fails("AgentTimeout", "no answer in time: it was stopped after 600 s"),
        fails("AgentPermanent", "the prompt is too long", scope="slot"),
    ],
)
def test_a_failure_of_the_agents_own_is_an_attempt_with_files_and_a_reason(
    step: Step, project: Project, scripted: Scripted
) -> None:
    before = tree(project.experiment / FAILED)
    scripted.does({FAILED: [step]})
    result = project.audit(*AGENTS, f"--scylla-select={FAILED}")
    assert result.ret == 1
    assert scripted.asked == [FAILED]
    action = agent_action(project, FAILED)
    assert (action["outcome"], action["reason"], action["calls"]) == ("failed", step["reason"], 1)
    assert step["reason"] in printed(result)
    assert items_of_repair(project)[FAILED]["status"] == "failed"
    assert (project.experiment / FAILED / "agent/stderr.log").read_text() == f"{step['reason']}\n"
    assert (project.experiment / FAILED / "agent/command_log.json").exists()
    assert tree(project.experiment / "T0/00/.failed/run_03") == before
    assert recorded(project, FAILED) is None
    second = tree(project.experiment / FAILED)
    scripted.does()
    assert project.audit(*AGENTS, f"--scylla-select={FAILED}").ret == 0
    assert scripted.asked == [FAILED, *calls_for(FAILED)]
    assert archive(project) == ["run_03", "run_03_failed_1"]
    assert tree(project.experiment / "T0/00/.failed/run_03_failed_1") == second


# Plans and money


def test_a_plan_counts_agents_and_judges_by_model_with_their_costs_and_is_what_is_then_done(
    project: Project, scripted: Scripted
) -> None:
    before = snapshot(project.experiment)
    result = project.audit(*PLANNED)
    assert scripted.asked == []
    assert snapshot(project.experiment) == before
    lines = [line.strip() for line in result.outlines]
    agents, judges = lines.index("would run agents: 4 runs"), lines.index("would ask judges: 8 calls")
    assert lines[agents + 1].startswith("4 agent-medium-1: about ")
    assert " USD" in lines[agents + 1]
    assert [line.split(":")[0] for line in lines[judges + 1 : judges + 3]] == ["4 judge-a", "4 judge-b"]
    planned = acted_on(project)
    aggregates = {action["what"] for action in planned.pop(AGGREGATES)}
    assert {item_id: [action["what"] for action in actions] for item_id, actions in planned.items()} == {
        **{run: ["agent run"] for run in TO_RUN},
        **{slot: ["judge call"] for run in TO_RUN for slot in slots(run)},
    }
    assert {action["outcome"] for actions in planned.values() for action in actions} == {"planned"}
    project.audit(*AGENTS)
    assert scripted.asked == calls_for(*TO_RUN)
    done = acted_on(project)
    assert {action["what"] for action in done.pop(AGGREGATES)} == aggregates
    assert set(done) - {CHECKPOINT} == set(planned)  # each run is recorded as it ends


def test_a_plan_refuses_what_the_repair_then_refuses(project: Project, scripted: Scripted) -> None:
    lose_output(project)
    project.audit(*PLANNED, "-k", "run_01")
    planned = agent_action(project, SOUND)
    project.audit(*AGENTS, "-k", "run_01")
    assert scripted.asked == []
    assert agent_action(project, SOUND) == planned
    assert planned["outcome"] == "refused"


def test_what_earlier_runs_cost_is_what_the_next_is_estimated_at(project: Project, scripted: Scripted) -> None:
    scripted.does(otherwise=[works(0.5)])
    project.audit(*AGENTS, "--scylla-select=T0/*")
    assert scripted.asked == calls_for(ABSENT, FAILED)
    project.audit(*PLANNED)
    (action,) = acted_on(project)[LATER_ABSENT]
    records = [project.experiment / run / "agent/result.json" for run in (SOUND, "T1/01/run_01")]
    known = [json.loads(record.read_text())["cost_usd"] for record in records]
    assert action["cost_usd"] == pytest.approx(sum([*known, 0.5, 0.5, 0.5, 0.5]) / 6)


def test_agents_and_judges_share_what_the_session_may_call(project: Project, scripted: Scripted) -> None:
    before = everything(project.experiment / FAILED)
    result = project.audit(*AGENTS, "--repair-max-calls=3")
    assert result.ret == 1
    assert scripted.asked == calls_for(ABSENT)
    assert agent_action(project, FAILED)["reason"] == "not-run: calls: at most 3 calls: 3 made or under way"
    assert report_of_repair(project)["exit_bits"] & 2
    assert_as_before(project, before, [])
    items = items_of_repair(project)
    assert [items[run]["outcome"] for run in TO_RUN] == ["repaired", *["not-run"] * 3]


def test_agents_and_judges_share_the_budget(project: Project, scripted: Scripted) -> None:
    scripted.does(otherwise=[works(0.5)])
    result = project.audit(*AGENTS, "--repair-budget=0.6")
    assert result.ret == 1
    assert scripted.asked == calls_for(ABSENT)
    assert agent_action(project, FAILED)["reason"].startswith("not-run: budget: budget of 0.60 USD: 0.52 spent")
    assert report_of_repair(project)["exit_bits"] & 2


def test_more_than_fifty_calls_are_only_planned_until_somebody_says_how_many(empty_project: Project) -> None:
    plan = small(tiers={"T0": ("00",)}, runs_per_subtest=18, judge_models=("judge-a", "judge-b"), side_files=False)
    write_experiment(empty_project.experiment, plan, missing=lambda run: run.endswith("run_01"))
    scripted = Scripted(empty_project)
    write_experiment(empty_project.experiment, plan, missing=lambda run: not run.endswith("run_01"))
    for number in range(2, 19):
        shutil.rmtree(empty_project.experiment / f"T0/00/run_{number:02d}")
    before = tree(empty_project.experiment)
    result = empty_project.audit(*AGENTS)
    assert result.ret == 1
    assert scripted.asked == []
    assert tree(empty_project.experiment) == before
    reason = (
        "not-run: 51 judge calls and agent runs are planned, more than 50; "
        "allow them with --repair-max-calls=N or --repair-budget=USD"
    )
    action = agent_action(empty_project, "T0/00/run_02")
    assert (action["outcome"], action["reason"], action["calls"]) == ("planned", reason, 1)
    assert report_of_repair(empty_project)["exit_bits"] & 2
    assert "would run agents: 17 runs" in result.outlines
    assert empty_project.audit(*AGENTS, "--repair-max-calls=3").ret == 1
    assert scripted.asked == calls_for("T0/00/run_02")


# What a workspace lacks


def lose_repository(setting: Setting) -> str:
    shutil.rmtree(setting.base)
    return "Make a branch T0_00_"


def lose_task(setting: Setting) -> str:
    lose_repository(setting)
    task = setting.root.parent / "gone"
    edit_config(setting.root, task_repo=str(task))
    places = f"{setting.base} nor {central_place(setting.root, task)}"
    return f"neither {places} is a git repository: task_repo cannot be cloned: git clone: "


def lose_siblings(setting: Setting) -> str:
    for run in (SOUND, FAILED):
        git(setting.base, "branch", "-m", run.replace("/", "_"), f"somebodys-{run[-2:]}")
    return "tells which configuration the agent starts from"


def change_commit(setting: Setting) -> str:
    edit_config(setting.root, task_commit="1" * 40)
    return f"lacks the commit {'1' * 40}"


@pytest.mark.parametrize("damage", [lose_repository, lose_task, lose_siblings, change_commit])
def test_what_a_workspace_lacks_is_told_before_anything_is_moved(
    damage: Any, setting: Setting, project: Project, with_git: Scripted
) -> None:
    told = damage(setting)
    before = tree(project.experiment)
    result = project.audit(*AGENTS, "--scylla-select=T0/*")
    assert result.ret == 1
    assert with_git.asked == []
    for run in (ABSENT, FAILED):
        action = agent_action(project, run)
        assert (action["outcome"], action["calls"]) == ("refused", 0)
        assert told in action["reason"]
    assert told in printed(result)
    assert tree(project.experiment) == before
    project.audit(*PLANNED, "--scylla-select=T0/*")
    assert agent_action(project, FAILED)["outcome"] == "refused"


def test_a_lost_repository_is_cloned_by_a_repair_which_a_plan_says(
    setting: Setting, project: Project, with_git: Scripted
) -> None:
    shutil.rmtree(setting.base)
    place = central_place(setting.root, setting.task)
    for options in (PLANNED, (REPORT,)):
        project.audit(*options, f"--scylla-select={ABSENT}")
        assert not place.parent.exists()
    project.audit(*PLANNED, f"--scylla-select={ABSENT}")
    assert agent_action(project, ABSENT)["reason"].endswith(
        "is a git repository: restore one of them, or let a repair clone task_repo to the latter, "
        "and then make a branch T0_00_run_02--a0-start there, at the commit to start from"
    )
    project.audit(*AGENTS, f"--scylla-select={ABSENT}")
    assert with_git.asked == []
    assert agent_action(project, ABSENT)["reason"].startswith(f"no branch in {place} tells ")
    git(place, "branch", "T0_00_run_02--a0-start", setting.task_commit)
    assert project.audit(*AGENTS, f"--scylla-select={ABSENT}").ret == 0
    assert with_git.asked == calls_for(ABSENT)


# The files


def test_a_check_of_the_ini_file_is_told_to_the_judges(project: Project, with_git: Scripted) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_check_command = sh -c 'ls; exit 4'\n")
    assert project.audit(*AGENTS, f"--scylla-select={ABSENT}").ret == 0
    assert with_git.asked == calls_for(ABSENT)
    prompt = (project.experiment / ABSENT / "judge_prompt.md").read_text()
    assert "## Check Results\n\n```\nexit code 4\nCLAUDE.md\nREADME\nsrc\ntally.py\n```\n" in prompt


def test_in_the_later_layout_it_works_as_well(empty_project: Project) -> None:
    one = {"T0": ("00",)}
    plan = small(tiers=one, runs_per_subtest=3, judge_models=("judge-a",), layout="staged", side_files=False)
    setting = write_unfinished(empty_project.experiment, plan)
    scripted = Scripted(empty_project, own_workspaces=False)
    assert setting.root == empty_project.experiment
    before = everything(setting.root / "completed" / SOUND)
    result = empty_project.audit(*AGENTS)
    assert result.ret == 0, printed(result)
    assert scripted.asked == [item for run in (ABSENT, FAILED) for item in (run, f"{run}/judge_01")]
    assert sorted(os.listdir(setting.root / "completed/T0/00")) == [
        ".failed",
        "config_manifest.json",
        "report.json",
        "run_01",
        "run_02",
        "run_03",
    ]
    assert not (setting.root / "T0").exists()
    assert everything(setting.root / "completed" / SOUND) == before
    assert os.listdir(setting.root / "completed/T0/00/.failed") == ["run_03"]
