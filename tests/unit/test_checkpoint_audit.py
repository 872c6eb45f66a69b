"""What an audit finds wrong with checkpoint.json, and how it is mended: the disk counts, and all else is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_scylla
from benchmarks.synthetic import agent_reply, config_hash, small, write_experiment
from pytest_scylla.auditing.checkpoint import (
    CHECKPOINT_STATUSES,
    Fault,
    RunFacts,
    audit_checkpoint,
    checkpoint_status,
    faults_of,
    read_checkpoint,
)
from pytest_scylla.auditing.findings import CODES, Finding, RunStatus
from pytest_scylla.experiment.checkpoint import (
    AGENT_STEPS,
    EARLY_STEPS,
    FINISHED_STEPS,
    GIVEN_UP_STEPS,
    Checkpoint,
    State,
    update_checkpoint,
)
from pytest_scylla.experiment.errors import ExperimentGone
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.experiment.records import Record
from pytest_scylla.experiment.runner import live_runner
from pytest_scylla.experiment.schemas import is_valid
from pytest_scylla.repair.actions import Action
from pytest_scylla.repair.checkpoint import mend_checkpoint, planned_repair, repair_checkpoint
from pytest_scylla.repair.request import CannotRegenerate

from .damage import RUN_RESULT, Run, cut_output, lose, put, retell
from .repairing import digest, journal, quarantined, repair_all, staged, tree

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
FIRST, SECOND = RunId("T1", "02", 1), RunId("T1", "02", 2)
CHECKPOINT = "checkpoint.json"


@pytest.fixture(scope="module")
def lean_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy experiment of four runs and nothing optional. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("lean") / "exp"
    write_experiment(root, small(tiers={"T0": ("00",), "T1": ("02",)}, side_files=False))
    return root


@pytest.fixture
def experiment_dir(lean_experiment: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the healthy experiment, to damage."""
    root = tmp_path / "exp"
    shutil.copytree(lean_experiment, root)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def facts_in(root: Path) -> dict[RunId, RunFacts]:
    return {audit.run: RunFacts.of(audit) for audit in pytest_scylla.audit(pytest_scylla.load(root))}


def audit(root: Path) -> tuple[Finding, ...]:
    return audit_checkpoint(*read_checkpoint(pytest_scylla.load(root)), facts_in(root))


def codes(root: Path) -> list[str]:
    return [found.code for found in audit(root)]


def status(root: Path) -> str:
    return checkpoint_status(audit(root))


def stored(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / CHECKPOINT).read_bytes())
    return found


def edit(root: Path, how: Callable[[dict[str, Any]], object]) -> None:
    data = stored(root)
    how(data)
    (root / CHECKPOINT).write_text(json.dumps(data, indent=2))


def says(root: Path, **changes: Any) -> None:
    edit(root, lambda data: data.update(changes))


def record(root: Path, run: RunId, state: str | None) -> None:
    """Let the checkpoint record a run otherwise, or not at all."""

    def change(data: dict[str, Any]) -> None:
        runs = data["completed_runs"].setdefault(run.tier, {}).setdefault(run.subtest, {})
        runs.pop(str(run.number), None)
        if state is not None:
            runs[str(run.number)] = state

    edit(root, change)


def with_steps(root: Path, **changes: Any) -> None:
    """Make the checkpoint one of version 3.1 whose runs have all reached the last step."""

    def change(data: dict[str, Any]) -> None:
        steps = {
            tier: {subtest: dict.fromkeys(runs, "worktree_cleaned") for subtest, runs in subtests.items()}
            for tier, subtests in data["completed_runs"].items()
        }
        data.update(version="3.1", run_states=steps, tier_states={}, subtest_states={}, **changes)

    edit(root, change)


def step(root: Path, run: RunId, to: str | None) -> None:
    def change(data: dict[str, Any]) -> None:
        data["run_states"][run.tier][run.subtest][str(run.number)] = to

    edit(root, change)


def mend(root: Path) -> Action | None:
    with Keeping(root) as keeping:
        return repair_checkpoint(pytest_scylla.load(root), keeping, lambda: facts_in(root))


def mended(root: Path, **parts: Any) -> dict[str, Any]:
    """What becomes of the checkpoint, or of the ``record`` and the ``config`` that are given instead."""
    experiment = pytest_scylla.load(root)
    record, config = read_checkpoint(experiment)
    return mend_checkpoint(
        experiment,
        parts.get("record", record),
        parts.get("config", config.data),
        parts.get("runs", facts_in(root)),
        NOW,
    )


# -------------------------------------------------------------------------------------------------------------- healthy


@pytest.mark.parametrize("version", ["2.0", "3.1"])
def test_a_healthy_checkpoint_is_sound_and_is_not_touched(experiment_dir: Path, version: str) -> None:
    if version == "3.1":
        with_steps(experiment_dir)
    before = tree(experiment_dir)
    assert audit(experiment_dir) == ()
    assert status(experiment_dir) == "sound"
    assert mended(experiment_dir) == stored(experiment_dir)
    assert planned_repair(pytest_scylla.load(experiment_dir), facts_in(experiment_dir)) is None
    assert not (experiment_dir / KEEPING).exists()
    assert mend(experiment_dir) is None
    assert tree(experiment_dir) == before


