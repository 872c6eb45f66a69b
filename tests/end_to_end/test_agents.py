"""Experiments are completed by one command: agents run again, judges judge, and what had passed is not touched.

Agents and judges are stand-ins for ``claude`` on the PATH, the repositories are real. Sessions are killed with all that
they started, at whatever they do, and the next one finishes the job.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import Plan, run_ids, small
from tests.plugin.support import without_durations
from tests.unit.repairing import Tree, healthy, tree
from tests.unit.repositories import Setting, State, branches, everything, needs_git, registrations

from .agents import AGENT_REPLY, SECRET, StandIns, copied, end_state, kill_all, run_session, started, write_unfinished
from .killer import Killer, in_two_threads, killer

pytestmark = [needs_git, pytest.mark.skipif(sys.platform != "linux", reason="who descends from whom is in /proc")]

SESSIONS = "tests.end_to_end.agents"
"""The program by which sessions are killed."""

LARGE = small(
    tiers={"T0": ("00", "01"), "T1": ("01", "02"), "T2": ("01", "02")},
    runs_per_subtest=3,
    judge_models=("judge-a", "judge-b"),
    side_files=False,
)
MEDIUM = small(tiers={"T0": ("00",), "T1": ("01",)}, runs_per_subtest=3, judge_models=("judge-a",), side_files=False)
SMALL = small(tiers={"T0": ("00",)}, runs_per_subtest=2, judge_models=("judge-a",), side_files=False)
RUN = "T0/00/run_02"
"""The run of the small experiment whose agent is to run again."""

JUDGE_OUTPUT = f"{RUN}/judge/judge_01/stdout.log"
"""What a session that is killed behind the answer's own file leaves to be rebuilt from that."""

TELLS_THAT_IT_BEGINS = """\
import os
from pathlib import Path


def pytest_collection_finish(session):
    Path(f"begun-{os.getpid()}").touch()
"""


@dataclass(frozen=True)
class Before:
    """What was in an experiment that no repair may change: sound runs, failed ones, and what git knows."""

    sound: dict[str, dict[str, State]]
    failed: dict[str, Tree]
    base: dict[str, State]
    branches: dict[str, str]
    registrations: dict[str, str]

    @classmethod
    def of(cls, root: Path, plan: Plan) -> Before:
        runs = list(run_ids(plan))
        failed = f"run_{plan.runs_per_subtest:02d}"
        return cls(
            {run: everything(root / run) for run in runs if run.endswith("run_01")},
            {run: tree(root / run) for run in runs if run.endswith(failed)},
            without_additions(root / "repo"),
            branches(root / "repo"),
            registrations(root / "repo"),
        )

    def assert_kept(self, root: Path) -> None:
        """Check that sound runs and other branches are as they were."""
        assert without_additions(root / "repo") == self.base
        now, registered = branches(root / "repo"), registrations(root / "repo")
        assert now == {**now, **self.branches}
        assert registered[str(root / "repo")] == self.registrations[str(root / "repo")]
        for run, files in self.sound.items():
            assert everything(root / run) == files, run
            workspace = str(root / run / "workspace")
            assert registered[workspace] == self.registrations[workspace]

    def assert_archived(self, root: Path) -> None:
        """Check that failed runs are in the archive as they were, and that git knows."""
        registered = registrations(root / "repo")
        for run, files in self.failed.items():
            archived = root / run.replace("run_", ".failed/run_")
            assert tree(archived) == files
            told = registered[str(archived / "workspace")].splitlines()
            assert f"branch refs/heads/{run.replace('/', '_')}" in told
            assert any(line.startswith("locked") for line in told)


def without_additions(base: Path) -> dict[str, State]:
    """All of a base repository but for what workspaces add to: objects, branches, and what is known of each."""
    added = tuple(f"{base}/.git/{place}" for place in ("objects", "refs/heads", "logs/refs/heads", "worktrees"))
    return {name: state for name, state in everything(base).items() if not name.startswith(added)}


