"""The execution of a run's agent: what it is given, what is written then, and what stays where it did not come to that.

The agents are functions. Where it is not about git, workspaces are plain directories.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from benchmarks.synthetic import SECRET, config_hash
from pytest_scylla.auditing.evidence import DEFAULT_POLICY
from pytest_scylla.auditing.run import examine
from pytest_scylla.calling.calls import TRANSIENT_CALLS, Waiting
from pytest_scylla.calling.ledger import Allowance, Ledger
from pytest_scylla.calling.pauses import pauses, set_pause
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.locks import Held
from pytest_scylla.experiment.records import Folder
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.transaction import repair_run, run_locked
from pytest_scylla.running import repository
from pytest_scylla.running.contract import (
    AgentLimit,
    AgentPermanent,
    AgentReply,
    AgentRequest,
    AgentTimeout,
    AgentTransient,
    CannotPrepare,
    Workspace,
    WorkspaceRequest,
)
from pytest_scylla.running.execution import AGENT_RUN, Executed, RunExecution, tidy_up
from pytest_scylla.running.git import GitFailed
from pytest_scylla.running.terms import AgentTerms
from pytest_scylla.running.workspace import make_workspace

from .repairing import journal, run_named, tree
from .repositories import (
    Setting,
    branches,
    central_place,
    commit,
    everything,
    git,
    needs_git,
    registrations,
    with_repository,
    write,
)

RUN = "T0/00/run_01"
FIRST = "T0/00/.failed/run_01"
RESULT: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "num_turns": 3,
    "result": "I wrote tally.py.",
    "total_cost_usd": 0.25,
    "usage": {
        "input_tokens": 7,
        "output_tokens": 8,
        "cache_creation_input_tokens": 9,
        "cache_read_input_tokens": 10,
    },
}
PRINTED = json.dumps(RESULT).encode() + b"\n"
TEXT = b"I did it, says the agent.\n"


# Agents and workspaces

Step = Callable[[AgentRequest], AgentReply]


def works(request: AgentRequest) -> AgentReply:
    """Write a file and tell of it."""
    (request.workspace / "tally.py").write_text("print(412)\n")
    return AgentReply(PRINTED, b"a warning\n", 0, ("claude", "-p", f"--model={request.model}"), 0.25, RESULT["usage"])


def says(stdout: bytes, **rest: Any) -> Step:
    """Print this."""
    return lambda request: AgentReply(stdout, **rest)


def fails(error: BaseException, touching: bool = False) -> Step:
    """Raise this, perhaps after something was written in the workspace."""

    def fail(request: AgentRequest) -> AgentReply:
        if touching:
            (request.workspace / "half.py").write_text("half of it")
        raise error

    return fail


def meets_a_limit(seconds: float) -> Step:
    """Raise a limit that ends so many seconds from then on."""

    def stop(request: AgentRequest) -> AgentReply:
        raise AgentLimit("usage limit reached", datetime.now(timezone.utc) + timedelta(seconds=seconds))

    return stop


@dataclass
class Agent:
    """An agent that does one step a call, the last again and again, and keeps what it was asked and found."""

    steps: list[Step]
    recovers: AgentReply | Exception | None = None
    requests: list[AgentRequest] = field(default_factory=list)
    found: list[tuple[set[str], set[str]]] = field(default_factory=list)
    recovered: list[AgentRequest] = field(default_factory=list)
    command: str = "scripted"

    def __call__(self, request: AgentRequest, /) -> AgentReply:
        self.requests.append(request)
        self.found.append((set(os.listdir(request.workspace)), set(os.listdir(request.outputs))))
        step = self.steps[min(len(self.requests), len(self.steps)) - 1]
        (request.outputs / "stdout").write_text("printed")
        return step(request)

    def recover(self, request: AgentRequest, /) -> AgentReply | None:
        self.recovered.append(request)
        if isinstance(self.recovers, Exception):
            raise self.recovers
        return self.recovers


def make_directory(request: WorkspaceRequest) -> Workspace:
    """A workspace that is a directory with a file in it."""
    place = request.run_directory / "workspace"
    place.mkdir(parents=True)
    (place / "README").write_text("Count words.\n")
    return Workspace(place, f"branch-{request.attempt}", "0" * 40)


def cannot_make(request: WorkspaceRequest) -> Workspace:
    raise CannotPrepare("there is no room")


@dataclass
class Bench:
    """An experiment and the terms on which its agents run."""

    root: Path
    max_calls: int | None = None

    def __post_init__(self) -> None:
        self.terms = AgentTerms("agent-run", Ledger(self.root, "session", Allowance(None, self.max_calls)), 30.0, 0.0)

    def prepared(
        self, agent: Any, make: Any = make_directory, run: str = RUN, *, named: bool = False, anew: bool = False
    ) -> RunExecution:
        """The execution of a run."""
        self.terms.take(agent, make)
        experiment = pytest_scylla.load(self.root)
        return RunExecution(
            experiment,
            run_named(experiment, run),
            DEFAULT_POLICY,
            self.terms,
            regenerate,
            lambda item: True,
            named=named,
            anew=anew,
            own_workspaces=make is not make_workspace,
        )

    def execute(self, agent: Any, make: Any = make_directory, run: str = RUN, **how: Any) -> Executed:
        """Run an agent, as far as that goes without waiting."""
        done = self.prepared(agent, make, run, **how).proceed()
        assert isinstance(done, Executed)
        return done

    def status(self, run: str = RUN) -> str:
        experiment = pytest_scylla.load(self.root)
        return examine(experiment, run_named(experiment, run), DEFAULT_POLICY)[1].status

    def text(self, file: str) -> str:
        return (self.root / RUN / file).read_text()

    def json(self, file: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text(file))
        return found

    def configure(self, **changes: Any) -> None:
        place, checkpoint = self.root / "config/experiment.json", self.root / "checkpoint.json"
        config = {**json.loads(place.read_text()), **changes}
        place.write_text(json.dumps(config))
        checkpoint.write_text(json.dumps({**self.checkpoint, "config_hash": config_hash(config)}))

    @property
    def checkpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "checkpoint.json").read_text())
        return found

    @property
    def recorded(self) -> str | None:
        """What the checkpoint says of the run."""
        found: str | None = self.checkpoint["completed_runs"]["T0"]["00"].get("1")
        return found

    @property
    def archived(self) -> list[str]:
        place = self.root / "T0/00/.failed"
        return sorted(os.listdir(place)) if place.is_dir() else []

    @property
    def calls(self) -> list[tuple[str, int]]:
        """The outcome and the attempt of every agent's run that the journal tells of."""
        told = journal(self.root)
        return [(entry["outcome"], entry["attempt"]) for entry in told if entry["what"] == "agent-run"]


@pytest.fixture
def bench(experiment_dir: Path) -> Bench:
    """The healthy experiment, of which one run is lost."""
    made = Bench(experiment_dir)
    lose(made)
    return made


def lose(bench: Bench) -> None:
    shutil.rmtree(bench.root / RUN)
    record(bench, None)


