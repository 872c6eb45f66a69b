"""What surviving files give back, value by value, and what nothing gives back, which is refused and not invented."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import (
    AGENT_MODEL,
    JUDGE_MODELS,
    JsonObject,
    agent_reply,
    agent_stdout,
    consensus,
    judgment,
    response,
)
from pytest_scylla.repair.transaction import RepairOutcome

from . import damage as do
from .damage import (
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
from .repairing import actions, repair, repair_all

RUN = "T0/00/run_01"
SLOT = SLOTS[1]
TIMING, JUDGE_TIMING, SLOT_TIMING = "agent/timing.json", "judge/timing.json", f"{SLOT}/timing.json"
STDERR = ("agent/stderr.log", "agent/cmd_0000_stderr.log")
PATHS = {"workspace_path", "logs_path", "command_log_path"}
PLAIN = "I wrote tally.py.\n\nAll of its tests pass.\n"


@pytest.fixture
def run(one_run_experiment: Path, tmp_path: Path) -> Run:
    """A healthy run, to damage."""
    shutil.copytree(one_run_experiment, tmp_path / "exp")
    return Run(tmp_path / "exp", RUN)


def mend(run: Run, *damages: Damage) -> RepairOutcome:
    """Damage the run, and repair it."""
    for damage in damages:
        damage(run)
    outcome = repair(run.root, run.run_id)
    assert not [action for action in actions(outcome) if action.outcome == "failed"]
    return outcome


def done(outcome: RepairOutcome) -> list[str]:
    return [action.what for action in actions(outcome) if action.outcome == "done"]


def refused(outcome: RepairOutcome) -> dict[str, str]:
    """Why a file was refused, by its name."""
    return {action.what: action.reason or "" for action in actions(outcome) if action.outcome == "refused"}


def present(run: Run, name: str) -> bool:
    return os.path.lexists(run.path(name))


def but(record: JsonObject, *keys: str) -> JsonObject:
    return {key: value for key, value in record.items() if key not in keys}


# ---------------------------------------------------------------------------------------------------------
# The recorded experiment: one kind of file is lost in all runs, and comes back


@pytest.fixture
def recorded(recorded_experiment: Path, tmp_path: Path) -> Path:
    """A copy of the recorded experiment, to damage."""
    root = tmp_path / "recorded"
    shutil.copytree(recorded_experiment, root, copy_function=shutil.copyfile)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    return root


def lost_and_restored(root: Path, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Delete a file in every run of an experiment and repair it: what each was, and what it is."""
    originals = {path: path.read_bytes() for path in sorted(root.glob(f"T*/*/run_*/{name}"))}
    for path in originals:
        path.unlink()
    repair_all(root)
    for path, original in originals.items():
        yield original, path.read_bytes()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("agent/output.txt", 7),
        ("agent/stdout.log", 7),
        ("agent/cmd_0000_stdout.log", 7),
        ("agent/stderr.log", 7),
        ("agent/result.json", 7),
        ("judge/judge_*/judgment.json", 21),
        ("judge/judge_*/response.txt", 21),
        ("judge/judge_*/stdout.log", 21),
    ],
)
def test_a_recorded_file_comes_back_byte_for_byte(recorded: Path, name: str, count: int) -> None:
    pairs = list(lost_and_restored(recorded, name))
    assert sum(original == restored for original, restored in pairs) == len(pairs) == count


def test_every_recorded_run_result_comes_back_but_for_its_paths(recorded: Path) -> None:
    pairs = [(json.loads(old), json.loads(new)) for old, new in lost_and_restored(recorded, RUN_RESULT)]
    assert len(pairs) == 7
    for original, restored in pairs:
        assert list(restored) == list(original)
        assert but(restored, *PATHS) == but(original, *PATHS)
        assert {key for key in original if original[key] != restored[key]} == PATHS


def test_every_recorded_consensus_comes_back_in_score_passed_grade_and_reasoning(recorded: Path) -> None:
    pairs = [(json.loads(old), json.loads(new)) for old, new in lost_and_restored(recorded, CONSENSUS)]
    assert len(pairs) == 7
    for original, restored in pairs:
        for key in ("score", "passed", "grade", "reasoning"):
            assert restored[key] == original[key]


@pytest.mark.parametrize(
    ("name", "key", "count"),
    [(TIMING, "agent_duration_seconds", 7), (JUDGE_TIMING, "judge_duration_seconds", 7)],
)
def test_every_recorded_duration_comes_back(recorded: Path, name: str, key: str, count: int) -> None:
    pairs = [(json.loads(old), json.loads(new)) for old, new in lost_and_restored(recorded, name)]
    assert [restored[key] for _, restored in pairs] == [original[key] for original, _ in pairs]
    assert len(pairs) == count


def lose_in_every_run(root: Path, *names: str) -> dict[Path, bytes]:
    """Delete files of every run of an experiment and repair it; what each was."""
    places = [run / name for run in sorted(root.glob("T*/*/run_*")) for name in names]
    originals = {place: place.read_bytes() for place in places}
    for place in places:
        place.unlink()
    repair_all(root)
    return originals


def test_all_that_derives_comes_back_at_once_from_the_raw_recorded_files_and_run_result(recorded: Path) -> None:
    originals = lose_in_every_run(recorded, OUTPUT, RESULT, *JUDGMENTS, CONSENSUS)
    assert len(originals) == 7 * 6
    for place, original in originals.items():
        if place.match("judge/result.json"):
            for key in ("score", "passed", "grade", "reasoning"):
                assert json.loads(place.read_bytes())[key] == json.loads(original)[key]
        else:
            assert place.read_bytes() == original, place


def test_without_run_result_nobody_guesses_which_of_several_recorded_verdicts_counted(recorded: Path) -> None:
    originals = lose_in_every_run(recorded, OUTPUT, RESULT, *JUDGMENTS, RUN_RESULT)
    restored = [place for place in originals if place.exists()]
    assert len([place for place in restored if place.name == "judgment.json"]) == 21 - 5
    for place in restored:
        whole = all((place.parent / name).exists() for name in JUDGMENTS)
        if place.name != "run_result.json":
            assert place.read_bytes() == originals[place], place
        elif whole:
            final, original = json.loads(place.read_bytes()), json.loads(originals[place])
            assert but(final, *PATHS) == but(original, *PATHS)


