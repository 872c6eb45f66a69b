"""Judge reruns beside others: workers that die, a second session, other hosts' workers, and pytest's own options."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..unit.repairing import journal, staged, tree
from .judges import INTERRUPTED, KILLED, MODELS, ScriptedJudge, breaks, judges, limit, permanent, says, timeout
from .support import (
    NO_OTHERS,
    SLOTS,
    Project,
    acted_on,
    collected,
    damaged_for_free,
    experiment_of_repair,
    items_of_repair,
    judgment_of,
    lose_slot,
    node_id,
    node_ids,
    outcomes,
    printed,
    report_of_repair,
    reports,
    snapshot,
    with_outcome,
    without_durations,
)

REPORT = "--scylla-report=report.json"
LOST = (
    *(f"T0/00/run_01/{slot}" for slot in SLOTS),
    "T0/00/run_02/judge_01",
    "T1/01/run_01/judge_02",
    "T1/02/run_01/judge_01",
    "T1/02/run_02/judge_03",
)
"""Slots of five runs, in the order of their items."""
FIRST = LOST[0]

REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment that lacks those slots."""
    for slot in LOST:
        lose_slot(project.experiment, slot)
    return project


def once(slots: tuple[str, ...] = LOST) -> dict[str, int]:
    """One call for each of the slots."""
    return dict.fromkeys(slots, 1)


# Workers


@pytest.mark.parametrize("workers", ["2", "4"])
def test_workers_ask_once_for_each_slot(damaged: Project, judge: ScriptedJudge, workers: str) -> None:
    result = damaged.audit("--repair", "-n", workers, REPORT)
    assert result.ret == 0
    assert judge.counts == once()
    assert {call.slot: call.model for call in judge.calls} == {slot: MODELS[slot[-8:]] for slot in LOST}
    assert len({(call.slot[:12], call.process) for call in judge.calls}) == 5  # each run by one worker
    assert experiment_of_repair(damaged)["repairs"]["judge_calls"] == len(LOST)
    assert damaged.audit("--scylla-strict").ret == 0


@pytest.mark.parametrize("mode", ["loadscope", "loadfile", "worksteal", "each"])
def test_however_items_are_distributed_each_slot_is_asked_about_once(
    damaged: Project, judge: ScriptedJudge, mode: str
) -> None:
    result = damaged.audit("--repair", "-n", "2", f"--dist={mode}")
    assert judge.counts == once()
    assert result.ret == 0
    assert damaged.audit().ret == 0


def _mixed(judge: ScriptedJudge) -> None:
    judge.does(
        {
            LOST[1]: [says("no", cost=0.1)],
            LOST[3]: [says("no", cost=0.1), judges(0.4, cost=0.2)],
            LOST[4]: [timeout(cost=0.5)],
            LOST[5]: [permanent("slot", "prompt too long")],
        },
        otherwise=[judges(0.9, cost=0.25)],
    )


def _without_moments(root: Path) -> dict[str, object]:
    """What lies in an experiment, without when it was made and how long that took."""
    found: dict[str, object] = {}
    for path, entry in tree(root).items():
        told = re.sub(rb'"[a-z_]*duration_seconds": [^,\n}]*|\b[0-9]+\.[0-9]+s\b', b"", entry.content)
        told = re.sub(rb"\d{4}-\d\d-\d\dT[0-9:.]+(\+00:00|Z)?", b"", told)
        found[path] = (entry.mode, told)
    return found


