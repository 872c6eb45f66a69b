"""What an audit finds wrong with aggregates: what the runs' own records do not bear out, and what is lost."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla
from benchmarks.synthetic import Plan, config_hash, judgment, small, write_experiment
from pytest_scylla.aggregates.audit import audit_aggregates
from pytest_scylla.aggregates.facts import RunFigures, read_figures
from pytest_scylla.aggregates.page_differences import subtest_pages
from pytest_scylla.aggregates.subtest import SubtestFigures
from pytest_scylla.auditing.evidence import Policy
from pytest_scylla.auditing.findings import CODES
from pytest_scylla.experiment.layout import RunId

from .aggregating import (
    RECORDS_OF_EXPERIMENT,
    RECORDS_OF_SUBTEST,
    RECORDS_OF_TIER,
    aggregates_in,
    aggregates_of,
    audit,
    edit,
    faults,
    figures,
    judged,
    load,
    one_run,
    put_in_place,
    rebuild,
    store,
)
from .damage import JUDGMENTS, RUN_RESULT, Run, in_root, lengthen_cache_names, lose, put, store_slot
from .damage import edit as edit_record
from .repairing import repair, tree

PLAN = small(tiers={"T0": ("00", "01"), "T1": ("01",)}, side_files=False)
RUNS = [
    f"{tier}/{subtest}/run_0{number}"
    for tier, subtest in (("T0", "00"), ("T0", "01"), ("T1", "01"))
    for number in (1, 2)
]
STALE = ["aggregate-stale"]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def written(tmp_path: Path, plan: Plan, missing: Callable[[str], bool] | None = None) -> Path:
    root = tmp_path / "exp"
    write_experiment(root, plan, missing=missing)
    return root


@pytest.fixture(scope="module")
def healthy_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiers, three subtests, six runs, and no Markdown. Shared: not to be written to."""
    return written(tmp_path_factory.mktemp("aggregates"), PLAN)