def record(bench: Bench, state: str | None) -> None:
    data = bench.checkpoint
    runs = data["completed_runs"]["T0"]["00"]
    if state is None:
        runs.pop("1", None)
    else:
        runs["1"] = state
    (bench.root / "checkpoint.json").write_text(json.dumps(data, indent=2))


def fail(bench: Bench) -> None:
    """Let the run be one whose agent was killed."""
    old = {"agent/stderr.log": "killed\n", "agent/output.txt": "", "workspace/old.py": "# old\n", "notes.txt": "n"}
    write(bench.root / RUN, old)


# What the agent is given


def test_it_is_given_all_that_an_execution_is_about(bench: Bench) -> None:
    bench.configure(timeout_seconds=77, max_turns=12)
    agent = Agent([works])
    bench.execute(agent)
    (request,) = agent.requests
    prompt = (bench.root / "prompt.md").read_bytes()
    assert request == AgentRequest(
        run_id=RUN,
        model="agent-medium-1",
        prompt=prompt,
        prompt_file=bench.root / RUN / "agent/prompt.md",
        workspace=bench.root / RUN / "workspace",
        timeout=77.0,
        max_turns=12,
        attempt=1,
        outputs=bench.root / ".scylla/running/T0-00-run_01",
    )
    assert request.prompt_file.read_bytes() == prompt
    assert agent.found == [({"README"}, {"execution.json"})]


def test_without_limits_in_the_configuration_it_has_the_users_time_and_as_many_turns_as_it_takes(bench: Bench) -> None:
    bench.configure(timeout_seconds=None, max_turns=None)
    agent = Agent([works])
    bench.execute(agent)
    assert (agent.requests[0].timeout, agent.requests[0].max_turns) == (30.0, None)


@pytest.mark.parametrize(
    ("mode", "keyword"),
    [
        ("Low", b"think\n\n"),
        ("High", b"think hard\n\n"),
        ("UltraThink", b"ultrathink\n\n"),
        ("None", b""),
        (None, b""),
    ],
)
def test_the_thinking_mode_is_a_keyword_before_the_task(mode: str | None, keyword: bytes, bench: Bench) -> None:
    bench.configure(thinking_mode=mode)
    agent = Agent([works])
    bench.execute(agent)
    task = (bench.root / "prompt.md").read_bytes()
    assert agent.requests[0].prompt == keyword + task
    assert (bench.root / RUN / "agent/prompt.md").read_bytes() == keyword + task
    assert (bench.root / RUN / "task_prompt.md").read_bytes() == task


# What is written


def test_all_files_of_an_execution_are_written_and_the_run_waits_for_its_judges(bench: Bench) -> None:
    done = bench.execute(Agent([works]))
    assert (done.audit.status, bench.status()) == ("results", "results")
    assert {slot.status for slot in done.audit.slots} == {"missing"}
    assert sorted(name for name, entry in tree(bench.root / RUN).items() if entry.content) == [
        "agent/MODEL.md",
        "agent/cmd_0000_stderr.log",
        "agent/cmd_0000_stdout.log",
        "agent/command_log.json",
        "agent/output.txt",
        "agent/prompt.md",
        "agent/replay.sh",
        "agent/result.json",
        "agent/stderr.log",
        "agent/stdout.log",
        "agent/timing.json",
        "judge_prompt.md",
        "task_prompt.md",
        "workspace/README",
        "workspace/tally.py",
    ]
    assert [bench.text(f"agent/{name}") for name in ("output.txt", "stdout.log", "stderr.log")] == [
        PRINTED.decode(),
        PRINTED.decode(),
        "a warning\n",
    ]
    assert "**Model**: agent-medium-1\n" in bench.text("agent/MODEL.md")
    assert not list((bench.root / ".scylla/running").iterdir())


def test_what_does_not_follow_from_the_output_is_written_before_any_copy_of_it(bench: Bench) -> None:
    bench.execute(Agent([works]))
    files = [entry["file"] for entry in journal(bench.root) if entry["what"] == "agents"]
    names = [file.removeprefix(f"{RUN}/") for file in files]
    assert names[-4:] == ["agent/result.json", "agent/cmd_0000_stdout.log", "agent/stdout.log", "agent/output.txt"]


def test_the_first_action_tells_of_the_execution(bench: Bench) -> None:
    done = bench.execute(Agent([works]))
    action, *_ = done.actions
    assert (action.level, action.what, action.outcome, action.reason) == ("agents", AGENT_RUN, "done", None)
    assert (action.calls, action.cost_usd, action.solved) == (1, 0.25, ("run-missing",))
    assert action.files[-1] == f"{RUN}/agent/output.txt"
    assert bench.calls == [("answered", 1)]


def test_the_records_tell_tokens_cost_and_turns_as_the_reply_does(bench: Bench) -> None:
    bench.execute(Agent([works]))
    assert bench.json("agent/result.json") == {
        "exit_code": 0,
        "stdout": PRINTED.decode(),
        "stderr": "a warning\n",
        "token_stats": {
            "input_tokens": 7,
            "output_tokens": 8,
            "cache_creation_tokens": 9,
            "cache_read_tokens": 10,
        },
        "cost_usd": 0.25,
        "api_calls": 3,
    }


def test_of_an_agent_that_prints_text_its_caller_may_tell_the_tokens(bench: Bench) -> None:
    step = says(TEXT, usage={"input_tokens": 1, "output_tokens": 2}, cost_usd=0.5, seconds=4.25, exit_code=3)
    done = bench.execute(Agent([step]))
    assert done.audit.status == "results"
    result = bench.json("agent/result.json")
    assert (result["stdout"], result["exit_code"], result["cost_usd"], result["api_calls"]) == (
        TEXT.decode(),
        3,
        0.5,
        None,
    )
    assert result["token_stats"] == {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_creation_tokens": 0,
        "cache_read_tokens": 0,
    }
    assert bench.json("agent/timing.json")["agent_duration_seconds"] == 4.25


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": "7", "output_tokens": 8}, {"input_tokens": -1, "output_tokens": 8}, {"a": {}}]
)
def test_tokens_that_nobody_tells_are_not_invented(usage: dict[str, Any] | None, bench: Bench) -> None:
    done = bench.execute(Agent([says(TEXT, usage=usage)]))
    assert not (bench.root / RUN / "agent/result.json").exists()
    assert done.audit.status == "results"
    assert "agent-result-missing" in {found.code for found in done.audit.findings}


def test_how_long_it_took_is_measured_where_it_does_not_tell(bench: Bench) -> None:
    bench.execute(Agent([works]))
    (command,) = bench.json("agent/command_log.json")["commands"]
    assert 0 <= command["duration_seconds"] < 30
    assert bench.json("agent/timing.json")["agent_duration_seconds"] == command["duration_seconds"]