@pytest.mark.parametrize("args", [(), ("-k", "judge_01 or run_02"), ("--repair-plan",), ("--repair-max-calls=0",)])
def test_with_workers_all_is_as_without(
    empty_project: Project, pristine_experiment: Path, args: tuple[str, ...]
) -> None:
    told = []
    for workers in ("0", "2"):
        root = empty_project.copy(pristine_experiment, "exp")
        damaged_for_free(root)
        for slot in LOST:
            for name in ("judgment.json", "response.txt", "stdout.log"):
                (judgment_of(root, slot).parent / name).unlink(missing_ok=True)
        judge = ScriptedJudge(empty_project)
        _mixed(judge)
        result = empty_project.audit("--repair", *args, "-n", workers, REPORT)
        told.append(
            (
                result.ret,
                outcomes(result) if workers == "0" else dict(sorted(outcomes(result).items())),
                without_durations(report_of_repair(empty_project)),
                _without_moments(root),
                sorted(judge.asked),
            )
        )
        judge.forget()
        root.rename(empty_project.path / f"with-{workers}")
    assert dict(sorted(told[0][1].items())) == told[1][1]
    for alone, shared in zip(told[0][2:], told[1][2:], strict=True):
        assert alone == shared
    assert told[0][0] == told[1][0]


def test_no_more_calls_are_made_than_were_allowed_by_all_workers_together(
    wide_project: Project, wide_judge: ScriptedJudge
) -> None:
    for run in sorted(wide_project.experiment.glob("T*/*/run_*")):
        lose_slot(wide_project.experiment, f"{run.relative_to(wide_project.experiment)}/judge_01")
    result = wide_project.audit("--repair", "-n", "4", "--repair-max-calls=5", REPORT)
    assert result.ret == 1
    assert len(wide_judge.calls) == 5
    items = items_of_repair(wide_project)
    told = Counter(items[item_id]["outcome"] for item_id in items if item_id.endswith("judge_01"))
    assert told == {"repaired": 5, "not-run": 7}
    assert report_of_repair(wide_project)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT


def test_a_budget_is_kept_by_all_workers_together(wide_project: Project, wide_judge: ScriptedJudge) -> None:
    for run in sorted(wide_project.experiment.glob("T*/*/run_*")):
        lose_slot(wide_project.experiment, f"{run.relative_to(wide_project.experiment)}/judge_01")
    wide_judge.does(otherwise=[judges(cost=0.25)])
    result = wide_project.audit("--repair", "-n", "4", "--repair-budget=1.1", REPORT)
    assert result.ret == 1
    assert len(wide_judge.calls) == 4
    assert experiment_of_repair(wide_project)["repairs"]["cost_usd"] == pytest.approx(1)
    refused = [
        action["reason"]
        for actions in acted_on(wide_project).values()
        for action in actions
        if action["outcome"] == "refused"
    ]
    assert len(refused) == 8
    assert all(reason.startswith("not-run: budget: budget of 1.10 USD: 1.00 spent") for reason in refused)


IN_TURN = """\
def pytest_runtest_setup(item):
    if item.nodeid == "exp/T0/00/run_02::judge_01":
        wait_for(["asked"])
"""


@pytest.mark.parametrize("wait", ["0", "1800"])
def test_until_the_first_call_tells_what_it_costs_the_other_worker_does_something_else(
    project: Project, judge: ScriptedJudge, wait: str
) -> None:
    first, second, other = "T0/00/run_01/judge_01", "T0/00/run_02/judge_01", "T0/00/run_02/judge_02"
    for slot in (first, second, other):
        lose_slot(project.experiment, slot)
    asked, released = (str(project.path / name) for name in ("asked", "released"))
    judge.write_conftest(also=IN_TURN)
    judge.does(
        {
            first: [{**judges(cost=0.25), "comes": asked, "waits_for": [released]}],
            other: [{**judges(cost=0.25), "comes": released}],
        },
        otherwise=[judges(cost=0.25)],
    )
    result = project.audit("--repair", "-n", "2", "--repair-budget=1", f"--repair-max-wait={wait}")
    assert judge.asked == [first, other, second]
    assert result.ret == 0


ONE_BEGINS_WHEN_A_LIMIT_IS_MET = """\
def pytest_runtest_setup(item):
    if "/T0/00/run_01::" not in item.nodeid:
        deadline = time.monotonic() + 300
        while not list(Path("exp/.scylla/pauses").glob("*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
"""


