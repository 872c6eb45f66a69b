"""checkpoint.json: what it records of a run, the hash by which it knows its configuration, and its updates.

Updates come from many processes at once, none is lost, and whoever reads sees one state or the next.
"""

from __future__ import annotations

import copy
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_scylla
from benchmarks.synthetic import checkpoint, experiment_config, small
from pytest_scylla.experiment.checkpoint import (
    AGENT_STEPS,
    EARLY_STEPS,
    FINISHED_STEPS,
    GIVEN_UP_STEPS,
    Checkpoint,
    State,
    UnknownVersion,
    checkpoint_record,
    config_hash,
    configuration_record,
    is_hash_of,
    new_checkpoint,
    readable_part,
    said_of,
    update_checkpoint,
    with_runs,
)
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.experiment.records import Blob, Record, open_experiment
from pytest_scylla.experiment.runner import live_runner
from pytest_scylla.experiment.schemas import as_record, is_valid, load_schema
from pytest_scylla.experiment.writing import CannotWrite

from .locking import KINDS
from .repairing import digest, journal, quarantined, staged

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
OLD = "2026-01-20T06:22:17.394618+00:00"
CONFIG = experiment_config(small())
STATES: tuple[State, ...] = ("passed", "failed", "agent_complete")


def run(number: int, subtest: str = "00", tier: str = "T0") -> RunId:
    return RunId(tier, subtest, number)


def recorded(version: Any = "2.0", **changes: Any) -> dict[str, Any]:
    """A checkpoint that records two runs of T0/00, the second as failed, and a run of T1/01 that lacks its judging."""
    data = checkpoint(
        small(),
        {"T0": {"00": {"1": "passed", "2": "failed"}}, "T1": {"01": {"1": "agent_complete"}}},
        started_at="2026-01-20T06:13:07.515053+00:00",
        last_updated_at=OLD,
    )
    if version == "3.1":
        data.update(
            experiment_state="tiers_running",
            tier_states={"T0": "complete", "T1": "subtests_running"},
            subtest_states={"T0": {"00": "aggregated"}, "T1": {"01": "runs_in_progress"}},
            run_states={
                "T0": {"00": {"1": "worktree_cleaned", "2": "report_written"}},
                "T1": {"01": {"1": "judge_prompt_built", "2": "prompt_written"}},
            },
            last_heartbeat=OLD,
        )
    return {**data, "version": version, **changes}