def test_the_recorded_one_is_sound(recorded_experiment: Path) -> None:
    assert audit(recorded_experiment) == ()


def test_every_status_is_explained() -> None:
    assert all(CHECKPOINT_STATUSES.values())
    assert checkpoint_status(()) == "sound"


def test_an_experiment_that_is_gone_is_said_to_be(tmp_path: Path, one_run_experiment: Path) -> None:
    shutil.copytree(one_run_experiment, tmp_path / "exp")
    experiment = pytest_scylla.load(tmp_path / "exp")
    shutil.rmtree(tmp_path / "exp")
    with pytest.raises(ExperimentGone):
        read_checkpoint(experiment)


# ---------------------------------------------------------------------------------------------------- what is not there


def test_an_absent_one_is_missing_and_is_made_from_the_configuration_and_the_runs(experiment_dir: Path) -> None:
    before = stored(experiment_dir)
    (experiment_dir / CHECKPOINT).unlink()
    assert codes(experiment_dir) == ["checkpoint-missing"]
    assert status(experiment_dir) == "missing"
    action = mend(experiment_dir)
    assert action is not None
    assert (action.outcome, action.files, action.solved) == ("done", (CHECKPOINT,), ("checkpoint-missing",))
    after = stored(experiment_dir)
    assert audit(experiment_dir) == ()
    assert after["completed_runs"] == before["completed_runs"]
    for key in ("version", "experiment_id", "config_hash", "status"):
        assert after[key] == before[key]
    assert after["experiment_dir"] == str(experiment_dir)
    assert not {"started_at", "pause_count", "last_heartbeat"} & set(after)
    assert after["pid"] is None
    assert quarantined(experiment_dir) == {}


def test_a_rebuilt_one_is_interrupted_where_a_run_is_not_finished(experiment_dir: Path) -> None:
    (experiment_dir / CHECKPOINT).unlink()
    assert mended(experiment_dir)["status"] == "completed"
    assert mended(experiment_dir, record=None)["status"] == "completed"
    runs = facts_in(experiment_dir)
    assert mended(experiment_dir, runs={**runs, FIRST: RunFacts("missing", None)})["status"] == "interrupted"
    assert mended(experiment_dir, runs={run: runs[run] for run in runs if run != FIRST})["status"] == "interrupted"


def test_a_rebuilt_one_is_interrupted_where_a_tier_has_no_known_subtests(experiment_dir: Path) -> None:
    config = json.loads((experiment_dir / "config" / "experiment.json").read_bytes())
    config["tiers_to_run"].append("T6")
    (experiment_dir / "config" / "experiment.json").write_text(json.dumps(config))
    assert pytest_scylla.load(experiment_dir).unknown_tiers == ("T6",)
    assert mended(experiment_dir, record=None)["status"] == "interrupted"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "checkpoint-malformed"),
        (b'{"version": "2.0"', "checkpoint-malformed"),
        (b"[]", "checkpoint-malformed"),
        (b"{}", "checkpoint-invalid"),
    ],
)
def test_one_that_cannot_be_relied_on_is_malformed_and_is_rebuilt(experiment_dir: Path, data: bytes, code: str) -> None:
    before = stored(experiment_dir)
    (experiment_dir / CHECKPOINT).write_bytes(data)
    assert set(codes(experiment_dir)) == {code}
    assert status(experiment_dir) == "malformed"
    action = mend(experiment_dir)
    assert action is not None
    assert (action.outcome, action.solved) == ("done", (code,))
    assert audit(experiment_dir) == ()
    assert stored(experiment_dir)["completed_runs"] == before["completed_runs"]
    assert quarantined(experiment_dir) == {digest(data): data}


def test_of_one_that_breaks_its_schema_the_rest_is_kept(experiment_dir: Path) -> None:
    says(experiment_dir, pid="41873", note="kept")
    record(experiment_dir, SECOND, "PASSED")
    before = stored(experiment_dir)
    assert status(experiment_dir) == "malformed"
    assert mend(experiment_dir) is not None
    after = stored(experiment_dir)
    assert audit(experiment_dir) == ()
    assert after["pid"] is None
    assert after["note"] == "kept"
    assert after["started_at"] == before["started_at"]
    assert after["completed_runs"]["T0"] == before["completed_runs"]["T0"]