def test_a_limit_that_one_worker_meets_holds_the_others(wide_project: Project, wide_judge: ScriptedJudge) -> None:
    runs = [str(run.relative_to(wide_project.experiment)) for run in sorted(wide_project.experiment.glob("T*/*/run_*"))]
    for run in runs:
        lose_slot(wide_project.experiment, f"{run}/judge_01")
    wide_judge.write_conftest(also=ONE_BEGINS_WHEN_A_LIMIT_IS_MET)
    wide_judge.does(otherwise=[limit(3600)])
    result = wide_project.audit("--repair", "-n", "2", "--repair-max-wait=0", REPORT)
    assert result.ret == 1
    assert wide_judge.asked == [f"{runs[0]}/judge_01"]
    assert len({report.worker_id for report in reports(result) if report.nodeid.endswith("::judge_01")}) == 2
    assert {items_of_repair(wide_project)[f"{run}/judge_01"]["outcome"] for run in runs} == {"not-run"}
    assert report_of_repair(wide_project)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT


def test_a_worker_that_is_killed_in_a_call_crashes_its_item_which_is_not_started_again(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [KILLED, judges()]})
    result = damaged.audit("--repair", "-n", "2", REPORT)
    assert result.ret == 1
    assert judge.counts == once()
    assert "INTERNALERROR" not in printed(result)
    items = items_of_repair(damaged)
    assert items[FIRST]["outcome"] == "crashed"
    assert [slot for slot in LOST if items[slot]["outcome"] == "repaired"] == [*LOST[1:]]
    assert not judgment_of(damaged.experiment, FIRST).exists()
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + DAMAGE_LEFT
    assert damaged.audit("--repair").ret == 0
    assert judge.counts == {**once(), FIRST: 2}
    assert [call.attempt for call in judge.calls if call.slot == FIRST] == [1, 1]
    assert damaged.audit("--scylla-strict").ret == 0
    assert staged(damaged.experiment) == []


def test_a_worker_that_is_killed_in_a_call_keeps_what_it_reserved(damaged: Project, judge: ScriptedJudge) -> None:
    asked = str(damaged.path / "asked")
    judge.does({FIRST: [{**KILLED, "comes": asked}]}, otherwise=[{**judges(), "waits_for": [asked]}])
    result = damaged.audit("--repair", "-n", "2", "--repair-max-calls=3")
    assert result.ret == 1
    assert len(judge.calls) == 3
    assert judge.counts[FIRST] == 1


def test_an_interruption_in_a_worker_leaves_its_slot_as_it_was(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [INTERRUPTED, judges()]})
    result = damaged.audit_apart("--repair", "-n", "2", "--scylla-select=T0/00/run_01", REPORT)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert judge.asked == [FIRST]
    assert not judgment_of(damaged.experiment, FIRST).exists()
    assert report_of_repair(damaged)["exit_bits"] & STOPPED_EARLY
    assert damaged.audit("--repair").ret == 0
    assert judge.counts == {**once(), FIRST: 2}


# A session that is killed

DIES_AFTER_A_CALL = """\
@pytest.fixture
def scylla_regenerate(scylla_regenerate):
    def regenerate(request):
        if LOG.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return scylla_regenerate(request)

    return regenerate
"""


def test_an_answer_that_was_kept_before_its_session_was_killed_is_stored_by_the_next_one(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [judges(0.35, passed=False, cost=0.25)]})
    judge.write_conftest(also=DIES_AFTER_A_CALL)
    before = tree(damaged.experiment)
    select = "--scylla-select=T0/00/run_01/judge_01"
    assert damaged.audit_apart("--repair", select).ret == -signal.SIGKILL
    assert judge.asked == [FIRST]
    assert tree(damaged.experiment) == before
    judge.write_conftest()
    result = damaged.audit("--repair", select, REPORT)
    assert result.ret == 0
    assert judge.asked == [FIRST]
    judgment = json.loads(judgment_of(damaged.experiment, FIRST).read_text())
    assert (judgment["score"], judgment["passed"]) == (0.35, False)
    action = acted_on(damaged)[FIRST][0]
    assert (action["outcome"], action["calls"], action["cost_usd"]) == ("done", 0, 0)
    assert len(action["files"]) == 6
    assert [entry["outcome"] for entry in journal(damaged.experiment) if entry["what"] == "judge-call"] == ["answered"]