def judges_itself(request: AgentRequest) -> AgentReply:
    """Work, and write records of the run that are not the agent's to write."""
    run = request.workspace.parent
    judgment = {"score": 1.0, "passed": True, "grade": "S", "reasoning": "perfect", "is_valid": True}
    write(
        run,
        {
            "judge/judge_01/judgment.json": json.dumps(judgment),
            "run_result.json": "{}",
            "agent/result.json": "{}",
            "agent/notes.txt": "mine",
        },
    )
    (run / "judge_prompt.md").symlink_to("/etc/hostname")
    return AgentReply(TEXT)


def test_an_agent_has_no_say_in_what_is_recorded_of_it(bench: Bench) -> None:
    done = bench.execute(Agent([judges_itself]))
    assert {slot.status for slot in done.audit.slots} == {"missing"}
    found = {name for name in tree(bench.root / RUN) if not name.startswith("workspace")}
    assert not found & {"judge", "run_result.json", "agent/result.json", "agent/notes.txt"}
    assert not (bench.root / RUN / "judge_prompt.md").is_symlink()
    kept = sorted(path.name.rpartition(".")[0] for path in (bench.root / ".scylla/quarantine").iterdir())
    names = ("agent-notes.txt", "agent-result.json", "judge", "judge_prompt.md", "run_result.json")
    assert kept == [f"T0-00-run_01-{name}" for name in names]


def test_not_even_by_what_it_puts_in_the_place_of_directories(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def replaces(request: AgentRequest) -> AgentReply:
        for place in (request.workspace, request.workspace.parent / "agent"):
            shutil.rmtree(place)
            place.symlink_to(outside)
        return AgentReply(PRINTED)

    bench.terms.check = ("touch", "checked")
    done = bench.execute(Agent([replaces]))
    assert (done.actions[0].outcome, done.audit.status) == ("done", "results")
    assert os.listdir(outside) == []
    assert "not run: the workspace is no directory" in bench.text("judge_prompt.md")
    assert (bench.root / RUN / "agent/prompt.md").read_bytes() == (bench.root / "prompt.md").read_bytes()


# Secrets and scripts


def test_no_secret_of_the_environment_is_written_anywhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-ant-a-key-of-somebody"
    for name in ("ANTHROPIC_API_KEY", "PYTEST_SECRET", "SCYLLA_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, secret)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://me:{secret}@proxy")
        monkeypatch.setenv(name.upper(), f"http://me:{secret}@proxy")
    bench.terms.check = ("sh", "-c", "env; echo checked")
    bench.execute(Agent([works]))
    (command,) = bench.json("agent/command_log.json")["commands"]
    assert command["env_vars"].keys() <= {"PATH", "HOME", "USER", "SHELL", "LANG"}
    assert command["env_vars"]["PATH"] == os.environ["PATH"]
    assert "checked" in bench.text("judge_prompt.md")
    for name, entry in tree(bench.root, but=None).items():
        assert secret.encode() not in entry.content, name


def test_a_script_by_which_a_person_may_do_it_again_is_quoted_for_the_shell(bench: Bench, tmp_path: Path) -> None:
    words = ("claude", "--model=a b", "it's; touch executed", "$(touch executed)", "`touch executed`", "*", "é\n")
    bench.execute(Agent([says(PRINTED, command=words)]))
    script = bench.root / RUN / "agent/replay.sh"
    assert not list(bench.root.rglob("executed"))
    stand_in = tmp_path / "bin/claude"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\npwd\ncat > /dev/null\nprintf '<%s>' \"$@\"\n")
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script)],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    place, _, given = done.stdout.decode().partition("\n")
    assert place == str(bench.root / RUN / "workspace")
    assert given == "".join(f"<{word}>" for word in words[1:])


def test_nothing_of_an_experiment_is_executed(bench: Bench) -> None:
    fail(bench)
    script = bench.root / RUN / "agent/replay.sh"
    script.write_text("#!/bin/sh\ntouch executed\n")
    script.chmod(0o755)
    bench.execute(Agent([works]))
    assert not list(bench.root.rglob("executed"))


def test_of_an_agent_that_is_no_command_the_script_says_so(bench: Bench) -> None:
    bench.execute(Agent([says(PRINTED)]))
    assert bench.text("agent/replay.sh").splitlines()[-1] == "# it was no command line"


# What its judges are told