def test_an_id_that_leads_elsewhere_is_invalid_and_goes(experiment_dir: Path) -> None:
    edit(experiment_dir, lambda data: data["completed_runs"].update({"../../etc": {"00": {"1": "passed"}}}))
    (found,) = audit(experiment_dir)
    assert (found.code, found.pointer) == ("checkpoint-invalid", "/completed_runs")
    mend(experiment_dir)
    assert audit(experiment_dir) == ()
    assert set(stored(experiment_dir)["completed_runs"]) == {"T0", "T1"}


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_an_unsafe_one_is_left_to_a_person(experiment_dir: Path, kind: str) -> None:
    place = experiment_dir / CHECKPOINT
    place.rename(experiment_dir.parent / "elsewhere.json")
    place.symlink_to(experiment_dir.parent / "elsewhere.json") if kind == "link" else os.mkfifo(place)
    assert codes(experiment_dir) == ["unsafe-object"]
    assert status(experiment_dir) == "unsafe"
    before = tree(experiment_dir)
    action = mend(experiment_dir)
    assert action is not None
    assert action.outcome == "refused"
    assert "expected a file, found a link, pipe" in str(action.reason)
    assert tree(experiment_dir) == before


def test_a_directory_in_its_place_makes_room(experiment_dir: Path) -> None:
    (experiment_dir / CHECKPOINT).unlink()
    (experiment_dir / CHECKPOINT).mkdir()
    (experiment_dir / CHECKPOINT / "inside").write_text("kept")
    assert status(experiment_dir) == "malformed"
    mend(experiment_dir)
    assert audit(experiment_dir) == ()
    (entry,) = journal(experiment_dir)
    assert (experiment_dir / entry["replaced"]["quarantine"] / "inside").read_text() == "kept"


def test_one_of_an_unknown_version_is_left_to_a_person(experiment_dir: Path) -> None:
    says(experiment_dir, version="4.0")
    assert status(experiment_dir) == "malformed"
    before = tree(experiment_dir)
    action = mend(experiment_dir)
    assert action is not None
    assert (action.outcome, action.solved, action.files) == ("refused", (), ())
    assert action.reason == 'expected version 2.0 or 3.1, found "4.0"'
    assert tree(experiment_dir) == before


# --------------------------------------------------------------------------------------------------- the configuration


def edit_config(root: Path, **changes: Any) -> dict[str, Any]:
    place = root / "config" / "experiment.json"
    config: dict[str, Any] = {**json.loads(place.read_bytes()), **changes}
    place.write_text(json.dumps(config, indent=2))
    return config


def test_another_configuration_is_a_conflict_that_only_a_person_decides(experiment_dir: Path) -> None:
    old = stored(experiment_dir)["config_hash"]
    config = edit_config(experiment_dir, timeout_seconds=17)
    record(experiment_dir, FIRST, None)
    first, second = audit(experiment_dir)
    assert (first.code, first.pointer) == ("checkpoint-config-differs", "/config_hash")
    assert f'"{config_hash(config)}", found "{old}"' in first.message
    assert second.code == "checkpoint-lacks-run"
    assert status(experiment_dir) == "conflict"
    before = tree(experiment_dir)
    for action in (mend(experiment_dir), planned_repair(pytest_scylla.load(experiment_dir), facts_in(experiment_dir))):
        assert action is not None
        assert action.outcome == "refused"
        assert old in str(action.reason)
        assert "nothing proves by which" in str(action.reason)
    assert tree(experiment_dir) == before


def test_settings_of_how_much_is_run_at_once_are_no_other_configuration(experiment_dir: Path) -> None:
    edit_config(experiment_dir, parallel_subtests=1)
    assert audit(experiment_dir) == ()


def test_a_hash_by_a_later_rule_is_kept(experiment_dir: Path) -> None:
    config = json.loads((experiment_dir / "config" / "experiment.json").read_bytes())
    hashed = {**config, "criteria_file": None, "rubric_file": None}
    for key in ("parallel_subtests", "max_subtests", "tiers_to_run"):
        del hashed[key]
    later = digest(json.dumps(hashed, sort_keys=True).encode())[:16]
    says(experiment_dir, config_hash=later)
    assert audit(experiment_dir) == ()
    record(experiment_dir, FIRST, None)
    mend(experiment_dir)
    assert stored(experiment_dir)["config_hash"] == later


def test_the_name_of_another_experiment_is_a_conflict_as_well(experiment_dir: Path) -> None:
    says(experiment_dir, experiment_id="another\x1b[31m")
    (found,) = audit(experiment_dir)
    assert (found.code, found.pointer) == ("checkpoint-config-differs", "/experiment_id")
    assert found.message.isprintable()
    with pytest.raises(CannotRegenerate, match="another"):
        mended(experiment_dir)


def test_a_configuration_that_was_lost_meanwhile_contradicts_nothing_and_gives_nothing(experiment_dir: Path) -> None:
    experiment, runs = pytest_scylla.load(experiment_dir), facts_in(experiment_dir)
    (experiment_dir / "config" / "experiment.json").write_text("{")
    assert audit_checkpoint(*read_checkpoint(experiment), runs) == ()
    (experiment_dir / CHECKPOINT).unlink()
    with Keeping(experiment_dir) as keeping:
        action = repair_checkpoint(experiment, keeping, lambda: runs)
    assert action is not None
    assert (action.outcome, action.reason) == ("refused", "config/experiment.json is malformed")