@dataclass(frozen=True)
class Project:
    """A project with the experiment ``exp``, of a plan, and what stands in for its agents and judges."""

    plan: Plan
    place: Path
    stand_ins: StandIns
    before: Before

    @classmethod
    def at(cls, place: Path, plan: Plan, template: Setting) -> Project:
        """A project in the directory ``place``, which is to be made, with a copy of an experiment."""
        place.mkdir()
        root = copied(template, place).root
        return cls(plan, place, StandIns(place), Before.of(root, plan))

    @property
    def root(self) -> Path:
        return self.place / "exp"

    @property
    def to_run(self) -> list[str]:
        """The runs whose agents are to run."""
        return [run for run in run_ids(self.plan) if not run.endswith("run_01")]

    def run(self, *options: str) -> str:
        """Complete the experiment by the one command, which is to succeed; return what it printed."""
        done = run_session(self.place, self.stand_ins, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def assert_complete(self) -> None:
        """Check that nothing is missing, and nothing lost."""
        assert healthy(self.root)
        self.before.assert_kept(self.root)
        self.before.assert_archived(self.root)
        kept = self.root / ".scylla"
        assert list(kept.glob("running/*")) == []
        assert list(kept.glob("staging/*")) == []
        registered = registrations(self.root / "repo")
        for run in self.to_run:
            assert f"branch refs/heads/{run.replace('/', '_')}--a" in registered[str(self.root / run / "workspace")]
            assert (self.root / run / "workspace" / "tally.py").read_text() == 'print("counted")\n'


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """3 tiers of 2 subtests of 3 runs, with 2 judges: of each subtest one is sound, one absent, and one failed."""
    return write_unfinished(tmp_path_factory.mktemp("large") / "exp", LARGE)


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Two subtests of three runs, with one judge."""
    return write_unfinished(tmp_path_factory.mktemp("medium") / "exp", MEDIUM)


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """One subtest of two runs with one judge: one is sound, one failed."""
    return write_unfinished(tmp_path_factory.mktemp("lone") / "exp", SMALL)


@pytest.fixture(scope="module")
def completed(large: Setting, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The large experiment after the one command, and what that printed."""
    project = Project.at(tmp_path_factory.mktemp("completed") / "project", LARGE, large)
    return project, project.run("-n", "0", "--scylla-report=report.json")


def called_for(place: Path) -> dict[str, list[str]]:
    """Who was called, or would be, for each item, by the report of a session."""
    (experiment,) = json.loads((place / "report.json").read_text())["experiments"]
    called = {
        item["id"]: [action["what"] for action in item["actions"] if action["calls"]] for item in experiment["items"]
    }
    return {item_id: whom for item_id, whom in called.items() if whom}


# Completing


def test_one_command_runs_every_agent_that_is_lacking_once_and_every_judge_of_it_once(
    completed: tuple[Project, str],
) -> None:
    project, printed = completed
    assert project.stand_ins.ran(project.root) == project.to_run
    assert len(project.to_run) == 12
    judges = Counter(call.model for call in project.stand_ins.calls if call.kind == "judge")
    assert judges == {"judge-a": 12, "judge-b": 12}
    assert "ran agents: 12 runs, 0.24 USD; 12 agents came to an end" in printed
    assert "asked judges: 24 calls, 0.48 USD; 24 slots judged" in printed


def test_the_experiment_is_whole_then_and_what_had_passed_or_failed_is_kept(completed: tuple[Project, str]) -> None:
    project, _ = completed
    project.assert_complete()
    recorded = json.loads((project.root / "checkpoint.json").read_text())["completed_runs"]
    for run in project.to_run:
        tier, subtest, name = run.split("/")
        assert recorded[tier][subtest][str(int(name[4:]))] == "passed"
    (experiment,) = json.loads((project.place / "report.json").read_text())["experiments"]
    assert experiment["completeness"] == 1
    assert {key: experiment["repairs"][key] for key in ("judge_calls", "agent_runs", "failed", "refused")} == {
        "judge_calls": 24,
        "agent_runs": 12,
        "failed": 0,
        "refused": 0,
    }


def test_agents_work_in_fresh_workspaces_that_begin_as_those_of_the_same_subtest_did(
    completed: tuple[Project, str],
) -> None:
    project, _ = completed
    for run in project.to_run:
        workspace = project.root / run / "workspace"
        found = {name for name in tree(workspace) if "/" not in name}
        assert found == {".git", ".gitignore", ".claude", "CLAUDE.md", "README", "src", "tally.py"}
        assert "- added tally.py\n" in (project.root / run / "judge_prompt.md").read_text()
    prompts = [call.prompt for call in project.stand_ins.calls if call.kind == "agent"]
    assert set(prompts) == {(project.root / "prompt.md").read_bytes()}


def test_the_key_by_which_agents_and_judges_are_paid_is_written_nowhere(completed: tuple[Project, str]) -> None:
    project, _ = completed
    assert {call.key for call in project.stand_ins.calls} == {SECRET}
    for name, entry in tree(project.place, but=None).items():
        assert SECRET.encode() not in entry.content or name == "claude/calls", name


def test_what_is_planned_is_what_is_then_done(completed: tuple[Project, str], large: Setting, tmp_path: Path) -> None:
    project = Project.at(tmp_path / "project", LARGE, large)
    done = run_session(project.place, project.stand_ins, "-n0", "--repair-plan", "--scylla-report=report.json")
    assert done.returncode == 1
    assert project.stand_ins.calls == []
    assert "would run agents: 12 runs" in done.stdout
    assert "would ask judges: 24 calls" in done.stdout
    planned, made = called_for(project.place), called_for(completed[0].place)
    assert planned == made
    assert len(made) == 36


def test_the_same_command_again_calls_nobody_and_changes_no_byte(completed: tuple[Project, str]) -> None:
    project, _ = completed
    calls, before = project.stand_ins.calls, everything(project.root)
    project.run("-n", "0")
    assert project.stand_ins.calls == calls
    assert everything(project.root) == before


def test_four_workers_come_to_the_same_end(completed: tuple[Project, str], large: Setting, tmp_path: Path) -> None:
    alone, _ = completed
    project = Project.at(tmp_path / "project", LARGE, large)
    project.run("-n", "4", "--scylla-report=report.json")
    assert sorted(project.stand_ins.ran(project.root)) == project.to_run
    assert project.stand_ins.judged == 24
    project.assert_complete()
    assert end_state(project.root) == end_state(alone.root)
    reports = [json.loads((place / "report.json").read_text()) for place in (project.place, alone.place)]
    assert without_durations(reports[0]) == without_durations(reports[1])


def test_two_sessions_at_once_run_each_agent_once(medium: Setting, tmp_path: Path) -> None:
    project = Project.at(tmp_path / "project", MEDIUM, medium)
    (project.place / "conftest.py").write_text(TELLS_THAT_IT_BEGINS)
    # Both have looked at everything, and are to run all agents, before the first of these does anything.
    both = f'while [ "$(ls {project.place}/begun-* | wc -l)" -lt 2 ]; do sleep 0.02; done'
    project.stand_ins.does("agent", f"{both}\necho 'print(\"counted\")' > tally.py\n")
    with ThreadPoolExecutor(2) as two:
        list(two.map(project.run, ("-n0", "-n0")))
    assert sorted(project.stand_ins.ran(project.root)) == project.to_run
    assert project.stand_ins.judged == len(project.to_run)
    project.assert_complete()


# Killed


@dataclass(frozen=True)
class Whole:
    """The state that a session leaves the small experiment in, how many things it does for that, and its calls' numbers
    among these."""

    end: dict[str, bytes]
    count: int
    calls: list[int]


@pytest.fixture(scope="module")
def whole(lone: Setting, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A session that is not killed."""
    project = Project.at(tmp_path_factory.mktemp("whole") / "project", SMALL, lone)
    with killer(SESSIONS) as process:
        count = int(process.run(project.place))
    assert project.stand_ins.ran(project.root) == [RUN]
    assert project.stand_ins.judged == 1
    project.assert_complete()
    return Whole(end_state(project.root), count, project.stand_ins.numbers)


def kill_and_finish(process: Killer, project: Project, whole: Whole, *at: int) -> list[str]:
    """Kill one session after the other, each at its number; look at what it left, and finish."""
    ends = []
    allowed = 1
    for last in at:
        ended = process.run(project.place, last)
        ends.append(ended)
        where = f"{ended}, {last} of {at}"
        project.before.assert_kept(project.root)
        assert not ended.startswith("exit"), where
        allowed += ended == "killed at agent"  # any other agent has ended, or has not begun
    where = f"{ends}, {at}"
    assert process.run(project.place).isdigit(), f"{where}: {(project.place / 'session.log').read_text()}"
    assert project.stand_ins.ran(project.root) == [RUN] * allowed, where
    end = end_state(project.root)
    assert end == {**whole.end, JUDGE_OUTPUT: end[JUDGE_OUTPUT]}, where
    project.assert_complete()
    return ends


def test_killed_at_anything_it_does_a_session_loses_no_finished_agent_and_the_next_one_comes_to_the_same_end(
    whole: Whole, lone: Setting, tmp_path: Path
) -> None:
    agent, judge = whole.calls
    numbers = sorted({*range(1, 31), agent, *range(agent + 1, whole.count + 1, 11), judge})

    def kill_at(process: Killer, last: int) -> list[str]:
        return kill_and_finish(process, Project.at(tmp_path / str(last), SMALL, lone), whole, last)

    ends = [end for (end,) in in_two_threads(SESSIONS, numbers, kill_at)]
    kinds = ("agent", "judge", "write", "rename", "unlink", "mkdir", "open")
    assert set(ends) >= {f"killed at {kind}" for kind in kinds}


def test_killed_again_and_again_it_still_comes_to_the_same_end(whole: Whole, lone: Setting, tmp_path: Path) -> None:
    agent, _ = whole.calls
    series = [(20, 25, 30), (agent - 9, 22, agent), (agent, agent - 3, agent + 20), (agent + 50, 40, 20)]

    def kill_at(process: Killer, number: int) -> list[str]:
        project = Project.at(tmp_path / str(number), SMALL, lone)
        return kill_and_finish(process, project, whole, *series[number])

    assert [len(ends) for ends in in_two_threads(SESSIONS, range(len(series)), kill_at)] == [3] * len(series)


def test_killed_with_its_workers_it_runs_no_agent_again_that_had_ended_and_at_most_one_a_worker(
    medium: Setting, tmp_path: Path
) -> None:
    project = Project.at(tmp_path / "project", MEDIUM, medium)
    project.stand_ins.does("agent", COUNTS_AND_STOPS)
    ended: set[str] = set()
    calls = 0

    def assert_none_ran_again_that_had_ended() -> int:
        ran = project.stand_ins.ran(project.root)
        assert not ended & set(ran[calls:])
        return len(ran)

    for stop in (2, 4):
        (project.stand_ins.here / "stop").write_text(str(stop))
        reached = project.stand_ins.here / "reached"
        with started(project.place, project.stand_ins, "-n", "2") as process:
            wait_until(reached.exists)
            kill_all(process.pid)
        reached.unlink()
        project.before.assert_kept(project.root)
        calls = assert_none_ran_again_that_had_ended()
        ended |= {run for run in project.to_run if has_ended(project.root, run)}
    (project.stand_ins.here / "stop").write_text("0")
    project.run("-n", "2")
    calls = assert_none_ran_again_that_had_ended()
    assert len(project.to_run) + 2 <= calls <= len(project.to_run) + 2 * 2
    project.assert_complete()


def test_killed_while_its_work_is_checked_a_finished_agent_is_not_run_again_though_its_workspace_was_removed(
    lone: Setting, tmp_path: Path
) -> None:
    project = Project.at(tmp_path / "project", SMALL, lone)
    ini, reached = project.place / "pytest.ini", project.place / "reached"
    ini.write_text(f"[pytest]\nscylla_check_command = sh -c 'touch {reached}; while :; do sleep 1; done'\n")
    with started(project.place, project.stand_ins, "-n", "0") as process:
        wait_until(reached.exists)
        kill_all(process.pid)
    ini.unlink()
    shutil.rmtree(project.root / RUN / "workspace")
    project.run("-n", "0")
    assert project.stand_ins.ran(project.root) == [RUN]
    assert healthy(project.root)
    assert "changed no file" not in (project.root / RUN / "judge_prompt.md").read_text()


def test_killed_while_it_waits_for_a_limit_it_leaves_everything_as_it_was(lone: Setting, tmp_path: Path) -> None:
    project = Project.at(tmp_path / "project", SMALL, lone)
    before, known = everything(project.root / RUN), registrations(project.root / "repo")
    recorded = (project.root / "checkpoint.json").read_bytes()
    limit: dict[str, Any] = {**AGENT_REPLY, "is_error": True, "api_error_status": 429}
    limit |= {"result": "You've hit your session limit", "usage": {"input_tokens": 0, "output_tokens": 0}}
    project.stand_ins.does("agent", "")
    project.stand_ins.prints("agent", limit)
    with started(project.place, project.stand_ins, "-n", "0", "--repair-max-wait=100000") as process:
        wait_until(lambda: list(project.root.glob(".scylla/pauses/*")) != [])
        wait_until(lambda: registrations(project.root / "repo") == known)
        kill_all(process.pid)
    assert everything(project.root / RUN) == before
    assert list(project.root.glob("T0/00/.failed/*")) == []
    assert (project.root / "checkpoint.json").read_bytes() == recorded


COUNTS_AND_STOPS = """\
echo >> "$here/begun"
if [ "$(wc -l < "$here/begun")" -eq "$(cat "$here/stop")" ]; then
    touch "$here/reached"
    while :; do sleep 1; done
fi
echo 'print("counted")' > tally.py
"""


def has_ended(root: Path, run: str) -> bool:
    """Whether the agent of a run came to its end, as far as anybody had time to write that down."""
    notes = root / ".scylla/running" / run.replace("/", "-") / "notes"
    return (notes.exists() and b"exited" in notes.read_bytes()) or (root / run / "agent/result.json").exists()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