def test_a_session_that_is_killed_in_a_call_leaves_the_slot_to_the_next_one(
    damaged: Project, judge: ScriptedJudge
) -> None:
    judge.does({FIRST: [KILLED, judges()]})
    before = tree(damaged.experiment)
    assert damaged.audit_apart("--repair").ret == -signal.SIGKILL
    assert judge.asked == [FIRST]
    assert tree(damaged.experiment) == before
    assert [(entry["what"], entry["item"]) for entry in journal(damaged.experiment)] == [("judge-call-begun", FIRST)]
    assert damaged.audit("--repair").ret == 0
    assert judge.counts == {**once(), FIRST: 2}


# Two sessions at once

STARTS = """\
def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        for number in (1, 2):
            try:
                os.close(os.open(f"started-{number}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                pass
"""


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_two_repairs_at_once_ask_once_for_each_slot(
    damaged: Project, judge: ScriptedJudge, args: tuple[str, ...]
) -> None:
    judge.write_conftest(also=STARTS)
    both = [str(damaged.path / f"started-{number}") for number in (1, 2)]
    judge.does(otherwise=[{**judges(), "waits_for": both}])
    ended = damaged.at_once(*(("--repair", *args, f"--scylla-report={number}.json") for number in (1, 2)))
    assert [exit_code for exit_code, _ in ended] == [0, 0], ended
    assert judge.counts == once()
    told = [experiment_of_repair(damaged, f"{number}.json")["repairs"]["judge_calls"] for number in (1, 2)]
    assert sum(told) == len(LOST)
    assert staged(damaged.experiment) == []
    assert damaged.audit("--scylla-strict").ret == 0


# Workers elsewhere


@contextmanager
def socket_server(cwd: Path) -> Iterator[str]:
    """A server of execnet's on this host; its address."""
    command = (sys.executable, "-u", "-m", "execnet.script.socketserver", "127.0.0.1:0")
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.search(r"\('127\.0\.0\.1', ([0-9]+)\)", line):
                    yield f"127.0.0.1:{found[1]}"
                    break
        finally:
            server.kill()


def test_workers_that_are_reached_by_sockets_judge_in_a_shared_directory(
    damaged: Project, judge: ScriptedJudge
) -> None:
    elsewhere = damaged.path / "elsewhere"
    elsewhere.mkdir()
    judge.write_conftest("elsewhere/conftest.py")
    (damaged.path / "conftest.py").unlink()  # the controlling process has no judge
    with socket_server(elsewhere) as one, socket_server(elsewhere) as two:
        hosts = [word for host in (one, two) for word in ("--tx", f"socket={host}//chdir={elsewhere}")]
        # In a process of its own, with which the sockets go: execnet does not close them.
        result = damaged.run_apart(f"--scylla-exp={damaged.experiment}", "--repair", "--dist=load", *hosts, REPORT)
    assert result.ret == 0, printed(result)
    assert judge.counts == once()
    assert experiment_of_repair(damaged)["repairs"]["judge_calls"] == len(LOST)
    assert damaged.audit("--scylla-strict").ret == 0


# pytest's own options