# ---------------------------------------------------------------------------------------------------------
# One file of a healthy run


@pytest.mark.parametrize("name", [*FILE_COPIES, STDERR[0], RESULT, *JUDGMENTS, *REPLIES, CONSENSUS])
def test_a_lost_file_comes_back_byte_for_byte(run: Run, name: str) -> None:
    original = run.read(name)
    outcome = mend(run, lose(name))
    assert run.read(name) == original
    assert done(outcome) == [name]
    assert not refused(outcome)
    assert (outcome.audit.status, outcome.audit.findings) == ("completed", ())


@pytest.mark.parametrize("name", [*FILE_COPIES, RESULT, *JUDGMENTS, CONSENSUS])
@pytest.mark.parametrize("keep", [0, 0.5, -2])
def test_a_truncated_file_comes_back_byte_for_byte(run: Run, name: str, keep: int | float) -> None:
    original = run.read(name)
    mend(run, do.cut(name, keep))
    assert run.read(name) == original


def test_a_lost_run_result_comes_back_with_the_paths_of_today(run: Run) -> None:
    original = run.load(RUN_RESULT)
    outcome = mend(run, lose(RUN_RESULT))
    restored = run.load(RUN_RESULT)
    assert list(restored) == list(original)
    assert but(restored, *PATHS) == but(original, *PATHS)
    place = f"{run.root.resolve()}/{RUN}"
    assert {key: restored[key] for key in PATHS} == {
        "workspace_path": f"{place}/workspace",
        "logs_path": f"{place}/agent",
        "command_log_path": f"{place}/agent/command_log.json",
    }
    assert (outcome.audit.status, outcome.audit.findings) == ("completed", ())


def test_nothing_gives_back_what_no_other_file_holds(run: Run) -> None:
    names = (LOG, "judge_prompt.md", SLOT_TIMING)
    outcome = mend(run, lose(*names))
    assert actions(outcome) == []
    assert not any(present(run, name) for name in names)
    assert {found.code for found in outcome.audit.findings} == {"side-file-missing"}


# ---------------------------------------------------------------------------------------------------------
# The agent's output and standard error


def test_the_output_is_the_text_that_most_copies_agree_on(run: Run) -> None:
    original = run.read(OUTPUT)
    mend(run, overwrite(OUTPUT, agent_stdout(agent_reply(text="Something else altogether."))))
    assert run.read(OUTPUT) == original


def test_the_output_comes_back_from_the_record_where_every_file_is_lost(run: Run) -> None:
    originals = {name: run.read(name) for name in FILE_COPIES}
    outcome = mend(run, lose(*FILE_COPIES))
    assert {name: run.read(name) for name in FILE_COPIES} == originals
    (first, *_) = actions(outcome)
    assert first.sources == (f"{RUN}/{RESULT}",)


def test_the_git_output_of_the_run_itself_is_no_copy_of_the_agents(run: Run) -> None:
    text = run.read(OUTPUT)
    outcome = mend(run, lose(*FILE_COPIES, RESULT), overwrite("cmd_0000_stdout.log", text))
    assert outcome.audit.status == "partial"
    assert not present(run, OUTPUT)


@pytest.mark.parametrize("also_lost", [(), (STDERR[1],)])
def test_the_standard_error_comes_back_from_its_copy_or_from_the_record(run: Run, also_lost: tuple[str, ...]) -> None:
    original = run.read(STDERR[0])
    mend(run, overwrite(STDERR[1], original), lose(STDERR[0], *also_lost))
    assert run.read(STDERR[0]) == original


def test_the_record_holds_null_for_a_standard_error_that_is_lost_everywhere(run: Run) -> None:
    outcome = mend(run, lose(*STDERR, RESULT))
    assert run.load(RESULT)["stderr"] is None
    assert not present(run, STDERR[0])
    assert outcome.audit.status == "completed"


# ---------------------------------------------------------------------------------------------------------
# agent/result.json: tokens, cost, calls


def test_input_tokens_and_cache_reads_make_the_tokens_of_the_input(run: Run) -> None:
    retell(reply=agent_reply(input_tokens=33, cache_read_tokens=195735))(run)
    mend(run, lose(RUN_RESULT))
    assert run.load(RUN_RESULT)["tokens_input"] == 195768


LONG_NAMES = {"cache_creation_input_tokens", "cache_read_input_tokens"}


@pytest.mark.parametrize("stdout", [None, PLAIN], ids=["a reply", "plain text"])
def test_cache_tokens_are_read_under_long_names_and_written_under_short_ones(run: Run, stdout: str | None) -> None:
    retell(stdout=stdout)(run)
    stats = run.load(RESULT)["token_stats"]
    do.lengthen_cache_names(RESULT, RUN_RESULT)(run)
    assert set(run.load(RESULT)["token_stats"]) >= LONG_NAMES
    mend(run, *[put(name, "/exit_code", 1) for name in (RESULT, RUN_RESULT)])
    for name in (RESULT, RUN_RESULT):
        assert run.load(name)["token_stats"] == stats
        assert list(run.load(name)["token_stats"]) == list(stats)
    assert run.load(RUN_RESULT)["tokens_input"] == stats["input_tokens"] + stats["cache_read_tokens"]


@pytest.mark.parametrize("names", [(RUN_RESULT,), (RESULT,), (RESULT, RUN_RESULT)], ids="-".join)
def test_cache_tokens_that_an_old_regeneration_lost_come_back_from_the_output(run: Run, names: tuple[str, ...]) -> None:
    originals = {name: run.load(name) for name in names}
    outcome = mend(run, *[do.lose_cache_counts(name) for name in names])
    assert {name: run.load(name) for name in names} == originals
    assert outcome.audit.status == "completed"


def test_the_output_counts_where_both_records_contradict_it_alike(run: Run) -> None:
    originals = {name: run.load(name) for name in (RESULT, RUN_RESULT)}
    for name in originals:
        do.add(name, "/token_stats/output_tokens", 5)(run)
    outcome = mend(run, do.add(RUN_RESULT, "/tokens_output", 5))
    assert {name: run.load(name) for name in originals} == originals
    assert (outcome.audit.status, refused(outcome)) == ("completed", {})