# -------------------------------------------------------------------------------------------------- the disk, by itself


def damaged(root: Path, run: RunId) -> Run:
    return Run(root, str(run))


def lose_slot_and_consensus(run: Run) -> None:
    lose("judge/judge_02", RUN_RESULT)(run)


def lose_run(run: Run) -> None:
    lose(".")(run)


IDLE = agent_reply(input_tokens=0, output_tokens=0, cache_creation_tokens=0, cache_read_tokens=0, cost_usd=0.0)
break_agent = retell(reply=IDLE, exit_code=-1)


DISK: dict[str, tuple[Callable[[Run], object], str, bool | None]] = {
    "run_result.json is lost": (lose(RUN_RESULT), "results", True),
    "a judge and run_result.json are lost": (lose_slot_and_consensus, "results", None),
    "the run is lost": (lose_run, "missing", None),
    "the agent never ran": (break_agent, "failed", None),
    "the output is cut off": (cut_output(0.5), "partial", None),
    "a copy of another run": (put(RUN_RESULT, "/logs_path", "/exp/T0/00/run_01/agent"), "conflict", None),
}


@pytest.mark.parametrize(("damage", "status", "passed"), DISK.values(), ids=DISK.keys())
def test_what_the_disk_proves_of_a_run(
    experiment_dir: Path, damage: Callable[[Run], object], status: str, passed: bool | None
) -> None:
    before = facts_in(experiment_dir)
    assert before[FIRST] == RunFacts("completed", stored(experiment_dir)["completed_runs"]["T1"]["02"]["1"] == "passed")
    damage(damaged(experiment_dir, FIRST))
    after = facts_in(experiment_dir)
    assert after[FIRST].status == status
    assert after[FIRST].judge_passed == (None if passed is None else before[FIRST].judge_passed)
    assert after[SECOND] == before[SECOND]


# ------------------------------------------------------------------------------------------------------ states of runs


@pytest.fixture(params=["2.0", "3.1"])
def versioned(experiment_dir: Path, request: pytest.FixtureRequest) -> Path:
    """A healthy experiment with a checkpoint of either version."""
    if request.param == "3.1":
        with_steps(experiment_dir)
    return experiment_dir


def the_other(state: str) -> str:
    return "failed" if state == "passed" else "passed"


def state_of(root: Path, run: RunId) -> str | None:
    found = stored(root)["completed_runs"][run.tier][run.subtest].get(str(run.number))
    assert found is None or isinstance(found, str)
    return found


def test_a_finished_run_that_is_not_recorded_is_recorded(versioned: Path) -> None:
    before = stored(versioned)
    state = state_of(versioned, FIRST)
    record(versioned, FIRST, None)
    (found,) = audit(versioned)
    assert (found.code, found.pointer) == ("checkpoint-lacks-run", "/completed_runs/T1/02/1")
    assert found.message.endswith(f"found 1 that is not: T1/02/run_01 ({state})")
    assert status(versioned) == "stale"
    mend(versioned)
    assert audit(versioned) == ()
    after = stored(versioned)
    assert after["completed_runs"] == before["completed_runs"]
    assert after["last_updated_at"] != before["last_updated_at"]


def test_a_run_that_is_recorded_against_its_judges_is_recorded_as_they_have_it(versioned: Path) -> None:
    state = state_of(versioned, FIRST)
    assert state is not None
    record(versioned, FIRST, the_other(state))
    (found,) = audit(versioned)
    assert (found.code, found.pointer) == ("checkpoint-state-differs", "/completed_runs/T1/02/1")
    assert f'T1/02/run_01 ("{the_other(state)}" instead of "{state}")' in found.message
    mend(versioned)
    assert state_of(versioned, FIRST) == state
    assert audit(versioned) == ()


def test_a_finished_run_that_is_recorded_as_still_to_be_judged_is_recorded_as_finished(versioned: Path) -> None:
    state = state_of(versioned, FIRST)
    record(versioned, FIRST, "agent_complete")
    assert codes(versioned) == ["checkpoint-state-differs"]
    mend(versioned)
    assert state_of(versioned, FIRST) == state


@pytest.mark.parametrize("state", ["passed", "failed", "agent_complete"])
def test_a_run_that_is_recorded_and_gone_is_named_and_the_record_loses_to_the_disk(versioned: Path, state: str) -> None:
    record(versioned, FIRST, state)
    lose_run(damaged(versioned, FIRST))
    (found,) = audit(versioned)
    assert (found.code, found.pointer) == ("checkpoint-records-absent-run", "/completed_runs/T1/02/1")
    assert f'T1/02/run_01 ("{state}")' in found.message
    old = (versioned / CHECKPOINT).read_bytes()
    mend(versioned)
    assert state_of(versioned, FIRST) is None
    assert state_of(versioned, SECOND) is not None
    assert audit(versioned) == ()
    assert quarantined(versioned) == {digest(old): old}
    if stored(versioned)["version"] == "3.1":
        assert stored(versioned)["run_states"]["T1"]["02"] == {"1": "pending", "2": "worktree_cleaned"}