def without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As much of an experiment as matters here: its configuration and its checkpoint."""
    place = tmp_path / "exp"
    (place / "config").mkdir(parents=True)
    (place / "config" / "experiment.json").write_text(json.dumps(CONFIG, indent=2))
    store(place, recorded())
    return place


def store(root: Path, data: Any) -> None:
    (root / "checkpoint.json").write_text(json.dumps(data, indent=2))


def stored(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "checkpoint.json").read_bytes())
    return found


def record_of(root: Path) -> Record:
    with open_experiment(root) as folder:
        return checkpoint_record(folder)


def update(root: Path, states: dict[RunId, State | None]) -> bool:
    with Keeping(root) as keeping:
        return update_checkpoint(pytest_scylla.load(root), keeping, states)


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_run_is_recorded_as_completed_runs_has_it() -> None:
    found = Checkpoint(recorded())
    assert found.state_of(run(1)) == "passed"
    assert found.state_of(run(2)) == "failed"
    assert found.state_of(run(1, "01", "T1")) == "agent_complete"
    assert [found.state_of(other) for other in (run(3), run(1, "01"), run(1, "00", "T1"), run(1, "00", "T9"))] == [
        None
    ] * 4


def test_version_3_1_also_records_the_step_that_a_run_has_reached() -> None:
    found = Checkpoint(recorded("3.1"))
    assert found.has_steps
    assert found.step_of(run(2)) == "report_written"
    assert found.state_of(run(2)) == "failed"
    assert found.ending_of(run(2, "01", "T1")) is None
    assert found.state_of(run(2, "01", "T1")) == "prompt_written"


def test_version_2_0_has_no_steps_whatever_else_it_holds() -> None:
    found = Checkpoint(recorded(run_states={"T0": {"00": {"3": "pending"}}}))
    assert not found.has_steps
    assert found.step_of(run(3)) is None
    assert found.state_of(run(3)) is None


@pytest.mark.parametrize("states", [None, {}, {"T0": None}, {"T0": {"00": None}}, {"T0": {"00": {"1": None}}}])
def test_steps_may_be_lacking_at_every_level(states: Any) -> None:
    assert Checkpoint(recorded("3.1", run_states=states)).step_of(run(1)) is None


def test_every_step_is_of_one_kind() -> None:
    kinds = (EARLY_STEPS, AGENT_STEPS, FINISHED_STEPS, GIVEN_UP_STEPS)
    assert len(frozenset.union(*kinds)) == sum(map(len, kinds))


@pytest.mark.parametrize("version", ["2.0", "3.1"])
def test_a_sound_checkpoint_is_read_as_it_is(root: Path, version: str) -> None:
    store(root, recorded(version))
    found = record_of(root)
    assert found.sound
    assert found.data == recorded(version)


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("completed_runs", {"../etc": {}}),
        ("completed_runs", {"T0\n": {}}),
        ("completed_runs", {"T0": {"..": {}}}),
        ("completed_runs", {"T0": {"00": {"01": "passed"}}}),
        ("completed_runs", {"T0": {"00": {"0": "passed"}}}),
        ("completed_runs", {"T0": {"00": {"-1": "passed"}}}),
        ("completed_runs", {"T0": {"00": {"run_01": "passed"}}}),
        ("completed_runs", {"T0": {"00": {"\u0661": "passed"}}}),
        ("completed_runs", {"T0": {"00": {"1" * 400: "passed"}}}),
        ("run_states", {"T0": {"00": {"1\x1b[31m": "pending"}}}),
        ("subtest_states", {"T0": {"../00": "aggregated"}}),
        ("tier_states", {"t0": "complete"}),
    ],
)
def test_a_checkpoint_with_an_id_that_is_none_is_invalid(root: Path, key: str, table: Any) -> None:
    store(root, recorded("3.1", **{key: table}))
    found = record_of(root)
    assert found.state == "invalid"
    assert found.data == {}
    (problem,) = found.problems
    assert problem.pointer.startswith(f"/{key}")
    assert problem.message.isprintable()
    assert found.raw == (root / "checkpoint.json").read_bytes()


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "absent"])
def test_what_is_no_file_is_not_opened(root: Path, kind: str) -> None:
    place = root / "checkpoint.json"
    place.rename(root.parent / "elsewhere.json")
    if kind == "link":
        place.symlink_to(root.parent / "elsewhere.json")
    elif kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    assert record_of(root).state == {"directory": "malformed", "absent": "absent"}.get(kind, "unsafe")


def test_the_whole_configuration_is_read(root: Path) -> None:
    with open_experiment(root) as folder:
        assert configuration_record(folder).data == CONFIG
    (root / "config" / "experiment.json").unlink()
    with open_experiment(root) as folder:
        assert configuration_record(folder).state == "absent"
    (root / "config").rmdir()
    (root / "config").symlink_to(root.parent)
    with open_experiment(root) as folder:
        found = configuration_record(folder)
    assert (found.file, found.state) == ("config/experiment.json", "unsafe")


# ------------------------------------------------------------------------------------------------------------- the hash


def test_the_hash_is_the_recorded_one(recorded_experiment: Path) -> None:
    config = json.loads((recorded_experiment / "config" / "experiment.json").read_bytes())
    assert config_hash(config) == "8553442b41f0adc8"
    assert is_hash_of("8553442b41f0adc8", config)


def test_the_hash_leaves_out_how_many_subtests_run_and_how_many_at_once() -> None:
    other = {**CONFIG, "parallel_subtests": 99, "max_subtests": None}
    assert (
        config_hash(other) == config_hash(CONFIG) == config_hash(without(CONFIG, "parallel_subtests", "max_subtests"))
    )


@pytest.mark.parametrize("key", sorted(set(CONFIG) - {"parallel_subtests", "max_subtests"}))
def test_the_hash_covers_everything_else(key: str) -> None:
    assert config_hash({**CONFIG, key: "another"}) != config_hash(CONFIG)
    assert not is_hash_of(config_hash({**CONFIG, key: "another"}), CONFIG) or key == "tiers_to_run"


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert config_hash(dict(reversed(CONFIG.items()))) == config_hash(CONFIG)


LATER = {**without(CONFIG, "parallel_subtests", "max_subtests"), "criteria_file": None, "rubric_file": None}


@pytest.mark.parametrize(
    "hashed",
    [
        LATER,
        without(LATER, "tiers_to_run"),
        {**without(LATER, "tiers_to_run"), "off_peak": False},
        {**without(LATER, "tiers_to_run"), "off_peak": True},
    ],
)
def test_a_hash_by_the_rule_of_a_later_version_of_the_program_is_one_as_well(hashed: dict[str, Any]) -> None:
    stored = digest(json.dumps(hashed, sort_keys=True).encode())[:16]
    assert stored != config_hash(CONFIG)
    assert is_hash_of(stored, CONFIG)
    assert is_hash_of(stored, {**CONFIG, "parallel_high": 2, "parallel_med": 4, "parallel_low": 8}) == (
        "tiers_to_run" not in hashed
    )
    assert not is_hash_of(stored, {**CONFIG, "timeout_seconds": 1})


@pytest.mark.parametrize("stored", ["", "0" * 16, config_hash(CONFIG)[:15], config_hash(CONFIG).upper()])
def test_anything_else_is_no_hash_of_it(stored: str) -> None:
    assert not is_hash_of(stored, CONFIG)


# ------------------------------------------------------------------------------------------------------ recording runs


def test_what_changes_is_the_run_and_the_time_and_nothing_else() -> None:
    before = recorded(note={"kept": [1]})
    untouched = copy.deepcopy(before)
    after = with_runs(before, {run(2): "passed", run(1, "02", "T1"): "failed"}, NOW)
    assert before == untouched
    assert after["completed_runs"] == {
        "T0": {"00": {"1": "passed", "2": "passed"}},
        "T1": {"01": {"1": "agent_complete"}, "02": {"1": "failed"}},
    }
    assert after["last_updated_at"] == "2026-03-01T12:00:00+00:00"
    assert without(after, "completed_runs", "last_updated_at") == without(before, "completed_runs", "last_updated_at")
    assert list(after) == list(before)


def test_the_time_is_written_in_utc() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
    assert with_runs(recorded(), {run(2): "passed"}, elsewhere)["last_updated_at"] == "2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize("version", ["2.0", "3.1"])
def test_where_nothing_changes_nothing_is_said_to_have_been_updated(version: str) -> None:
    before = recorded(version)
    if version == "3.1":
        before["run_states"]["T0"]["00"]["2"] = "worktree_cleaned"
    assert (
        with_runs(before, {run(1): "passed", run(2): "failed", run(7): None, run(1, "05", "T9"): None}, NOW) == before
    )
    assert with_runs(before, {}, NOW) == before


def test_a_run_of_which_nothing_is_done_is_taken_out_and_its_subtest_stays_named() -> None:
    after = with_runs(recorded(), {run(1, "01", "T1"): None, run(2): None}, NOW)
    assert after["completed_runs"] == {"T0": {"00": {"1": "passed"}}, "T1": {"01": {}}}


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("passed", "worktree_cleaned"),
        ("failed", "worktree_cleaned"),
        ("agent_complete", "agent_complete"),
        (None, "pending"),
    ],
)
def test_in_version_3_1_the_step_follows(state: State | None, step: str) -> None:
    before = recorded("3.1")
    after = with_runs(before, {run(1, "01", "T1"): "passed", run(2, "01", "T1"): state}, NOW)
    assert after["run_states"]["T1"]["01"] == {"1": "worktree_cleaned", "2": step}
    assert after["run_states"]["T0"] == before["run_states"]["T0"]
    assert after["completed_runs"]["T1"]["01"].get("2") == state
    kept = ("tier_states", "subtest_states", "experiment_state", "last_heartbeat")
    assert [after[key] for key in kept] == [before[key] for key in kept]


def test_a_run_without_a_step_needs_none_while_nothing_of_it_is_done() -> None:
    after = with_runs(recorded("3.1"), {run(2): None, run(8): None}, NOW)
    assert after["run_states"]["T0"]["00"] == {"1": "worktree_cleaned", "2": "pending"}


@pytest.mark.parametrize("states", [None, {}, {"T0": None}, {"T0": {"00": None}}])
def test_steps_that_are_lacking_are_begun(states: Any) -> None:
    after = with_runs(recorded("3.1", run_states=states), {run(1): "passed"}, NOW)
    assert after["run_states"] == {"T0": {"00": {"1": "worktree_cleaned"}}}
    assert is_valid("checkpoint", after)
    absent = without(recorded("3.1"), "run_states")
    assert with_runs(absent, {run(9): None}, NOW) == absent
    assert with_runs(absent, {run(1): "passed"}, NOW)["run_states"] == {"T0": {"00": {"1": "worktree_cleaned"}}}


def test_version_2_0_gets_no_steps() -> None:
    assert "run_states" not in with_runs(recorded(), {run(9): "passed"}, NOW)


@pytest.mark.parametrize("status", ["running", "paused_rate_limit"])
def test_an_update_is_not_mistaken_for_a_sign_of_life_of_the_program(root: Path, status: str) -> None:
    before = recorded("3.1", status=status, pid=None)
    store(root, before)
    assert update(root, {run(2): "passed"})
    after = stored(root)
    assert after["completed_runs"]["T0"]["00"]["2"] == "passed"
    assert [after[key] for key in ("status", "last_updated_at", "last_heartbeat")] == [status, OLD, OLD]
    assert live_runner(root) is None


any_run = st.builds(
    RunId, st.sampled_from(["T0", "T1", "T12"]), st.sampled_from(["00", "01", "117"]), st.integers(1, 12)
)


@given(
    version=st.sampled_from(["2.0", "3.1"]),
    states=st.dictionaries(any_run, st.sampled_from([*STATES, None]), max_size=8),
)
def test_whatever_is_recorded_is_what_is_read_and_is_sound(version: str, states: dict[RunId, State | None]) -> None:
    before = Checkpoint(recorded(version))
    after = Checkpoint(with_runs(before.data, states, NOW))
    assert is_valid("checkpoint", after.data)
    for one, state in states.items():
        assert after.ending_of(one) == state
    others = {RunId(tier, "0" + subtest, number) for tier in ("T0", "T1") for subtest in "01" for number in (1, 2)}
    for other in others - set(states):
        assert after.ending_of(other) == before.ending_of(other)
        assert after.step_of(other) == before.step_of(other)
    assert with_runs(after.data, states, NOW + timedelta(days=1)) == after.data


# ------------------------------------------------------------------------------------- one that cannot be relied on


def new() -> dict[str, Any]:
    return new_checkpoint(Path("/data/exp"), CONFIG, NOW, "interrupted")


def unsound(data: Any) -> Record:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    record = as_record(Blob("checkpoint.json", "sound", raw), "checkpoint")
    return record._replace(state="invalid", data={}) if record.sound else record


def test_a_new_one_says_what_is_known_and_leaves_out_what_is_not() -> None:
    assert is_valid("checkpoint", new())
    assert new() == {
        "version": "2.0",
        "experiment_id": CONFIG["experiment_id"],
        "experiment_dir": "/data/exp",
        "config_hash": config_hash(CONFIG),
        "completed_runs": {},
        "last_updated_at": "2026-03-01T12:00:00+00:00",
        "status": "interrupted",
        "rate_limit_source": None,
        "rate_limit_until": None,
        "pid": None,
    }


def test_a_new_one_is_in_the_order_of_the_schema() -> None:
    order = [key for key in load_schema("checkpoint")["properties"] if key in new()]
    assert list(new()) == order


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": "2.0", "version": "2.0"}', b"\xff", b'{"pid": NaN}'])
def test_of_one_that_is_no_json_nothing_is_left(data: bytes) -> None:
    assert readable_part(unsound(data), new()) == new()


def test_of_a_sound_one_everything_is_left() -> None:
    record = as_record(Blob("checkpoint.json", "sound", json.dumps(recorded("3.1")).encode()), "checkpoint")
    assert readable_part(record, new()) == recorded("3.1")


def test_of_one_that_breaks_its_schema_the_sound_part_is_left() -> None:
    broken = recorded("3.1", pid="41873", pause_count=-1, note="kept", tier_states={"T0": 7, "T1": "complete"})
    broken["completed_runs"] = {
        "T0": {"00": {"1": "passed", "2": "PASSED", "x": "passed"}, "../..": {"1": "passed"}},
        "T1": ["01"],
        "T2": {"01": {"1": "failed"}},
    }
    found = readable_part(unsound(broken), new())
    assert found["completed_runs"] == {"T0": {"00": {"1": "passed"}}, "T2": {"01": {"1": "failed"}}}
    assert found["tier_states"] == {"T1": "complete"}
    assert found["pid"] is None
    assert "pause_count" not in found
    changed = ("completed_runs", "tier_states", "pid", "pause_count", "last_updated_at")
    assert without(found, *changed) == without(broken, *changed)
    assert found["last_updated_at"] == "2026-03-01T12:00:00+00:00"
    assert is_valid("checkpoint", found)


@pytest.mark.parametrize("version", ["1.0", "3.0", "9.9", 2.0, None, ["2.0"]])
def test_one_of_an_unknown_version_is_nobodys_to_change(version: Any) -> None:
    with pytest.raises(UnknownVersion, match=r"expected version 2\.0 or 3\.1, found"):
        readable_part(unsound(recorded(version=version)), new())


def test_one_without_a_version_is_of_the_first() -> None:
    assert readable_part(unsound(without(recorded(), "version")), new())["version"] == "2.0"


@pytest.mark.parametrize("updated", [OLD, 17])
def test_no_sign_of_life_is_made_up_for_a_program_that_is_said_to_be_at_work(updated: Any) -> None:
    found = readable_part(unsound(recorded(status="running", pid="1", last_updated_at=updated)), new())
    assert found["status"] == "running"
    assert found.get("last_updated_at") == (OLD if updated == OLD else None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["T0", "00", "1", "01", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    key=st.sampled_from(sorted(set(recorded("3.1")) - {"version"})),
    value=json_values,
)
def test_whatever_one_key_holds_the_sound_part_is_sound_and_the_other_keys_are_kept(key: str, value: Any) -> None:
    broken = recorded("3.1", **{key: value})
    found = readable_part(unsound(broken), new())
    assert is_valid("checkpoint", found)
    for other in set(broken) - {key, "last_updated_at"}:
        assert found[other] == broken[other]


# ------------------------------------------------------------------------------------------------------------- updates


def test_an_update_is_on_the_disk(root: Path) -> None:
    (root / "checkpoint.json").chmod(0o640)
    before = stored(root)
    assert update(root, {run(2): "passed", run(5): "agent_complete"})
    after = stored(root)
    assert after["completed_runs"]["T0"]["00"] == {"1": "passed", "2": "passed", "5": "agent_complete"}
    assert after["last_updated_at"] > OLD
    assert without(after, "completed_runs", "last_updated_at") == without(before, "completed_runs", "last_updated_at")
    assert stat.S_IMODE((root / "checkpoint.json").stat().st_mode) == 0o640
    assert staged(root) == []


def test_a_sound_checkpoint_is_carried_over_so_nothing_goes_to_the_quarantine(root: Path) -> None:
    update(root, {run(2): "passed"})
    assert quarantined(root) == {}
    assert journal(root) == []


@pytest.mark.parametrize("end", ["", "\n"])
def test_it_is_written_as_the_old_one_was(root: Path, end: str) -> None:
    (root / "checkpoint.json").write_text(json.dumps(recorded(), indent=2) + end)
    update(root, {run(2): "passed"})
    text = (root / "checkpoint.json").read_text()
    assert text == json.dumps(stored(root), indent=2) + end
    assert list(stored(root)) == list(recorded())


def test_an_update_that_changes_nothing_writes_nothing(root: Path) -> None:
    before = (root / "checkpoint.json").stat()
    assert not update(root, {run(1): "passed", run(9): None})
    after = (root / "checkpoint.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


UNSOUND = {"malformed": b'{"version": "2.0", ', "invalid": json.dumps(recorded(pid="1", note=3)).encode()}


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND.keys())
def test_one_that_cannot_be_relied_on_is_quarantined_and_made_anew(root: Path, data: bytes) -> None:
    (root / "checkpoint.json").write_bytes(data)
    assert update(root, {run(3): "passed"})
    after = stored(root)
    assert record_of(root).sound
    assert after["config_hash"] == config_hash(CONFIG)
    assert after["completed_runs"]["T0"]["00"]["3"] == "passed"
    assert ("note" in after) == (b"note" in data)
    assert after["status"] == ("completed" if b"note" in data else "interrupted")
    assert quarantined(root) == {digest(data): data}
    (entry,) = journal(root)
    assert is_valid("journal-entry", entry)
    assert (entry["item"], entry["file"], entry["solves"]) == ("checkpoint", "checkpoint.json", [])
    assert entry["sha256"] == digest((root / "checkpoint.json").read_bytes())
    assert entry["replaced"]["sha256"] == digest(data)


def test_one_that_is_absent_is_made(root: Path) -> None:
    (root / "checkpoint.json").unlink()
    assert update(root, {run(3): "failed"})
    after = stored(root)
    assert after["completed_runs"] == {"T0": {"00": {"3": "failed"}}}
    assert after["experiment_dir"] == str(root)
    assert live_runner(root) is None
    (entry,) = journal(root)
    assert is_valid("journal-entry", entry)
    assert entry["replaced"] is None


def test_a_directory_in_its_place_is_moved_to_the_quarantine_as_it_is(root: Path) -> None:
    (root / "checkpoint.json").unlink()
    (root / "checkpoint.json").mkdir(mode=0o700)
    (root / "checkpoint.json" / "inside").write_text("kept")
    assert update(root, {run(3): "failed"})
    assert stored(root)["completed_runs"] == {"T0": {"00": {"3": "failed"}}}
    assert stat.S_IMODE((root / "checkpoint.json").stat().st_mode) & 0o111 == 0
    (entry,) = journal(root)
    assert is_valid("journal-entry", entry)
    assert (root / entry["replaced"]["quarantine"] / "inside").read_text() == "kept"


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_may_not_be_touched_is_not(root: Path, kind: str) -> None:
    place, elsewhere = root / "checkpoint.json", root.parent / "elsewhere.json"
    place.rename(elsewhere)
    place.symlink_to(elsewhere) if kind == "link" else os.mkfifo(place)
    before = elsewhere.read_bytes()
    with pytest.raises(CannotWrite, match=r"checkpoint\.json: expected a file, found a link, pipe"):
        update(root, {run(2): "passed"})
    assert elsewhere.read_bytes() == before
    assert place.is_symlink() == (kind == "link")
    assert staged(root) == []


def test_one_of_an_unknown_version_is_not_written(root: Path) -> None:
    store(root, recorded(version="9.9"))
    with pytest.raises(CannotWrite, match=r'found "9\.9"'):
        update(root, {run(2): "passed"})
    assert stored(root) == recorded(version="9.9")


@pytest.mark.parametrize("sound", [True, False], ids=["sound", "invalid"])
@pytest.mark.parametrize("changed", [{"config_hash": "0123456789abcdef"}, {"experiment_id": "another"}])
def test_one_of_another_configuration_is_for_a_person_and_not_written(
    root: Path, changed: dict[str, str], sound: bool
) -> None:
    store(root, recorded(**changed, **({} if sound else {"pid": "1"})))
    before = (root / "checkpoint.json").read_bytes()
    with pytest.raises(CannotWrite, match=f'found "{next(iter(changed.values()))}"'):
        update(root, {run(2): "passed"})
    assert (root / "checkpoint.json").read_bytes() == before


def test_what_it_says_of_a_run_is_read_also_where_another_part_of_it_is_invalid(root: Path) -> None:
    store(root, recorded(pid="1"))
    with open_experiment(root) as folder:
        assert (said_of(folder, run(1)), said_of(folder, run(9))) == ("passed", None)
    store(root, recorded(completed_runs={"T0": {"00": {"1": ["passed"], "2": "passed"}}}))
    with open_experiment(root) as folder:
        assert (said_of(folder, run(1)), said_of(folder, run(2))) == (None, "passed")


def test_without_a_configuration_none_is_made(root: Path) -> None:
    experiment = pytest_scylla.load(root)
    (root / "config" / "experiment.json").write_text("{")
    (root / "checkpoint.json").unlink()
    with Keeping(root) as keeping, pytest.raises(CannotWrite, match=r"config/experiment\.json is malformed"):
        update_checkpoint(experiment, keeping, {run(2): "passed"})
    assert not (root / "checkpoint.json").exists()


@pytest.mark.parametrize("name", ["checkpoint.lock", "checkpoint.lease"])
def test_a_link_in_the_place_of_the_lock_is_not_followed(root: Path, name: str) -> None:
    with Keeping(root):
        pass
    victim = root.parent / "victim"
    victim.write_text("content")
    (root / KEEPING / "locks" / name).symlink_to(victim)
    if name == "checkpoint.lock":
        with pytest.raises(CannotWrite, match=r"locks/checkpoint\.lock"):
            update(root, {run(2): "passed"})
        assert stored(root) == recorded()
    else:
        assert update(root, {run(2): "passed"})
    assert victim.read_text() == "content"


def test_what_cannot_be_written_leaves_the_old_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    before = (root / "checkpoint.json").read_bytes()
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CannotWrite, match=r"checkpoint\.json: No space left"):
        update(root, {run(2): "passed"})
    assert (root / "checkpoint.json").read_bytes() == before
    assert staged(root) == []


# ---------------------------------------------------------------------------------------------- many processes at once

WORKER = """
import sys
import pytest_scylla
from pathlib import Path
from pytest_scylla.experiment.checkpoint import update_checkpoint
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.layout import RunId
from tests.unit.locking import prepare