def test_calls_are_the_turns_of_the_reply(run: Run) -> None:
    retell(reply=agent_reply(turns=11))(run)
    mend(run, put(RESULT, "/api_calls", 99), put(RESULT, "/exit_code", 1))
    assert run.load(RESULT)["api_calls"] == 11


@pytest.mark.parametrize(("damage", "calls"), [(put(RESULT, "/exit_code", 1), 7), (lose(RESULT), None)])
def test_calls_of_a_reply_without_turns_are_the_old_records_or_unknown(
    run: Run, damage: Damage, calls: int | None
) -> None:
    retell(reply=agent_reply(turns=7), stdout=agent_stdout(but(agent_reply(), "num_turns")))(run)
    mend(run, damage)
    assert run.load(RESULT)["api_calls"] == calls


def test_a_cost_that_the_reply_does_not_tell_is_the_run_results(run: Run) -> None:
    retell(reply=agent_reply(cost_usd=0.25), stdout=agent_stdout(but(agent_reply(), "total_cost_usd")))(run)
    mend(run, lose(RESULT))
    assert run.load(RESULT)["cost_usd"] == 0.25


def test_a_cost_that_nothing_tells_is_null(run: Run) -> None:
    retell(stdout=agent_stdout(but(agent_reply(), "total_cost_usd")))(run)
    mend(run, lose(RESULT, RUN_RESULT))
    assert run.load(RESULT)["cost_usd"] is None
    assert run.load(RUN_RESULT)["cost_usd"] is None


def test_plain_text_holds_no_token_counts_to_rebuild_the_record_from(run: Run) -> None:
    outcome = mend(run, retell(stdout=PLAIN), lose(RESULT))
    assert refused(outcome) == {RESULT: "the agent's output holds no token counts"}
    assert not present(run, RESULT)


def test_an_output_that_is_not_utf8_cannot_be_held_by_a_record(run: Run) -> None:
    text = run.read(OUTPUT)[:-1] + b"\n\xff\n"
    outcome = mend(run, *[overwrite(name, text) for name in FILE_COPIES], lose(RESULT))
    assert list(refused(outcome)) == [RESULT]
    assert "not UTF-8" in refused(outcome)[RESULT]
    assert not present(run, RESULT)


# ---------------------------------------------------------------------------------------------------------
# The exit code


def log_of(*codes: int | None) -> Damage:
    """Let the command log hold commands with these exit codes."""

    def how(log: JsonObject) -> None:
        log.update(commands=[dict(log["commands"][0], exit_code=code) for code in codes], total_commands=len(codes))

    return do.edit(LOG, how)


def test_the_exit_code_is_the_last_commands(run: Run) -> None:
    mend(run, log_of(1, 2, 7), lose(RESULT))
    assert run.load(RESULT)["exit_code"] == run.load(RUN_RESULT)["exit_code"] == 7


@pytest.mark.parametrize(
    "damage", [lose(LOG), log_of(7, None), log_of(), do.cut(LOG, 0.5)], ids=["lost", "null", "no command", "cut"]
)
def test_without_a_command_that_tells_it_the_exit_code_is_the_run_results(run: Run, damage: Damage) -> None:
    retell(exit_code=3)(run)
    mend(run, damage, lose(RESULT))
    assert run.load(RESULT)["exit_code"] == 3


def test_a_stale_record_is_no_witness_of_its_own_exit_code(run: Run) -> None:
    mend(run, lose(LOG), put(RESULT, "/exit_code", 5), put(RESULT, "/cost_usd", 99))
    assert run.load(RESULT)["exit_code"] == run.load(RUN_RESULT)["exit_code"] == 0


def test_the_exit_code_of_run_result_is_the_agents_records_where_the_log_is_lost(run: Run) -> None:
    retell(exit_code=3)(run)
    mend(run, lose(LOG, RUN_RESULT))
    assert run.load(RUN_RESULT)["exit_code"] == 3


def test_no_exit_code_is_invented(run: Run) -> None:
    outcome = mend(run, lose(LOG, RESULT, RUN_RESULT))
    assert refused(outcome)[RESULT] == "no record holds the exit code"
    assert refused(outcome)[RUN_RESULT] == "no record holds the agent's token counts and exit code"
    assert not present(run, RESULT)
    assert not present(run, RUN_RESULT)
    assert outcome.audit.status == "results"


# ---------------------------------------------------------------------------------------------------------
# Durations


def agent_says(timing: float, log: float, run_result: float) -> Damage:
    """Let three records give the agent's duration."""
    return each(
        put(TIMING, "/agent_duration_seconds", timing),
        put(LOG, "/commands/0/duration_seconds", log),
        put(RUN_RESULT, "/agent_duration_seconds", run_result),
    )


@pytest.mark.parametrize(
    ("lost", "expected"),
    [((), 41.0), ((LOG,), 41.0), ((TIMING,), 42.0), ((TIMING, LOG), 43.0)],
    ids=["timing.json", "timing.json alone", "the command log", "the old run_result.json"],
)
def test_the_agents_duration_is_the_rawest_records(run: Run, lost: tuple[str, ...], expected: float) -> None:
    outcome = mend(run, agent_says(41.0, 42.0, 43.0), lose(*lost))  # run_result.json's sum is wrong now
    final = run.load(RUN_RESULT)
    assert final["agent_duration_seconds"] == expected
    assert final["duration_seconds"] == expected + final["judge_duration_seconds"]
    assert outcome.audit.status == "completed"


def test_no_duration_of_the_agent_is_invented(run: Run) -> None:
    outcome = mend(run, lose(TIMING, LOG, RUN_RESULT))
    assert refused(outcome) == {RUN_RESULT: "no record holds the agent's duration"}
    assert not present(run, RUN_RESULT)


def test_the_agents_timing_comes_back_from_the_command_log(run: Run) -> None:
    log, original = run.load(LOG), run.load(TIMING)
    mend(run, lose(TIMING))
    restored = run.load(TIMING)
    assert restored == {
        "agent_duration_seconds": log["commands"][-1]["duration_seconds"],
        "measured_at": log["generated_at"],
    }
    assert restored["agent_duration_seconds"] == original["agent_duration_seconds"]