@needs_git
def test_the_judges_prompt_holds_rubric_task_output_and_changes(experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    setting = with_repository(bench.root)
    lose(bench)
    setting.set_up("T0/00/run_02")

    def change(request: AgentRequest) -> AgentReply:
        (request.workspace / "src/words.txt").write_text("the\nslow\nfox\n")
        (request.workspace / "README").unlink()
        return works(request)

    bench.execute(Agent([change]), make_workspace)
    prompt = bench.text("judge_prompt.md")
    parts = [
        (bench.root / "rubric.yaml").read_text().strip(),
        (bench.root / "prompt.md").read_text().strip(),
        PRINTED.decode().strip(),
        "- added tally.py\n- deleted README\n- modified src/words.txt\n",
        "-quick\n+slow\n",
    ]
    places = [prompt.index(part) for part in parts]
    assert places == sorted(places)
    assert "Check Results" not in prompt


def test_where_the_changes_cannot_be_found_out_the_judges_are_told_so(bench: Bench) -> None:
    bench.execute(Agent([works]))  # in a directory that is no repository's
    assert "- not known: there is no repository" in bench.text("judge_prompt.md")


def test_what_a_check_says_is_told_only_where_there_is_one(bench: Bench) -> None:
    bench.terms.check = ("sh", "-c", "cat tally.py; echo it fails >&2; exit 3")
    bench.execute(Agent([works]))
    assert "## Check Results\n\n```\nexit code 3\nprint(412)\nit fails\n```\n" in bench.text("judge_prompt.md")


def test_a_check_that_cannot_be_started_is_told_as_that(bench: Bench) -> None:
    bench.terms.check = ("/nowhere/check",)
    done = bench.execute(Agent([works]))
    assert done.actions[0].outcome == "done"
    assert "not-started /nowhere/check: No such file or directory" in bench.text("judge_prompt.md")


def test_of_a_long_check_the_end_is_told(bench: Bench) -> None:
    bench.terms.check = (sys.executable, "-c", "print('begin'); print('x' * 30_000); print('end')")
    bench.execute(Agent([works]))
    prompt = bench.text("judge_prompt.md")
    assert "begin" not in prompt
    assert "xx\nend\n" in prompt
    assert len(prompt) < 26_000


# The checkpoint


def test_the_checkpoint_holds_that_the_agent_is_done(bench: Bench) -> None:
    bench.execute(Agent([works]))
    assert bench.recorded == "agent_complete"


def test_of_an_agent_that_did_not_work_it_holds_nothing(bench: Bench) -> None:
    record(bench, "failed")
    bench.execute(Agent([fails(AgentTimeout("too slow"))]))
    assert bench.recorded is None


def test_what_cannot_be_recorded_does_not_undo_what_was_done(bench: Bench) -> None:
    data = {**bench.checkpoint, "version": "9.9"}
    (bench.root / "checkpoint.json").write_text(json.dumps(data))
    done = bench.execute(Agent([works]))
    assert done.actions[0].outcome == "done"
    assert bench.status() == "results"
    assert bench.checkpoint == data


# The archive


def test_what_failed_before_is_archived_and_the_next_attempt_counts_it(bench: Bench) -> None:
    fail(bench)
    before = tree(bench.root / RUN)
    agent = Agent([fails(AgentTimeout("too slow")), works])
    bench.execute(agent)
    second = tree(bench.root / RUN)
    bench.execute(agent)
    assert [request.attempt for request in agent.requests] == [2, 3]
    assert bench.calls == [("timeout", 2), ("answered", 3)]
    assert bench.archived == ["run_01", "run_01_failed_1"]
    assert tree(bench.root / FIRST) == before
    assert tree(bench.root / f"{FIRST}_failed_1") == second
    assert agent.found == [({"README"}, {"execution.json"})] * 2
    assert bench.status() == "results"


def test_a_run_that_was_never_there_leaves_nothing_in_the_archive(bench: Bench) -> None:
    bench.execute(Agent([works]))
    assert bench.archived == []


@pytest.mark.parametrize("stage", ["in_progress", "completed"])
@pytest.mark.parametrize("failed", [True, False])
def test_in_the_later_layout_a_run_stays_where_it_is_or_goes_beside_the_others(
    stage: str, failed: bool, bench: Bench
) -> None:
    if failed:
        fail(bench)
    for other in ("in_progress", "completed"):
        (bench.root / other).mkdir()
    for tier in ("T0", "T1"):
        (bench.root / tier).rename(bench.root / stage / tier)
    agent = Agent([works])
    done = bench.execute(agent)
    assert done.audit.status == "results"
    assert agent.requests[0].workspace == bench.root / stage / RUN / "workspace"
    assert (bench.root / stage / RUN / "agent/output.txt").exists()
    assert (bench.root / stage / FIRST).exists() is failed
    assert not (bench.root / "T0").exists()


# No attempt

PLACE: dict[str, tuple[Exception, int]] = {
    "transient": (AgentTransient("503"), TRANSIENT_CALLS),
    "model": (AgentPermanent("no such model", "model"), 1),
    "all": (AgentPermanent("not logged in", "all"), 1),
}


def assert_given_back(bench: Bench, before: Mapping[str, Any], left: list[str]) -> None:
    """What was there before is there, to the inode; what the attempt left is in the archive, and nothing is open.

    A workspace that the plugin did not make is always left: whether it is one of many is not for the plugin to say.
    """
    assert everything(bench.root / RUN) == before
    assert bench.archived == left
    assert list((bench.root / ".scylla").glob("running/*")) == []
    assert list((bench.root / ".scylla").glob("staging/*")) == []


@pytest.mark.parametrize("reason", PLACE)
@pytest.mark.parametrize("touching", [False, True])
def test_a_failure_that_lies_elsewhere_leaves_the_failed_run_as_it_was(
    reason: str, touching: bool, bench: Bench
) -> None:
    fail(bench)
    record(bench, "failed")
    before, recorded = everything(bench.root / RUN), bench.checkpoint
    error, calls = PLACE[reason]
    agent = Agent([fails(error, touching)])
    done = bench.execute(agent)
    assert len(agent.requests) == calls
    assert [call for call, _ in bench.calls] == ["transient" if reason == "transient" else "permanent"] * calls
    assert (done.actions[0].outcome, done.actions[0].reason, done.actions[0].calls) == ("failed", str(error), calls)
    assert done.audit.status == "failed"
    attempts = calls if touching else 1
    assert_given_back(bench, before, ["run_01", *(f"run_01_failed_{n}" for n in range(1, attempts + 1))][1:])
    assert bench.checkpoint == recorded


def test_of_a_run_that_was_absent_nothing_is_there_again(bench: Bench) -> None:
    bench.execute(Agent([fails(AgentPermanent("not logged in", "all"))]))
    assert not (bench.root / RUN).exists()
    assert bench.archived == ["run_01"]
    assert sorted(os.listdir(bench.root / FIRST)) == ["agent", "workspace"]
    assert bench.status() == "missing"


def test_after_a_failure_that_may_pass_the_agent_begins_where_nothing_was_done(bench: Bench) -> None:
    fail(bench)
    agent = Agent([fails(AgentTransient("503"), touching=True), fails(AgentTransient("503")), works])
    done = bench.execute(agent)
    assert done.actions[0].outcome == "done"
    assert done.actions[0].calls == 3
    assert agent.found == [({"README"}, {"execution.json"})] * 3
    assert [request.attempt for request in agent.requests] == [2, 3, 3]
    assert bench.archived == ["run_01", "run_01_failed_1"]
    assert (bench.root / f"{FIRST}_failed_1/workspace/half.py").exists()
    assert (bench.root / FIRST / "notes.txt").exists()


def test_whom_it_is_no_use_to_call_is_not_called_again_and_nothing_is_moved_for_it(bench: Bench) -> None:
    agent = Agent([fails(AgentPermanent("not logged in", "all"))])
    bench.execute(agent)
    shutil.rmtree(bench.root / "T0/00/.failed")
    done = bench.execute(agent)
    assert (done.actions[0].outcome, done.actions[0].reason) == ("refused", "not logged in")
    assert len(agent.requests) == 1
    assert bench.archived == []


def test_where_there_can_be_no_workspace_nobody_is_called_and_what_was_there_is_there_again(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    agent = Agent([works])
    done = bench.execute(agent, cannot_make)
    assert (done.actions[0].outcome, done.actions[0].reason) == ("failed", "there is no room")
    assert (done.actions[0].calls, done.actions[0].cost_usd) == (0, 0)
    assert agent.requests == []
    assert_given_back(bench, before, [])


def test_that_some_workspaces_cannot_be_made_does_not_stop_other_runs(bench: Bench) -> None:
    for _ in range(4):
        bench.execute(Agent([works]), cannot_make)
    assert bench.execute(Agent([works])).actions[0].outcome == "done"


@pytest.mark.parametrize("error", [RuntimeError("a bug in my agent"), KeyboardInterrupt()])
def test_whatever_else_an_agent_raises_goes_on_when_everything_is_as_it_was(error: BaseException, bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    with pytest.raises(type(error)):
        bench.execute(Agent([fails(error, touching=True)]))
    assert_given_back(bench, before, ["run_01_failed_1"])
    assert [call for call, _ in bench.calls] == ["interrupted"]


def test_a_bug_in_the_making_of_workspaces_does_as_well(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)

    def broken(request: WorkspaceRequest) -> Workspace:
        request.run_directory.mkdir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.execute(Agent([works]), broken)
    assert_given_back(bench, before, [])


def test_without_the_task_nobody_is_called(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    (bench.root / "prompt.md").write_text(" \n")
    done = bench.execute(Agent([works]))
    told = "prompt.md: expected a prompt, found none (evidence-gone)"
    assert (done.actions[0].outcome, done.actions[0].reason) == ("refused", told)
    assert_given_back(bench, before, [])


# Limits and money


def test_a_limit_is_waited_for_and_then_the_agent_runs(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    agent = Agent([meets_a_limit(0.2), works])
    execution = bench.prepared(agent)
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
    waiting = execution.proceed()
    assert isinstance(waiting, Waiting)
    assert_given_back(bench, before, ["run_01_failed_1"])  # while it waits: it may be killed then
    assert abs((waiting.until - soon).total_seconds()) < 1.5
    assert [(pause.command, pause.model) for pause in pauses(bench.root, datetime.now(timezone.utc))] in (
        [("scripted", "agent-medium-1")],
        [],
    )
    done = execution.proceed()
    while isinstance(done, Waiting):
        done = execution.proceed()
    assert done.actions[0].outcome == "done"
    assert len(agent.requests) == 2
    assert bench.archived == ["run_01", "run_01_failed_1"]


def test_a_limit_that_takes_too_long_leaves_the_run_as_it_was(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    execution = bench.prepared(Agent([fails(AgentLimit("usage limit reached"), touching=True)]))
    assert isinstance(execution.proceed(), Waiting)
    done = execution.give_up("usage limit reached")
    action = done.actions[0]
    assert (done.not_run, action.outcome, action.calls) == (True, "refused", 1)
    assert action.reason == "not-run: usage limit reached"
    assert_given_back(bench, before, ["run_01_failed_1"])


def test_what_another_session_did_while_it_waited_is_left_as_it_is(bench: Bench) -> None:
    fail(bench)
    agent = Agent([meets_a_limit(0.2), works])
    execution = bench.prepared(agent)
    assert isinstance(execution.proceed(), Waiting)
    assert Bench(bench.root).execute(Agent([works], command="another")).actions[0].outcome == "done"
    before = tree(bench.root / RUN)
    done = execution.proceed()
    assert isinstance(done, Executed)
    assert done.actions == ()
    assert len(agent.requests) == 1
    assert tree(bench.root / RUN) == before
    assert bench.archived == ["run_01", "run_01_failed_1"]


def test_whoever_gives_up_does_not_undo_what_another_session_did(bench: Bench) -> None:
    fail(bench)
    execution = bench.prepared(Agent([fails(AgentLimit("usage limit reached"))]))
    assert isinstance(execution.proceed(), Waiting)
    assert Bench(bench.root).execute(Agent([works], command="another")).actions[0].outcome == "done"
    before = tree(bench.root / RUN)
    done = execution.give_up("usage limit reached")
    assert (done.not_run, done.audit.status) == (True, "results")
    assert tree(bench.root / RUN) == before


def test_while_a_limit_is_known_to_hold_nothing_is_moved(bench: Bench) -> None:
    fail(bench)
    before = tree(bench.root)
    with Keeping(bench.root) as keeping:
        set_pause(keeping, "scripted", "agent-medium-1", datetime.now(timezone.utc) + timedelta(hours=1), "limit")
    agent = Agent([works])
    assert isinstance(bench.prepared(agent).proceed(), Waiting)
    assert agent.requests == []
    assert tree(bench.root) == before


def test_what_the_allowance_does_not_cover_is_not_run_and_nothing_is_moved(bench: Bench) -> None:
    fail(bench)
    before = tree(bench.root)
    limited = Bench(bench.root, 0)
    agent = Agent([works])
    done = limited.execute(agent)
    assert done.not_run
    assert (done.actions[0].outcome, done.actions[0].reason) == (
        "refused",
        "not-run: calls: at most 0 calls: 0 made or under way",
    )
    assert agent.requests == []
    assert tree(bench.root) == before


def test_where_the_allowance_covers_no_second_try_the_run_is_as_it_was(bench: Bench) -> None:
    fail(bench)
    before = everything(bench.root / RUN)
    agent = Agent([fails(AgentTransient("503"))])
    done = Bench(bench.root, 2).execute(agent)
    assert (done.not_run, done.actions[0].outcome) == (True, "refused")
    assert len(agent.requests) == 2
    assert_given_back(bench, before, ["run_01_failed_1"])


# Attempts that failed


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AgentTimeout("no answer within 600 s", stderr=b"on stderr\n", cost_usd=0.5), "timeout"),
        (AgentPermanent("the prompt is too long", "slot", stderr=b"on stderr\n", cost_usd=0.5), "permanent"),
    ],
)
def test_an_agent_that_did_not_come_to_its_end_for_a_reason_of_its_own_made_an_attempt(
    error: Exception, outcome: str, bench: Bench
) -> None:
    fail(bench)
    bench.terms.check = ("touch", "checked")
    agent = Agent([fails(error, touching=True)])
    done = bench.execute(agent)
    assert len(agent.requests) == 1
    assert bench.calls == [(outcome, 2)]
    action = done.actions[0]
    assert (action.outcome, action.reason, action.cost_usd) == ("failed", str(error), 0.5)
    assert action.solved == ()
    assert done.audit.status == bench.status() == "failed"
    assert bench.text("agent/stderr.log") == f"on stderr\n{error}\n"
    assert bench.json("agent/command_log.json")["commands"][0]["exit_code"] == -1
    assert (bench.root / RUN / "workspace/half.py").exists()
    assert not (bench.root / RUN / "workspace/checked").exists()
    assert bench.archived == ["run_01"]


@pytest.mark.parametrize("partial", [TEXT, b'{"type": "item.started"}\n{"type', PRINTED[:40]])
def test_what_it_printed_until_then_is_kept_and_is_not_its_output(partial: bytes, bench: Bench) -> None:
    done = bench.execute(Agent([fails(AgentTimeout("too slow", stdout=partial))]))
    assert done.audit.status == "failed"
    assert (bench.root / RUN / "agent/unfinished.log").read_bytes() == partial
    assert bench.text("agent/output.txt") == ""


def test_a_whole_reply_that_it_printed_is_its_output(bench: Bench) -> None:
    done = bench.execute(Agent([fails(AgentTimeout("it did not exit", stdout=PRINTED))]))
    assert (done.audit.status, done.actions[0].outcome) == ("results", "done")
    assert done.actions[0].reason == "it did not exit"
    assert bench.json("agent/result.json")["exit_code"] == -1
    assert not (bench.root / RUN / "agent/unfinished.log").exists()


def test_an_error_of_the_service_that_it_tells_as_its_result_is_a_failed_run(bench: Bench) -> None:
    usage = dict.fromkeys(RESULT["usage"], 0)
    reply = {**RESULT, "is_error": True, "api_error_status": 413, "result": "Prompt is too long", "usage": usage}
    error = AgentPermanent("claude: the prompt is too long", "slot", stdout=json.dumps(reply).encode())
    done = bench.execute(Agent([fails(error)]))
    assert (done.audit.status, done.actions[0].outcome) == ("failed", "failed")
    assert done.actions[0].reason == "claude: the prompt is too long"
    assert json.loads(bench.text("agent/output.txt")) == reply


def test_a_reply_without_output_is_no_good_end_either(bench: Bench) -> None:
    done = bench.execute(Agent([says(b"")]))
    assert done.actions[0].outcome == "failed"
    assert done.actions[0].reason is not None
    assert done.actions[0].reason.startswith("it ended as agent-output-missing: ")


# Refusals


def refused(done: Executed) -> str:
    assert done.actions[0].outcome == "refused"
    assert done.actions[0].calls == 0
    return done.actions[0].reason or ""


def test_a_run_with_sound_judgments_runs_only_where_a_person_named_it(experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    for name in ("output.txt", "stdout.log", "cmd_0000_stdout.log", "result.json"):
        (bench.root / RUN / "agent" / name).unlink()
    assert bench.status() == "partial"
    before, agent = tree(bench.root), Agent([works])
    assert refused(bench.execute(agent)) == (
        f"it has sound judgments, which another execution voids: name it, --scylla-select={RUN}"
    )
    assert tree(bench.root) == before
    assert agent.requests == []
    assert bench.execute(agent, named=True).actions[0].outcome == "done"
    assert bench.archived == ["run_01"]


def test_a_run_that_the_checkpoint_calls_passed_and_whose_workspace_is_there_is_not_set_up_again(bench: Bench) -> None:
    fail(bench)
    record(bench, "passed")
    before, agent = tree(bench.root), Agent([works])
    assert refused(bench.execute(agent)) == (
        f"the checkpoint calls it passed, and its workspace is there: name it, --scylla-select={RUN}"
    )
    assert tree(bench.root) == before
    assert agent.requests == []
    shutil.rmtree(bench.root / RUN / "workspace")
    assert bench.execute(agent).actions[0].outcome == "done"


def test_what_is_archived_counts_as_passed_no_more_and_as_before_when_it_comes_back(bench: Bench) -> None:
    fail(bench)
    record(bench, "passed")
    recorded: list[str | None] = []

    def look(request: AgentRequest) -> AgentReply:
        recorded.append(bench.recorded)
        raise AgentPermanent("not logged in", "all")

    bench.execute(Agent([look]), named=True)
    assert recorded == [None]
    assert bench.recorded == "passed"


def test_while_a_limit_holds_it_counts_as_before_as_well(bench: Bench) -> None:
    fail(bench)
    record(bench, "passed")
    execution = bench.prepared(Agent([fails(AgentLimit("usage limit reached"))]), named=True)
    assert isinstance(execution.proceed(), Waiting)
    assert bench.recorded == "passed"


def test_a_run_that_lies_in_two_places_is_not_run(bench: Bench) -> None:
    fail(bench)
    shutil.copytree(bench.root / RUN, bench.root / "completed" / RUN)
    agent = Agent([works])
    done = bench.execute(agent, named=True, anew=True)
    assert refused(done) == f"it is also at completed/{RUN}: remove one of them"
    assert agent.requests == []


@needs_git
@pytest.mark.parametrize("lack", ["repository", "sibling", "commit"])
def test_what_a_workspace_lacks_is_told_before_anything_is_moved(lack: str, experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    setting = with_repository(bench.root)
    lose(bench)
    fail(bench)
    if lack != "sibling":
        setting.set_up("T0/00/run_02")
    if lack == "repository":
        shutil.rmtree(setting.base)
    if lack == "commit":
        bench.configure(task_commit="1" * 40)
    before, agent = tree(bench.root), Agent([works])
    told = refused(bench.execute(agent, make_workspace))
    assert {
        "repository": "Make a branch T0_00_run_01--a0-start at the commit to start from",
        "sibling": "no branch in",
        "commit": f"lacks the commit {'1' * 40}",
    }[lack] in told
    assert tree(bench.root) == before
    assert agent.requests == []


@needs_git
def test_a_lost_repository_is_cloned_only_where_the_agent_is_to_run(experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    setting = with_repository(bench.root)
    lose(bench)
    shutil.rmtree(setting.base)
    experiment, execution = pytest_scylla.load(bench.root), bench.prepared(Agent([works]), make_workspace)
    case, audit = examine(experiment, run_named(experiment, RUN), DEFAULT_POLICY)
    before = everything(bench.root.parent)
    assert "or let a repair clone task_repo to the latter" in execution.objection(case, audit)
    assert everything(bench.root.parent) == before
    execution.proceed()
    place = central_place(bench.root, setting.task)
    assert place.is_dir()
    git(place, "branch", "T0_00_run_02--a0-start", setting.task_commit)
    assert bench.execute(Agent([works]), make_workspace).actions[0].outcome == "done"


@needs_git
def test_what_cannot_be_cloned_is_told_of_every_run_and_tried_once(
    experiment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(experiment_dir)
    setting = with_repository(bench.root)
    runs = [RUN, "T1/01/run_01"]
    for run in runs:
        shutil.rmtree(bench.root / run)
    shutil.rmtree(setting.base)
    tried: list[str] = []

    def unreachable(source: str, target: Path) -> None:
        tried.append(source)
        raise GitFailed("git clone: fatal: unable to access it")

    monkeypatch.setattr(repository, "clone", unreachable)
    before = tree(bench.root)
    told = [refused(bench.execute(Agent([works]), make_workspace, run)) for run in runs]
    assert (
        told
        == [
            f"neither {setting.base} nor {central_place(bench.root, setting.task)} is a git repository: "
            "task_repo cannot be cloned: git clone: fatal: unable to access it"
        ]
        * 2
    )
    assert tried == [str(setting.task)]
    assert tree(bench.root) == before


# Runs that need no agent


@pytest.mark.parametrize("damage", ["run_result.json", "judge/judge_01/judgment.json", "judge"])
def test_an_agent_that_came_to_its_end_does_not_run_again(damage: str, experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    place = bench.root / RUN / damage
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    before, agent = tree(bench.root), Agent([works])
    done = bench.execute(agent, named=True)
    assert done.actions == ()
    assert agent.requests == []
    assert tree(bench.root) == before


def test_a_passed_run_is_run_anew_where_that_is_asked_for_and_what_was_there_is_archived(experiment_dir: Path) -> None:
    bench = Bench(experiment_dir)
    before, agent = tree(bench.root / RUN), Agent([works])
    done = bench.execute(agent, named=True, anew=True)
    assert done.actions[0].outcome == "done"
    assert done.audit.status == "results"
    assert {slot.status for slot in done.audit.slots} == {"missing"}
    assert tree(bench.root / FIRST) == before
    assert SECRET.encode() in (bench.root / FIRST / "agent/command_log.json").read_bytes()
    assert bench.recorded == "agent_complete"


def test_a_run_that_another_session_ran_anew_meanwhile_is_not_run_once_more(experiment_dir: Path) -> None:
    bench, other = Bench(experiment_dir), Bench(experiment_dir)
    for agent, ours in ((Agent([works]), other), (Agent([works]), bench)):
        done = ours.execute(agent, named=True, anew=True)
        assert len(agent.requests) == (ours is other)
    assert done.actions == ()
    assert done.audit.status == "results"


def test_who_has_the_run_is_waited_for_or_not(bench: Bench) -> None:
    experiment = pytest_scylla.load(bench.root)
    agent = Agent([works])
    with run_locked(experiment, run_named(experiment, RUN)), pytest.raises(Held):
        bench.prepared(agent).proceed(wait=False)
    assert agent.requests == []


# Agents that came to their end when nobody was left


class Killed(BaseException):
    """The end of the process, as far as that can be had without one."""


def kill_in(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: Step = works, make: Any = make_directory) -> None:
    """Run an agent to its end in a session that is killed before anything is written."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunExecution, "_store", killed)
        with pytest.raises(Killed):
            bench.execute(Agent([step]), make)


def test_its_reply_is_stored_and_nobody_is_called(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.configure(max_turns=9)
    fail(bench)
    kill_in(bench, monkeypatch)
    assert bench.status() == "partial"
    agent = Agent([works], recovers=AgentReply(PRINTED, seconds=3.5, exit_code=2, command=("claude",)))
    done = bench.execute(agent)
    assert agent.requests == []
    (asked,) = agent.recovered
    assert (asked.attempt, asked.max_turns, asked.prompt) == (2, 9, (bench.root / "prompt.md").read_bytes())
    assert (done.actions[0].outcome, done.actions[0].calls) == ("done", 0)
    assert bench.status() == "results"
    assert bench.json("agent/timing.json")["agent_duration_seconds"] == 3.5
    assert (bench.root / RUN / "workspace/tally.py").exists()
    assert bench.archived == ["run_01"]
    assert list((bench.root / ".scylla/running").iterdir()) == []
    assert bench.recorded == "agent_complete"


def test_its_timeout_is_stored_as_well(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_in(bench, monkeypatch)
    agent = Agent([works], recovers=AgentTimeout("no answer within 600 s", stdout=TEXT))
    done = bench.execute(agent)
    assert agent.requests == []
    assert (done.actions[0].outcome, done.actions[0].reason) == ("failed", "no answer within 600 s")
    assert bench.status() == "failed"
    assert (bench.root / RUN / "agent/unfinished.log").read_bytes() == TEXT
    assert list((bench.root / ".scylla/running").iterdir()) == []


@pytest.mark.parametrize("recovers", [None, AgentLimit("limit"), AgentTransient("503"), AgentPermanent("none", "all")])
def test_one_that_did_not_come_to_an_end_runs_again(
    recovers: Exception | None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in(bench, monkeypatch)
    agent = Agent([works], recovers=recovers)
    done = bench.execute(agent)
    assert done.actions[0].outcome == "done"
    assert [request.attempt for request in agent.requests] == [2]
    assert len(agent.recovered) == 1
    assert bench.archived == ["run_01"]
    (aside,) = (bench.root / ".scylla/quarantine").glob("*running*")
    assert (aside / "stdout").read_text() == "printed"


def change_prompt(bench: Bench) -> None:
    (bench.root / RUN / "agent/prompt.md").write_text("another task")


def lose_workspace(bench: Bench) -> None:
    shutil.rmtree(bench.root / RUN / "workspace")


def link_workspace(bench: Bench) -> None:
    (bench.root / RUN / "workspace").rename(bench.root / "elsewhere")
    (bench.root / RUN / "workspace").symlink_to(bench.root / "elsewhere")


def link_prompt(bench: Bench) -> None:
    (bench.root / RUN / "agent/prompt.md").unlink()
    (bench.root / RUN / "agent/prompt.md").symlink_to(bench.root / "prompt.md")


def pipe_in_the_place_of_the_prompt(bench: Bench) -> None:
    (bench.root / RUN / "agent/prompt.md").unlink()
    os.mkfifo(bench.root / RUN / "agent/prompt.md")


def another_model(bench: Bench) -> None:
    bench.configure(models=["agent-large-1"])


@pytest.mark.parametrize(
    "change",
    [change_prompt, link_prompt, pipe_in_the_place_of_the_prompt, another_model],
)
def test_what_does_not_belong_to_the_run_any_more_is_not_stored(
    change: Callable[[Bench], None], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in(bench, monkeypatch)
    change(bench)
    agent = Agent([works], recovers=AgentReply(PRINTED))
    bench.execute(agent)
    assert agent.recovered == []
    assert len(agent.requests) == 1


@pytest.mark.parametrize("change", [lose_workspace, link_workspace])
def test_a_workspace_that_is_gone_since_costs_no_agents_run_and_what_was_changed_in_it_is_not_known(
    change: Callable[[Bench], None], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in(bench, monkeypatch)
    change(bench)
    agent = Agent([works], recovers=AgentReply(PRINTED))
    done = bench.execute(agent)
    assert agent.requests == []
    assert (done.actions[0].outcome, done.audit.status) == ("done", "results")
    assert "- not known: " in bench.text("judge_prompt.md")
    assert "changed no file" not in bench.text("judge_prompt.md")


def test_an_agent_that_cannot_tell_runs_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_in(bench, monkeypatch)
    ran: list[AgentRequest] = []

    def agent(request: AgentRequest) -> AgentReply:
        ran.append(request)
        return works(request)

    assert bench.execute(agent).actions[0].outcome == "done"
    assert len(ran) == 1


@pytest.mark.parametrize("printed", [PRINTED, TEXT, b"caf\xe9\n"])
@pytest.mark.parametrize("last", ["cmd_0000_stdout.log", "stdout.log", "output.txt"])
def test_killed_between_two_copies_of_the_output_what_it_printed_is_in_all_of_them_in_the_end(
    last: str, printed: bytes, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first copy on, the others follow from that, to the byte."""
    put_in_place = Keeping.put_in_place

    def killed(keeping: Keeping, file: str, folder: Folder) -> None:
        if file == f"{RUN}/agent/{last}":
            raise Killed
        put_in_place(keeping, file, folder)

    reply = AgentReply(printed, usage=RESULT["usage"])
    agent = Agent([lambda request: reply], recovers=reply)
    with monkeypatch.context() as patch:
        patch.setattr(Keeping, "put_in_place", killed)
        with pytest.raises(Killed):
            bench.execute(agent)
    bench.execute(agent)
    experiment = pytest_scylla.load(bench.root)
    repair_run(experiment, run_named(experiment, RUN), DEFAULT_POLICY, regenerate)
    copies = ("cmd_0000_stdout.log", "stdout.log", "output.txt")
    assert {(bench.root / RUN / "agent" / name).read_bytes() for name in copies} == {printed}
    assert len(agent.requests) == 1


def test_where_the_task_is_lost_meanwhile_what_it_printed_is_kept_until_it_is_there_again(bench: Bench) -> None:
    prompt = (bench.root / "prompt.md").read_bytes()

    def lose_task(request: AgentRequest) -> AgentReply:
        (bench.root / "prompt.md").unlink()
        return works(request)

    agent = Agent([lose_task], recovers=AgentReply(PRINTED))
    done = bench.execute(agent)
    assert done.actions[0].outcome == "failed"
    assert re.match(r"prompt\.md: .*; what the agent printed is kept", done.actions[0].reason or "")
    (bench.root / "prompt.md").write_bytes(prompt)
    assert bench.execute(agent).actions[0].outcome == "done"
    assert len(agent.requests) == 1
    assert bench.status() == "results"


def test_what_a_killed_session_left_of_an_execution_that_is_stored_is_removed(bench: Bench) -> None:
    bench.execute(Agent([works]))
    left = bench.root / ".scylla/running/T0-00-run_01"
    left.mkdir()
    (left / "stdout").write_text("printed")
    experiment = pytest_scylla.load(bench.root)
    run = run_named(experiment, RUN)
    with run_locked(experiment, run):
        tidy_up(experiment, run, DEFAULT_POLICY)
    assert left.exists()  # somebody is at work on it
    tidy_up(experiment, run, DEFAULT_POLICY)
    assert not left.exists()


def test_of_one_that_is_not_it_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_in(bench, monkeypatch)
    experiment = pytest_scylla.load(bench.root)
    tidy_up(experiment, run_named(experiment, RUN), DEFAULT_POLICY)
    assert (bench.root / ".scylla/running/T0-00-run_01/execution.json").exists()


# With git


@pytest.fixture
def setting(experiment_dir: Path) -> Setting:
    """A failed run and a sound one, with workspaces in a real repository."""
    bench = Bench(experiment_dir)
    made = with_repository(bench.root)
    lose(bench)
    write(bench.root / RUN, {"agent/stderr.log": "killed\n"})
    made.set_up(RUN)
    made.set_up("T0/00/run_02")
    return made


@needs_git
def test_the_failed_workspace_goes_with_its_run_and_the_fresh_one_begins_as_that_did(setting: Setting) -> None:
    known, registered = branches(setting.base), registrations(setting.base)
    agent = Agent([works])
    bench = Bench(setting.root)
    assert bench.execute(agent, make_workspace).actions[0].outcome == "done"
    now, place = registrations(setting.base), str(setting.workspace(RUN))
    archived = now.pop(str(setting.root / FIRST / "workspace")).splitlines()
    assert archived[:2] == registered[place].splitlines()
    assert archived[2].startswith("locked")
    fresh = now.pop(place).splitlines()
    assert fresh[0] == f"HEAD {setting.start(RUN)}"
    assert re.fullmatch(r"branch refs/heads/T0_00_run_01--a2-[0-9a-f]{8}", fresh[1])
    del registered[place]
    assert now == registered
    assert {name: tip for name, tip in branches(setting.base).items() if name in known} == known
    assert agent.found[0][0] == {".git", ".gitignore", ".claude", "CLAUDE.md", "README", "src"}


@needs_git
@pytest.mark.parametrize("error", [AgentPermanent("no command", "all", made=False), AgentTransient("503")])
def test_of_an_attempt_whose_agent_did_nothing_nothing_is_left(setting: Setting, error: Exception) -> None:
    bench = Bench(setting.root)
    before, base = everything(setting.root / RUN), everything(setting.base)
    known, registered = branches(setting.base), registrations(setting.base)
    agent = Agent([fails(error)])
    bench.execute(agent, make_workspace)
    assert_given_back(bench, before, [])
    assert (branches(setting.base), registrations(setting.base)) == (known, registered)
    assert everything(setting.base).keys() == base.keys()
    bench.execute(agent, make_workspace)
    assert {request.attempt for request in agent.requests} == {2}


@needs_git
def test_of_a_run_that_was_absent_nothing_is_left_either(setting: Setting) -> None:
    shutil.rmtree(setting.root / RUN)
    bench = Bench(setting.root)
    bench.execute(Agent([fails(AgentPermanent("not logged in", "all"))]), make_workspace)
    assert not (setting.root / RUN).exists()
    assert bench.archived == []


@needs_git
def test_a_limit_is_waited_for_with_everything_as_it_was(setting: Setting) -> None:
    bench = Bench(setting.root)
    before, known, registered = everything(setting.root / RUN), branches(setting.base), registrations(setting.base)
    agent = Agent([meets_a_limit(0.2), works])
    execution = bench.prepared(agent, make_workspace)
    done = execution.proceed()
    assert isinstance(done, Waiting)
    assert_given_back(bench, before, [])
    assert (branches(setting.base), registrations(setting.base)) == (known, registered)
    while isinstance(done, Waiting):
        done = execution.proceed()
    assert (done.actions[0].outcome, done.actions[0].calls) == ("done", 2)
    assert [request.attempt for request in agent.requests] == [2, 2]
    assert bench.archived == ["run_01"]


def write_what_git_ignores(request: AgentRequest) -> None:
    write(request.workspace, {"build/half.o": ""})


def write_beside_the_workspace(request: AgentRequest) -> None:
    write(request.workspace.parent, {"notes.txt": "half of it"})


def commit_nothing(request: AgentRequest) -> None:
    git(request.workspace, "commit", "--quiet", "--allow-empty", "--message=half of it")


@needs_git
@pytest.mark.parametrize("work", [write_what_git_ignores, write_beside_the_workspace, commit_nothing])
def test_whatever_else_its_agent_did_is_in_the_archive(setting: Setting, work: Callable[[AgentRequest], None]) -> None:
    def stopped(request: AgentRequest) -> AgentReply:
        work(request)
        raise AgentPermanent("not logged in", "all")

    bench = Bench(setting.root)
    before, known = everything(setting.root / RUN), branches(setting.base)
    bench.execute(Agent([stopped]), make_workspace)
    assert_given_back(bench, before, ["run_01_failed_1"])
    assert (setting.root / f"{FIRST}_failed_1/workspace/README").exists()
    (added,) = branches(setting.base).keys() - known.keys()
    told = registrations(setting.base)
    assert f"branch refs/heads/{added}\nlocked" in told[str(setting.root / f"{FIRST}_failed_1/workspace")]
    assert "locked" not in told[str(setting.workspace(RUN))]


def commits(request: AgentRequest) -> AgentReply:
    write(request.workspace, {"tally.py": "print(412)\n"})
    commit(request.workspace, "Work")
    return AgentReply(PRINTED)


@needs_git
def test_what_an_agent_committed_is_there_again_where_its_workspace_was_removed_since(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(setting.root)
    kill_in(bench, monkeypatch, commits, make_workspace)
    shutil.rmtree(setting.workspace(RUN))
    agent = Agent([works], recovers=AgentReply(PRINTED))
    assert bench.execute(agent, make_workspace).actions[0].outcome == "done"
    assert agent.requests == []
    assert (setting.workspace(RUN) / "tally.py").read_text() == "print(412)\n"
    prompt = bench.text("judge_prompt.md")
    assert "- added tally.py\n- not known: what the agent had not committed" in prompt
    assert "+print(412)" in prompt


@needs_git
def test_what_it_did_not_commit_is_not_known_then(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(setting.root)
    kill_in(bench, monkeypatch, works, make_workspace)
    shutil.rmtree(setting.workspace(RUN))
    agent = Agent([works], recovers=AgentReply(PRINTED))
    assert bench.execute(agent, make_workspace).actions[0].outcome == "done"
    assert agent.requests == []
    assert not setting.workspace(RUN).exists()
    assert f"- not known: {RUN}/workspace: absent" in bench.text("judge_prompt.md")