@pytest.fixture
def root(healthy_experiment: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, to damage."""
    copy = tmp_path / "exp"
    shutil.copytree(healthy_experiment, copy)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


@pytest.fixture(scope="module")
def healthy_runs(healthy_experiment: Path) -> dict[RunId, RunFigures]:
    return figures(healthy_experiment)


# -------------------------------------------------------------------------------------------------------------- healthy


def test_the_recorded_aggregates_are_what_their_runs_amount_to(recorded_experiment: Path) -> None:
    assert audit(recorded_experiment) == ()


@pytest.mark.parametrize(
    "plan",
    [
        small(),
        small(layout="staged"),
        small(runs_per_subtest=1, judge_models=("one",)),
        small(tiers={"T0": ("00", "01", "02", "03"), "T5": ("01", "02"), "T6": ("01",)}, runs_per_subtest=5),
    ],
    ids=["flat", "staged", "a single run", "many runs"],
)
def test_the_aggregates_of_a_healthy_experiment_are_sound(tmp_path: Path, plan: Plan) -> None:
    assert audit(written(tmp_path, plan)) == ()


def test_the_aggregates_of_the_healthy_example_are_sound() -> None:
    assert audit(EXAMPLES / "healthy") == ()


def test_an_audit_writes_nothing(root: Path) -> None:
    before = tree(root, but=None)
    audit(root)
    assert tree(root, but=None) == before


def test_no_run_is_read_again_while_its_copies_say_what_it_says(root: Path) -> None:
    runs = figures(root)
    for run in RUNS:
        shutil.rmtree(root / run)
    assert audit(root, runs) == ()


# ---------------------------------------------------------------------------------------------------------------- stale


def restore_run(root: Path, run: str) -> None:
    assert repair(root, run).audit.status == "completed"


@pytest.mark.parametrize("repaired", [False, True], ids=["before the run is repaired", "once the run is repaired"])
@pytest.mark.parametrize("run", RUNS)
def test_a_changed_judgment_makes_its_ancestors_stale_and_no_other(root: Path, run: str, repaired: bool) -> None:
    own = Run(root, run)
    old = own.load(JUDGMENTS[0])
    store_slot(own, 1, judgment(abs(old["score"] - 0.5), passed=not old["passed"], slot=1), "judge-large-1")
    if repaired:
        restore_run(root, run)
    found = faults(root)
    ancestors = aggregates_of(run)
    tier, subtest, _ = run.split("/")
    assert all(codes == STALE for codes in found.values())
    assert set(found) <= set(ancestors)
    assert set(found) >= {f"{tier}/{subtest}/report.json", f"{tier}/result.json", f"{tier}/report.json", "result.json"}


def test_a_changed_word_in_a_judgment_makes_what_repeats_it_stale(root: Path) -> None:
    edit_record(JUDGMENTS[1], lambda data: data.update(reasoning="Said otherwise."))(Run(root, RUNS[0]))
    restore_run(root, RUNS[0])
    assert faults(root) == {"T0/result.json": STALE, "result.json": STALE}


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every number, text and truth value in a record, with its place; of runs' own records only the first."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:1] if place[-1:] == ("runs",) else value):
            yield from leaves(inner, (*place, index))
    elif value is not None:
        yield place, value


TOLD = {
    *("generated_at", "started_at", "completed_at", "total_duration", "total_duration_seconds"),
    *("report", "selection_reason", "workspace_path", "logs_path", "command_log_path"),
    *("inherited_from", "rate_limit_info", "config"),
}
"""Keys that no run decides about."""


def is_told(place: tuple[str | int, ...]) -> bool:
    in_run = "runs" in place
    return bool(TOLD.intersection(place)) or (place[-1] == "reasoning" and not in_run)


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value - 0.01 if value >= 0.5 else value + 0.01
    if value in tuple("SABCDF"):
        return "C" if value != "C" else "B"
    return f"{value}x" if isinstance(value, str) else 0.5


def changed(record: Any, place: tuple[str | int, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(record))
    inner = copy
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return copy


@pytest.mark.parametrize("file", aggregates_of("T0/01/run_01"))
def test_every_number_verdict_and_id_of_an_aggregate_is_held_to_the_runs(
    root: Path, healthy_runs: dict[RunId, RunFigures], file: str
) -> None:
    record = load(root, file)
    held = [place for place, _ in leaves(record) if not is_told(place) and "criteria_scores" not in place]
    assert len(held) > 5
    for place in held:
        value = next(inner for other, inner in leaves(record) if other == place)
        store(root, file, changed(record, place, another(value)))
        (found,) = audit(root, healthy_runs)
        assert (found.file, found.code) == (file, "aggregate-stale"), place
        assert found.message.startswith("expected "), place
        pointer = "".join(f"/{step}" for step in place)
        assert pointer.startswith(found.pointer), place


@pytest.mark.parametrize("file", aggregates_of("T0/01/run_01"))
def test_times_places_and_wording_are_nobodys_to_check(
    root: Path, healthy_runs: dict[RunId, RunFigures], file: str
) -> None:
    record = load(root, file)
    for place, value in leaves(record):
        if is_told(place) and "config" not in place and isinstance(value, (str, float)):
            record = changed(record, place, f"{value}x" if isinstance(value, str) else value + 1)
    store(root, file, record)
    assert audit(root, healthy_runs) == ()


def test_numbers_agree_within_a_millionth(root: Path, healthy_runs: dict[RunId, RunFigures]) -> None:
    record = load(root, "T0/report.json")
    for difference, stale in ((5e-7, {}), (5e-6, {"T0/report.json": STALE})):
        record["summary"]["total_cost"] = load(root, "T0/result.json")["total_cost"] + difference
        store(root, "T0/report.json", record)
        assert faults(root, healthy_runs) == stale


def test_a_finding_says_what_is_first_wrong_and_how_much_more_is(
    root: Path, healthy_runs: dict[RunId, RunFigures]
) -> None:
    record = load(root, "T0/00/report.json")
    mean = record["summary"]["mean_score"]
    record["summary"].update(mean_score=0.123)
    store(root, "T0/00/report.json", record)
    (found,) = audit(root, healthy_runs)
    assert (found.pointer, found.message) == ("/summary/mean_score", f"expected {mean}, found 0.123")
    record["summary"].update(total_runs=3, passed=0)
    record["children"] = []
    store(root, "T0/00/report.json", record)
    (found,) = audit(root, healthy_runs)
    assert found.pointer == "/summary/total_runs"
    assert found.message == "expected 2, found 3; 4 more differences"


@pytest.mark.parametrize("key", ["T0", "T1"])
def test_a_tier_that_is_not_listed_and_one_that_is_none_are_differences(root: Path, key: str) -> None:
    record = load(root, "tier_comparison.json")
    record["T9"] = record.pop(key)
    store(root, "tier_comparison.json", record)
    (found,) = audit(root)
    assert (found.file, found.pointer) == ("tier_comparison.json", "")
    assert found.message == f'expected an entry for "{key}", found none; 1 more difference'


def test_a_run_that_is_not_listed_and_one_listed_twice_are_differences(root: Path) -> None:
    for entries in (lambda runs: runs[:1], lambda runs: [*runs, runs[0]], lambda runs: []):
        for file in ("T0/00/report.json", "T0/result.json"):
            original = load(root, file)
            record = load(root, file)
            if file == "T0/result.json":
                result = record["subtest_results"]["00"]
                result["runs"] = entries(result["runs"])
            else:
                record["children"] = entries(record["children"])
            store(root, file, record)
            assert faults(root) == {file: STALE}
            store(root, file, original)


def test_the_order_in_which_things_are_listed_does_not_matter(root: Path) -> None:
    for file in aggregates_in(root):
        record = load(root, file)
        for key in ("children", "votes"):
            if key in record:
                record[key].reverse()
        for key in ("subtest_results", "tier_results"):
            if key in record:
                record[key] = dict(reversed(record[key].items()))
        for result in record.get("subtest_results", {}).values():
            result["runs"].reverse()
        store(root, file, dict(reversed(record.items())))
    assert audit(root) == ()


def test_a_record_of_another_tier_is_stale(root: Path) -> None:
    shutil.copyfile(root / "T1/best_subtest.json", root / "T0/best_subtest.json")
    shutil.copyfile(root / "T1/report.json", root / "T0/report.json")
    assert faults(root) == {"T0/report.json": STALE, "T0/best_subtest.json": STALE}


def test_long_names_of_the_cache_are_fine(root: Path) -> None:
    lengthen_cache_names("../report.json", "../../report.json", in_root("report.json"))(Run(root, RUNS[0]))
    record = load(root, "T0/result.json")
    for result in record["subtest_results"].values():
        for part in (result, *result["runs"]):
            stats = part["token_stats"]
            stats["cache_creation_input_tokens"] = stats.pop("cache_creation_tokens")
            stats["cache_read_input_tokens"] = stats.pop("cache_read_tokens")
    store(root, "T0/result.json", record)
    assert audit(root) == ()


@pytest.mark.parametrize("file", ["T0/result.json", f"{RUNS[0]}/run_result.json"], ids=["the copy", "the record"])
def test_keys_that_nobody_knows_may_be_in_a_run_s_record_and_not_in_its_copy_and_the_reverse(
    root: Path, file: str
) -> None:
    record = load(root, file)
    run = record["subtest_results"]["00"]["runs"][0] if "subtest_results" in record else record
    run["process_metrics"] = {"drift": 0.5}
    store(root, file, record)
    assert audit(root) == ()


def keys(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every key in a record; of lists only in the first entry."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*place, key)
            yield from keys(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield from keys(value[0], (*place, 0))


def less(record: Any, place: tuple[str | int, ...]) -> Any:
    copy = json.loads(json.dumps(record))
    inner = copy
    for step in place[:-1]:
        inner = inner[step]
    del inner[place[-1]]
    return copy


@pytest.mark.parametrize("file", aggregates_of("T0/01/run_01"))
def test_every_key_that_the_program_writes_has_to_be_there(
    root: Path, healthy_runs: dict[RunId, RunFigures], file: str
) -> None:
    record = load(root, file)
    free = {"command_log_path", "parallel_subtests", "max_subtests", "task_prompt_file"}
    lost = [place for place in keys(record) if place[-1] not in free and "T1" not in place[:-1]]
    assert len(lost) > 5
    for place in lost:
        store(root, file, less(record, place))
        assert set(faults(root, healthy_runs)) == {file}, place


def test_a_lost_key_is_told_with_its_place(root: Path, healthy_runs: dict[RunId, RunFigures]) -> None:
    record = load(root, "result.json")
    del record["frontier_cop"], record["best_overall_tier"]
    store(root, "result.json", record)
    (found,) = audit(root, healthy_runs)
    assert (found.pointer, found.message) == (
        "/best_overall_tier",
        "expected this key, found it absent; 1 more difference",
    )


@pytest.mark.parametrize("written_by", ["the program", "a repair"])
def test_how_many_runs_count_may_be_absent_where_the_program_wrote_it(root: Path, written_by: str) -> None:
    if written_by == "a repair":
        for file in aggregates_in(root):
            (root / file).unlink()
        put_in_place(root, rebuild(root))
    said = any(b'"coverage"' in (root / file).read_bytes() for file in aggregates_in(root))
    assert said is (written_by == "a repair")
    assert audit(root) == ()


@pytest.mark.parametrize(
    ("key", "value"), [("timeout_seconds", 601), ("runs_per_subtest", 3), ("max_turns", 7), ("models", ["another"])]
)
def test_the_copy_of_the_configuration_is_held_to_it(root: Path, key: str, value: Any) -> None:
    record = load(root, "result.json")
    record["config"][key] = value
    store(root, "result.json", record)
    (found,) = audit(root)
    assert (found.file, found.code) == ("result.json", "aggregate-stale")
    assert found.pointer.startswith(f"/config/{key}")


def test_a_configuration_that_changed_makes_no_copy_wrong_by_which_the_runs_were_made(root: Path) -> None:
    edit(root, "config/experiment.json", timeout_seconds=601)
    assert audit(root) == ()
    config = load(root, "config/experiment.json")
    edit(root, "checkpoint.json", config_hash=config_hash(config))
    (found,) = audit(root)
    assert (found.file, found.pointer) == ("result.json", "/config/timeout_seconds")
    assert found.message == "expected 601, found 600"


@pytest.mark.parametrize(
    ("key", "value"), [("parallel_subtests", 1), ("max_subtests", 5), ("task_prompt_file", "elsewhere/prompt.md")]
)
def test_what_only_one_session_went_by_and_where_files_lie_may_differ_from_the_copy(
    root: Path, key: str, value: Any
) -> None:
    record = load(root, "result.json")
    record["config"][key] = value
    record["config"]["note"] = "of its own"
    store(root, "result.json", record)
    assert audit(root) == ()


def test_criteria_are_part_of_what_a_copy_of_a_run_says(root: Path) -> None:
    record = load(root, "T0/result.json")
    criteria = record["subtest_results"]["00"]["runs"][0]["criteria_scores"]
    next(iter(criteria.values()))["achieved"] += 1
    store(root, "T0/result.json", record)
    (found,) = audit(root)
    assert found.pointer.startswith("/subtest_results/00/runs/0/criteria_scores/")


# ----------------------------------------------------------------------------------------------- runs that do not count


def test_a_run_with_one_sound_judge_of_three_does_not_count(root: Path) -> None:
    lose(
        *JUDGMENTS[1:], *(f"judge/judge_0{slot}/{name}" for slot in (2, 3) for name in ("response.txt", "stdout.log"))
    )(Run(root, RUNS[0]))
    found = figures(root)[RunId("T0", "00", 1)]
    assert (found.status, found.sound_judges, found.is_sound, found.is_scored) == ("completed", 1, True, False)
    assert set(faults(root)) >= {"T0/00/report.json", "T0/result.json", "result.json"}
    summary = json.loads(rebuild(root)["T0/00/report.json"])["summary"]
    other = load(root, "T0/00/run_02/run_result.json")["judge_score"]
    assert (summary["mean_score"], summary["total_runs"]) == (other, 1)
    assert summary["coverage"] == {
        "expected": 2,
        "present": 2,
        "sound": 2,
        "scored": 1,
        "fallback": 0,
        "priced": 1,
    }


def test_a_run_with_two_sound_judges_of_three_counts(root: Path) -> None:
    lose("judge/judge_02")(Run(root, RUNS[0]))
    assert figures(root)[RunId("T0", "00", 1)].is_scored
    assert audit(root) == ()


def test_a_lost_record_that_follows_from_what_is_there_makes_no_aggregate_stale(root: Path) -> None:
    lose(RUN_RESULT, "judge/result.json")(Run(root, RUNS[0]))
    found = figures(root)[RunId("T0", "00", 1)]
    assert (found.status, found.is_scored, found.digest) == ("results", True, None)
    assert audit(root) == ()


def test_a_stale_record_that_follows_from_what_is_there_is_seen_through(root: Path) -> None:
    put(RUN_RESULT, "/judge_score", 0.111)(Run(root, RUNS[0]))
    put(RUN_RESULT, "/cost_usd", 77)(Run(root, RUNS[0]))
    put("agent/result.json", "/cost_usd", 77)(Run(root, RUNS[0]))
    assert figures(root)[RunId("T0", "00", 1)].status == "results"
    assert audit(root) == ()


def test_another_fault_of_a_run_leaves_its_record_as_sound_as_it_is(root: Path) -> None:
    lose("agent/output.txt", "judge/judge_03")(Run(root, RUNS[0]))
    found = figures(root)[RunId("T0", "00", 1)]
    assert (found.status, found.is_scored, found.digest is not None) == ("results", True, True)
    assert audit(root) == ()


@pytest.mark.parametrize("status", ["failed", "conflict", "partial", "missing"])
def test_a_run_whose_agent_did_not_finish_or_that_is_in_doubt_does_not_count(root: Path, status: str) -> None:
    run = Run(root, RUNS[0])
    if status == "missing":
        lose(".")(run)
    elif status == "partial":
        lose("agent", "run_result.json")(run)
        run.write("agent/stdout.log", '{"type": "res')
    elif status == "conflict":
        put("agent/command_log.json", "/commands/0/cwd", "/data/T1/01/run_02/workspace")(run)
    else:
        put("agent/command_log.json", "/commands/0/exit_code", -1)(run)
        for file in ("agent/result.json", RUN_RESULT):
            put(file, "/token_stats", dict.fromkeys(load(root, f"{RUNS[0]}/{file}")["token_stats"], 0))(run)
        lose("agent/stdout.log", "agent/output.txt", "agent/cmd_0000_stdout.log")(run)
        put("agent/result.json", "/stdout", "")(run)
    found = figures(root)[RunId("T0", "00", 1)]
    assert (found.status, found.is_sound) == (status, False)
    stale = faults(root)
    assert set(stale) >= {"T0/00/report.json", "T0/result.json", "T0/report.json", "result.json"}
    assert all(codes == STALE for codes in stale.values())


def test_a_fallback_judgment_counts_and_is_counted(root: Path) -> None:
    put(JUDGMENTS[0], "/fallback", True)(Run(root, RUNS[0]))
    assert audit(root) == ()
    assert json.loads(rebuild(root)["T0/00/report.json"])["summary"]["coverage"]["fallback"] == 1
    found = read_figures(pytest_scylla.load(root), Policy(fallback="fail"))[RunId("T0", "00", 1)]
    assert (found.sound_judges, found.fallback) == (2, False)


# --------------------------------------------------------------------------------------------------- absent and unsound


@pytest.mark.parametrize("file", aggregates_of("T0/01/run_01"))
def test_a_lost_record_of_what_is_done_is_found(root: Path, file: str) -> None:
    (root / file).unlink()
    assert faults(root) == {file: ["aggregate-missing"]}


@pytest.mark.parametrize("file", aggregates_of("T0/01/run_01"))
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"tier_id": "T0", ', "aggregate-malformed"),
        (b"", "aggregate-malformed"),
        (b'{"cost_of_pass": Infinity}', "aggregate-malformed"),
        (b'{"T0": {"unexpected": true}}', "aggregate-invalid"),
    ],
)
def test_a_record_that_is_not_what_it_should_be_is_found(root: Path, file: str, content: bytes, code: str) -> None:
    (root / file).write_bytes(content)
    assert set(faults(root)) == {file}
    assert set(faults(root)[file]) == {code}


def test_a_directory_in_the_place_of_a_record_is_malformed(root: Path) -> None:
    (root / "T0/result.json").unlink()
    (root / "T0/result.json").mkdir()
    assert faults(root) == {"T0/result.json": ["aggregate-malformed"]}


@pytest.mark.parametrize("file", ["T0/00/report.json", "T0/result.json", "result.json"])
def test_nothing_is_read_through_a_link(root: Path, tmp_path: Path, file: str) -> None:
    os.rename(root / file, tmp_path / "elsewhere.json")
    os.symlink(tmp_path / "elsewhere.json", root / file)
    assert faults(root) == {file: ["unsafe-object"]}


def test_a_pipe_does_not_hold_the_audit_up_and_nothing_large_is_read(root: Path) -> None:
    (root / "T0/result.json").unlink()
    os.mkfifo(root / "T0/result.json")
    assert faults(root) == {"T0/result.json": ["unsafe-object"]}
    experiment = pytest_scylla.load(root)
    size = (root / "result.json").stat().st_size
    found = audit_aggregates(experiment, figures(root), Policy(max_file_size=size - 1))
    assert {one.file: (one.code, one.severity) for one in found} == {
        "T0/result.json": ("unsafe-object", "error"),
        "result.json": ("aggregate-too-large", "warning"),
    }


def test_a_tier_behind_a_link_is_told_of_once(root: Path, tmp_path: Path) -> None:
    runs = figures(root)
    os.rename(root / "T0", tmp_path / "T0")
    os.symlink(tmp_path / "T0", root / "T0")
    assert faults(root, runs) == {"T0": ["unsafe-object"]}


def test_ids_that_a_record_makes_up_lead_nowhere(root: Path) -> None:
    record = load(root, "T0/result.json")
    record["subtest_results"]["../../etc\x1b[31m::error::"] = record["subtest_results"].pop("01")
    store(root, "T0/result.json", record)
    (found,) = audit(root)
    assert (found.file, found.code) == ("T0/result.json", "aggregate-stale")
    assert found.message.isprintable()
    assert "::error::" not in found.message


# ----------------------------------------------------------------------------------------------------- what is not done


def test_a_tier_that_is_not_done_needs_no_aggregates_yet_and_neither_does_the_experiment(root: Path) -> None:
    lose("../../../T1/01/run_02")(Run(root, RUNS[0]))
    for file in aggregates_of("T1/01/run_01"):
        (root / file).unlink()
    assert audit(root) == ()
    assert not any(file.startswith("T1/") or "/" not in file for file in rebuild(root))


def test_a_done_tier_needs_its_aggregates_though_another_is_not(root: Path) -> None:
    lose("../../../T1/01/run_02")(Run(root, RUNS[0]))
    for file in (*aggregates_of("T1/01/run_01"), *aggregates_of("T0/00/run_01")[:4]):
        (root / file).unlink(missing_ok=True)
    assert set(faults(root)) == set(aggregates_of("T0/00/run_01")[:4])


def test_aggregates_that_are_there_before_their_tier_is_done_are_held_to_what_there_is(tmp_path: Path) -> None:
    plan = small(tiers={"T0": ("00", "01"), "T1": ("01",)}, runs_per_subtest=4, side_files=False)
    root = written(tmp_path, plan, missing=lambda run: int(run[-1]) % 2 == 0)
    assert audit(root) == ()
    judged(root, "T0/00/run_03", (0.1, False), (0.1, False), (0.1, False))
    assert set(faults(root)) >= {"T0/00/report.json", "T0/result.json", "result.json"}


def test_more_runs_a_subtest_or_another_tier_to_run_make_nothing_stale(root: Path) -> None:
    edit(root, "config/experiment.json", runs_per_subtest=3, tiers_to_run=["T0", "T1", "T2"])
    assert audit(root) == ()


def test_a_tier_under_way_is_not_lacking_from_an_older_record_of_the_experiment(root: Path) -> None:
    edit(root, "config/experiment.json", tiers_to_run=["T0", "T1", "T2"])
    shutil.copytree(root / "T1/01", root / "T2/01")
    (root / "T2/01/report.json").unlink()
    lose("run_02")(Run(root, "T2/01"))
    for path in (root / "T2/01/run_01").rglob("*.json"):
        path.write_text(path.read_text().replace("/T1/01/", "/T2/01/"))
    assert figures(root)[RunId("T2", "01", 1)].is_scored
    assert audit(root) == ()


def test_a_subtest_under_way_is_not_lacking_from_an_older_record_of_its_tier(root: Path) -> None:
    shutil.copytree(root / "T0/01", root / "T0/02")
    (root / "T0/02/report.json").unlink()
    lose("run_02")(Run(root, "T0/02"))
    for path in (root / "T0/02/run_01").rglob("*.json"):
        path.write_text(path.read_text().replace("/T0/01/", "/T0/02/"))
    assert figures(root)[RunId("T0", "02", 1)].is_scored
    assert audit(root) == ()


def test_fewer_runs_a_subtest_make_aggregates_stale_that_count_more(root: Path) -> None:
    edit(root, "config/experiment.json", runs_per_subtest=1)
    assert set(faults(root)) >= {"T0/00/report.json", "T0/result.json", "result.json"}


# ------------------------------------------------------------------------------------------------------------- Markdown


@pytest.fixture
def with_pages(experiment_dir: Path) -> Path:
    """The healthy experiment with Markdown reports as the program lays them out."""
    put_in_place(experiment_dir, {file: data for file, data in rebuild(experiment_dir).items() if file.endswith(".md")})
    assert audit(experiment_dir) == ()
    return experiment_dir


PAGES = ["T1/01/report.md", "T1/report.md", "T1/summary.md", "report.md", "summary.md"]


def cut_off(text: str) -> str:
    return text[: len(text) // 2]


def without_its_end(text: str) -> str:
    return text.rstrip()[:-1]


def with_another_amount(text: str) -> str:
    before, amount, after = re.split(r"(\$[0-9.]+)", text, maxsplit=1)
    last = int(amount[-1])
    return f"{before}{amount[:-1]}{last + 1 if last < 9 else last - 1}{after}"


def with_another_title(text: str) -> str:
    return text.replace("\n", "1\n", 1)


def with_a_line_more(text: str) -> str:
    return f"{text}\nAll of it is fine.\n"


@pytest.mark.parametrize("file", PAGES)
@pytest.mark.parametrize(
    "spoil",
    [
        *(lambda _: "", lambda _: " \n", cut_off, without_its_end),
        *(with_another_amount, with_another_title, with_a_line_more),
    ],
)
def test_a_markdown_report_that_is_emptied_cut_off_or_edited_is_a_warning(
    with_pages: Path, spoil: Callable[[str], str], file: str
) -> None:
    text = (with_pages / file).read_text("utf-8")
    (with_pages / file).write_text(spoil(text), "utf-8")
    (found,) = audit(with_pages)
    assert (found.file, found.code, found.severity) == (file, "report-stale", "warning")
    assert re.match(r"expected .+ in line [0-9]+, found .", found.message)


def test_the_first_line_that_differs_is_told(with_pages: Path) -> None:
    text = (with_pages / "report.md").read_text("utf-8")
    line = next(line for line in text.split("\n") if line.startswith("**Total Cost**"))
    (with_pages / "report.md").write_text(text.replace(line, "**Total Cost**: $1\x1b[31m"), "utf-8")
    (found,) = audit(with_pages)
    assert found.message == f'expected "{line}" in line 5, found "**Total Cost**: $1\\x1b[31m"'
    (with_pages / "report.md").write_text("\n".join(text.split("\n")[:4]), "utf-8")
    (found,) = audit(with_pages)
    assert found.message == f'expected "{line}" in line 5, found no more lines'


@pytest.mark.parametrize("file", PAGES)
def test_times_and_places_in_a_markdown_report_are_nobodys_to_check(with_pages: Path, file: str) -> None:
    text = (with_pages / file).read_text("utf-8")
    other = re.sub(r"\*\*Generated\*\*: .*", "**Generated**: once", text)
    other = re.sub(r"[0-9]+\.[0-9]+s", "1.5s", other)
    other = re.sub(r"\(\./", "(./tiers/", other).replace("\n", "\r\n")
    assert other != text
    (with_pages / file).write_text(other, "utf-8", newline="")
    assert audit(with_pages) == ()


@pytest.mark.parametrize("file", PAGES)
def test_a_markdown_report_in_the_layout_of_another_version_is_not_compared(with_pages: Path, file: str) -> None:
    text = (with_pages / file).read_text("utf-8")
    for layout in (
        with_another_amount(text).replace("\n\n", "\n\n## Criteria\n\nnone\n\n", 1),
        text.replace(" Report |", " Page |").replace("| Metric |", "| What |"),
    ):
        (with_pages / file).write_text(layout, "utf-8")
        assert audit(with_pages) == ()
    (with_pages / file).write_text("", "utf-8")
    assert faults(with_pages) == {file: ["report-stale"]}


def test_beside_a_record_that_is_wrong_a_markdown_report_is_not_told_of(with_pages: Path) -> None:
    (with_pages / "T1/report.md").write_text("")
    edit(with_pages, "T1/report.json", best=None)
    assert set(faults(with_pages)) == {"T1/report.json"}
    (with_pages / "T1/report.json").unlink()
    assert faults(with_pages) == {"T1/report.json": ["aggregate-missing"], "T1/report.md": ["report-stale"]}


@pytest.mark.parametrize("counted", [True, False], ids=["with how many runs count", "as the program writes it"])
def test_where_not_all_runs_count_both_layouts_are_fine(with_pages: Path, counted: bool) -> None:
    put(JUDGMENTS[0], "/fallback", True)(Run(with_pages, "T1/01/run_01"))
    if counted:
        put_in_place(with_pages, rebuild(with_pages))
    assert (b"**Counted**" in (with_pages / "summary.md").read_bytes()) is counted
    assert audit(with_pages) == ()
    for file in PAGES:
        text = (with_pages / file).read_text("utf-8")
        (with_pages / file).write_text(with_another_amount(text), "utf-8")
        assert faults(with_pages) == {file: ["report-stale"]}
        (with_pages / file).write_text(text, "utf-8")


def test_more_runs_to_come_make_no_markdown_report_stale(with_pages: Path) -> None:
    edit(with_pages, "config/experiment.json", runs_per_subtest=3)
    assert audit(with_pages) == ()


def test_a_number_is_right_if_it_is_what_another_order_of_adding_rounds_to() -> None:
    costs = [0.00015, 0.00349, 0.00331]
    assert (f"{costs[0] + costs[1] + costs[2]:.4f}", f"{math.fsum(costs):.4f}") == ("0.0069", "0.0070")
    runs = tuple(one_run(number, cost=cost) for number, cost in enumerate(costs, 1))
    page = subtest_pages(SubtestFigures("T0", "00", runs))["report.md"]
    written = page.write(True, 1)
    assert page.difference(written) is None
    other = written.replace(b"| Total Cost | $0.0070 |", b"| Total Cost | $0.0069 |")
    assert other != written
    assert page.difference(other) is None
    assert page.difference(written.replace(b"$0.0070", b"$0.0071")) is not None
    assert page.difference(written.replace(b"$0.0035", b"$0.0034")) is not None


def test_a_lost_markdown_report_is_a_warning(experiment_dir: Path) -> None:
    for file in ("T1/01/report.md", "T1/summary.md", "T1/report.md", "report.md", "summary.md"):
        text = (experiment_dir / file).read_bytes()
        (experiment_dir / file).unlink()
        (found,) = audit(experiment_dir)
        assert (found.file, found.code, found.severity) == (file, "report-missing", "warning")
        (experiment_dir / file).write_bytes(text)


def test_an_experiment_whose_runs_have_reports_lacks_those_of_its_aggregates(experiment_dir: Path) -> None:
    for path in (*experiment_dir.glob("*.md"), *experiment_dir.glob("T?/*.md"), *experiment_dir.glob("T?/??/*.md")):
        if path.name in ("report.md", "summary.md"):
            path.unlink()
    assert len(faults(experiment_dir)) == 9


def test_an_experiment_that_keeps_no_markdown_at_all_has_lost_none(root: Path) -> None:
    assert not list(root.rglob("report.md"))
    assert audit(root) == ()


def test_something_else_in_the_place_of_a_markdown_report_is_a_warning(experiment_dir: Path) -> None:
    (experiment_dir / "T1/report.md").unlink()
    (experiment_dir / "T1/report.md").mkdir()
    os.replace(experiment_dir / "summary.md", experiment_dir.parent / "elsewhere.md")
    os.symlink(experiment_dir.parent / "elsewhere.md", experiment_dir / "summary.md")
    found = {one.file: (one.code, one.severity) for one in audit(experiment_dir)}
    assert found == {
        "T1/report.md": ("side-file-malformed", "warning"),
        "summary.md": ("side-file-unsafe", "warning"),
    }


# ---------------------------------------------------------------------------------------------------- the staged layout


def test_aggregates_are_found_among_what_is_completed(tmp_path: Path) -> None:
    root = written(tmp_path, small(layout="staged", side_files=False))
    (root / "in_progress").mkdir()
    judged(root, "completed/T1/02/run_02", (0.1, False), (0.1, False), (0.1, False))
    found = faults(root)
    assert set(found) >= {"completed/T1/02/report.json", "completed/T1/result.json", "result.json"}
    (root / "completed/T0/report.json").unlink()
    assert faults(root)["completed/T0/report.json"] == ["aggregate-missing"]


def test_every_code_of_what_is_read_is_told_with_a_free_remedy() -> None:
    own = {name: code for name, code in CODES.items() if name.startswith(("aggregate-", "report-"))}
    assert {name for name, code in own.items() if code.severity == "error"} == {
        f"aggregate-{fault}" for fault in ("missing", "malformed", "invalid", "stale")
    }
    warnings = {name for name, code in own.items() if code.severity == "warning"}
    assert warnings == {"report-missing", "report-stale", "aggregate-too-large"}
    assert {name for name, code in own.items() if not code.remedy.startswith("Free")} == {"aggregate-too-large"}


def test_every_record_above_the_runs_is_an_aggregate(healthy_experiment: Path) -> None:
    expected = {file for run in RUNS for file in aggregates_of(run)}
    assert set(aggregates_in(healthy_experiment)) == expected
    assert len(expected) == 3 * len(RECORDS_OF_SUBTEST) + 2 * len(RECORDS_OF_TIER) + len(RECORDS_OF_EXPERIMENT)