def test_the_command_that_ran_the_agent_is_the_last(run: Run) -> None:
    def how(log: JsonObject) -> None:
        (command,) = log["commands"]
        first = {**command, "command": ["git", "status"], "duration_seconds": 0.5}
        log.update(commands=[first, {**command, "duration_seconds": 42.0}], total_commands=2)

    mend(run, do.edit(LOG, how), lose(TIMING, RUN_RESULT))
    assert run.load(TIMING)["agent_duration_seconds"] == run.load(RUN_RESULT)["agent_duration_seconds"] == 42.0


@pytest.mark.parametrize(
    "damage",
    [lose(LOG), put(LOG, "/commands/0/duration_seconds", None), do.drop(LOG, "/generated_at")],
    ids=["no log", "no duration", "no moment"],
)
def test_a_timing_that_the_command_log_does_not_give_stays_lost(run: Run, damage: Damage) -> None:
    outcome = mend(run, damage, lose(TIMING))
    assert done(outcome) == []
    assert not present(run, TIMING)


EARLY, MIDDLE, LATE = (f"2026-03-01T0{hour}:00:00+00:00" for hour in (1, 2, 3))


def judges_say(whole: float, at: str, *slots: tuple[float, str]) -> Damage:
    """Let the judging as a whole, and each slot, have taken so long until then."""
    damages = [overwrite(JUDGE_TIMING, json.dumps({"judge_duration_seconds": whole, "measured_at": at}))]
    for slot, (seconds, moment) in zip(SLOTS, slots, strict=True):
        damages.append(
            overwrite(f"{slot}/timing.json", json.dumps({"judge_duration_seconds": seconds, "measured_at": moment}))
        )
    return each(*damages)


THREE = ((1.0, EARLY), (2.0, MIDDLE), (4.0, EARLY))


@pytest.mark.parametrize(
    ("at", "expected"),
    [(LATE, 10.0), (MIDDLE, 10.0), (EARLY, 7.0)],
    ids=["newer than every slot", "as new as the newest", "older than a slot"],
)
def test_the_judges_duration_is_that_of_the_whole_unless_a_slot_was_judged_again_since(
    run: Run, at: str, expected: float
) -> None:
    mend(run, judges_say(10.0, at, *THREE), lose(RUN_RESULT))
    final = run.load(RUN_RESULT)
    assert final["judge_duration_seconds"] == expected
    assert final["duration_seconds"] == final["agent_duration_seconds"] + expected


def test_moments_are_compared_as_moments_and_not_as_texts(run: Run) -> None:
    east = "2026-03-01T03:30:00+02:00"  # half an hour before MIDDLE
    mend(run, judges_say(10.0, east, *THREE), lose(RUN_RESULT))
    assert run.load(RUN_RESULT)["judge_duration_seconds"] == 7.0


def test_without_the_whole_ones_timing_the_judges_duration_is_the_slots_sum(run: Run) -> None:
    mend(run, judges_say(10.0, LATE, *THREE), lose(RUN_RESULT, JUDGE_TIMING))
    assert run.load(RUN_RESULT)["judge_duration_seconds"] == 7.0
    assert run.load(JUDGE_TIMING) == {"judge_duration_seconds": 7.0, "measured_at": MIDDLE}


@pytest.mark.parametrize(("stored", "expected"), [(7.02, 7.02), (6.5, 7.0), (9.0, 7.0)])
def test_the_judging_as_a_whole_took_what_run_result_says_if_that_is_nearly_the_slots_sum(
    run: Run, stored: float, expected: float
) -> None:
    mend(run, judges_say(7.0, LATE, *THREE), put(RUN_RESULT, "/judge_duration_seconds", stored), lose(JUDGE_TIMING))
    assert run.load(JUDGE_TIMING)["judge_duration_seconds"] == expected


def test_the_old_run_results_duration_of_the_judges_counts_where_a_slots_is_lost_too(run: Run) -> None:
    mend(
        run,
        lose(JUDGE_TIMING, SLOT_TIMING),
        put(RUN_RESULT, "/judge_duration_seconds", 12.5),
        put(RUN_RESULT, "/judge_score", 0.123),
    )
    assert run.load(RUN_RESULT)["judge_duration_seconds"] == 12.5


def test_no_duration_of_the_judges_is_invented(run: Run) -> None:
    outcome = mend(run, lose(JUDGE_TIMING, SLOT_TIMING, RUN_RESULT))
    assert refused(outcome) == {RUN_RESULT: "no record holds the judges' duration"}
    assert not present(run, RUN_RESULT)
    assert not present(run, JUDGE_TIMING)


# ---------------------------------------------------------------------------------------------------------
# judgment.json


def replies(*verdicts: JsonObject, names: tuple[str, ...] = REPLIES) -> Damage:
    """Let the slot's replies hold these verdicts."""
    text = "\n".join(response(verdict, "On reflection:") for verdict in verdicts)
    return each(*[overwrite(name, text) for name in names])


@pytest.mark.parametrize("names", [REPLIES[:1], REPLIES[1:]], ids=["response.txt left", "stdout.log left"])
def test_a_judgment_comes_back_from_either_copy_of_the_reply(run: Run, names: tuple[str, ...]) -> None:
    original = run.read(JUDGMENT)
    mend(run, lose(JUDGMENT, *names))
    assert run.read(JUDGMENT) == original
    assert run.read(REPLIES[0]) == run.read(REPLIES[1])


def test_a_judgment_comes_back_from_a_reply_in_a_wrapping_of_the_command_line(run: Run) -> None:
    original, inner = run.read(JUDGMENT), run.read(REPLIES[0])
    wrapped = json.dumps({"type": "result", "result": inner.decode()})
    mend(run, lose(JUDGMENT, REPLIES[0]), overwrite(REPLIES[1], wrapped))
    assert run.read(JUDGMENT) == original
    assert run.read(REPLIES[0]) == inner