def test_a_subtest_stays_expected_when_its_last_run_is_taken_out(versioned: Path) -> None:
    expected = pytest_scylla.load(versioned).subtests
    shutil.rmtree(versioned / "T1" / "02")
    for name in ("result.json", "report.json", "T1/result.json", "T1/report.json"):
        (versioned / name).unlink()
    mend(versioned)
    assert stored(versioned)["completed_runs"]["T1"]["02"] == {}
    assert pytest_scylla.load(versioned).subtests == expected


@pytest.mark.parametrize(("damage", "word"), [(break_agent, "failed"), (cut_output(0.5), "partial")])
def test_a_run_whose_agent_did_not_finish_is_not_recorded(
    versioned: Path, damage: Callable[[Run], object], word: str
) -> None:
    damage(damaged(versioned, FIRST))
    (found,) = audit(versioned)
    assert found.code == "checkpoint-state-differs"
    assert f"and the run is {word})" in found.message
    mend(versioned)
    assert state_of(versioned, FIRST) is None
    assert audit(versioned) == ()


@pytest.mark.parametrize("state", ["passed", "failed", None])
def test_a_run_that_lacks_judges_is_recorded_as_still_to_be_judged(versioned: Path, state: str | None) -> None:
    record(versioned, FIRST, state)
    lose_slot_and_consensus(damaged(versioned, FIRST))
    assert codes(versioned) == ["checkpoint-lacks-run" if state is None else "checkpoint-state-differs"]
    mend(versioned)
    assert state_of(versioned, FIRST) == "agent_complete"
    assert audit(versioned) == ()


def test_a_judged_run_that_lost_a_derived_file_may_be_recorded_either_way(experiment_dir: Path) -> None:
    state = state_of(experiment_dir, FIRST)
    assert state is not None
    lose(RUN_RESULT)(damaged(experiment_dir, FIRST))
    assert audit(experiment_dir) == ()
    record(experiment_dir, FIRST, "agent_complete")
    assert audit(experiment_dir) == ()
    record(experiment_dir, FIRST, the_other(state))
    assert codes(experiment_dir) == ["checkpoint-state-differs"]
    record(experiment_dir, FIRST, None)
    assert codes(experiment_dir) == ["checkpoint-lacks-run"]
    mend(experiment_dir)
    assert state_of(experiment_dir, FIRST) == "agent_complete"


@pytest.mark.parametrize("state", ["passed", "failed", "agent_complete", None])
def test_a_run_in_conflict_proves_nothing(versioned: Path, state: str | None) -> None:
    record(versioned, FIRST, state)
    put(RUN_RESULT, "/logs_path", "/exp/T0/00/run_01/agent")(damaged(versioned, FIRST))
    assert audit(versioned) == ()
    record(versioned, SECOND, None)
    mend(versioned)
    assert state_of(versioned, FIRST) == state
    assert state_of(versioned, SECOND) is not None


def test_what_is_recorded_beyond_the_expected_stays(versioned: Path) -> None:
    extra = RunId("T9", "05", 7)
    record(versioned, extra, "passed")
    record(versioned, FIRST, None)
    assert codes(versioned) == ["checkpoint-lacks-run"]
    mend(versioned)
    assert state_of(versioned, extra) == "passed"


def test_only_the_runs_that_were_looked_at_count(experiment_dir: Path) -> None:
    for run in (FIRST, SECOND):
        record(experiment_dir, run, None)
    runs = facts_in(experiment_dir)
    (found,) = audit_checkpoint(*read_checkpoint(pytest_scylla.load(experiment_dir)), {SECOND: runs[SECOND]})
    assert found.pointer == "/completed_runs/T1/02/2"


def test_many_runs_with_one_fault_are_one_finding_with_three_examples(experiment_dir: Path) -> None:
    says(experiment_dir, completed_runs={})
    (found,) = audit(experiment_dir)
    assert (found.code, found.pointer) == ("checkpoint-lacks-run", "/completed_runs")
    assert "found 4 that are not: T0/00/run_01 (" in found.message
    assert found.message.endswith(" and 1 more")
    assert found.message.count("run_0") == 3
    mend(experiment_dir)
    assert audit(experiment_dir) == ()


def test_faults_of_each_kind_are_told_apart(experiment_dir: Path) -> None:
    lose_run(damaged(experiment_dir, FIRST))
    record(experiment_dir, SECOND, "agent_complete")
    record(experiment_dir, RunId("T0", "00", 1), None)
    found = audit(experiment_dir)
    assert {one.code for one in found} == {
        "checkpoint-records-absent-run",
        "checkpoint-lacks-run",
        "checkpoint-state-differs",
    }
    assert len(found) == 3
    assert all(one.severity == "error" and one.message.isprintable() and one.file == CHECKPOINT for one in found)
    action = mend(experiment_dir)
    assert action is not None
    assert set(action.solved) == {one.code for one in found}
    assert audit(experiment_dir) == ()