root, kind, tier, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
prepare(kind)
experiment = pytest_scylla.load(root)
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, count + 1):
    with Keeping(root) as keeping:
        assert update_checkpoint(experiment, keeping, {RunId(tier, "07", number): "passed" if number % 2 else "failed"})
    if number == 3:
        print("at work", flush=True)
"""


@pytest.fixture
def workers() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


def start(workers: list[subprocess.Popen[str]], root: Path, kind: str, tier: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(root), kind, tier, str(count)]
    worker = subprocess.Popen(command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    workers.append(worker)
    assert hear(worker) == "ready"
    return worker


def hear(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def let_go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


@pytest.mark.parametrize("version", ["2.0", "3.1"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_many_processes_that_update_at_once_none_loses_anothers_update(
    root: Path, workers: list[subprocess.Popen[str]], kind: str, version: str
) -> None:
    store(root, recorded(version))
    tiers = ("T3", "T4", "T5", "T6")
    for tier in tiers:
        start(workers, root, kind, tier, 6)
    for worker in workers:
        let_go(worker)
    assert [worker.wait(60) for worker in workers] == [0] * len(tiers)
    after = stored(root)
    expected = {str(number): "passed" if number % 2 else "failed" for number in range(1, 7)}
    assert {tier: after["completed_runs"][tier]["07"] for tier in tiers} == dict.fromkeys(tiers, expected)
    assert after["completed_runs"]["T0"] == recorded()["completed_runs"]["T0"]
    if version == "3.1":
        assert all(set(after["run_states"][tier]["07"].values()) == {"worktree_cleaned"} for tier in tiers)
    assert staged(root) == []


def test_whoever_reads_meanwhile_sees_one_state_or_the_next_also_after_a_kill(
    root: Path, workers: list[subprocess.Popen[str]]
) -> None:
    worker = start(workers, root, "flock", "T3", 100_000)
    let_go(worker)
    assert hear(worker) == "at work"
    seen = [3]
    while len(seen) < 30:
        found = as_record(Blob("checkpoint.json", "sound", (root / "checkpoint.json").read_bytes()), "checkpoint")
        assert found.sound, found
        updates = len(found.data["completed_runs"]["T3"]["07"])
        assert updates >= seen[-1]
        if updates > seen[-1]:
            seen.append(updates)
    worker.kill()
    worker.wait()
    left = record_of(root)
    assert left.sound
    assert update(root, {run(2): "passed"})
    after = stored(root)
    assert after["completed_runs"]["T3"] == left.data["completed_runs"]["T3"]
    assert after["completed_runs"]["T0"]["00"]["2"] == "passed"
    assert staged(root) == []