DECOYS: dict[str, dict[str, Any]] = {
    "score": {"score": 0.111},
    "passed": {"passed": False},
    "reasoning": {"reasoning": "Another reason."},
    "grade": {"grade": "D"},
}


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("key", DECOYS)
def test_of_several_verdicts_the_one_counts_that_run_result_lists(run: Run, key: str, first: bool) -> None:
    put(JUDGMENT, "/passed", True)(run)
    retell(judgments=[run.load(name) for name in JUDGMENTS])(run)
    original = run.load(JUDGMENT)
    decoy = {**original, **DECOYS[key], "criteria_scores": None}
    mend(run, replies(*([decoy, original] if first else [original, decoy])), lose(JUDGMENT))
    assert run.load(JUDGMENT) == original


def test_the_first_of_equal_verdicts_counts(run: Run) -> None:
    original = run.load(JUDGMENT)
    mend(run, replies(original, {**original, "criteria_scores": None}), lose(JUDGMENT))
    assert run.load(JUDGMENT) == original


def test_of_several_verdicts_none_is_chosen_without_run_result(run: Run) -> None:
    original = run.load(JUDGMENT)
    outcome = mend(run, replies({**original, "score": 0.111}, original), lose(JUDGMENT, RUN_RESULT))
    assert "several verdicts" in refused(outcome)[f"{SLOT}/judgment.json"]
    assert not present(run, JUDGMENT)


def test_of_several_verdicts_none_is_chosen_that_run_result_does_not_list(run: Run) -> None:
    original = run.load(JUDGMENT)
    other = [{**original, "score": score} for score in (0.111, 0.222)]
    outcome = mend(run, replies(*other), lose(JUDGMENT))
    assert "several verdicts" in refused(outcome)[f"{SLOT}/judgment.json"]
    assert not present(run, JUDGMENT)


def test_the_only_verdict_of_a_reply_counts_without_run_result(run: Run) -> None:
    originals = {name: run.read(name) for name in (JUDGMENT, CONSENSUS)}
    outcome = mend(run, lose(JUDGMENT, RUN_RESULT))
    assert {name: run.read(name) for name in originals} == originals
    assert outcome.audit.status == "completed"


def test_a_verdict_that_run_result_lists_otherwise_counts_if_it_is_the_only_one_and_all_follows(run: Run) -> None:
    verdicts = [run.load(name) for name in JUDGMENTS]
    verdicts[1] = judgment(0.5, slot=2)
    outcome = mend(run, replies(verdicts[1]), lose(JUDGMENT))
    assert run.load(JUDGMENT) == verdicts[1]
    assert run.load(CONSENSUS)["score"] == pytest.approx(consensus(verdicts)["score"])
    final = run.load(RUN_RESULT)
    assert (final["judges"][1]["score"], final["judge_score"]) == (0.5, run.load(CONSENSUS)["score"])
    assert outcome.audit.status == "completed"


def test_the_grade_is_the_one_that_run_result_lists_else_the_scores(run: Run) -> None:
    verdict = judgment(0.7, slot=2)
    retell(judgments=[*opinions((0.9, True)), {**verdict, "grade": "C"}, judgment(0.8, slot=3)])(run)
    mend(run, replies({**verdict, "grade": "C"}), lose(JUDGMENT))
    assert run.load(JUDGMENT)["grade"] == "C"
    mend(run, lose(JUDGMENT, RUN_RESULT))
    assert run.load(JUDGMENT)["grade"] == "B"


def test_criteria_under_their_older_name_come_back_too(run: Run) -> None:
    original = run.load(JUDGMENT)
    text = json.dumps({key: original[key] for key in ("score", "passed", "grade", "reasoning", "criteria_scores")})
    mend(run, *[overwrite(name, f"```json\n{text}\n```\n") for name in REPLIES], lose(JUDGMENT))
    assert run.load(JUDGMENT) == original


def test_criteria_of_a_shape_that_no_judgment_may_have_stay_in_the_reply(run: Run) -> None:
    original = run.load(JUDGMENT)
    mend(run, replies({**original, "criteria_scores": {"clarity": "good"}}), lose(JUDGMENT))
    assert run.load(JUDGMENT) == {**original, "criteria_scores": None}


@pytest.mark.parametrize(
    "damage",
    [
        lose(*REPLIES),
        each(*[overwrite(name, "I would call this good work.\n") for name in REPLIES]),
        each(*[do.cut(name, 0.9) for name in REPLIES]),
        each(*[overwrite(name, '{"score": 0.8, "passed": true, "grade": "A"}') for name in REPLIES]),
        each(*[overwrite(name, '{"score": 80, "passed": true, "reasoning": "Well."}') for name in REPLIES]),
    ],
    ids=["no reply", "prose", "cut off", "no reasoning", "percent"],
)
def test_no_judgment_is_made_from_run_result_alone(run: Run, damage: Damage) -> None:
    outcome = mend(run, damage, lose(JUDGMENT))
    assert refused(outcome)[f"{SLOT}/judgment.json"]
    assert not present(run, JUDGMENT)
    assert outcome.audit.slots[1].status == "failed"


def test_no_judgment_is_made_of_a_call_that_failed(run: Run) -> None:
    outcome = mend(run, put(SLOT_TIMING, "/failed", True), lose(JUDGMENT))
    assert refused(outcome) == {f"{SLOT}/judgment.json": "timing.json says that the judge call failed"}
    assert not present(run, JUDGMENT)


@pytest.mark.parametrize("value", [False, None, "true", 1, 0, []], ids=repr)
@pytest.mark.parametrize("score", [None, 85], ids=["a good score", "a score in percent"])
def test_no_judgment_is_made_where_the_old_one_says_that_it_is_not_valid(run: Run, value: Any, score: Any) -> None:
    if score is not None:
        put(JUDGMENT, "/score", score)(run)
    put(JUDGMENT, "/is_valid", value)(run)
    stored = run.read(JUDGMENT)
    outcome = mend(run)
    assert run.read(JUDGMENT) == stored
    assert done(outcome) == []
    assert outcome.audit.slots[1].status == "failed"


def test_a_judgment_that_breaks_its_schema_comes_back_from_the_reply(run: Run) -> None:
    original = run.read(JUDGMENT)
    mend(run, put(JUDGMENT, "/score", 85))
    assert run.read(JUDGMENT) == original


# ---------------------------------------------------------------------------------------------------------
# Copies of replies, and MODEL.md