def test_last_failed_runs_what_was_not_judged(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [says("no")] * 3 + [judges()]})
    assert damaged.audit("--repair").ret == 1
    assert judge.counts == {**once(), FIRST: 3}
    result = damaged.audit("--repair", "--lf")
    assert [*outcomes(result)] == [node_id(FIRST)]
    assert judge.counts == {**once(), FIRST: 3}
    assert damaged.audit("--repair", "--lf", "--repair-retry").ret == 0
    assert judge.counts == {**once(), FIRST: 4}


@pytest.mark.parametrize("args", [("-x",), ("--maxfail=1",), ("--sw",)])
def test_a_session_that_is_to_stop_at_a_failure_asks_nobody_behind_it(
    damaged: Project, judge: ScriptedJudge, args: tuple[str, ...]
) -> None:
    judge.does({LOST[1]: [timeout()]})
    result = damaged.audit("--repair", *args, REPORT)
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert judge.asked == [*LOST[:2]]
    assert {items_of_repair(damaged)[slot]["outcome"] for slot in LOST[2:]} == {"not-run"}
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED + STOPPED_EARLY + DAMAGE_LEFT + OPERATIONAL_ERROR


def test_a_judged_slot_is_no_failure_to_stop_at(damaged: Project, judge: ScriptedJudge) -> None:
    assert damaged.audit("--repair", "-x").ret == 0
    assert judge.asked == [*LOST]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_collecting_only_asks_nobody(damaged: Project, judge: ScriptedJudge, workers: str) -> None:
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", "--co", "-q", "-n", workers)
    assert result.ret == 0
    assert judge.calls == []
    assert collected(result) == node_ids()
    assert snapshot(damaged.experiment) == before


def test_verbose_output_names_every_item_with_its_word(damaged: Project, judge: ScriptedJudge) -> None:
    judge.does({FIRST: [timeout()]})
    result = damaged.audit("--repair", "-v")
    assert judge.counts == once()
    shown = {line.split()[0]: line.split()[1] for line in result.outlines if "%]" in line}
    repaired = {nodeid for nodeid, word in shown.items() if word == "REPAIRED" and "/run_" in nodeid}
    assert repaired == {*map(node_id, (*LOST[1:], "T0/00/run_01"))}
    assert {nodeid for nodeid, word in shown.items() if word == "FAILED"} == {node_id(FIRST)}


@pytest.mark.parametrize("quiet", ["-q", "-qq"])
def test_quiet_output_is_short(damaged: Project, judge: ScriptedJudge, quiet: str) -> None:
    judge.does(otherwise=[judges(cost=0.25)])
    result = damaged.audit("--repair", quiet)
    assert result.ret == 0
    assert judge.counts == once()
    lines = [line for line in result.outlines if line]
    assert len(lines) <= (12 if quiet == "-q" else 2)
    assert ("asked judges: 7 calls, 1.75 USD; 7 slots judged" in lines) is (quiet == "-q")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_junit_tells_what_was_asked(damaged: Project, judge: ScriptedJudge, workers: str) -> None:
    judge.does({LOST[3]: [timeout(cost=0.5)]}, otherwise=[judges(cost=0.25)])
    assert damaged.audit("--repair", "--junitxml=junit.xml", "-n", workers).ret == 1
    assert judge.counts == once()
    root = ET.parse(damaged.path / "junit.xml").getroot()
    told: dict[str, dict[str, Any]] = {}
    for case in root.iter("testcase"):
        name = f"{case.attrib['classname']}.{case.attrib['name']}"
        told[name] = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        told[name]["failed"] = case.find("failure") is not None
    (judged,) = [each for name, each in told.items() if "T0" in name and "run_01" in name and name.endswith("judge_01")]
    assert (judged["status_before"], judged["status"], judged["failed"]) == ("failed", "complete", False)
    assert judged["actions"].startswith(
        "asked the judge (1 call, 0.25 USD), wrote T0/00/run_01/judge/judge_01/judgment.json and 5 more; rebuilt "
    )
    (lost,) = [each for name, each in told.items() if "T0" in name and "run_02" in name and name.endswith("judge_01")]
    assert lost["failed"] is True
    assert "judge call failed (1 call, 0.50 USD): " in lost["actions"]