def test_every_code_is_an_error() -> None:
    own = {name: code for name, code in CODES.items() if name.startswith("checkpoint-")}
    assert len(own) == 7
    assert {code.severity for code in own.values()} == {"error"}


# ------------------------------------------------------------------------------------------------- steps, version 3.1

EVERY_STEP = EARLY_STEPS | AGENT_STEPS | FINISHED_STEPS | GIVEN_UP_STEPS
UNKNOWN = "a_step_of_a_later_version"


def fault(state: str | None, step: str, facts: RunFacts) -> Fault | None:
    """What is wrong with a run that is recorded so, at a step, when the disk proves so much of it."""
    entries = {} if state is None else {"1": state}
    data = {
        "version": "3.1",
        "completed_runs": {"T1": {"02": entries}},
        "run_states": {"T1": {"02": {"1": step}}},
    }
    return next(faults_of(Checkpoint(data), {FIRST: facts}), None)


def steps_that_fit(state: str | None, facts: RunFacts) -> set[str]:
    return {word for word in {*EVERY_STEP, UNKNOWN} if fault(state, word, facts) is None}


@pytest.mark.parametrize(("state", "passed"), [("passed", True), ("failed", False)])
def test_a_finished_run_may_be_at_any_step_once_its_records_are_written(state: State, passed: bool) -> None:
    assert steps_that_fit(state, RunFacts("completed", passed)) == {*FINISHED_STEPS, UNKNOWN}
    behind = Fault("checkpoint-state-differs", FIRST, "run_states", f'"pending" instead of "{state}"', state)
    assert fault(state, "pending", RunFacts("completed", passed)) == behind


def test_a_run_that_is_still_to_be_judged_may_be_at_any_step_from_the_end_of_the_agent() -> None:
    facts = RunFacts("results", None)
    assert steps_that_fit("agent_complete", facts) == {*AGENT_STEPS, UNKNOWN}
    ahead = fault("agent_complete", "run_finalized", facts)
    assert ahead is not None
    assert (ahead.code, ahead.table, ahead.due) == ("checkpoint-state-differs", "run_states", "agent_complete")


def test_a_run_that_is_judged_and_not_written_may_be_at_any_step_from_the_end_of_the_agent() -> None:
    facts = RunFacts("results", True)
    assert steps_that_fit("agent_complete", facts) == {*AGENT_STEPS, UNKNOWN}
    assert steps_that_fit("passed", facts) == {*FINISHED_STEPS, UNKNOWN}
    assert steps_that_fit("failed", facts) == set()


@pytest.mark.parametrize("status", ["missing", "partial", "failed"])
def test_a_run_that_is_not_done_may_be_at_any_step_before_the_end_of_the_agent(status: RunStatus) -> None:
    facts = RunFacts(status, None)
    assert steps_that_fit(None, facts) == {*EARLY_STEPS, *GIVEN_UP_STEPS, UNKNOWN}
    ahead = fault(None, "diff_captured", facts)
    assert ahead is not None
    assert (ahead.table, ahead.due) == ("run_states", None)
    assert (ahead.code == "checkpoint-records-absent-run") == (status == "missing")


@pytest.mark.parametrize("status", ["missing", "partial", "failed"])
def test_a_run_that_the_program_gave_up_is_no_fault_of_the_checkpoint(status: RunStatus) -> None:
    assert steps_that_fit("failed", RunFacts(status, None)) == GIVEN_UP_STEPS


@pytest.mark.parametrize("status", ["missing", "partial", "failed"])
def test_that_a_run_passed_stands_while_its_workspace_is_there_whatever_else_is_lost(status: RunStatus) -> None:
    assert steps_that_fit("passed", RunFacts(status, None, has_workspace=True)) == {*EVERY_STEP, UNKNOWN}
    for state, has_workspace in (("passed", False), ("agent_complete", True)):
        assert fault(state, "pending", RunFacts(status, None, has_workspace)) is not None


def test_the_word_that_keeps_a_run_from_being_run_again_survives_every_mending(experiment_dir: Path) -> None:
    run_dir = experiment_dir / str(FIRST)
    record(experiment_dir, FIRST, "passed")
    record(experiment_dir, SECOND, None)
    for name in ("agent", "judge", "run_result.json"):
        (run_dir / name).rename(experiment_dir.parent / name)
    (run_dir / "workspace").mkdir(exist_ok=True)
    assert facts_in(experiment_dir)[FIRST] == RunFacts("partial", None, has_workspace=True)
    assert mend(experiment_dir) is not None
    assert audit(experiment_dir) == ()
    assert state_of(experiment_dir, FIRST) == "passed"


def test_a_step_that_fits_is_kept_and_one_that_does_not_is_mended(experiment_dir: Path) -> None:
    with_steps(experiment_dir)
    step(experiment_dir, FIRST, "report_written")
    step(experiment_dir, SECOND, "judge_complete")
    (found,) = audit(experiment_dir)
    assert (found.code, found.pointer) == ("checkpoint-state-differs", "/run_states/T1/02/2")
    mend(experiment_dir)
    assert stored(experiment_dir)["run_states"]["T1"]["02"] == {"1": "report_written", "2": "worktree_cleaned"}
    assert audit(experiment_dir) == ()


