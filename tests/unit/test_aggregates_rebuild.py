"""Aggregates rebuilt: equal to the recorded ones, from the runs, and of the old ones what no run proves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import Plan, small, write_experiment
from pytest_scylla.repair.request import CannotRegenerate

from .aggregating import (
    ADDED,
    NOW,
    aggregates_in,
    aggregates_of,
    audit,
    edit,
    faults,
    judged,
    load,
    put_in_place,
    rebuild,
    store,
)
from .damage import Run, lose, put
from .repairing import repair

FIRST = "T0/00/run_01"
LATER = NOW + timedelta(days=1)
TIMES = {
    *("generated_at", "started_at", "completed_at", "total_duration", "total_duration_seconds"),
    *("workspace_path", "logs_path", "command_log_path"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy experiment of two tiers, three subtests and six runs, with Markdown reports."""
    root = tmp_path / "exp"
    write_experiment(root, small(tiers={"T0": ("00", "01"), "T1": ("01",)}))
    return root


@pytest.fixture
def recorded(recorded_experiment: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the recorded experiment, to damage."""
    root = tmp_path / "dryrun"
    for path in recorded_experiment.rglob("*"):
        if path.is_file():
            target = root / path.relative_to(recorded_experiment)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    yield root
    shutil.rmtree(root)


def lose_aggregates(root: Path, *, markdown: bool = True) -> None:
    for file in aggregates_in(root, markdown=markdown):
        (root / file).unlink()


def without(record: Any, *keys: str) -> Any:
    """A record without what is under ``keys``, at whatever depth."""
    if isinstance(record, dict):
        return {key: without(value, *keys) for key, value in record.items() if key not in keys}
    return [without(value, *keys) for value in record] if isinstance(record, list) else record


def order_of(record: Any) -> Any:
    """The keys of a record, in their order."""
    if isinstance(record, dict):
        return [(key, order_of(value)) for key, value in record.items()]
    return [order_of(value) for value in record] if isinstance(record, list) else None


# ---------------------------------------------------------------------------------------------- the recorded experiment


def test_recorded_aggregates_rebuilt_are_equal_and_in_the_same_order(recorded_experiment: Path) -> None:
    rebuilt = rebuild(recorded_experiment)
    assert sorted(rebuilt) == aggregates_in(recorded_experiment)
    for file, data in rebuilt.items():
        if file.endswith(".json"):
            record, recorded = without(json.loads(data), *ADDED), load(recorded_experiment, file)
            assert record == recorded, file
            assert order_of(record) == order_of(recorded), file
            assert data.endswith(b"}\n"), "as the recorded ones do"


def test_recorded_aggregates_rebuilt_without_the_old_ones_are_equal_but_for_times(
    recorded: Path, recorded_experiment: Path
) -> None:
    lose_aggregates(recorded)
    for file, data in rebuild(recorded).items():
        if file.endswith(".json"):
            record, original = without(json.loads(data), *ADDED), load(recorded_experiment, file)
            assert without(record, *TIMES) == without(original, *TIMES), file
            assert order_of(record) == order_of(original), file


def text_of(data: bytes) -> str:
    """A Markdown report without when it was written; the program's links of the summary lead nowhere."""
    text = re.sub(r"^\*\*Generated\*\*: .*$", "", data.decode(), flags=re.M)
    return text.replace("(./tiers/", "(./")


def test_recorded_markdown_reports_rebuilt_are_equal_but_for_times(recorded: Path, recorded_experiment: Path) -> None:
    reports = [file for file in aggregates_in(recorded) if file.endswith(".md")]
    for file in reports:
        (recorded / file).unlink()
    assert faults(recorded) == {file: ["report-missing"] for file in reports}
    rebuilt = rebuild(recorded)
    for file in reports:
        assert text_of(rebuilt[file]) == text_of((recorded_experiment / file).read_bytes()), file


def test_links_of_markdown_reports_lead_somewhere(root: Path) -> None:
    lose_aggregates(root)
    put_in_place(root, rebuild(root))
    for file in aggregates_in(root):
        if file.endswith(".md"):
            links = re.findall(r"\]\((\./[^)]+)\)", (root / file).read_text())
            assert links, file
            for link in links:
                assert ((root / file).parent / link).is_file(), (file, link)


def test_links_of_reports_lead_somewhere_in_the_staged_layout(tmp_path: Path) -> None:
    root = tmp_path / "exp"
    write_experiment(root, small(layout="staged"))
    lose_aggregates(root)
    put_in_place(root, rebuild(root))
    assert sorted(path.name for path in root.iterdir() if path.name.startswith("T")) == []
    report = load(root, "report.json")
    for link in (report["best"]["report"], *(child["report"] for child in report["children"])):
        assert (root / link).is_file()
    assert all((root / link).is_file() for link in re.findall(r"\]\((\./[^)]+)\)", (root / "summary.md").read_text()))


def test_lost_aggregates_go_where_finished_runs_are_though_others_are_under_way(tmp_path: Path) -> None:
    root = tmp_path / "exp"
    write_experiment(root, small(layout="staged", side_files=False))
    (root / "in_progress/T0/00").mkdir(parents=True)
    lost = ["result.json", "report.json", "best_subtest.json", "00/report.json"]
    for file in lost:
        (root / "completed/T0" / file).unlink()
    assert faults(root) == {f"completed/T0/{file}": ["aggregate-missing"] for file in lost}
    put_in_place(root, {file: data for file, data in rebuild(root).items() if file.endswith(".json")})
    assert audit(root) == ()


# ------------------------------------------------------------------------------------------------------- any experiment


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
def test_what_is_rebuilt_audits_clean_and_is_the_same_when_it_is_rebuilt_again(tmp_path: Path, plan: Plan) -> None:
    root = tmp_path / "exp"
    write_experiment(root, plan)
    stage = "completed/" if plan.layout == "staged" else ""
    judged(root, f"{stage}T0/00/run_01", *[(0.2, False), (0.25, True), (0.3, False)][: len(plan.judge_models)])
    lose_aggregates(root, markdown=False)
    files = rebuild(root)
    assert rebuild(root) == files
    put_in_place(root, files)
    assert audit(root) == ()
    assert rebuild(root, now=LATER) == files


def test_what_a_changed_run_amounts_to_is_rebuilt(root: Path) -> None:
    judged(root, FIRST, (0.9, True), (0.6, True), (0.6, False))
    other = load(root, "T0/00/run_02/run_result.json")
    summary = json.loads(rebuild(root)["T0/00/report.json"])["summary"]
    assert summary["mean_score"] == pytest.approx((0.7 + other["judge_score"]) / 2)
    assert summary["passed"] == 1 + other["judge_passed"]
    assert summary["grade_distribution"] == {"B": 1} | {other["judge_grade"]: 1 + (other["judge_grade"] == "B")}
    result = json.loads(rebuild(root)["T0/result.json"])
    assert result["subtest_results"]["00"]["runs"] == [load(root, f"{FIRST}/run_result.json"), other]
    whole = json.loads(rebuild(root)["result.json"])
    assert whole["tier_results"]["T0"] == result
    assert whole["tier_results"]["T1"] == load(root, "T1/result.json")
    assert whole["config"] == load(root, "config/experiment.json")


def test_files_come_raw_before_derived(root: Path) -> None:
    places = list(rebuild(root))
    assert places.index("T0/01/report.json") < places.index("T0/result.json") < places.index("T1/01/report.json")
    assert set(places[-5:]) == {"result.json", "report.json", "tier_comparison.json", "report.md", "summary.md"}


def test_one_tier_is_rebuilt_whole_with_the_experiment_above_it(root: Path) -> None:
    expected = {file for file in rebuild(root) if not file.startswith("T0/")}
    assert set(rebuild(root, ["T1"])) == expected


def test_a_record_ends_as_the_old_one_did_and_else_as_the_configuration_does(root: Path) -> None:
    file = root / "T0/report.json"
    file.write_bytes(file.read_bytes() + b"\n")
    (root / "T0/result.json").unlink()
    assert rebuild(root)["T0/report.json"].endswith(b"}\n")
    assert rebuild(root)["T0/result.json"].endswith(b"}")
    config = root / "config/experiment.json"
    config.write_bytes(config.read_bytes() + b"\n")
    assert rebuild(root)["T0/result.json"].endswith(b"}\n")
    assert rebuild(root)["T1/result.json"].endswith(b"}")


# --------------------------------------------------------------------------------------------------- what no run proves


def test_times_are_kept_from_the_old_record_or_from_another_that_repeats_them(root: Path) -> None:
    seconds = load(root, "T0/result.json")["total_duration"]
    edit(root, "T0/result.json", total_duration=11.5)
    assert json.loads(rebuild(root)["T0/result.json"])["total_duration"] == 11.5
    (root / "T0/result.json").unlink()
    assert json.loads(rebuild(root)["T0/result.json"])["total_duration"] == seconds
    (root / "T0/report.json").unlink()
    assert json.loads(rebuild(root)["T0/result.json"])["total_duration"] == seconds
    times = {key: load(root, "result.json")[key] for key in ("started_at", "completed_at", "total_duration_seconds")}
    (root / "result.json").unlink()
    rebuilt = json.loads(rebuild(root)["result.json"])
    assert {key: rebuilt[key] for key in times} == times
    assert json.loads(rebuild(root)["T0/result.json"])["total_duration"] is None


def test_without_any_record_of_the_experiment_its_times_are_not_known_but_for_the_start(root: Path) -> None:
    lose_aggregates(root)
    rebuilt = json.loads(rebuild(root)["result.json"])
    assert rebuilt["started_at"] == load(root, "checkpoint.json")["started_at"]
    assert (rebuilt["completed_at"], rebuilt["total_duration_seconds"]) == (None, None)
    assert rebuilt["tier_results"]["T0"]["total_duration"] is None
    assert "N/A" in rebuild(root)["T0/report.md"].decode()


def test_a_start_that_no_file_tells_of_is_not_made_up(root: Path) -> None:
    lose_aggregates(root)
    (root / "checkpoint.json").unlink()
    with pytest.raises(CannotRegenerate, match="no file says when the experiment started"):
        rebuild(root)


def test_when_a_report_was_written_is_kept_while_it_is_right(root: Path) -> None:
    written = load(root, "T0/report.json")["generated_at"]
    assert json.loads(rebuild(root)["T0/report.json"])["generated_at"] == written
    assert f"**Generated**: {written}" in rebuild(root)["T0/report.md"].decode()
    edit(root, "T0/report.json", best=None)
    assert json.loads(rebuild(root)["T0/report.json"])["generated_at"] == NOW.isoformat()
    assert json.loads(rebuild(root)["T1/report.json"])["generated_at"] == load(root, "T1/report.json")["generated_at"]


def test_keys_of_their_own_are_kept_and_made_up_subtests_are_not(root: Path) -> None:
    record = load(root, "T0/result.json")
    record["x"] = {"y": 1}
    record["subtest_results"]["00"].update(rate_limit_info={"source": "agent"}, note="kept")
    loser = next(one for one in record["subtest_results"].values() if not one["selected_as_best"])
    loser["selection_reason"] = "WorkerError: once"
    record["subtest_results"]["x77"] = record["subtest_results"]["00"]
    record["token_stats"]["cache_creation_input_tokens"] = 1
    store(root, "T0/result.json", record)
    report = load(root, "T0/00/report.json")
    report["summary"]["note"] = "kept"
    store(root, "T0/00/report.json", report)
    rebuilt = json.loads(rebuild(root)["T0/result.json"])
    assert rebuilt["x"] == {"y": 1}
    assert list(rebuilt["subtest_results"]) == ["00", "01"]
    assert rebuilt["subtest_results"]["00"]["note"] == "kept"
    assert rebuilt["subtest_results"]["00"]["rate_limit_info"] == {"source": "agent"}
    assert rebuilt["subtest_results"][loser["subtest_id"]]["selection_reason"] == "WorkerError: once"
    assert set(rebuilt["token_stats"]) == set(load(root, "T1/result.json")["token_stats"])
    assert json.loads(rebuild(root)["T0/00/report.json"])["summary"]["note"] == "kept"


def test_the_order_of_tiers_and_subtests_is_kept_and_else_the_checkpoints(root: Path) -> None:
    record = load(root, "T0/result.json")
    record["subtest_results"] = dict(reversed(record["subtest_results"].items()))
    store(root, "T0/result.json", record)
    assert list(json.loads(rebuild(root)["T0/result.json"])["subtest_results"]) == ["01", "00"]
    assert [one["id"] for one in json.loads(rebuild(root)["T0/report.json"])["children"]] == ["01", "00"]
    lose_aggregates(root)
    checkpoint = load(root, "checkpoint.json")
    checkpoint["completed_runs"] = dict(reversed(checkpoint["completed_runs"].items()))
    store(root, "checkpoint.json", checkpoint)
    assert list(json.loads(rebuild(root)["result.json"])["tier_results"]) == ["T1", "T0"]
    assert list(json.loads(rebuild(root)["T0/result.json"])["subtest_results"]) == ["00", "01"]


def test_what_a_tier_started_from_is_kept_or_found_in_the_copy(root: Path) -> None:
    origin = {"tier_id": "T0", "subtest_id": "00", "resources": {}}
    edit(root, "T1/result.json", inherited_from=origin)
    assert json.loads(rebuild(root)["T1/result.json"])["inherited_from"] == origin
    whole = load(root, "result.json")
    whole["tier_results"]["T1"]["inherited_from"] = origin
    store(root, "result.json", whole)
    (root / "T1/result.json").unlink()
    assert json.loads(rebuild(root)["T1/result.json"])["inherited_from"] == origin


def test_nothing_is_believed_of_a_record_that_is_not_sound(root: Path) -> None:
    for file in ("T0/result.json", "T0/report.json", "result.json"):
        data = (root / file).read_bytes()
        (root / file).write_bytes(data.replace(b'"total_duration": ', b'"total_duration": -'))
    assert json.loads(rebuild(root)["T0/result.json"])["total_duration"] is None


# ----------------------------------------------------------------------- what cannot be rebuilt, or may not be replaced


def test_a_run_whose_own_record_is_lost_has_to_be_rebuilt_first(root: Path) -> None:
    lose("run_result.json")(Run(root, FIRST))
    with pytest.raises(CannotRegenerate, match=r"run_result\.json of T0/00/run_01 has to be rebuilt first"):
        rebuild(root)
    repair(root, FIRST)
    assert rebuild(root)


def test_what_may_not_be_replaced_is_left_out(root: Path, tmp_path: Path) -> None:
    for file in ("T0/result.json", "T1/summary.md"):
        (root / file).rename(tmp_path / "elsewhere")
        (root / file).symlink_to(tmp_path / "elsewhere")
    assert set(aggregates_in(root)) - set(rebuild(root)) == {"T0/result.json", "T1/summary.md"}


# ------------------------------------------------------------------------------------------------------------- Markdown


def test_a_report_says_how_many_runs_count_where_not_all_do(root: Path) -> None:
    whole = rebuild(root)
    assert not any(b"**Counted**" in data for data in whole.values())
    lose("judge/judge_02", "judge/judge_03")(Run(root, FIRST))
    put("judge/judge_01/judgment.json", "/fallback", True)(Run(root, "T0/00/run_02"))
    rebuilt = rebuild(root)
    line = (
        "**Counted**: 1 of 2 expected runs (2 present, 2 sound, 1 scored, "
        "1 of those with a fallback judgment, 1 with a known cost)"
    )
    assert line in rebuilt["T0/00/report.md"].decode()
    assert "3 of 4 expected runs" in rebuilt["T0/report.md"].decode()
    assert "5 of 6 expected runs" in rebuilt["report.md"].decode()
    assert b"**Counted**" not in rebuilt["T1/report.md"]
    assert "| 01" not in rebuilt["T0/00/report.md"].decode()
    assert "| 02★ |" in rebuilt["T0/00/report.md"].decode()


def test_every_mean_of_a_report_names_how_many_runs_it_is_of_where_not_all_count(root: Path) -> None:
    whole = rebuild(root)
    lose("judge/judge_02", "judge/judge_03")(Run(root, FIRST))
    rebuilt = {file: data.decode() for file, data in rebuild(root).items() if file.endswith(".md")}
    line = "**Counted**: {} expected runs"
    for file, counted, rows in (
        ("T0/report.md", "3 of 4", [("| Subtest | Score | Pass | Scored | Duration |", "| 00 |", "| 1 of 2 |")]),
        (
            "T0/summary.md",
            "3 of 4",
            [("| Best Score | Pass Rate | Scored | Avg Cost | Report |", "| 00 |", "| 1 of 2 |")],
        ),
        (
            "report.md",
            "5 of 6",
            [("| Tier | Best | Score | Pass | Scored | Cost | Duration |", "| T1 | 01 |", "| 2 of 2 |")],
        ),
        (
            "summary.md",
            "5 of 6",
            [
                (
                    "| Tier | Subtest | Best Score | Pass Rate | Scored | Avg Cost | Report |",
                    "| T0 | 00 |",
                    "| 1 of 2 |",
                ),
                (
                    "| Tier | Subtest | Best Score | Pass Rate | Scored | Avg Cost | Report |",
                    "| T1 | 01 |",
                    "| 2 of 2 |",
                ),
            ],
        ),
    ):
        text = rebuilt[file]
        assert line.format(counted) in text
        for head, begin, cell in rows:
            assert head in text, file
            (row,) = (row for row in text.split("\n") if row.startswith(begin) and cell in row)
            at = text.split("\n").index(next(one for one in text.split("\n") if head in one))
            assert row.count("|") == text.split("\n")[at].count("|")
    assert rebuilt["T1/report.md"] == whole["T1/report.md"].decode()
    assert rebuilt["T1/summary.md"] == whole["T1/summary.md"].decode()
    put_in_place(root, rebuild(root))
    assert audit(root) == ()


def test_a_report_of_runs_of_which_none_counts_has_no_number_in_it(root: Path) -> None:
    for run in ("T0/00/run_01", "T0/00/run_02", "T1/01/run_01", "T1/01/run_02"):
        lose("judge/judge_02", "judge/judge_03")(Run(root, run))
    rebuilt = rebuild(root)
    text = rebuilt["T0/00/report.md"].decode()
    assert "| Mean Score | N/A |" in text
    assert "| Total Cost | N/A |" in text
    assert "| Input (fresh) | N/A |" in text
    assert "| **Total** | **N/A** |" in text
    row = "| 00 | N/A | N/A | 0 of 2 | N/A | N/A | N/A | N/A | N/A | N/A |  |"
    assert row in rebuilt["T0/report.md"].decode()
    assert "| 00 | N/A | N/A | 0 of 2 | N/A | [View](./00/report.md) |" in rebuilt["T0/summary.md"].decode()
    tier = next(line for line in rebuilt["report.md"].decode().split("\n") if line.startswith("| T1 | 1 |"))
    assert tier.endswith("s | N/A | N/A | N/A | N/A | N/A | N/A |")
    put_in_place(root, rebuilt)
    assert audit(root) == ()


def test_text_of_the_configuration_marks_nothing_up(root: Path) -> None:
    hostile = "x`<script>alert(1)</script>|[a](javascript:b)\n# Heading *bold* ::error:: &lt;"
    edit(root, "config/experiment.json", experiment_id=hostile, task_repo=hostile, judge_models=[hostile, "b", "c"])
    text = rebuild(root)["report.md"].decode()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "\n# Heading" not in text
    assert "::error::" not in text
    assert "[a](" not in text
    assert "\\`" in text
    assert "\\|" in text
    assert "\\*bold\\*" in text
    assert "&amp;lt;" in text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://git.example.org/a", "<https://git.example.org/a>"),
        ("/data/a repository", "/data/a repository"),
        ("https://x.org/> <b>", "https://x.org/&gt; &lt;b&gt;"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_only_a_plain_address_becomes_a_link(root: Path, address: str, shown: str) -> None:
    edit(root, "config/experiment.json", task_repo=address)
    (root / "result.json").unlink()
    assert f"- **Task Repo**: {shown}\n" in rebuild(root)["report.md"].decode()


def test_the_runs_of_a_subtest_are_shown_with_their_own_numbers(root: Path) -> None:
    judged(root, FIRST, (0.9, True), (0.6, False), (0.6, False))
    run = load(root, f"{FIRST}/run_result.json")
    tokens = run["token_stats"]
    counts = " | ".join(
        f"{tokens[key]:,}" for key in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    )
    row = f"| 0.70 | B | ✗ | {run['duration_seconds']:.2f}s | ${run['cost_usd']:.4f} | {counts} |"
    assert row in rebuild(root)["T0/00/report.md"].decode()


def test_every_aggregate_of_an_experiment_is_rebuilt(root: Path) -> None:
    assert sorted(rebuild(root)) == aggregates_in(root)
    assert {file for file in rebuild(root) if file.endswith(".json")} == {
        file for run in (FIRST, "T0/01/run_01", "T1/01/run_01") for file in aggregates_of(run)
    }