@pytest.mark.parametrize("name", ["xdist", "cacheprovider", "terminal", "junitxml", "logging", "capture"])
def test_judging_works_without_another_of_pytests_plugins(damaged: Project, judge: ScriptedJudge, name: str) -> None:
    result = damaged.audit_apart("--repair", "-p", f"no:{name}", REPORT)
    assert result.ret == 0, printed(result)
    assert judge.asked == [*LOST]
    assert experiment_of_repair(damaged)["repairs"]["judge_calls"] == len(LOST)


def test_setup_show_names_the_fixture(damaged: Project, judge: ScriptedJudge) -> None:
    result = damaged.audit("--repair", "--setup-show", "-k", "T0")
    assert "SETUP    S scylla_judge" in result.stdout.str()
    assert judge.counts == once(LOST[:4])


def test_judging_causes_no_warning(damaged: Project, judge: ScriptedJudge) -> None:
    result = damaged.audit_apart("--repair", "-W", "error", "-n", "2")
    assert result.ret == 0
    assert judge.counts == once()
    assert "warnings" not in result.parseoutcomes()


def test_other_tests_keep_their_own_outcomes(damaged: Project, judge: ScriptedJudge) -> None:
    damaged.write("test_a.py", "def test_sound():\n    pass\n\n\ndef test_unsound():\n    assert False\n")
    result = damaged.audit("--repair", ".", REPORT)
    assert result.ret == 1
    assert judge.counts == once()
    assert with_outcome(result, "failed") == ["test_a.py::test_unsound"]
    assert report_of_repair(damaged)["exit_bits"] == REPAIRED


@pytest.mark.parametrize("seed", [1, 2])
def test_in_a_random_order_each_slot_is_asked_about_once(damaged: Project, judge: ScriptedJudge, seed: int) -> None:
    pytest.importorskip("pytest_randomly")
    order = (*NO_OTHERS, f"--randomly-seed={seed}")
    damaged.pytester.runpytest_subprocess(*order, "--scylla-exp=exp", "--repair")
    assert judge.counts == once()
    # What follows from the slots, and came before them, is put right by the next session.
    assert damaged.audit("--repair").ret == 0
    assert judge.counts == once()
    assert damaged.audit("--scylla-strict").ret == 0


# pytest-rerunfailures


@pytest.mark.parametrize("workers", ["0", "2"])
def test_reruns_do_not_multiply_calls(damaged: Project, judge: ScriptedJudge, workers: str) -> None:
    pytest.importorskip("pytest_rerunfailures")
    judge.does(
        {
            LOST[1]: [says("no", cost=0.1)],
            LOST[3]: [breaks()],
            LOST[4]: [timeout()],
            LOST[5]: [permanent("slot", "prompt too long")],
        }
    )
    # In a process of its own, here and below: with xdist, pytest-rerunfailures opens a socket that it never closes.
    result = damaged.audit_apart("--repair", "--reruns=2", "-n", workers, REPORT, alone=False)
    assert judge.counts == {**once(), LOST[1]: 3}
    assert result.parseoutcomes()["rerun"] == 8
    assert result.parseoutcomes()["failed"] == 4
    assert "RuntimeError: a bug in my judge" in result.stdout.str()
    assert experiment_of_repair(damaged)["repairs"]["judge_calls"] == 3 + 1 + 1 + 3


def test_a_rerun_of_a_crashed_item_does_not_multiply_calls(damaged: Project, judge: ScriptedJudge) -> None:
    pytest.importorskip("pytest_rerunfailures")
    judge.does({FIRST: [KILLED]})
    result = damaged.audit_apart("--repair", "--reruns=2", "-n", "2", REPORT, alone=False)
    assert judge.counts == once()
    assert result.ret == 1
    assert items_of_repair(damaged)[FIRST]["outcome"] == "crashed"