def test_steps_that_are_lacking_are_not_recorded(experiment_dir: Path) -> None:
    says(experiment_dir, version="3.1")
    (found,) = audit(experiment_dir)
    assert (found.code, found.pointer) == ("checkpoint-lacks-run", "/run_states")
    mend(experiment_dir)
    assert audit(experiment_dir) == ()


def test_what_the_judges_said_stays_where_only_the_step_is_wrong(experiment_dir: Path) -> None:
    with_steps(experiment_dir)
    state = state_of(experiment_dir, FIRST)
    lose(RUN_RESULT)(damaged(experiment_dir, FIRST))
    step(experiment_dir, FIRST, "pending")
    assert codes(experiment_dir) == ["checkpoint-state-differs"]
    mend(experiment_dir)
    assert state_of(experiment_dir, FIRST) == state


# ------------------------------------------------------------------------------------------------------------- mending


any_facts = st.one_of(
    st.builds(RunFacts, st.just("completed"), st.booleans()),
    st.builds(RunFacts, st.just("results"), st.sampled_from([True, False, None])),
    st.builds(
        RunFacts, st.sampled_from(["failed", "partial", "missing", "conflict", "unsafe"]), st.none(), st.booleans()
    ),
)
any_state = st.sampled_from(["passed", "failed", "agent_complete", None])
any_step = st.sampled_from([*sorted(EVERY_STEP), UNKNOWN, None])
some_runs = [RunId("T0", "00", 1), RunId("T0", "00", 2), RunId("T1", "01", 1)]