def test_nothing_gives_back_a_reply_of_which_no_copy_is_left(run: Run) -> None:
    outcome = mend(run, lose(*REPLIES))
    assert actions(outcome) == []
    assert outcome.audit.status == "completed"


def test_no_copy_is_made_where_the_other_slots_show_that_the_two_are_different_texts(run: Run) -> None:
    notice = b"The command line said something before.\n"
    for slot in SLOTS:
        do.change(f"{slot}/stdout.log", lambda data: notice + data)(run)
    outcome = mend(run, lose(REPLIES[1]))
    assert done(outcome) == []
    assert not present(run, REPLIES[1])


def test_a_slots_model_file_comes_back_with_the_model_that_the_configuration_gives_it(run: Run) -> None:
    outcome = mend(run, lose(f"{SLOT}/MODEL.md"))
    text = run.read(f"{SLOT}/MODEL.md").decode()
    assert text == f"# Judge Model Information\n\n**Model**: {JUDGE_MODELS[1]}\n"
    assert (outcome.audit.status, outcome.audit.findings) == ("completed", ())


def test_a_slots_model_file_stays_lost_where_run_result_names_another_model(run: Run) -> None:
    outcome = mend(run, put(RUN_RESULT, "/judges/1/model", "another"), lose(f"{SLOT}/MODEL.md"))
    assert actions(outcome) == []
    assert not present(run, f"{SLOT}/MODEL.md")


@pytest.mark.parametrize("damage", [do.nothing, lose(LOG)], ids=["named by the command", "the only one configured"])
def test_the_agents_model_file_comes_back(run: Run, damage: Damage) -> None:
    mend(run, damage, lose("agent/MODEL.md"))
    assert run.read("agent/MODEL.md").decode() == f"# Agent Model Information\n\n**Model**: {AGENT_MODEL}\n"


@pytest.mark.parametrize(
    "damage",
    [
        put(LOG, "/commands/0/command/2", "another"),
        each(lose(LOG), put(do.in_root("config/experiment.json"), "/models", [AGENT_MODEL, "another"])),
    ],
    ids=["the command names another", "two are configured"],
)
def test_the_agents_model_file_stays_lost_where_nothing_tells_the_model(run: Run, damage: Damage) -> None:
    outcome = mend(run, damage, lose("agent/MODEL.md"))
    assert done(outcome) == []
    assert not present(run, "agent/MODEL.md")


# ---------------------------------------------------------------------------------------------------------
# judge/result.json


def judged(*verdicts: tuple[float, bool]) -> Damage:
    """Let the judges have given these scores and verdicts."""
    return retell(judgments=opinions(*verdicts))


def reasoning_of(run: Run, slot: int) -> str:
    text: str = run.load(JUDGMENTS[slot - 1])["reasoning"]
    return text


@pytest.mark.parametrize(
    ("verdicts", "score", "passed", "grade"),
    [
        (((0.9, True), (0.8, True), (0.4, False)), 0.7, True, "B"),
        (((0.9, True), (0.3, False), (0.3, False)), 0.5, False, "C"),
        (((1.0, True), (1.0, True), (1.0, True)), 1.0, True, "S"),
        (((0.1, True), (0.1, True), (0.1, False)), 0.1, True, "F"),
        (((0.9, False), (0.9, False), (0.9, False)), 0.9, False, "A"),
    ],
)
def test_the_consensus_is_the_mean_the_majority_and_the_means_grade(
    run: Run, verdicts: tuple[tuple[float, bool], ...], score: float, passed: bool, grade: str
) -> None:
    judged(*verdicts)(run)
    mend(run, lose(CONSENSUS, RUN_RESULT))
    for record, prefix in ((run.load(CONSENSUS), ""), (run.load(RUN_RESULT), "judge_")):
        assert record[f"{prefix}score"] == pytest.approx(score, abs=1e-12)
        assert (record[f"{prefix}passed"], record[f"{prefix}grade"]) == (passed, grade)
    assert run.load(CONSENSUS)["is_valid"] is True


def test_half_of_the_judges_are_no_majority(run: Run) -> None:
    judged((0.6, True), (0.6, False), (0.6, True))(run)
    mend(run, lose(SLOTS[2], CONSENSUS, RUN_RESULT))
    assert run.load(CONSENSUS)["passed"] is run.load(RUN_RESULT)["judge_passed"] is False


def test_the_reasoning_is_run_results_where_a_slot_holds_it(run: Run) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)
    text, criteria = reasoning_of(run, 3), run.load(JUDGMENTS[2])["criteria_scores"]
    mend(run, put(RUN_RESULT, "/judge_reasoning", text), lose(CONSENSUS))
    assert run.load(CONSENSUS)["reasoning"] == run.load(RUN_RESULT)["judge_reasoning"] == text
    assert run.load(CONSENSUS)["criteria_scores"] == criteria


@pytest.mark.parametrize("damage", [lose(RUN_RESULT), put(RUN_RESULT, "/judge_reasoning", "Nobody's words.")])
def test_the_reasoning_is_the_closest_judgments_where_run_result_tells_none(run: Run, damage: Damage) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)  # 0.7 in the mean
    mend(run, damage, lose(CONSENSUS))
    assert run.load(CONSENSUS)["reasoning"] == reasoning_of(run, 2)
    assert run.load(CONSENSUS)["criteria_scores"] == run.load(JUDGMENTS[1])["criteria_scores"]


@pytest.mark.parametrize(
    ("scores", "closest"), [((0.9, 0.5, 0.7), 3), ((0.5, 0.9, 0.1), 1), ((0.4, 0.8, 0.6), 3), ((0.7, 0.7, 0.7), 1)]
)
def test_the_first_counts_of_judgments_as_close_to_the_mean(run: Run, scores: tuple[float, ...], closest: int) -> None:
    judged(*[(score, True) for score in scores])(run)
    mend(run, lose(CONSENSUS, RUN_RESULT))
    assert run.load(CONSENSUS)["reasoning"] == reasoning_of(run, closest)