def table(entries: list[str | None]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for run, word in zip(some_runs, entries, strict=True):
        if word is not None:
            found.setdefault(run.tier, {}).setdefault(run.subtest, {})[str(run.number)] = word
    return found


@given(
    version=st.sampled_from(["2.0", "3.1"]),
    states=st.lists(any_state, min_size=3, max_size=3),
    steps=st.lists(any_step, min_size=3, max_size=3),
    facts=st.lists(any_facts, min_size=3, max_size=3),
)
def test_whatever_is_recorded_and_whatever_lies_there_one_mending_is_enough(
    one_run_experiment: Path, version: str, states: list[Any], steps: list[Any], facts: list[RunFacts]
) -> None:
    experiment = pytest_scylla.load(one_run_experiment)
    record, config = read_checkpoint(experiment)
    runs = dict(zip(some_runs, facts, strict=True))
    data = {**record.data, "version": version, "completed_runs": table(states), "run_states": table(steps), "note": 1}
    before = Record(CHECKPOINT, "sound", data)
    once = mend_checkpoint(experiment, before, config.data, runs, NOW)
    after = Record(CHECKPOINT, "sound", once)
    assert is_valid("checkpoint", once)
    assert audit_checkpoint(after, config, runs) == ()
    assert mend_checkpoint(experiment, after, config.data, runs, NOW) == once
    assert (once == data) == (audit_checkpoint(before, config, runs) == ())
    wrong = {fault.run for fault in faults_of(Checkpoint(data), runs)}
    for run in set(some_runs) - wrong:
        assert Checkpoint(once).ending_of(run) == Checkpoint(data).ending_of(run)
        assert Checkpoint(once).step_of(run) == Checkpoint(data).step_of(run)
    changed = {"completed_runs", "run_states", "last_updated_at"}
    assert {key: once[key] for key in data if key not in changed} == {
        key: data[key] for key in data if key not in changed
    }


def test_the_plan_is_what_the_repair_then_does(experiment_dir: Path) -> None:
    record(experiment_dir, FIRST, None)
    before = tree(experiment_dir, but=None)
    planned = planned_repair(pytest_scylla.load(experiment_dir), facts_in(experiment_dir))
    assert tree(experiment_dir, but=None) == before
    done = mend(experiment_dir)
    assert planned is not None
    assert done is not None
    assert (planned.outcome, done.outcome) == ("planned", "done")
    assert (planned.what, planned.files, planned.solved, planned.level) == (
        done.what,
        done.files,
        done.solved,
        done.level,
    )
    assert done.seconds


def test_the_old_one_is_kept_and_the_journal_tells_of_it(experiment_dir: Path) -> None:
    record(experiment_dir, FIRST, "agent_complete")
    old = (experiment_dir / CHECKPOINT).read_bytes()
    everything = tree(experiment_dir)
    mend(experiment_dir)
    after = tree(experiment_dir)
    assert {name for name in after if after[name] != everything[name]} == {CHECKPOINT}
    assert quarantined(experiment_dir) == {digest(old): old}
    (entry,) = journal(experiment_dir)
    assert is_valid("journal-entry", entry)
    assert (entry["item"], entry["what"], entry["file"]) == ("checkpoint", "regenerate", CHECKPOINT)
    assert entry["solves"] == ["checkpoint-state-differs"]
    assert entry["replaced"]["sha256"] == digest(old)
    assert staged(experiment_dir) == []


def test_a_second_mending_changes_nothing(experiment_dir: Path) -> None:
    record(experiment_dir, FIRST, None)
    mend(experiment_dir)
    before = tree(experiment_dir, but=None)
    assert mend(experiment_dir) is None
    assert tree(experiment_dir, but=None) == before


def test_a_mended_checkpoint_that_says_running_is_nobodys_sign_of_life(experiment_dir: Path) -> None:
    says(experiment_dir, status="running", pid=None)
    record(experiment_dir, FIRST, None)
    mend(experiment_dir)
    assert audit(experiment_dir) == ()
    assert live_runner(experiment_dir) is None


def test_after_a_repair_of_the_runs_the_checkpoint_follows_them(experiment_dir: Path) -> None:
    before = stored(experiment_dir)
    lose(RUN_RESULT, "judge/result.json")(damaged(experiment_dir, FIRST))
    record(experiment_dir, FIRST, "agent_complete")
    repair_all(experiment_dir)
    assert codes(experiment_dir) == ["checkpoint-state-differs"]
    mend(experiment_dir)
    assert stored(experiment_dir)["completed_runs"] == before["completed_runs"]
    assert audit(experiment_dir) == ()


def test_what_cannot_be_written_fails_with_the_reason(experiment_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    record(experiment_dir, FIRST, None)
    before = tree(experiment_dir)
    monkeypatch.setattr(os, "rename", refuse)
    action = mend(experiment_dir)
    assert action is not None
    assert (action.outcome, action.files, action.solved) == ("failed", (), ())
    assert "No space left" in str(action.reason)
    assert tree(experiment_dir) == before


def test_what_is_there_afterwards_is_read_again(experiment_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = os.rename

    def spoil(source: str, target: str, **named: Any) -> None:
        moved(source, target, **named)
        if target == CHECKPOINT:
            (experiment_dir / CHECKPOINT).write_text("{}")

    record(experiment_dir, FIRST, None)
    monkeypatch.setattr(os, "rename", spoil)
    action = mend(experiment_dir)
    assert action is not None
    assert (action.outcome, action.reason) == ("failed", "checkpoint.json: read again, it is not what was written")


# ------------------------------------------------------------------------------------------- others at work meanwhile

RECORDER = """
import sys
import pytest_scylla
from pytest_scylla.experiment.checkpoint import update_checkpoint
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.layout import RunId

experiment = pytest_scylla.load(sys.argv[1])
with Keeping(experiment.root) as keeping:
    print("asking", flush=True)
    update_checkpoint(experiment, keeping, {RunId("T1", "02", 1): sys.argv[2]})
"""


@pytest.fixture
def recorders() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_what_another_process_records_while_the_runs_are_read_is_not_lost(
    experiment_dir: Path, recorders: list[subprocess.Popen[str]]
) -> None:
    """The run is not yet there when the disk is looked at; the other process finishes it, and then records it."""
    state = state_of(experiment_dir, FIRST)
    assert state is not None
    record(experiment_dir, FIRST, None)
    record(experiment_dir, SECOND, "agent_complete")
    (experiment_dir / str(FIRST)).rename(experiment_dir.parent / "in the making")

    def read_runs() -> dict[RunId, RunFacts]:
        facts = facts_in(experiment_dir)
        assert facts[FIRST].status == "missing"
        (experiment_dir.parent / "in the making").rename(experiment_dir / str(FIRST))
        command = [sys.executable, "-c", RECORDER, str(experiment_dir), state]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        recorders.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "asking\n"
        return facts

    with Keeping(experiment_dir) as keeping:
        action = repair_checkpoint(pytest_scylla.load(experiment_dir), keeping, read_runs)
    assert action is not None
    assert action.outcome == "done"
    assert recorders[0].wait(60) == 0
    assert state_of(experiment_dir, FIRST) == state
    assert audit(experiment_dir) == ()


def test_the_runs_are_read_after_whatever_is_recorded_by_then(experiment_dir: Path) -> None:
    """A run that was finished after the session's own audit is not taken out of the checkpoint again."""
    state = state_of(experiment_dir, FIRST)
    states: list[State] = ["passed", "failed"]
    (experiment_dir / str(FIRST)).rename(experiment_dir.parent / "in the making")
    record(experiment_dir, FIRST, None)
    record(experiment_dir, SECOND, None)
    assert facts_in(experiment_dir)[FIRST].status == "missing"
    (experiment_dir.parent / "in the making").rename(experiment_dir / str(FIRST))
    with Keeping(experiment_dir) as keeping:
        update_checkpoint(pytest_scylla.load(experiment_dir), keeping, {FIRST: states[state == "failed"]})
    mend(experiment_dir)
    assert state_of(experiment_dir, FIRST) == state
    assert state_of(experiment_dir, SECOND) is not None