def test_the_first_of_two_judgments_as_far_from_the_mean_counts_whatever_rounding_does(run: Run) -> None:
    judged((0.1, False), (0.3, False), (0.2, False))(run)
    mend(run, lose(SLOTS[2], CONSENSUS, RUN_RESULT))  # the mean of 0.1 and 0.3 is 0.2, in floats a little more or less
    assert run.load(CONSENSUS)["reasoning"] == reasoning_of(run, 1)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_the_consensus_of_a_lost_judge_too_comes_back_from_run_result(run: Run, lost: int) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)
    original = run.load(CONSENSUS)
    outcome = mend(run, lose(SLOTS[lost - 1], CONSENSUS))
    assert but(run.load(CONSENSUS), "criteria_scores") == but(original, "criteria_scores")
    assert run.load(CONSENSUS)["criteria_scores"] == original["criteria_scores"]
    assert outcome.audit.status == "completed"
    assert done(outcome) == [CONSENSUS]


def test_the_consensus_comes_back_from_run_result_where_no_slot_survives(run: Run) -> None:
    original = run.load(CONSENSUS)
    outcome = mend(run, lose("judge"))
    assert run.load(CONSENSUS) == original
    assert [found.code for found in outcome.audit.findings if found.severity == "error"] == ["no-complete-slot"]
    assert {slot.status for slot in outcome.audit.slots} == {"missing"}


def test_the_listed_verdicts_count_where_run_results_own_sum_of_them_is_wrong(run: Run) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)
    text = reasoning_of(run, 2)
    mend(run, put(RUN_RESULT, "/judge_score", 0.123), lose(SLOTS[0], CONSENSUS))
    assert run.load(CONSENSUS)["score"] == run.load(RUN_RESULT)["judge_score"] == pytest.approx(0.7)
    assert run.load(CONSENSUS)["reasoning"] == text


def test_the_consensus_is_the_survivors_where_nothing_tells_what_the_lost_judge_said(run: Run) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)
    outcome = mend(run, lose(SLOT, CONSENSUS, RUN_RESULT))
    assert run.load(CONSENSUS)["score"] == pytest.approx(0.65)
    assert [entry["judge_number"] for entry in run.load(RUN_RESULT)["judges"]] == [1, 3]
    assert outcome.audit.status == "completed"


NOT_VALID: JsonObject = {"score": 0.0, "passed": False, "grade": "N/A", "reasoning": "No reply.", "is_valid": False}


def averaged_in(run: Run) -> None:
    """Let the second judge have failed, and the failure be counted and listed as a score of 0."""
    judged((0.9, True), (0.0, False), (0.4, False))(run)
    run.store(JUDGMENT, NOT_VALID)
    lose(*REPLIES)(run)


def test_no_consensus_is_made_of_fewer_verdicts_than_run_result_lists(run: Run) -> None:
    averaged_in(run)
    outcome = mend(run, lose(CONSENSUS))
    assert list(refused(outcome)) == [CONSENSUS]
    assert not present(run, CONSENSUS)


def test_a_failure_that_was_counted_but_is_not_listed_is_counted_no_more(run: Run) -> None:
    averaged_in(run)
    outcome = mend(run, do.drop(RUN_RESULT, "/judges/1"))
    assert run.load(CONSENSUS)["score"] == run.load(RUN_RESULT)["judge_score"] == pytest.approx(0.65)
    assert (outcome.audit.status, outcome.audit.slots[1].status) == ("completed", "failed")


@pytest.mark.parametrize(
    ("damage", "status"),
    [(put(JUDGMENT, "/score", 0.99), "conflict"), (do.link(JUDGMENT), "unsafe"), (do.fifo(SLOT), "unsafe")],
    ids=["contradicted", "a link", "a pipe"],
)
@pytest.mark.parametrize("how", [lose(CONSENSUS), do.add(CONSENSUS, "/score", -0.1)], ids=["lost", "stale"])
def test_no_consensus_is_made_while_a_slot_is_in_conflict_or_unsafe(
    run: Run, damage: Damage, status: str, how: Damage
) -> None:
    damage(run)
    how(run)
    stored = run.read(CONSENSUS) if present(run, CONSENSUS) else None
    outcome = mend(run)
    assert outcome.audit.slots[1].status == status
    assert refused(outcome)[CONSENSUS] == "a judge slot is in conflict, or unsafe"
    assert (run.read(CONSENSUS) if present(run, CONSENSUS) else None) == stored


def test_no_consensus_is_made_of_nothing(run: Run) -> None:
    outcome = mend(
        run,
        lose(*JUDGMENTS, CONSENSUS, RUN_RESULT),
        *[lose(f"{slot}/{name}") for slot in SLOTS for name in ("response.txt", "stdout.log")],
    )
    assert refused(outcome)[CONSENSUS] == "no judgment survives"
    assert not present(run, CONSENSUS)
    assert not present(run, RUN_RESULT)


@pytest.mark.parametrize("also_lost", [(), (CONSENSUS,)], ids=["the slot", "the consensus too"])
def test_a_verdict_that_run_result_does_not_list_yet_counts_beside_one_that_only_it_holds(
    run: Run, also_lost: tuple[str, ...]
) -> None:
    judged((0.9, True), (0.8, True), (0.4, False))(run)
    do.reconcile(lambda verdicts: verdicts[:2])(run)
    do.drop(RUN_RESULT, "/judges/2")(run)
    outcome = mend(run, lose(SLOTS[0], *also_lost))
    assert run.load(CONSENSUS)["score"] == run.load(RUN_RESULT)["judge_score"] == pytest.approx(0.7)
    assert [entry["score"] for entry in run.load(RUN_RESULT)["judges"]] == [0.9, 0.8, 0.4]
    assert outcome.audit.status == "completed"
    assert actions(mend(run)) == []


# ---------------------------------------------------------------------------------------------------------
# run_result.json


def test_the_paths_of_a_sound_run_result_are_kept(run: Run) -> None:
    original = run.load(RUN_RESULT)
    mend(run, put(RUN_RESULT, "/judge_score", 0.123))
    assert run.load(RUN_RESULT) == original


def test_the_run_number_is_the_directorys(run: Run) -> None:
    mend(run, put(RUN_RESULT, "/run_number", 9))
    assert run.load(RUN_RESULT)["run_number"] == 1


def test_what_run_result_alone_still_lists_of_a_lost_slot_is_kept(run: Run) -> None:
    entry = {**run.load(RUN_RESULT)["judges"][1], "x-note": "kept"}
    mend(run, put(RUN_RESULT, "/judges/1", entry), put(RUN_RESULT, "/judge_score", 0.123), lose(SLOT))
    assert run.load(RUN_RESULT)["judges"][1] == entry


def test_listed_judges_have_the_models_of_the_configuration(run: Run) -> None:
    mend(run, lose(RUN_RESULT, *[f"{slot}/MODEL.md" for slot in SLOTS]))
    assert [entry["model"] for entry in run.load(RUN_RESULT)["judges"]] == list(JUDGE_MODELS)


@pytest.mark.parametrize("damage", [lose(CONSENSUS), do.cut(CONSENSUS, 0.5), do.directory_for_file(CONSENSUS)])
def test_run_result_repeats_no_consensus_that_cannot_be_relied_on(run: Run, damage: Damage) -> None:
    # A slot in conflict keeps the consensus from being rebuilt.
    outcome = mend(run, damage, put(JUDGMENT, "/score", 0.99), lose(RUN_RESULT))
    assert refused(outcome)[RUN_RESULT] == "judge/result.json, which it repeats, cannot be relied on"
    assert not present(run, RUN_RESULT)


def test_run_result_repeats_no_consensus_that_is_stale(run: Run) -> None:
    outcome = mend(run, do.add(CONSENSUS, "/score", -0.1), put(JUDGMENT, "/score", 0.99), lose(RUN_RESULT))
    assert set(refused(outcome)) == {CONSENSUS, RUN_RESULT}
    assert not present(run, RUN_RESULT)


def test_no_token_counts_are_invented(run: Run) -> None:
    outcome = mend(run, retell(stdout=PLAIN), lose(RESULT, RUN_RESULT))
    assert refused(outcome) == {
        RESULT: "the agent's output holds no token counts",
        RUN_RESULT: "no record holds the agent's token counts and exit code",
    }
    assert not present(run, RUN_RESULT)


def test_run_result_is_rebuilt_from_the_agents_record_where_the_output_tells_no_tokens(run: Run) -> None:
    retell(stdout=PLAIN)(run)
    original = run.load(RUN_RESULT)
    mend(run, lose(RUN_RESULT))
    assert but(run.load(RUN_RESULT), *PATHS) == but(original, *PATHS)


# ---------------------------------------------------------------------------------------------------------
# How records are written


STALE: dict[str, Damage] = {
    RESULT: put(RESULT, "/exit_code", 1),
    CONSENSUS: do.add(CONSENSUS, "/score", -0.1),
    RUN_RESULT: put(RUN_RESULT, "/judge_score", 0.123),
}


@pytest.mark.parametrize("name", STALE)
def test_unknown_keys_of_a_sound_old_record_are_kept(run: Run, name: str) -> None:
    original = run.load(name)
    extra = {"x-note": None, "x-list": [1, {"deep": "caf\u00e9"}]}
    mend(run, do.edit(name, lambda record: record.update(extra)), STALE[name])
    assert run.load(name) == {**original, **extra}
    assert list(run.load(name)) == [*original, *extra]


@pytest.mark.parametrize("name", STALE)
def test_nothing_of_an_unsound_old_record_is_kept(run: Run, name: str) -> None:
    original = run.load(name)
    mend(run, put(name, "/x-note", "lost"), put(name, "/exit_code" if "judge" not in name else "/score", "zero"))
    assert but(run.load(name), *PATHS) == but(original, *PATHS)


RECORDS = (RESULT, JUDGMENT, CONSENSUS, RUN_RESULT, JUDGE_TIMING, TIMING)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_written_with_an_indent_of_two_in_ascii_without_a_last_line_break(run: Run, name: str) -> None:
    put(JUDGMENT, "/reasoning", "Na\u00efve, and \u2713")(run)
    retell(reply=agent_reply(text="Caf\u00e9 \U0001f600"), judgments=[run.load(judgment) for judgment in JUDGMENTS])(
        run
    )
    mend(run, lose(name))
    assert run.read(name) == json.dumps(run.load(name), indent=2, ensure_ascii=True).encode()


def final_line_breaks(how: Callable[[str], bool]) -> Damage:
    def spoil(name: str) -> Damage:
        return do.change(name, lambda data: data.rstrip() + b"\n" * how(name))

    return do.in_every_record(spoil)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_ends_in_a_line_break_where_the_others_of_the_run_do(run: Run, name: str) -> None:
    mend(run, final_line_breaks(lambda other: True), lose(name))
    assert run.read(name).endswith(b"}\n")
    assert not run.read(name).endswith(b"\n\n")


def test_a_record_does_not_end_in_a_line_break_because_one_other_does(run: Run) -> None:
    mend(run, final_line_breaks(lambda other: other == TIMING), lose(RUN_RESULT))
    assert run.read(RUN_RESULT).endswith(b"}")


# ---------------------------------------------------------------------------------------------------------
# Where a file comes from


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        (OUTPUT, ["agent/stdout.log"]),
        (RESULT, [OUTPUT, LOG, STDERR[0]]),
        (JUDGMENT, [REPLIES[0], RUN_RESULT]),
        (REPLIES[0], [REPLIES[1]]),
        (CONSENSUS, list(JUDGMENTS)),
        (RUN_RESULT, [OUTPUT, LOG, TIMING, JUDGE_TIMING, CONSENSUS, *JUDGMENTS]),
        (TIMING, [LOG]),
        (JUDGE_TIMING, [f"{slot}/timing.json" for slot in SLOTS]),
        ("agent/MODEL.md", [LOG]),
    ],
)
def test_a_repair_tells_the_files_that_a_file_comes_from(run: Run, name: str, sources: list[str]) -> None:
    (action,) = actions(mend(run, lose(name)))
    assert action.what == name
    assert list(action.sources) == [f"{RUN}/{source}" for source in sources]


def test_a_slots_model_comes_from_the_configuration(run: Run) -> None:
    (action,) = actions(mend(run, lose(f"{SLOT}/MODEL.md")))
    assert action.sources == ("config/experiment.json",)
